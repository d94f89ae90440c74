import { concatBytes } from '@quoin/base';
import { RecordReader } from './event-log.ts';
import { encodeCounter, historyKey, prefix, prefixedKey } from './layout.ts';
import type { StoreState } from './state.ts';

/** Versions of one key that are noted at once. */
const chainMax = 32;

/**
 * Takes the oldest events out of the overlay, each into the place where reads find it from then on:
 *
 *   the version it replaced, if L has it        → H: until when it was alive; with the cell when R may lose it
 *   the version it put, superseded meanwhile    → H, and those that followed it, too; L is not written and goes on
 *                                                 being stale
 *                       still the latest        → L
 *   a deletion                                  → out of L, also when the key is there again: nothing in H would say
 *                                                 that a stale version was gone once compaction has been there
 *
 * H comes before L, so that no version is lost between them. All of it is idempotent: after a crash the same events are
 * in the overlay again, and what was written for them is written again or found.
 */
export class Materialiser {
  private readonly state: StoreState;
  private readonly record = new RecordReader();
  private readonly after = new RecordReader();

  constructor(state: StoreState) {
    this.state = state;
  }

  /** Takes out up to so many committed events, those of revisions up to `until`. Returns how many. */
  step(maxEvents: number, until: number): number {
    const { state, record } = this;
    const { overlay } = state;
    const last = Math.min(until, state.committedRevision);
    let events = 0;
    for (; events < maxEvents && overlay.size > 0; events++) {
      overlay.read(overlay.oldest, record);
      if (record.revision > last) break;
      if (!record.shadowed) this.place(overlay.oldest);
      state.evicted = record.revision;
      overlay.drop();
    }
    return events;
  }

  private place(number: number): void {
    const { state, record } = this;
    const { backend, overlay, stats } = state;
    record.locateKey();
    const key = record.block.subarray(record.keyStart, record.keyEnd);
    if (record.prevMod !== 0 && !overlay.isNoted(number)) this.noteEnd(key, record.prevMod, record.revision);
    const next = this.successor(number);
    if (next < 0 || record.isDelete()) {
      backend.put(prefixedKey(prefix.latest, key), record.isDelete() ? null : record.cell());
      stats.materialisedLatest++;
    }
    if (next >= 0 && !record.isDelete() && !overlay.isNoted(next)) this.noteChain(key, next);
  }

  /**
   * Notes the ends of the version that the record put and of those that followed it: their entries are neighbours, and
   * what one insertion has brought into the processor's cache serves the others. `after` stands at the record that
   * ended the first one.
   */
  private noteChain(key: Uint8Array, next: number): void {
    const { backend, overlay, stats } = this.state;
    const { after } = this;
    let mod = this.record.revision;
    for (let left = chainMax; left > 0 && next >= 0 && !overlay.isNoted(next); left--) {
      overlay.note(next);
      backend.put(historyKey(key, mod), encodeCounter(after.revision));
      stats.materialisedHistory++;
      mod = after.revision;
      if (after.isDelete()) return;
      next = this.successor(next);
    }
  }

  /** The event that replaced this one's version, or -1; `after` stands at it. */
  private successor(number: number): number {
    const { overlay } = this.state;
    let next = overlay.newerOf(number);
    for (; next >= 0; next = overlay.newerOf(next)) {
      overlay.read(next, this.after);
      if (!this.after.shadowed) break;
    }
    return next;
  }

  /** The version `mod`, of an event that left the overlay as the latest one, was alive until `end`. */
  private noteEnd(key: Uint8Array, mod: number, end: number): void {
    const { state } = this;
    let value = encodeCounter(end);
    if (mod < state.compactRevision) {
      // R may not have it. If it is not in L either, this has been done before, in another life.
      const cell = state.engineCell(key);
      if (cell === undefined) return;
      state.reader.readHead(cell, 0);
      if (state.reader.modRevision !== mod) return;
      value = concatBytes([value, cell]);
    }
    state.backend.put(historyKey(key, mod), value);
    state.stats.materialisedHistory++;
  }
}
