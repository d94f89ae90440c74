/**
 * The replica: raft, WAL and store put together. Proposals come in over gateway links, are agreed on with the
 * peers, applied in order, and answered. Everything else here (leases, membership, snapshots) hangs on that path.
 */
export { type Alarm, AlarmType, alarmName } from './alarms.ts';
export { BoltReader, type ReadAt } from './bolt-reader.ts';
export { clusterIdOf, memberIdOf } from './cluster-ids.ts';
export {
  clusterVersion,
  type InitialMember,
  type MemberConfig,
  type MemberIdentity,
  type MemberLimits,
  type MemberOptions,
  memberConfig,
  memberConfigError,
  memberDefaults,
  quotaBytes,
  serverVersion,
  storageVersion,
  urlError,
} from './config.ts';
export { type EtcdRestoreOptions, restoreEtcd } from './etcd-restore.ts';
export type { MemberHealth } from './health.ts';
export { IdGenerator, type Lease, Lessor, type LessorOptions, leaseTtlMaxSeconds } from './lessor.ts';
export { Member } from './member.ts';
export {
  decodePeerBatch,
  encodePeerBatch,
  type PeerBatch,
  type PeerHello,
  type SnapshotAck,
} from './peer-codec.ts';
export type { BackendFactory, MemberPorts, MemberProbe } from './ports.ts';
export { Restore, type RestorePorts, type RestoreSummary } from './restore.ts';
export { ChunkChecker, ChunkSource } from './snapshot-chunks.ts';
export type { MemberStatus } from './status.ts';
