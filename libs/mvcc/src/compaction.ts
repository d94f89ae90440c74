import { latin1 } from '@quoin/base';
import { RecordReader, recordUserKey } from './event-log.ts';
import {
  cellKeyValue,
  cellSub,
  encodeFinished,
  finishedKey,
  historyCell,
  historyCount,
  historyEnd,
  historyKey,
  historyPart,
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
import { type Chain, chainIndex, findChain } from './past-scan.ts';
import type { StoreState } from './state.ts';

/** Sets the compact revision; what it takes away is gone for readers at once. */
export function setCompactRevision(state: StoreState, revision: number): 'compacted' | 'future' | undefined {
  if (revision <= state.compactRevision) return 'compacted';
  if (revision > state.revision) return 'future';
  state.compactRevision = revision;
  return undefined;
}

/** Of H entries in memory while a compaction goes on: up to 0.7 KB each. */
const chainsMax = 8_192;

/**
 * Removes what no reader at or after the compact revision C can see, entry by entry of R, oldest first. A step is one
 * commit of its own, so it may be cut off anywhere: what is left of R says where to go on. Before that, all events up to C
 * leave the overlay for L and H.
 *
 *   for each event of an R entry that begins below C, up to C:
 *     the version it replaced (prevMod)    died at or before C        → it goes: its V entry, its H entry with the last version
 *                                                                       in that
 *     the version it put, if superseded    by a revision ≤ C          → it goes likewise
 *                                          by a revision > C          → its H entry begins with it from now on; the cell
 *                                                                       moves from R into H, if R goes
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
  /** H entries that were looked at, by key: the next version of the key is mostly in the same one. */
  private readonly chains = new Map<string, Chain>();
  /** The events of older versions have gone. */
  private oldestEvent = 0;
  private target = 0;
  /** No later version has its cell in H. */
  private cellsUntil: number;
  /** Nothing of R is left below it. Starting over would walk all that was deleted before. */
  private from: Uint8Array = Uint8Array.of(prefix.events);

  private readonly materialiser: Materialiser;

  constructor(state: StoreState, materialiser: Materialiser) {
    this.state = state;
    this.materialiser = materialiser;
    this.cellsUntil = this.finished ? state.finishedRevision : Number.MAX_SAFE_INTEGER;
    this.target = state.compactRevision;
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
    if (target !== this.target) {
      this.cellsUntil = Math.max(this.target, state.finishedRevision);
      this.target = target;
    }
    // Until then what was placed before the start may be placed once more, in other entries.
    if (!this.materialiser.beyondStart) this.chains.clear();
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
    if (!atEnd) return;
    this.state.finishedButLast = false;
    this.chains.clear();
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
    this.oldestEvent = Number.MAX_SAFE_INTEGER;
    this.state.backend.scan(from, revisionKey(prefix.events, end, 0), false, (key, block) => {
      if (events >= maxEvents) {
        atEnd = false;
        return false;
      }
      records.start(block);
      let last = 0;
      while (records.next()) {
        last = records.revision;
        if (last < this.oldestEvent) this.oldestEvent = last;
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
    const { prevMod, revision } = records;
    // Younger ones are removed by their own event.
    if (prevMod !== 0 && prevMod < this.oldestEvent && prevMod <= this.cellsUntil)
      this.removeReplaced(key, prevMod);
    if (records.isDelete() || records.shadowed) {
      // What an earlier compaction looked at already may still be here, in an entry that it had to leave.
      if (revision === target || revision < state.finishedRevision) return;
      if (records.isDelete()) this.removedBytes += tombstoneBytes(key.length);
      else this.removeVersion(revision, records.cell());
      return;
    }
    const name = latin1(key);
    const chain = this.chainOf(name, key, revision);
    if (chain === undefined) return;
    const i = chainIndex(chain, revision);
    if (historyEnd(chain.value, i) > target) {
      // While the R entry stays, it has the cell.
      this.chains.delete(name);
      this.keepFrom(key, revision, chain, i, isWhole ? records.cell() : undefined);
      return;
    }
    this.removeVersion(revision, records.cell());
    if (i < historyCount(chain.value) - 1) return;
    this.chains.delete(name);
    this.put(historyKey(key, chain.mod), null);
  }

  private chainOf(name: string, key: Uint8Array, mod: number): Chain | undefined {
    const { chains } = this;
    const known = chains.get(name);
    if (known !== undefined && chainIndex(known, mod) >= 0) return known;
    const found = findChain(this.state.backend, key, mod);
    if (found === undefined || historyCount(found.value) === 1) return found;
    if (chains.size >= chainsMax) chains.delete(chains.keys().next().value!);
    chains.set(name, found);
    return found;
  }

  /** Version `i` of the chain, `mod`, is the oldest one of its key that stays. */
  private keepFrom(
    key: Uint8Array,
    mod: number,
    chain: Chain,
    i: number,
    cell: Uint8Array | undefined,
  ): void {
    if (i === 0 && (cell === undefined || historyCell(chain.value) !== undefined)) return;
    if (i > 0) this.put(historyKey(key, chain.mod), null);
    this.put(historyKey(key, mod), historyPart(chain.value, i, historyCount(chain.value), cell));
  }

  /** Only versions whose events went in an earlier step still have an entry, with the cell in it. */
  private removeReplaced(key: Uint8Array, mod: number): void {
    const entryKey = historyKey(key, mod);
    const value = this.state.backend.get(entryKey);
    if (value === undefined) return;
    // Those that followed it are removed by their own events.
    if (historyCount(value) === 1) this.put(entryKey, null);
    const cell = historyCell(value);
    if (cell === undefined) return;
    // Several changes of one key in one transaction name the same version.
    const name = latin1(entryKey);
    if (this.replaced.has(name)) return;
    this.replaced.add(name);
    this.removeVersion(mod, cell);
  }

  /** What is left of a version once nothing refers to it any more. */
  private removeVersion(mod: number, cell: Uint8Array): void {
    this.state.stats.removedVersions++;
    if (!isLargeCell(cell)) {
      this.removedBytes += putBytes(cellKeyValue(cell).length);
      return;
    }
    const valueKey = revisionKey(prefix.values, mod, cellSub(cell));
    this.removedBytes += putBytes(this.state.backend.peek(valueKey)?.length ?? 0);
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
