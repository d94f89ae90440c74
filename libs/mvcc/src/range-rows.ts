import { assert, type BufferPool, compareBytes } from '@quoin/base';
import { uintSize } from '@quoin/contracts';
import type { RecordReader } from './event-log.ts';
import { KeyValueReader, withoutValue } from './key-value.ts';
import { cellSub, cellTrailerBytes, isLargeCell } from './layout.ts';
import type { Past } from './past-scan.ts';
import type { RangeOptions, RangeResult } from './read-types.ts';
import type { StoreState } from './state.ts';

const noBytes: Uint8Array = new Uint8Array(0);

/** Large values left over by one slice of the scan, and bytes of them that are read in one step. */
const largeSliceMax = 64;
const largeSliceMaxPassing = 8;
const largeBytesMax = 2 * 1024 * 1024;

const slabBytesMax = 64 * 1024;

const sortOrder = { none: 0, ascend: 1, descend: 2 } as const;
const sortTarget = { key: 0, version: 1, create: 2, mod: 3, value: 4 } as const;

/** What a read has found so far: copies in slabs, then filtered, sorted and cut as etcd does it. */
export class Rows {
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
  private readonly holdBytes: number;
  private readonly sink: ((kv: Uint8Array) => void) | undefined;
  private readonly slabs: BufferPool | undefined;
  /** Those of `slabs` that are in use. */
  private readonly taken: Uint8Array<ArrayBuffer>[] = [];
  readonly largeMax: number;
  overflown = false;
  itemBytes = 0;
  /** Rows found that belong to the result, wherever they are now. */
  private found = 0;
  private readonly kvs: Uint8Array[] = [];
  /** Of each row, when rows are drained. */
  private readonly subs: number[] | undefined;
  /** Rows that need a read of V or R once the scan has ended: position in `kvs`, and what to read. */
  private large: { at: number; mod: number; sub: number }[] = [];
  private largeNext = 0;
  /** How many of `kvs` the sink has been given. */
  private passed = 0;
  private count = 0;
  private matched = 0;
  private slab: Uint8Array = noBytes;
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
    this.holdBytes = this.sorts()
      ? Number.POSITIVE_INFINITY
      : (options.holdBytes ?? Number.POSITIVE_INFINITY);
    this.sink = options.sink;
    this.slabs = options.slabs;
    this.largeMax = this.sink === undefined ? largeSliceMax : largeSliceMaxPassing;
    assert(
      this.sink === undefined || !this.sorts(),
      'rows that are passed on have no order but that of keys',
    );
  }

  /**
   * A version in the overlay, whose bytes stay as they are. A view is made of it only where somebody looks at it: one that
   * is only measured costs no garbage.
   */
  addRecord(records: RecordReader): void {
    if (this.filters || this.keysOnly || this.subs !== undefined || records.large)
      return this.add(records.cell(), true);
    this.count++;
    if (this.countOnly) return;
    this.matched++;
    if (!this.all && this.found >= this.limit) return;
    this.found++;
    const start = records.kvStart();
    this.measure(records.eventEnd - start);
    if (this.overflown) return;
    this.pass(records.block.subarray(start, records.eventEnd));
  }

  /** The cell is a view: unless it `stays` as it is, it is copied if it is wanted. */
  add(cell: Uint8Array, stays = false): void {
    this.count++;
    if (this.countOnly) return;
    if (this.filters && !this.passes(cell)) return;
    this.matched++;
    if (!this.all && this.found >= this.limit) return;
    this.found++;
    this.subs?.push(cellSub(cell));
    if (this.keysOnly && this.target !== sortTarget.value) {
      this.reader.readHead(cell);
      this.keep(cell, this.reader.headEnd, false);
    } else if (isLargeCell(cell)) {
      this.reader.readHead(cell);
      this.large.push({ at: this.kvs.length, mod: this.reader.modRevision, sub: cellSub(cell) });
      if (!this.overflown) this.kvs.push(noBytes);
    } else this.keep(cell, cell.length - cellTrailerBytes, stays);
  }

  private keep(cell: Uint8Array, length: number, stays: boolean): void {
    this.measure(length);
    if (this.overflown) return;
    if (this.passesOn || stays) this.pass(cell.subarray(0, length));
    else this.kvs.push(this.copy(cell, length));
  }

  /** Behind one that is yet to be read it has to wait. */
  private get passesOn(): boolean {
    return this.sink !== undefined && this.large.length === 0;
  }

  private pass(kv: Uint8Array): void {
    if (this.passesOn) this.sink!(kv);
    else this.kvs.push(kv);
  }

  private measure(length: number): void {
    this.itemBytes += 1 + uintSize(length) + length;
    if (this.itemBytes <= this.holdBytes || this.overflown) return;
    this.overflown = true;
    this.release();
  }

  addPast(past: Past): void {
    if (!this.wanted) return this.skip();
    // Not inside a scan: the version can be read at once, and goes the way of the others.
    this.add(this.state.historyCell(past));
  }

  get largeCount(): number {
    return this.large.length;
  }

  /** False: from now on entries only count. */
  get wanted(): boolean {
    return !this.countOnly && (this.all || this.filters || this.found < this.limit);
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
      if (this.sink === undefined && !this.overflown) {
        const kv = this.state.largeValue(mod, sub);
        this.measure(kv.length);
        if (!this.overflown) this.kvs[at] = kv;
        bytes += kv.length;
        continue;
      }
      if (this.sink !== undefined) this.passOn(at);
      const kv = this.state.peekLarge(mod, sub);
      this.measure(kv.length);
      bytes += kv.length;
      this.sink?.(kv);
      this.passed = at + 1;
    }
    this.large.length = 0;
    this.largeNext = 0;
    if (this.sink === undefined) return true;
    this.passOn(this.kvs.length);
    this.kvs.length = 0;
    this.passed = 0;
    return true;
  }

  /** Gives the sink those that stood behind a large one, up to the next. */
  private passOn(end: number): void {
    for (; this.passed < end; this.passed++) this.sink!(this.kvs[this.passed]!);
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
    if (this.overflown) kvs = [];
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
    // All of it, and the next one begins over what is too much: a view of a part costs more than those bytes.
    if (this.slabAt + bytes.length > this.slab.length) this.addSlab(bytes.length);
    this.slab.set(bytes, this.slabAt);
    const out = this.slab.subarray(this.slabAt, this.slabAt + length);
    this.slabAt += length;
    return out;
  }

  private addSlab(bytes: number): void {
    const { slabs } = this;
    this.slabAt = 0;
    if (slabs !== undefined && bytes <= slabs.bytes) {
      const slab = slabs.take();
      this.taken.push(slab);
      this.slab = slab;
      return;
    }
    // Small at first: most reads find one key.
    this.slab = new Uint8Array(Math.max(bytes, Math.min(slabBytesMax, 4 * this.slab.length), 512));
  }

  /** Nobody looks at the copies any more. */
  release(): void {
    this.kvs.length = 0;
    this.slab = noBytes;
    this.slabAt = 0;
    const { slabs, taken } = this;
    for (const slab of taken) slabs!.give(slab);
    taken.length = 0;
  }
}
