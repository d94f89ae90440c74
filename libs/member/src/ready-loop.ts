/**
 * The heart: inputs only enqueue and wake the loop; once per event-loop turn it takes everything.
 *
 *   inbox ──step──► raft ◄──propose── the turn's proposals        ◄── reads of the turn: one ReadIndex
 *                    │ one Ready
 *     ┌──────────────┼──────────────────────────┬──────────────────────┐
 *   messages     entries, hard state        committed              readStates
 *     │              │ log, synced              │ apply, ≤ 8 ms        │
 *     ▼              ▼                          ▼                      ▼
 *   peers        persisted ──► promises     store.commit, once     reads served
 *                              to peers         │
 *                                               ▼ replies, events: one message per gateway
 *
 * Messages leave before anything is applied and before the disk is asked, so that heartbeats are never late because of
 * either. A failed write never comes back: it ends the process.
 */
import { assert, type Clock, Deque, type Log, RateLimit, type Timers, traceIdOf } from '@quoin/base';
import {
  decodeMemberChange,
  decodeProposalBatch,
  etcdErrors,
  isClientMethod,
  type MemberChange,
  Method,
  methodName,
  type Proposal,
} from '@quoin/contracts';
import {
  ConfChangeType,
  decodeConfChange,
  type Entry,
  EntryType,
  type Message,
  MessageType,
  type Raft,
  type Ready,
  type SoftState,
} from '@quoin/raft';
import type { Wal } from '@quoin/wal';
import { isRefused, type Outcome, type StateMachine } from './apply.ts';
import type { Call } from './call.ts';
import type { MemberMetrics } from './member-metrics.ts';
import type { Peers } from './peer-session.ts';
import type { MemberProbe } from './ports.ts';
import type { ProposalTraces, SampledAppend } from './proposal-traces.ts';
import type { PendingProposal, Proposals, ProposeResult } from './proposals.ts';
import type { ReadIndex } from './read-index.ts';

export interface ReadyLoopParts {
  readonly memberId: bigint;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly log: Log;
  /** Absent: tracing is off. */
  readonly traces: ProposalTraces | undefined;
  readonly metrics: MemberMetrics;
  readonly raft: Raft;
  readonly wal: Wal;
  readonly machine: StateMachine;
  readonly proposals: Proposals;
  readonly reads: ReadIndex;
  readonly peers: Peers;
  readonly applySliceMs: number;
  readonly slowApplyMs: number;
  readonly slowFsyncMs: number;
  readonly slowRequestMs: number;
  readonly probe: MemberProbe | undefined;
}

/** What happens around the loop; all called within a turn. */
export interface ReadyLoopHooks {
  /** Leader, role or term changed. */
  softState(state: SoftState): void;
  /** Raft wants that peer to be sent the state. Called after the turn's commit. */
  sendSnapshot(to: bigint): void;
  /** Raft takes the state offered by `offerSnapshot`: put it in force once the log says so, then call `done`. */
  installSnapshot(index: number, done: () => void): void;
  membershipChanged(): void;
  /** This member has applied an entry of its own term as the leader. */
  leaderReady(): void;
  /** A compaction was applied; answers the call. */
  compacted(call: Call | undefined, body: Uint8Array, proposal: Proposal): void;
  /** The proposal has met the quota; answers the call. */
  noSpace(call: Call | undefined): void;
  /** Answers that wait for nothing else leave at once, ahead of the commit. */
  flushAnswers(): void;
  /** After apply and commit: background work of one turn. True when there is more at once. */
  afterApply(): boolean;
  /** The end of the turn: what is to be sent is sent. */
  flush(): void;
}

/**
 * Proposals that come closer together than this carry each other's commit index: told at once, it would cost each follower
 * a message, a wake-up and an answer. No commit index is held longer than this.
 */
const commitHoldMs = 2;
/**
 * A slice of one entry up to this many bytes, a few puts, is answered before the store writes it: nobody needs that write but a
 * restart, which has the log. What is more shares a message with what else the turn has for a gateway.
 */
const promptBytesMax = 4 * 1024;

export class ReadyLoop {
  /** Highest index known to be committed here. */
  committedIndex: number;
  softState: SoftState;
  /** Bytes of entries applied since start. */
  appliedBytes: number;
  /** Takes no entries from the leader: a state is to come whose index is above the end of the log. */
  frozen: boolean;
  private readonly parts: ReadyLoopParts;
  private readonly hooks: ReadyLoopHooks;
  private readonly limit = new RateLimit(5_000);
  private inbox: Message[];
  private readonly committed = new Deque<Entry>();
  /** Appends that the log has not answered yet, and when the first of them was given or the one before it answered. */
  private appends: number;
  private appendMs: number;
  /** Where the time of one apply ends and that of the next begins: the newest reading of the clock while entries are applied. */
  applyMs: number;
  private snapshotPeers: bigint[];
  private offered: { index: number; decided: (taken: boolean) => void } | undefined;
  private installing: boolean;
  /** The last turn had something for the disk and left it to this one to apply. */
  private postponed: boolean;
  /** When the last turn with proposals was, and whether the one before it was close. */
  private proposedMs: number;
  private streaming: boolean;
  private holdTimer: boolean;
  private scheduled: boolean;
  private stopped: boolean;
  /** Waiting to apply an entry of this term, which it leads. */
  private leaderReadyTerm: number;

  constructor(parts: ReadyLoopParts, hooks: ReadyLoopHooks) {
    this.parts = parts;
    this.hooks = hooks;
    this.committedIndex = parts.machine.store.appliedIndex;
    this.softState = { leader: 0n, role: 'follower', term: 0 };
    this.appliedBytes = 0;
    this.frozen = false;
    this.inbox = [];
    this.appends = 0;
    this.appendMs = 0;
    this.applyMs = 0;
    this.snapshotPeers = [];
    this.offered = undefined;
    this.installing = false;
    this.postponed = false;
    this.proposedMs = Number.NEGATIVE_INFINITY;
    this.streaming = false;
    this.holdTimer = false;
    this.scheduled = false;
    this.stopped = false;
    this.leaderReadyTerm = 0;
    parts.probe?.begins(parts.machine.store.appliedIndex);
  }

  get applyGap(): number {
    return this.committedIndex - this.parts.machine.store.appliedIndex;
  }

  /** How long the log has been working on what it was given without getting anything done; 0: it has nothing to do. */
  get appendWaitMs(): number {
    return this.appends === 0 ? 0 : this.parts.clock.monotonicMs() - this.appendMs;
  }

  get isLeader(): boolean {
    return this.softState.role === 'leader';
  }

  wake(): void {
    if (this.scheduled || this.stopped) return;
    this.scheduled = true;
    this.parts.timers.endOfTurn(() => this.turn());
  }

  receive(messages: readonly Message[]): void {
    for (const message of messages) this.inbox.push(message);
    this.wake();
  }

  /** A whole state is on this disk: raft decides whether it is wanted. */
  offerSnapshot(message: Message, index: number, decided: (taken: boolean) => void): void {
    this.offered = { index, decided };
    this.inbox.push(message);
    this.wake();
  }

  /** After the commit of this turn that peer is sent the state. */
  sendSnapshot(to: bigint): void {
    this.snapshotPeers.push(to);
    this.wake();
  }

  stop(): void {
    this.stopped = true;
  }

  private turn(): void {
    this.scheduled = false;
    // While the state is being replaced inputs wait: nothing may be applied to the one or the other.
    if (this.stopped || this.installing) return;
    const { clock, metrics } = this.parts;
    const startedMs = clock.monotonicMs();
    this.runTurn();
    metrics.turnSeconds.observe((clock.monotonicMs() - startedMs) / 1_000);
  }

  private runTurn(): void {
    const { raft, reads, machine } = this.parts;
    this.stepInbox();
    const nowMs = this.parts.clock.monotonicMs();
    this.paceCommits(nowMs);
    this.parts.proposals.flush(nowMs, (data) => this.propose(data));
    reads.startRound(nowMs);
    const wrote = raft.hasReady() && this.take(raft.ready());
    if (this.installing) {
      this.hooks.flush();
      return;
    }
    // Others wait for what the disk has been given, and a fast disk has it before the next turn.
    this.postponed = wrote && !this.postponed && this.committed.length > 0;
    if (this.postponed) {
      this.wake();
      return;
    }
    this.applySlice();
    reads.applied(machine.store.appliedIndex);
    this.startSnapshots();
    const more = this.serveReads();
    const background = this.hooks.afterApply();
    this.hooks.flush();
    const inputs = this.committed.length > 0 || raft.hasReady() || this.inbox.length > 0 || reads.pending;
    if (more || background || inputs) this.wake();
  }

  /** Before the turn's proposals are taken. */
  private paceCommits(nowMs: number): void {
    const { raft, proposals } = this.parts;
    if (proposals.queued) {
      this.streaming = nowMs - this.proposedMs < commitHoldMs;
      this.proposedMs = nowMs;
    }
    const leftMs = this.streaming ? this.proposedMs + commitHoldMs - nowMs : 0;
    raft.holdCommit(leftMs > 0);
    if (leftMs <= 0 || this.holdTimer || !raft.holdsCommit) return;
    this.holdTimer = true;
    this.parts.timers.after(leftMs, () => {
      this.holdTimer = false;
      this.wake();
    });
  }

  private stepInbox(): void {
    const messages = this.inbox;
    if (messages.length === 0) return;
    this.inbox = [];
    for (const message of messages) {
      if (this.frozen && message.type === MessageType.append) continue;
      // A follower's own business (its attributes) comes to whoever leads.
      if (message.type === MessageType.propose) for (const entry of message.entries) this.propose(entry.data);
      else this.parts.raft.step(message);
    }
  }

  private propose(data: Uint8Array): ProposeResult {
    const { raft } = this.parts;
    const result = raft.propose(data);
    if (result === 'ok') return { index: raft.lastIndex, term: raft.term };
    return result === 'notLeader' || result === 'transferring' ? 'notLeader' : 'overloaded';
  }

  /** True when entries were given to the log. */
  private take(ready: Ready): boolean {
    const { parts } = this;
    if (ready.softState !== undefined) this.softStateChanged(ready.softState);
    if (ready.hardState !== undefined)
      this.committedIndex = Math.max(this.committedIndex, ready.hardState.commit);
    for (const message of ready.messages) this.sendMessage(message);
    // At once: what follows in this turn (the disk, applying, reads, feeds) may take milliseconds. Nobody waits for a
    // commit index alone as clients wait for the answers of this turn: it goes behind them.
    if (!ready.messages.every(tellsCommitOnly)) parts.peers.flush();
    this.persist(ready);
    for (const entry of ready.committed) this.committed.push(entry);
    if (parts.traces?.waiting === true) parts.traces.committed(ready.committed, parts.clock.monotonicMs());
    const last = ready.committed.at(-1);
    if (last !== undefined) {
      this.committedIndex = Math.max(this.committedIndex, last.index);
      parts.proposals.committedTo(last.index, parts.clock.monotonicMs());
    }
    for (const context of ready.droppedReads) parts.reads.dropped(context);
    for (const { context, index } of ready.readStates) {
      parts.reads.confirmed(context, index, parts.machine.store.appliedIndex);
    }
    return ready.entries.length > 0;
  }

  private sendMessage(message: Message): void {
    if (message.type === MessageType.snapshot) this.snapshotPeers.push(message.to);
    else this.parts.peers.send(message);
  }

  private persist(ready: Ready): void {
    const { wal, raft } = this.parts;
    const offered = this.offered;
    if (offered !== undefined && ready.snapshot?.index !== offered.index) {
      this.offered = undefined;
      offered.decided(false);
    }
    const { hardState, entries, mustSync, afterPersist, number } = ready;
    const done = (): void => {
      if (this.stopped) return;
      raft.persisted(number);
      for (const message of afterPersist) this.sendMessage(message);
      // A promise that others wait for does not wait for this member's own turn.
      if (afterPersist.length > 0) this.parts.peers.flush();
      this.wake();
    };
    if (ready.snapshot !== undefined) {
      this.install(ready, done);
      return;
    }
    if (hardState === undefined && entries.length === 0 && afterPersist.length === 0 && !mustSync) return;
    const startedMs = this.parts.clock.monotonicMs();
    const sampled = this.parts.traces?.appending(entries, this.isLeader, startedMs);
    const last = entries.at(-1);
    if (this.appends++ === 0) this.appendMs = startedMs;
    wal.append(hardState, entries, mustSync, () => {
      this.appends--;
      this.appendMs = this.parts.clock.monotonicMs();
      if (last !== undefined) this.observeAppend(startedMs, last.index, sampled);
      done();
    });
  }

  /** The log's record makes the switch: from there on a restart finds the new state, too. */
  private install(ready: Ready, done: () => void): void {
    const { snapshot, hardState } = ready;
    const { wal } = this.parts;
    const offered = this.offered;
    assert(snapshot !== undefined && offered !== undefined, 'raft wants a state that nobody offered');
    this.offered = undefined;
    this.installing = true;
    while (this.committed.length > 0) this.committed.shift();
    this.parts.traces?.clear();
    wal.saveSnapshot(snapshot, () => {
      // The log may be closed by now. It names the state that is whole on this disk: a restart goes on from there.
      if (this.stopped) return;
      wal.append(hardState, [], true, () => {
        if (this.stopped) return;
        this.hooks.installSnapshot(snapshot.index, () => {
          this.installing = false;
          this.parts.probe?.begins(snapshot.index);
          this.committedIndex = Math.max(this.committedIndex, snapshot.index);
          offered.decided(true);
          this.parts.reads.applied(snapshot.index);
          done();
        });
      });
    });
  }

  private observeAppend(startedMs: number, index: number, sampled: SampledAppend | undefined): void {
    const { clock, log, slowFsyncMs, proposals } = this.parts;
    const nowMs = clock.monotonicMs();
    const durationMs = nowMs - startedMs;
    proposals.durableTo(index, nowMs);
    if (durationMs > slowFsyncMs) {
      const repeated = this.limit.pass('fsync', nowMs);
      if (repeated !== undefined)
        log.warn('slow fsync of the log: see whether others write to this disk, or give --wal-dir its own', {
          durationMs,
          repeated,
        });
    }
    if (sampled !== undefined) this.parts.traces?.appended(sampled, nowMs);
  }

  private softStateChanged(state: SoftState): void {
    const { reads, proposals, clock } = this.parts;
    const before = this.softState;
    this.softState = state;
    const newLeader = state.leader !== 0n && (state.leader !== before.leader || state.term !== before.term);
    if (newLeader) proposals.leaderElected(clock.monotonicMs());
    if (newLeader || state.leader === 0n) reads.leaderChanged(state.leader !== 0n, clock.monotonicMs());
    if (state.role === 'leader' && before.role !== 'leader') this.leaderReadyTerm = state.term;
    if (state.role !== 'leader') this.leaderReadyTerm = 0;
    const { raft, probe } = this.parts;
    probe?.became(state, raft.lastIndex, (index) => raft.termAt(index));
    this.hooks.softState(state);
  }

  private startSnapshots(): void {
    if (this.snapshotPeers.length === 0) return;
    const peers = this.snapshotPeers;
    this.snapshotPeers = [];
    for (const to of peers) this.hooks.sendSnapshot(to);
  }

  private applySlice(): void {
    const { clock, machine, raft, metrics, applySliceMs, slowApplyMs, log } = this.parts;
    if (this.committed.length === 0) return;
    const startedMs = clock.monotonicMs();
    let last: Entry | undefined;
    let count = 0;
    this.applyMs = startedMs;
    do {
      last = this.committed.shift()!;
      this.applyEntry(last);
      this.appliedBytes += last.data.length;
      count++;
    } while (this.committed.length > 0 && !machine.hashDue && clock.monotonicMs() - startedMs < applySliceMs);
    if (count === 1 && last.data.length <= promptBytesMax) this.hooks.flushAnswers();
    const commitMs = clock.monotonicMs();
    machine.store.commit(last.index, last.term);
    raft.applied(last.index);
    const endMs = clock.monotonicMs();
    metrics.disk.commitSeconds.observe((endMs - commitMs) / 1_000);
    this.parts.traces?.stored(commitMs, endMs, count);
    if (endMs - startedMs > slowApplyMs) {
      metrics.slowApplies.inc();
      const repeated = this.limit.pass('apply', endMs);
      if (repeated !== undefined)
        log.warn('apply took too long: requests of a turn are large, or the disk of the data is slow', {
          durationMs: endMs - startedMs,
          'expected-duration-ms': slowApplyMs,
          entries: count,
          repeated,
        });
    }
    if (this.leaderReadyTerm !== 0 && last.term === this.leaderReadyTerm) {
      this.leaderReadyTerm = 0;
      this.parts.reads.retry(endMs);
      this.hooks.leaderReady();
    }
  }

  private applyEntry(entry: Entry): void {
    this.parts.probe?.applies(entry);
    this.parts.proposals.committedAt(entry.index, entry.term);
    if (entry.type === EntryType.confChange) this.applyConfChange(entry);
    else if (entry.data.length > 0) {
      const { traces } = this.parts;
      const sampled = traces?.waiting === true ? traces.take(entry, this.isLeader) : undefined;
      if (sampled === undefined) {
        for (const proposal of decodeProposalBatch(entry.data).proposals) this.applyProposal(proposal);
      } else for (const proposal of sampled) this.applySampled(proposal);
    }
  }

  /** One of a batch that has sampled ones. */
  private applySampled(proposal: Proposal): void {
    const { traces, clock, machine } = this.parts;
    if (proposal.trace.length === 0 || traces === undefined) return this.applyProposal(proposal);
    const startMs = clock.monotonicMs();
    const before = machine.store.revision;
    this.applyProposal(proposal);
    const { revision, hub } = machine.store;
    traces.applies(proposal.trace, startMs, revision > before && hub.feeds > 0 ? revision : undefined);
  }

  private applyProposal(proposal: Proposal): void {
    const { machine, proposals } = this.parts;
    const pending = proposals.take(proposal.origin, proposal.id);
    const call = pending?.call;
    const outcome = machine.apply(proposal, call !== undefined);
    this.observeApply(proposal, !isRefused(outcome), pending);
    if (proposal.method === Method.compact && !isRefused(outcome))
      this.hooks.compacted(call, outcome, proposal);
    else if (outcome === etcdErrors.noSpace) this.hooks.noSpace(call);
    else if (proposal.method === Method.memberUpdate) this.answerMembership(call, outcome);
    else if (call !== undefined) answer(call, outcome);
    if (proposal.method === Method.attributes) this.hooks.membershipChanged();
  }

  /** One reading of the clock for each request: what ends one apply begins the next. */
  private observeApply(proposal: Proposal, success: boolean, pending: PendingProposal | undefined): void {
    const { clock, metrics, slowRequestMs } = this.parts;
    const startedMs = this.applyMs;
    const nowMs = clock.monotonicMs();
    this.applyMs = nowMs;
    metrics.applySeconds.observe(proposal.method, success, nowMs - startedMs);
    // What a member proposes by itself nobody waits for.
    if (pending !== undefined && isClientMethod(proposal.method) && nowMs - pending.startedMs > slowRequestMs)
      this.logSlow(proposal, pending, startedMs, nowMs);
  }

  /** Where the time of a request went: each step begins where the one before it ends. */
  private logSlow(proposal: Proposal, pending: PendingProposal, applyMs: number, nowMs: number): void {
    const { log, proposals, slowRequestMs } = this.parts;
    const repeated = this.limit.pass(methodName(proposal.method), nowMs);
    if (repeated === undefined) return;
    const times = proposals.applying;
    const proposedMs = times?.proposedMs ?? pending.startedMs;
    // A quorum of others may have it before this disk does.
    const durableMs = times === undefined || times.durableMs === 0 ? applyMs : times.durableMs;
    const committedMs = times === undefined || times.committedMs === 0 ? applyMs : times.committedMs;
    const fsyncMs = Math.min(durableMs, committedMs);
    log.warn('slow request: the longest step says where to look', {
      method: methodName(proposal.method),
      bytes: pending.bytes,
      'duration-ms': nowMs - pending.startedMs,
      'expected-duration-ms': slowRequestMs,
      'queue-ms': proposedMs - pending.startedMs,
      'fsync-ms': fsyncMs - proposedMs,
      'replication-ms': committedMs - fsyncMs,
      'apply-wait-ms': applyMs - committedMs,
      'apply-ms': nowMs - applyMs,
      ...(proposal.trace.length === 0 ? {} : { trace_id: traceIdOf(proposal.trace) }),
      repeated,
    });
  }

  private applyConfChange(entry: Entry): void {
    const { machine, raft, proposals } = this.parts;
    const cc = decodeConfChange(entry.data);
    const change: MemberChange | undefined =
      cc.context.length === 0 ? undefined : decodeMemberChange(cc.context);
    const kind = cc.changes[0]?.type === ConfChangeType.removeNode ? 'remove' : 'add';
    const call = change === undefined ? undefined : proposals.take(change.origin, change.id)?.call;
    // Refused here it is refused on every member, and raft's membership stays as it is.
    const problem = change === undefined ? undefined : machine.memberChangeError(change, kind);
    const invalid =
      problem ?? (raft.checkConfChange(cc) === undefined ? undefined : etcdErrors.memberNotFound);
    if (invalid !== undefined) {
      call?.fail(invalid);
      return;
    }
    this.answerMembership(call, machine.memberChanged(change, kind, raft.applyConfChange(cc)));
  }

  private answerMembership(call: Call | undefined, outcome: Outcome): void {
    if (call !== undefined) answer(call, outcome);
    this.hooks.membershipChanged();
  }

  /** True when reads are left for the next turn. */
  private serveReads(): boolean {
    const { reads, clock, applySliceMs } = this.parts;
    if (!reads.hasReady) return false;
    const startedMs = clock.monotonicMs();
    let read = reads.takeReady();
    while (read !== undefined) {
      read.serve();
      if (clock.monotonicMs() - startedMs >= applySliceMs) break;
      read = reads.takeReady();
    }
    return reads.hasReady;
  }
}

function tellsCommitOnly({ type, entries }: Message): boolean {
  return type === MessageType.append && entries.length === 0;
}

function answer(call: Call, outcome: Outcome): void {
  if (isRefused(outcome)) call.fail(outcome);
  else call.reply(outcome);
}
