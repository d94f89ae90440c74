import type { Random } from '@quoin/base';
import type { NodeId } from './types.ts';

/**
 * The clock that leases rely on, and the only one: ticks that come late, or not at all while the process is paused, do no harm.
 * What must hold is that no follower's electionTicks pass sooner than `leaseMs` of this clock.
 */
export interface LeaseClock {
  /** Asked in the moment in which a read is answered. Never goes back; goes on while the process is paused. */
  nowMs(): number;
  /** How long after a round was sent nobody else can be elected. */
  readonly leaseMs: number;
}

export interface RaftOptions {
  readonly id: NodeId;
  /** Spreads election timeouts. */
  readonly random: Random;
  /** Ticks without a leader before an election; the real timeout is uniform in [electionTicks, 2·electionTicks). The finer, the fewer split votes. */
  readonly electionTicks?: number;
  /** Ticks between heartbeats; less than electionTicks. An answer should not take longer: failed elections are tried again after about as long. */
  readonly heartbeatTicks?: number;
  /** Asks whether an election could be won before the term is raised (thesis §9.6). */
  readonly preVote?: boolean;
  /** A leader that hears of no quorum for electionTicks steps down; followers that hear a leader refuse to vote (thesis §6.2, §4.2.3). */
  readonly checkQuorum?: boolean;
  /** Reads without a heartbeat round while a quorum's lease lasts (thesis §6.4.1). Absent: every read is proved by a round. Set on all nodes or on none. */
  readonly lease?: LeaseClock | undefined;
  /** Bytes of entries in one append message; one entry goes whole, however large. */
  readonly maxEntryBytesPerMessage?: number;
  /** Append messages under way to one peer without an answer. */
  readonly maxInflightMessages?: number;
  /** Bytes of entries under way to one peer without an answer. */
  readonly maxInflightBytes?: number;
  /** Bytes of proposed entries that are not committed yet; one entry is always taken. */
  readonly maxUncommittedBytes?: number;
  /** Bytes of committed entries that are handed out and not applied yet; one entry is always handed out. */
  readonly maxApplyingBytes?: number;
  /** ReadIndex requests, own and forwarded ones, that wait at one node. */
  readonly maxPendingReads?: number;
}

/** Defaults of every limit. Times are in ticks, sizes in bytes. */
export const raftDefaults = {
  electionTicks: 10,
  heartbeatTicks: 1,
  preVote: true,
  checkQuorum: true,
  lease: undefined,
  maxEntryBytesPerMessage: 1 << 20,
  maxInflightMessages: 512,
  maxInflightBytes: 16 << 20,
  maxUncommittedBytes: 64 << 20,
  maxApplyingBytes: 4 << 20,
  maxPendingReads: 4096,
} as const;
