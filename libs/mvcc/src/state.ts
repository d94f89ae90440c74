import { assert, readCounterBE } from '@quoin/base';
import type { Backend } from './backend.ts';
import { EventLogWriter, findVersion, RecordReader, recordUserKey, walkRecords } from './event-log.ts';
import { KeyValueReader } from './key-value.ts';
import {
  cellKeyValue,
  cellSub,
  cellTrailerBytes,
  encodeState,
  finishedKey,
  historyCell,
  historyKey,
  isLargeCell,
  latestHigh,
  prefix,
  prefixedKey,
  type Redo,
  revisionKey,
  type StoredState,
  stateKey,
} from './layout.ts';
import { MetaCache } from './meta-cache.ts';
import { Overlay, type OverlayView } from './overlay.ts';
import type { Past } from './past-scan.ts';
import type { KeyMeta } from './read-types.ts';
import { ChunkWriter, readState } from './recovery.ts';
import { hashBytes, WriteBuffer } from './write-buffer.ts';

/** Plain counters since open; metrics read them. */
export interface StoreStats {
  puts: number;
  deletes: number;
  ranges: number;
  txns: number;
  events: number;
  putBytes: number;
  commits: number;
  /** Versions that compaction has taken away. */
  removedVersions: number;
  /** Puts and deletes whose previous version was known (or known not to be) without a read, and the others. */
  metaHits: number;
  metaMisses: number;
}

/** Bounds of the memory that a store takes, in bytes. */
export interface StoreBounds {
  readonly metaCacheBytes: number;
  readonly overlayBytes: number;
}

const noKey: Uint8Array = new Uint8Array(0);

/**
 * What the parts of the store share: where it stands, and how single versions are found.
 *
 * The engine's L and H hold every event up to and including `evicted`, of which the newest revision may be incomplete.
 * The overlay holds the later ones. So a version at a revision r is found
 *
 *   r ≥ evicted   in the overlay; if its records of the key are all newer than r, it is what the oldest replaced;
 *                 if it has none of the key, in L
 *   r < evicted   in L or H: the one with the newer mod ≤ r counts, since L may be stale for keys in the overlay
 */
export class StoreState implements StoredState {
  readonly backend: Backend;
  readonly buffer: WriteBuffer;
  readonly log: EventLogWriter;
  readonly overlay = new Overlay();
  readonly cache: MetaCache;
  readonly reader = new KeyValueReader();
  readonly stats: StoreStats;
  /** Uncommitted transactions included. */
  revision: number;
  committedRevision: number;
  compactRevision: number;
  /** Removal has been done up to here. */
  finishedRevision: number;
  /** … except for what the events of that very revision replaced. */
  finishedButLast: boolean;
  appliedIndex: number;
  appliedTerm: number;
  keysTotal: number;
  storedBytes: number;
  commits: number;
  /** Of the newest event that has left the overlay. */
  evicted: number;
  /** What the engine holds of `materialised`: a restart has the events above it in the overlay again. */
  storedMaterialised: number;
  /** The running transaction has changed something; it is not in `revision` yet. */
  changing = false;
  /** Open readers that go on in later turns: removal of old versions waits for them. */
  pins = 0;
  /** The cache has been filled up to this key; undefined: nothing to fill. */
  warmFrom: Uint8Array | undefined;

  /** What `lookup` found of the latest version. */
  createRevision = 0;
  modRevision = 0;
  version = 0;
  lease = 0n;
  /** Its address in the cache; 0: not there. */
  address = 0;
  private readonly overlayBytesMax: number;
  private readonly records = new RecordReader();

  constructor(backend: Backend, bounds: StoreBounds) {
    const state = readState(backend);
    const finished = backend.get(finishedKey);
    this.backend = backend;
    this.overlayBytesMax = bounds.overlayBytes;
    this.buffer = new WriteBuffer(backend);
    this.log = new EventLogWriter(backend);
    this.cache = new MetaCache(bounds.metaCacheBytes, state.keysTotal === 0);
    this.stats = {
      puts: 0,
      deletes: 0,
      ranges: 0,
      txns: 0,
      events: 0,
      putBytes: 0,
      commits: 0,
      removedVersions: 0,
      metaHits: 0,
      metaMisses: 0,
    };
    this.revision = state.revision;
    this.committedRevision = state.revision;
    this.compactRevision = state.compactRevision;
    this.finishedRevision = finished === undefined ? -1 : readCounterBE(finished, 0);
    this.finishedButLast = finished?.[8] === 1;
    this.appliedIndex = state.appliedIndex;
    this.appliedTerm = state.appliedTerm;
    this.keysTotal = state.keysTotal;
    this.storedBytes = state.storedBytes;
    this.commits = state.commits;
    this.evicted = state.materialised;
    this.storedMaterialised = state.materialised;
    this.warmFrom = state.keysTotal === 0 ? undefined : noKey;
    this.fillOverlay();
  }

  /** Something was applied that is not committed. */
  get uncommitted(): boolean {
    return this.revision !== this.committedRevision || this.buffer.size > 0;
  }

  /** L and H hold all events up to here. */
  get materialised(): number {
    const { overlay } = this;
    return overlay.size === 0 ? this.revision : overlay.revisionOf(overlay.oldest) - 1;
  }

  /** There is more in the overlay than there should be. */
  get overfull(): boolean {
    return this.overlay.bytes + this.overlay.tableBytes > this.overlayBytesMax;
  }

  /**
   * Writes what was applied since the last commit, with the state. One entry is the commit: what is written before it is
   * nothing without it, what comes after it is in its redo.
   */
  commit(appliedIndex: number, appliedTerm: number): void {
    this.appliedIndex = appliedIndex;
    this.appliedTerm = appliedTerm;
    const state = this.encode(this.buffer);
    if (!this.log.close(state)) this.backend.put(stateKey, state);
    this.buffer.commit();
    this.committedRevision = this.revision;
    this.stats.commits++;
  }

  /** A commit of background work: the entries with the state. Only right after another commit. */
  store(entries: Redo): void {
    this.backend.put(stateKey, this.encode(entries));
    for (let i = 0; i < entries.keys.length; i++) this.backend.put(entries.keys[i]!, entries.values[i]!);
  }

  private encode(redo: Redo): Uint8Array {
    this.commits++;
    this.storedMaterialised = this.materialised;
    return encodeState(this, redo);
  }

  /** Fills the fields above; false when the key is not alive. */
  lookup(key: Uint8Array, hash: number): boolean {
    const { cache } = this;
    const address = cache.find(key, hash);
    this.address = address;
    if (address !== 0) {
      this.stats.metaHits++;
      this.createRevision = cache.createRevision(address);
      this.modRevision = cache.modRevision(address);
      this.version = cache.version(address);
      this.lease = cache.lease(address);
      return true;
    }
    if (cache.complete && cache.holds(key.length)) {
      this.stats.metaHits++;
      return false;
    }
    this.stats.metaMisses++;
    const cell = this.latestCell(key, hash);
    if (cell === undefined) return false;
    const kv = this.complete(cell);
    this.reader.read(kv);
    this.createRevision = this.reader.createRevision;
    this.modRevision = this.reader.modRevision;
    this.version = this.reader.version;
    this.lease = this.reader.lease();
    cache.add(key, hash, this.createRevision, this.modRevision, this.version, this.lease);
    this.address = cache.find(key, hash);
    return true;
  }

  /** Puts what a latest cell says into the cache; false when V has to be read for that. */
  remember(key: Uint8Array, hash: number, cell: Uint8Array): boolean {
    if (this.cache.find(key, hash) !== 0) return true;
    if (isLargeCell(cell)) return false;
    const { reader } = this;
    reader.read(cell, cell.length - cellTrailerBytes);
    this.cache.add(key, hash, reader.createRevision, reader.modRevision, reader.version, reader.lease());
    return true;
  }

  meta(key: Uint8Array): KeyMeta | undefined {
    if (!this.lookup(key, hashBytes(key))) return undefined;
    const { createRevision, modRevision, version, lease } = this;
    return { createRevision, modRevision, version, lease };
  }

  latestCell(key: Uint8Array, hash: number = hashBytes(key)): Uint8Array | undefined {
    const { overlay, records } = this;
    const entry = overlay.find(key, hash);
    if (entry < 0) return this.engineCell(key);
    overlay.read(overlay.newestOf(entry), records);
    return records.isDelete() ? undefined : records.cell();
  }

  /** What L holds, which may be stale when the overlay has the key. */
  engineCell(key: Uint8Array): Uint8Array | undefined {
    return this.backend.get(prefixedKey(prefix.latest, key));
  }

  /** The latest KeyValue bytes. */
  latest(key: Uint8Array): Uint8Array | undefined {
    const cell = this.latestCell(key);
    return cell === undefined ? undefined : this.complete(cell);
  }

  /** Visits the latest keys within the bounds in order, as views, uncommitted changes included. */
  scanLatest(low: Uint8Array, high: Uint8Array, visit: (key: Uint8Array) => void): void {
    const view = this.overlay.view(low, high, Number.MAX_SAFE_INTEGER);
    this.backend.scan(prefixedKey(prefix.latest, low), latestHigh({ low, high }), false, (entryKey) => {
      if (!visitUpTo(view, entryKey, visit)) visit(entryKey.subarray(1));
      return true;
    });
    visitUpTo(view, undefined, visit);
    view.close();
  }

  /** The whole KeyValue bytes of a version. */
  complete(cell: Uint8Array): Uint8Array {
    if (!isLargeCell(cell)) return cellKeyValue(cell);
    this.reader.readHead(cell);
    return this.largeValue(this.reader.modRevision, cellSub(cell));
  }

  largeValue(mod: number, sub: number): Uint8Array {
    const kv = this.backend.get(revisionKey(prefix.values, mod, sub));
    assert(kv !== undefined, () => `the value of revision ${mod}/${sub} is missing`);
    return kv;
  }

  /** The same, valid until the backend is used again. */
  peekLarge(mod: number, sub: number): Uint8Array {
    const kv = this.backend.peek(revisionKey(prefix.values, mod, sub));
    assert(kv !== undefined, () => `the value of revision ${mod}/${sub} is missing`);
    return kv;
  }

  /** The cell of a superseded version that H has. */
  historyCell({ key, mod, cell: kept }: Past): Uint8Array {
    if (kept.length > 0) return kept;
    const cell = findVersion(this.backend, key, mod, this.reader);
    assert(cell !== undefined, () => `the event of revision ${mod} is missing`);
    return cell;
  }

  /** The cell of the version that revision `mod` put, wherever it is; undefined when it has been removed. */
  versionCell(key: Uint8Array, mod: number): Uint8Array | undefined {
    const { overlay, records } = this;
    const entry = overlay.find(key, hashBytes(key));
    if (entry >= 0 && overlay.readVersion(entry, mod, records)) return records.cell();
    const cell = this.engineCell(key);
    if (cell !== undefined) {
      this.reader.readHead(cell);
      if (this.reader.modRevision === mod) return cell;
    }
    const history = this.backend.get(historyKey(key, mod));
    const kept = history === undefined ? undefined : historyCell(history);
    return kept ?? findVersion(this.backend, key, mod, this.reader);
  }

  /** The KeyValue bytes of a version that has been superseded; undefined when it has been removed. */
  superseded(key: Uint8Array, mod: number): Uint8Array | undefined {
    const cell = this.versionCell(key, mod);
    return cell === undefined ? undefined : this.complete(cell);
  }

  /** After a restart: the events that L and H may not have. */
  private fillOverlay(): void {
    const { overlay } = this;
    const chunks = new ChunkWriter();
    walkRecords(this.backend, this.storedMaterialised + 1, this.revision + 1, (records) => {
      const key = recordUserKey(records);
      const { bytes } = records;
      const at = chunks.add(records.block.subarray(records.recordStart, records.recordStart + bytes));
      overlay.append(chunks.chunk, at, bytes, key, hashBytes(key), 0);
      return true;
    });
    const view = overlay.view(noKey, noKey, Number.MAX_SAFE_INTEGER);
    for (; !view.ended; view.advance()) {
      if (view.records.isDelete()) continue;
      const key = view.key();
      const hash = hashBytes(key);
      if (!this.remember(key, hash, view.records.cell())) this.lookup(key, hash);
    }
    view.close();
  }
}

/** Visits the living keys of the view before the entry's; true when the view knows better about the entry's own. */
function visitUpTo(
  view: OverlayView,
  entryKey: Uint8Array | undefined,
  visit: (key: Uint8Array) => void,
): boolean {
  while (!view.ended) {
    const order = entryKey === undefined ? -1 : view.compare(entryKey, 1);
    if (order > 0) return false;
    if (!view.records.isDelete()) visit(view.key());
    view.advance();
    if (order === 0) return true;
  }
  return false;
}
