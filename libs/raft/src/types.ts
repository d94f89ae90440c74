/** The nouns of consensus. Terms and indexes are counters (below 2^53); node ids are 64-bit identities. */

export type NodeId = bigint;

/** No node: nobody voted for, no leader known. */
export const noNode: NodeId = 0n;

export const EntryType = { normal: 0, confChange: 1 } as const;
export type EntryType = (typeof EntryType)[keyof typeof EntryType];

export interface Entry {
  readonly term: number;
  readonly index: number;
  readonly type: EntryType;
  /** Opaque to raft. Empty for the entry that a new leader begins its term with. */
  readonly data: Uint8Array;
}

/** What must be durable before anything that depends on it is sent. */
export interface HardState {
  readonly term: number;
  readonly vote: NodeId;
  readonly commit: number;
}

/** Membership as of one index; `votersOutgoing` is not empty only inside joint consensus (thesis §4.3). */
export interface ConfState {
  readonly voters: readonly NodeId[];
  readonly votersOutgoing: readonly NodeId[];
  readonly learners: readonly NodeId[];
  readonly learnersNext: readonly NodeId[];
  readonly autoLeave: boolean;
}

/** Where a snapshot stands: it contains the effect of every entry up to and including `index`. */
export interface SnapshotMeta {
  readonly index: number;
  readonly term: number;
  readonly confState: ConfState;
}

export const ConfChangeType = { addVoter: 0, removeNode: 1, addLearner: 2 } as const;
export type ConfChangeType = (typeof ConfChangeType)[keyof typeof ConfChangeType];

export interface ConfChange {
  /** `auto` enters joint consensus only when needed and leaves by itself; `joint` waits for an explicit leave. */
  readonly transition: 'auto' | 'joint';
  readonly changes: readonly { readonly type: ConfChangeType; readonly node: NodeId }[];
  /** Opaque to raft: what the member records about the change. */
  readonly context: Uint8Array;
}

export const MessageType = {
  append: 1,
  appendResponse: 2,
  vote: 3,
  voteResponse: 4,
  preVote: 5,
  preVoteResponse: 6,
  heartbeat: 7,
  heartbeatResponse: 8,
  snapshot: 9,
  readIndex: 10,
  readIndexResponse: 11,
  timeoutNow: 12,
  propose: 13,
} as const;
export type MessageType = (typeof MessageType)[keyof typeof MessageType];

/**
 * One message between nodes. Fields that a type does not use are zero, empty or absent.
 * `term` 0 on `propose` and `readIndex`: they are not bound to the sender's term.
 */
export interface Message {
  readonly type: MessageType;
  readonly from: NodeId;
  readonly to: NodeId;
  readonly term: number;
  /** append: index before the first entry; appendResponse: last index in the log, or the one rejected. */
  readonly index: number;
  /** Term of the entry at `index`; in a rejection the term of the hinted entry. */
  readonly logTerm: number;
  /** append, heartbeat: the leader's, the latter bounded by what the peer has. Responses: the sender's own. */
  readonly commit: number;
  readonly entries: readonly Entry[];
  readonly reject: boolean;
  /** Rejected append: last index that may match. */
  readonly rejectHint: number;
  /** readIndex and the heartbeat round that confirms it: the requester's number, never used twice. 0 = none. */
  readonly context: number;
  /** A vote asked for by the leader itself (transfer) overrides the lease of check-quorum. */
  readonly force: boolean;
  readonly snapshot: SnapshotMeta | undefined;
}

export interface ReadState {
  /** The number that `readIndex` was called with. */
  readonly context: number;
  /** A state machine that has applied up to here answers linearizably. */
  readonly index: number;
}

export type Role = 'follower' | 'preCandidate' | 'candidate' | 'leader';

export interface SoftState {
  readonly leader: NodeId;
  readonly role: Role;
  readonly term: number;
}

/**
 * Everything that one turn asks the world to do. Taken once, acted on in this way:
 *
 *     messages ─────────────► send at once (they do not depend on this node's disk)
 *     hardState + entries ──► write and sync ──► raft.persisted(number) ──► send afterPersist
 *     snapshot ─────────────► install (replaces log and state) ──► raft.persisted(number)
 *     committed ────────────► apply in order ──► raft.applied(index)
 *     readStates ───────────► answer reads once applied ≥ index
 *
 * Writes of successive Readys reach the disk in the order of their numbers. Nothing here may be changed by the
 * receiver: `entries` and the entries of messages to several peers may be one and the same array.
 */
export interface Ready {
  /**
   * Counts from 1. `persisted(number)` says that this Ready and all before it are durable. It must be called
   * for a Ready that has entries, a snapshot, `mustSync` or `afterPersist`; for others it may be left out.
   */
  readonly number: number;
  /** Present when it changed. */
  readonly softState: SoftState | undefined;
  /** Present when it changed. Its commit never passes what is durable here, so it may be written before or after the entries. */
  readonly hardState: HardState | undefined;
  /** Append to the log; the first index may be at or below the last one written: the suffix is replaced. */
  readonly entries: readonly Entry[];
  /** A term, vote or entry is new: needs a sync. A new commit index alone does not. */
  readonly mustSync: boolean;
  /** Comes without entries: those that follow it are handed out after it was persisted. */
  readonly snapshot: SnapshotMeta | undefined;
  readonly messages: readonly Message[];
  /** Votes, vote requests and acknowledged appends: promises that need this and all earlier Readys to be durable first. */
  readonly afterPersist: readonly Message[];
  /** Committed and durable here: never an entry that this node's own log could still lose. */
  readonly committed: readonly Entry[];
  readonly readStates: readonly ReadState[];
  /** ReadIndex numbers that were dropped (no leader, leader changed, no answer in time): ask again with a fresh one. */
  readonly droppedReads: readonly number[];
}

/** What a node starts from: all of it read back from disk, or made by `bootstrapState`. */
export interface RaftState {
  readonly hardState: HardState;
  /** Position of the last entry that is no longer in the log: the snapshot's or the compaction's. */
  readonly start: { readonly index: number; readonly term: number };
  /** The log after `start`, without gaps. */
  readonly entries: readonly Entry[];
  /** What the state machine has durably applied: at least `start.index`. */
  readonly applied: number;
  /** Membership as of `applied`. Empty for a node that waits to be added to a running cluster. */
  readonly confState: ConfState;
}

/** `transferring`: a leadership transfer is under way; ask again, perhaps elsewhere. */
export type ProposeResult = 'ok' | 'notLeader' | 'transferring' | 'tooManyUncommitted';

/**
 * `confChangePending`: an earlier one is not applied yet. `inJoint`: leave joint consensus first.
 * `notInJoint`: there is nothing to leave. `invalid`: see `Raft.checkConfChange` for the reason.
 */
export type ConfChangeResult = ProposeResult | 'confChangePending' | 'inJoint' | 'notInJoint' | 'invalid';

export type TransferResult = 'ok' | 'notLeader' | 'notVoter';
