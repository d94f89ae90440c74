import { assert, compareBytes, equalBytes } from '@quoin/base';
import type { BackendCursor } from './backend.ts';
import { RecordReader } from './event-log.ts';
import {
  historyKey,
  type KeyBounds,
  keyBounds,
  keySuccessor,
  latestHigh,
  prefix,
  prefixedKey,
} from './layout.ts';
import { type OverlayView, seen } from './overlay.ts';
import { makePast, type Past, PastScan } from './past-scan.ts';
import { Rows } from './range-rows.ts';
import type { RangeOptions, RangeResult, RevisionError } from './read-types.ts';
import type { StoreState } from './state.ts';
import { hashBytes } from './write-buffer.ts';

const noEnd: Uint8Array = new Uint8Array(0);

/** One cursor slice's bound; the count of entries is what usually ends it. */
const sliceBytesMax = 4 * 1024 * 1024;

/** A range read as etcd answers it, all at once. */
export function readRange(state: StoreState, options: RangeOptions): RangeResult | RevisionError {
  if (isPlainGet(options)) {
    state.stats.ranges++;
    const kv = state.latest(options.key);
    return kv === undefined ? { kvs: [], count: 0, more: false } : { kvs: [kv], count: 1, more: false };
  }
  const reader = openRange(state, options);
  if (typeof reader === 'string') return reader;
  try {
    while (!reader.step(Number.MAX_SAFE_INTEGER));
    return reader.result();
  } finally {
    reader.close();
  }
}

/** The most common read: one key, now, whole. Limits, orders and the like change nothing about it. */
function isPlainGet(options: RangeOptions): boolean {
  return (
    (options.rangeEnd === undefined || options.rangeEnd.length === 0) &&
    (options.revision ?? 0) <= 0 &&
    !options.countOnly &&
    !options.keysOnly &&
    (options.minModRevision ?? 0) <= 0 &&
    (options.maxModRevision ?? 0) === 0 &&
    (options.minCreateRevision ?? 0) <= 0 &&
    (options.maxCreateRevision ?? 0) === 0
  );
}

export function openRange(state: StoreState, options: RangeOptions): RangeReader | RevisionError {
  const { revision = 0 } = options;
  if (revision > state.revision) return 'future';
  if (revision > 0 && revision < state.compactRevision) return 'compacted';
  state.stats.ranges++;
  return new RangeReader(state, options);
}

/**
 * A range read in slices, all of it at one revision. Must be stepped to its end or closed.
 *
 * The latest state, and one whose later events are all in the overlay, is read from one consistent cursor over L merged
 * with what the overlay held at the time of opening. An older revision is read from L (versions that are not newer) and
 * H (versions that were superseded, and until when) by key, slice by slice: events that leave the overlay meanwhile are
 * all newer and leave what was alive then readable. Removal waits for the reader.
 */
export class RangeReader {
  private readonly state: StoreState;
  private readonly bounds: KeyBounds;
  private readonly single: boolean;
  /** What there was of a single key at the time of opening. */
  private readonly singleCell: Uint8Array | undefined = undefined;
  private readonly revision: number;
  private readonly rows: Rows;
  private cursor: BackendCursor | undefined = undefined;
  /** What the overlay held at the time of opening, to be merged with the cursor's entries. */
  private overlay: OverlayView | undefined = undefined;
  /** An entry of the cursor that comes after what a slice had room for. */
  private held: LatestEntry | undefined = undefined;
  /** Entries of the cursor that a read of a recent revision has yet to merge. */
  private fetched: LatestEntry[] = [];
  private fetchedNext = 0;
  private cursorEnded = false;
  /** Where a read of a past revision goes on. */
  private from: Uint8Array;
  private done = false;
  private open = true;

  constructor(state: StoreState, options: RangeOptions) {
    const { key, rangeEnd = noEnd, revision = 0 } = options;
    this.state = state;
    this.bounds = keyBounds(key, rangeEnd);
    this.single = rangeEnd.length === 0;
    // The current revision asked for by name excludes what the running transaction has changed.
    this.revision = revision > 0 && (revision < state.revision || state.changing) ? revision : 0;
    this.rows = new Rows(state, options);
    this.from = this.bounds.low;
    state.pins++;
    const { low, high } = this.bounds;
    if (this.single) this.singleCell = readVersionAt(state, low, this.revision);
    else if (high.length !== 0 && compareBytes(low, high) >= 0) this.done = true;
    else if (this.revision === 0 || this.revision >= state.evicted) {
      this.overlay = state.overlay.view(
        low,
        high,
        this.revision > 0 ? this.revision : Number.MAX_SAFE_INTEGER,
      );
      this.cursor = state.backend.cursor(prefixedKey(prefix.latest, low), latestHigh(this.bounds));
    }
  }

  /** Visits about `maxEntries` more; true when the result is there. */
  step(maxEntries: number): boolean {
    assert(this.open, 'the range reader is closed');
    // What the last slice has left over comes first.
    if (this.done || this.rows.largeCount > 0) return this.rows.resolve() && this.done;
    if (this.single) this.readSingle();
    else if (this.overlay === undefined) this.stepPast(maxEntries);
    else if (this.revision === 0) this.stepLatest(maxEntries, this.overlay);
    else this.stepRecent(maxEntries, this.overlay);
    return this.rows.resolve() && this.done;
  }

  /** With `drained`, after each step: the rows found since the last time, with their sub revision. */
  drain(visit: (kv: Uint8Array, sub: number) => void): void {
    if (this.rows.largeCount === 0) this.rows.drain(visit);
  }

  /** More than `holdBytes`: the result has no pairs, and another reader at the same revision has to give them. */
  get overflown(): boolean {
    return this.rows.overflown;
  }

  /** What the pairs so far take in a message, with the tag and length of each. */
  get itemBytes(): number {
    return this.rows.itemBytes;
  }

  /** The past revision that is read; 0: the current state. */
  get readRevision(): number {
    return this.revision;
  }

  /** After `step` returned true. */
  result(): RangeResult {
    assert(this.done && this.rows.largeCount === 0, 'the range has not been read to its end');
    return this.rows.result();
  }

  /** With `slabs`: the pairs of the result are not looked at any more. */
  release(): void {
    this.rows.release();
  }

  close(): void {
    if (!this.open) return;
    this.open = false;
    this.cursor?.close();
    this.overlay?.close();
    this.state.pins--;
  }

  private readSingle(): void {
    this.done = true;
    if (this.singleCell !== undefined) this.rows.add(this.singleCell);
  }

  private stepLatest(maxEntries: number, overlay: OverlayView): void {
    const { rows } = this;
    let left = maxEntries;
    const hasRoom = (): boolean => left > 0 && rows.largeCount < rows.largeMax;
    const offer = (entryKey: Uint8Array, cell: Uint8Array): boolean => {
      for (;;) {
        const order = overlay.compare(entryKey, 1);
        if (order > 0) break;
        if (order < 0 && !hasRoom()) {
          this.held = { key: entryKey.slice(), cell: cell.slice(), mod: 0 };
          return false;
        }
        if (!overlay.records.isDelete()) rows.addRecord(overlay.records);
        left--;
        overlay.advance();
        if (order === 0) return hasRoom();
      }
      rows.add(cell);
      left--;
      return hasRoom();
    };
    const { held } = this;
    this.held = undefined;
    if (held !== undefined && !offer(held.key, held.cell)) return;
    if (!this.cursorEnded) this.cursorEnded = !this.cursor!.next(sliceBytesMax, offer);
    if (!this.cursorEnded || this.held !== undefined) return;
    for (; !overlay.ended && hasRoom(); overlay.advance(), left--)
      if (!overlay.records.isDelete()) rows.addRecord(overlay.records);
    this.done = overlay.ended;
  }

  /** As `stepLatest`, but what the overlay's oldest event of a key replaced may have to be read. */
  private stepRecent(maxEntries: number, overlay: OverlayView): void {
    const entriesMax = Math.max(1, Math.min(maxEntries, 1000));
    if (this.fetchedNext === this.fetched.length && !this.cursorEnded) this.fetch(entriesMax);
    for (let left = entriesMax; left > 0; left--) {
      const next = this.fetched[this.fetchedNext];
      if (next === undefined && (!this.cursorEnded || overlay.ended)) break;
      const order = next === undefined ? -1 : overlay.compare(next.key, 1);
      if (order <= 0) {
        this.addRecent(overlay, order === 0 ? next : undefined);
        overlay.advance();
      } else if (this.rows.wanted) {
        this.rows.add(next!.cell);
      } else {
        this.rows.skip();
      }
      if (order >= 0) this.fetchedNext++;
    }
    this.done = this.cursorEnded && this.fetchedNext === this.fetched.length && overlay.ended;
  }

  private fetch(entriesMax: number): void {
    const { state } = this;
    const { wanted } = this.rows;
    this.fetched = [];
    this.fetchedNext = 0;
    this.cursorEnded = !this.cursor!.next(sliceBytesMax, (key, cell) => {
      state.reader.readHead(cell);
      this.fetched.push({
        key: key.slice(),
        cell: wanted ? cell.slice() : noEnd,
        mod: state.reader.modRevision,
      });
      return this.fetched.length < entriesMax;
    });
  }

  /** The version at which the overlay's view of the current key points. `latest` is what L had of the key. */
  private addRecent(overlay: OverlayView, latest: LatestEntry | undefined): void {
    const { rows, state } = this;
    const { records } = overlay;
    if (overlay.kind === seen.here) {
      if (!records.isDelete()) rows.add(records.cell());
      return;
    }
    const { prevMod } = records;
    if (prevMod === 0) return;
    if (!rows.wanted) return rows.skip();
    if (latest !== undefined && latest.mod === prevMod && latest.cell.length > 0)
      return rows.add(latest.cell);
    const cell = state.versionCell(overlay.key(), prevMod);
    assert(cell !== undefined, () => `the version of revision ${prevMod} is missing`);
    rows.add(cell);
  }

  /** One slice of keys: first those in L, then those in H between the same keys, merged. */
  private stepPast(maxEntries: number): void {
    const { state, revision } = this;
    const entriesMax = Math.max(1, Math.min(maxEntries, 1000));
    const { wanted } = this.rows;
    const latest: LatestEntry[] = [];
    let visited = 0;
    let last: Uint8Array | undefined;
    const bounds = { low: this.from, high: this.bounds.high };
    const low = prefixedKey(prefix.latest, bounds.low);
    state.backend.scan(low, latestHigh(bounds), false, (entryKey, cell) => {
      state.reader.readHead(cell);
      visited++;
      const isFull = visited >= entriesMax;
      const mod = state.reader.modRevision;
      if (mod <= revision || isFull) {
        const key = entryKey.slice(1);
        if (mod <= revision) latest.push({ key, cell: wanted ? cell.slice() : noEnd, mod });
        if (isFull) last = key;
      }
      return !isFull;
    });
    let end = last === undefined ? bounds.high : keySuccessor(last);
    const past = new PastScan(state, revision, entriesMax);
    const stopped = past.read({ low: bounds.low, high: end });
    if (stopped !== undefined) end = stopped;
    this.merge(latest, past.found, end);
    this.from = end;
    this.done = last === undefined && stopped === undefined;
  }

  private merge(latest: readonly LatestEntry[], past: readonly Past[], end: Uint8Array): void {
    const { rows } = this;
    let p = 0;
    for (const { key, cell, mod } of latest) {
      if (end.length !== 0 && compareBytes(key, end) >= 0) break;
      while (p < past.length && compareBytes(past[p]!.key, key) < 0) this.addPast(past[p++]!);
      if (p < past.length && equalBytes(past[p]!.key, key)) {
        const found = past[p++]!;
        // What L has of a key in the overlay may be stale: H knows when it was superseded.
        if (found.mod >= mod) {
          this.addPast(found);
          continue;
        }
      }
      if (cell.length === 0) rows.skip();
      else rows.add(cell);
    }
    while (p < past.length) this.addPast(past[p++]!);
  }

  private addPast(past: Past): void {
    if (past.isAlive) this.rows.addPast(past);
  }
}

interface LatestEntry {
  /** Of the L entry; without the prefix in a read of the past. */
  readonly key: Uint8Array;
  /** Empty when it only counts. */
  readonly cell: Uint8Array;
  readonly mod: number;
}

/** The cell of the version of one key that was alive at the revision; 0: now. */
function readVersionAt(state: StoreState, key: Uint8Array, revision: number): Uint8Array | undefined {
  if (revision === 0) return state.latestCell(key);
  if (revision >= state.evicted) {
    const entry = state.overlay.find(key, hashBytes(key));
    if (entry < 0) return state.engineCell(key);
    const records = new RecordReader();
    if (state.overlay.readAsOf(entry, revision, records) === seen.here)
      return records.isDelete() ? undefined : records.cell();
    return records.prevMod === 0 ? undefined : state.versionCell(key, records.prevMod);
  }
  const cell = state.engineCell(key);
  let mod = 0;
  if (cell !== undefined) {
    state.reader.readHead(cell);
    if (state.reader.modRevision <= revision) mod = state.reader.modRevision;
  }
  let past: Past | undefined;
  state.backend.scan(historyKey(key, revision), historyKey(key, 0), false, (entryKey, value) => {
    past = makePast(key, entryKey, value, revision);
    return false;
  });
  if (past === undefined || past.mod < mod) return mod === 0 ? undefined : cell;
  return past.isAlive ? state.historyCell(past) : undefined;
}
