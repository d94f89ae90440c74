import type { Timer } from '@quoin/base';

/** Whom an event happens to: it may be away, or gone. */
export interface EventTarget {
  take(event: SimEvent): void;
}

export class SimEvent implements Timer {
  timeMs: number;
  sequence: number;
  /** Undefined: cancelled. */
  fn: (() => void) | undefined;
  readonly target: EventTarget | undefined;

  constructor(timeMs: number, sequence: number, fn: () => void, target: EventTarget | undefined) {
    this.timeMs = timeMs;
    this.sequence = sequence;
    this.fn = fn;
    this.target = target;
  }

  cancel(): void {
    this.fn = undefined;
  }
}

/**
 * The simulator: one heap of events ordered by (virtual time, sequence). Time passes only by taking the next event,
 * so a run is a function of what was scheduled, and that is a function of the seed. The heap is written out here and not
 * taken from base: a tenth of a run went into calls of its `compare`.
 */
export class Scheduler {
  private time = 0;
  private sequence = 0;
  private count = 0;
  private readonly heap: SimEvent[] = [];

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
    return this.heap.length;
  }

  /** Calls `fn` at that virtual time (now, if it has passed), after everything already scheduled for the same time. */
  at(timeMs: number, fn: () => void, target?: EventTarget): SimEvent {
    const event = new SimEvent(Math.max(timeMs, this.time), this.sequence++, fn, target);
    this.push(event);
    return event;
  }

  after(delayMs: number, fn: () => void): Timer {
    return this.at(this.time + delayMs, fn);
  }

  /** The same event once more, now: its target could not take it when it was due. Who holds it can still cancel it. */
  again(event: SimEvent): void {
    event.timeMs = this.time;
    event.sequence = this.sequence++;
    this.push(event);
  }

  /** Runs the next event. False when there is none. */
  step(): boolean {
    for (;;) {
      const event = this.pop();
      if (event === undefined) return false;
      const { fn, target } = event;
      if (fn === undefined) continue;
      this.time = event.timeMs;
      this.count++;
      if (target === undefined) fn();
      else target.take(event);
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
      const event = this.heap[0];
      if (event === undefined) return Number.POSITIVE_INFINITY;
      if (event.fn !== undefined) return event.timeMs;
      this.pop();
    }
  }

  private push(event: SimEvent): void {
    const { heap } = this;
    const { timeMs } = event;
    let i = heap.length;
    heap.push(event);
    while (i > 0) {
      const up = (i - 1) >> 1;
      const parent = heap[up]!;
      // A new event has the highest sequence of all: at the same time it comes after every other.
      if (parent.timeMs <= timeMs) break;
      heap[i] = parent;
      i = up;
    }
    heap[i] = event;
  }

  private pop(): SimEvent | undefined {
    const { heap } = this;
    const top = heap[0];
    const last = heap.pop();
    const n = heap.length;
    if (n === 0 || last === undefined) return top;
    let i = 0;
    for (;;) {
      let at = 2 * i + 1;
      if (at >= n) break;
      let child = heap[at]!;
      if (at + 1 < n) {
        const right = heap[at + 1]!;
        if (isBefore(right, child)) {
          child = right;
          at++;
        }
      }
      if (isBefore(last, child)) break;
      heap[i] = child;
      i = at;
    }
    heap[i] = last;
    return top;
  }
}

function isBefore(a: SimEvent, b: SimEvent): boolean {
  return a.timeMs < b.timeMs || (a.timeMs === b.timeMs && a.sequence < b.sequence);
}
