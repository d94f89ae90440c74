import type { Prng } from '@quoin/base';

/** Unit in which a disk writes atomically. */
const sectorBytes = 512;

/** A change that no sync has covered: bytes at an offset, or (bytes undefined) a new length. */
interface Unsynced {
  readonly offset: number;
  readonly bytes: Uint8Array | undefined;
}

/** A byte array that grows by doubling. */
class Content {
  length: number;
  private bytes: Uint8Array;

  constructor(bytes: Uint8Array = new Uint8Array(0), length: number = bytes.length) {
    this.bytes = bytes;
    this.length = length;
  }

  copy(): Content {
    return new Content(this.bytes.slice(0, this.length));
  }

  slice(from: number, to: number): Uint8Array {
    return this.bytes.slice(Math.min(from, this.length), Math.min(to, this.length));
  }

  write(offset: number, data: Uint8Array): void {
    this.reserve(offset + data.length);
    this.bytes.set(data, offset);
    this.length = Math.max(this.length, offset + data.length);
  }

  setLength(length: number): void {
    this.reserve(length);
    if (length < this.length) this.bytes.fill(0, length, this.length);
    this.length = length;
  }

  flipBit(bit: number): void {
    this.bytes[bit >> 3]! ^= 1 << (bit & 7);
  }

  private reserve(length: number): void {
    if (length <= this.bytes.length) return;
    const grown = new Uint8Array(Math.max(length, this.bytes.length * 2));
    grown.set(this.bytes.subarray(0, this.length));
    this.bytes = grown;
  }
}

/** One file: what readers see, what survives a power failure for certain, and the changes between the two. */
export class Inode {
  private seen: Content;
  private durable: Content;
  private changes: Unsynced[];
  private synced = 0;

  constructor(seen = new Content(), durable = new Content(), changes: Unsynced[] = []) {
    this.seen = seen;
    this.durable = durable;
    this.changes = changes;
  }

  get length(): number {
    return this.seen.length;
  }

  /** Changes made so far: given to `sync` later, it covers these and none that came after. */
  get position(): number {
    return this.synced + this.changes.length;
  }

  clone(): Inode {
    return new Inode(this.seen.copy(), this.durable.copy(), [...this.changes]);
  }

  read(offset: number, length: number): Uint8Array {
    return this.seen.slice(offset, offset + length);
  }

  write(offset: number, chunks: readonly Uint8Array[]): void {
    let at = offset;
    for (const chunk of chunks) {
      this.seen.write(at, chunk);
      // A copy: the bytes are the file's now, whatever the writer does with its buffer.
      this.changes.push({ offset: at, bytes: chunk.slice() });
      at += chunk.length;
    }
  }

  setLength(length: number): void {
    this.seen.setLength(length);
    this.changes.push({ offset: length, bytes: undefined });
  }

  sync(position: number): void {
    for (const change of this.take(position)) apply(this.durable, change);
  }

  /** A failed sync: the pages are marked clean, some had reached the disk, and the kernel will never write the rest. */
  syncFailed(position: number, prng: Prng): void {
    for (const change of this.take(position)) if (prng.chance(0.5)) apply(this.durable, change);
  }

  flipBit(bit: number): void {
    this.seen.flipBit(bit);
    if (bit >> 3 < this.durable.length) this.durable.flipBit(bit);
  }

  afterPowerLoss(prng: Prng, outcome: 'random' | 'lost' | 'kept' | 'torn' | 'scattered'): Inode {
    const fate = outcome === 'random' ? prng.pick(['lost', 'kept', 'torn', 'scattered'] as const) : outcome;
    const content = this.durable.copy();
    if (fate === 'kept') for (const change of this.changes) apply(content, change);
    if (fate === 'torn') this.applyTorn(content, prng);
    if (fate === 'scattered') this.applyScattered(content, prng);
    return new Inode(content, content.copy(), []);
  }

  private take(position: number): Unsynced[] {
    const taken = this.changes.splice(0, Math.max(position - this.synced, 0));
    this.synced += taken.length;
    return taken;
  }

  // All changes up to one of them, and that one up to a sector boundary of the file.
  private applyTorn(content: Content, prng: Prng): void {
    const whole = prng.below(this.changes.length + 1);
    for (const change of this.changes.slice(0, whole)) apply(content, change);
    const last = this.changes[whole];
    if (last?.bytes === undefined) return;
    const sectors = sectorPieces(last.offset, last.bytes);
    for (const piece of sectors.slice(0, prng.below(sectors.length + 1))) apply(content, piece);
  }

  // The drive writes in the order it likes: any set of sectors, the file's length included.
  private applyScattered(content: Content, prng: Prng): void {
    for (const change of this.changes) {
      if (change.bytes === undefined) {
        if (prng.chance(0.5)) apply(content, change);
        continue;
      }
      for (const piece of sectorPieces(change.offset, change.bytes))
        if (prng.chance(0.5)) apply(content, piece);
    }
  }
}

function apply(content: Content, change: Unsynced): void {
  if (change.bytes === undefined) content.setLength(change.offset);
  else content.write(change.offset, change.bytes);
}

function sectorPieces(offset: number, bytes: Uint8Array): Unsynced[] {
  const pieces: Unsynced[] = [];
  let at = 0;
  while (at < bytes.length) {
    const room = sectorBytes - ((offset + at) % sectorBytes);
    const end = Math.min(at + room, bytes.length);
    pieces.push({ offset: offset + at, bytes: bytes.subarray(at, end) });
    at = end;
  }
  return pieces;
}
