/**
 * ReadIndex (thesis §6.4): the leader notes its commit index, proves by one heartbeat round that it was still leader
 * afterwards, and the read may be served by whoever has applied up to that index.
 *
 *     queued ── ready() starts a round: index := commit, number := ++last ──► rounds ── quorum acked ≥ number ──► answered
 *
 * Round numbers only ever rise, are made by the leader itself, and an answer counts in the term that it was asked in.
 * So no confirmation can be taken for one of another attempt, of another round or of another leader (etcd issue
 * 20418: a reused request id let a paused leader serve stale reads).
 */
import { Deque } from '@quoin/base';
import type { NodeId } from './types.ts';

export interface PendingRead {
  /** The node that asked. */
  readonly from: NodeId;
  /** Its number for it. */
  readonly context: number;
}

interface Round {
  readonly number: number;
  readonly index: number;
  /** The clock of leases when the round was sent: what it proves counts from there. */
  readonly startMs: number;
  readonly reads: readonly PendingRead[];
}

export class ReadOnly {
  private queuedReads: PendingRead[] = [];
  private rounds = new Deque<Round>();
  private waiting = 0;
  private last = 0;

  /** Reads queued or in a round. */
  get pending(): number {
    return this.waiting;
  }

  /** What a heartbeat has to carry, so that its answers confirm all rounds under way; 0 = none is. */
  get context(): number {
    return this.rounds.length === 0 ? 0 : this.last;
  }

  hasQueued(): boolean {
    return this.queuedReads.length > 0;
  }

  queue(from: NodeId, context: number): void {
    this.queuedReads.push({ from, context });
    this.waiting++;
  }

  /** All queued reads become one round, at this commit index. */
  startRound(commit: number, nowMs: number): void {
    this.last++;
    this.rounds.push({ number: this.last, index: commit, startMs: nowMs, reads: this.queuedReads });
    this.queuedReads = [];
  }

  /** All queued reads at once: no round is needed. */
  takeQueued(): readonly PendingRead[] {
    const reads = this.queuedReads;
    this.queuedReads = [];
    this.waiting -= reads.length;
    return reads;
  }

  /** The next round that a quorum has answered. */
  takeConfirmed(ackedRound: number): Round | undefined {
    const round = this.rounds.at(0);
    if (round === undefined || round.number > ackedRound) return undefined;
    this.rounds.shift();
    this.waiting -= round.reads.length;
    return round;
  }

  /** Leadership is over: whatever waits must be asked again. Numbers go on, they are never used twice. */
  drop(): readonly PendingRead[] {
    const dropped: PendingRead[] = [];
    for (let round = this.rounds.shift(); round !== undefined; round = this.rounds.shift())
      dropped.push(...round.reads);
    dropped.push(...this.queuedReads);
    this.queuedReads = [];
    this.waiting = 0;
    return dropped;
  }
}
