import { assert, compareBytes, readCounterBE } from '@quoin/base';
import type { BackendCursor } from './backend.ts';
import { KeyValueReader, withoutValue } from './key-value.ts';
import {
  cellSub,
  cellTrailerBytes,
  historyHigh,
  historyKey,
  historyLow,
  historyMod,
  historyUserKey,
  isLargeCell,
  type KeyBounds,
  keyBounds,
  keySuccessor,
  latestHigh,
  prefix,
  prefixedKey,
} from './layout.ts';
import type { RangeOptions, RangeResult, RevisionError } from './read-types.ts';
import type { StoreState } from './state.ts';

const noEnd: Uint8Array = new Uint8Array(0);

/** Large values left over by one slice of the scan, and bytes of them that are read in one step. */
const largeSliceMax = 64;
const largeBytesMax = 2 * 1024 * 1024;

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
 * The latest state is read from one consistent cursor over L. A past revision is read from L (versions that are not
 * newer) and H (versions that were alive then) by key; both stay as they are while the reader is open, because
 * removal waits for it.
 */
export class RangeReader {
  private readonly state: StoreState;
  private readonly bounds: KeyBounds;
  private readonly single: boolean;
  private readonly revision: number;
  private readonly rows: Rows;
  private cursor: BackendCursor | undefined = undefined;
  /** Sorted uncommitted entries of the time of opening, to be merged with the cursor's. */
  private pendingKeys: Uint8Array[] = [];
  private pendingValues: (Uint8Array | null)[] = [];
  private pendingNext = 0;
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
    const empty = this.bounds.high.length !== 0 && compareBytes(this.bounds.low, this.bounds.high) >= 0;
    if (empty) this.done = true;
    else if (!this.single && this.revision === 0) this.openLatest();
  }

  /** Visits about `maxEntries` more; true when the result is there. */
  step(maxEntries: number): boolean {
    assert(this.open, 'the range reader is closed');
    // What the last slice has left over comes first.
    if (this.done || this.rows.largeCount > 0) return this.rows.resolve() && this.done;
    if (this.single) this.readSingle();
    else if (this.revision === 0) this.stepLatest(maxEntries);
    else this.stepPast(maxEntries);
    return this.rows.resolve() && this.done;
  }

  /** With `drained`, after each step: the rows found since the last time, with their sub revision. */
  drain(visit: (kv: Uint8Array, sub: number) => void): void {
    if (this.rows.largeCount === 0) this.rows.drain(visit);
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

  close(): void {
    if (!this.open) return;
    this.open = false;
    this.cursor?.close();
    this.state.pins--;
  }

  private readSingle(): void {
    const { state, revision } = this;
    this.done = true;
    const key = this.bounds.low;
    const cell = state.latestCell(key);
    if (cell !== undefined) {
      state.reader.readHead(cell);
      if (revision === 0 || state.reader.modRevision <= revision) return this.rows.add(cell);
    }
    if (revision === 0) return;
    let past: Past | undefined;
    state.buffer.scan(historyKey(key, revision), historyKey(key, 0), false, (entryKey, value) => {
      if (readCounterBE(value, 0) > revision) past = makePast(key, entryKey, value);
      return false;
    });
    if (past !== undefined) this.rows.addPast(past);
  }

  private openLatest(): void {
    const low = prefixedKey(prefix.latest, this.bounds.low);
    const high = latestHigh(this.bounds);
    const { buffer, backend } = this.state;
    for (const i of buffer.pendingBetween(low, high)) {
      this.pendingKeys.push(buffer.keys[i]!);
      this.pendingValues.push(buffer.values[i]!);
    }
    this.cursor = backend.cursor(low, high);
  }

  private stepLatest(maxEntries: number): void {
    let left = maxEntries;
    const more = this.cursor!.next(sliceBytesMax, (entryKey, cell) => {
      if (this.pendingNext === this.pendingKeys.length || !this.offerPending(entryKey)) this.rows.add(cell);
      return --left > 0 && this.rows.largeCount < largeSliceMax;
    });
    if (more) return;
    for (; this.pendingNext < this.pendingKeys.length; this.pendingNext++) this.emitPending();
    this.done = true;
  }

  /** Emits pending entries up to the backend's; true when one of them replaces it. */
  private offerPending(entryKey: Uint8Array): boolean {
    while (this.pendingNext < this.pendingKeys.length) {
      const order = compareBytes(this.pendingKeys[this.pendingNext]!, entryKey);
      if (order > 0) return false;
      this.emitPending();
      this.pendingNext++;
      if (order === 0) return true;
    }
    return false;
  }

  private emitPending(): void {
    const cell = this.pendingValues[this.pendingNext];
    if (cell !== null && cell !== undefined) this.rows.add(cell);
  }

  /** One slice of keys: first those in L, then those in H between the same keys, merged. */
  private stepPast(maxEntries: number): void {
    const { state, revision } = this;
    const entriesMax = Math.max(1, Math.min(maxEntries, 1000));
    const { wanted } = this.rows;
    const latest: { key: Uint8Array; cell: Uint8Array }[] = [];
    let visited = 0;
    let last: Uint8Array | undefined;
    const bounds = { low: this.from, high: this.bounds.high };
    state.buffer.scan(prefixedKey(prefix.latest, bounds.low), latestHigh(bounds), false, (entryKey, cell) => {
      state.reader.readHead(cell);
      visited++;
      const isFull = visited >= entriesMax;
      if (state.reader.modRevision <= revision || isFull) {
        const key = entryKey.slice(1);
        if (state.reader.modRevision <= revision) latest.push({ key, cell: wanted ? cell.slice() : noEnd });
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

  private merge(latest: { key: Uint8Array; cell: Uint8Array }[], past: Past[], end: Uint8Array): void {
    let p = 0;
    for (const { key, cell } of latest) {
      if (end.length !== 0 && compareBytes(key, end) >= 0) break;
      while (p < past.length && compareBytes(past[p]!.key, key) < 0) this.rows.addPast(past[p++]!);
      if (cell.length === 0) this.rows.skip();
      else this.rows.add(cell);
    }
    while (p < past.length) this.rows.addPast(past[p++]!);
  }
}

/** A superseded version that was alive at the revision. `value` is its H entry's. */
interface Past {
  readonly key: Uint8Array;
  readonly mod: number;
  readonly value: Uint8Array;
}

function makePast(key: Uint8Array, entryKey: Uint8Array, value: Uint8Array): Past {
  return { key, mod: historyMod(entryKey), value: value.slice() };
}

/** Beyond this many entries of one key the scan seeks instead of walking. */
const walkMax = 16;

/** Finds in H the versions that were alive at a revision. */
class PastScan {
  readonly found: Past[] = [];
  private readonly state: StoreState;
  private readonly revision: number;
  private readonly visitsMax: number;
  private visits = 0;
  /** The walk ended within a key that is not decided yet. */
  private inKey = false;

  constructor(state: StoreState, revision: number, entriesMax: number) {
    this.state = state;
    this.revision = revision;
    this.visitsMax = 8 * entriesMax;
  }

  /** Undefined when all was read, else the key at which to go on: everything before it has been read. */
  read(bounds: KeyBounds): Uint8Array | undefined {
    const high = historyHigh(bounds);
    let low: Uint8Array | undefined = historyLow(bounds.low);
    while (low !== undefined) {
      if (this.visits >= this.visitsMax && !this.inKey) return this.keyAt(low, high);
      low = this.walk(low, high);
    }
    return undefined;
  }

  /**
   * Walks on from `low`; returns where to seek to, or undefined at the end. Newest versions come first, so the first
   * one not newer than the revision decides for its key, and the rest of the key may be skipped.
   */
  private walk(low: Uint8Array, high: Uint8Array): Uint8Array | undefined {
    const { revision } = this;
    let keyLength = 0;
    let current: Uint8Array = noEnd;
    let decided = false;
    let walked = 0;
    let seekTo: Uint8Array | undefined;
    this.inKey = false;
    this.state.buffer.scan(low, high, false, (entryKey, value) => {
      this.visits++;
      if (keyLength === 0 || !hasPrefix(entryKey, current, keyLength)) {
        if (keyLength !== 0 && this.visits > this.visitsMax) {
          seekTo = entryKey.slice();
          return false;
        }
        keyLength = entryKey.length - 8;
        current = entryKey.slice(0, keyLength);
        decided = false;
        walked = 0;
      }
      const mod = historyMod(entryKey);
      if (!decided && mod <= revision) {
        decided = true;
        if (readCounterBE(value, 0) > revision)
          this.found.push(makePast(historyUserKey(entryKey), entryKey, value));
      }
      if (++walked <= walkMax) return true;
      const userKey = historyUserKey(entryKey);
      this.inKey = !decided;
      seekTo = decided ? historyLow(keySuccessor(userKey)) : historyKey(userKey, revision);
      return false;
    });
    return seekTo;
  }

  /** The user's key that H continues with at `low`, if there is more. */
  private keyAt(low: Uint8Array, high: Uint8Array): Uint8Array | undefined {
    let key: Uint8Array | undefined;
    this.state.buffer.scan(low, high, false, (entryKey) => {
      key = historyUserKey(entryKey);
      return false;
    });
    return key;
  }
}

function hasPrefix(key: Uint8Array, start: Uint8Array, length: number): boolean {
  if (key.length - 8 !== length) return false;
  for (let i = length - 1; i >= 0; i--) if (key[i] !== start[i]) return false;
  return true;
}

const slabBytesMax = 64 * 1024;

const sortOrder = { none: 0, ascend: 1, descend: 2 } as const;
const sortTarget = { key: 0, version: 1, create: 2, mod: 3, value: 4 } as const;

/** What a read has found so far: copies in slabs, then filtered, sorted and cut as etcd does it. */
class Rows {
  private readonly state: StoreState;
  private readonly limit: number;
  private readonly countOnly: boolean;
  private readonly keysOnly: boolean;
  private readonly order: number;
  private readonly target: number;
  private readonly minMod: number;
  private readonly maxMod: number;
  private readonly minCreate: number;
  private readonly maxCreate: number;
  /** Everything that passes the filters is needed, whatever the limit. */
  private readonly all: boolean;
  private readonly filters: boolean;
  private readonly kvs: Uint8Array[] = [];
  /** Of each row, when rows are drained. */
  private readonly subs: number[] | undefined;
  /** Rows that need a read of V or R once the scan has ended: position in `kvs`, and what to read. */
  private large: { at: number; mod: number; sub: number }[] = [];
  private largeNext = 0;
  private count = 0;
  private matched = 0;
  private slab: Uint8Array = noEnd;
  private slabAt = 0;
  private readonly reader = new KeyValueReader();

  constructor(state: StoreState, options: RangeOptions) {
    this.state = state;
    this.limit = options.limit ?? 0;
    this.countOnly = options.countOnly ?? false;
    this.keysOnly = options.keysOnly ?? false;
    this.target = options.sortTarget ?? 0;
    const order = options.sortOrder ?? 0;
    this.order = order === sortOrder.none && this.target !== sortTarget.key ? sortOrder.ascend : order;
    this.minMod = options.minModRevision ?? 0;
    this.maxMod = options.maxModRevision ?? 0;
    this.minCreate = options.minCreateRevision ?? 0;
    this.maxCreate = options.maxCreateRevision ?? 0;
    this.filters = this.minMod > 0 || this.maxMod !== 0 || this.minCreate > 0 || this.maxCreate !== 0;
    this.all = this.sorts() || this.limit <= 0;
    this.subs = options.drained === true ? [] : undefined;
  }

  /** The cell is a view: it is copied if it is wanted. */
  add(cell: Uint8Array): void {
    this.count++;
    if (this.countOnly) return;
    if (this.filters && !this.passes(cell)) return;
    this.matched++;
    if (!this.all && this.kvs.length >= this.limit) return;
    this.subs?.push(cellSub(cell));
    if (this.keysOnly && this.target !== sortTarget.value) {
      this.reader.readHead(cell);
      this.kvs.push(this.copy(cell, this.reader.headEnd));
    } else if (isLargeCell(cell)) {
      this.reader.readHead(cell);
      this.large.push({ at: this.kvs.length, mod: this.reader.modRevision, sub: cellSub(cell) });
      this.kvs.push(noEnd);
    } else {
      this.kvs.push(this.copy(cell, cell.length - cellTrailerBytes));
    }
  }

  addPast(past: Past): void {
    if (!this.wanted) return this.skip();
    // Not inside a scan: the version can be read at once, and goes the way of the others.
    this.add(this.state.historyCell(past.key, past.mod, past.value));
  }

  get largeCount(): number {
    return this.large.length;
  }

  /** False: from now on entries only count. */
  get wanted(): boolean {
    return !this.countOnly && (this.all || this.filters || this.kvs.length < this.limit);
  }

  /** A key whose row is not wanted. */
  skip(): void {
    this.count++;
    this.matched++;
  }

  /** Between scans: reads some of the large values that were found; true when all have been. */
  resolve(): boolean {
    let bytes = 0;
    while (this.largeNext < this.large.length) {
      if (bytes >= largeBytesMax) return false;
      const { at, mod, sub } = this.large[this.largeNext++]!;
      const kv = this.state.largeValue(mod, sub);
      this.kvs[at] = kv;
      bytes += kv.length;
    }
    this.large.length = 0;
    this.largeNext = 0;
    return true;
  }

  drain(visit: (kv: Uint8Array, sub: number) => void): void {
    const { kvs, subs } = this;
    assert(subs !== undefined, 'the rows are not to be drained');
    for (let i = 0; i < kvs.length; i++) visit(kvs[i]!, subs[i]!);
    kvs.length = 0;
    subs.length = 0;
  }

  result(): RangeResult {
    let { kvs } = this;
    if (this.countOnly) return { kvs: [], count: this.count, more: false };
    if (this.sorts()) kvs = this.sorted();
    if (this.limit > 0 && kvs.length > this.limit) kvs.length = this.limit;
    if (this.keysOnly && this.target === sortTarget.value)
      kvs = kvs.map((kv) => withoutValue(kv, this.reader));
    return { kvs, count: this.count, more: this.limit > 0 && this.matched > this.limit };
  }

  private sorts(): boolean {
    return (
      this.order === sortOrder.descend || (this.order !== sortOrder.none && this.target !== sortTarget.key)
    );
  }

  private passes(cell: Uint8Array): boolean {
    const { reader } = this;
    reader.readHead(cell);
    return (
      reader.modRevision >= this.minMod &&
      (this.maxMod === 0 || reader.modRevision <= this.maxMod) &&
      reader.createRevision >= this.minCreate &&
      (this.maxCreate === 0 || reader.createRevision <= this.maxCreate)
    );
  }

  private sorted(): Uint8Array[] {
    const { kvs, target } = this;
    const sign = this.order === sortOrder.descend ? -1 : 1;
    if (target === sortTarget.key) return sign < 0 ? kvs.reverse() : kvs;
    const positions = kvs.map((_, i) => i);
    if (target === sortTarget.value) {
      const values = kvs.map((kv) => this.valueOf(kv));
      positions.sort((a, b) => sign * compareBytes(values[a]!, values[b]!) || a - b);
    } else {
      const numbers = kvs.map((kv) => this.counterOf(kv));
      positions.sort((a, b) => sign * (numbers[a]! - numbers[b]!) || a - b);
    }
    return positions.map((i) => kvs[i]!);
  }

  private valueOf(kv: Uint8Array): Uint8Array {
    this.reader.read(kv);
    return kv.subarray(this.reader.valueStart, this.reader.valueEnd);
  }

  private counterOf(kv: Uint8Array): number {
    const { reader, target } = this;
    reader.readHead(kv);
    if (target === sortTarget.version) return reader.version;
    return target === sortTarget.create ? reader.createRevision : reader.modRevision;
  }

  private copy(bytes: Uint8Array, length: number): Uint8Array {
    if (this.slabAt + length > this.slab.length) {
      // Small at first: most reads find one key.
      this.slab = new Uint8Array(Math.max(length, Math.min(slabBytesMax, 4 * this.slab.length), 512));
      this.slabAt = 0;
    }
    const out = this.slab.subarray(this.slabAt, this.slabAt + length);
    out.set(length === bytes.length ? bytes : bytes.subarray(0, length), 0);
    this.slabAt += length;
    return out;
  }
}
