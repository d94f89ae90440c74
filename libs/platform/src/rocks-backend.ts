import {
  closeSync,
  existsSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
} from 'node:fs';
import { createRequire } from 'node:module';
import { join, resolve } from 'node:path';
import { assert } from '@quoin/base';
import type { BackendFactory } from '@quoin/member';
import type { Backend, BackendCursor, EngineFigures, EntryVisitor } from '@quoin/mvcc';
import { StoreError, storeRemedy } from './store-error.ts';

/*
 * Our typed view of the native classes in @harperfast/rocksdb-js-linux-x64-glibc. They are internal to that project,
 * so the version is pinned exactly and tests/contract/backend.test.ts holds it to what we rely on.
 */
interface NativeIterator {
  /** 0: done. 1: key and value are in the shared buffers. An object when they did not fit. */
  next(): number | { key: Uint8Array; value?: Uint8Array };
  return(): void;
}
interface NativeDatabase {
  open(path: string, options: object): void;
  close(): void;
  setDefaultKeyBuffer(buffer: Uint8Array): void;
  setDefaultValueBuffer(buffer: Uint8Array): void;
  setIteratorState(buffer: Uint8Array): void;
  /** A number: the length of the value, which is in the shared value buffer. */
  getSync(key: Uint8Array, flags: number): Uint8Array | number | undefined;
  putSync(key: Uint8Array, value: Uint8Array): void;
  removeSync(key: Uint8Array): void;
  flush(ok: () => void, failed: (error: Error) => void): void;
  flushSync(): void;
  createCheckpoint(ok: () => void, failed: (error: Error) => void, dir: string): void;
  compact(
    ok: () => void,
    failed: (error: Error) => void,
    low: Uint8Array | undefined,
    high: Uint8Array | undefined,
    bottommost: boolean,
  ): void;
  getDBIntProperty(name: string): number | undefined;
  getDBProperty(name: string): string | undefined;
}
interface NativeModule {
  readonly version: string;
  config(options: object): void;
  readonly Database: new () => NativeDatabase;
  readonly Iterator: new (
    db: NativeDatabase,
    flags: number,
    startLength: number,
    endStart: number,
    endEnd: number,
    options: object,
  ) => NativeIterator;
  readonly constants: Readonly<Record<string, number>>;
}

const packageName = '@harperfast/rocksdb-js-linux-x64-glibc';
/** Beside a bundle, which has no packages around it (tools/package/bundle.mjs). */
const bundledName = './rocksdb-js.node';

/** Keys and scan bounds must fit in pairs; values that do not fit take a slower way. The pages are used as needed. */
const keyBufferBytes = 8 * 1024 * 1024;
const valueBufferBytes = 1024 * 1024;
/** RocksDB's default. */
const levels = 7;
/** Copies of small values are cut from slabs: an allocation of their own costs more than the read. */
const slabBytes = 16 * 1024;
const slabbedBytesMax = 2 * 1024;
/** Views of entries up to this length are made once: to make one costs as much as the engine's own step to the next entry. */
const keptViewBytesMax = 2 * 1024;

export interface RocksOptions {
  /** Shared by all engines of the process; the first open decides. Default 256 MiB. */
  readonly blockCacheBytes?: number;
  /** One memtable; up to four of them may wait to be written. Default 64 MiB. */
  readonly writeBufferBytes?: number;
  /** Compaction and flush threads. Default 2. */
  readonly threads?: number;
}

/** The binding would share one engine between two openings of a path in the same process; to us that is a mistake. */
const openPaths = new Set<string>();

let loaded: NativeModule | undefined;

/** @throws Error that says what is missing. */
function loadNative(options: RocksOptions): NativeModule {
  if (loaded !== undefined) return loaded;
  try {
    const name = import.meta.url.endsWith('.ts') ? packageName : bundledName;
    loaded = createRequire(import.meta.url)(name) as NativeModule;
  } catch (error) {
    throw new Error(
      `RocksDB is not available here (${process.platform}-${process.arch}, Node ${process.versions.node}): the package ` +
        `${packageName} needs Linux on x64 with glibc 2.34 or newer; run npm install on such a machine. ` +
        `Cause: ${messageOf(error)}`,
    );
  }
  loaded.config({ blockCacheSize: options.blockCacheBytes ?? 256 * 1024 * 1024 });
  return loaded;
}

/**
 * One RocksDB directory behind the store's port.
 *
 * RocksDB's own log is off: the WAL of the member is the durability, and a crash loses the newest writes only as a
 * suffix (atomic flush is always on in the binding). Everything but flush and compact is synchronous on the main
 * thread, since a thread-pool round trip costs 40 µs and a call 1–9 µs.
 *
 * The binding hands keys and values over in buffers that all calls on the database share: whatever is visited is a
 * view that the next call overwrites, also a call on another iterator. Visitors therefore may not use the backend, and
 * cursors hand out one entry at a time.
 */
export class RocksBackend implements Backend {
  private readonly path: string;
  private readonly native: NativeModule;
  private readonly db: NativeDatabase;
  // Not Buffers: their `slice` does not copy, which visitors count on.
  private readonly keyBuffer: Uint8Array = new Uint8Array(keyBufferBytes);
  private readonly valueBuffer: Uint8Array = new Uint8Array(valueBufferBytes);
  private readonly keyViews: Uint8Array[] = [];
  private readonly valueViews: Uint8Array[] = [];
  private readonly lengths = new Uint32Array(2);
  private readonly cursors = new Set<RocksCursor>();
  private slab: Uint8Array = new Uint8Array(slabBytes);
  private slabAt = 0;
  private visiting = false;
  private isOpen = false;

  /** Opens or creates the directory. @throws Error that names the path. */
  constructor(path: string, options: RocksOptions = {}) {
    this.path = resolve(path);
    this.native = loadNative(options);
    this.db = new this.native.Database();
    const mistake = foreignFile(path);
    if (mistake !== undefined) throw new Error(`${path} is not a storage directory: it holds ${mistake}`);
    if (openPaths.has(this.path)) throw new Error(`${path} is in use in this process`);
    try {
      this.db.open(path, {
        name: 'default',
        // Entries are written one by one, past the transactions that the binding is made for; in pessimistic mode it would
        // make a transaction of each: 3.2 µs instead of 1.7.
        mode: 'optimistic',
        disableWAL: true,
        writeBufferSize: options.writeBufferBytes ?? 64 * 1024 * 1024,
        maxWriteBufferNumber: 4,
        maxWriteBufferSizeToMaintain: 0,
        compression: 'lz4',
        parallelismThreads: options.threads ?? 2,
        infoLogLevel: 2,
      });
    } catch (error) {
      throw new StoreError(openMessage(path, messageOf(error)));
    }
    this.db.setDefaultKeyBuffer(this.keyBuffer);
    this.db.setDefaultValueBuffer(this.valueBuffer);
    this.db.setIteratorState(new Uint8Array(this.lengths.buffer));
    this.isOpen = true;
    openPaths.add(this.path);
  }

  get(key: Uint8Array): Uint8Array | undefined {
    this.check();
    const found = this.find(key);
    if (typeof found === 'number') return this.copyValue(found);
    return found === undefined ? undefined : plain(found);
  }

  peek(key: Uint8Array): Uint8Array | undefined {
    this.check();
    const found = this.find(key);
    if (typeof found === 'number') return this.valueBuffer.subarray(0, found);
    return found === undefined ? undefined : plain(found);
  }

  scan(low: Uint8Array, high: Uint8Array, reverse: boolean, visit: EntryVisitor): void {
    this.check();
    const iterator = this.iterator(low, high, reverse);
    try {
      this.slice(iterator, Number.POSITIVE_INFINITY, visit);
    } finally {
      iterator.return();
    }
  }

  put(key: Uint8Array, value: Uint8Array | null): void {
    this.check();
    try {
      if (value === null) this.db.removeSync(key);
      else this.db.putSync(key, value);
    } catch (error) {
      throw this.failure(error, 'write');
    }
  }

  flush(cb: (error: Error | null) => void): void {
    this.check();
    this.db.flush(
      () => cb(null),
      (error) => cb(this.failure(error, 'flush')),
    );
  }

  cursor(low: Uint8Array, high: Uint8Array): BackendCursor {
    this.check();
    const cursor = new RocksCursor(this, this.iterator(low, high, false));
    this.cursors.add(cursor);
    return cursor;
  }

  compact(low: Uint8Array, high: Uint8Array, cb: (error: Error | null) => void): void {
    this.check();
    // The binding keeps the bounds only for the call, but on another thread's stack: they must not be ours to change.
    this.db.compact(
      () => cb(null),
      (error) => cb(this.failure(error, 'compaction')),
      Buffer.from(low),
      Buffer.from(high),
      true,
    );
  }

  /** A second directory with hard links to the files, flushed first. `dir` must not exist and be on the same file system. */
  checkpoint(dir: string, cb: (error: Error | null) => void): void {
    this.check();
    this.db.createCheckpoint(
      () => cb(null),
      (error) => cb(new Error(`${dir}: checkpoint failed: ${messageOf(error)}`)),
      dir,
    );
  }

  sizes(): { totalBytes: number; inUseBytes: number } {
    this.check();
    const memory = intProperty(this.db, 'rocksdb.cur-size-all-mem-tables');
    const tables = intProperty(this.db, 'rocksdb.total-sst-files-size');
    const blobs = intProperty(this.db, 'rocksdb.total-blob-file-size');
    const live = intProperty(this.db, 'rocksdb.estimate-live-data-size');
    const totalBytes = tables + blobs + memory;
    return { totalBytes, inUseBytes: Math.min(totalBytes, live + memory) };
  }

  /** Flushes. Open cursors end. */
  close(): void {
    if (!this.isOpen) return;
    for (const cursor of [...this.cursors]) cursor.close();
    this.isOpen = false;
    openPaths.delete(this.path);
    this.db.close();
  }

  /** Visits entries until about `maxBytes` of them or until `visit` returns false; false at the end. */
  slice(iterator: NativeIterator, maxBytes: number, visit: EntryVisitor): boolean {
    this.check();
    const { keyBuffer, valueBuffer, keyViews, valueViews, lengths } = this;
    // Whose error it is: the engine's, or the visitor's own.
    let visited = false;
    this.visiting = true;
    try {
      for (let left = maxBytes; left > 0; ) {
        const found = iterator.next();
        if (found === 0) return false;
        let key: Uint8Array;
        let value: Uint8Array;
        if (typeof found === 'number') {
          key = viewOf(keyViews, keyBuffer, lengths[0]!);
          value = viewOf(valueViews, valueBuffer, lengths[1]!);
        } else {
          key = plain(found.key);
          value = plain(found.value!);
        }
        left -= key.length + value.length;
        visited = true;
        if (!visit(key, value)) return true;
        visited = false;
      }
      return true;
    } catch (error) {
      throw visited ? error : this.failure(error, 'read');
    } finally {
      this.visiting = false;
    }
  }

  /** For RocksCursor. */
  closed(cursor: RocksCursor): void {
    this.cursors.delete(cursor);
  }

  private find(key: Uint8Array): Uint8Array | number | undefined {
    try {
      return this.db.getSync(key, 0);
    } catch (error) {
      throw this.failure(error, 'read');
    }
  }

  private failure(error: unknown, what: string): StoreError {
    const cause = messageOf(error);
    const remedy = cause.includes('Corruption') ? `. Files are damaged: ${storeRemedy}` : '';
    return new StoreError(`${this.path}: ${what} failed: ${cause}${remedy}`);
  }

  private iterator(low: Uint8Array, high: Uint8Array, reverse: boolean): NativeIterator {
    const { keyBuffer } = this;
    const end = low.length + high.length;
    assert(end <= keyBufferBytes, () => `scan bounds of ${end} bytes`);
    keyBuffer.set(low, 0);
    keyBuffer.set(high, low.length);
    const flags = withValues | (reverse ? reversed : 0);
    return new this.native.Iterator(this.db, flags, low.length, low.length, end, iteratorOptions);
  }

  private copyValue(length: number): Uint8Array {
    if (length > slabbedBytesMax) return this.valueBuffer.slice(0, length);
    if (this.slabAt + length > slabBytes) {
      this.slab = new Uint8Array(slabBytes);
      this.slabAt = 0;
    }
    const { slab, valueBuffer } = this;
    const at = this.slabAt;
    this.slabAt += length;
    const out = slab.subarray(at, this.slabAt);
    out.set(valueBuffer.subarray(0, length), 0);
    return out;
  }

  figures(): EngineFigures {
    this.check();
    return new LiveFigures(this.db);
  }

  private check(): void {
    assert(this.isOpen, () => `${this.path} is closed`);
    assert(!this.visiting, 'the backend was used inside a visit');
  }
}

/** Asked one by one: each question goes to the engine, and most of those who ask want one answer. */
class LiveFigures implements EngineFigures {
  private readonly db: NativeDatabase;

  constructor(db: NativeDatabase) {
    this.db = db;
  }

  get levelFiles(): readonly number[] {
    return Array.from({ length: levels }, (_, level) =>
      Number(this.db.getDBProperty(`rocksdb.num-files-at-level${level}`) ?? 0),
    );
  }

  get memTableBytes(): number {
    return intProperty(this.db, 'rocksdb.cur-size-all-mem-tables');
  }

  get waitingMemTables(): number {
    return intProperty(this.db, 'rocksdb.num-immutable-mem-table');
  }

  get pendingCompactionBytes(): number {
    return intProperty(this.db, 'rocksdb.estimate-pending-compaction-bytes');
  }

  get runningCompactions(): number {
    return intProperty(this.db, 'rocksdb.num-running-compactions');
  }

  get runningFlushes(): number {
    return intProperty(this.db, 'rocksdb.num-running-flushes');
  }

  get blockCacheBytes(): number {
    return intProperty(this.db, 'rocksdb.block-cache-usage');
  }

  get writeDelays(): number {
    return this.stalls('delays');
  }

  get writeStops(): number {
    return this.stalls('stops');
  }

  get isStopped(): boolean {
    return intProperty(this.db, 'rocksdb.is-write-stopped') === 1;
  }

  /** Of a text such as "…, total-delays: 0, total-stops: 0". */
  private stalls(kind: 'delays' | 'stops'): number {
    const text = this.db.getDBProperty('rocksdb.cf-write-stall-stats') ?? '';
    return Number(new RegExp(`total-${kind}: (\\d+)`).exec(text)?.[1] ?? 0);
  }
}

function intProperty(db: NativeDatabase, name: string): number {
  return db.getDBIntProperty(name) ?? 0;
}

/** The first bytes of a buffer, whatever is in them by now. */
function viewOf(views: Uint8Array[], buffer: Uint8Array, length: number): Uint8Array {
  if (length > keptViewBytesMax) return buffer.subarray(0, length);
  let view = views[length];
  if (view === undefined) {
    view = buffer.subarray(0, length);
    views[length] = view;
  }
  return view;
}

function plain(buffer: Uint8Array): Uint8Array {
  return new Uint8Array(buffer.buffer, buffer.byteOffset, buffer.length);
}

const withValues = 8;
const reversed = 1;
const iteratorOptions = { fillCache: true };

class RocksCursor implements BackendCursor {
  private readonly backend: RocksBackend;
  private readonly iterator: NativeIterator;
  private state: 'open' | 'ended' | 'closed' = 'open';

  constructor(backend: RocksBackend, iterator: NativeIterator) {
    this.backend = backend;
    this.iterator = iterator;
  }

  next(maxBytes: number, visit: EntryVisitor): boolean {
    assert(this.state !== 'closed', 'the cursor is closed');
    if (this.state === 'ended') return false;
    if (this.backend.slice(this.iterator, maxBytes, visit)) return true;
    this.state = 'ended';
    return false;
  }

  close(): void {
    if (this.state === 'closed') return;
    this.state = 'closed';
    this.iterator.return();
    this.backend.closed(this);
  }
}

/** The engines of one member: directories below `<data-dir>/member/`. The WAL's name is not one of them. */
export class RocksBackends implements BackendFactory {
  private readonly dir: string;
  private readonly options: RocksOptions;

  /** `member` below the data directory is made when the first engine is opened. */
  constructor(dataDir: string, options: RocksOptions = {}) {
    this.dir = join(dataDir, 'member');
    this.options = options;
  }

  open(name: string, cb: (error: Error | null, backend: Backend | null) => void): void {
    let backend: RocksBackend;
    try {
      mkdirSync(this.dir, { recursive: true, mode: 0o700 });
      backend = new RocksBackend(this.path(name), this.options);
      syncDir(this.dir);
    } catch (error) {
      const failure = asError(error);
      setImmediate(() => cb(failure, null));
      return;
    }
    setImmediate(() => cb(null, backend));
  }

  list(cb: (error: Error | null, names: string[]) => void): void {
    let names: string[] = [];
    let failure: Error | null = null;
    try {
      names = readdirSync(this.dir, { withFileTypes: true })
        .filter((entry) => entry.isDirectory() && isEngine(join(this.dir, entry.name)))
        .map((entry) => entry.name)
        .sort();
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') failure = asError(error);
    }
    setImmediate(() => cb(failure, names));
  }

  remove(name: string, cb: (error: Error | null) => void): void {
    this.run(() => {
      rmSync(this.path(name), { recursive: true, force: true });
      syncDir(this.dir);
    }, cb);
  }

  rename(from: string, to: string, cb: (error: Error | null) => void): void {
    this.run(() => {
      if (existsSync(this.path(to))) throw new Error(`${this.path(to)} exists already`);
      renameSync(this.path(from), this.path(to));
      syncDir(this.dir);
    }, cb);
  }

  private path(name: string): string {
    assert(/^[a-z0-9][a-z0-9._-]*$/.test(name), () => `engine name ${JSON.stringify(name)}`);
    return join(this.dir, name);
  }

  private run(work: () => void, cb: (error: Error | null) => void): void {
    let failure: Error | null = null;
    try {
      work();
    } catch (error) {
      failure = asError(error);
    }
    setImmediate(() => cb(failure));
  }
}

function syncDir(dir: string): void {
  const fd = openSync(dir, 'r');
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}

/** RocksDB writes IDENTITY first and CURRENT once the directory can be opened. */
function isEngine(dir: string): boolean {
  return existsSync(join(dir, 'CURRENT')) || existsSync(join(dir, 'IDENTITY'));
}

/** What must not be in a directory that RocksDB would otherwise silently turn into a database. */
function foreignFile(path: string): string | undefined {
  if (!existsSync(path)) return undefined;
  if (!statSync(path).isDirectory()) return 'a file, not a directory';
  if (isEngine(path)) return undefined;
  const names = readdirSync(path).filter((name) => !ownFile.test(name));
  return names.length === 0 ? undefined : names.slice(0, 3).join(', ');
}

/** Left by a crash in the very first open. */
const ownFile = /^(LOCK|LOG(\.old\.\d+)?|MANIFEST-\d+|OPTIONS-\d+(\.dbtmp)?|\d+\.(sst|blob|log|dbtmp))$/;

function openMessage(path: string, cause: string): string {
  if (cause.includes('LOCK') || cause.includes('lock file')) {
    return `${path} is in use by another process (${cause})`;
  }
  return `${path} cannot be opened: ${cause}. If files are missing or damaged: ${storeRemedy}`;
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

function asError(error: unknown): Error {
  return error instanceof Error ? error : new Error(String(error));
}
