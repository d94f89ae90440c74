import { assert, compareBytes, type Random, type Timers } from '@quoin/base';
import type { BackendFactory } from '@quoin/member';
import type { Backend, BackendCursor, EntryVisitor } from '@quoin/mvcc';

/** Entries in one block: small enough that inserting moves little, large enough that few blocks are searched. */
const blockEntriesMax = 256;

interface Block {
  keys: Uint8Array[];
  values: Uint8Array[];
}

/**
 * Sorted entries in sorted blocks.
 *
 *   blocks: [ a…c ] [ d…h ] [ k…z ]      a block that grows over its bound is cut in half; an empty one goes
 */
class SortedEntries {
  private blocks: Block[] = [];
  bytes = 0;

  get(key: Uint8Array): Uint8Array | undefined {
    const block = this.blocks[this.blockOf(key)];
    if (block === undefined) return undefined;
    const at = lowerBound(block.keys, key);
    return at < block.keys.length && compareBytes(block.keys[at]!, key) === 0 ? block.values[at] : undefined;
  }

  /** Null deletes. Returns the value that was there. */
  set(key: Uint8Array, value: Uint8Array | null): Uint8Array | null {
    if (this.blocks.length === 0) {
      if (value === null) return null;
      this.blocks.push({ keys: [key], values: [value] });
      this.bytes += key.length + value.length;
      return null;
    }
    const b = Math.min(this.blockOf(key), this.blocks.length - 1);
    const block = this.blocks[b]!;
    const at = lowerBound(block.keys, key);
    const found = at < block.keys.length && compareBytes(block.keys[at]!, key) === 0;
    const before = found ? block.values[at]! : null;
    if (value !== null) this.put(block, b, at, key, value, before);
    else if (found) this.remove(block, b, at);
    return before;
  }

  /** Where a forward read from `key` begins. */
  seek(key: Uint8Array): { block: number; at: number } {
    const block = this.blockOf(key);
    return { block, at: block < this.blocks.length ? lowerBound(this.blocks[block]!.keys, key) : 0 };
  }

  scan(low: Uint8Array, high: Uint8Array, visit: EntryVisitor): void {
    const { block, at } = this.seek(low);
    let i = at;
    for (let b = block; b < this.blocks.length; b++, i = 0) {
      const { keys, values } = this.blocks[b]!;
      for (; i < keys.length; i++) {
        if (compareBytes(keys[i]!, high) >= 0 || !visit(keys[i]!, values[i]!)) return;
      }
    }
  }

  scanReverse(low: Uint8Array, high: Uint8Array, visit: EntryVisitor): void {
    const { block, at } = this.seek(high);
    let i = at - 1;
    for (let b = block; b >= 0; ) {
      const entries = this.blocks[b];
      for (; entries !== undefined && i >= 0; i--) {
        if (compareBytes(entries.keys[i]!, low) < 0 || !visit(entries.keys[i]!, entries.values[i]!)) return;
      }
      b--;
      i = b >= 0 ? this.blocks[b]!.keys.length - 1 : -1;
    }
  }

  private put(
    block: Block,
    b: number,
    at: number,
    key: Uint8Array,
    value: Uint8Array,
    before: Uint8Array | null,
  ): void {
    this.bytes += value.length - (before === null ? -key.length : before.length);
    if (before !== null) {
      block.values[at] = value;
      return;
    }
    block.keys.splice(at, 0, key);
    block.values.splice(at, 0, value);
    if (block.keys.length <= blockEntriesMax) return;
    const half = block.keys.length >> 1;
    this.blocks.splice(b + 1, 0, { keys: block.keys.splice(half), values: block.values.splice(half) });
  }

  private remove(block: Block, b: number, at: number): void {
    this.bytes -= block.keys[at]!.length + block.values[at]!.length;
    block.keys.splice(at, 1);
    block.values.splice(at, 1);
    if (block.keys.length === 0) this.blocks.splice(b, 1);
  }

  /** The first block whose last key is not below `key`. */
  private blockOf(key: Uint8Array): number {
    let low = 0;
    let high = this.blocks.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      const { keys } = this.blocks[middle]!;
      if (compareBytes(keys[keys.length - 1]!, key) < 0) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

function lowerBound(keys: readonly Uint8Array[], key: Uint8Array): number {
  let low = 0;
  let high = keys.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (compareBytes(keys[middle]!, key) < 0) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** What one write replaced, to take it back. */
interface Undo {
  readonly key: Uint8Array;
  readonly before: Uint8Array | null;
}

/** The contents of one engine: they outlive the process that has it open. */
class MemoryEngine {
  readonly entries = new SortedEntries();
  /** Writes that no flush has covered, oldest first. */
  unflushed: Undo[] = [];
  open = false;

  /** A process crash: the newest `lost` writes since the last flush are gone, as if never written. */
  crash(lost: number): void {
    assert(lost >= 0 && lost <= this.unflushed.length, () => `cannot lose ${lost} writes`);
    for (let i = 0; i < lost; i++) {
      const { key, before } = this.unflushed.pop()!;
      this.entries.set(key, before);
    }
    this.unflushed = [];
    this.open = false;
  }

  damage(from: Uint8Array, to: Uint8Array): number {
    const found: [Uint8Array, Uint8Array][] = [];
    this.entries.scan(Uint8Array.of(0), Uint8Array.of(0xff, 0xff), (key, value) => {
      const at = indexOfBytes(value, from);
      if (at >= 0) {
        const changed = value.slice();
        changed.set(to, at);
        found.push([key.slice(), changed]);
      }
      return true;
    });
    for (const [key, value] of found) this.entries.set(key, value);
    return found.length;
  }
}

function indexOfBytes(bytes: Uint8Array, part: Uint8Array): number {
  for (let i = 0; i + part.length <= bytes.length; i++) {
    if (part.every((byte, k) => bytes[i + k] === byte)) return i;
  }
  return -1;
}

export interface MemoryBackendOptions {
  /** For the completion of flush and compact. */
  readonly timers: Timers;
  /** Default 1. */
  readonly flushMs?: number;
}

/** The port of one open engine. After a crash or `close` it answers no more and its callbacks do not come. */
export class MemoryBackend implements Backend {
  /** What `peek` gave last. */
  private peeked: Uint8Array | undefined = undefined;
  private readonly engine: MemoryEngine;
  private readonly options: MemoryBackendOptions;
  private visiting = false;
  private isOpen = true;

  /** Without an engine of a factory: a fresh one. */
  constructor(options: MemoryBackendOptions, engine: MemoryEngine = new MemoryEngine()) {
    this.engine = engine;
    this.options = options;
    engine.open = true;
  }

  get(key: Uint8Array): Uint8Array | undefined {
    this.check();
    return this.engine.entries.get(key)?.slice();
  }

  /** Not a view: whoever changes or keeps it too long must not find out only in the real world. */
  peek(key: Uint8Array): Uint8Array | undefined {
    this.peeked?.fill(0xdb);
    this.peeked = this.get(key);
    return this.peeked;
  }

  scan(low: Uint8Array, high: Uint8Array, reverse: boolean, visit: EntryVisitor): void {
    this.check();
    this.visiting = true;
    try {
      if (reverse) this.engine.entries.scanReverse(low, high, visit);
      else this.engine.entries.scan(low, high, visit);
    } finally {
      this.visiting = false;
    }
  }

  put(key: Uint8Array, value: Uint8Array | null): void {
    this.check();
    assert(key.length > 0, 'a key is empty');
    const own = key.slice();
    const before = this.engine.entries.set(own, value?.slice() ?? null);
    this.engine.unflushed.push({ key: own, before });
  }

  flush(cb: (error: Error | null) => void): void {
    this.check();
    const covered = this.engine.unflushed.at(-1);
    this.options.timers.after(this.options.flushMs ?? 1, () => {
      if (!this.isOpen) return;
      // Flushes end in order, and each covers what was written before it was asked for.
      const at = covered === undefined ? -1 : this.engine.unflushed.indexOf(covered);
      if (at >= 0) this.engine.unflushed.splice(0, at + 1);
      cb(null);
    });
  }

  cursor(low: Uint8Array, high: Uint8Array): BackendCursor {
    this.check();
    const keys: Uint8Array[] = [];
    const values: Uint8Array[] = [];
    this.engine.entries.scan(low, high, (key, value) => {
      keys.push(key);
      values.push(value);
      return true;
    });
    return new MemoryCursor(keys, values);
  }

  compact(_low: Uint8Array, _high: Uint8Array, cb: (error: Error | null) => void): void {
    this.check();
    this.options.timers.after(this.options.flushMs ?? 1, () => {
      if (this.isOpen) cb(null);
    });
  }

  sizes(): { totalBytes: number; inUseBytes: number } {
    const { bytes } = this.engine.entries;
    return { totalBytes: bytes, inUseBytes: bytes };
  }

  /** Writes that a crash may take. */
  get unflushedWrites(): number {
    return this.engine.unflushed.length;
  }

  /** Loses the newest `lost` writes since the last flush; the entries go on in the backend that is returned. */
  crash(lost: number): MemoryBackend {
    this.isOpen = false;
    this.engine.crash(lost);
    return new MemoryBackend(this.options, this.engine);
  }

  /** Flushes, as RocksDB does. */
  close(): void {
    if (!this.isOpen) return;
    this.isOpen = false;
    this.engine.unflushed = [];
    this.engine.open = false;
  }

  private check(): void {
    assert(this.isOpen && this.engine.open, 'the backend is closed');
    assert(!this.visiting, 'the backend was used inside a visit');
  }
}

/** Holds the entries of the moment it was made: values are never changed in place, so references are enough. */
class MemoryCursor implements BackendCursor {
  private keys: Uint8Array[];
  private values: Uint8Array[];
  private at = 0;
  private open = true;

  constructor(keys: Uint8Array[], values: Uint8Array[]) {
    this.keys = keys;
    this.values = values;
  }

  next(maxBytes: number, visit: EntryVisitor): boolean {
    assert(this.open, 'the cursor is closed');
    let left = maxBytes;
    while (this.at < this.keys.length) {
      const key = this.keys[this.at]!;
      const value = this.values[this.at]!;
      this.at++;
      left -= key.length + value.length;
      if (!visit(key, value) || left <= 0) return true;
    }
    return false;
  }

  close(): void {
    this.open = false;
    this.keys = [];
    this.values = [];
  }
}

/** The engines of one simulated node: they outlive its process. */
export class MemoryEngines {
  private readonly engines = new Map<string, MemoryEngine>();

  /** What one life of the node opens them through. */
  port(options: MemoryBackendOptions): BackendFactory {
    return new MemoryBackendFactory(this.engines, options);
  }

  /** What a disk that lies does: bytes change in every value of the open engine that has them. Returns in how many. */
  damage(from: Uint8Array, to: Uint8Array): number {
    let changed = 0;
    for (const engine of this.engines.values()) if (engine.open) changed += engine.damage(from, to);
    return changed;
  }

  /** The process dies: every engine loses a random suffix of what was not flushed. */
  crash(random: Random): void {
    for (const engine of this.engines.values()) engine.crash(random.u32() % (engine.unflushed.length + 1));
  }
}

class MemoryBackendFactory implements BackendFactory {
  private readonly engines: Map<string, MemoryEngine>;
  private readonly options: MemoryBackendOptions;

  constructor(engines: Map<string, MemoryEngine>, options: MemoryBackendOptions) {
    this.engines = engines;
    this.options = options;
  }

  open(name: string, cb: (error: Error | null, backend: Backend | null) => void): void {
    this.later(() => {
      const engine = this.engines.get(name) ?? new MemoryEngine();
      if (engine.open) return cb(new Error(`engine ${name} is in use`), null);
      this.engines.set(name, engine);
      cb(null, new MemoryBackend(this.options, engine));
    });
  }

  list(cb: (error: Error | null, names: string[]) => void): void {
    this.later(() => cb(null, [...this.engines.keys()].sort()));
  }

  remove(name: string, cb: (error: Error | null) => void): void {
    this.later(() => {
      if (this.engines.get(name)?.open === true) return cb(new Error(`engine ${name} is in use`));
      this.engines.delete(name);
      cb(null);
    });
  }

  rename(from: string, to: string, cb: (error: Error | null) => void): void {
    this.later(() => {
      const engine = this.engines.get(from);
      if (engine === undefined) return cb(new Error(`engine ${from} does not exist`));
      if (engine.open) return cb(new Error(`engine ${from} is in use`));
      if (this.engines.has(to)) return cb(new Error(`engine ${to} exists already`));
      this.engines.delete(from);
      this.engines.set(to, engine);
      cb(null);
    });
  }

  private later(work: () => void): void {
    this.options.timers.after(0, work);
  }
}
