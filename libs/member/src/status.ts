import { etcdErrors, type MemberInfo } from '@quoin/contracts';
import type { Role } from '@quoin/raft';
import { type Alarm, AlarmType, alarmText } from './alarms.ts';
import type { StateMachine } from './apply.ts';
import type { ReadyLoop } from './ready-loop.ts';

/** What an operator sees of a replica at one moment. */
export interface MemberStatus {
  readonly memberId: bigint;
  readonly clusterId: bigint;
  readonly name: string;
  readonly role: Role;
  /** 0n: none known. */
  readonly leader: bigint;
  readonly term: number;
  readonly commitIndex: number;
  readonly appliedIndex: number;
  readonly revision: number;
  readonly compactRevision: number;
  readonly learner: boolean;
  readonly members: readonly MemberInfo[];
  readonly dbSizeBytes: number;
  readonly dbSizeInUseBytes: number;
  readonly storageVersion: string;
  /** Empty: no downgrade is under way. */
  readonly downgradeTarget: string;
  readonly alarms: readonly Alarm[];
  /** Such as `etcdserver: no leader`, and alarms as etcd writes them. */
  readonly errors: readonly string[];
}

export function statusOf(
  memberId: bigint,
  name: string,
  machine: StateMachine,
  loop: ReadyLoop,
): MemberStatus {
  const { store, membership, dbBytes } = machine;
  const { softState, committedIndex } = loop;
  const alarms = machine.alarms.list(AlarmType.none);
  const noLeader = softState.leader === 0n ? [etcdErrors.noLeader.message] : [];
  return {
    memberId,
    clusterId: membership.clusterId,
    name,
    role: softState.role,
    leader: softState.leader,
    term: softState.term,
    commitIndex: committedIndex,
    appliedIndex: store.appliedIndex,
    revision: store.revision,
    compactRevision: store.compactRevision,
    learner: membership.get(memberId)?.learner ?? false,
    members: membership.members,
    dbSizeBytes: dbBytes,
    dbSizeInUseBytes: dbBytes,
    storageVersion: machine.downgrade.storageVersion,
    downgradeTarget: machine.downgrade.target,
    alarms,
    errors: [...noLeader, ...alarms.map(alarmText)],
  };
}
