/**
 * Brings spans to the collector, one export at a time, whatever the collector does:
 *
 *     idle ──a batch waits, or the delay is over──► sending ──taken──► idle
 *       ▲                                              │ refused, silent, not there
 *       └────────── pause, longer each time ◄──────────┘  its spans are lost; others wait in the bounded queue
 *
 * Nothing waits for it. An outage is one warning when it begins and one line when it is over.
 */
import { type Log, type MetricRegistry, RateLimit, ScrapedMetric } from '@quoin/base';
import type { OtlpTransport } from './otlp-transport.ts';
import type { SpanQueue } from './span-queue.ts';

export interface ExporterLimits {
  readonly batchSpansMax: number;
  readonly batchDelayMs: number;
}

const pauseMsMin = 1_000;
const pauseMsMax = 30_000;
const fullWarningIntervalMs = 60_000;
const clockToleranceMs = 2;

/** Shared by the roles of a process. */
export class SpanCounts {
  exported = 0;
  lost = 0;
  failures = 0;
  readonly queues: SpanQueue[] = [];

  register(registry: MetricRegistry): void {
    const sum = (of: (queue: SpanQueue) => number): number =>
      this.queues.reduce((total, queue) => total + of(queue), 0);
    registry.counter('quoin_tracing_spans_total', 'Spans recorded.', () => sum((queue) => queue.written));
    registry.counter(
      'quoin_tracing_spans_exported_total',
      'Spans that a collector took.',
      () => this.exported,
    );
    registry.counter('quoin_tracing_export_failures_total', 'Exports that failed.', () => this.failures);
    registry.add(
      new ScrapedMetric(
        'counter',
        'quoin_tracing_spans_dropped_total',
        'Spans that no collector got, by reason.',
        ['reason'],
        () => [
          [['queue_full'], sum((queue) => queue.dropped)],
          [['export_failed'], this.lost],
        ],
      ),
    );
    registry.gauge('quoin_tracing_spans_waiting', 'Spans that wait for an export.', () =>
      sum((queue) => queue.length),
    );
  }
}

export class SpanExporter {
  private readonly queue: SpanQueue;
  private readonly transport: OtlpTransport;
  private readonly limits: ExporterLimits;
  private readonly counts: SpanCounts;
  private readonly log: Log;
  private readonly address: string;
  private readonly warnings = new RateLimit(fullWarningIntervalMs);
  private readonly timer: NodeJS.Timeout;
  private sending = false;
  private scheduled = false;
  private pauseMs = 0;
  private pausedUntilMs = 0;
  private lostSince = 0;
  private droppedBefore = 0;
  private closing: (() => void) | undefined;

  constructor(
    queue: SpanQueue,
    transport: OtlpTransport,
    limits: ExporterLimits,
    counts: SpanCounts,
    log: Log,
    address: string,
  ) {
    this.queue = queue;
    this.transport = transport;
    this.limits = limits;
    this.counts = counts;
    this.log = log;
    this.address = address;
    queue.onBatch = () => this.wake();
    this.timer = setInterval(() => this.tick(), limits.batchDelayMs);
    this.timer.unref();
  }

  /** Sends what waits and ends, after `timeoutMs` at the latest. */
  async close(timeoutMs: number): Promise<void> {
    clearInterval(this.timer);
    await new Promise<void>((resolve) => {
      const bound = setTimeout(resolve, timeoutMs);
      this.closing = () => {
        clearTimeout(bound);
        resolve();
      };
      this.pausedUntilMs = 0;
      this.send();
    });
    this.transport.close();
  }

  private wake(): void {
    if (this.sending || this.scheduled) return;
    this.scheduled = true;
    // Not in the turn of the request that filled the batch.
    setImmediate(() => {
      this.scheduled = false;
      this.send();
    });
  }

  private tick(): void {
    this.queue.followClock(Date.now(), performance.now(), clockToleranceMs);
    this.send();
  }

  private send(): void {
    if (this.sending) return;
    if (performance.now() < this.pausedUntilMs) return;
    const batch = this.queue.take(this.limits.batchSpansMax);
    if (batch === undefined) {
      this.closing?.();
      return;
    }
    this.sending = true;
    this.transport.send(batch, (problem) => {
      this.sending = false;
      this.queue.release(batch);
      if (problem === undefined) this.taken(batch.spans);
      else this.failed(batch.spans, problem);
      if (this.closing !== undefined && problem !== undefined) this.closing();
      else if (this.closing !== undefined || this.queue.length >= this.limits.batchSpansMax) this.wake();
    });
  }

  private taken(spans: number): void {
    this.counts.exported += spans;
    this.tellDropped();
    if (this.pauseMs === 0) return;
    this.pauseMs = 0;
    this.log.info('traces are exported again', { collector: this.address, 'spans-lost': this.lostSince });
    this.lostSince = 0;
  }

  /** Of a collector that takes them, but not fast enough: while it is away, its own warning says it all. */
  private tellDropped(): void {
    const dropped = this.queue.dropped - this.droppedBefore;
    this.droppedBefore = this.queue.dropped;
    if (dropped === 0 || this.pauseMs > 0) return;
    if (this.warnings.pass('full', performance.now()) === undefined) return;
    this.log.warn(
      'the queue of spans was full and some were dropped: sample fewer requests, or raise OTEL_BSP_MAX_QUEUE_SIZE',
      { spans: dropped },
    );
  }

  private failed(spans: number, problem: string): void {
    this.counts.failures++;
    this.counts.lost += spans;
    this.lostSince += spans;
    if (this.pauseMs === 0) {
      this.log.warn(
        'traces cannot be exported: check that the collector runs and that --distributed-tracing-address or OTEL_EXPORTER_OTLP_ENDPOINT names it; requests go on without',
        { collector: this.address, error: problem },
      );
    }
    this.pauseMs = Math.min(pauseMsMax, Math.max(pauseMsMin, this.pauseMs * 2));
    this.pausedUntilMs = performance.now() + this.pauseMs;
  }
}
