import type { Timer, Timers } from '@quoin/base';

export interface RealTimersOptions {
  /** False: a pending timer does not keep the process alive (a tool whose work is over leaves). Default true. */
  readonly keepAlive?: boolean;
}

/** Node's timers. One `setImmediate` closes the turn for everybody who asked in it. */
export class RealTimers implements Timers {
  private readonly keepAlive: boolean;
  private queue: (() => void)[] = [];
  private readonly runQueue = (): void => this.closeTurn();

  constructor(options: RealTimersOptions = {}) {
    this.keepAlive = options.keepAlive ?? true;
  }

  after(delayMs: number, fn: () => void): Timer {
    return new RealTimer(delayMs, fn, this.keepAlive);
  }

  // setImmediate runs after the poll phase: whatever sockets and completed disk calls had to deliver has been taken
  // in by then, so the batch that is closed here holds all of it.
  endOfTurn(fn: () => void): void {
    if (this.queue.length === 0) setImmediate(this.runQueue);
    this.queue.push(fn);
  }

  private closeTurn(): void {
    const fns = this.queue;
    // What is asked for from here on belongs to the next turn.
    this.queue = [];
    for (let i = 0; i < fns.length; i++) {
      try {
        fns[i]!();
      } catch (error) {
        // The exception ends the process, unless an app's handler decides otherwise: the others must not be lost.
        const rest = fns.slice(i + 1);
        if (rest.length > 0) {
          if (this.queue.length === 0) setImmediate(this.runQueue);
          this.queue = [...rest, ...this.queue];
        }
        throw error;
      }
    }
  }
}

// Longer delays than setTimeout can count (2^31 - 1 ms) are waited for in pieces.
const sliceMs = 0x7fff_ffff;

class RealTimer implements Timer {
  private readonly dueMs: number;
  private readonly fn: () => void;
  private readonly keepAlive: boolean;
  private handle: NodeJS.Timeout | undefined;
  private readonly fire = (): void => this.check();

  constructor(delayMs: number, fn: () => void, keepAlive: boolean) {
    this.dueMs = performance.now() + delayMs;
    this.fn = fn;
    this.keepAlive = keepAlive;
    this.arm(delayMs);
  }

  cancel(): void {
    clearTimeout(this.handle);
    this.handle = undefined;
  }

  private arm(delayMs: number): void {
    this.handle = setTimeout(this.fire, Math.min(Math.ceil(delayMs), sliceMs));
    if (!this.keepAlive) this.handle.unref();
  }

  // libuv counts whole milliseconds from the start of the turn and may therefore be early by up to one.
  private check(): void {
    const leftMs = this.dueMs - performance.now();
    if (leftMs > 0) {
      this.arm(leftMs);
      return;
    }
    this.handle = undefined;
    this.fn();
  }
}
