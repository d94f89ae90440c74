import { type Log, type Span, SpanKind, type Tracer } from '@quoin/base';
import { type BackupSource, fromSomeMember } from '@quoin/client';
import { BackupDiskError, listBackups, pruneBackups, type StoredBackup, writeBackup } from '@quoin/platform';
import type { BackupMetrics } from './metrics.ts';
import type { WorkerOptions } from './options.ts';

/** After a failure the next attempt does not wait for the whole interval, but twice as long as the last time. */
const retryMsMin = 1_000;
const retryMs = 60_000;
/** setTimeout's limit. */
const sleepMsMax = 2 ** 31 - 1;

/**
 * Takes backups when they are due.
 *
 *     idle ──due, or asked──► taking: member by member until one gives its whole state ──► pruning ──► idle
 *
 * One at a time: who asks while one is under way gets that one.
 */
export class Worker {
  private readonly options: WorkerOptions;
  private readonly log: Log;
  private readonly metrics: BackupMetrics;
  private readonly tracer: Tracer | undefined;
  private timer: NodeJS.Timeout | undefined;
  private running: Promise<StoredBackup> | undefined;
  private readonly stopping = new AbortController();
  private lastFailure: string | undefined;
  private failuresInRow = 0;
  private lastSuccessMs = 0;
  private readonly startedMs = Date.now();

  constructor(options: WorkerOptions, log: Log, metrics: BackupMetrics, tracer?: Tracer) {
    this.options = options;
    this.log = log;
    this.metrics = metrics;
    this.tracer = tracer;
  }

  /** A restart does not begin a new interval: what counts is the newest backup there is. */
  async start(): Promise<void> {
    const newest = (await listBackups(this.options.dir)).at(-1);
    if (newest !== undefined) this.lastSuccessMs = Date.parse(newest.manifest.createdAt);
    if (this.options.intervalMs === 0) return;
    const dueMs = newest === undefined ? 0 : this.lastSuccessMs + this.options.intervalMs - Date.now();
    this.schedule(Math.max(0, dueMs));
  }

  /** Breaks off what is under way, which leaves nothing behind. */
  async stop(): Promise<void> {
    this.stopping.abort();
    clearTimeout(this.timer);
    await this.running?.catch(() => undefined);
  }

  /** Age of the newest backup that is whole. */
  lagMs(): number {
    return Date.now() - (this.lastSuccessMs > 0 ? this.lastSuccessMs : this.startedMs);
  }

  /** Undefined: all is well. */
  problem(): string | undefined {
    if (this.lastFailure !== undefined) return this.lastFailure;
    const { intervalMs } = this.options;
    const late =
      intervalMs > 0 && this.lastSuccessMs > 0 && Date.now() - this.lastSuccessMs > 2 * intervalMs + retryMs;
    return late ? `the last backup is of ${new Date(this.lastSuccessMs).toISOString()}` : undefined;
  }

  /** The backup that is under way, or a new one. @throws Error when no member could give one */
  now(): Promise<StoredBackup> {
    if (this.stopping.signal.aborted) return Promise.reject(new Error('the worker is stopping'));
    this.running ??= this.run().finally(() => {
      this.running = undefined;
    });
    return this.running;
  }

  private schedule(delayMs: number): void {
    if (this.stopping.signal.aborted) return;
    clearTimeout(this.timer);
    this.timer = setTimeout(
      () => {
        if (delayMs > sleepMsMax) return this.schedule(delayMs - sleepMsMax);
        this.now().catch(() => undefined); // logged and counted where it failed
      },
      Math.min(delayMs, sleepMsMax),
    );
  }

  private async run(): Promise<StoredBackup> {
    const { metrics, options } = this;
    const span = this.tracer?.root('backup');
    metrics.running.set(1);
    try {
      const backup = await this.take(span);
      this.succeeded(backup);
      const pruneMs = performance.now();
      await this.prune(BigInt(`0x${backup.manifest.clusterId}`));
      if (span !== undefined) this.tracer?.record('backup.prune', span.context, pruneMs, performance.now());
      span?.end({ 'quoin.revision': backup.manifest.revision, 'quoin.bytes': backup.manifest.fileBytes });
      if (options.intervalMs > 0) this.schedule(options.intervalMs);
      return backup;
    } catch (error) {
      this.lastFailure = (error as Error).message;
      span?.fail(this.lastFailure);
      metrics.failures.inc();
      this.log.error('backup failed', { error: this.lastFailure });
      if (options.intervalMs > 0) {
        this.schedule(Math.min(options.intervalMs, retryMs, retryMsMin * 2 ** this.failuresInRow++));
      }
      throw error;
    } finally {
      metrics.running.set(0);
    }
  }

  private take(span: Span | undefined): Promise<StoredBackup> {
    const options = {
      members: this.options.members,
      tls: this.options.tls?.(),
      name: `backup ${this.options.name}`,
      signal: this.stopping.signal,
      trace: span?.context,
      isFinal: (error: Error) => error instanceof BackupDiskError,
      onRetry: (source: BackupSource, { message }: Error) => {
        this.metrics.retries.inc();
        this.log.warn('backup from this member failed, trying another', {
          member: source.name,
          url: source.url,
          error: message,
        });
      },
    };
    return fromSomeMember(options, (source) => this.takeFrom(source, span));
  }

  private async takeFrom(source: BackupSource, span: Span | undefined): Promise<StoredBackup> {
    const { log, tracer } = this;
    const startMs = performance.now();
    let receivedMs = startMs;
    log.info('taking a backup', {
      member: source.name,
      url: source.url,
      leader: source.isLeader,
      cluster: source.clusterId,
    });
    const backup = await writeBackup(source.chunks, {
      dir: this.options.dir,
      clusterId: source.clusterId,
      members: source.members,
      keys: this.options.keys?.(),
      onProgress: (bytes) => log.info('backup under way', { bytes }),
      onReceived: () => {
        receivedMs = performance.now();
      },
    });
    if (span !== undefined && tracer !== undefined) {
      const from = { 'quoin.member': source.name };
      tracer.record('backup.receive', span.context, startMs, receivedMs, SpanKind.internal, from);
      tracer.record('backup.verify', span.context, receivedMs, performance.now());
    }
    return backup;
  }

  private succeeded({ path, manifest }: StoredBackup): void {
    const { metrics } = this;
    this.lastFailure = undefined;
    this.failuresInRow = 0;
    this.lastSuccessMs = Date.now();
    metrics.successes.inc();
    metrics.lastSuccess.set(Math.floor(this.lastSuccessMs / 1000));
    metrics.lastBytes.set(manifest.fileBytes);
    metrics.lastDuration.set(manifest.durationMs / 1000);
    metrics.lastRevision.set(manifest.revision);
    const { revision, entries, fileBytes, durationMs } = manifest;
    this.log.info('backup taken and verified', {
      path,
      revision,
      entries,
      bytes: fileBytes,
      'duration-ms': durationMs,
    });
  }

  /** The backup is there whatever becomes of older ones. */
  private async prune(clusterId: bigint): Promise<void> {
    const { dir, keep } = this.options;
    try {
      const removed = await pruneBackups(dir, clusterId, keep, Date.now());
      this.metrics.pruned.inc(removed.length);
      for (const path of removed) this.log.info('removed an old backup', { path });
      this.metrics.stored.set((await listBackups(dir, clusterId)).length);
    } catch (error) {
      this.log.warn('could not remove old backups', { error: (error as Error).message });
    }
  }
}
