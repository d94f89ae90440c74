import { Deque } from '@quoin/base';
import type { WatchRevision } from './watch-event.ts';

/**
 * The newest revisions of the feed, without gaps, bounded by bytes and by number.
 *
 *       first ≤ prevFrom                                          the feed's last revision
 *     ─────┬────────┬───────────────────────────────────────────────┬─────▶ revision
 *          │ no prev│ every event has prev_kv (if the feed has it)   │
 */
export class EventRing {
  /** Every revision from here to the feed's last is held. */
  first = 0;
  /** From here on the events carry `prev_kv`; Infinity: none does. */
  prevFrom = Number.POSITIVE_INFINITY;
  private readonly maxBytes: number;
  private readonly maxRevisions: number;
  private revisions = new Deque<WatchRevision>();
  private bytes = 0;

  constructor(maxBytes: number, maxRevisions: number) {
    this.maxBytes = maxBytes;
    this.maxRevisions = maxRevisions;
  }

  get length(): number {
    return this.revisions.length;
  }

  /** Empties it: the next revision pushed is at least `first`. */
  reset(first: number): void {
    this.revisions = new Deque();
    this.bytes = 0;
    this.first = first;
    if (this.prevFrom !== Number.POSITIVE_INFINITY) this.prevFrom = first;
  }

  /** The feed carries `prev_kv`, or not, from revision `from` on. */
  setPrev(from: number, prevKv: boolean): void {
    if (!prevKv) this.prevFrom = Number.POSITIVE_INFINITY;
    else if (this.prevFrom === Number.POSITIVE_INFINITY) this.prevFrom = from;
  }

  push(revision: WatchRevision): void {
    this.revisions.push(revision);
    this.bytes += revision.bytes;
    while (this.bytes > this.maxBytes || this.revisions.length > this.maxRevisions) {
      const old = this.revisions.shift()!;
      this.bytes -= old.bytes;
      this.first = old.revision + 1;
    }
  }

  /** The first revision from which a reader can be served out of the ring. */
  firstFor(prevKv: boolean): number {
    return prevKv && this.prevFrom > this.first ? this.prevFrom : this.first;
  }

  at(i: number): WatchRevision {
    return this.revisions.at(i)!;
  }

  /** Index of the first held revision that is at least `revision`; `length` when there is none. */
  indexOf(revision: number): number {
    let low = 0;
    let high = this.revisions.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.at(middle).revision < revision) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
