/** Requests and responses about members and the member itself: rare, so the generated messages do. */
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { type MemberInfo, type ResponseHeader, WireError } from '@quoin/contracts';
import {
  AlarmRequest_AlarmAction,
  AlarmRequestSchema,
  AlarmResponseSchema,
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
import { serverVersion, storageVersion } from './config.ts';

function messageOf<T>(read: () => T): T {
  try {
    return read();
  } catch (error) {
    throw new WireError((error as Error).message);
  }
}

/** @throws WireError */
export function readMemberAdd(body: Uint8Array): { peerUrls: string[]; learner: boolean } {
  const request = messageOf(() => fromBinary(MemberAddRequestSchema, body));
  return { peerUrls: request.peerURLs, learner: request.isLearner };
}

/** MemberRemove and MemberPromote have the same shape. @throws WireError */
export function readMemberId(body: Uint8Array): bigint {
  return messageOf(() => fromBinary(MemberRemoveRequestSchema, body)).ID;
}

/** @throws WireError */
export function readMemberUpdate(body: Uint8Array): { id: bigint; peerUrls: string[] } {
  const request = messageOf(() => fromBinary(MemberUpdateRequestSchema, body));
  return { id: request.ID, peerUrls: request.peerURLs };
}

/** @throws WireError */
export function readMemberList(body: Uint8Array): { linearizable: boolean } {
  return messageOf(() => fromBinary(MemberListRequestSchema, body));
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

function etcdHeader(header: ResponseHeader) {
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
  readonly quotaBytes: number;
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
    storageVersion,
    dbSizeQuota: BigInt(Number.isFinite(status.quotaBytes) ? status.quotaBytes : 0),
    downgradeInfo: { enabled: false },
  });
  return toBinary(StatusResponseSchema, response);
}

/** @throws WireError */
export function readMoveLeader(body: Uint8Array): bigint {
  return messageOf(() => fromBinary(MoveLeaderRequestSchema, body)).targetID;
}

/** @throws WireError. True: list alarms. */
export function readAlarmIsGet(body: Uint8Array): boolean {
  return messageOf(() => fromBinary(AlarmRequestSchema, body)).action === AlarmRequest_AlarmAction.GET;
}

export function writeAlarmResponse(header: ResponseHeader): Uint8Array {
  return toBinary(AlarmResponseSchema, create(AlarmResponseSchema, { header: etcdHeader(header) }));
}
