import type { MetricRegistry } from '@quoin/base';
import type { Backend } from './backend.ts';
import type { RangeReader } from './range-reader.ts';
import type { KeyMeta, RangeOptions, RangeResult, RevisionError } from './read-types.ts';
import type { SnapshotCursor, StateHasher } from './snapshot.ts';
import type { WatchHub } from './watch-hub.ts';

export interface StoreOptions {
  /** Bound of the memory for what a put must know of the previous version. Default 256 MiB. */
  readonly metaCacheBytes?: number;
  /** Bound of the ring of recent events. Default 32 MiB. */
  readonly eventRingBytes?: number;
}

/** The changes of one request. One at a time; checks run before the first change, so there is no abort. */
export interface WriteTxn {
  /** The main revision that this transaction makes if it changes anything. */
  readonly revision: number;
  /** The previous KeyValue bytes when `wantPrev` and the key existed. `lease` 0n: none. Key and value are copied. */
  put(key: Uint8Array, value: Uint8Array, lease: bigint, wantPrev?: boolean): Uint8Array | undefined;
  /** Own changes included. prevKvs is empty unless `wantPrev`. */
  deleteRange(
    key: Uint8Array,
    rangeEnd: Uint8Array,
    wantPrev?: boolean,
  ): { deleted: number; prevKvs: Uint8Array[] };
  /** The latest KeyValue bytes, own changes included. */
  get(key: Uint8Array): Uint8Array | undefined;
  /** The same without the value, mostly without a read. */
  meta(key: Uint8Array): KeyMeta | undefined;
  /** Own changes included when the revision asked is ≤ 0. */
  range(options: RangeOptions): RangeResult | RevisionError;
  end(): { revision: number; changed: boolean };
}

/** Plain counters since open; metrics read them. */
export interface StoreStats {
  puts: number;
  deletes: number;
  ranges: number;
  txns: number;
  events: number;
  putBytes: number;
  commits: number;
  metaHits: number;
  metaMisses: number;
}

const notBuilt = (): never => {
  throw new Error('not built yet');
};

/** The multi-version store over one backend: see DESIGN.md for the layout. */
export class Store {
  /** Events of commits, to feeds. */
  readonly hub: WatchHub;
  readonly stats: StoreStats;
  private constructor() {
    this.hub = notBuilt();
    this.stats = notBuilt();
  }

  /** @throws Error when the backend holds something else, or a newer format. */
  static open(_backend: Backend, _options: StoreOptions = {}): Store {
    return notBuilt();
  }

  /** Current main revision, uncommitted requests included. 1 when nothing was ever written. */
  get revision(): number {
    return notBuilt();
  }
  /** −1: never compacted. */
  get compactRevision(): number {
    return notBuilt();
  }
  /** As of the last commit. */
  get appliedIndex(): number {
    return notBuilt();
  }
  get appliedTerm(): number {
    return notBuilt();
  }
  /** Live keys. */
  get keysTotal(): number {
    return notBuilt();
  }

  /** Begins the changes of one request. */
  begin(): WriteTxn {
    return notBuilt();
  }
  /** Writes all changes since the last commit and the applied index in one atomic batch, then feeds the events. */
  commit(_appliedIndex: number, _appliedTerm: number): void {
    notBuilt();
  }
  /** Everything committed becomes durable; the callback gets the applied index below which the log may be released. */
  flush(_cb: (error: Error | null, appliedIndex: number) => void): void {
    notBuilt();
  }

  /** The latest KeyValue bytes. */
  get(_key: Uint8Array): Uint8Array | undefined {
    return notBuilt();
  }
  meta(_key: Uint8Array): KeyMeta | undefined {
    return notBuilt();
  }
  /** All in one turn; for ranges that may be long take `rangeReader`. */
  range(_options: RangeOptions): RangeResult | RevisionError {
    return notBuilt();
  }
  /** The same in slices, at the revision that is current now (or the one asked for). */
  rangeReader(_options: RangeOptions): RangeReader | RevisionError {
    return notBuilt();
  }
  /** Events of past revisions within a key range. */
  history(_options: HistoryOptions): HistoryResult {
    return notBuilt();
  }

  /** Keys attached to a lease, sorted. */
  leaseKeys(_lease: bigint): Uint8Array[] {
    return notBuilt();
  }
  /** Records of others (leases, members, alarms, auth, cluster), written with the next commit. `table` 0–255; null removes. */
  putRecord(_table: number, _key: Uint8Array, _value: Uint8Array | null): void {
    notBuilt();
  }
  getRecord(_table: number, _key: Uint8Array): Uint8Array | undefined {
    return notBuilt();
  }
  /** In key order; copies that the visitor owns. */
  scanRecords(_table: number, _visit: (key: Uint8Array, value: Uint8Array) => void): void {
    notBuilt();
  }

  /** Sets the compact revision at once (persisted with the next commit); removal is `compactionStep`. */
  compact(_revision: number): RevisionError | undefined {
    return notBuilt();
  }
  /** Removes up to `maxEntries` old events. idle: nothing to do; done: this call finished a compaction. */
  compactionStep(_maxEntries: number): 'more' | 'done' | 'idle' {
    return notBuilt();
  }
  /** Every removal up to the compact revision has happened. */
  get compactionFinished(): boolean {
    return notBuilt();
  }
  /** Fills the cache of key metadata after a restart, a slice at a time; false when there is nothing left to do. */
  warm(_maxEntries: number): boolean {
    return notBuilt();
  }

  /** The whole committed state as of now, in slices. Only right after `commit`. */
  snapshotCursor(): SnapshotCursor {
    return notBuilt();
  }
  /** Hash over the logical state as of now, equal on all members at the same applied index, in slices. */
  stateHasher(): StateHasher {
    return notBuilt();
  }
  /** Gives space back; etcd's Defragment. */
  defragment(_cb: (error: Error | null) => void): void {
    notBuilt();
  }
  sizes(): { totalBytes: number; inUseBytes: number } {
    return notBuilt();
  }
  /** Closes the backend. Nothing is flushed. */
  close(): void {
    notBuilt();
  }
}

/** etcd's names for what the store counts. `current` because a snapshot replaces the store. */
export function registerStoreMetrics(_registry: MetricRegistry, _current: () => Store | undefined): void {
  notBuilt();
}

export interface HistoryOptions {
  readonly key: Uint8Array;
  readonly rangeEnd: Uint8Array;
  /** First and last revision wanted. */
  readonly from: number;
  readonly to: number;
  readonly prevKv: boolean;
  /** Stops after the revision that reaches it; ≤ 0: 1 MiB. What is read without matching is bounded too. */
  readonly maxBytes: number;
}

export interface HistoryResult {
  readonly revisions: EventRevision[];
  /** Where to go on: `to` + 1 when all was read. */
  readonly nextRevision: number;
  /** Not 0: `from` is below it and nothing was read. */
  readonly compactRevision: number;
}

/** All events of one revision. The shape of a FeedRevision. */
export interface EventRevision {
  readonly revision: number;
  /** Encoded mvccpb.Event, in order of sub revision. Not to be changed: shared by all feeds. */
  readonly events: Uint8Array[];
}
