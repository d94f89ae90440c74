import { assert, emptyBytes, hexId, type Random } from '@quoin/base';
import {
  ConfChangeError,
  changeConf,
  checkInvariants,
  emptyConfState,
  encodeConfChange,
  isJoint,
  isVoter,
  leaveJointChange,
} from './conf-change.ts';
import { type LeaseClock, type RaftOptions, raftDefaults } from './options.ts';
import { Progress } from './progress.ts';
import { jointVote, majorityIndex, majorityVote, type VoteResult } from './quorum.ts';
import { RaftLog } from './raft-log.ts';
import { type PendingRead, ReadOnly } from './read-only.ts';
import type { ProgressStatus, RaftStatus } from './status.ts';
import {
  type ConfChange,
  type ConfChangeResult,
  type ConfState,
  type Entry,
  EntryType,
  type HardState,
  type Message,
  MessageType,
  type NodeId,
  noNode,
  type ProposeResult,
  type RaftState,
  type ReadState,
  type Ready,
  type Role,
  type SnapshotMeta,
  type SoftState,
  type TransferResult,
} from './types.ts';

/**
 * The state that every voter of a new cluster starts from. Its log begins after index 1, as if a snapshot of the
 * empty state had been taken there: a node that joins later (`joiningState`) can thus never be fed from the log
 * alone without learning the first membership, which is in no entry.
 */
export function bootstrapState(voters: readonly NodeId[]): RaftState {
  assert(voters.length > 0, 'a cluster needs a voter');
  assert(
    new Set(voters).size === voters.length && !voters.includes(noNode),
    'voters must be distinct and not 0',
  );
  return {
    hardState: { term: 1, vote: noNode, commit: 1 },
    start: { index: 1, term: 1 },
    entries: [],
    applied: 1,
    confState: { ...emptyConfState, voters: [...voters].sort((a, b) => (a < b ? -1 : 1)) },
  };
}

/** The state of a node that waits to be added to a running cluster: it knows nobody and gets a snapshot first. */
export function joiningState(): RaftState {
  return {
    hardState: { term: 0, vote: noNode, commit: 0 },
    start: { index: 0, term: 0 },
    entries: [],
    applied: 0,
    confState: emptyConfState,
  };
}

/** Tries that follow one another at once; then each waits twice as long as the one before. */
const quickAttempts = 4;

const none: readonly never[] = Object.freeze([]);

type Draft = { -readonly [Field in keyof Message]: Message[Field] };

/**
 * One node of the group as a pure state machine. Not reentrant. Nothing that a peer sends late, twice, out of order or
 * to the wrong place does harm; what only lost or forged state can send stops the process.
 *
 *                    election timeout          quorum would vote          quorum voted
 *     follower ───────────────────► preCandidate ──────────► candidate ──────────► leader
 *        ▲                                │                      │                    │
 *        └────────────────────────────────┴──────────────────────┴────────────────────┘
 *            a higher term, a leader of this term, a lost vote; a leader also: no quorum heard, removed
 *
 * Inputs only change state. Appends, heartbeats and read rounds are formed by `ready`, so that one turn gives each
 * peer one of each, whatever number of proposals, answers and reads it had.
 */
export class Raft {
  readonly id: NodeId;
  private readonly random: Random;
  private readonly electionTicks: number;
  private readonly heartbeatTicks: number;
  private readonly preVote: boolean;
  private readonly checkQuorum: boolean;
  private readonly lease: LeaseClock | undefined;
  private readonly maxEntryBytesPerMessage: number;
  private readonly maxInflightMessages: number;
  private readonly maxInflightBytes: number;
  private readonly maxUncommittedBytes: number;
  private readonly maxApplyingBytes: number;
  private readonly maxPendingReads: number;

  private readonly log: RaftLog;
  private readonly readOnly: ReadOnly;
  private currentTerm: number;
  private currentVote: NodeId;
  private currentLeader: NodeId;
  private currentRole: Role;
  private conf: ConfState;
  /** Every member, learners included. The arrays below are the same objects. */
  private progress: Map<NodeId, Progress>;
  private members: Progress[];
  private peers: Progress[];
  private incoming: Progress[];
  private outgoing: Progress[];
  private self: Progress | undefined;
  private votes: Map<NodeId, boolean>;
  private ticks: number;
  private electionElapsed: number;
  private heartbeatElapsed: number;
  /** Uniform in [electionTicks, 2·electionTicks): split votes are rare and do not repeat (§5.2). Later tries: `spreadRetry`. */
  private electionTimeout: number;
  /** Elections, or questions whether one could be won, since a leader was last heard. */
  private attempts: number;
  /** Has put off its own election for another's, since its timeout was drawn. */
  private gaveWay: boolean;
  private transferee: NodeId;
  /** Of a leader that is no voter: it goes when a quorum knows that this index is committed. 0 = it stays. */
  private handoverIndex: number;
  /** A timeoutNow went out in this term: somebody may be elected inside our lease. */
  private leaseBroken: boolean;
  /** By the clock of leases. */
  private leaseUntilMs: number;
  /** A membership change at or before this index may not be applied yet: no other one is proposed. */
  private pendingConfIndex: number;
  /** Reads that were forwarded to the leader: number → tick. */
  private readonly forwarded: Map<number, number>;

  private outbox: Message[];
  private afterPersist: Message[];
  private readStates: ReadState[];
  private droppedReads: number[];
  /** Leader: something happened that may allow or require appends. */
  private appendsDue: boolean;
  /** There is a commit index that was not told to all who could act on it. */
  private commitDue: boolean;
  private commitHeld: boolean;
  private heartbeatDue: boolean;
  private readyNumber: number;
  private emittedTerm: number;
  private emittedVote: NodeId;
  private emittedCommit: number;
  private emittedLeader: NodeId;
  private emittedRole: Role;
  private emittedSoftTerm: number;
  private readonly scratch: number[];

  /** @throws AssertionError when options or state contradict themselves. */
  constructor(options: RaftOptions, state: RaftState) {
    const o = { ...raftDefaults, ...options };
    assert(o.id !== noNode, 'a node needs an id');
    assert(
      o.heartbeatTicks >= 1 && o.electionTicks > o.heartbeatTicks,
      'electionTicks must exceed heartbeatTicks ≥ 1',
    );
    assert(
      o.lease === undefined || o.checkQuorum,
      'lease reads need checkQuorum: by it followers hold back their votes',
    );
    this.id = o.id;
    this.random = o.random;
    this.electionTicks = o.electionTicks;
    this.heartbeatTicks = o.heartbeatTicks;
    this.preVote = o.preVote;
    this.checkQuorum = o.checkQuorum;
    this.lease = o.lease;
    this.maxEntryBytesPerMessage = o.maxEntryBytesPerMessage;
    this.maxInflightMessages = o.maxInflightMessages;
    this.maxInflightBytes = o.maxInflightBytes;
    this.maxUncommittedBytes = o.maxUncommittedBytes;
    this.maxApplyingBytes = o.maxApplyingBytes;
    this.maxPendingReads = o.maxPendingReads;
    this.log = new RaftLog(state);
    this.readOnly = new ReadOnly();
    this.currentTerm = state.hardState.term;
    this.currentVote = state.hardState.vote;
    this.currentLeader = noNode;
    this.currentRole = 'follower';
    this.conf = state.confState;
    this.progress = new Map();
    this.members = [];
    this.peers = [];
    this.incoming = [];
    this.outgoing = [];
    this.self = undefined;
    this.votes = new Map();
    this.ticks = 0;
    this.electionElapsed = 0;
    this.heartbeatElapsed = 0;
    this.electionTimeout = 0;
    this.attempts = 0;
    this.gaveWay = false;
    this.transferee = noNode;
    this.handoverIndex = 0;
    this.leaseBroken = false;
    this.leaseUntilMs = 0;
    this.pendingConfIndex = 0;
    this.forwarded = new Map();
    this.outbox = [];
    this.afterPersist = [];
    this.readStates = [];
    this.droppedReads = [];
    this.appendsDue = false;
    this.commitDue = false;
    this.commitHeld = false;
    this.heartbeatDue = false;
    this.readyNumber = 0;
    this.emittedTerm = this.currentTerm;
    this.emittedVote = this.currentVote;
    this.emittedCommit = this.log.commit;
    this.emittedLeader = noNode;
    this.emittedRole = 'follower';
    this.emittedSoftTerm = this.currentTerm;
    this.scratch = [];
    checkInvariants(this.conf);
    // A write torn between entries and hard state: had any vote of that term been promised, its hard state were here.
    if (this.log.lastTerm > this.currentTerm) {
      this.currentTerm = this.log.lastTerm;
      this.currentVote = noNode;
    }
    this.track();
    this.spreadTimeout();
  }

  get term(): number {
    return this.currentTerm;
  }

  get role(): Role {
    return this.currentRole;
  }

  get leader(): NodeId {
    return this.currentLeader;
  }

  get commitIndex(): number {
    return this.log.commit;
  }

  get appliedIndex(): number {
    return this.log.applied;
  }

  get firstIndex(): number {
    return this.log.firstIndex;
  }

  get lastIndex(): number {
    return this.log.lastIndex;
  }

  /** Bytes that the log holds in memory. */
  get logBytes(): number {
    return this.log.bytes;
  }

  /** Membership as of the last applied change. */
  get confState(): ConfState {
    return this.conf;
  }

  /**
   * Leader: whether a new commit index alone is no reason to send. It goes with the next append or heartbeat then; the owner
   * sees to it that one comes soon, or takes this back.
   */
  holdCommit(held: boolean): void {
    this.commitHeld = held;
  }

  /** A commit index is held. */
  get holdsCommit(): boolean {
    return this.commitDue && this.commitHeld;
  }

  /** Term of the entry at `index`; -1 where it is compacted or past the end. */
  termAt(index: number): number {
    return this.log.term(index);
  }

  // ── inputs ────────────────────────────────────────────────────────────────────────────────────────────────────

  /** One unit of time: drives elections, heartbeats and every timeout. */
  tick(): void {
    this.ticks++;
    this.electionElapsed++;
    if (this.currentRole === 'leader') {
      this.tickLeader();
      return;
    }
    this.expireForwarded();
    if (this.electionElapsed >= this.electionTimeout && this.isPromotable()) {
      this.electionElapsed = 0;
      this.hup(this.preVote ? 'preVote' : 'vote');
    }
  }

  /** A message from a peer. */
  step(m: Message): void {
    if (m.to !== this.id) return;
    if (m.type === MessageType.voteResponse || m.type === MessageType.preVoteResponse) this.learnCommit(m);
    if (m.term > this.currentTerm) {
      if (!this.stepHigherTerm(m)) return;
    } else if (m.term < this.currentTerm) {
      // Reads are asked of whoever leads: bound to no term.
      if (m.type === MessageType.readIndex) this.stepReadIndex(m);
      else this.stepLowerTerm(m);
      return;
    }
    switch (m.type) {
      case MessageType.vote:
      case MessageType.preVote:
        this.stepVoteRequest(m);
        return;
      case MessageType.readIndex:
        this.stepReadIndex(m);
        return;
      case MessageType.append:
      case MessageType.heartbeat:
      case MessageType.snapshot:
        this.stepFromLeader(m);
        return;
    }
    if (this.currentRole === 'leader') this.stepLeader(m);
    else if (this.currentRole === 'follower') this.stepFollower(m);
    else this.stepCandidate(m);
  }

  /** Puts one normal entry into the leader's log; it is sent and written at the next `ready`. `data` is kept as it is. */
  propose(data: Uint8Array): ProposeResult {
    return this.proposeEntry(EntryType.normal, data);
  }

  /** No changes: leaves joint consensus. Checked here, so that it can be applied when committed. */
  proposeConfChange(cc: ConfChange): ConfChangeResult {
    if (this.currentRole !== 'leader') return 'notLeader';
    if (this.handoverIndex > 0) return 'transferring';
    // Two changes on the way would be checked against a membership that is no longer the one they meet (thesis §4.1).
    if (this.pendingConfIndex > this.log.applied) return 'confChangePending';
    if (cc.changes.length === 0 && !isJoint(this.conf)) return 'notInJoint';
    if (cc.changes.length > 0 && isJoint(this.conf)) return 'inJoint';
    if (this.checkConfChange(cc) !== undefined) return 'invalid';
    const result = this.proposeEntry(EntryType.confChange, encodeConfChange(cc));
    if (result === 'ok') this.pendingConfIndex = this.log.lastIndex;
    return result;
  }

  /** Why the change could not be applied to the present membership; undefined = it could. */
  checkConfChange(cc: ConfChange): string | undefined {
    try {
      changeConf(this.conf, cc);
      return undefined;
    } catch (error) {
      if (error instanceof ConfChangeError) return error.message;
      throw error;
    }
  }

  /**
   * The state machine applies a committed `confChange` entry (`decodeConfChange(entry.data)`); `applied` of that entry
   * follows in the same turn. A state machine that refuses the change skips this call, and does so on all nodes.
   */
  applyConfChange(cc: ConfChange): ConfState {
    this.switchTo(changeConf(this.conf, cc));
    return this.conf;
  }

  /** Asks for an index that a linearizable read can be served at. `context` is positive and never used twice on this node. */
  readIndex(context: number): void {
    assert(context > 0, 'a read needs a positive number');
    if (this.currentRole === 'leader') {
      if (this.readOnly.pending >= this.maxPendingReads) this.droppedReads.push(context);
      else this.readOnly.queue(this.id, context);
    } else if (this.currentLeader === noNode || this.forwarded.size >= this.maxPendingReads) {
      this.droppedReads.push(context);
    } else {
      this.forwarded.set(context, this.ticks);
      const m = this.send(MessageType.readIndex, this.currentLeader);
      // Asked of whoever leads, whatever the term.
      m.term = 0;
      m.context = context;
    }
  }

  /**
   * Starts an election now. Ignored by a leader, a learner, while a committed membership change is not applied, and with
   * lease reads while a leader was heard within electionTicks.
   */
  campaign(): void {
    // It may have given the leader a lease, which must run out first.
    if (this.lease !== undefined && this.isInLease() && !this.isAloneQuorum()) return;
    this.hup(this.preVote ? 'preVote' : 'vote');
  }

  /** Hands leadership to a voter: it is brought up to date, then told to campaign. Given up after electionTicks. */
  transferLeadership(to: NodeId): TransferResult {
    if (this.currentRole !== 'leader') return 'notLeader';
    const pr = this.progress.get(to);
    if (pr === undefined || !this.conf.voters.includes(to)) return 'notVoter';
    if (to === this.id) {
      this.transferee = noNode;
      return 'ok';
    }
    if (to === this.transferee) return 'ok';
    this.transferee = to;
    this.electionElapsed = 0;
    if (pr.match === this.log.lastIndex) this.sendTimeoutNow(pr);
    else this.appendsDue = true;
    return 'ok';
  }

  /** The Ready of that number, and all before it, are durable. */
  persisted(readyNumber: number): void {
    const write = this.log.endWrites(readyNumber);
    if (write === undefined) return;
    if (this.currentRole === 'leader') {
      if (this.self === undefined || !this.self.advance(this.log.durable)) return;
      this.advanceCommit();
    } else if (
      this.currentRole === 'candidate' &&
      write.term === this.currentTerm &&
      write.vote === this.id
    ) {
      // The own vote counts as everybody's: when the disk has it.
      this.countVote(this.id, true);
    }
  }

  /** The state machine has applied all entries up to `index`. */
  applied(index: number): void {
    this.log.appliedTo(index);
    this.maybeAutoLeave();
  }

  /** Forgets entries up to `index`, which must be applied. Peers that still need them get a snapshot. */
  compact(index: number): void {
    this.log.compact(index);
  }

  /** A message to that peer was lost: stop sending ahead until it answers. */
  reportUnreachable(id: NodeId): void {
    if (this.currentRole !== 'leader') return;
    const pr = this.progress.get(id);
    if (pr === undefined || pr === this.self || pr.state !== 'replicate') return;
    pr.becomeProbe();
    this.appendsDue = true;
  }

  /** The transfer that a `snapshot` message asked for has ended: `ok` when the peer has all of it. */
  reportSnapshot(id: NodeId, ok: boolean): void {
    if (this.currentRole !== 'leader') return;
    const pr = this.progress.get(id);
    if (pr === undefined || pr.state !== 'snapshot') return;
    if (!ok) pr.pendingSnapshot = 0;
    pr.becomeProbe();
    // Its own answer tells first where it stands; after a failure the next heartbeat's answer allows another try.
    pr.probeSent = true;
  }

  // ── Ready ─────────────────────────────────────────────────────────────────────────────────────────────────────

  hasReady(): boolean {
    return (
      this.appendsDue ||
      (this.commitDue && !this.commitHeld) ||
      this.heartbeatDue ||
      this.outbox.length > 0 ||
      this.afterPersist.length > 0 ||
      this.readStates.length > 0 ||
      this.droppedReads.length > 0 ||
      this.log.hasUnwritten() ||
      this.log.hasToHandOut(this.maxApplyingBytes) ||
      this.hardStateChanged() ||
      this.softStateChanged() ||
      (this.readOnly.hasQueued() && this.canServeReads())
    );
  }

  /** Takes all that has to be done; what is taken is never handed out again. */
  ready(): Ready {
    if (this.currentRole === 'leader') this.formMessages();
    const number = ++this.readyNumber;
    const softState = this.takeSoftState();
    const promise = this.currentTerm !== this.emittedTerm || this.currentVote !== this.emittedVote;
    const hardState = this.takeHardState();
    const { pendingSnapshot, snapshotTaken } = this.log;
    const snapshot = snapshotTaken ? undefined : pendingSnapshot;
    const entries = this.log.takeUnwritten();
    const mustSync = promise || entries.length > 0 || snapshot !== undefined;
    // What is handed out must not grow afterwards: an array that is kept is never the one that is given.
    let messages: readonly Message[] = this.outbox.length > 0 ? this.outbox : none;
    let afterPersist: readonly Message[] = this.afterPersist.length > 0 ? this.afterPersist : none;
    if (messages !== none) this.outbox = [];
    if (afterPersist !== none) this.afterPersist = [];
    if (afterPersist.length > 0 && !mustSync && !this.log.hasWrites()) {
      // All that was promised is on disk already.
      messages = messages.length > 0 ? messages.concat(afterPersist) : afterPersist;
      afterPersist = none;
    }
    if (mustSync || afterPersist.length > 0) this.log.beginWrite(number, this.currentTerm, this.currentVote);
    const committed = this.log.takeCommitted(this.maxApplyingBytes);
    const readStates = this.readStates.length > 0 ? this.readStates : none;
    const droppedReads = this.droppedReads.length > 0 ? this.droppedReads : none;
    if (readStates !== none) this.readStates = [];
    if (droppedReads !== none) this.droppedReads = [];
    return {
      number,
      softState,
      hardState,
      entries,
      mustSync,
      snapshot,
      messages,
      afterPersist,
      committed,
      readStates,
      droppedReads,
    };
  }

  private softStateChanged(): boolean {
    return (
      this.emittedSoftTerm !== this.currentTerm ||
      this.emittedLeader !== this.currentLeader ||
      this.emittedRole !== this.currentRole
    );
  }

  private takeSoftState(): SoftState | undefined {
    if (!this.softStateChanged()) return undefined;
    this.emittedSoftTerm = this.currentTerm;
    this.emittedLeader = this.currentLeader;
    this.emittedRole = this.currentRole;
    return { leader: this.currentLeader, role: this.currentRole, term: this.currentTerm };
  }

  /**
   * What the hard state may claim to be committed: only what is durable. A torn write may leave the hard state without the
   * entries that came with it, on a disk that still has, at the same indexes, those which they were to replace.
   */
  private durableCommit(): number {
    return Math.max(Math.min(this.log.commit, this.log.durable), this.emittedCommit);
  }

  private hardStateChanged(): boolean {
    return (
      this.emittedTerm !== this.currentTerm ||
      this.emittedVote !== this.currentVote ||
      this.emittedCommit !== this.durableCommit()
    );
  }

  private takeHardState(): HardState | undefined {
    if (!this.hardStateChanged()) return undefined;
    this.emittedTerm = this.currentTerm;
    this.emittedVote = this.currentVote;
    this.emittedCommit = this.durableCommit();
    return { term: this.emittedTerm, vote: this.emittedVote, commit: this.emittedCommit };
  }

  /** Leader: everything that this turn has for its peers. */
  private formMessages(): void {
    const newRound = this.startReadRound();
    if (this.heartbeatDue || newRound) {
      this.heartbeatDue = false;
      const context = this.readOnly.context;
      for (const pr of this.peers) this.sendHeartbeat(pr, context);
    }
    if (!this.appendsDue && (!this.commitDue || this.commitHeld)) return;
    this.appendsDue = false;
    this.commitDue = false;
    for (const pr of this.peers) this.feed(pr);
  }

  // ── sending ───────────────────────────────────────────────────────────────────────────────────────────────────

  /** The one place where messages are made: always the same fields in the same order. */
  private message(type: MessageType, to: NodeId): Draft {
    return {
      type,
      from: this.id,
      to,
      term: this.currentTerm,
      index: 0,
      logTerm: 0,
      commit: 0,
      entries: none,
      reject: false,
      rejectHint: 0,
      context: 0,
      force: false,
      snapshot: undefined,
    };
  }

  private send(type: MessageType, to: NodeId): Draft {
    const m = this.message(type, to);
    this.outbox.push(m);
    return m;
  }

  private feed(pr: Progress): void {
    while (this.sendAppend(pr));
  }

  /** Sends one append or asks for a snapshot, if the peer can take it. True when more can follow at once. */
  private sendAppend(pr: Progress): boolean {
    if (pr.state === 'snapshot' || (pr.state === 'probe' && pr.probeSent)) return false;
    const { log } = this;
    const prevIndex = pr.next - 1;
    const prevTerm = log.term(prevIndex);
    if (prevTerm < 0) {
      this.sendSnapshot(pr);
      return false;
    }
    if (pr.state === 'probe') {
      this.sendEntries(pr, prevIndex, prevTerm, log.slice(pr.next, this.maxEntryBytesPerMessage));
      pr.probeSent = true;
      return false;
    }
    const full = pr.inflights.isFull();
    if (pr.next <= log.lastIndex && !full) {
      const entries = log.slice(pr.next, this.maxEntryBytesPerMessage);
      this.sendEntries(pr, prevIndex, prevTerm, entries);
      pr.inflights.add(prevIndex + entries.length, log.sliceBytes);
      pr.next += entries.length;
      return pr.next <= log.lastIndex;
    }
    // Nothing to send, or no room: an empty append tells the new commit index, or finds out what was lost. It tells
    // nothing of a commit index beyond what was sent: the follower could not act on it.
    if (pr.nudge || (!full && pr.sentCommit < log.commit && pr.sentCommit < prevIndex)) {
      this.sendEntries(pr, prevIndex, prevTerm, none);
    }
    return false;
  }

  private sendEntries(pr: Progress, prevIndex: number, prevTerm: number, entries: readonly Entry[]): void {
    const m = this.send(MessageType.append, pr.id);
    m.index = prevIndex;
    m.logTerm = prevTerm;
    m.commit = this.log.commit;
    m.entries = entries;
    pr.sentCommit = this.log.commit;
    pr.nudge = false;
  }

  /** Only what and from where: the member streams the state itself, and tells the outcome by `reportSnapshot`. */
  private sendSnapshot(pr: Progress): void {
    // A transfer to a peer that does not answer would be in vain; its first answer brings us here again.
    if (!pr.recentActive) return;
    const { applied } = this.log;
    const meta: SnapshotMeta = { index: applied, term: this.log.term(applied), confState: this.conf };
    pr.becomeSnapshot(applied);
    this.send(MessageType.snapshot, pr.id).snapshot = meta;
  }

  /** The commit index goes no further than what the peer is known to have: it may lack the entries. */
  private sendHeartbeat(pr: Progress, context: number): void {
    const commit = Math.min(pr.match, this.log.commit);
    if (commit > pr.sentCommit) pr.sentCommit = commit;
    const m = this.send(MessageType.heartbeat, pr.id);
    m.commit = commit;
    m.context = context;
  }

  private sendTimeoutNow(pr: Progress): void {
    this.leaseBroken = true;
    this.send(MessageType.timeoutNow, pr.id);
  }

  /**
   * Follower's answer to an append, after all it says is durable. Of several in one turn the last says it all: an answer
   * for an index stands for everything before it.
   */
  private acknowledge(to: NodeId, index: number): void {
    const at = this.afterPersist.length - 1;
    const previous = this.afterPersist[at];
    const merges =
      previous !== undefined &&
      previous.type === MessageType.appendResponse &&
      previous.to === to &&
      previous.term === this.currentTerm &&
      !previous.reject;
    if (merges && previous.index > index) index = previous.index;
    const ack = this.message(MessageType.appendResponse, to);
    ack.index = index;
    ack.commit = this.log.commit;
    if (merges) this.afterPersist[at] = ack;
    else this.afterPersist.push(ack);
  }

  // ── terms ─────────────────────────────────────────────────────────────────────────────────────────────────────

  /** False when the message ends here. */
  private stepHigherTerm(m: Message): boolean {
    const { type } = m;
    if (type === MessageType.vote || type === MessageType.preVote) {
      // Who hears a leader takes no part in elections: a node that was removed, or comes back from a partition,
      // cannot disturb (thesis §4.2.3). A transfer is the leader's own wish.
      if (!m.force && this.isInLease()) return false;
      // A preVote only asks: it changes nobody's term (thesis §9.6).
      if (type === MessageType.preVote) return true;
    }
    // Our own question for the next term comes back granted: the term is raised when a quorum has granted it.
    if (type === MessageType.preVoteResponse && !m.reject) return true;
    const leads =
      type === MessageType.append || type === MessageType.heartbeat || type === MessageType.snapshot;
    this.becomeFollower(m.term, leads ? m.from : noNode);
    return true;
  }

  private isInLease(): boolean {
    if (!this.checkQuorum) return false;
    if (this.currentLeader !== noNode && this.electionElapsed < this.electionTicks) return true;
    // A restart forgets the leader that may rely on our lease.
    return this.lease !== undefined && this.ticks < this.electionTicks;
  }

  private stepLowerTerm(m: Message): void {
    switch (m.type) {
      case MessageType.append:
      case MessageType.heartbeat:
      case MessageType.snapshot:
        // With pre-vote and check-quorum a node whose term is ahead can raise the others' by no vote request: they
        // ignore it while they hear the leader, and it ignores the leader. This answer makes the leader step down.
        if (this.preVote || this.checkQuorum) this.send(MessageType.appendResponse, m.from).reject = true;
        break;
      case MessageType.preVote:
        // The asker may have the longer log and the lower term; it has to learn the term to be electable.
        this.refuseVote(MessageType.preVoteResponse, m);
        break;
    }
  }

  private reset(term: number): void {
    if (this.currentTerm !== term) {
      this.currentTerm = term;
      this.currentVote = noNode;
    }
    this.dropReads();
    this.currentLeader = noNode;
    this.electionElapsed = 0;
    this.heartbeatElapsed = 0;
    this.spreadTimeout();
    this.votes.clear();
    this.transferee = noNode;
    this.handoverIndex = 0;
    this.leaseBroken = false;
    this.leaseUntilMs = 0;
    this.pendingConfIndex = 0;
    this.appendsDue = false;
    this.commitDue = false;
    this.heartbeatDue = false;
  }

  private spreadTimeout(): void {
    this.electionTimeout = this.electionTicks + (this.random.u32() % this.electionTicks);
    this.gaveWay = false;
  }

  /** Somebody leads, or may soon: an ordinary timeout begins, whatever this node was about to try. */
  private waitForTimeout(): void {
    this.electionElapsed = 0;
    if (this.attempts === 0 && !this.gaveWay) return;
    this.attempts = 0;
    this.spreadTimeout();
  }

  /**
   * When to try again after an election that nobody has won. A whole timeout would leave the group without a leader for
   * seconds; with pre-vote a try harms nobody, so the next comes soon, at another moment for each. `baseTicks` is doubled
   * for each try after the first few, up to electionTicks: where answers take longer than a heartbeat (they should not), or
   * nobody is there to answer, it becomes an ordinary timeout.
   */
  private spreadRetry(lowTicks: number, rangeTicks: number): void {
    const scale = 2 ** Math.min(Math.max(this.attempts - quickAttempts, 0), 16);
    const low = Math.min(lowTicks * scale, this.electionTicks);
    const range = Math.min(rangeTicks * scale, this.electionTicks);
    this.electionElapsed = 0;
    this.electionTimeout = low + (this.random.u32() % range);
  }

  // ── elections (§5.2, thesis §9.6) ─────────────────────────────────────────────────────────────────────────────

  private isPromotable(): boolean {
    return isVoter(this.conf, this.id) && this.log.pendingSnapshot === undefined;
  }

  private hup(kind: 'preVote' | 'vote' | 'transfer'): void {
    if (this.currentRole === 'leader' || !this.isPromotable()) return;
    // A committed change that is not applied: we would campaign, and count, by an outdated membership.
    if (this.hasUnappliedConfChange()) return;
    if (kind === 'preVote') this.preCampaign();
    else this.startElection(kind === 'transfer');
  }

  private hasUnappliedConfChange(): boolean {
    for (let i = this.log.applied + 1; i <= this.log.commit; i++) {
      if (this.log.at(i).type === EntryType.confChange) return true;
    }
    return false;
  }

  private preCampaign(): void {
    // Neither term nor vote change: whoever cannot win leaves no trace.
    this.dropReads();
    this.currentRole = 'preCandidate';
    this.currentLeader = noNode;
    this.votes.clear();
    this.attempts++;
    // Soon: who was asked may have heard the leader a little later, and refuse only for that.
    this.spreadRetry(1, this.heartbeatTicks);
    if (this.countVote(this.id, true) !== 'pending') return;
    this.askForVotes(MessageType.preVote, this.currentTerm + 1, false, this.outbox);
  }

  private startElection(force: boolean): void {
    this.reset(this.currentTerm + 1);
    this.currentRole = 'candidate';
    this.currentVote = this.id;
    this.attempts++;
    // Without pre-vote each try raises the term, and one whose log is too old would hinder the others by it.
    if (this.preVote) this.spreadRetry(this.heartbeatTicks, this.heartbeatTicks);
    // Requests wait for the disk like the own vote. Were they sent before and then forgotten in a crash, the node could
    // campaign again in the same term with a log that the crash has shortened, and be elected by votes which
    // were given to the longer one.
    this.askForVotes(MessageType.vote, this.currentTerm, force, this.afterPersist);
  }

  private askForVotes(type: MessageType, term: number, force: boolean, out: Message[]): void {
    const { lastIndex, lastTerm } = this.log;
    for (const pr of this.peers) {
      if (pr.learner) continue;
      const m = this.message(type, pr.id);
      m.term = term;
      m.index = lastIndex;
      m.logTerm = lastTerm;
      m.force = force;
      out.push(m);
    }
  }

  private stepVoteRequest(m: Message): void {
    const pre = m.type === MessageType.preVote;
    // One vote per term, kept (§5.2). Learners vote as well: one that was promoted and does not know it yet may be needed.
    const free =
      this.currentVote === m.from ||
      (this.currentVote === noNode && this.currentLeader === noNode) ||
      (pre && m.term > this.currentTerm);
    const granted = free && this.log.isUpToDate(m.index, m.logTerm) && !(pre && this.goesFirst(m));
    const type = pre ? MessageType.preVoteResponse : MessageType.voteResponse;
    if (!granted) {
      this.refuseVote(type, m);
    } else if (pre) {
      // In the term that was asked about, else the asker would ignore it as outdated.
      this.send(type, m.from).term = m.term;
      this.giveWay();
    } else {
      this.currentVote = m.from;
      this.waitForTimeout();
      this.afterPersist.push(this.message(type, m.from));
    }
  }

  /**
   * Two that ask at the same time would both be told yes and then split the real vote. Where nothing else decides, the higher id
   * goes first. Not for long: the lower one may be the only one of them that reaches a quorum.
   */
  private goesFirst(m: Message): boolean {
    const { log } = this;
    return (
      this.currentRole === 'preCandidate' &&
      this.attempts <= quickAttempts &&
      m.from < this.id &&
      m.index === log.lastIndex &&
      m.logTerm === log.lastTerm
    );
  }

  /** Who says yes to a pre-vote does not campaign while that election may be under way. */
  private giveWay(): void {
    if (this.currentRole === 'preCandidate') {
      this.becomeFollower(this.currentTerm, noNode);
      this.spreadRetry(this.heartbeatTicks, this.heartbeatTicks);
    } else if (this.currentRole === 'follower' && !this.gaveWay) {
      // Once: else one that can ask and cannot be elected would hold this node back for ever.
      this.gaveWay = true;
      const { electionElapsed, electionTimeout, heartbeatTicks } = this;
      this.electionTimeout = Math.max(electionTimeout, electionElapsed + heartbeatTicks);
    }
  }

  /**
   * A refusal tells how much of the asker's log is committed. The asker may still count by a membership that is over, and
   * need the vote of a node that knows so: removed, no voter any more, with a longer log, it will never vote for
   * the asker, nor campaign itself. By this the asker learns of the change, and what it takes to win now.
   */
  private refuseVote(type: MessageType, m: Message): void {
    const { log } = this;
    const answer = this.send(type, m.from);
    answer.reject = true;
    const index = Math.min(log.commit, log.findConflict(m.index, m.logTerm));
    const term = log.term(index);
    if (term <= 0) return;
    answer.commit = index;
    answer.logTerm = term;
  }

  /** That an entry is committed is true whoever says it, and in whatever term; and so is all before it (§5.3). */
  private learnCommit(m: Message): void {
    if (m.commit > this.log.commit && this.log.term(m.commit) === m.logTerm) this.log.commitTo(m.commit);
  }

  private stepCandidate(m: Message): void {
    const expected =
      this.currentRole === 'preCandidate' ? MessageType.preVoteResponse : MessageType.voteResponse;
    if (m.type === expected) this.countVote(m.from, !m.reject);
  }

  private countVote(from: NodeId, granted: boolean): VoteResult {
    // A pre-vote may be asked for several times; the last answer counts.
    if (this.currentRole === 'preCandidate' || !this.votes.has(from)) this.votes.set(from, granted);
    const result = jointVote(this.tally(this.incoming), this.tally(this.outgoing));
    if (result === 'lost') {
      // The next try is due when it was: `reset` draws an ordinary timeout.
      const { electionTimeout } = this;
      this.becomeFollower(this.currentTerm, noNode);
      if (this.preVote) this.electionTimeout = electionTimeout;
    } else if (result === 'won') {
      if (this.currentRole === 'preCandidate') this.startElection(false);
      else this.becomeLeader();
    }
    return result;
  }

  private tally(voters: readonly Progress[]): VoteResult {
    let yes = 0;
    let no = 0;
    for (const pr of voters) {
      const vote = this.votes.get(pr.id);
      if (vote === true) yes++;
      else if (vote === false) no++;
    }
    return majorityVote(yes, no, voters.length);
  }

  private becomeFollower(term: number, leader: NodeId): void {
    this.reset(term);
    this.currentRole = 'follower';
    this.currentLeader = leader;
  }

  private becomeLeader(): void {
    this.reset(this.currentTerm);
    this.currentRole = 'leader';
    this.currentLeader = this.id;
    this.attempts = 0;
    for (const pr of this.members) pr.reset(this.log.lastIndex + 1);
    if (this.self !== undefined) {
      this.self.becomeReplicate();
      this.self.advance(this.log.durable);
      this.self.recentActive = true;
    }
    // A membership change may be among what is not applied. Waiting for all of it is simpler than looking, and safe.
    this.pendingConfIndex = this.log.lastIndex;
    this.log.countUncommitted();
    // Entries of older terms commit only below one of this term (§5.4.2), so the term begins with one (thesis §6.4).
    this.append(EntryType.normal, emptyBytes);
    if (!isVoter(this.conf, this.id)) this.handoverIndex = this.log.lastIndex;
  }

  // ── leading ───────────────────────────────────────────────────────────────────────────────────────────────────

  private tickLeader(): void {
    if (this.electionElapsed >= this.electionTicks) {
      this.electionElapsed = 0;
      if (this.transferee !== noNode) this.transferee = noNode;
      if (this.checkQuorum && !this.isQuorumActive()) {
        this.becomeFollower(this.currentTerm, noNode);
        return;
      }
    }
    this.maybeAutoLeave();
    this.heartbeatElapsed++;
    if (this.heartbeatElapsed >= this.heartbeatTicks) {
      this.heartbeatElapsed = 0;
      this.heartbeatDue = true;
    }
  }

  private isQuorumActive(): boolean {
    const result = jointVote(this.activity(this.incoming), this.activity(this.outgoing));
    for (const pr of this.peers) pr.recentActive = false;
    return result === 'won';
  }

  private activity(voters: readonly Progress[]): VoteResult {
    let active = 0;
    for (const pr of voters) if (pr === this.self || pr.recentActive) active++;
    return majorityVote(active, voters.length - active, voters.length);
  }

  private proposeEntry(type: EntryType, data: Uint8Array): ProposeResult {
    if (this.currentRole !== 'leader') return 'notLeader';
    // The transferee could never catch up (thesis §3.10), nor could the heir of a leader that was removed.
    if (this.transferee !== noNode || this.handoverIndex > 0) return 'transferring';
    const waiting = this.log.uncommittedBytes;
    if (waiting > 0 && waiting + data.length > this.maxUncommittedBytes) return 'tooManyUncommitted';
    this.append(type, data);
    return 'ok';
  }

  private append(type: EntryType, data: Uint8Array): void {
    const entry: Entry = { term: this.currentTerm, index: this.log.lastIndex + 1, type, data };
    this.log.push(entry);
    this.appendsDue = true;
  }

  private stepLeader(m: Message): void {
    const pr = this.progress.get(m.from);
    if (pr === undefined) return;
    if (m.type === MessageType.appendResponse) {
      pr.recentActive = true;
      if (m.reject) this.appendRejected(pr, m);
      else this.appendAccepted(pr, m.index);
    } else if (m.type === MessageType.heartbeatResponse) {
      pr.recentActive = true;
      this.heartbeatAnswered(pr, m.context);
    }
    if (m.commit > pr.commit) pr.commit = m.commit;
    if (this.handoverIndex > 0) this.maybeHandOver();
  }

  /**
   * A leader that was removed goes only when a quorum of those who stay knows it: as long as they do not, they count by
   * the old membership, might need its vote, and would not get it if its log is longer.
   */
  private maybeHandOver(): void {
    let known = this.quorumCommit(this.incoming);
    if (this.outgoing.length > 0) known = Math.min(known, this.quorumCommit(this.outgoing));
    if (known < this.handoverIndex) return;
    let heir = this.incoming[0]!;
    for (const pr of this.incoming) if (pr.match > heir.match) heir = pr;
    this.sendTimeoutNow(heir);
    this.becomeFollower(this.currentTerm, noNode);
  }

  private quorumCommit(voters: readonly Progress[]): number {
    const { scratch } = this;
    for (let i = 0; i < voters.length; i++) scratch[i] = voters[i]!.commit;
    return majorityIndex(scratch, voters.length);
  }

  /**
   * Finds in few steps where the logs agree (§5.3, end). Each side skips what cannot match, because terms only rise:
   * the follower goes back to the last entry whose term is not above the leader's there, the leader from that
   * hint to its own last entry whose term is not above the follower's. At most one probe per term of either log.
   *
   *     index      1 2 3 4 5 6 7 8 9
   *     leader     1 3 3 3 5 5 5 5 5     probe at 9 (term 5) → hint 6 (term 2) → probe at 1
   *     follower   1 1 1 1 2 2
   */
  private appendRejected(pr: Progress, m: Message): void {
    const hint = m.logTerm > 0 ? this.log.findConflict(m.rejectHint, m.logTerm) : m.rejectHint;
    if (pr.retreat(m.index, hint)) this.appendsDue = true;
  }

  private appendAccepted(pr: Progress, index: number): void {
    assert(
      index <= this.log.lastIndex,
      () =>
        `node ${hexId(pr.id)} has acknowledged ${index}, past this leader's log end ${this.log.lastIndex}`,
    );
    const advanced = pr.advance(index);
    // A probe that was answered ends probing even where the answer is no news.
    if (!advanced && !(pr.state === 'probe' && pr.match === index)) return;
    if (pr.state === 'probe') {
      pr.becomeReplicate();
    } else if (pr.state === 'replicate') {
      pr.inflights.freeTo(index);
    } else if (pr.match + 1 >= this.log.firstIndex) {
      // However it came by them, it has what was missing: the log goes on from there, the transfer is not needed.
      pr.becomeReplicate();
    }
    this.advanceCommit();
    if (pr.next <= this.log.lastIndex) this.appendsDue = true;
    if (pr.sentCommit < this.log.commit) this.commitDue = true;
    if (pr.id === this.transferee && pr.match === this.log.lastIndex) this.sendTimeoutNow(pr);
  }

  private heartbeatAnswered(pr: Progress, context: number): void {
    pr.probeSent = false;
    if (pr.state === 'probe') {
      this.appendsDue = true;
    } else if (pr.state === 'replicate' && pr.match < this.log.lastIndex) {
      // It hears us and lacks entries that were sent: they are under way, or lost.
      pr.nudge = true;
      this.appendsDue = true;
    }
    if (context > pr.ackedRound) {
      pr.ackedRound = context;
      this.confirmReads();
    }
  }

  /** §5.3, §5.4.2: an entry of this term that a quorum has stored commits, and with it all before it. */
  private advanceCommit(): void {
    let index = this.quorumMatch(this.incoming);
    if (this.outgoing.length > 0) index = Math.min(index, this.quorumMatch(this.outgoing));
    if (index <= this.log.commit || this.log.term(index) !== this.currentTerm) return;
    this.log.commitTo(index);
    this.commitDue = true;
  }

  private quorumMatch(voters: readonly Progress[]): number {
    const { scratch } = this;
    for (let i = 0; i < voters.length; i++) scratch[i] = voters[i]!.match;
    return majorityIndex(scratch, voters.length);
  }

  // ── reads (thesis §6.4) ───────────────────────────────────────────────────────────────────────────────────────

  private stepReadIndex(m: Message): void {
    const busy = this.readOnly.pending >= this.maxPendingReads;
    if (this.currentRole === 'leader' && !busy) this.readOnly.queue(m.from, m.context);
    else this.answerRead(m.from, m.context, 0, true);
  }

  /** A leader knows what is committed only once it has committed in its own term (thesis §6.4, step 1). */
  private canServeReads(): boolean {
    return this.currentRole === 'leader' && this.log.term(this.log.commit) === this.currentTerm;
  }

  /** True when a heartbeat round has to go out. */
  private startReadRound(): boolean {
    const { readOnly } = this;
    const leaseBeat = this.lease !== undefined && this.heartbeatDue;
    if (!leaseBeat && !readOnly.hasQueued()) return false;
    if (!this.canServeReads()) return false;
    const { commit } = this.log;
    if (readOnly.hasQueued() && (this.isAloneQuorum() || this.hasLease())) {
      for (const read of readOnly.takeQueued()) this.answerRead(read.from, read.context, commit, false);
      if (!leaseBeat) return false;
    }
    readOnly.startRound(commit, this.lease?.nowMs() ?? 0);
    if (this.isAloneQuorum()) this.confirmReads();
    return true;
  }

  private isAloneQuorum(): boolean {
    return this.outgoing.length === 0 && this.incoming.length === 1 && this.incoming[0] === this.self;
  }

  private hasLease(): boolean {
    const { lease } = this;
    if (lease === undefined || this.leaseBroken || this.transferee !== noNode) return false;
    return lease.nowMs() < this.leaseUntilMs;
  }

  private confirmReads(): void {
    let acked = this.quorumAcked(this.incoming);
    if (this.outgoing.length > 0) acked = Math.min(acked, this.quorumAcked(this.outgoing));
    for (;;) {
      const round = this.readOnly.takeConfirmed(acked);
      if (round === undefined) return;
      if (this.lease !== undefined) {
        this.leaseUntilMs = Math.max(this.leaseUntilMs, round.startMs + this.lease.leaseMs);
      }
      for (const read of round.reads) this.answerRead(read.from, read.context, round.index, false);
    }
  }

  private quorumAcked(voters: readonly Progress[]): number {
    const { scratch } = this;
    for (let i = 0; i < voters.length; i++) {
      const pr = voters[i]!;
      scratch[i] = pr === this.self ? Number.POSITIVE_INFINITY : pr.ackedRound;
    }
    return majorityIndex(scratch, voters.length);
  }

  private answerRead(from: NodeId, context: number, index: number, reject: boolean): void {
    if (from !== this.id) {
      const m = this.send(MessageType.readIndexResponse, from);
      m.index = index;
      m.context = context;
      m.reject = reject;
    } else if (reject) {
      this.droppedReads.push(context);
    } else {
      this.readStates.push({ context, index });
    }
  }

  private readAnswered(m: Message): void {
    // Unknown: given up before, or answered already.
    if (!this.forwarded.delete(m.context)) return;
    if (m.reject) this.droppedReads.push(m.context);
    else this.readStates.push({ context: m.context, index: m.index });
  }

  private dropReads(): void {
    if (this.currentRole === 'leader') {
      const reads: readonly PendingRead[] = this.readOnly.drop();
      for (const read of reads) this.answerRead(read.from, read.context, 0, true);
    }
    if (this.forwarded.size === 0) return;
    for (const context of this.forwarded.keys()) this.droppedReads.push(context);
    this.forwarded.clear();
  }

  /** A forwarded read, or its answer, was lost: after electionTicks it is given up. Oldest first, by order of insertion. */
  private expireForwarded(): void {
    for (const [context, since] of this.forwarded) {
      if (this.ticks - since < this.electionTicks) return;
      this.forwarded.delete(context);
      this.droppedReads.push(context);
    }
  }

  // ── following ─────────────────────────────────────────────────────────────────────────────────────────────────

  private stepFromLeader(m: Message): void {
    assert(
      this.currentRole !== 'leader' && (this.currentLeader === noNode || this.currentLeader === m.from),
      () => `two leaders in term ${m.term}: ${hexId(this.currentLeader)} and ${hexId(m.from)}`,
    );
    if (this.currentRole !== 'follower') this.becomeFollower(m.term, m.from);
    this.waitForTimeout();
    this.currentLeader = m.from;
    if (m.type === MessageType.append) this.handleAppend(m);
    else if (m.type === MessageType.heartbeat) this.handleHeartbeat(m);
    else this.handleSnapshot(m);
  }

  private stepFollower(m: Message): void {
    // The leader has chosen us, and we heard it just now: no need to ask first.
    if (m.type === MessageType.timeoutNow) this.hup('transfer');
    else if (m.type === MessageType.readIndexResponse) this.readAnswered(m);
  }

  private handleAppend(m: Message): void {
    const { log } = this;
    // A state is being installed, and nothing behind it is written before that is done: nothing can be promised. The
    // leader sends it again when it hears that the state is there.
    if (log.pendingSnapshot !== undefined) return;
    if (m.index < log.commit) {
      // Late or repeated: what is committed is known to match.
      this.acknowledge(m.from, log.commit);
      return;
    }
    if (log.term(m.index) === m.logTerm) {
      log.append(m.entries);
      const last = m.index + m.entries.length;
      log.commitTo(Math.min(m.commit, last));
      this.acknowledge(m.from, last);
      return;
    }
    // A hint promises nothing: it need not wait for the disk.
    const hint = log.findConflict(m.index, m.logTerm);
    const answer = this.send(MessageType.appendResponse, m.from);
    answer.index = m.index;
    answer.reject = true;
    answer.rejectHint = hint;
    answer.logTerm = Math.max(log.term(hint), 0);
  }

  private handleHeartbeat(m: Message): void {
    // The leader has our acknowledgement for all of it: commitTo stops the process if that log was lost.
    this.log.commitTo(m.commit);
    const answer = this.send(MessageType.heartbeatResponse, m.from);
    answer.commit = this.log.commit;
    answer.context = m.context;
  }

  /** The member has received a whole state and hands over where it stands. Ready.snapshot says that it is wanted. */
  private handleSnapshot(m: Message): void {
    const meta = m.snapshot;
    if (meta === undefined) return;
    const { log } = this;
    if (meta.index <= log.commit) {
      this.acknowledge(m.from, log.commit);
    } else if (log.term(meta.index) === meta.term) {
      // The log has all of it: faster than replacing the state, and keeps the entries behind it.
      log.commitTo(meta.index);
      this.acknowledge(m.from, log.commit);
    } else if (isMember(meta.confState, this.id)) {
      log.restore(meta);
      checkInvariants(meta.confState);
      this.conf = meta.confState;
      this.track();
      this.acknowledge(m.from, meta.index);
    }
  }

  // ── membership (thesis §4) ────────────────────────────────────────────────────────────────────────────────────

  /** Rebuilds the tracking of members from the configuration; who stays keeps its progress. */
  private track(): void {
    const before = this.progress;
    const { conf } = this;
    this.progress = new Map();
    for (const id of conf.voters) this.trackOne(before, id, false);
    for (const id of conf.votersOutgoing) if (!this.progress.has(id)) this.trackOne(before, id, false);
    for (const id of conf.learners) this.trackOne(before, id, true);
    this.members = [...this.progress.values()];
    this.self = this.progress.get(this.id);
    this.peers = this.members.filter((pr) => pr !== this.self);
    this.incoming = conf.voters.map((id) => this.progress.get(id)!);
    this.outgoing = conf.votersOutgoing.map((id) => this.progress.get(id)!);
  }

  private trackOne(before: Map<NodeId, Progress>, id: NodeId, learner: boolean): void {
    let pr = before.get(id);
    if (pr === undefined) {
      const next = this.log.lastIndex + 1;
      pr = new Progress(id, learner, next, this.maxInflightMessages, this.maxInflightBytes);
      // New: it had no chance yet to be heard of, and must not be taken for dead at the next check.
      pr.recentActive = true;
      if (id === this.id) pr.advance(this.log.durable);
    }
    pr.learner = learner;
    this.progress.set(id, pr);
  }

  private switchTo(conf: ConfState): void {
    this.conf = conf;
    this.track();
    if (this.currentRole !== 'leader') return;
    if (!isVoter(conf, this.id)) this.handoverIndex = this.log.commit;
    if (this.transferee !== noNode && !conf.voters.includes(this.transferee)) this.transferee = noNode;
    // It was given by a quorum of the membership that was.
    this.leaseUntilMs = 0;
    // A smaller quorum may have stored, and answered, more than the old one. New members have to be fed.
    this.advanceCommit();
    this.confirmReads();
    this.appendsDue = true;
  }

  /** Joint consensus that was entered by `auto` is left as soon as it is applied, by whoever leads then. */
  private maybeAutoLeave(): void {
    if (!this.conf.autoLeave || this.currentRole !== 'leader') return;
    if (this.pendingConfIndex > this.log.applied || this.transferee !== noNode) return;
    this.append(EntryType.confChange, encodeConfChange(leaveJointChange));
    this.pendingConfIndex = this.log.lastIndex;
  }

  // ── looking in ────────────────────────────────────────────────────────────────────────────────────────────────

  status(): RaftStatus {
    const { log } = this;
    const progress: ProgressStatus[] = [];
    if (this.currentRole === 'leader') for (const pr of this.members) progress.push(progressStatus(pr));
    return {
      id: this.id,
      role: this.currentRole,
      term: this.currentTerm,
      vote: this.currentVote,
      leader: this.currentLeader,
      transferee: this.transferee,
      commit: log.commit,
      applied: log.applied,
      firstIndex: log.firstIndex,
      lastIndex: log.lastIndex,
      durableIndex: log.durable,
      logBytes: log.bytes,
      uncommittedBytes: log.uncommittedBytes,
      pendingReads: this.readOnly.pending + this.forwarded.size,
      confState: this.conf,
      progress,
    };
  }
}

function isMember(conf: ConfState, id: NodeId): boolean {
  return isVoter(conf, id) || conf.learners.includes(id);
}

function progressStatus(pr: Progress): ProgressStatus {
  return {
    id: pr.id,
    learner: pr.learner,
    state: pr.state,
    match: pr.match,
    next: pr.next,
    recentActive: pr.recentActive,
    paused: pr.isPaused(),
    inflightMessages: pr.inflights.count,
    inflightBytes: pr.inflights.bytes,
    pendingSnapshot: pr.pendingSnapshot,
  };
}
