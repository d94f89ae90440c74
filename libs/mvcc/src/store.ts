import { assert } from '@quoin/base';
import type { Backend, EngineFigures } from './backend.ts';
import { Compaction, setCompactRevision } from './compaction.ts';
import { historyBytesDefault, readHistory } from './history.ts';
import { type Opened, VersionImport } from './import.ts';
import { KvHasher } from './kv-hash.ts';
import {
  keyBounds,
  keySuccessor,
  leaseKey,
  prefix,
  prefixEnd,
  prefixedKey,
  recordKey,
  revisionKey,
} from './layout.ts';
import { Materialiser } from './materialise.ts';
import { openRange, type RangeReader, readRange } from './range-reader.ts';
import type {
  HistoryOptions,
  HistoryResult,
  KeyMeta,
  RangeOptions,
  RangeResult,
  RevisionError,
} from './read-types.ts';
import { SnapshotCursor, StateHasher } from './snapshot.ts';
import { StoreState, type StoreStats } from './state.ts';
import { VersionWalk } from './version-walk.ts';
import { WatchHub } from './watch-hub.ts';
import { hashBytes } from './write-buffer.ts';
import { WriteTxn } from './write-txn.ts';

export interface StoreOptions {
  /** Bound of the memory for what a put must know of the previous version. */
  readonly metaCacheBytes?: number;
  /** Bound of the ring of recent events. */
  readonly eventRingBytes?: number;
  /** Bound of the recent events that are not in key order on disk yet; what a restart reads. */
  readonly overlayBytes?: number;
}

export const metaCacheBytesDefault = 256 * 1024 * 1024;
export const eventRingBytesDefault = 8 * 1024 * 1024;
export const overlayBytesDefault = 64 * 1024 * 1024;

/** The multi-version store over one backend: see DESIGN.md. Everything runs to completion in the caller's turn. */
export class Store {
  /** Events of commits, to feeds. */
  readonly hub: WatchHub;
  private readonly state: StoreState;
  private readonly txn: WriteTxn;
  private readonly materialiser: Materialiser;
  private readonly compaction: Compaction;
  /** Events of earlier commits. */
  private eventsBefore = 0;

  private constructor(backend: Backend, options: StoreOptions) {
    const state = new StoreState(backend, {
      metaCacheBytes: options.metaCacheBytes ?? metaCacheBytesDefault,
      overlayBytes: options.overlayBytes ?? overlayBytesDefault,
    });
    const source = {
      get compactRevision(): number {
        return state.compactRevision;
      },
      readEvents: (from: number, to: number, prevKv: boolean, maxBytes: number): HistoryResult =>
        readHistory(state, this.hub, { bounds: undefined, from, to, prevKv, maxBytes }),
    };
    this.state = state;
    this.hub = new WatchHub(source, state.revision, options.eventRingBytes ?? eventRingBytesDefault);
    this.txn = new WriteTxn(state, this.hub);
    this.materialiser = new Materialiser(state);
    this.compaction = new Compaction(state, this.materialiser);
  }

  /** Fills an empty backend from etcd's bucket `key`; `compactRevision` ≤ 0: never compacted. */
  static importInto(backend: Backend, compactRevision: number): VersionImport {
    const open = (from: Backend): Opened => {
      const store = new Store(from, {});
      return { store, state: store.state };
    };
    return new VersionImport(open, backend, compactRevision);
  }

  /** @throws Error when the backend holds something else, half a snapshot, or a newer format. */
  static open(backend: Backend, options: StoreOptions = {}): Store {
    return new Store(backend, options);
  }

  /**
   * Bytes of all versions that are kept, counted alike on every member: about what they take in etcd's file. What a
   * compaction takes away is subtracted as removal goes on, so members that have finished agree.
   */
  get storedBytes(): number {
    return this.state.storedBytes;
  }

  /** Current main revision, ended but uncommitted requests included. 1 when nothing was ever written. */
  get revision(): number {
    return this.state.revision;
  }

  /** −1: never compacted. */
  get compactRevision(): number {
    return this.state.compactRevision;
  }

  /** As of the last commit: what a restart begins from. */
  get appliedIndex(): number {
    return this.state.appliedIndex;
  }

  get appliedTerm(): number {
    return this.state.appliedTerm;
  }

  /** Live keys. */
  get keysTotal(): number {
    return this.state.keysTotal;
  }

  get stats(): Readonly<StoreStats> {
    return this.state.stats;
  }

  /** Recent events in memory, and the bytes that they need. */
  get overlay(): { events: number; keys: number; bytes: number } {
    const { size, keysTotal, bytes, tableBytes } = this.state.overlay;
    return { events: size, keys: keysTotal, bytes: bytes + tableBytes };
  }

  /** Keys and bytes of the metadata cache. */
  get metaCache(): { keys: number; bytes: number; complete: boolean } {
    const { size, bytes, complete } = this.state.cache;
    return { keys: size, bytes, complete };
  }

  /** Begins the changes of one request. The same object is used again for the next one. */
  begin(): WriteTxn {
    return this.txn.start();
  }

  /** Writes all changes since the last commit and the applied index as one, then feeds the events. */
  commit(appliedIndex: number, appliedTerm: number): void {
    const { state, materialiser } = this;
    assert(!state.changing, 'commit inside a write transaction');
    state.commit(appliedIndex, appliedTerm);
    this.hub.publish();
    // A little more leaves the overlay than came in, so that a turn never pays for many others.
    const added = state.stats.events - this.eventsBefore;
    this.eventsBefore = state.stats.events;
    if (state.overfull) materialiser.step(16 + added + (added >> 2), state.committedRevision);
  }

  /**
   * Moves up to so many recent events to their places on disk, about 5 µs each: what is done in a quiet moment need not
   * be done later. False when there is nothing to move.
   */
  materialise(maxEvents: number): boolean {
    const { state } = this;
    return !state.uncommitted && this.materialiser.step(maxEvents, state.committedRevision) > 0;
  }

  /** Makes everything committed durable; then the log below the applied index of the callback may be released. */
  flush(cb: (error: Error | null, appliedIndex: number) => void): void {
    const { appliedIndex } = this.state;
    this.state.backend.flush((error) => cb(error, appliedIndex));
  }

  /** The latest KeyValue bytes. */
  get(key: Uint8Array): Uint8Array | undefined {
    return this.state.latest(key);
  }

  /** The same without the value, mostly without a read. */
  meta(key: Uint8Array): KeyMeta | undefined {
    return this.state.meta(key);
  }

  /** All in one turn; for ranges that may be long take `rangeReader`. */
  range(options: RangeOptions): RangeResult | RevisionError {
    return readRange(this.state, options);
  }

  /** The same in slices, all at the revision that is current now (or the one asked for). */
  rangeReader(options: RangeOptions): RangeReader | RevisionError {
    return openRange(this.state, options);
  }

  /** Committed events of past revisions within a key range. */
  history(options: HistoryOptions): HistoryResult {
    const { from, to, prevKv } = options;
    const maxBytes = options.maxBytes > 0 ? options.maxBytes : historyBytesDefault;
    const bounds = keyBounds(options.key, options.rangeEnd);
    return readHistory(this.state, this.hub, { bounds, from, to, prevKv, maxBytes });
  }

  /** Keys attached to a lease, sorted. */
  leaseKeys(lease: bigint): Uint8Array[] {
    const keys: Uint8Array[] = [];
    const low = leaseKey(lease, new Uint8Array(0));
    this.state.buffer.scan(low, successor(low), (entryKey) => {
      keys.push(entryKey.slice(9));
      return true;
    });
    return keys;
  }

  /**
   * A record of another part of the member (leases, members, alarms, auth, cluster): seen at once, written with the
   * next commit. `table` is 0–255; null removes. Neither array may change afterwards.
   */
  putRecord(table: number, key: Uint8Array, value: Uint8Array | null): void {
    assert(table >= 0 && table <= 255, 'a record table is one byte');
    this.state.buffer.put(recordKey(table, key), value);
  }

  getRecord(table: number, key: Uint8Array): Uint8Array | undefined {
    return this.state.buffer.get(recordKey(table, key));
  }

  /** In key order; copies that the visitor owns. The visitor may use the store. */
  scanRecords(table: number, visit: (key: Uint8Array, value: Uint8Array) => void): void {
    const found: [Uint8Array, Uint8Array][] = [];
    const low = Uint8Array.of(prefix.records, table);
    this.state.buffer.scan(low, successor(low), (key, value) => {
      found.push([key.slice(2), value.slice()]);
      return true;
    });
    for (const [key, value] of found) visit(key, value);
  }

  /** Sets the compact revision at once, persisted with the next commit; what it takes away goes by `compactionStep`. */
  compact(revision: number): RevisionError | undefined {
    return setCompactRevision(this.state, revision);
  }

  /**
   * Removes up to about `maxEvents` old events, 10 µs each. idle: nothing to do; done: this call came to the end of
   * a compaction. Waits ('more') while a range reader or hasher is open or a turn is not committed.
   */
  compactionStep(maxEvents: number): 'more' | 'done' | 'idle' {
    return this.compaction.step(maxEvents);
  }

  /** Everything up to the compact revision has been removed. */
  get compactionFinished(): boolean {
    return this.compaction.finished;
  }

  /** Fills the cache of key metadata after a restart, a slice at a time; false when there is nothing left to do. */
  warm(maxKeys: number): boolean {
    const { state } = this;
    const { warmFrom: from, cache, overlay } = state;
    if (from === undefined) return false;
    let last: Uint8Array | undefined;
    let left = maxKeys;
    const unread: Uint8Array[] = [];
    state.backend.scan(
      prefixedKey(prefix.latest, from),
      prefixEnd(prefix.latest),
      false,
      (entryKey, cell) => {
        if (--left < 0 || cache.overflowed) return false;
        last = entryKey.slice(1);
        const hash = hashBytes(last);
        // What L says of a key in the overlay may be stale, and the cache was told when it came in there.
        if (overlay.find(last, hash) < 0 && !state.remember(last, hash, cell)) unread.push(last);
        return true;
      },
    );
    for (const key of unread) state.lookup(key, hashBytes(key));
    if (left < 0 && !cache.overflowed && last !== undefined) {
      state.warmFrom = keySuccessor(last);
      return true;
    }
    state.warmFrom = undefined;
    cache.complete = !cache.overflowed;
    return false;
  }

  /** The whole committed state as of now, in slices. Only right after `commit`. */
  snapshotCursor(): SnapshotCursor {
    return new SnapshotCursor(this.state);
  }

  /** A hash of the logical state as of now, equal on all members at the same applied index. Only right after `commit`. */
  stateHasher(): StateHasher {
    return new StateHasher(this.state);
  }

  /** etcd's HashKV up to a revision (0: the current one), in slices. Only right after `commit`. */
  kvHasher(revision: number): KvHasher | RevisionError {
    const { state, hub } = this;
    if (revision > 0 && revision < state.compactRevision) return 'compacted';
    if (revision > state.revision) return 'future';
    return new KvHasher(state, hub, revision === 0 ? state.revision : revision);
  }

  /** Every version that is kept as of now, in slices. Only right after `commit`. */
  versionWalk(): VersionWalk {
    return new VersionWalk(this.state, this.hub);
  }

  /** Gives back the space of events that a finished compaction has removed. */
  reclaim(cb: (error: Error | null) => void): void {
    const { compactRevision, backend } = this.state;
    backend.compact(Uint8Array.of(prefix.events), revisionKey(prefix.events, compactRevision + 1, 0), cb);
  }

  /** Gives back the space of all that was removed: etcd's Defragment. Reads and writes go on meanwhile. */
  defragment(cb: (error: Error | null) => void): void {
    this.state.backend.compact(Uint8Array.of(0), Uint8Array.of(0xff, 0xff), cb);
  }

  /** Bytes on disk, and an estimate of those that live entries need. */
  sizes(): { totalBytes: number; inUseBytes: number } {
    return this.state.backend.sizes();
  }

  get engine(): EngineFigures | undefined {
    return this.state.backend.figures?.();
  }

  /** Open readers that go on in later turns. */
  get openReads(): number {
    return this.state.pins;
  }

  /** Closes the backend. */
  close(): void {
    this.state.backend.close();
  }
}

/** The bound above all keys that begin with `start`. */
function successor(start: Uint8Array): Uint8Array {
  const out = start.slice();
  for (let i = out.length - 1; i >= 0; i--) {
    if (out[i] === 0xff) continue;
    out[i]!++;
    return out.subarray(0, i + 1);
  }
  return new Uint8Array(0);
}
