/** Who belongs to the cluster: kept in the store's records, changed only at apply, the same on every member. */
import { assert, hexId } from '@quoin/base';
import type { AttributesRequest, MemberChange, MemberInfo } from '@quoin/contracts';
import { etcdErrors, type RpcStatus } from '@quoin/contracts';
import type { Store } from '@quoin/mvcc';
import type { ConfState } from '@quoin/raft';
import { decodeConfState, encodeConfState } from './peer-codec.ts';
import {
  clusterIdKey,
  confStateKey,
  decodeMemberRecord,
  encodeMemberRecord,
  idKey,
  keyId,
  Table,
} from './records.ts';

const emptyRecord = new Uint8Array(0);

export class Membership {
  readonly clusterId: bigint;
  confState: ConfState;
  private readonly byId = new Map<bigint, MemberInfo>();
  private readonly removedIds = new Set<bigint>();
  private readonly startedIds = new Set<bigint>();
  private sorted: readonly MemberInfo[] | undefined;

  private constructor(clusterId: bigint, confState: ConfState) {
    this.clusterId = clusterId;
    this.confState = confState;
    this.sorted = undefined;
  }

  /** Writes the membership that a new cluster begins with; committed by the caller. */
  static bootstrap(
    store: Store,
    clusterId: bigint,
    members: readonly MemberInfo[],
    confState: ConfState,
  ): void {
    store.putRecord(Table.cluster, clusterIdKey, idKey(clusterId));
    store.putRecord(Table.cluster, confStateKey, encodeConfState(confState));
    for (const member of members)
      store.putRecord(Table.members, idKey(member.id), encodeMemberRecord(member));
  }

  /** Removes every trace of a membership: a restored state belongs to a new cluster. */
  static clear(store: Store): void {
    for (const table of [Table.members, Table.removed, Table.started, Table.cluster]) {
      const keys: Uint8Array[] = [];
      store.scanRecords(table, (key) => void keys.push(key));
      for (const key of keys) store.putRecord(table, key, null);
    }
  }

  /** Reads it back; undefined when the store has none. */
  static load(store: Store): Membership | undefined {
    const id = store.getRecord(Table.cluster, clusterIdKey);
    const conf = store.getRecord(Table.cluster, confStateKey);
    if (id === undefined || conf === undefined) return undefined;
    const membership = new Membership(keyId(id), decodeConfState(conf));
    store.scanRecords(Table.members, (_key, value) => {
      const member = decodeMemberRecord(value);
      membership.byId.set(member.id, member);
    });
    store.scanRecords(Table.removed, (key) => void membership.removedIds.add(keyId(key)));
    store.scanRecords(Table.started, (key) => void membership.startedIds.add(keyId(key)));
    return membership;
  }

  /** By id. */
  get members(): readonly MemberInfo[] {
    this.sorted ??= [...this.byId.values()].sort((a, b) => (a.id < b.id ? -1 : 1));
    return this.sorted;
  }

  get(id: bigint): MemberInfo | undefined {
    return this.byId.get(id);
  }

  isRemoved(id: bigint): boolean {
    return this.removedIds.has(id);
  }

  /** True once that member has made itself known through the log. */
  isStarted(id: bigint): boolean {
    return this.startedIds.has(id);
  }

  /** At apply. An unknown member's attributes are late news of one that was removed. */
  setAttributes(store: Store, attributes: AttributesRequest): void {
    const member = this.byId.get(attributes.memberId);
    if (member === undefined) return;
    if (!this.startedIds.has(member.id)) {
      this.startedIds.add(member.id);
      store.putRecord(Table.started, idKey(member.id), emptyRecord);
    }
    this.put(store, { ...member, name: attributes.name, clientUrls: [...attributes.clientUrls] });
  }

  /** Why a change cannot be applied to the membership as it is now; the same answer on every member. */
  changeError(
    change: MemberChange,
    kind: 'add' | 'remove' | 'update',
    maxLearners: number,
  ): RpcStatus | undefined {
    const member = this.byId.get(change.memberId);
    if (this.removedIds.has(change.memberId)) return etcdErrors.memberNotFound;
    if (kind !== 'add' || change.promote) {
      if (member === undefined) return etcdErrors.memberNotFound;
      if (change.promote && !member.learner) return etcdErrors.memberNotLearner;
      if (kind !== 'update') return undefined;
    } else if (member !== undefined) return etcdErrors.memberExist;
    const others = this.members.filter((m) => m.id !== change.memberId);
    if (others.some((m) => m.peerUrls.some((url) => change.peerUrls.includes(url))))
      return etcdErrors.peerURLExist;
    if (kind === 'add' && change.learner && others.filter((m) => m.learner).length >= maxLearners) {
      return etcdErrors.tooManyLearners;
    }
    return undefined;
  }

  /** At apply, after `changeError` had nothing to say. */
  change(store: Store, change: MemberChange, kind: 'add' | 'remove' | 'update'): void {
    const member = this.byId.get(change.memberId);
    if (kind === 'remove') {
      this.byId.delete(change.memberId);
      this.removedIds.add(change.memberId);
      if (this.startedIds.delete(change.memberId))
        store.putRecord(Table.started, idKey(change.memberId), null);
      this.sorted = undefined;
      store.putRecord(Table.members, idKey(change.memberId), null);
      store.putRecord(Table.removed, idKey(change.memberId), emptyRecord);
    } else if (change.promote || kind === 'update') {
      assert(member !== undefined, () => `member ${hexId(change.memberId)} is unknown`);
      this.put(
        store,
        change.promote ? { ...member, learner: false } : { ...member, peerUrls: [...change.peerUrls] },
      );
    } else {
      const { memberId: id, peerUrls, learner } = change;
      this.put(store, { id, name: '', peerUrls: [...peerUrls], clientUrls: [], learner });
    }
  }

  setConfState(store: Store, confState: ConfState): void {
    this.confState = confState;
    store.putRecord(Table.cluster, confStateKey, encodeConfState(confState));
  }

  private put(store: Store, member: MemberInfo): void {
    this.byId.set(member.id, member);
    this.sorted = undefined;
    store.putRecord(Table.members, idKey(member.id), encodeMemberRecord(member));
  }
}
