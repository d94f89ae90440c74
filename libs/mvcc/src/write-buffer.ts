import { compareBytes, equalBytes } from '@quoin/base';
import type { Backend, EntryVisitor } from './backend.ts';
import type { Redo } from './layout.ts';

/** FNV-1a with a final mix: good enough spread for open addressing over short keys. */
export function hashBytes(bytes: Uint8Array): number {
  let h = 0x811c9dc5;
  for (let i = 0; i < bytes.length; i++) h = Math.imul(h ^ bytes[i]!, 0x01000193);
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  return (h ^ (h >>> 13)) >>> 0;
}

const none: Uint8Array = new Uint8Array(0);

/**
 * The entries of A and T that the next commit writes and, above the backend, a view in which they have already been
 * written.
 *
 * Puts only append. The index by key is built when the first point read comes, for what was appended since.
 */
export class WriteBuffer implements Redo {
  readonly keys: Uint8Array[] = [];
  readonly values: (Uint8Array | null)[] = [];
  private readonly backend: Backend;
  /** Open addressing over positions + 1 in `keys`; 0 is free. Only the newest position of a key is in it. */
  private slots: Int32Array = new Int32Array(256);
  private hashes: Uint32Array = new Uint32Array(256);
  private indexed = 0;
  private used = 0;

  constructor(backend: Backend) {
    this.backend = backend;
  }

  get size(): number {
    return this.keys.length;
  }

  /** A null value deletes. Neither array may change before the commit. */
  put(key: Uint8Array, value: Uint8Array | null): void {
    this.keys.push(key);
    this.values.push(value);
  }

  /** Writes the entries, one by one, and empties the buffer. */
  commit(): void {
    const { keys, values } = this;
    for (let i = 0; i < keys.length; i++) this.backend.put(keys[i]!, values[i]!);
    keys.length = 0;
    values.length = 0;
    if (this.indexed !== 0) this.slots.fill(0);
    this.indexed = 0;
    this.used = 0;
  }

  get(key: Uint8Array): Uint8Array | undefined {
    if (this.keys.length !== 0) {
      const i = this.find(key);
      if (i >= 0) return this.values[i] ?? undefined;
    }
    return this.backend.get(key);
  }

  /** As Backend.scan forwards, over both. The visitor may not use the backend, nor append. */
  scan(low: Uint8Array, high: Uint8Array, visit: EntryVisitor): void {
    const pending = this.pendingBetween(low, high);
    if (pending.length === 0) return this.backend.scan(low, high, false, visit);
    const merge = new PendingMerge(this, pending, visit);
    this.backend.scan(low, high, false, (key, value) => merge.offer(key, value));
    merge.finish();
  }

  /** Positions of the newest appended entry of each key in low ≤ key < high, in key order. */
  private pendingBetween(low: Uint8Array, high: Uint8Array): number[] {
    const { keys } = this;
    const found: number[] = [];
    const first = low[0]!;
    const last = high[0]!;
    for (let i = 0; i < keys.length; i++) {
      const key = keys[i]!;
      if (key[0]! < first || key[0]! > last) continue;
      if (compareBytes(key, low) >= 0 && compareBytes(key, high) < 0) found.push(i);
    }
    if (found.length < 2) return found;
    found.sort((a, b) => compareBytes(keys[a]!, keys[b]!) || a - b);
    return found.filter((at, i) => i + 1 === found.length || !equalBytes(keys[at]!, keys[found[i + 1]!]!));
  }

  private find(key: Uint8Array): number {
    this.index();
    const mask = this.slots.length - 1;
    const hash = hashBytes(key);
    for (let s = hash & mask; ; s = (s + 1) & mask) {
      const at = this.slots[s]!;
      if (at === 0) return -1;
      if (this.hashes[s] === hash && equalBytes(this.keys[at - 1]!, key)) return at - 1;
    }
  }

  private index(): void {
    for (; this.indexed < this.keys.length; this.indexed++) {
      if (this.used * 2 >= this.slots.length) this.grow();
      this.insert(hashBytes(this.keys[this.indexed]!), this.indexed);
    }
  }

  private insert(hash: number, position: number): void {
    const mask = this.slots.length - 1;
    for (let s = hash & mask; ; s = (s + 1) & mask) {
      const at = this.slots[s]!;
      if (at === 0) this.used++;
      else if (this.hashes[s] !== hash || !equalBytes(this.keys[at - 1]!, this.keys[position]!)) continue;
      this.slots[s] = position + 1;
      this.hashes[s] = hash;
      return;
    }
  }

  private grow(): void {
    const { slots, hashes } = this;
    this.slots = new Int32Array(slots.length * 2);
    this.hashes = new Uint32Array(slots.length * 2);
    this.used = 0;
    for (let s = 0; s < slots.length; s++) if (slots[s] !== 0) this.insert(hashes[s]!, slots[s]! - 1);
  }
}

/** Puts sorted pending entries between those of a backend scan; of equal keys the pending one wins. */
class PendingMerge {
  private readonly buffer: WriteBuffer;
  private readonly pending: readonly number[];
  private readonly visit: EntryVisitor;
  private next = 0;
  private ended = false;

  constructor(buffer: WriteBuffer, pending: readonly number[], visit: EntryVisitor) {
    this.buffer = buffer;
    this.pending = pending;
    this.visit = visit;
  }

  offer(key: Uint8Array, value: Uint8Array): boolean {
    const { buffer, pending } = this;
    while (this.next < pending.length) {
      const order = compareBytes(buffer.keys[pending[this.next]!]!, key);
      if (order > 0) break;
      if (!this.emit()) return false;
      if (order === 0) return true;
    }
    if (!this.visit(key, value)) this.ended = true;
    return !this.ended;
  }

  finish(): void {
    while (!this.ended && this.next < this.pending.length) this.emit();
  }

  private emit(): boolean {
    const at = this.pending[this.next++]!;
    const value = this.buffer.values[at];
    if (value !== null && !this.visit(this.buffer.keys[at]!, value ?? none)) this.ended = true;
    return !this.ended;
  }
}
