/**
 * HashKV as etcd has it: CRC-32C over the name of its bucket and then, in order of revision, over key and value of every
 * entry that its file holds and whose revision is at most R:
 *
 *   main(8) '_' sub(8) → KeyValue bytes             a put
 *   main(8) '_' sub(8) 't' → KeyValue{key}          a tombstone
 *
 * Of those up to the compact revision C only what is alive at R counts (all that is alive at C, if nothing is at R), so it
 * does not matter how far removal has come. They are found in key order: each gets a checksum of its own, those are sorted
 * by revision and combined, since CRC is linear. What is later comes in order from the event log.
 */
import { assert, crc32c, crc32cCombine, Heap, utf8, writeCounterBE, writeU32BE } from '@quoin/base';
import { readHistory } from './history.ts';
import { eventKv, KeyValueReader } from './key-value.ts';
import { RangeReader } from './range-reader.ts';
import type { StoreState } from './state.ts';
import type { WatchHub } from './watch-hub.ts';

const everyKey = { key: new Uint8Array(1), rangeEnd: new Uint8Array(1) };
/** Entries of one slice, and of one block that is sorted at once. */
const sliceEntries = 200;
const sliceBytes = 128 * 1024;
const blockEntries = 4096;
const mergeEntries = 5_000;

export class KvHasher {
  readonly revision: number;
  readonly compactRevision: number;
  private readonly state: StoreState;
  private readonly hub: WatchHub;
  private readonly key = new RevisionKey();
  private readonly reader = new KeyValueReader();
  private readonly sorter = new ChecksumSorter();
  private old: RangeReader | undefined;
  private phase: 'old' | 'merge' | 'events' | 'done';
  private nextRevision: number;
  private crc: number;
  private open: boolean;

  /** Only right after a commit. `revision` is one that can be read. Must be stepped to its end or closed. */
  constructor(state: StoreState, hub: WatchHub, revision: number) {
    assert(!state.uncommitted, 'a hash was asked for between apply and commit');
    this.state = state;
    this.hub = hub;
    this.revision = revision;
    this.compactRevision = state.compactRevision;
    this.crc = crc32c(utf8('key'));
    this.nextRevision = Math.max(this.compactRevision, 0) + 1;
    this.old = undefined;
    this.open = true;
    // Removal waits, so what is read below is there whatever is compacted meanwhile.
    state.pins++;
    this.phase = 'events';
    if (this.compactRevision > 0 && revision > 0) this.beginOld(revision);
  }

  /** One slice, a millisecond or two; true when the hash is there. */
  step(): boolean {
    assert(this.open, 'the hasher is closed');
    if (this.phase === 'old') this.stepOld();
    else if (this.phase === 'merge') this.stepMerge();
    else if (this.phase === 'events') this.stepEvents();
    return this.phase === 'done';
  }

  /** After `step` returned true. */
  hash(): number {
    assert(this.phase === 'done', 'the history has not been hashed to its end');
    return this.crc;
  }

  close(): void {
    if (!this.open) return;
    this.open = false;
    this.old?.close();
    this.state.pins--;
  }

  private beginOld(revision: number): void {
    const { state, compactRevision } = this;
    this.old = new RangeReader(state, {
      ...everyKey,
      revision,
      maxModRevision: compactRevision,
      drained: true,
    });
    this.phase = 'old';
  }

  private stepOld(): void {
    const reader = this.old!;
    const ended = reader.step(sliceEntries);
    reader.drain((kv, sub) => this.addOld(kv, sub));
    if (!ended) return;
    const { count } = reader.result();
    reader.close();
    this.old = undefined;
    const readAt = reader.readRevision === 0 ? this.revision : reader.readRevision;
    if (count === 0 && readAt !== this.compactRevision) return this.beginOld(this.compactRevision);
    this.sorter.end();
    this.phase = 'merge';
  }

  private addOld(kv: Uint8Array, sub: number): void {
    this.reader.readHead(kv);
    const mod = this.reader.modRevision;
    const key = this.key.put(mod, sub);
    this.sorter.add(mod, sub, crc32c(kv, crc32c(key)), key.length + kv.length);
  }

  private stepMerge(): void {
    const ended = this.sorter.take(mergeEntries, (crc, bytes) => {
      this.crc = crc32cCombine(this.crc, crc, bytes);
    });
    if (ended) this.phase = 'events';
  }

  private stepEvents(): void {
    if (this.nextRevision > this.revision) {
      this.phase = 'done';
      return;
    }
    const found = readHistory(this.state, this.hub, {
      bounds: undefined,
      from: this.nextRevision,
      to: this.revision,
      prevKv: false,
      maxBytes: sliceBytes,
      compactRevision: this.compactRevision,
    });
    for (const { revision, events } of found.revisions) {
      for (let sub = 0; sub < events.length; sub++) this.addEvent(revision, sub, events[sub]!);
    }
    this.nextRevision = found.nextRevision;
  }

  private addEvent(revision: number, sub: number, event: Uint8Array): void {
    const kv = eventKv(event);
    if (event[0] !== 0x08) {
      this.crc = crc32c(kv, crc32c(this.key.put(revision, sub), this.crc));
      return;
    }
    // etcd stores a tombstone with its key alone.
    this.reader.readKey(kv);
    const bare = kv.subarray(0, this.reader.keyEnd);
    this.crc = crc32c(bare, crc32c(this.key.tombstone(revision, sub), this.crc));
  }
}

/** Keys of etcd's bucket `key`; each is valid until the next. */
export class RevisionKey {
  private readonly bytes: Uint8Array = new Uint8Array(18);
  private readonly short: Uint8Array;

  constructor() {
    this.bytes[8] = 0x5f;
    this.bytes[17] = 0x74;
    this.short = this.bytes.subarray(0, 17);
  }

  put(main: number, sub: number): Uint8Array {
    writeCounterBE(this.bytes, 0, main);
    writeU32BE(this.bytes, 13, sub);
    return this.short;
  }

  tombstone(main: number, sub: number): Uint8Array {
    this.put(main, sub);
    return this.bytes;
  }
}

/** A sorted run of checksums. */
interface Block {
  readonly mods: Float64Array;
  readonly subs: Uint32Array;
  readonly crcs: Uint32Array;
  readonly lengths: Uint32Array;
  order: Uint32Array;
  used: number;
  next: number;
}

/** Brings checksums into order of revision: sorted in blocks as they come, then merged. 24 bytes an entry, off heap. */
class ChecksumSorter {
  private readonly blocks: Block[] = [];
  private current: Block = newBlock();
  private heap: Heap<Block> | undefined = undefined;

  add(mod: number, sub: number, crc: number, length: number): void {
    const block = this.current;
    const at = block.used++;
    block.mods[at] = mod;
    block.subs[at] = sub;
    block.crcs[at] = crc;
    block.lengths[at] = length;
    if (block.used < blockEntries) return;
    this.seal();
    this.current = newBlock();
  }

  end(): void {
    this.seal();
    this.heap = new Heap<Block>(compareHeads);
    for (const block of this.blocks) this.heap.push(block);
  }

  /** The next ones, up to `max`; true when there are no more. */
  take(max: number, visit: (crc: number, length: number) => void): boolean {
    const heap = this.heap!;
    for (let left = max; left > 0; left--) {
      const block = heap.pop();
      if (block === undefined) return true;
      const at = block.order[block.next++]!;
      visit(block.crcs[at]!, block.lengths[at]!);
      if (block.next < block.used) heap.push(block);
    }
    return false;
  }

  private seal(): void {
    const block = this.current;
    if (block.used === 0) return;
    const { mods, subs } = block;
    block.order = Uint32Array.from({ length: block.used }, (_, i) => i);
    block.order.sort((a, b) => mods[a]! - mods[b]! || subs[a]! - subs[b]!);
    this.blocks.push(block);
  }
}

function newBlock(): Block {
  return {
    mods: new Float64Array(blockEntries),
    subs: new Uint32Array(blockEntries),
    crcs: new Uint32Array(blockEntries),
    lengths: new Uint32Array(blockEntries),
    order: new Uint32Array(0),
    used: 0,
    next: 0,
  };
}

function compareHeads(a: Block, b: Block): number {
  const i = a.order[a.next]!;
  const j = b.order[b.next]!;
  return a.mods[i]! - b.mods[j]! || a.subs[i]! - b.subs[j]!;
}
