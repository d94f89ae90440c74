/**
 * The buckets of etcd's database other than that of the keys, as of one moment.
 *
 *   alarm            AlarmMember → (empty)                     meta   consistent_index, term        8 bytes BE
 *   auth             authEnabled, authRevision                        confState                     JSON
 *   authUsers/Roles  name → authpb.User, authpb.Role                  scheduled/finishedCompactRev  revision key
 *   cluster          clusterVersion, downgrade (JSON)                 storageVersion
 *   lease            id, 8 bytes BE → leasepb.Lease
 *   members          id in hex → JSON, members_removed → "removed"
 */
import { create, toBinary } from '@bufbuild/protobuf';
import { compareBytes, readCounterBE, utf8, writeCounterBE } from '@quoin/base';
import { type MemberInfo, WireWriter } from '@quoin/contracts';
import { AlarmMemberSchema, type AlarmType } from '@quoin/contracts/etcd';
import { RevisionKey, type Store } from '@quoin/mvcc';
import { AlarmType as Type } from './alarms.ts';
import type { StateMachine } from './apply.ts';
import { clusterVersion } from './config.ts';
import { keyId, Table } from './records.ts';

export interface EtcdBucket {
  readonly name: string;
  /** In key order. */
  readonly entries: readonly (readonly [Uint8Array, Uint8Array])[];
}

type Entry = [Uint8Array, Uint8Array];

const none: Uint8Array = new Uint8Array(0);
const writer = new WireWriter(256);

export function etcdBuckets(machine: StateMachine): EtcdBucket[] {
  const { store, membership, auth, downgrade } = machine;
  const bucket = (name: string, entries: Entry[]): EtcdBucket => ({
    name,
    entries: entries.sort(([a], [b]) => compareBytes(a, b)),
  });
  const removed: Entry[] = [];
  store.scanRecords(
    Table.removed,
    (key) => void removed.push([utf8(keyId(key).toString(16)), utf8('removed')]),
  );
  return [
    bucket('alarm', alarmEntries(machine)),
    bucket('auth', [
      [utf8('authEnabled'), Uint8Array.of(auth.enabled ? 1 : 0)],
      [utf8('authRevision'), counter(auth.revision)],
    ]),
    bucket('authRoles', recordsOf(store, Table.roles)),
    bucket('authUsers', recordsOf(store, Table.users)),
    bucket('cluster', [
      [utf8('clusterVersion'), utf8(downgrade.target === '' ? clusterVersion : downgrade.target)],
      [
        utf8('downgrade'),
        utf8(`{"target-version":"${downgrade.target}","enabled":${downgrade.target !== ''}}`),
      ],
    ]),
    bucket('lease', leaseEntries(store)),
    bucket(
      'members',
      membership.members.map((m) => [utf8(m.id.toString(16)), utf8(memberJson(m))]),
    ),
    bucket('members_removed', removed),
    bucket('meta', metaEntries(machine)),
  ];
}

function counter(value: number): Uint8Array {
  const out = new Uint8Array(8);
  writeCounterBE(out, 0, value);
  return out;
}

/** Users and roles are kept as etcd's messages already. */
function recordsOf(store: Store, table: number): Entry[] {
  const entries: Entry[] = [];
  store.scanRecords(table, (key, value) => void entries.push([key, value]));
  return entries;
}

function alarmEntries({ alarms }: StateMachine): Entry[] {
  return alarms.list(Type.none).map(({ memberId, type }) => {
    const alarm = create(AlarmMemberSchema, { memberID: memberId, alarm: type as AlarmType });
    return [toBinary(AlarmMemberSchema, alarm), none];
  });
}

function leaseEntries(store: Store): Entry[] {
  const entries: Entry[] = [];
  store.scanRecords(Table.leases, (key, value) => {
    writer.begin(32);
    writer.id(8, BigInt.asIntN(64, keyId(key)));
    writer.int(16, readCounterBE(value, 0));
    if (value.length >= 16) writer.int(24, readCounterBE(value, 8));
    entries.push([key, writer.finish()]);
  });
  return entries;
}

function memberJson({ id, name, peerUrls, clientUrls, learner }: MemberInfo): string {
  const fields = [`"id":${id}`, `"peerURLs":${JSON.stringify(peerUrls)}`];
  if (learner) fields.push('"isLearner":true');
  if (name !== '') fields.push(`"name":${JSON.stringify(name)}`);
  if (clientUrls.length > 0) fields.push(`"clientURLs":${JSON.stringify(clientUrls)}`);
  return `{${fields.join()}}`;
}

function metaEntries({ store, membership, downgrade }: StateMachine): Entry[] {
  const { voters, learners } = membership.confState;
  const lists = [`"voters":[${voters.join()}]`];
  if (learners.length > 0) lists.push(`"learners":[${learners.join()}]`);
  const entries: Entry[] = [
    [utf8('confState'), utf8(`{${lists.join()},"auto_leave":false}`)],
    [utf8('consistent_index'), counter(store.appliedIndex)],
    [utf8('storageVersion'), utf8(downgrade.storageVersion)],
    [utf8('term'), counter(store.appliedTerm)],
  ];
  if (store.compactRevision > 0) {
    const revision = new RevisionKey().put(store.compactRevision, 0);
    entries.push(
      [utf8('scheduledCompactRev'), revision.slice()],
      [utf8('finishedCompactRev'), revision.slice()],
    );
  }
  return entries;
}
