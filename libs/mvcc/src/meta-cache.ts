/** Longer keys are never kept: their puts read the previous version. */
const keyBytesMax = 4096;
const unitBytes = 16;
const headBytes = 36;
const shardCount = 64;
const evictTriesMax = 32;

/**
 * What a put must know of a key's latest version, kept off the JavaScript heap: no object per key.
 *
 *   shard (by hash) → open addressing, pairs (hash, address); address 0 is free
 *   address         → segment (address >>> segmentBits), unit of 16 bytes within it
 *   entry           → f64 createRevision, modRevision, version · u32 leaseHigh, leaseLow
 *                     · u32 keyLength (bit 31: used since the hand last passed) · key
 *
 * Freed entries wait in a list per size (in units), linked through their first word. At the bound an entry of the same
 * shard goes, second chance first; from then on the cache is not complete, and a miss says nothing.
 */
export class MetaCache {
  /** It holds every live key (except very long ones), so that a miss is an answer. */
  complete: boolean;
  /** Some key could not be kept, so it will never be complete again. */
  overflowed = false;
  private readonly bytesMax: number;
  private readonly segmentUnits: number;
  private readonly segmentBits: number;
  private readonly segments: Segment[] = [];
  /** Next free unit of the newest segment. */
  private fresh = 0;
  private readonly free: Uint32Array = new Uint32Array(Math.ceil((headBytes + keyBytesMax) / unitBytes) + 1);
  private readonly shards: Shard[] = [];
  private tableBytes = 0;
  private entries = 0;

  constructor(bytesMax: number, complete: boolean) {
    this.bytesMax = bytesMax;
    this.complete = complete;
    this.segmentBits = bytesMax >= 16 << 20 ? 16 : 10;
    this.segmentUnits = 1 << this.segmentBits;
    for (let i = 0; i < shardCount; i++) this.shards.push(new Shard());
    this.tableBytes = shardCount * this.shards[0]!.pairs.byteLength;
  }

  get size(): number {
    return this.entries;
  }

  get bytes(): number {
    return this.segments.length * this.segmentUnits * unitBytes + this.tableBytes;
  }

  holds(keyLength: number): boolean {
    return keyLength <= keyBytesMax;
  }

  /** Address of the key's entry, or 0. Valid until the next `set` or `remove`. */
  find(key: Uint8Array, hash: number): number {
    const { pairs, mask } = this.shards[hash >>> 26]!;
    for (let s = hash & mask; ; s = (s + 1) & mask) {
      const address = pairs[2 * s + 1]!;
      if (address === 0) return 0;
      if (pairs[2 * s] === hash && this.hasKey(address, key)) {
        const words = this.words(address);
        words[this.word(address) + 8]! |= 0x8000_0000;
        return address;
      }
    }
  }

  createRevision(address: number): number {
    return this.segment(address).floats[this.float(address)]!;
  }

  modRevision(address: number): number {
    return this.segment(address).floats[this.float(address) + 1]!;
  }

  version(address: number): number {
    return this.segment(address).floats[this.float(address) + 2]!;
  }

  /** Signed. */
  lease(address: number): bigint {
    const words = this.words(address);
    const at = this.word(address);
    const high = words[at + 6]!;
    const low = words[at + 7]!;
    return high === 0 && low === 0 ? 0n : BigInt.asIntN(64, (BigInt(high) << 32n) | BigInt(low));
  }

  update(address: number, createRevision: number, modRevision: number, version: number, lease: bigint): void {
    const { floats, words } = this.segment(address);
    const at = this.float(address);
    floats[at] = createRevision;
    floats[at + 1] = modRevision;
    floats[at + 2] = version;
    words[2 * at + 6] = lease === 0n ? 0 : Number((lease >> 32n) & 0xffff_ffffn);
    words[2 * at + 7] = lease === 0n ? 0 : Number(lease & 0xffff_ffffn);
  }

  /** Adds a key that `find` did not find. Does nothing for one that it cannot keep. */
  add(
    key: Uint8Array,
    hash: number,
    createRevision: number,
    modRevision: number,
    version: number,
    lease: bigint,
  ): void {
    if (key.length > keyBytesMax) return;
    const shard = this.shards[hash >>> 26]!;
    const address = this.allocate(Math.ceil((headBytes + key.length) / unitBytes), shard);
    if (address === 0) return;
    const segment = this.segment(address);
    segment.words[this.word(address) + 8] = key.length;
    segment.bytes.set(key, this.byte(address) + headBytes);
    this.update(address, createRevision, modRevision, version, lease);
    this.tableBytes += shard.insert(hash, address);
    this.entries++;
  }

  remove(key: Uint8Array, hash: number): void {
    const shard = this.shards[hash >>> 26]!;
    const { pairs, mask } = shard;
    for (let s = hash & mask; ; s = (s + 1) & mask) {
      const address = pairs[2 * s + 1]!;
      if (address === 0) return;
      if (pairs[2 * s] === hash && this.hasKey(address, key)) return this.drop(shard, s, address);
    }
  }

  private drop(shard: Shard, slot: number, address: number): void {
    shard.remove(slot);
    const words = this.words(address);
    const at = this.word(address);
    const units = Math.ceil((headBytes + (words[at + 8]! & 0x7fff_ffff)) / unitBytes);
    words[at] = this.free[units]!;
    this.free[units] = address;
    this.entries--;
  }

  private allocate(units: number, shard: Shard): number {
    let address = this.take(units);
    if (address !== 0) return address;
    if (this.segments.length !== 0 && this.fresh + units <= this.segmentUnits) return this.bump(units);
    if (this.bytes + this.segmentUnits * unitBytes <= this.bytesMax) {
      this.segments.push(new Segment(this.segmentUnits * unitBytes));
      // Address 0 means none, so the very first unit stays unused.
      this.fresh = this.segments.length === 1 ? 1 : 0;
      return this.bump(units);
    }
    this.complete = false;
    this.overflowed = true;
    for (let tries = 0; tries < evictTriesMax && address === 0; tries++) {
      this.evictNext(shard);
      address = this.take(units);
    }
    return address;
  }

  private take(units: number): number {
    const address = this.free[units]!;
    if (address !== 0) this.free[units] = this.words(address)[this.word(address)]!;
    return address;
  }

  private bump(units: number): number {
    const address = (this.segments.length - 1) * this.segmentUnits + this.fresh;
    this.fresh += units;
    return address;
  }

  private evictNext(shard: Shard): void {
    const { pairs, mask } = shard;
    shard.hand = (shard.hand + 1) & mask;
    const address = pairs[2 * shard.hand + 1]!;
    if (address === 0) return;
    const words = this.words(address);
    const at = this.word(address) + 8;
    if (words[at]! >= 0x8000_0000) words[at] = words[at]! & 0x7fff_ffff;
    else this.drop(shard, shard.hand, address);
  }

  private hasKey(address: number, key: Uint8Array): boolean {
    const { words, bytes } = this.segment(address);
    if ((words[this.word(address) + 8]! & 0x7fff_ffff) !== key.length) return false;
    const at = this.byte(address) + headBytes;
    for (let i = 0; i < key.length; i++) if (bytes[at + i] !== key[i]) return false;
    return true;
  }

  private segment(address: number): Segment {
    return this.segments[address >>> this.segmentBits]!;
  }

  private words(address: number): Uint32Array {
    return this.segments[address >>> this.segmentBits]!.words;
  }

  private byte(address: number): number {
    return (address & (this.segmentUnits - 1)) * unitBytes;
  }

  private word(address: number): number {
    return (address & (this.segmentUnits - 1)) * 4;
  }

  private float(address: number): number {
    return (address & (this.segmentUnits - 1)) * 2;
  }
}

class Segment {
  readonly bytes: Uint8Array;
  readonly words: Uint32Array;
  readonly floats: Float64Array;

  constructor(size: number) {
    const buffer = new ArrayBuffer(size);
    this.bytes = new Uint8Array(buffer);
    this.words = new Uint32Array(buffer);
    this.floats = new Float64Array(buffer);
  }
}

/** Small tables that grow one by one, so that no single put pays for rehashing all keys. */
class Shard {
  pairs: Uint32Array = new Uint32Array(2 * 64);
  mask = 63;
  hand = 0;
  private count = 0;

  /** Returns by how many bytes the table grew. */
  insert(hash: number, address: number): number {
    let grown = 0;
    if ((this.count + 1) * 4 > (this.mask + 1) * 3) grown = this.grow();
    this.place(hash, address);
    this.count++;
    return grown;
  }

  private place(hash: number, address: number): void {
    const { pairs, mask } = this;
    let s = hash & mask;
    while (pairs[2 * s + 1] !== 0) s = (s + 1) & mask;
    pairs[2 * s] = hash;
    pairs[2 * s + 1] = address;
  }

  /** Moves later entries of the run back, so that no tombstones are needed. */
  remove(slot: number): void {
    const { pairs, mask } = this;
    let hole = slot;
    for (let s = (slot + 1) & mask; pairs[2 * s + 1] !== 0; s = (s + 1) & mask) {
      const home = pairs[2 * s]! & mask;
      if (((s - home) & mask) < ((s - hole) & mask)) continue;
      pairs[2 * hole] = pairs[2 * s]!;
      pairs[2 * hole + 1] = pairs[2 * s + 1]!;
      hole = s;
    }
    pairs[2 * hole + 1] = 0;
    this.count--;
  }

  private grow(): number {
    const old = this.pairs;
    this.pairs = new Uint32Array(old.length * 2);
    this.mask = this.mask * 2 + 1;
    this.hand = 0;
    for (let s = 0; s < old.length; s += 2) if (old[s + 1] !== 0) this.place(old[s]!, old[s + 1]!);
    return this.pairs.byteLength - old.byteLength;
  }
}
