import { type MetricRegistry, NumberMetric, ScrapedMetric } from '@quoin/base';
import type { EngineFigures } from './backend.ts';
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
  add(
    'gauge',
    'etcd_mvcc_db_open_read_transactions',
    'Reads that go on over several turns.',
    (s) => s.openReads,
  );
  add('counter', 'etcd_debugging_mvcc_events_total', 'Events made by this member.', (s) => s.stats.events);
  add('gauge', 'etcd_debugging_mvcc_keys_total', 'Live keys.', (s) => s.keysTotal);
  add('gauge', 'etcd_debugging_mvcc_current_revision', 'Current revision of the store.', (s) => s.revision);
  add('gauge', 'etcd_debugging_mvcc_compact_revision', 'Last compacted revision.', (s) =>
    Math.max(0, s.compactRevision),
  );
  add(
    'gauge',
    'etcd_debugging_mvcc_total_put_size_in_bytes',
    'Bytes of all key-value pairs put by this member.',
    (s) => s.stats.putBytes,
  );
  addCaches(add);
  addEngine(registry, add, current);
}

type Add = (type: 'counter' | 'gauge', name: string, help: string, read: (store: Store) => number) => void;

function addCaches(add: Add): void {
  const cache = (name: string): string => `quoin_mvcc_meta_cache_${name}`;
  add('gauge', cache('bytes'), 'Memory of the key metadata cache.', (s) => s.metaCache.bytes);
  add('counter', cache('hits_total'), 'Changes that needed no read.', (s) => s.stats.metaHits);
  add('counter', cache('misses_total'), 'Changes that needed a read.', (s) => s.stats.metaMisses);
  const overlay = (name: string): string => `quoin_mvcc_overlay_${name}`;
  add('gauge', overlay('events'), 'Recent events held in memory.', (s) => s.overlay.events);
  add('gauge', overlay('bytes'), 'Memory of recent events.', (s) => s.overlay.bytes);
  add('gauge', 'quoin_mvcc_feeds', 'Open event feeds.', (s) => s.hub.feeds);
  add(
    'gauge',
    'quoin_mvcc_feeds_behind',
    'Event feeds that have not been given everything.',
    (s) => s.hub.feedsBehind,
  );
}

/** What RocksDB says of itself; nothing of an engine that says nothing. */
function addEngine(registry: MetricRegistry, add: Add, current: () => Store | undefined): void {
  const engine = (name: string): string => `quoin_mvcc_engine_${name}`;
  add('gauge', engine('bytes'), 'Bytes of the engine, on disk and in memory.', (s) => s.sizes().totalBytes);
  add(
    'gauge',
    engine('in_use_bytes'),
    'Estimate of the bytes that live entries need.',
    (s) => s.sizes().inUseBytes,
  );
  const figure = (
    type: 'counter' | 'gauge',
    name: string,
    help: string,
    read: (figures: EngineFigures) => number,
  ): void => {
    const scrape = (): (readonly [string[], number])[] => {
      const figures = current()?.engine;
      return figures === undefined ? [] : [[[], read(figures)]];
    };
    registry.add(new ScrapedMetric(type, engine(name), help, [], scrape));
  };
  figure('gauge', 'memtable_bytes', 'Bytes of all memtables.', (f) => f.memTableBytes);
  figure('gauge', 'waiting_memtables', 'Memtables that wait to be written.', (f) => f.waitingMemTables);
  figure('gauge', 'pending_compaction_bytes', 'Bytes to be merged.', (f) => f.pendingCompactionBytes);
  figure('gauge', 'running_compactions', 'Merges under way.', (f) => f.runningCompactions);
  figure('gauge', 'running_flushes', 'Memtables being written.', (f) => f.runningFlushes);
  figure('gauge', 'block_cache_bytes', 'Memory of cached blocks.', (f) => f.blockCacheBytes);
  figure('counter', 'write_delays_total', 'How often writes were slowed down.', (f) => f.writeDelays);
  figure('counter', 'write_stops_total', 'How often writes were stopped.', (f) => f.writeStops);
  figure('gauge', 'write_stopped', '1 while writes are stopped.', (f) => (f.isStopped ? 1 : 0));
  registry.add(
    new ScrapedMetric('gauge', engine('level_files'), 'Files of each level.', ['level'], () =>
      (current()?.engine?.levelFiles ?? []).map((files, level) => [[String(level)], files] as const),
    ),
  );
}
