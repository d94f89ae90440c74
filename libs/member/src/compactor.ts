/**
 * Automatic compaction with etcd's cadence. Every member keeps the records, only the leader compacts.
 *
 *   periodic, retention P   every min(P, 1 h) / 10 the revision is noted; once P has passed, every min(P, 1 h) a compaction to
 *                           the revision of P ago; one that fails is tried again at the next note
 *   revision, retention N   every 5 min a compaction to the current revision − N
 */
import type { Clock, Log } from '@quoin/base';
import { etcdErrors, Method, type RpcStatus, WireWriter } from '@quoin/contracts';
import type { Call } from './call.ts';
import type { MemberConfig } from './config.ts';
import type { OwnProposals } from './own-proposals.ts';

export interface CompactorParts {
  readonly config: MemberConfig;
  readonly clock: Clock;
  readonly log: Log;
  readonly own: OwnProposals;
  readonly isLeader: () => boolean;
  readonly revision: () => number;
}

const hourMs = 3_600_000;
const notesPerPeriod = 10;
const revisionIntervalMs = 300_000;

const writer = new WireWriter(64);

export class Compactor {
  private readonly parts: CompactorParts;
  private readonly periodic: boolean;
  private readonly intervalMs: number;
  /** Of the last period, oldest first. */
  private notes: number[];
  private nextMs: number;
  private succeededMs: number;
  private waitMs: number;
  private lastRevision: number;
  private running: boolean;

  constructor(parts: CompactorParts) {
    const { autoCompactionMode, autoCompactionRetention: retention } = parts.config;
    const nowMs = parts.clock.monotonicMs();
    this.parts = parts;
    this.periodic = autoCompactionMode === 'periodic';
    this.intervalMs = this.periodic ? Math.min(retention, hourMs) / notesPerPeriod : revisionIntervalMs;
    this.notes = this.periodic ? [parts.revision()] : [];
    this.nextMs = retention > 0 ? nowMs + this.intervalMs : Number.POSITIVE_INFINITY;
    this.succeededMs = nowMs;
    this.waitMs = retention;
    this.lastRevision = 0;
    this.running = false;
  }

  tick(nowMs: number): void {
    if (nowMs < this.nextMs) return;
    this.nextMs = nowMs + this.intervalMs;
    if (this.periodic) this.tickPeriodic(nowMs);
    else this.compact(this.parts.revision() - this.parts.config.autoCompactionRetention);
  }

  private tickPeriodic(nowMs: number): void {
    const { config, revision } = this.parts;
    const due = nowMs - this.succeededMs >= this.waitMs;
    if (due && this.compact(this.notes[0]!)) this.waitMs = Math.min(config.autoCompactionRetention, hourMs);
    this.notes.push(revision());
    // The first note is always the one of a whole period ago.
    if (this.notes.length > config.autoCompactionRetention / this.intervalMs + 1) this.notes.shift();
  }

  /** True when one was begun. */
  private compact(revision: number): boolean {
    const { own, log, isLeader } = this.parts;
    if (!isLeader() || this.running || revision <= 0 || revision === this.lastRevision) return false;
    this.running = true;
    log.info('starting automatic compaction', { revision });
    writer.begin();
    writer.int(8, revision);
    own.proposeFor(Method.compact, writer.finish(), this.callOf(revision));
    return true;
  }

  private callOf(revision: number): Call {
    const { clock, config, log } = this.parts;
    const ended = (problem: RpcStatus | undefined): void => {
      this.running = false;
      if (problem !== undefined && problem !== etcdErrors.compacted) {
        log.warn('automatic compaction failed', { revision, error: problem.message });
        return;
      }
      this.lastRevision = revision;
      this.succeededMs = clock.monotonicMs();
    };
    return {
      deadlineMs: clock.monotonicMs() + config.requestTimeoutMs,
      trace: undefined,
      caller: 'member',
      reply: () => ended(undefined),
      fail: (status) => ended(status),
      notTaken: () => ended(etcdErrors.notLeader),
    };
  }
}
