import type { ProgressState } from './progress.ts';
import type { ConfState, NodeId, Role } from './types.ts';

/** What a node knows of the cluster and of itself, for metrics, for `Status` and for people. */
export interface RaftStatus {
  readonly id: NodeId;
  readonly role: Role;
  readonly term: number;
  readonly vote: NodeId;
  readonly leader: NodeId;
  /** The node that leadership is being handed to; 0 = none. */
  readonly transferee: NodeId;
  readonly commit: number;
  readonly applied: number;
  /** First and last index in the log; first = last + 1 when it is empty. */
  readonly firstIndex: number;
  readonly lastIndex: number;
  /** Last index known to be on this node's disk. */
  readonly durableIndex: number;
  readonly logBytes: number;
  readonly uncommittedBytes: number;
  readonly pendingReads: number;
  readonly confState: ConfState;
  /** At the leader one for each member, itself included; empty elsewhere. */
  readonly progress: readonly ProgressStatus[];
}

export interface ProgressStatus {
  readonly id: NodeId;
  readonly learner: boolean;
  readonly state: ProgressState;
  /** Last index known to be durable there. */
  readonly match: number;
  /** Next index to send. */
  readonly next: number;
  /** Answered since the last check of the quorum. */
  readonly recentActive: boolean;
  readonly paused: boolean;
  readonly inflightMessages: number;
  readonly inflightBytes: number;
  /** Index of the snapshot under way; 0 = none. */
  readonly pendingSnapshot: number;
}
