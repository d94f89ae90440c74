import type { RaftOptions } from './options.ts';
import type { RaftStatus } from './status.ts';
import type {
  ConfChange,
  ConfChangeResult,
  ConfState,
  Message,
  NodeId,
  ProposeResult,
  RaftState,
  Ready,
  TransferResult,
} from './types.ts';

/**
 * The state that every voter of a new cluster starts from. Its log begins after index 1, as if a snapshot of the
 * empty state had been taken there: a node that joins later (`joiningState`) can thus never be fed from the log
 * alone without learning the first membership, which is in no entry.
 */
export function bootstrapState(_voters: readonly NodeId[]): RaftState {
  throw new Error('not built yet');
}

/** The state of a node that waits to be added to a running cluster: it knows nobody and gets a snapshot first. */
export function joiningState(): RaftState {
  throw new Error('not built yet');
}

/** One node of the group as a pure state machine. Not reentrant; no call fails on what peers send. */
export class Raft {
  /** @throws AssertionError when options or state contradict themselves. */
  constructor(_options: RaftOptions, _state: RaftState) {}

  /** One unit of time: drives elections, heartbeats and every timeout. */
  tick(): void {}

  /** A message from a peer. */
  step(_message: Message): void {}

  /** Puts one normal entry into the leader's log; it is sent and written at the next `ready`. `data` is kept as it is. */
  propose(_data: Uint8Array): ProposeResult {
    throw new Error('not built yet');
  }

  /** No changes: leaves joint consensus. Checked here, so that it can be applied when committed. */
  proposeConfChange(_cc: ConfChange): ConfChangeResult {
    throw new Error('not built yet');
  }

  /** Why the change could not be applied to the present membership; undefined = it could. */
  checkConfChange(_cc: ConfChange): string | undefined {
    throw new Error('not built yet');
  }

  /**
   * The state machine applies a committed `confChange` entry (`decodeConfChange(entry.data)`); `applied` of that entry
   * follows in the same turn. A state machine that refuses the change skips this call, and does so on all nodes.
   */
  applyConfChange(_cc: ConfChange): ConfState {
    throw new Error('not built yet');
  }

  /** Asks for an index that a linearizable read can be served at. `context` is positive and never used twice on this node. */
  readIndex(_context: number): void {}

  /** Starts an election now. Ignored by a leader, a learner, and while a committed membership change is not applied. */
  campaign(): void {}

  /** Hands leadership to a voter: it is brought up to date, then told to campaign. Given up after electionTicks. */
  transferLeadership(_to: NodeId): TransferResult {
    throw new Error('not built yet');
  }

  hasReady(): boolean {
    return false;
  }

  /** Takes all that has to be done; what is taken is never handed out again. */
  ready(): Ready {
    throw new Error('not built yet');
  }

  /** The Ready of that number, and all before it, are durable. */
  persisted(_readyNumber: number): void {}

  /** The state machine has applied all entries up to `index`. */
  applied(_index: number): void {}

  /** Forgets entries up to `index`, which must be applied. Peers that still need them get a snapshot. */
  compact(_index: number): void {}

  /** A message to that peer was lost: stop sending ahead until it answers. */
  reportUnreachable(_id: NodeId): void {}

  /** The transfer that a `snapshot` message asked for has ended: `ok` when the peer has all of it. */
  reportSnapshot(_id: NodeId, _ok: boolean): void {}

  status(): RaftStatus {
    throw new Error('not built yet');
  }
}
