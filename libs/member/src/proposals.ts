/**
 * From a request to a log entry and back to its answer. A turn's proposals are packed into few entries; each has
 * the proposing member (`origin`) and a number that no other proposal of that member ever had, also not before a
 * restart:
 *
 *     id = | 24 bits drawn at start | 40 bits counted |
 *
 *   queued ──turn ends──► proposed at (term, index) ──applied here──► answered
 *     │ not leader           │ another entry committed at that index: it never happened
 *     └► not taken           └► not taken          … neither in time: `request timed out`, outcome unknown
 */
import { assert, Deque, IdMap } from '@quoin/base';
import {
  encodeProposalBatch,
  etcdErrors,
  type FairUse,
  isUrgent,
  type Method,
  type Proposal,
} from '@quoin/contracts';
import type { Call } from './call.ts';
import { noLimits, proposalLimits } from './fair-use.ts';

export interface PendingProposal {
  readonly sequence: number;
  readonly method: Method;
  readonly bytes: number;
  readonly startedMs: number;
  readonly deadlineMs: number;
  /** In a batch of this member's, so that its place in the log tells whether it can still happen. */
  readonly batched: boolean;
  /** Absent for what the member proposes on its own. */
  readonly call: Call | undefined;
}

/** Where a batch was put in the log, to notice when another entry takes that place. */
interface Placed extends BatchTimes {
  readonly index: number;
  readonly term: number;
  readonly first: number;
  readonly last: number;
}

/** When one batch got where, monotonic ms; 0: not yet, or this member did not see it. */
export interface BatchTimes {
  readonly proposedMs: number;
  durableMs: number;
  committedMs: number;
}

export interface ProposalsOptions {
  readonly origin: bigint;
  /** 24 bits, different at each start. */
  readonly epoch: number;
  readonly maxBatchBytes: number;
  readonly maxBatchCount: number;
  readonly maxRequestBytes: number;
  readonly maxPendingBytes: number;
  readonly fairUse: FairUse | undefined;
  /** Each batch that goes into the log. */
  readonly onBatch: (requests: number) => void;
}

export type ProposeResult = { readonly index: number; readonly term: number } | 'notLeader' | 'overloaded';

const noTrace = new Uint8Array(0);
const sequenceBits = 40n;
const sequenceMask = (1n << sequenceBits) - 1n;

export class Proposals {
  private readonly options: ProposalsOptions;
  private readonly epoch: bigint;
  private readonly pending = new IdMap<PendingProposal>();
  private queue: Proposal[];
  private readonly placed = new Deque<Placed>();
  /** Of the batch whose entry is being applied; undefined: it is not one of this member's. */
  applying: BatchTimes | undefined;
  private nextSequence: number;
  private pendingBytes: number;
  /** When the last change from one leader to the next ended; 0 = not seen. */
  private leaderElectedMs: number;

  constructor(options: ProposalsOptions) {
    this.options = options;
    this.epoch = BigInt(options.epoch & 0xff_ffff) << sequenceBits;
    this.queue = [];
    this.applying = undefined;
    this.nextSequence = 1;
    this.pendingBytes = 0;
    this.leaderElectedMs = 0;
  }

  get pendingCount(): number {
    return this.pending.size;
  }

  get queued(): boolean {
    return this.queue.length > 0;
  }

  /** Queues for the end of the turn; answers at once what cannot be taken. */
  add(method: Method, body: Uint8Array, call: Call | undefined, nowMs: number, deadlineMs: number): void {
    if (body.length > this.options.maxRequestBytes) {
      call?.fail(etcdErrors.requestTooLarge);
      return;
    }
    const room = (isUrgent(method) ? 2 : 1) * this.options.maxPendingBytes;
    if (this.pendingBytes + body.length > room) {
      call?.fail(etcdErrors.requestTooManyRequests);
      return;
    }
    const sequence = this.nextSequence++;
    this.pendingBytes += body.length;
    this.pending.set(sequence, {
      sequence,
      method,
      bytes: body.length,
      startedMs: nowMs,
      deadlineMs,
      batched: true,
      call,
    });
    const { user, authRevision, own } = nameOf(call);
    const { fairUse } = this.options;
    const { leaseLimit, keyLimits } =
      fairUse === undefined || own ? noLimits : proposalLimits(fairUse, method, body, user);
    this.queue.push({
      origin: this.options.origin,
      id: this.idOf(sequence),
      method,
      body,
      trace: call?.trace ?? noTrace,
      user,
      authRevision,
      own,
      leaseLimit,
      keyLimits,
    });
  }

  /** A number for what is proposed in another way, such as a membership change; its outcome comes by `take`. */
  register(method: Method, call: Call | undefined, nowMs: number, deadlineMs: number): bigint {
    const sequence = this.nextSequence++;
    this.pending.set(sequence, {
      sequence,
      method,
      bytes: 0,
      startedMs: nowMs,
      deadlineMs,
      batched: false,
      call,
    });
    return this.idOf(sequence);
  }

  /** Ends the turn: packs what is queued into entries. `propose` puts one entry's data into the log. */
  flush(nowMs: number, propose: (data: Uint8Array) => ProposeResult): void {
    if (this.queue.length === 0) return;
    const queue = this.queue;
    this.queue = [];
    let from = 0;
    while (from < queue.length) {
      let bytes = queue[from]!.body.length;
      let to = from + 1;
      const end = Math.min(queue.length, from + this.options.maxBatchCount);
      while (to < end && bytes + queue[to]!.body.length <= this.options.maxBatchBytes) {
        bytes += queue[to++]!.body.length;
      }
      const batch = from === 0 && to === queue.length ? queue : queue.slice(from, to);
      this.placeBatch(batch, propose(encodeProposalBatch({ proposals: batch })), nowMs);
      from = to;
    }
  }

  /** Who waits for the proposal with that id, if it is ours. */
  peek(origin: bigint, id: bigint): PendingProposal | undefined {
    if (origin !== this.options.origin || (id & ~sequenceMask) !== this.epoch) return undefined;
    return this.pending.get(Number(id & sequenceMask));
  }

  /** The pending proposal with that id, once; undefined when it is not ours or nobody waits any more. */
  take(origin: bigint, id: bigint): PendingProposal | undefined {
    if (origin !== this.options.origin || (id & ~sequenceMask) !== this.epoch) return undefined;
    const sequence = Number(id & sequenceMask);
    const pending = this.pending.get(sequence);
    if (pending !== undefined) this.forget(pending);
    return pending;
  }

  /** An entry is about to be applied. What we had proposed at its place under another term can never be. */
  committedAt(index: number, term: number): void {
    this.applying = undefined;
    for (let top = this.placed.at(0); top !== undefined && top.index <= index; top = this.placed.at(0)) {
      this.placed.shift();
      if (top.index === index && top.term === term) {
        this.applying = top;
        return;
      }
      // Below `index`: a snapshot has skipped it, so its outcome is unknown and its time runs out.
      if (top.index < index) continue;
      for (let sequence = top.first; sequence <= top.last; sequence++) {
        const pending = this.pending.get(sequence);
        if (pending === undefined || !pending.batched) continue;
        this.forget(pending);
        pending.call?.notTaken();
      }
    }
  }

  /** This member's log has everything up to that index on its disk. */
  durableTo(index: number, nowMs: number): void {
    const { placed } = this;
    for (let i = placed.length - 1; i >= 0; i--) {
      const batch = placed.at(i)!;
      if (batch.index > index) continue;
      if (batch.durableMs !== 0) return;
      batch.durableMs = nowMs;
    }
  }

  /** Everything up to that index is known to be committed. */
  committedTo(index: number, nowMs: number): void {
    const { placed } = this;
    for (let i = placed.length - 1; i >= 0; i--) {
      const batch = placed.at(i)!;
      if (batch.index > index) continue;
      if (batch.committedMs !== 0) return;
      batch.committedMs = nowMs;
    }
  }

  leaderElected(nowMs: number): void {
    this.leaderElectedMs = nowMs;
  }

  /** Gives up what nobody waits for any more; returns how many. */
  tick(nowMs: number, electionTimeoutMs: number): number {
    const expired: PendingProposal[] = [];
    this.pending.forEach((pending) => {
      if (pending.deadlineMs <= nowMs) expired.push(pending);
    });
    for (const pending of expired.sort((a, b) => a.sequence - b.sequence)) {
      this.forget(pending);
      // As etcd reckons: the last leader was lost up to two election timeouts before the new one was there.
      const lostMs = this.leaderElectedMs - 2 * electionTimeoutMs;
      const leaderFailed = pending.startedMs > lostMs && pending.startedMs < this.leaderElectedMs;
      pending.call?.fail(leaderFailed ? etcdErrors.timeoutDueToLeaderFail : etcdErrors.timeout);
    }
    return expired.length;
  }

  close(): void {
    for (const pending of this.pending.values()) pending.call?.fail(etcdErrors.stopped);
    this.pending.clear();
    this.queue = [];
  }

  private placeBatch(batch: readonly Proposal[], result: ProposeResult, nowMs: number): void {
    const first = Number(batch[0]!.id & sequenceMask);
    const last = Number(batch.at(-1)!.id & sequenceMask);
    assert(first <= last, 'proposals are numbered in order');
    if (typeof result === 'object') {
      const { index, term } = result;
      this.placed.push({ index, term, first, last, proposedMs: nowMs, durableMs: 0, committedMs: 0 });
      this.options.onBatch(batch.length);
      return;
    }
    for (const { id } of batch) {
      const pending = this.pending.get(Number(id & sequenceMask));
      if (pending === undefined) continue;
      this.forget(pending);
      if (result === 'notLeader') pending.call?.notTaken();
      else pending.call?.fail(etcdErrors.requestTooManyRequests);
    }
  }

  private forget(pending: PendingProposal): void {
    this.pending.delete(pending.sequence);
    this.pendingBytes -= pending.bytes;
  }

  private idOf(sequence: number): bigint {
    return this.epoch | BigInt(sequence);
  }
}

/** What a proposal of a member's own carries of names and limits. */
export const membersOwn = { user: '', authRevision: 0, own: true, ...noLimits };
const nobody = { user: '', authRevision: 0, own: false };

/** In whose name a proposal is made. */
function nameOf(call: Call | undefined): Pick<Proposal, 'user' | 'authRevision' | 'own'> {
  if (call === undefined || call.caller === 'member') return membersOwn;
  if (call.caller === undefined) return nobody;
  return { user: call.caller.user, authRevision: call.caller.authRevision, own: false };
}
