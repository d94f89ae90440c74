import { MetricRegistry, NumberMetric } from '@quoin/base';

/** What operators watch: is there a recent good backup, and how did the last attempts go. */
export class BackupMetrics {
  readonly registry = new MetricRegistry();
  readonly lastSuccess = this.gauge(
    'quoin_backup_last_success_timestamp_seconds',
    'Unix time at which the last backup was finished and verified.',
  );
  readonly lastBytes = this.gauge('quoin_backup_last_size_bytes', 'Size of the last backup.');
  readonly lastDuration = this.gauge(
    'quoin_backup_last_duration_seconds',
    'Time that the last backup took, verification included.',
  );
  readonly lastRevision = this.gauge('quoin_backup_last_revision', 'Revision of the last backup.');
  readonly stored = this.gauge(
    'quoin_backup_stored',
    'Finished backups of the cluster in the target directory.',
  );
  readonly running = this.gauge('quoin_backup_in_progress', '1 while a backup is being taken.');
  readonly successes = this.counter('quoin_backup_success_total', 'Backups finished and verified.');
  readonly failures = this.counter(
    'quoin_backup_failures_total',
    'Backups given up, after every member had been tried.',
  );
  readonly retries = this.counter(
    'quoin_backup_retries_total',
    'Attempts at one member that failed and were made again at another.',
  );
  readonly pruned = this.counter('quoin_backup_pruned_total', 'Old backups removed.');

  private gauge(name: string, help: string): NumberMetric {
    return this.registry.add(new NumberMetric('gauge', name, help));
  }

  private counter(name: string, help: string): NumberMetric {
    return this.registry.add(new NumberMetric('counter', name, help));
  }
}
