/**
 * The events of recent revisions in memory: what the key-ordered entries of the engine (L and H) do not know yet.
 *
 *   R entries    ... | older: materialised in L and H | records of the overlay          |
 *                                                     ▲ oldest                   newest ▲
 *
 * It holds where records are, not copies of them: the bytes are those that R was given. No object per key or record,
 * so that it may be large: 25 bytes a record, about 28 a key, in typed arrays.
 *
 *   table (hash) → entry (one per key) → newest record ⇄ older record of the key ⇄ …
 *   order: entries by key
 */

import { readCounterBE } from '@quoin/base';
import { isDeleteRecord, isShadowedRecord, RecordReader } from './event-log.ts';
import { KeyOrder } from './key-order.ts';

const noBytes: Uint8Array = new Uint8Array(0);

/** How the record at a place lies to what a reader wants. */
export const seen = {
  /** It is what the reader sees: a version, or that the key is gone. */
  here: 0,
  /** It is too new; what it replaced is what the reader sees: its prevMod, 0 for nothing. */
  before: 1,
} as const;

/**
 * Places of a view are in blocks that are used again when it is closed: as arrays they lived for as long as an answer takes,
 * grew the young generation and then the old one, 160 KB and more for each range of 10,000 keys.
 */
const placesPerBlock = 2048;
const freeBlocksMax = 128;

/** What is known of a record beside its place. */
const recordIs = { noted: 1, delete: 2, shadowed: 4 } as const;

function flagsOf(chunk: Uint8Array, at: number): number {
  return (
    (isDeleteRecord(chunk, at) ? recordIs.delete : 0) | (isShadowedRecord(chunk, at) ? recordIs.shadowed : 0)
  );
}

export class Overlay {
  /** Bytes of the records in it. */
  bytes = 0;
  private readonly reader = new RecordReader();
  /** Chunk number `base` + i, modulo 2^16; a place is chunk number << 16 | offset. */
  private readonly chunks: Uint8Array[] = [];
  private base = 0;
  /** Records by number & mask. Numbers count up modulo 2^32; a link to itself is none. */
  private first = 0;
  private next = 0;
  private mask = 255;
  private places: Uint32Array = new Uint32Array(256);
  private older: Uint32Array = new Uint32Array(256);
  private newer: Uint32Array = new Uint32Array(256);
  private entryOf: Uint32Array = new Uint32Array(256);
  /** Of records, so that a walk along a key's does not fetch them from all over the memory. */
  private revisions: Float64Array = new Float64Array(256);
  private flags: Uint8Array = new Uint8Array(256);
  /** Entries; a free one links to the next free through `newest`. */
  private newest: Uint32Array = new Uint32Array(256);
  private hashes: Uint32Array = new Uint32Array(256);
  /** Where the metadata cache has the entry's key, 0 if unknown. */
  private addresses: Uint32Array = new Uint32Array(256);
  private entries = 0;
  private freeEntry = -1;
  private keys = 0;
  /** Open addressing over entry + 1; 0 is free. */
  private slots: Int32Array = new Int32Array(512);
  private readonly freeBlocks: Uint32Array[] = [];
  private readonly order = new KeyOrder((a, b) => this.compareEntries(a, b));
  private keyStart = 0;
  private keyEnd = 0;
  private keyChunk: Uint8Array = noBytes;

  /** Records. */
  get size(): number {
    return (this.next - this.first) >>> 0;
  }

  get keysTotal(): number {
    return this.keys;
  }

  /** Number of the oldest record; only when `size` is not 0. */
  get oldest(): number {
    return this.first;
  }

  /** What the arrays need beside the records' bytes. */
  get tableBytes(): number {
    return this.places.length * 25 + this.newest.length * 12 + this.slots.length * 4;
  }

  /**
   * Takes in the record of `key` at `at` in `chunk`: the newest one. `address`, unless 0, is the key's as long as it lives:
   * an entry that knows it is found without a look at its key, which is anywhere in the memory.
   */
  append(chunk: Uint8Array, at: number, bytes: number, key: Uint8Array, hash: number, address: number): void {
    const { chunks } = this;
    if (chunks.length === 0 || chunks[chunks.length - 1] !== chunk) chunks.push(chunk);
    if (this.size > this.mask) this.growRecords();
    const record = this.next;
    const i = record & this.mask;
    this.places[i] = ((this.base + chunks.length - 1) << 16) | at;
    this.newer[i] = record;
    this.revisions[i] = readCounterBE(chunk, at);
    this.flags[i] = flagsOf(chunk, at);
    this.next = (record + 1) >>> 0;
    this.bytes += bytes;
    let entry = this.find(key, hash, address);
    if (entry >= 0) {
      this.addresses[entry] = address;
      const before = this.newest[entry]!;
      this.older[i] = before;
      this.newer[before & this.mask] = record;
      this.entryOf[i] = entry;
      this.newest[entry] = record;
      return;
    }
    entry = this.addEntry(hash, record);
    this.addresses[entry] = address;
    this.older[i] = record;
    this.entryOf[i] = entry;
    this.order.insert(entry);
  }

  /** The entry of a key, or -1. */
  find(key: Uint8Array, hash: number, address = 0): number {
    const { slots } = this;
    const mask = slots.length - 1;
    for (let s = hash & mask; ; s = (s + 1) & mask) {
      const entry = slots[s]! - 1;
      if (entry < 0) return -1;
      if (this.hashes[entry] !== hash) continue;
      if ((address !== 0 && this.addresses[entry] === address) || this.hasKey(entry, key)) return entry;
    }
  }

  /** Number of the newest record of the entry. */
  newestOf(entry: number): number {
    return this.newest[entry]!;
  }

  /** The record before that of the same key, or -1. */
  olderOf(record: number): number {
    const before = this.older[record & this.mask]!;
    return before !== record && this.holds(before) ? before : -1;
  }

  /** The record after that of the same key, or -1. */
  newerOf(record: number): number {
    const after = this.newer[record & this.mask]!;
    return after === record ? -1 : after;
  }

  revisionOf(record: number): number {
    return this.revisions[record & this.mask]!;
  }

  isDelete(record: number): boolean {
    return (this.flags[record & this.mask]! & recordIs.delete) !== 0;
  }

  isShadowed(record: number): boolean {
    return (this.flags[record & this.mask]! & recordIs.shadowed) !== 0;
  }

  shadow(record: number): void {
    this.flags[record & this.mask]! |= recordIs.shadowed;
  }

  /** The version that the record replaced is in H. */
  isNoted(record: number): boolean {
    return (this.flags[record & this.mask]! & recordIs.noted) !== 0;
  }

  note(record: number): void {
    this.flags[record & this.mask]! |= recordIs.noted;
  }

  /** Points the reader at a record. */
  read(record: number, reader: RecordReader): void {
    const place = this.places[record & this.mask]!;
    reader.startAt(this.chunks[((place >>> 16) - this.base) & 0xffff]!, place & 0xffff);
  }

  /** Points the reader at the newest record of the entry that is not newer than `revision`, or else at the oldest. */
  readAsOf(entry: number, revision: number, reader: RecordReader): number {
    const record = this.recordAsOf(entry, revision);
    this.read(record, reader);
    return this.seenAt(record, revision);
  }

  /** Points the reader at the record by which `revision` put the entry's key for good; false when it is not here. */
  readVersion(entry: number, revision: number, reader: RecordReader): boolean {
    const record = this.recordAsOf(entry, revision);
    if (this.revisionOf(record) !== revision) return false;
    this.read(record, reader);
    return !reader.isDelete() && !reader.shadowed;
  }

  /** What a reader at `revision` sees of low ≤ key < high, in key order; an empty `high` is no bound. */
  view(low: Uint8Array, high: Uint8Array, revision: number): OverlayView {
    const blocks: Uint32Array[] = [];
    let count = 0;
    if (this.keys > 0) {
      this.order.from(
        (entry) => this.compareKey(entry, low),
        (entry) => {
          if (high.length !== 0 && this.compareKey(entry, high) >= 0) return false;
          const record = this.recordAsOf(entry, revision);
          if (count % placesPerBlock === 0)
            blocks.push(this.freeBlocks.pop() ?? new Uint32Array(placesPerBlock));
          blocks[blocks.length - 1]![count % placesPerBlock] = this.places[record & this.mask]!;
          count++;
          return true;
        },
      );
    }
    const chunks = count === 0 ? [] : this.chunks.slice();
    return new OverlayView(chunks, this.base, revision, blocks, count, this.freeBlocks);
  }

  /** Lets go of the oldest record. */
  drop(): void {
    const record = this.first;
    this.read(record, this.reader);
    const entry = this.entryOf[record & this.mask]!;
    if (this.newest[entry] === record) this.removeEntry(entry);
    this.bytes -= this.reader.bytes;
    this.first = (record + 1) >>> 0;
    const chunk = this.size === 0 ? -1 : this.places[this.first & this.mask]! >>> 16;
    while (this.chunks.length > 0 && (chunk < 0 || (this.base & 0xffff) !== chunk)) {
      this.chunks.shift();
      this.base = (this.base + 1) & 0xffff;
    }
  }

  /** The newest record of the entry that is not newer than `revision`, or else the oldest. */
  private recordAsOf(entry: number, revision: number): number {
    let record = this.newest[entry]!;
    while (this.revisionOf(record) > revision) {
      const before = this.olderOf(record);
      if (before < 0) break;
      record = before;
    }
    return record;
  }

  private seenAt(record: number, revision: number): number {
    return this.revisionOf(record) <= revision ? seen.here : seen.before;
  }

  private holds(record: number): boolean {
    return (record - this.first) >>> 0 < this.size;
  }

  private locateKey(entry: number): void {
    const place = this.places[this.newest[entry]! & this.mask]!;
    const chunk = this.chunks[((place >>> 16) - this.base) & 0xffff]!;
    // As in RecordReader.kvStart: the head, the event's type and tag, a length, then the key's tag and length.
    let at = (place & 0xffff) + 21;
    at += chunk[at] === 0x08 ? 3 : 1;
    while (chunk[at]! >= 0x80) at++;
    at += 2;
    let length = 0;
    for (let scale = 1; ; scale *= 128) {
      const byte = chunk[at++]!;
      length += (byte & 0x7f) * scale;
      if (byte < 0x80) break;
    }
    this.keyChunk = chunk;
    this.keyStart = at;
    this.keyEnd = at + length;
  }

  private hasKey(entry: number, key: Uint8Array): boolean {
    this.locateKey(entry);
    const { keyChunk, keyStart } = this;
    if (this.keyEnd - keyStart !== key.length) return false;
    for (let i = 0; i < key.length; i++) if (keyChunk[keyStart + i] !== key[i]) return false;
    return true;
  }

  private compareKey(entry: number, key: Uint8Array): number {
    this.locateKey(entry);
    return compareParts(this.keyChunk, this.keyStart, this.keyEnd, key, 0, key.length);
  }

  private compareEntries(a: number, b: number): number {
    this.locateKey(a);
    const { keyChunk, keyStart, keyEnd } = this;
    this.locateKey(b);
    return compareParts(keyChunk, keyStart, keyEnd, this.keyChunk, this.keyStart, this.keyEnd);
  }

  private addEntry(hash: number, record: number): number {
    let entry = this.freeEntry;
    if (entry >= 0) {
      this.freeEntry = this.newest[entry]! - 1;
    } else {
      if (this.entries === this.newest.length) this.growEntries();
      entry = this.entries++;
    }
    this.newest[entry] = record;
    this.hashes[entry] = hash;
    if (++this.keys * 2 > this.slots.length) this.growSlots();
    place(this.slots, hash, entry);
    return entry;
  }

  private removeEntry(entry: number): void {
    this.order.remove(entry);
    const { slots, hashes } = this;
    const mask = slots.length - 1;
    let hole = hashes[entry]! & mask;
    while (slots[hole] !== entry + 1) hole = (hole + 1) & mask;
    // Later entries of the run move back, so that no tombstones are needed.
    for (let s = (hole + 1) & mask; slots[s] !== 0; s = (s + 1) & mask) {
      const home = hashes[slots[s]! - 1]! & mask;
      if (((s - home) & mask) < ((s - hole) & mask)) continue;
      slots[hole] = slots[s]!;
      hole = s;
    }
    slots[hole] = 0;
    this.newest[entry] = this.freeEntry + 1;
    this.freeEntry = entry;
    this.keys--;
  }

  private growRecords(): void {
    const { mask, first, next } = this;
    const grow = <T extends Uint32Array | Float64Array | Uint8Array>(old: T, out: T): T => {
      for (let r = first; r !== next; r = (r + 1) >>> 0) out[r & (2 * mask + 1)] = old[r & mask]!;
      return out;
    };
    const length = 2 * (mask + 1);
    this.places = grow(this.places, new Uint32Array(length));
    this.older = grow(this.older, new Uint32Array(length));
    this.newer = grow(this.newer, new Uint32Array(length));
    this.entryOf = grow(this.entryOf, new Uint32Array(length));
    this.revisions = grow(this.revisions, new Float64Array(length));
    this.flags = grow(this.flags, new Uint8Array(length));
    this.mask = 2 * mask + 1;
  }

  private growEntries(): void {
    const { newest, hashes } = this;
    this.newest = new Uint32Array(2 * newest.length);
    this.newest.set(newest, 0);
    this.hashes = new Uint32Array(2 * hashes.length);
    this.hashes.set(hashes, 0);
    const { addresses } = this;
    this.addresses = new Uint32Array(2 * addresses.length);
    this.addresses.set(addresses, 0);
  }

  private growSlots(): void {
    const old = this.slots;
    this.slots = new Int32Array(2 * old.length);
    for (const slot of old) if (slot !== 0) place(this.slots, this.hashes[slot - 1]!, slot - 1);
  }
}

function place(slots: Int32Array, hash: number, entry: number): void {
  const mask = slots.length - 1;
  let s = hash & mask;
  while (slots[s] !== 0) s = (s + 1) & mask;
  slots[s] = entry + 1;
}

function compareParts(
  a: Uint8Array,
  aStart: number,
  aEnd: number,
  b: Uint8Array,
  bStart: number,
  bEnd: number,
): number {
  const n = Math.min(aEnd - aStart, bEnd - bStart);
  for (let i = 0; i < n; i++) {
    const d = a[aStart + i]! - b[bStart + i]!;
    if (d !== 0) return d;
  }
  return aEnd - aStart - (bEnd - bStart);
}

/**
 * What one reader sees of the overlay: stays as it is whatever happens to the overlay. One that is not closed is garbage
 * like any other.
 */
export class OverlayView {
  readonly records = new RecordReader();
  private readonly chunks: readonly Uint8Array[];
  private readonly base: number;
  private readonly revision: number;
  private readonly blocks: Uint32Array[];
  private readonly freeBlocks: Uint32Array[];
  private count: number;
  private at = 0;

  /** `count` places in `blocks`, which go to `freeBlocks` in the end. */
  constructor(
    chunks: readonly Uint8Array[],
    base: number,
    revision: number,
    blocks: Uint32Array[],
    count: number,
    freeBlocks: Uint32Array[],
  ) {
    this.chunks = chunks;
    this.base = base;
    this.revision = revision;
    this.blocks = blocks;
    this.count = count;
    this.freeBlocks = freeBlocks;
    this.point();
  }

  get ended(): boolean {
    return this.at >= this.count;
  }

  /** How the current record lies to the reader: `seen`. */
  get kind(): number {
    return this.records.revision <= this.revision ? seen.here : seen.before;
  }

  /** How the current key lies to one at `start` of `entryKey`; above everything at the end. */
  compare(entryKey: Uint8Array, start: number): number {
    if (this.ended) return 1;
    const { records } = this;
    return compareParts(records.block, records.keyStart, records.keyEnd, entryKey, start, entryKey.length);
  }

  key(): Uint8Array {
    return this.records.block.slice(this.records.keyStart, this.records.keyEnd);
  }

  advance(): void {
    this.at++;
    this.point();
  }

  /** It has ended then. */
  close(): void {
    this.count = 0;
    const { blocks, freeBlocks } = this;
    for (const block of blocks) if (freeBlocks.length < freeBlocksMax) freeBlocks.push(block);
    blocks.length = 0;
  }

  private point(): void {
    if (this.ended) return;
    const place = this.blocks[Math.floor(this.at / placesPerBlock)]![this.at % placesPerBlock]!;
    this.records.startAt(this.chunks[((place >>> 16) - this.base) & 0xffff]!, place & 0xffff);
    this.records.locateKey();
  }
}
