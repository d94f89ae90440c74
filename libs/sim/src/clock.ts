import type { Clock, Prng, Timer, Timers } from '@quoin/base';
import type { EventTarget, Scheduler, SimEvent } from './scheduler.ts';

/**
 * One life of a node: everything that happens to it comes through `enqueue`.
 *
 *     running ⇄ paused        a paused node (SIGSTOP) finds at its return all that came in the meantime
 *        │         │
 *        └► killed ◄┘         nothing is ever delivered again; a restart is a new host of the same name
 */
export class SimHost implements EventTarget {
  readonly name: string;
  readonly scheduler: Scheduler;
  /** Takes what an event of this node throws. Absent: it ends the run, as a failed assert must. */
  onThrow: ((error: unknown) => void) | undefined;
  private state: 'running' | 'paused' | 'killed' = 'running';
  private held: SimEvent[] = [];
  private readonly killListeners: (() => void)[] = [];

  constructor(scheduler: Scheduler, name: string) {
    this.scheduler = scheduler;
    this.name = name;
    this.onThrow = undefined;
  }

  get alive(): boolean {
    return this.state !== 'killed';
  }

  get paused(): boolean {
    return this.state === 'paused';
  }

  /** Calls `fn` on this node after `delayMs` of virtual time, or when it is resumed, or never if it is killed. */
  enqueue(delayMs: number, fn: () => void): Timer {
    return this.enqueueAt(this.scheduler.nowMs + delayMs, fn);
  }

  enqueueAt(timeMs: number, fn: () => void): Timer {
    return this.scheduler.at(timeMs, fn, this);
  }

  /** @internal For the scheduler: an event of this node is due. */
  take(event: SimEvent): void {
    if (this.state === 'paused') this.held.push(event);
    else if (this.state === 'running') this.call(event.fn!);
  }

  pause(): void {
    if (this.state === 'running') this.state = 'paused';
  }

  /**
   * What was held comes in the order in which it arrived; with `order`, in any: a process that goes on finds its timers, sockets and
   * disk in an order of its own, and may read a request before it looks at the clock. (A channel holds no more than one message.)
   */
  resume(order?: Prng): void {
    if (this.state !== 'paused') return;
    this.state = 'running';
    const held = this.held;
    this.held = [];
    if (order !== undefined) shuffle(held, order);
    for (const event of held) this.scheduler.again(event);
  }

  kill(): void {
    if (this.state === 'killed') return;
    this.state = 'killed';
    this.held = [];
    for (const listener of this.killListeners) listener();
  }

  /** For the parts of the world that outlive the node: its network, its disk. */
  onKill(listener: () => void): void {
    this.killListeners.push(listener);
  }

  private call(fn: () => void): void {
    if (this.onThrow === undefined) {
      fn();
      return;
    }
    try {
      fn();
    } catch (error) {
      this.onThrow(error);
    }
  }
}

function shuffle(items: unknown[], prng: Prng): void {
  for (let i = items.length - 1; i > 0; i--) {
    const j = prng.below(i + 1);
    [items[i], items[j]] = [items[j], items[i]];
  }
}

/** 2025-01-01T00:00:00Z: where every simulated wall clock begins. */
export const simEpochMs = 1_735_689_600_000;

/** A node's clock, which may run fast or slow and whose wall time may jump. It survives the node's restarts. */
export class SimClock implements Clock {
  private readonly scheduler: Scheduler;
  private rate: number;
  private anchorTrueMs: number;
  private anchorMs: number;
  private wallOffsetMs: number;

  constructor(scheduler: Scheduler, wallOffsetMs = 0) {
    this.scheduler = scheduler;
    this.rate = 1;
    this.anchorTrueMs = scheduler.nowMs;
    this.anchorMs = scheduler.nowMs;
    this.wallOffsetMs = wallOffsetMs;
  }

  monotonicMs(): number {
    return this.anchorMs + (this.scheduler.nowMs - this.anchorTrueMs) * this.rate;
  }

  wallMs(): number {
    return Math.floor(simEpochMs + this.wallOffsetMs + this.monotonicMs());
  }

  /** From now on this clock gains `ppm` microseconds in each true second. Timers already set keep their time. */
  setSkew(ppm: number): void {
    this.anchorMs = this.monotonicMs();
    this.anchorTrueMs = this.scheduler.nowMs;
    this.rate = 1 + ppm / 1_000_000;
  }

  /** The wall clock is set; monotonic time goes on. */
  jump(ms: number): void {
    this.wallOffsetMs += ms;
  }

  /** True milliseconds that pass while this clock counts `ms`. */
  trueMs(ms: number): number {
    return ms / this.rate;
  }
}

/** A node's timers: they count by its own clock, and the turn ends `turnMs` after the first input that asked for it. */
export class SimTimers implements Timers {
  private readonly host: SimHost;
  private readonly clock: SimClock;
  private readonly turnMs: number;
  private queue: (() => void)[] = [];

  constructor(host: SimHost, clock: SimClock, turnMs = 0) {
    this.host = host;
    this.clock = clock;
    this.turnMs = turnMs;
  }

  after(delayMs: number, fn: () => void): Timer {
    return this.host.enqueue(this.clock.trueMs(Math.max(delayMs, 0)), fn);
  }

  // At the same virtual time the heap keeps the order of scheduling: input that is due now comes first.
  endOfTurn(fn: () => void): void {
    if (this.queue.length === 0) this.host.enqueue(this.turnMs, () => this.closeTurn());
    this.queue.push(fn);
  }

  private closeTurn(): void {
    const fns = this.queue;
    this.queue = [];
    for (const each of fns) each();
  }
}
