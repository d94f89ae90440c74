import { type MetricRegistry, NumberMetric } from '@quoin/base';
import type { Store } from './store.ts';

/** Registers what the store counts, by etcd's names. `current` because a snapshot replaces the store. */
export function registerStoreMetrics(registry: MetricRegistry, current: () => Store | undefined): void {
  const add = (
    type: 'counter' | 'gauge',
    name: string,
    help: string,
    read: (store: Store) => number,
  ): void => {
    registry.add(
      new NumberMetric(type, name, help, () => {
        const store = current();
        return store === undefined ? 0 : read(store);
      }),
    );
  };
  add('counter', 'etcd_mvcc_put_total', 'Puts applied by this member.', (s) => s.stats.puts);
  add('counter', 'etcd_mvcc_delete_total', 'Keys deleted by this member.', (s) => s.stats.deletes);
  add('counter', 'etcd_mvcc_range_total', 'Ranges read by this member.', (s) => s.stats.ranges);
  add('counter', 'etcd_mvcc_txn_total', 'Requests that changed more than one key.', (s) => s.stats.txns);
  add('counter', 'etcd_debugging_mvcc_events_total', 'Events made by this member.', (s) => s.stats.events);
  add('gauge', 'etcd_debugging_mvcc_keys_total', 'Live keys.', (s) => s.keysTotal);
  add('gauge', 'etcd_debugging_mvcc_current_revision', 'Current revision of the store.', (s) => s.revision);
  add('gauge', 'etcd_debugging_mvcc_compact_revision', 'Last compacted revision.', (s) =>
    Math.max(0, s.compactRevision),
  );
  add(
    'counter',
    'etcd_debugging_mvcc_total_put_size_in_bytes',
    'Bytes of all key-value pairs put by this member.',
    (s) => s.stats.putBytes,
  );
  add(
    'gauge',
    'quoin_mvcc_engine_bytes',
    'Bytes of the storage engine, on disk and in memory.',
    (s) => s.sizes().totalBytes,
  );
  add(
    'gauge',
    'quoin_mvcc_engine_in_use_bytes',
    'Estimate of the bytes that live entries need.',
    (s) => s.sizes().inUseBytes,
  );
  add('gauge', 'quoin_mvcc_meta_cache_bytes', 'Memory of the key metadata cache.', (s) => s.metaCache.bytes);
  add('counter', 'quoin_mvcc_meta_cache_hits_total', 'Changes that needed no read.', (s) => s.stats.metaHits);
  add(
    'counter',
    'quoin_mvcc_meta_cache_misses_total',
    'Changes that needed a read.',
    (s) => s.stats.metaMisses,
  );
  add('gauge', 'quoin_mvcc_feeds', 'Open event feeds.', (s) => s.hub.feeds);
  add(
    'gauge',
    'quoin_mvcc_feeds_behind',
    'Event feeds that have not been given everything.',
    (s) => s.hub.feedsBehind,
  );
}
