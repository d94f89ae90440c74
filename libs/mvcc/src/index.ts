/** Revisions, ranges, transactions, compaction and the watch hub over a Backend. See DESIGN.md. */
export type { Backend, BackendCursor, Batch, EntryVisitor } from './backend.ts';
export type { RangeReader } from './range-reader.ts';
export type { KeyMeta, RangeOptions, RangeResult, RevisionError } from './read-types.ts';
export {
  type SnapshotCursor,
  type SnapshotWriter,
  type StateHasher,
  type StoreMeta,
  snapshotWriter,
  storeVersion,
} from './snapshot.ts';
export {
  type EventRevision,
  type HistoryOptions,
  type HistoryResult,
  registerStoreMetrics,
  Store,
  type StoreOptions,
  type StoreStats,
  type WriteTxn,
} from './store.ts';
export type { EventFeed, FeedOptions, FeedSink, WatchHub } from './watch-hub.ts';
