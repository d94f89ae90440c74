/**
 * The one authoriser: gateways ask it before they send a request on, members before they answer one and again when
 * they apply it. It goes down every level of a request; what it does not know it refuses.
 */
import { etcdErrors } from '../errors.ts';
import { Method } from '../method.ts';
import {
  type DeleteRangeRequestView,
  type PutRequestView,
  type RangeRequestView,
  type RequestOpView,
  readDeleteRangeRequest,
  readPutRequest,
  readRangeRequest,
  readTxnRequest,
  type TxnRequestView,
} from '../requests.ts';
import type { RpcStatus } from '../status.ts';
import {
  readLeaseKeepAliveRequest,
  readLeaseRevokeRequest,
  readLeaseTimeToLiveRequest,
} from '../stream-requests.ts';
import { WireReader } from '../wire-reader.ts';
import type { Authority, UserPermissions } from './permissions.ts';
import { ruleOf } from './rules.ts';

/** In whose name a request is made. */
export interface Caller {
  /** Empty: nobody's. */
  readonly user: string;
  /** The auth revision at which the user was identified. */
  readonly authRevision: number;
}

/**
 * The keys that are attached to leases, which members know. A gateway does without: it refuses what it can, and leaves
 * the rest of the question to the member.
 */
export interface AttachedKeys {
  of(lease: bigint): readonly Uint8Array[];
  leases(): Iterable<bigint>;
}

const nobody: Caller = { user: '', authRevision: 0 };

/**
 * Why the caller may not; undefined when he may. `request` is the client's message, encoded.
 *
 * @throws WireError when the bytes are no message of that kind
 */
export function authorise(
  authority: Authority,
  caller: Caller | undefined,
  method: number,
  request: Uint8Array,
  attached: AttachedKeys | undefined,
): RpcStatus | undefined {
  if (!authority.enabled) return undefined;
  const by = caller ?? nobody;
  const rule = ruleOf(method);
  switch (rule) {
    case 'open':
    case 'anybody':
      return undefined;
    case 'user':
      return by.user === '' ? etcdErrors.userEmpty : undefined;
    case 'root':
      return rootError(authority, by);
    case 'range':
      return rangeDenied(authority, by, readRangeRequest(request));
    case 'put':
      return putDenied(authority, by, readPutRequest(request), attached);
    case 'deleteRange':
      return deleteDenied(authority, by, readDeleteRangeRequest(request));
    case 'txn':
      return txnDenied(authority, by, readTxnRequest(request), attached);
    case 'leaseWrite':
    case 'leaseRead':
    case 'leases':
      return leaseRequestDenied(authority, by, method, request, attached);
    case 'alarm':
      if (!isAlarmGet(request)) return rootError(authority, by);
      return by.user === '' ? etcdErrors.userEmpty : undefined;
    case 'ownUser':
    case 'ownRole': {
      const name = firstText(request);
      const own =
        rule === 'ownUser' ? name === by.user : authority.of(by.user)?.roles.includes(name) === true;
      return own && by.user !== '' ? undefined : rootError(authority, by);
    }
    default:
      return etcdErrors.permissionDenied;
  }
}

export function rootError(authority: Authority, caller: Caller): RpcStatus | undefined {
  if (!authority.enabled) return undefined;
  if (caller.user === '') return etcdErrors.userEmpty;
  const permissions = authority.of(caller.user);
  if (permissions === undefined) return etcdErrors.userNotFound;
  return permissions.root ? undefined : etcdErrors.permissionDenied;
}

/** What the caller may do with keys, or why nothing. */
function permissionsOf(authority: Authority, caller: Caller): UserPermissions | RpcStatus {
  if (caller.user === '') return etcdErrors.userEmpty;
  if (caller.authRevision < authority.revision) return etcdErrors.authOldRevision;
  return authority.of(caller.user) ?? etcdErrors.permissionDenied;
}

/** READ on a range: Range, a page of RangeStream, a watch, a compare. */
export function rangeDenied(
  authority: Authority,
  caller: Caller,
  range: Pick<RangeRequestView, 'key' | 'rangeEnd'>,
): RpcStatus | undefined {
  if (!authority.enabled) return undefined;
  const may = permissionsOf(authority, caller);
  return 'code' in may ? may : denied(mayRead(may, range.key, range.rangeEnd));
}

export function putDenied(
  authority: Authority,
  caller: Caller,
  put: PutRequestView,
  attached: AttachedKeys | undefined,
): RpcStatus | undefined {
  if (!authority.enabled) return undefined;
  const may = permissionsOf(authority, caller);
  return 'code' in may ? may : denied(mayPut(may, put, attached));
}

export function deleteDenied(
  authority: Authority,
  caller: Caller,
  request: DeleteRangeRequestView,
): RpcStatus | undefined {
  if (!authority.enabled) return undefined;
  const may = permissionsOf(authority, caller);
  return 'code' in may ? may : denied(mayDelete(may, request));
}

export function txnDenied(
  authority: Authority,
  caller: Caller,
  txn: TxnRequestView,
  attached: AttachedKeys | undefined,
): RpcStatus | undefined {
  if (!authority.enabled) return undefined;
  const may = permissionsOf(authority, caller);
  return 'code' in may ? may : denied(mayTxn(may, txn, attached));
}

/** WRITE on every key of the lease. */
export function leaseWriteDenied(
  authority: Authority,
  caller: Caller,
  lease: bigint,
  attached: AttachedKeys,
): RpcStatus | undefined {
  return everyKeyDenied(authority, caller, lease, attached, mayWrite);
}

function leaseRequestDenied(
  authority: Authority,
  caller: Caller,
  method: number,
  request: Uint8Array,
  attached: AttachedKeys | undefined,
): RpcStatus | undefined {
  if (caller.user === '') return etcdErrors.userEmpty;
  if (attached === undefined) return undefined;
  switch (method) {
    case Method.leaseRevoke:
      return leaseWriteDenied(authority, caller, readLeaseRevokeRequest(request).id, attached);
    case Method.leaseKeepAlive:
      return leaseWriteDenied(authority, caller, readLeaseKeepAliveRequest(request).id, attached);
    case Method.leaseTimeToLive: {
      const { id, keys } = readLeaseTimeToLiveRequest(request);
      return keys ? everyKeyDenied(authority, caller, id, attached, mayRead) : undefined;
    }
    case Method.leaseLeases:
      if (authority.of(caller.user)?.root === true) return undefined;
      for (const lease of attached.leases()) {
        const problem = everyKeyDenied(authority, caller, lease, attached, mayRead);
        if (problem !== undefined) return problem;
      }
      return undefined;
    default:
      return etcdErrors.permissionDenied;
  }
}

/** As etcd has it: who holds root, or asks about no key at all, is not asked for his revision. */
function everyKeyDenied(
  authority: Authority,
  caller: Caller,
  lease: bigint,
  attached: AttachedKeys,
  mayKey: (may: UserPermissions, key: Uint8Array, rangeEnd: Uint8Array) => boolean,
): RpcStatus | undefined {
  if (caller.user === '') return etcdErrors.userEmpty;
  if (authority.of(caller.user)?.root === true) return undefined;
  const keys = attached.of(lease);
  if (keys.length === 0) return undefined;
  const may = permissionsOf(authority, caller);
  if ('code' in may) return may;
  return denied(keys.every((key) => mayKey(may, key, noEnd)));
}

const noEnd: Uint8Array = new Uint8Array(0);

function denied(may: boolean): RpcStatus | undefined {
  return may ? undefined : etcdErrors.permissionDenied;
}

function mayRead(may: UserPermissions, key: Uint8Array, rangeEnd: Uint8Array): boolean {
  return may.root || may.read.covers(key, rangeEnd);
}

function mayWrite(may: UserPermissions, key: Uint8Array, rangeEnd: Uint8Array): boolean {
  return may.root || may.write.covers(key, rangeEnd);
}

/** Who may not write every key of a lease could not revoke it: nor may he attach a key, which the revoke would delete. */
function mayPut(may: UserPermissions, put: PutRequestView, attached: AttachedKeys | undefined): boolean {
  if (may.root) return true;
  if (!mayWrite(may, put.key, noEnd)) return false;
  if (put.prevKv && !mayRead(may, put.key, noEnd)) return false;
  if (put.lease === 0n || attached === undefined) return true;
  return attached.of(put.lease).every((key) => mayWrite(may, key, noEnd));
}

function mayDelete(may: UserPermissions, request: DeleteRangeRequestView): boolean {
  const { key, rangeEnd } = request;
  return mayWrite(may, key, rangeEnd) && (!request.prevKv || mayRead(may, key, rangeEnd));
}

/** Both branches count, and those of every txn within: which one is taken nobody knows yet. */
function mayTxn(may: UserPermissions, txn: TxnRequestView, attached: AttachedKeys | undefined): boolean {
  if (may.root) return true;
  for (const compare of txn.compare) if (!mayRead(may, compare.key, compare.rangeEnd)) return false;
  for (const op of txn.success) if (!mayOp(may, op, attached)) return false;
  for (const op of txn.failure) if (!mayOp(may, op, attached)) return false;
  return true;
}

function mayOp(may: UserPermissions, op: RequestOpView, attached: AttachedKeys | undefined): boolean {
  switch (op.kind) {
    case 'range':
      return mayRead(may, op.request.key, op.request.rangeEnd);
    case 'put':
      return mayPut(may, op.request, attached);
    case 'deleteRange':
      return mayDelete(may, op.request);
    case 'txn':
      return mayTxn(may, op.request, attached);
    case 'none':
      // Does nothing; the request is refused as a whole for it.
      return true;
  }
}

/** AlarmRequest.action is GET, the zero of its enum. */
function isAlarmGet(request: Uint8Array): boolean {
  const reader = new WireReader(request);
  let action = 0;
  while (reader.more()) {
    const tag = reader.tag();
    if (tag === 8) action = reader.int32();
    else reader.skip(tag);
  }
  return action === 0;
}

/** Field 1: the name in UserGet and RoleGet. */
function firstText(request: Uint8Array): string {
  const reader = new WireReader(request);
  let text = '';
  while (reader.more()) {
    const tag = reader.tag();
    if (tag === 10) text = reader.text();
    else reader.skip(tag);
  }
  return text;
}
