/**
 * What the leader knows of one member and how it feeds it.
 *
 *                     append accepted
 *          ┌─────────┐ ─────────────────────► ┌───────────┐
 *     ────►│  probe  │                        │ replicate │  sends ahead, bounded by the window
 *          └─────────┘ ◄───────────────────── └───────────┘
 *            │     ▲    rejected, unreachable        │
 *            │     │                                 │ needs entries that were compacted
 *            ▼     │ transfer ended, or acknowledged past the log's start
 *          ┌──────────┐                              │
 *          │ snapshot │ ◄────────────────────────────┘
 *          └──────────┘   sends nothing but heartbeats
 *
 * probe sends one append per answer or heartbeat: it does not know yet where the logs agree.
 * Invariant: 0 ≤ match < next.
 */
import type { NodeId } from './types.ts';

export type ProgressState = 'probe' | 'replicate' | 'snapshot';

export class Progress {
  readonly id: NodeId;
  learner: boolean;
  state: ProgressState;
  /** Last index known to be durable there. */
  match: number;
  /** Next index to send; in replicate it runs ahead of what was acknowledged. */
  next: number;
  /** The commit index that it last told. */
  commit: number;
  /** The highest commit index that was sent. It may be lost: heartbeats repeat it. */
  sentCommit: number;
  recentActive: boolean;
  /** probe: one append is out; wait for its answer or the next heartbeat's. */
  probeSent: boolean;
  /** replicate: send an append even if it is empty, to find out whether something was lost. */
  nudge: boolean;
  /** Index of the snapshot asked for; 0 = none. */
  pendingSnapshot: number;
  /** The newest heartbeat round that it answered in this term. */
  ackedRound: number;
  readonly inflights: Inflights;

  constructor(id: NodeId, learner: boolean, next: number, maxMessages: number, maxBytes: number) {
    this.id = id;
    this.learner = learner;
    this.state = 'probe';
    this.match = 0;
    this.next = next;
    this.commit = 0;
    this.sentCommit = 0;
    this.recentActive = false;
    this.probeSent = false;
    this.nudge = false;
    this.pendingSnapshot = 0;
    this.ackedRound = 0;
    this.inflights = new Inflights(maxMessages, maxBytes);
  }

  /** A new leader knows nothing: it assumes that the member has all of its log and probes there. */
  reset(next: number): void {
    this.enter('probe');
    this.match = 0;
    this.next = next;
    this.commit = 0;
    this.sentCommit = 0;
    this.recentActive = false;
    this.ackedRound = 0;
  }

  becomeProbe(): void {
    // After a snapshot that arrived, the log goes on behind it.
    const next = this.state === 'snapshot' ? Math.max(this.match, this.pendingSnapshot) + 1 : this.match + 1;
    this.enter('probe');
    this.next = next;
    this.sentCommit = Math.min(this.sentCommit, next - 1);
  }

  becomeReplicate(): void {
    this.enter('replicate');
    this.next = this.match + 1;
  }

  becomeSnapshot(index: number): void {
    this.enter('snapshot');
    this.pendingSnapshot = index;
    this.next = index + 1;
    this.sentCommit = index;
  }

  private enter(state: ProgressState): void {
    this.state = state;
    this.probeSent = false;
    this.nudge = false;
    this.pendingSnapshot = 0;
    this.inflights.clear();
  }

  /** An append up to `index` was accepted. False when that is no news. */
  advance(index: number): boolean {
    if (index <= this.match) return false;
    this.match = index;
    if (this.next <= index) this.next = index + 1;
    return true;
  }

  /**
   * The append at `rejected` was refused and the logs may agree at `hint`. False when the answer is out of date:
   * to an append before a position that has been accepted since, or not to the one probe that is out.
   */
  retreat(rejected: number, hint: number): boolean {
    if (this.state === 'snapshot' || rejected <= this.match) return false;
    if (this.state === 'replicate') {
      this.becomeProbe();
      return true;
    }
    if (this.next - 1 !== rejected) return false;
    this.next = Math.max(Math.min(rejected, hint + 1), this.match + 1);
    this.sentCommit = Math.min(this.sentCommit, this.next - 1);
    this.probeSent = false;
    return true;
  }

  isPaused(): boolean {
    if (this.state === 'snapshot') return true;
    return this.state === 'probe' ? this.probeSent : this.inflights.isFull();
  }
}

/**
 * Append messages that are out: last index and bytes of each, oldest first. A ring that grows up to the limit, because
 * most peers never need more than a few places.
 */
class Inflights {
  private readonly maxMessages: number;
  private readonly maxBytes: number;
  private lastIndexes: number[];
  private sizes: number[];
  private head: number;
  count: number;
  bytes: number;

  constructor(maxMessages: number, maxBytes: number) {
    this.maxMessages = maxMessages;
    this.maxBytes = maxBytes;
    this.lastIndexes = new Array<number>(8).fill(0);
    this.sizes = new Array<number>(8).fill(0);
    this.head = 0;
    this.count = 0;
    this.bytes = 0;
  }

  isFull(): boolean {
    return this.count >= this.maxMessages || this.bytes >= this.maxBytes;
  }

  add(lastIndex: number, bytes: number): void {
    if (this.count === this.lastIndexes.length) this.grow();
    const at = (this.head + this.count) & (this.lastIndexes.length - 1);
    this.lastIndexes[at] = lastIndex;
    this.sizes[at] = bytes;
    this.count++;
    this.bytes += bytes;
  }

  /** Everything up to `index` has arrived: an answer to one message answers those before it. */
  freeTo(index: number): void {
    while (this.count > 0 && this.lastIndexes[this.head]! <= index) {
      this.bytes -= this.sizes[this.head]!;
      this.head = (this.head + 1) & (this.lastIndexes.length - 1);
      this.count--;
    }
  }

  clear(): void {
    this.head = 0;
    this.count = 0;
    this.bytes = 0;
  }

  private grow(): void {
    const size = this.lastIndexes.length;
    const indexes = new Array<number>(size * 2).fill(0);
    const sizes = new Array<number>(size * 2).fill(0);
    for (let i = 0; i < this.count; i++) {
      indexes[i] = this.lastIndexes[(this.head + i) & (size - 1)]!;
      sizes[i] = this.sizes[(this.head + i) & (size - 1)]!;
    }
    this.lastIndexes = indexes;
    this.sizes = sizes;
    this.head = 0;
  }
}
