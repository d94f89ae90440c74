/** Requests and responses about members and the member itself: rare, so the generated messages do. */
import { create, toBinary } from '@bufbuild/protobuf';
import { decodeRequest, type MemberInfo, type ResponseHeader } from '@quoin/contracts';
import {
  AlarmRequest_AlarmAction,
  AlarmRequestSchema,
  AlarmResponseSchema,
  type AlarmType,
  DowngradeRequest_DowngradeAction,
  DowngradeRequestSchema,
  DowngradeResponseSchema,
  HashKVRequestSchema,
  HashKVResponseSchema,
  HashResponseSchema,
  LeaseCheckpointRequestSchema,
  type Member,
  MemberAddRequestSchema,
  MemberAddResponseSchema,
  MemberListRequestSchema,
  MemberListResponseSchema,
  MemberRemoveRequestSchema,
  MemberSchema,
  MemberUpdateRequestSchema,
  MoveLeaderRequestSchema,
  ResponseHeaderSchema,
  StatusResponseSchema,
} from '@quoin/contracts/etcd';
import type { Alarm } from './alarms.ts';
import { clusterVersion, serverVersion } from './config.ts';
import type { LeaseCheckpoint } from './lessor.ts';

/** @throws WireError */
export function readMemberAdd(body: Uint8Array): { peerUrls: string[]; learner: boolean } {
  const request = decodeRequest(MemberAddRequestSchema, body);
  return { peerUrls: request.peerURLs, learner: request.isLearner };
}

/** MemberRemove and MemberPromote have the same shape. @throws WireError */
export function readMemberId(body: Uint8Array): bigint {
  return decodeRequest(MemberRemoveRequestSchema, body).ID;
}

/** @throws WireError */
export function readMemberUpdate(body: Uint8Array): { id: bigint; peerUrls: string[] } {
  const request = decodeRequest(MemberUpdateRequestSchema, body);
  return { id: request.ID, peerUrls: request.peerURLs };
}

/** @throws WireError */
export function readMemberList(body: Uint8Array): { linearizable: boolean } {
  return decodeRequest(MemberListRequestSchema, body);
}

function etcdMember(member: MemberInfo): Member {
  return create(MemberSchema, {
    ID: member.id,
    name: member.name,
    peerURLs: [...member.peerUrls],
    clientURLs: [...member.clientUrls],
    isLearner: member.learner,
  });
}

export function etcdHeader(header: ResponseHeader) {
  return create(ResponseHeaderSchema, {
    clusterId: header.clusterId,
    memberId: header.memberId,
    revision: BigInt(header.revision),
    raftTerm: BigInt(header.raftTerm),
  });
}

/**
 * MemberAdd's response when `added` is given. List, Remove, Update and Promote share the other shape: header and
 * members.
 */
export function writeMembersResponse(
  header: ResponseHeader,
  added: MemberInfo | undefined,
  members: readonly MemberInfo[],
): Uint8Array {
  const all = { header: etcdHeader(header), members: members.map(etcdMember) };
  if (added === undefined) return toBinary(MemberListResponseSchema, create(MemberListResponseSchema, all));
  const response = create(MemberAddResponseSchema, { ...all, member: etcdMember(added) });
  return toBinary(MemberAddResponseSchema, response);
}

export interface StatusView {
  readonly dbSizeBytes: number;
  readonly dbSizeInUseBytes: number;
  /** Negative: none. */
  readonly quotaBytes: number;
  readonly storageVersion: string;
  /** Empty: no downgrade is under way. */
  readonly downgradeTarget: string;
  readonly leader: bigint;
  readonly commitIndex: number;
  readonly term: number;
  readonly appliedIndex: number;
  readonly learner: boolean;
  readonly errors: readonly string[];
}

export function writeStatusResponse(header: ResponseHeader, status: StatusView): Uint8Array {
  const response = create(StatusResponseSchema, {
    header: etcdHeader(header),
    version: serverVersion,
    dbSize: BigInt(status.dbSizeBytes),
    leader: status.leader,
    raftIndex: BigInt(status.commitIndex),
    raftTerm: BigInt(status.term),
    raftAppliedIndex: BigInt(status.appliedIndex),
    errors: [...status.errors],
    dbSizeInUse: BigInt(status.dbSizeInUseBytes),
    isLearner: status.learner,
    storageVersion: status.storageVersion,
    dbSizeQuota: BigInt(status.quotaBytes),
    downgradeInfo: { enabled: status.downgradeTarget !== '', targetVersion: status.downgradeTarget },
  });
  return toBinary(StatusResponseSchema, response);
}

/** @throws WireError */
export function readMoveLeader(body: Uint8Array): bigint {
  return decodeRequest(MoveLeaderRequestSchema, body).targetID;
}

/** The revision asked for. @throws WireError */
export function readHashKv(body: Uint8Array): number {
  return clampCounter(decodeRequest(HashKVRequestSchema, body).revision);
}

/** Beyond what a counter can be it is only compared: every comparison comes out right. */
function clampCounter(value: bigint): number {
  const max = BigInt(Number.MAX_SAFE_INTEGER);
  return Number(value > max ? max : value < -max ? -max : value);
}

export function writeHashResponse(header: ResponseHeader, hash: number): Uint8Array {
  return toBinary(HashResponseSchema, create(HashResponseSchema, { header: etcdHeader(header), hash }));
}

export function writeHashKvResponse(
  header: ResponseHeader,
  hash: number,
  compactRevision: number,
  hashRevision: number,
): Uint8Array {
  const response = create(HashKVResponseSchema, {
    header: etcdHeader(header),
    hash,
    compactRevision: BigInt(compactRevision),
    hashRevision: BigInt(hashRevision),
  });
  return toBinary(HashKVResponseSchema, response);
}

export function encodeCheckpoints(checkpoints: readonly LeaseCheckpoint[]): Uint8Array {
  const request = create(LeaseCheckpointRequestSchema, {
    checkpoints: checkpoints.map(({ id, remainingSeconds }) => ({
      ID: id,
      remainingTTL: BigInt(remainingSeconds),
    })),
  });
  return toBinary(LeaseCheckpointRequestSchema, request);
}

/** @throws WireError */
export function decodeCheckpoints(body: Uint8Array): LeaseCheckpoint[] {
  return decodeRequest(LeaseCheckpointRequestSchema, body).checkpoints.map(({ ID, remainingTTL }) => ({
    id: ID,
    remainingSeconds: Number(remainingTTL),
  }));
}

export interface DowngradeRequestView {
  readonly action: 'validate' | 'enable' | 'cancel' | 'unknown';
  readonly version: string;
}

const downgradeActions: Readonly<Record<number, DowngradeRequestView['action']>> = {
  [DowngradeRequest_DowngradeAction.VALIDATE]: 'validate',
  [DowngradeRequest_DowngradeAction.ENABLE]: 'enable',
  [DowngradeRequest_DowngradeAction.CANCEL]: 'cancel',
};

/** @throws WireError */
export function readDowngrade(body: Uint8Array): DowngradeRequestView {
  const { action, version } = decodeRequest(DowngradeRequestSchema, body);
  return { action: downgradeActions[action] ?? 'unknown', version };
}

export function writeDowngradeResponse(header: ResponseHeader): Uint8Array {
  // etcd gives major and minor only.
  const version = clusterVersion.split('.', 2).join('.');
  const response = create(DowngradeResponseSchema, { header: etcdHeader(header), version });
  return toBinary(DowngradeResponseSchema, response);
}

export interface AlarmRequestView extends Alarm {
  readonly action: 'get' | 'activate' | 'deactivate' | 'unknown';
}

/** @throws WireError */
export function readAlarm(body: Uint8Array): AlarmRequestView {
  const request = decodeRequest(AlarmRequestSchema, body);
  const action = alarmActions[request.action] ?? 'unknown';
  return { action, memberId: request.memberID, type: request.alarm };
}

const alarmActions: Readonly<Record<number, AlarmRequestView['action']>> = {
  [AlarmRequest_AlarmAction.GET]: 'get',
  [AlarmRequest_AlarmAction.ACTIVATE]: 'activate',
  [AlarmRequest_AlarmAction.DEACTIVATE]: 'deactivate',
};

export function encodeAlarmActivate(memberID: bigint, alarm: AlarmType): Uint8Array {
  return encodeAlarm(AlarmRequest_AlarmAction.ACTIVATE, memberID, alarm);
}

export function encodeAlarmDeactivate(memberID: bigint, alarm: AlarmType): Uint8Array {
  return encodeAlarm(AlarmRequest_AlarmAction.DEACTIVATE, memberID, alarm);
}

function encodeAlarm(action: AlarmRequest_AlarmAction, memberID: bigint, alarm: AlarmType): Uint8Array {
  return toBinary(AlarmRequestSchema, create(AlarmRequestSchema, { action, memberID, alarm }));
}

export function writeAlarmResponse(header: ResponseHeader, alarms: readonly Alarm[]): Uint8Array {
  const response = create(AlarmResponseSchema, {
    header: etcdHeader(header),
    alarms: alarms.map(({ memberId, type }) => ({ memberID: memberId, alarm: type as AlarmType })),
  });
  return toBinary(AlarmResponseSchema, response);
}
