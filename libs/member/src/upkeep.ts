/**
 * Background work on the store and the log, in small steps between turns: making the state durable, releasing the log
 * below it, removing compacted revisions, warming the cache after a start.
 *
 *   log:  | released | kept for slow members | applied, durable | applied | committed | … |
 *                    ▲ released               ▲ flushed − catch-up        ▲ applied
 *
 * The log is released only below what the engine has durably: what is lost there in a crash is applied again.
 */
import type { Clock, Log, Timer, Timers } from '@quoin/base';
import type { Store } from '@quoin/mvcc';
import type { Raft } from '@quoin/raft';
import type { Wal } from '@quoin/wal';
import type { MemberConfig } from './config.ts';
import type { MemberMetrics } from './member-metrics.ts';

export interface UpkeepParts {
  readonly config: MemberConfig;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly log: Log;
  readonly metrics: MemberMetrics;
  readonly raft: Raft;
  readonly wal: Wal;
  readonly store: () => Store;
  /** Bytes of log applied since start. */
  readonly appliedBytes: () => number;
  /** The log above it is still needed by a transfer. */
  readonly holdIndex: () => number;
  readonly fatal: (reason: string) => void;
}

// A step is cut by time, since what one entry costs differs by a factor of a hundred with cache and disk.
const stepMs = 4;
// By count, too: removal may have to wait for a reader, and simulated time stands still within a turn.
const stepRounds = 20;
const stepEntries = 50;
const warmEntries = 500;

interface Mark {
  readonly index: number;
  readonly bytes: number;
}

export class Upkeep {
  private readonly parts: UpkeepParts;
  private flushing: boolean;
  private flushedMs: number;
  private flushedBytes: number;
  private flushedIndex: number;
  private releasedIndex: number;
  /** How many bytes had been applied when an index was reached, for the bound of the log in bytes. */
  private marks: Mark[];
  private stepTimer: Timer | undefined;
  private warming: boolean;
  /** When the last compaction was asked for, or this member started. */
  private compactionMs: number;
  private afterCompaction: (() => void)[];
  private afterFlush: (() => void)[];
  private stopped: boolean;

  constructor(parts: UpkeepParts, releasedIndex: number) {
    this.parts = parts;
    this.flushing = false;
    this.flushedMs = parts.clock.monotonicMs();
    this.flushedBytes = 0;
    this.flushedIndex = parts.store().appliedIndex;
    this.releasedIndex = releasedIndex;
    this.marks = [];
    this.stepTimer = undefined;
    this.warming = true;
    this.compactionMs = parts.clock.monotonicMs();
    this.afterCompaction = [];
    this.afterFlush = [];
    this.stopped = false;
    this.scheduleStep();
  }

  /** Every tick. */
  tick(nowMs: number): void {
    const { config, store, appliedBytes } = this.parts;
    const applied = store().appliedIndex;
    const bytes = appliedBytes();
    const last = this.marks.at(-1);
    if (
      last === undefined ||
      (last.index < applied && bytes - last.bytes > config.snapshotCatchupBytes / 64)
    ) {
      this.marks.push({ index: applied, bytes });
    }
    if (this.flushing || applied === this.flushedIndex) return;
    const due =
      nowMs - this.flushedMs >= config.flushIntervalMs || bytes - this.flushedBytes >= config.flushBytes;
    if (due) this.flush(() => {});
  }

  /** Makes the state as of the last commit durable. */
  flush(cb: () => void): void {
    if (this.flushing) {
      this.afterFlush.push(() => this.flush(cb));
      return;
    }
    const { store, clock, appliedBytes, metrics, fatal } = this.parts;
    const startedMs = clock.monotonicMs();
    const bytes = appliedBytes();
    const flushed = store();
    this.flushing = true;
    flushed.flush((error, index) => {
      this.flushing = false;
      if (error !== null) {
        fatal(`the store could not be made durable: ${error.message}`);
        return;
      }
      metrics.disk.flushSeconds.observe((clock.monotonicMs() - startedMs) / 1_000);
      this.flushedMs = clock.monotonicMs();
      this.flushedBytes = bytes;
      // A snapshot may have taken the store's place meanwhile.
      if (flushed === store()) this.flushedIndex = index;
      this.release();
      cb();
      const waiting = this.afterFlush;
      this.afterFlush = [];
      for (const fn of waiting) fn();
    });
  }

  /** Calls back when no flush is in flight: only then an engine may be closed. */
  whenIdle(cb: () => void): void {
    if (this.flushing) this.afterFlush.push(() => this.whenIdle(cb));
    else cb();
  }

  /** A snapshot has replaced store and log: both begin at its index. */
  replaced(index: number): void {
    this.flushedIndex = index;
    this.releasedIndex = index;
    this.marks = [];
    this.warming = true;
    this.scheduleStep();
  }

  /** Calls back when every removal up to the compact revision has happened. */
  compacting(done: (() => void) | undefined): void {
    const { clock, metrics } = this.parts;
    this.compactionMs = clock.monotonicMs();
    metrics.disk.compactionLast.set(Math.floor(clock.wallMs() / 1_000));
    if (done !== undefined) this.afterCompaction.push(done);
    this.scheduleStep();
  }

  stop(): void {
    this.stopped = true;
    this.stepTimer?.cancel();
    this.stepTimer = undefined;
  }

  private release(): void {
    const { config, raft, wal, holdIndex, appliedBytes } = this.parts;
    const kept = this.flushedIndex - this.releasedIndex;
    const overBytes = this.bytesSince(this.releasedIndex) > 2 * config.snapshotCatchupBytes;
    if (kept < config.snapshotCount + config.snapshotCatchupEntries && !overBytes) return;
    let target = this.flushedIndex - config.snapshotCatchupEntries;
    if (overBytes) {
      const floor = appliedBytes() - config.snapshotCatchupBytes;
      for (const mark of this.marks) if (mark.bytes <= floor) target = Math.max(target, mark.index);
    }
    target = Math.min(target, this.flushedIndex, holdIndex());
    if (target <= this.releasedIndex) return;
    raft.compact(target);
    wal.release(target);
    this.releasedIndex = target;
    this.marks = this.marks.filter((mark) => mark.index >= target);
  }

  private bytesSince(index: number): number {
    const mark = this.marks.find((m) => m.index >= index);
    return mark === undefined ? 0 : this.parts.appliedBytes() - mark.bytes;
  }

  private scheduleStep(): void {
    if (this.stopped || this.stepTimer !== undefined) return;
    this.stepTimer = this.parts.timers.after(this.parts.config.compactionSleepIntervalMs, () => {
      this.stepTimer = undefined;
      this.step();
    });
  }

  private step(): void {
    const { clock, log, config, metrics } = this.parts;
    const store = this.parts.store();
    const startedMs = clock.monotonicMs();
    const endMs = startedMs + stepMs;
    const removedBefore = store.stats.removedVersions;
    let left = config.compactionBatchLimit;
    let outcome = store.compactionStep(Math.min(left, stepEntries));
    for (
      left -= stepEntries;
      left > 0 && outcome === 'more' && clock.monotonicMs() < endMs;
      left -= stepEntries
    ) {
      outcome = store.compactionStep(Math.min(left, stepEntries));
    }
    if (outcome !== 'idle') {
      metrics.disk.compactionKeys.inc(store.stats.removedVersions - removedBefore);
      metrics.disk.compactionPauseMs.observe(clock.monotonicMs() - startedMs);
    }
    if (outcome !== 'more') {
      const waiting = this.afterCompaction;
      this.afterCompaction = [];
      for (const done of waiting) done();
      if (outcome === 'done') {
        metrics.disk.compactionTotalMs.observe(clock.monotonicMs() - this.compactionMs);
        log.info('finished compaction', { compactRevision: store.compactRevision });
      }
    }
    for (let i = 0; i < stepRounds && this.warming && clock.monotonicMs() < endMs; i++) {
      this.warming = store.warm(warmEntries);
    }
    if (outcome === 'more' || this.warming) this.scheduleStep();
  }
}
