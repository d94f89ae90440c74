/**
 * The state machine: the one place where a committed request is decoded and takes effect. Everything here depends on
 * the entry and the state alone — no clock, no randomness, no configuration that members might differ in — so that
 * all members come to the same state. Only the origin of a proposal has its response made.
 */
import { readCounterBE, writeCounterBE } from '@quoin/base';
import {
  type AttributesRequest,
  decodeAttributesRequest,
  decodeLeaseExpireRequest,
  etcdErrors,
  type MemberChange,
  Method,
  malformedRequest,
  otherErrors,
  type Proposal,
  type ResponseHeader,
  type RpcStatus,
  readCompactionRequest,
  readDeleteRangeRequest,
  readLeaseGrantRequest,
  readLeaseRevokeRequest,
  readPutRequest,
  readTxnRequest,
  WireError,
  writeCompactionResponse,
  writeDeleteRangeResponse,
  writeLeaseGrantResponse,
  writeLeaseRevokeResponse,
  writePutResponse,
  writeTxnResponse,
} from '@quoin/contracts';
import { type AttachedKeys, authorise, deleteDenied, putDenied, txnDenied } from '@quoin/contracts/auth';
import type { Store } from '@quoin/mvcc';
import type { ConfState } from '@quoin/raft';
import { type Alarm, Alarms, AlarmType } from './alarms.ts';
import { planError, planPuts, planTxn, putError, runPut, TxnRunner } from './apply-txn.ts';
import { applyAuth } from './auth-apply.ts';
import { AuthStore } from './auth-store.ts';
import {
  type AlarmRequestView,
  type DowngradeRequestView,
  decodeCheckpoints,
  readAlarm,
  readDowngrade,
  readMemberUpdate,
  writeAlarmResponse,
  writeDowngradeResponse,
  writeMembersResponse,
} from './cluster-messages.ts';
import { Downgrade } from './downgrade.ts';
import { LeaseUsers, PrefixCounts } from './fair-use.ts';
import { type LeaseCheckpoint, type Lessor, leaseTtlMaxSeconds } from './lessor.ts';
import { Membership } from './membership.ts';
import { leaseCostBytes, putCost, txnCost } from './quota.ts';
import { idKey, keyId, Table } from './records.ts';

/** The encoded response, or why not. */
export type Outcome = Uint8Array | RpcStatus;

export function isRefused(outcome: Outcome): outcome is RpcStatus {
  return !(outcome instanceof Uint8Array);
}

export interface StateMachineOptions {
  readonly memberId: bigint;
  readonly lessor: Lessor;
  readonly maxLearners: number;
  /** Negative: none. */
  readonly quotaBytes: number;
  /** Of the answering member, for headers. */
  readonly raftTerm: () => number;
  /** For the leader's lease times; nothing replicated depends on it. */
  readonly nowMs: () => number;
  /** After each change, and when the state is loaded. */
  readonly onAlarms: (active: readonly Alarm[]) => void;
  readonly onHashReport: (body: Uint8Array) => void;
  readonly onRepairAsked: (body: Uint8Array) => void;
  readonly onLeaseGranted: (ttlSeconds: number) => void;
  readonly onLeaseRevoked: (expired: boolean) => void;
}

const noReply = new Uint8Array(0);

/** What is refused while the CORRUPT alarm is on. */
const corruptible: ReadonlySet<number> = new Set([
  Method.put,
  Method.deleteRange,
  Method.txn,
  Method.compact,
  Method.leaseGrant,
  Method.leaseRevoke,
  Method.leaseExpire,
]);

export class StateMachine {
  store: Store;
  membership: Membership;
  /** An entry asked for the hash of the state right after it: nothing more is applied before that was begun. */
  hashDue: boolean;
  alarms: Alarms;
  downgrade: Downgrade;
  auth: AuthStore;
  /** For the authoriser. */
  readonly attached: AttachedKeys;
  private readonly prefixCounts = new PrefixCounts();
  private readonly leaseUsers = new LeaseUsers();
  private readonly options: StateMachineOptions;
  private readonly leaseExists: (id: bigint) => boolean;

  /** @throws Error when the store has no membership. */
  constructor(store: Store, options: StateMachineOptions) {
    this.options = options;
    this.leaseExists = (id) => options.lessor.get(id) !== undefined;
    this.store = store;
    this.hashDue = false;
    this.membership = loadMembership(store);
    this.alarms = this.loadAlarms();
    this.downgrade = Downgrade.load(store);
    this.auth = AuthStore.load(store);
    this.attached = {
      of: (lease) => this.store.leaseKeys(lease),
      leases: () => options.lessor.ids(),
    };
    this.loadLeases();
  }

  /** A snapshot has replaced the state. */
  replaceStore(store: Store): void {
    this.store = store;
    this.membership = loadMembership(store);
    this.alarms = this.loadAlarms();
    this.downgrade = Downgrade.load(store);
    this.auth = AuthStore.load(store);
    this.loadLeases();
  }

  /** What counts for the quota, and what Status calls the size of the database. */
  get dbBytes(): number {
    return this.store.storedBytes + this.options.lessor.size * leaseCostBytes;
  }

  /** What a change may cost less than; Infinity without a quota. */
  get quotaRoom(): number {
    const { quotaBytes } = this.options;
    return quotaBytes < 0 ? Number.POSITIVE_INFINITY : quotaBytes - this.dbBytes;
  }

  header(): ResponseHeader {
    return {
      clusterId: this.membership.clusterId,
      memberId: this.options.memberId,
      revision: this.store.revision,
      raftTerm: this.options.raftTerm(),
    };
  }

  /** The header of answers about members has no revision. */
  memberHeader(): ResponseHeader {
    return { ...this.header(), revision: 0 };
  }

  /** Applies one committed proposal. `wantReply`: its origin is this member. */
  apply(proposal: Proposal, wantReply: boolean): Outcome {
    try {
      return this.dispatch(proposal, wantReply);
    } catch (error) {
      // Bytes that are no message were refused by the gateway; should they come this far, all members refuse them alike.
      if (error instanceof WireError) return malformedRequest(error.message);
      throw error;
    }
  }

  private dispatch(proposal: Proposal, wantReply: boolean): Outcome {
    const { body } = proposal;
    // etcd refuses all of these, so leases do not run out either while the alarm is on.
    if (corruptible.has(proposal.method) && this.alarms.has(AlarmType.corrupt)) return etcdErrors.corrupt;
    // Once more, by the state that the log has led to: what has changed since the proposal counts.
    const checks = this.auth.enabled && !proposal.own;
    switch (proposal.method) {
      case Method.put:
        return this.put(proposal, wantReply, checks);
      case Method.deleteRange:
        return this.deleteRange(proposal, wantReply, checks);
      case Method.txn:
        return this.txn(proposal, wantReply, checks);
    }
    if (checks) {
      const { authority } = this.auth;
      const problem = authorise(authority, proposal, proposal.method, body, this.attached);
      if (problem !== undefined) return problem;
    }
    return this.dispatchOther(proposal);
  }

  private dispatchOther(proposal: Proposal): Outcome {
    const { method, body } = proposal;
    if (method >= Method.authEnable && method <= Method.roleRevokePermission) {
      return applyAuth(this.auth, this.store, method, body, () => this.header());
    }
    switch (method) {
      case Method.compact:
        return this.compact(body);
      case Method.leaseGrant:
        return this.leaseGrant(proposal);
      case Method.leaseRevoke:
        return this.leaseRevoke(body);
      case Method.leaseExpire:
        for (const id of decodeLeaseExpireRequest(body).ids) this.endLease(BigInt.asIntN(64, id), true);
        return noReply;
      case Method.alarm:
        return this.alarm(readAlarm(body));
      case Method.attributes:
        return this.attributes(decodeAttributesRequest(body));
      case Method.leaseCheckpoint:
        for (const checkpoint of decodeCheckpoints(body)) this.checkpoint(checkpoint);
        return noReply;
      case Method.downgrade:
        return this.applyDowngrade(readDowngrade(body));
      case Method.hashCheck:
        this.hashDue = true;
        return noReply;
      case Method.hashReport:
        this.options.onHashReport(body);
        return noReply;
      case Method.repair:
        this.options.onRepairAsked(body);
        return noReply;
      case Method.memberUpdate:
        return this.memberUpdate(body);
      default:
        return otherErrors.unknownMethod;
    }
  }

  private put(proposal: Proposal, wantReply: boolean, checks: boolean): Outcome {
    const put = readPutRequest(proposal.body);
    if (checks) {
      const denied = putDenied(this.auth.authority, proposal, put, this.attached);
      if (denied !== undefined) return denied;
    }
    const cost = putCost(put);
    if (this.alarms.has(AlarmType.noSpace)) return etcdErrors.noSpace;
    const { store, prefixCounts } = this;
    const problem =
      putError(store, put, this.leaseExists) ?? prefixCounts.problem(store, proposal.keyLimits, [put.key]);
    if (problem !== undefined) return problem;
    const fits = this.quotaRoom > cost;
    const creates = !prefixCounts.idle && store.meta(put.key) === undefined;
    const write = store.begin();
    if (!wantReply) put.prevKv = false;
    const prevKv = runPut(write, put);
    write.end();
    if (creates) prefixCounts.created(put.key);
    if (!fits) return etcdErrors.noSpace;
    return wantReply ? writePutResponse(this.header(), put.prevKv ? prevKv : undefined) : noReply;
  }

  private deleteRange(proposal: Proposal, wantReply: boolean, checks: boolean): Outcome {
    const request = readDeleteRangeRequest(proposal.body);
    if (checks) {
      const denied = deleteDenied(this.auth.authority, proposal, request);
      if (denied !== undefined) return denied;
    }
    if (request.key.length === 0) return etcdErrors.emptyKey;
    const write = this.store.begin();
    const { deleted, prevKvs } = write.deleteRange(
      request.key,
      request.rangeEnd,
      request.prevKv && wantReply,
    );
    write.end();
    this.prefixCounts.deleted(request.key, request.rangeEnd, deleted);
    return wantReply ? writeDeleteRangeResponse(this.header(), deleted, prevKvs) : noReply;
  }

  private txn(proposal: Proposal, wantReply: boolean, checks: boolean): Outcome {
    const request = readTxnRequest(proposal.body);
    if (checks) {
      const denied = txnDenied(this.auth.authority, proposal, request, this.attached);
      if (denied !== undefined) return denied;
    }
    const { store } = this;
    const cost = txnCost(request);
    if (cost > 0 && this.alarms.has(AlarmType.noSpace)) return etcdErrors.noSpace;
    const fits = cost === 0 || this.quotaRoom > cost;
    const plan = planTxn(store, request);
    const { prefixCounts } = this;
    const { keyLimits } = proposal;
    const problem =
      planError(store, plan, store, this.leaseExists) ??
      (keyLimits.length === 0 ? undefined : prefixCounts.problem(store, keyLimits, planPuts(plan)));
    if (problem !== undefined) return problem;
    const write = store.begin();
    const result = new TxnRunner(write, prefixCounts.idle ? undefined : prefixCounts).run(plan);
    write.end();
    if (!fits) return etcdErrors.noSpace;
    return wantReply ? writeTxnResponse(this.header(), result.succeeded, result.responses) : noReply;
  }

  private compact(body: Uint8Array): Outcome {
    const { revision } = readCompactionRequest(body);
    const problem = this.store.compact(revision);
    if (problem === 'compacted') return etcdErrors.compacted;
    if (problem === 'future') return etcdErrors.futureRev;
    return writeCompactionResponse(this.header());
  }

  /** The proposer has chosen the id and raised the TTL to the minimum: that depends on its configuration. */
  private leaseGrant({ body, user, leaseLimit }: Proposal): Outcome {
    const { id, ttl } = readLeaseGrantRequest(body);
    if (this.alarms.has(AlarmType.noSpace)) return etcdErrors.noSpace;
    const fits = this.quotaRoom > leaseCostBytes;
    if (id === 0n) return etcdErrors.leaseNotFound;
    if (ttl > leaseTtlMaxSeconds) return etcdErrors.leaseTTLTooLarge;
    if (this.leaseExists(id)) return etcdErrors.leaseExist;
    const problem = this.leaseUsers.problem(user, leaseLimit);
    if (problem !== undefined) return problem;
    this.store.putRecord(Table.leases, idKey(id), leaseRecord(Math.max(ttl, 0), 0));
    this.options.lessor.granted(id, ttl, this.options.nowMs());
    this.leaseUsers.granted(this.store, id, user);
    this.options.onLeaseGranted(ttl);
    if (!fits) return etcdErrors.noSpace;
    return writeLeaseGrantResponse(this.header(), id, ttl);
  }

  private leaseRevoke(body: Uint8Array): Outcome {
    const { id } = readLeaseRevokeRequest(body);
    if (!this.leaseExists(id)) return etcdErrors.leaseNotFound;
    this.endLease(id, false);
    return writeLeaseRevokeResponse(this.header());
  }

  private checkpoint(checkpoint: LeaseCheckpoint): void {
    const { id, remainingSeconds } = checkpoint;
    const lease = this.options.lessor.get(id);
    if (lease === undefined || remainingSeconds < 0) return;
    this.store.putRecord(Table.leases, idKey(id), leaseRecord(lease.ttlSeconds, remainingSeconds));
    this.options.lessor.checkpointed(checkpoint);
  }

  /** Its keys go in sorted order and in one revision. A lease that is already gone is no mistake of an expiry. */
  private endLease(id: bigint, expired: boolean): void {
    if (!this.leaseExists(id)) return;
    const keys = this.store.leaseKeys(id);
    if (keys.length > 0) {
      const write = this.store.begin();
      for (const key of keys) write.deleteRange(key, noReply, false);
      write.end();
      for (const key of keys) this.prefixCounts.deleted(key, noReply, 1);
    }
    this.leaseUsers.ended(this.store, id);
    this.store.putRecord(Table.leases, idKey(id), null);
    this.options.lessor.revoked(id);
    this.options.onLeaseRevoked(expired);
  }

  private applyDowngrade({ action, version }: DowngradeRequestView): Outcome {
    let problem: RpcStatus | undefined;
    if (action === 'enable') problem = this.downgrade.enable(this.store, version);
    else if (action === 'cancel') this.downgrade.cancel(this.store);
    else problem = otherErrors.unknownMethod;
    return problem ?? writeDowngradeResponse(this.header());
  }

  private alarm(request: AlarmRequestView): Outcome {
    const { memberId, type } = request;
    const alarm = { memberId, type };
    let answered: readonly Alarm[] = [];
    if (request.action === 'get') answered = this.alarms.list(type);
    else if (request.action === 'activate' && type !== AlarmType.none) {
      this.alarms.activate(this.store, alarm);
      answered = [alarm];
    } else if (request.action === 'deactivate' && this.alarms.deactivate(this.store, alarm)) {
      answered = [alarm];
    }
    if (request.action !== 'get') this.options.onAlarms(this.alarms.list(AlarmType.none));
    return writeAlarmResponse(this.header(), answered);
  }

  private attributes(request: AttributesRequest): Outcome {
    this.membership.setAttributes(this.store, request);
    return noReply;
  }

  private memberUpdate(body: Uint8Array): Outcome {
    const { id, peerUrls } = readMemberUpdate(body);
    const change: MemberChange = {
      memberId: id,
      peerUrls,
      learner: false,
      promote: false,
      origin: 0n,
      id: 0n,
    };
    const problem = this.membership.changeError(change, 'update', this.options.maxLearners);
    if (problem !== undefined) return problem;
    this.membership.change(this.store, change, 'update');
    return writeMembersResponse(this.memberHeader(), undefined, this.membership.members);
  }

  /** Why a committed membership change has no effect; raft is then not told of it, on any member. */
  memberChangeError(change: MemberChange, kind: 'add' | 'remove'): RpcStatus | undefined {
    return this.membership.changeError(change, kind, this.options.maxLearners);
  }

  /** The membership as raft has it after a committed change. `change` is absent when joint consensus is left. */
  memberChanged(change: MemberChange | undefined, kind: 'add' | 'remove', confState: ConfState): Outcome {
    if (change !== undefined) this.membership.change(this.store, change, kind);
    this.membership.setConfState(this.store, confState);
    const added = kind === 'add' && change !== undefined && !change.promote;
    const member = added ? this.membership.get(change.memberId) : undefined;
    return writeMembersResponse(this.memberHeader(), member, this.membership.members);
  }

  private loadAlarms(): Alarms {
    const alarms = Alarms.load(this.store);
    this.options.onAlarms(alarms.list(AlarmType.none));
    return alarms;
  }

  private loadLeases(): void {
    this.prefixCounts.clear();
    this.leaseUsers.load(this.store);
    const { lessor, nowMs } = this.options;
    lessor.clear();
    this.store.scanRecords(Table.leases, (key, value) => {
      const left = value.length >= 16 ? readCounterBE(value, 8) : 0;
      lessor.granted(BigInt.asIntN(64, keyId(key)), readCounterBE(value, 0), nowMs(), left);
    });
  }
}

function loadMembership(store: Store): Membership {
  const membership = Membership.load(store);
  if (membership === undefined)
    throw new Error('the store holds no membership: it does not belong to a member');
  return membership;
}

function leaseRecord(ttlSeconds: number, remainingSeconds: number): Uint8Array {
  const record = new Uint8Array(remainingSeconds > 0 ? 16 : 8);
  writeCounterBE(record, 0, ttlSeconds);
  if (remainingSeconds > 0) writeCounterBE(record, 8, remainingSeconds);
  return record;
}
