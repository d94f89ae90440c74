import { type Clock, type Log, type NumberMetric, RateLimit } from '@quoin/base';

export interface HeartbeatWatchParts {
  readonly clock: Clock;
  readonly log: Log;
  readonly intervalMs: number;
  readonly failures: () => NumberMetric;
  readonly isLeader: () => boolean;
}

/** Notices that heartbeats were due and this process did not run: followers take such a leader for dead. */
export class HeartbeatWatch {
  /** Monotonic ms of the last tick. */
  tickedMs: number;
  private readonly parts: HeartbeatWatchParts;
  private readonly limit = new RateLimit(10_000);

  constructor(parts: HeartbeatWatchParts) {
    this.parts = parts;
    this.tickedMs = parts.clock.monotonicMs();
  }

  /** Once each heartbeat interval. As with etcd, what comes after twice the interval is late. */
  tick(nowMs: number): void {
    const { intervalMs, isLeader, failures, log } = this.parts;
    const gapMs = nowMs - this.tickedMs;
    this.tickedMs = nowMs;
    if (gapMs < 2 * intervalMs || !isLeader()) return;
    failures().inc();
    const repeated = this.limit.pass('late', nowMs);
    if (repeated === undefined) return;
    log.warn('leader sent its heartbeats late: this machine is overloaded, or its process stood still', {
      'gap-ms': gapMs,
      'heartbeat-interval-ms': intervalMs,
      repeated,
    });
  }
}
