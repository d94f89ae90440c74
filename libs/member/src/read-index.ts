/**
 * Linearizable reads without the log (thesis §6.4). One round asks the leader for its commit index, confirmed by
 * a quorum of heartbeats; all reads of a turn share it and are served once this member has applied so far.
 *
 *   waiting ──turn ends──► round (attempt with a fresh number) ──confirmed──► index known ──applied──► ready
 *                            │ no answer in 500 ms, or dropped: next attempt, next number
 *                            └ leader changed: its reads fail, the client asks again
 *
 * A number is never used for two attempts, and an answer to any but the latest attempt is ignored: an answer
 * that was on its way through a pause or a leader change may be older than the read (etcd issue 20418).
 */
import { Deque, Heap, IdMap } from '@quoin/base';
import { etcdErrors } from '@quoin/contracts';
import type { ReadCall } from './call.ts';

interface Round {
  reads: ReadCall[];
  /** The latest attempt; 0 = none under way, because no leader is known. */
  context: number;
  sentAtMs: number;
}

interface Confirmed {
  readonly index: number;
  readonly reads: ReadCall[];
}

export interface ReadIndexOptions {
  readonly retryMs: number;
  /** Above every number that this member used before it restarted. */
  readonly firstContext: number;
  /** Starts an attempt with raft. */
  readonly ask: (context: number) => void;
  /** Each new round. */
  readonly onRound: (reads: number) => void;
  /** A round had to be asked again. */
  readonly onSlow: () => void;
  /** Reads were given up. */
  readonly onFailed: (count: number) => void;
}

/**
 * Rounds under way at once; further turns' reads wait and share the next one. With more of them under load each round serves
 * fewer reads, and costs every member messages all the same; with one alone what has just missed it waits for two.
 */
const roundsMax = 2;

export class ReadIndex {
  private readonly options: ReadIndexOptions;
  private readonly rounds = new IdMap<Round>();
  private waiting: ReadCall[];
  /** Rounds without an attempt under way. */
  private idle: Round[];
  private readonly confirmedRounds = new Heap<Confirmed>((a, b) => a.index - b.index);
  private readonly ready = new Deque<ReadCall>();
  private nextContext: number;
  private leaderKnown: boolean;

  constructor(options: ReadIndexOptions) {
    this.options = options;
    this.waiting = [];
    this.idle = [];
    this.nextContext = options.firstContext;
    this.leaderKnown = false;
  }

  add(read: ReadCall): void {
    this.waiting.push(read);
  }

  /** Reads wait for a round, and one may start. */
  get pending(): boolean {
    return this.waiting.length > 0 && this.rounds.size < roundsMax;
  }

  /** Ends the turn: all that waits becomes one round. */
  startRound(nowMs: number): void {
    if (!this.pending) return;
    const round: Round = { reads: this.waiting, context: 0, sentAtMs: nowMs };
    this.waiting = [];
    this.options.onRound(round.reads.length);
    this.attempt(round, nowMs);
  }

  confirmed(context: number, index: number, appliedIndex: number): void {
    const round = this.rounds.get(context);
    if (round === undefined) return;
    this.rounds.delete(context);
    this.confirmedRounds.push({ index, reads: round.reads });
    this.applied(appliedIndex);
  }

  /** Raft had no answer for this attempt; the next one is made by `tick` or `retry`. */
  dropped(context: number): void {
    const round = this.rounds.get(context);
    if (round === undefined) return;
    this.rounds.delete(context);
    round.context = 0;
    this.idle.push(round);
  }

  /** Reads whose attempt the old leader may have answered fail; those never sent go to the new one. */
  leaderChanged(leaderKnown: boolean, nowMs: number): void {
    this.leaderKnown = leaderKnown;
    if (!leaderKnown) return;
    const sent = this.rounds.values();
    this.rounds.clear();
    for (const round of sent) {
      this.options.onFailed(round.reads.length);
      for (const read of round.reads) read.fail(etcdErrors.leaderChanged);
    }
    this.retry(nowMs);
  }

  /** Makes the next attempt of every idle round, as one. Also when a new leader has committed in its own term. */
  retry(nowMs: number): void {
    const reads = this.idle.flatMap((round) => round.reads);
    this.idle = [];
    if (reads.length > 0) this.attempt({ reads, context: 0, sentAtMs: nowMs }, nowMs);
  }

  /** Every 100 ms or so: retries and deadlines. */
  tick(nowMs: number): void {
    for (const round of this.rounds.values()) {
      if (nowMs - round.sentAtMs < this.options.retryMs) continue;
      this.rounds.delete(round.context);
      this.idle.push(round);
      this.options.onSlow();
    }
    this.waiting = this.expire(this.waiting, nowMs);
    for (const round of this.rounds.values()) round.reads = this.expire(round.reads, nowMs);
    for (const round of this.idle) round.reads = this.expire(round.reads, nowMs);
    this.idle = this.idle.filter((round) => round.reads.length > 0);
    if (this.idle.some((round) => nowMs - round.sentAtMs >= this.options.retryMs)) this.retry(nowMs);
  }

  /** Reads up to this index become ready. */
  applied(index: number): void {
    for (
      let top = this.confirmedRounds.peek();
      top !== undefined && top.index <= index;
      top = this.confirmedRounds.peek()
    ) {
      this.confirmedRounds.pop();
      for (const read of top.reads) this.ready.push(read);
    }
  }

  takeReady(): ReadCall | undefined {
    return this.ready.shift();
  }

  get hasReady(): boolean {
    return this.ready.length > 0;
  }

  /** The member stops: nobody gets an answer any more. */
  close(): void {
    const all = [
      ...this.waiting,
      ...this.idle.flatMap((r) => r.reads),
      ...this.rounds.values().flatMap((r) => r.reads),
    ];
    for (let top = this.confirmedRounds.pop(); top !== undefined; top = this.confirmedRounds.pop())
      all.push(...top.reads);
    for (let read = this.ready.shift(); read !== undefined; read = this.ready.shift()) all.push(read);
    this.waiting = [];
    this.idle = [];
    this.rounds.clear();
    for (const read of all) read.fail(etcdErrors.stopped);
  }

  private attempt(round: Round, nowMs: number): void {
    round.sentAtMs = nowMs;
    if (!this.leaderKnown) {
      this.idle.push(round);
      return;
    }
    round.context = this.nextContext++;
    this.rounds.set(round.context, round);
    this.options.ask(round.context);
  }

  private expire(reads: ReadCall[], nowMs: number): ReadCall[] {
    if (!reads.some((read) => read.deadlineMs <= nowMs)) return reads;
    const left: ReadCall[] = [];
    for (const read of reads) {
      if (read.deadlineMs > nowMs) {
        left.push(read);
        continue;
      }
      this.options.onFailed(1);
      read.fail(etcdErrors.timeout);
    }
    return left;
  }
}
