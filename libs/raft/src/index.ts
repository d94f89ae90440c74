/** Consensus as a pure state machine: ticks, messages and proposals in, one Ready per turn out. See DESIGN.md. */
export {
  ConfChangeError,
  changeConf,
  decodeConfChange,
  emptyConfState,
  encodeConfChange,
} from './conf-change.ts';
export { type LeaseClock, type RaftOptions, raftDefaults } from './options.ts';
export type { ProgressState } from './progress.ts';
export { jointVote, majorityIndex, majorityVote, type VoteResult } from './quorum.ts';
export { bootstrapState, joiningState, Raft } from './raft.ts';
export type { ProgressStatus, RaftStatus } from './status.ts';
export {
  type ConfChange,
  type ConfChangeResult,
  ConfChangeType,
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
