import { Heap, type Timer } from '@quoin/base';

class Event implements Timer {
  readonly timeMs: number;
  readonly sequence: number;
  fn: (() => void) | undefined;

  constructor(timeMs: number, sequence: number, fn: () => void) {
    this.timeMs = timeMs;
    this.sequence = sequence;
    this.fn = fn;
  }

  cancel(): void {
    this.fn = undefined;
  }
}

/**
 * The simulator: one heap of events ordered by (virtual time, sequence). Time passes only by taking the next event,
 * so a run is a function of what was scheduled, and that is a function of the seed.
 */
export class Scheduler {
  private time = 0;
  private sequence = 0;
  private count = 0;
  private readonly heap = new Heap<Event>((a, b) => a.timeMs - b.timeMs || a.sequence - b.sequence);

  /** Virtual milliseconds since the run began. */
  get nowMs(): number {
    return this.time;
  }

  /** Events run so far. */
  get events(): number {
    return this.count;
  }

  /** Events waiting, cancelled ones included. */
  get waiting(): number {
    return this.heap.size;
  }

  /** Calls `fn` at that virtual time (now, if it has passed), after everything already scheduled for the same time. */
  at(timeMs: number, fn: () => void): Timer {
    const event = new Event(Math.max(timeMs, this.time), this.sequence++, fn);
    this.heap.push(event);
    return event;
  }

  after(delayMs: number, fn: () => void): Timer {
    return this.at(this.time + delayMs, fn);
  }

  /** Runs the next event. False when there is none. */
  step(): boolean {
    for (;;) {
      const event = this.heap.pop();
      if (event === undefined) return false;
      const fn = event.fn;
      if (fn === undefined) continue;
      this.time = event.timeMs;
      this.count++;
      fn();
      return true;
    }
  }

  /** Runs everything up to that virtual time, and lets the time be that. */
  run(untilMs: number): void {
    while (this.nextMs() <= untilMs) this.step();
    if (this.time < untilMs) this.time = untilMs;
  }

  /** Runs until `predicate` holds, asked after each event. False when it did not by `limitMs` or nothing was left to run. */
  runUntil(predicate: () => boolean, limitMs: number): boolean {
    while (!predicate()) {
      if (this.nextMs() > limitMs) return false;
      this.step();
    }
    return true;
  }

  // Cancelled events on top are dropped, so that they neither hold back nor advance the time.
  private nextMs(): number {
    for (;;) {
      const event = this.heap.peek();
      if (event === undefined) return Number.POSITIVE_INFINITY;
      if (event.fn !== undefined) return event.timeMs;
      this.heap.pop();
    }
  }
}
