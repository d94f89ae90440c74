/** Revisions, ranges, transactions, compaction and the watch hub over a Backend. See DESIGN.md. */
export type { Backend, BackendCursor, EngineFigures, EntryVisitor } from './backend.ts';
export type { VersionImport } from './import.ts';
export { type KvHasher, RevisionKey } from './kv-hash.ts';
export type { RangeReader } from './range-reader.ts';
export type {
  EventRevision,
  HistoryOptions,
  HistoryResult,
  KeyMeta,
  RangeOptions,
  RangeResult,
  RevisionError,
} from './read-types.ts';
export {
  type SnapshotCursor,
  type SnapshotWriter,
  type StateHasher,
  type StoreMeta,
  snapshotWriter,
  storeVersion,
} from './snapshot.ts';
export type { StoreStats } from './state.ts';
export {
  eventRingBytesDefault,
  metaCacheBytesDefault,
  overlayBytesDefault,
  Store,
  type StoreOptions,
} from './store.ts';
export { registerStoreMetrics } from './store-metrics.ts';
export type { VersionWalk } from './version-walk.ts';
export type { EventFeed, FeedOptions, FeedSink, WatchHub } from './watch-hub.ts';
export type { WriteTxn } from './write-txn.ts';
