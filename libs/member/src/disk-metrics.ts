import type { Histogram, MetricRegistry, NumberMetric } from '@quoin/base';

/** etcd's, of most times. */
const fast = { start: 0.001, factor: 2, count: 14 };

/** Log and storage engine. What bbolt does and RocksDB has no counterpart for is there and stays at zero. */
export class DiskMetrics {
  readonly walFsyncSeconds: Histogram;
  readonly walWriteSeconds: Histogram;
  readonly walWriteBytes: NumberMetric;
  /** Of a flush of the engine: what etcd's commit is, for what reaches the disk. */
  readonly flushSeconds: Histogram;
  /** Of the batch that a turn writes, into memory. */
  readonly commitSeconds: Histogram;
  readonly defragSeconds: Histogram;
  readonly defragRunning: NumberMetric;
  readonly snapshotSeconds: Histogram;
  readonly snapshotSaveSeconds: Histogram;
  readonly hashSeconds: Histogram;
  readonly hashRevSeconds: Histogram;
  readonly compactionPauseMs: Histogram;
  readonly compactionTotalMs: Histogram;
  readonly compactionKeys: NumberMetric;
  readonly compactionLast: NumberMetric;

  constructor(registry: MetricRegistry) {
    const seconds = (name: string, help: string): Histogram => registry.histogram(name, help, fast);
    this.walFsyncSeconds = seconds(
      'etcd_disk_wal_fsync_duration_seconds',
      'Time of one fdatasync of the log.',
    );
    this.walWriteSeconds = seconds('etcd_disk_wal_write_duration_seconds', 'Time of one write to the log.');
    this.walWriteBytes = registry.gauge('etcd_disk_wal_write_bytes_total', 'Bytes written to the log.');
    this.flushSeconds = seconds(
      'etcd_disk_backend_commit_duration_seconds',
      'Time of a flush of the engine.',
    );
    this.commitSeconds = registry.histogram(
      'quoin_member_commit_duration_seconds',
      'Time of the batch write of a turn, into memory.',
      { start: 0.0001, factor: 2, count: 14 },
    );
    this.defragSeconds = registry.histogram(
      'etcd_disk_backend_defrag_duration_seconds',
      'Time of a defragmentation, which stops nobody.',
      { start: 0.1, factor: 2, count: 13 },
    );
    this.defragRunning = registry.gauge('etcd_disk_defrag_inflight', '1 while a defragmentation runs.');
    this.snapshotSeconds = registry.histogram(
      'etcd_disk_backend_snapshot_duration_seconds',
      'Time of making and sending a snapshot that a client asked for.',
      { start: 0.01, factor: 2, count: 17 },
    );
    this.snapshotSaveSeconds = registry.histogram(
      'etcd_snap_db_save_total_duration_seconds',
      'Time of taking in a snapshot of another member.',
      { start: 0.1, factor: 2, count: 10 },
    );
    const hash = { start: 0.01, factor: 2, count: 15 };
    this.hashSeconds = registry.histogram('etcd_mvcc_hash_duration_seconds', 'Time of a Hash.', hash);
    this.hashRevSeconds = registry.histogram(
      'etcd_mvcc_hash_rev_duration_seconds',
      'Time of a HashKV.',
      hash,
    );
    const compaction = (name: string): string => `etcd_debugging_mvcc_db_compaction_${name}`;
    this.compactionPauseMs = registry.histogram(
      compaction('pause_duration_milliseconds'),
      'How long one slice of compaction kept others waiting.',
      { start: 1, factor: 2, count: 13 },
    );
    this.compactionTotalMs = registry.histogram(
      compaction('total_duration_milliseconds'),
      'Time of a whole compaction in the background.',
      { start: 100, factor: 2, count: 14 },
    );
    this.compactionKeys = registry.counter(compaction('keys_total'), 'Versions that compaction has removed.');
    this.compactionLast = registry.gauge(
      compaction('last'),
      'Unix time at which the last compaction began; 0: none since the start.',
    );
    addUnused(registry, seconds);
  }
}

/** Dashboards of etcd name them. */
function addUnused(registry: MetricRegistry, seconds: (name: string, help: string) => Histogram): void {
  const none = 'Always empty: RocksDB has no such step.';
  for (const step of ['rebalance', 'spill', 'write'])
    seconds(`etcd_debugging_disk_backend_commit_${step}_duration_seconds`, none);
  for (const step of ['save_marshalling', 'save_total'])
    seconds(`etcd_debugging_snap_${step}_duration_seconds`, none);
  seconds('etcd_snap_db_fsync_duration_seconds', none);
  seconds('etcd_snap_fsync_duration_seconds', none);
  registry.histogram('etcd_debugging_mvcc_index_compaction_pause_duration_milliseconds', none, {
    start: 0.5,
    factor: 2,
    count: 14,
  });
}
