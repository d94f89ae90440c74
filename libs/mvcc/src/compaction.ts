import { concatBytes, latin1, readCounterBE } from '@quoin/base';
import { RecordReader, recordUserKey } from './event-log.ts';
import {
  cellKeyValue,
  cellSub,
  encodeFinished,
  finishedKey,
  historyKey,
  isLargeCell,
  keySuccessor,
  noRedo,
  prefix,
  putBytes,
  type Redo,
  revisionKey,
  tombstoneBytes,
} from './layout.ts';
import type { Materialiser } from './materialise.ts';
import type { StoreState } from './state.ts';

/** Sets the compact revision; what it takes away is gone for readers at once. */
export function setCompactRevision(state: StoreState, revision: number): 'compacted' | 'future' | undefined {
  if (revision <= state.compactRevision) return 'compacted';
  if (revision > state.revision) return 'future';
  state.compactRevision = revision;
  return undefined;
}

/**
 * Removes what no reader at or after the compact revision C can see, entry by entry of R, oldest first. A step is one
 * commit of its own, so it may be cut off anywhere: what is left of R says where to go on. Before that, all events up to C
 * leave the overlay for L and H.
 *
 *   for each event of an R entry that begins below C, up to C:
 *     the version it replaced (prevMod)    died at or before C        → its H entry and V entry go
 *     the version it put, if superseded    by a revision ≤ C          → its H entry and V entry go
 *                                          by a revision > C          → the cell moves from R into H, if R goes
 *     the version it put, if it is latest                             → nothing: L has it
 *   then the R entry goes, unless it also holds events of C or later
 *   last, for each event of R entries that begin with C: the version it replaced goes
 *
 * The work is proportional to the history removed, never to the number of keys. Events of C itself stay: a watch may
 * begin there, and etcd keeps a tombstone at exactly C.
 */
export class Compaction {
  private readonly state: StoreState;
  private readonly records = new RecordReader();
  private batch: Redo = newBatch();
  /** Within the entries that begin with the compact revision. */
  private lastFrom: Uint8Array | undefined = undefined;
  private removedBytes = 0;
  /** H entries with a cell that this step has removed. */
  private readonly replaced = new Set<string>();
  /** Nothing of R is left below it. Starting over would walk all that was deleted before. */
  private from: Uint8Array = Uint8Array.of(prefix.events);

  private readonly materialiser: Materialiser;

  constructor(state: StoreState, materialiser: Materialiser) {
    this.state = state;
    this.materialiser = materialiser;
  }

  get finished(): boolean {
    return this.state.finishedRevision >= this.state.compactRevision && !this.state.finishedButLast;
  }

  /** idle: nothing to do; done: this call came to the end. Waits while a reader is open or a turn is not committed. */
  step(maxEvents: number): 'more' | 'done' | 'idle' {
    const { state } = this;
    if (this.finished) return 'idle';
    if (state.pins > 0 || state.uncommitted) return 'more';
    const target = state.compactRevision;
    if (this.materialiser.step(maxEvents, target) > 0) return 'more';
    // What leaves R below could not be had from there again.
    if (state.storedMaterialised < target) state.store(noRedo);
    if (state.finishedRevision < target) this.stepBelow(target, maxEvents);
    else this.stepLast(target, maxEvents);
    return this.finished ? 'done' : 'more';
  }

  /** Entries that begin below the target. */
  private stepBelow(target: number, maxEvents: number): void {
    const { entries, straddling, atEnd } = this.read(this.from, target, maxEvents);
    for (const { key, block } of entries) {
      this.records.start(block);
      const isWhole = block !== straddling;
      while (this.records.next() && this.records.revision <= target) this.removeAround(target, isWhole);
      if (isWhole) this.put(key, null);
      this.from = key;
    }
    if (atEnd) this.put(finishedKey, encodeFinished(target, true));
    this.write();
    if (!atEnd) return;
    this.state.finishedRevision = target;
    this.state.finishedButLast = true;
    this.lastFrom = revisionKey(prefix.events, target, 0);
  }

  /** Entries that begin with the target: all of them stay, what their events replaced goes. */
  private stepLast(target: number, maxEvents: number): void {
    const from = this.lastFrom ?? revisionKey(prefix.events, target, 0);
    const { entries, atEnd } = this.read(from, target + 1, maxEvents);
    for (const { key, block } of entries) {
      this.records.start(block);
      while (this.records.next() && this.records.revision === target) this.removeAround(target, false);
      this.lastFrom = keySuccessor(key);
    }
    if (atEnd) this.put(finishedKey, encodeFinished(target, false));
    this.write();
    if (atEnd) this.state.finishedButLast = false;
  }

  private write(): void {
    const { state, batch } = this;
    state.storedBytes = Math.max(0, state.storedBytes - this.removedBytes);
    this.removedBytes = 0;
    this.replaced.clear();
    this.batch = newBatch();
    state.store(batch);
  }

  /** The oldest entries that begin below `end`, up to about `maxEvents` events. */
  private read(from: Uint8Array, end: number, maxEvents: number): Oldest {
    const { records } = this;
    const entries: Oldest['entries'] = [];
    let events = 0;
    let straddling: Uint8Array | undefined;
    let atEnd = true;
    this.state.backend.scan(from, revisionKey(prefix.events, end, 0), false, (key, block) => {
      if (events >= maxEvents) {
        atEnd = false;
        return false;
      }
      records.start(block);
      let last = 0;
      while (records.next()) {
        last = records.revision;
        events++;
      }
      const copy = block.slice();
      entries.push({ key: key.slice(), block: copy });
      if (last < end) return true;
      straddling = copy;
      return false;
    });
    return { entries, straddling, atEnd };
  }

  private removeAround(target: number, isWhole: boolean): void {
    const { records, state } = this;
    const key = recordUserKey(records);
    if (records.prevMod !== 0) this.removeReplaced(key, records.prevMod);
    if (records.revision === target) return;
    // What an earlier compaction looked at already may still be here, in an entry that it had to leave.
    const isNew = records.revision >= state.finishedRevision;
    if (records.isDelete()) {
      if (isNew) this.removedBytes += tombstoneBytes(key.length);
      return;
    }
    if (records.shadowed) {
      if (isNew) this.removeVersion(records.revision, records.cell());
      return;
    }
    const entryKey = historyKey(key, records.revision);
    const value = state.backend.get(entryKey);
    if (value === undefined || value.length > 8) return;
    if (readCounterBE(value, 0) > target) {
      // While the R entry stays, it has the cell.
      if (isWhole) this.put(entryKey, concatBytes([value, records.cell()]));
    } else {
      this.put(entryKey, null);
      this.removeVersion(records.revision, records.cell());
    }
  }

  /** Only versions whose events went in an earlier compaction still have an entry, with the cell in it. */
  private removeReplaced(key: Uint8Array, mod: number): void {
    const entryKey = historyKey(key, mod);
    const value = this.state.backend.get(entryKey);
    if (value === undefined) return;
    this.put(entryKey, null);
    if (value.length === 8) return;
    // Several changes of one key in one transaction name the same version.
    const name = latin1(entryKey);
    if (this.replaced.has(name)) return;
    this.replaced.add(name);
    this.removeVersion(mod, value.subarray(8));
  }

  /** What is left of a version once nothing refers to it any more. */
  private removeVersion(mod: number, cell: Uint8Array): void {
    this.state.stats.removedVersions++;
    if (!isLargeCell(cell)) {
      this.removedBytes += putBytes(cellKeyValue(cell).length);
      return;
    }
    const valueKey = revisionKey(prefix.values, mod, cellSub(cell));
    this.removedBytes += putBytes(this.state.backend.get(valueKey)?.length ?? 0);
    this.put(valueKey, null);
  }

  private put(key: Uint8Array, value: Uint8Array | null): void {
    const { batch } = this;
    batch.keys.push(key);
    batch.values.push(value);
  }
}

interface Oldest {
  readonly entries: { key: Uint8Array; block: Uint8Array }[];
  /** The last of them, when it also holds events of the target or later: it stays. */
  readonly straddling: Uint8Array | undefined;
  /** Nothing below the target is left beyond them. */
  readonly atEnd: boolean;
}

function newBatch(): Redo {
  return { keys: [], values: [] };
}
