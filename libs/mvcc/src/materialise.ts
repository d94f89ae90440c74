import { RecordReader, recordUserKey } from './event-log.ts';
import {
  encodeHistory,
  historyChainMax,
  historyKey,
  historyLow,
  historyPart,
  prefix,
  prefixedKey,
} from './layout.ts';
import { type Chain, chainIndex, findChain } from './past-scan.ts';
import type { StoreState } from './state.ts';

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
 * H comes before L, so that no version is lost between them. After a restart the same events are in the overlay again: what
 * was written for them is found or written again, in entries that may begin elsewhere and know more than those before.
 */
export class Materialiser {
  private readonly state: StoreState;
  private readonly record = new RecordReader();
  /** Events up to here may have been placed before: they were in the overlay when the store was opened. */
  private readonly placedUntil: number;

  constructor(state: StoreState) {
    this.state = state;
    this.placedUntil = state.revision;
  }

  /** What comes out of the overlay from now on has never been placed. */
  get beyondStart(): boolean {
    return this.state.evicted >= this.placedUntil;
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
    const { backend, overlay } = state;
    const key = recordUserKey(record);
    if (record.prevMod !== 0 && !overlay.isNoted(number)) this.noteEnd(key, record.prevMod, record.revision);
    const next = this.successor(number);
    if (next < 0 || record.isDelete())
      backend.put(prefixedKey(prefix.latest, key), record.isDelete() ? null : record.cell());
    if (next >= 0 && !record.isDelete() && !overlay.isNoted(next)) this.noteChain(key, next);
  }

  /**
   * Notes the ends of the version that the record put and of those that followed it, in one entry: for keys that change
   * often it is one for many changes. `next` is the record that ended the first one.
   */
  private noteChain(key: Uint8Array, next: number): void {
    const { backend, overlay } = this.state;
    const ends: number[] = [];
    while (ends.length < historyChainMax && next >= 0 && !overlay.isNoted(next)) {
      overlay.note(next);
      ends.push(overlay.revisionOf(next));
      if (overlay.isDelete(next)) break;
      next = this.successor(next);
    }
    const mod = this.record.revision;
    const before = mod <= this.placedUntil ? findChain(backend, key, mod) : undefined;
    backend.put(historyKey(key, mod), encodeHistory(ends));
    if (mod <= this.placedUntil) this.separate(key, mod, before);
  }

  /** What earlier entries say of the versions from `mod` on: it is in the new entry, or is noted again. */
  private separate(key: Uint8Array, mod: number, before: Chain | undefined): void {
    const { backend } = this.state;
    if (before !== undefined && before.mod < mod)
      backend.put(historyKey(key, before.mod), historyPart(before.value, 0, chainIndex(before, mod)));
    const later: Uint8Array[] = [];
    backend.scan(historyLow(key), historyKey(key, mod), false, (entryKey) => {
      later.push(entryKey.slice());
      return true;
    });
    for (const entryKey of later) backend.put(entryKey, null);
  }

  /** The event that replaced this one's version, or -1. */
  private successor(number: number): number {
    const { overlay } = this.state;
    let next = overlay.newerOf(number);
    while (next >= 0 && overlay.isShadowed(next)) next = overlay.newerOf(next);
    return next;
  }

  /** The version `mod`, of an event that left the overlay as the latest one, was alive until `end`. */
  private noteEnd(key: Uint8Array, mod: number, end: number): void {
    const { state } = this;
    if (end <= this.placedUntil && findChain(state.backend, key, mod) !== undefined) return;
    let cell: Uint8Array | undefined;
    if (mod < state.compactRevision) {
      // R may not have it. If it is not in L either, this has been done before, in another life.
      cell = state.engineCell(key);
      if (cell === undefined) return;
      state.reader.readHead(cell, 0);
      if (state.reader.modRevision !== mod) return;
    }
    state.backend.put(historyKey(key, mod), encodeHistory([end], cell));
  }
}
