import { create, toBinary } from '@bufbuild/protobuf';
import { compareBytes, utf8 } from '@quoin/base';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  type AttachedKeys,
  Authority,
  type AuthPermission,
  authorise,
  authRules,
  decodeAuthView,
  encodeAuthView,
  encodeRole,
  KeyIntervals,
  PermissionType,
  ruleOf,
  spliceRole,
} from '../src/auth.ts';
import {
  AlarmRequestSchema,
  AuthRoleGetRequestSchema,
  AuthUserGetRequestSchema,
  DeleteRangeRequestSchema,
  LeaseKeepAliveRequestSchema,
  LeaseRevokeRequestSchema,
  LeaseTimeToLiveRequestSchema,
  PutRequestSchema,
  RangeRequestSchema,
  TxnRequestSchema,
} from '../src/etcd.ts';
import { Method, services } from '../src/index.ts';

const none = new Uint8Array(0);
const open = Uint8Array.of(0);
const { read, write, readWrite } = PermissionType;

function grant(type: number, key: string, end: string | Uint8Array = none): AuthPermission {
  return { type, key: utf8(key), rangeEnd: typeof end === 'string' ? utf8(end) : end };
}

const keys = fc.uint8Array({ min: 0, max: 2, maxLength: 3 }).filter((key) => key.length > 0);
const ends = fc.oneof(fc.constant(none), fc.constant(open), keys);

function contains(key: Uint8Array, end: Uint8Array, point: Uint8Array): boolean {
  if (end.length === 0) return compareBytes(key, point) === 0;
  if (compareBytes(point, key) < 0) return false;
  return (end.length === 1 && end[0] === 0) || compareBytes(point, end) < 0;
}

test('a request is covered exactly when each of its keys is', () => {
  const grants = fc.array(fc.record({ type: fc.constant(read), key: keys, rangeEnd: ends }), {
    maxLength: 6,
  });
  fc.assert(
    fc.property(grants, keys, ends, (permissions, key, end) => {
      // Where coverage can stop: at the end of a grant, which is the first key that it does not cover.
      const points = permissions.flatMap(({ key: k, rangeEnd: e }) =>
        e.length === 0 ? [Uint8Array.of(...k, 0)] : [e],
      );
      points.push(key, new Uint8Array(9).fill(9));
      const asked = points.filter((point) => contains(key, end, point));
      const covered = asked.every((p) => permissions.some((g) => contains(g.key, g.rangeEnd, p)));
      // A range that is empty names no key; such a request is let through where it begins in what is covered.
      if (asked.length > 0) expect(new KeyIntervals(permissions).covers(key, end)).toBe(covered);
    }),
    { numRuns: 3_000 },
  );
});

test('adjacent and overlapping grants are one; a gap of a single key is none', () => {
  const joined = new KeyIntervals([grant(read, 'c', 'e'), grant(read, 'a', 'b'), grant(read, 'b', 'd')]);
  expect(joined.size).toBe(1);
  expect(joined.covers(utf8('a'), utf8('e'))).toBe(true);
  expect(joined.covers(utf8('a'), utf8('e\0'))).toBe(false);
  const gap = new KeyIntervals([grant(read, 'a', 'b'), grant(read, 'b\0', 'c')]);
  expect(gap.covers(utf8('a'), utf8('c'))).toBe(false);
  expect(gap.covers(utf8('b'), none)).toBe(false);
  const all = new KeyIntervals([grant(read, '\0', open)]);
  expect(all.covers(utf8('\0'), open)).toBe(true);
  expect(all.covers(utf8('zz'), open)).toBe(true);
});

test('every RPC and every method on the link has a rule, and what has none is refused', () => {
  for (const rpc of services.flatMap((service) => service.rpcs)) {
    expect(authRules.get(rpc.path), rpc.path).toBeDefined();
  }
  // Written by members themselves, never asked for.
  const logOnly: number[] = [
    Method.unspecified,
    Method.attributes,
    Method.leaseExpire,
    Method.hashCheck,
    Method.hashReport,
    Method.repair,
    Method.leaseCheckpoint,
  ];
  for (const [name, method] of Object.entries(Method)) {
    if (logOnly.includes(method)) expect(ruleOf(method), name).toBeUndefined();
    else expect(ruleOf(method), name).toBeDefined();
  }
  for (const method of [...logOnly, 9_999]) {
    expect(authorise(authority, { user: 'root', authRevision: 5 }, method, none, undefined)?.message).toBe(
      'etcdserver: permission denied',
    );
  }
});

const authority = new Authority({
  enabled: true,
  revision: 5,
  version: 9,
  users: [
    { name: 'root', roles: ['root'] },
    { name: 'reader', roles: ['r'] },
    { name: 'writer', roles: ['w'] },
    { name: 'both', roles: ['r', 'w'] },
    { name: 'rw', roles: ['rw'] },
    { name: 'stranger', roles: [] },
    { name: 'single', roles: ['one'] },
  ],
  roles: [
    { name: 'r', permissions: [grant(read, 'k', 'l')] },
    { name: 'w', permissions: [grant(write, 'k', 'l')] },
    { name: 'rw', permissions: [grant(readWrite, 'k', 'l')] },
    { name: 'one', permissions: [grant(readWrite, 'k')] },
  ],
});

/** Lease 1 holds a key within the grants, lease 2 one outside, lease 3 none. */
const attached: AttachedKeys = {
  of: (lease) => (lease === 1n ? [utf8('k1')] : lease === 2n ? [utf8('x')] : []),
  leases: () => [1n, 2n, 3n],
};

type Op = NonNullable<NonNullable<Parameters<typeof create<typeof TxnRequestSchema>>[1]>['success']>[number];

interface Case {
  readonly name: string;
  readonly op: Op;
  /** Who may, of reader, writer, both and rw. */
  readonly may: readonly string[];
}

const range = (key: string, end: string | Uint8Array = none): Op => ({
  request: {
    case: 'requestRange',
    value: { key: utf8(key), rangeEnd: typeof end === 'string' ? utf8(end) : end },
  },
});
const put = (key: string, more: { prevKv?: boolean; lease?: bigint } = {}): Op => ({
  request: { case: 'requestPut', value: { key: utf8(key), ...more } },
});
const del = (key: string, end: string | Uint8Array = none, prevKv = false): Op => ({
  request: {
    case: 'requestDeleteRange',
    value: { key: utf8(key), rangeEnd: typeof end === 'string' ? utf8(end) : end, prevKv },
  },
});

const cases: readonly Case[] = [
  { name: 'range of a key', op: range('k1'), may: ['reader', 'both', 'rw'] },
  { name: 'range within', op: range('k', 'l'), may: ['reader', 'both', 'rw'] },
  { name: 'range that ends one key too late', op: range('k', 'l\0'), may: [] },
  { name: 'range that begins too early', op: range('j', 'k2'), may: [] },
  { name: 'range from a key on', op: range('k', open), may: [] },
  { name: 'range outside', op: range('x'), may: [] },
  { name: 'put', op: put('k1'), may: ['writer', 'both', 'rw'] },
  { name: 'put outside', op: put('x'), may: [] },
  { name: 'put with prev_kv', op: put('k1', { prevKv: true }), may: ['both', 'rw'] },
  { name: 'put to a lease of own keys', op: put('k1', { lease: 1n }), may: ['writer', 'both', 'rw'] },
  { name: 'put to a lease with a foreign key', op: put('k1', { lease: 2n }), may: [] },
  { name: 'put to an empty lease', op: put('k1', { lease: 3n }), may: ['writer', 'both', 'rw'] },
  { name: 'delete', op: del('k1'), may: ['writer', 'both', 'rw'] },
  { name: 'delete of a range', op: del('k', 'l'), may: ['writer', 'both', 'rw'] },
  { name: 'delete from a key on', op: del('k', open), may: [] },
  { name: 'delete with prev_kv', op: del('k', 'l', true), may: ['both', 'rw'] },
  { name: 'delete outside', op: del('x'), may: [] },
];

const txnOf = (success: Op[], failure: Op[] = []): Op => ({
  request: { case: 'requestTxn', value: { success, failure } },
});

/** Where in a request an operation stands. */
const positions: Readonly<Record<string, (op: Op) => { success?: Op[]; failure?: Op[] }>> = {
  success: (op) => ({ success: [op] }),
  failure: (op) => ({ failure: [op] }),
  'last of many': (op) => ({ success: [put('k8'), put('k9'), op] }),
  'nested success': (op) => ({ success: [txnOf([op])] }),
  'nested failure': (op) => ({ failure: [txnOf([], [op])] }),
  'three levels down': (op) => ({ success: [txnOf([], [txnOf([txnOf([], [op])])])] }),
};

function verdict(user: string, method: number, body: Uint8Array, authRevision = 5): string {
  const caller = { user, authRevision };
  return authorise(authority, caller, method, body, attached)?.message.replace('etcdserver: ', '') ?? 'yes';
}

function alone(op: Op): [number, Uint8Array] {
  const { request } = op as { request: { case: string; value: object } };
  if (request.case === 'requestRange')
    return [Method.range, toBinary(RangeRequestSchema, create(RangeRequestSchema, request.value))];
  if (request.case === 'requestPut')
    return [Method.put, toBinary(PutRequestSchema, create(PutRequestSchema, request.value))];
  return [
    Method.deleteRange,
    toBinary(DeleteRangeRequestSchema, create(DeleteRangeRequestSchema, request.value)),
  ];
}

const users = ['reader', 'writer', 'both', 'rw'];

describe.each(cases)('$name', ({ op, may }) => {
  test('by itself', () => {
    const [method, body] = alone(op);
    for (const user of users) {
      expect(verdict(user, method, body), user).toBe(may.includes(user) ? 'yes' : 'permission denied');
    }
    expect(verdict('root', method, body)).toBe('yes');
    expect(verdict('stranger', method, body)).toBe('permission denied');
    expect(verdict('nobody knows', method, body)).toBe('permission denied');
    expect(verdict('', method, body)).toBe('user name is empty');
    expect(verdict('rw', method, body, 4)).toBe('revision of auth store is old');
  });

  // CVE-2026-33343: operations below the first level were not looked at.
  // CVE-2026-44283: prev_kv and lease of a put within a txn were not looked at.
  test.each(Object.keys(positions))('in a txn: %s', (position) => {
    const body = toBinary(TxnRequestSchema, create(TxnRequestSchema, positions[position]!(op)));
    for (const user of users) {
      // What surrounds it in `last of many` needs WRITE.
      const allowed = may.includes(user) && (position !== 'last of many' || user !== 'reader');
      expect(verdict(user, Method.txn, body), user).toBe(allowed ? 'yes' : 'permission denied');
    }
    expect(verdict('root', Method.txn, body)).toBe('yes');
    expect(verdict('', Method.txn, body)).toBe('user name is empty');
  });
});

test('a compare reads its key or range, on every level', () => {
  const compare = (key: string, end = '') => ({ key: utf8(key), rangeEnd: utf8(end) });
  const body = (...compares: ReturnType<typeof compare>[]) =>
    toBinary(TxnRequestSchema, create(TxnRequestSchema, { compare: compares, success: [put('k1')] }));
  expect(verdict('both', Method.txn, body(compare('k1'), compare('k', 'l')))).toBe('yes');
  expect(verdict('writer', Method.txn, body(compare('k1')))).toBe('permission denied');
  expect(verdict('both', Method.txn, body(compare('k1'), compare('k', 'm')))).toBe('permission denied');
  const inner = { request: { case: 'requestTxn' as const, value: { compare: [compare('x')] } } };
  const nested = toBinary(TxnRequestSchema, create(TxnRequestSchema, { failure: [inner] }));
  expect(verdict('both', Method.txn, nested)).toBe('permission denied');
});

test('a single-key grant covers no range that begins at the key (GHSA-xg4h-6gfc-h4m8)', () => {
  for (const end of ['l', 'k\0\0', open]) {
    const [method, body] = alone(range('k', end));
    expect(verdict('single', method, body)).toBe('permission denied');
  }
  expect(verdict('single', ...alone(range('k')))).toBe('yes');
  expect(verdict('single', ...alone(range('k', 'k\0')))).toBe('yes');
});

test('leases go by the keys that are attached (CVE-2026-33413)', () => {
  const revoke = (id: bigint) =>
    toBinary(LeaseRevokeRequestSchema, create(LeaseRevokeRequestSchema, { ID: id }));
  const keepAlive = (id: bigint) =>
    toBinary(LeaseKeepAliveRequestSchema, create(LeaseKeepAliveRequestSchema, { ID: id }));
  const ttl = (id: bigint, withKeys: boolean) =>
    toBinary(LeaseTimeToLiveRequestSchema, create(LeaseTimeToLiveRequestSchema, { ID: id, keys: withKeys }));
  for (const [method, body] of [
    [Method.leaseRevoke, revoke],
    [Method.leaseKeepAlive, keepAlive],
  ] as const) {
    expect(verdict('writer', method, body(1n))).toBe('yes');
    expect(verdict('reader', method, body(1n))).toBe('permission denied');
    expect(verdict('rw', method, body(2n))).toBe('permission denied');
    expect(verdict('stranger', method, body(3n))).toBe('yes');
    expect(verdict('root', method, body(2n))).toBe('yes');
    expect(verdict('', method, body(3n))).toBe('user name is empty');
  }
  expect(verdict('reader', Method.leaseTimeToLive, ttl(1n, true))).toBe('yes');
  expect(verdict('writer', Method.leaseTimeToLive, ttl(1n, true))).toBe('permission denied');
  expect(verdict('reader', Method.leaseTimeToLive, ttl(2n, true))).toBe('permission denied');
  expect(verdict('stranger', Method.leaseTimeToLive, ttl(2n, false))).toBe('yes');
  expect(verdict('', Method.leaseTimeToLive, ttl(2n, false))).toBe('user name is empty');
  expect(verdict('root', Method.leaseLeases, none)).toBe('yes');
  expect(verdict('rw', Method.leaseLeases, none)).toBe('permission denied');
  expect(verdict('', Method.leaseGrant, none)).toBe('user name is empty');
  expect(verdict('stranger', Method.leaseGrant, none)).toBe('yes');
});

test('what is for root, for anybody who is somebody, and for oneself', () => {
  const alarm = (action: number) =>
    toBinary(AlarmRequestSchema, create(AlarmRequestSchema, { action: action as 0 | 1 | 2 }));
  expect(verdict('stranger', Method.alarm, alarm(0))).toBe('yes');
  expect(verdict('', Method.alarm, alarm(0))).toBe('user name is empty');
  for (const action of [1, 2]) expect(verdict('rw', Method.alarm, alarm(action))).toBe('permission denied');
  const ofUser = (name: string) =>
    toBinary(AuthUserGetRequestSchema, create(AuthUserGetRequestSchema, { name }));
  const ofRole = (role: string) =>
    toBinary(AuthRoleGetRequestSchema, create(AuthRoleGetRequestSchema, { role }));
  expect(verdict('rw', Method.userGet, ofUser('rw'))).toBe('yes');
  expect(verdict('rw', Method.userGet, ofUser('reader'))).toBe('permission denied');
  expect(verdict('', Method.userGet, ofUser(''))).toBe('user name is empty');
  expect(verdict('both', Method.roleGet, ofRole('w'))).toBe('yes');
  expect(verdict('reader', Method.roleGet, ofRole('w'))).toBe('permission denied');
  const expected: Record<string, string[]> = {
    yes: ['memberList', 'status', 'leaseGrant', 'authStatus', 'authenticate'],
    'permission denied': [
      'compact',
      'memberAdd',
      'memberRemove',
      'memberUpdate',
      'memberPromote',
      'defragment',
      'hash',
      'hashKV',
      'snapshot',
      'moveLeader',
      'downgrade',
      'authEnable',
      'authDisable',
      'userAdd',
      'userList',
      'userDelete',
      'userChangePassword',
      'userGrantRole',
      'userRevokeRole',
      'roleAdd',
      'roleList',
      'roleDelete',
      'roleGrantPermission',
      'roleRevokePermission',
    ],
  };
  for (const [outcome, names] of Object.entries(expected)) {
    for (const name of names) {
      const method = Method[name as keyof typeof Method];
      expect(verdict('rw', method, none), name).toBe(outcome);
      expect(verdict('root', method, none), name).toBe('yes');
      expect(verdict('gone', method, none), name).toBe(outcome === 'yes' ? 'yes' : 'user name not found');
      const open = name === 'authStatus' || name === 'authenticate';
      expect(verdict('', method, none), name).toBe(open ? 'yes' : 'user name is empty');
    }
  }
});

test('while authentication is off nobody is asked', () => {
  const off = new Authority({ enabled: false, revision: 5, version: 9, users: [], roles: [] });
  for (const method of Object.values(Method)) {
    expect(authorise(off, undefined, method, none, undefined)).toBeUndefined();
  }
});

test('a role is changed in its encoded form, and what it was is kept where nothing changed', () => {
  const text = fc.uint8Array({ maxLength: 200 });
  const permission = fc.record({ type: fc.integer({ min: -2, max: 300 }), key: text, rangeEnd: text });
  fc.assert(
    fc.property(
      fc.array(permission, { maxLength: 10 }),
      fc.array(permission, { maxLength: 2 }),
      fc.nat(),
      fc.nat(),
      (permissions, inserted, place, some) => {
        const at = place % (permissions.length + 1);
        const count = some % (permissions.length - at + 1);
        const role = { name: 'r', permissions, encoded: encodeRole('r', permissions) };
        const changed = spliceRole(role, at, count, inserted);
        expect(changed.permissions).toEqual(permissions.toSpliced(at, count, ...inserted));
        expect(changed.encoded).toEqual(encodeRole('r', changed.permissions));
      },
    ),
  );
  const grants = (...keys: string[]) => keys.map((key) => ({ type: 2, key: utf8(key), rangeEnd: none }));
  const roles = (...b: string[]) => [
    { name: 'a', permissions: grants('x', 'y') },
    { name: 'b', permissions: grants(...b) },
  ];
  const users = [
    { name: 'alice', roles: ['a'] },
    { name: 'bob', roles: ['a', 'b'] },
  ];
  const view = (version: number, ...b: string[]) => ({
    enabled: true,
    revision: version,
    version,
    users,
    roles: roles(...b),
  });
  const first = decodeAuthView(encodeAuthView(view(1, 'k')));
  const second = decodeAuthView(encodeAuthView(view(2, 'k', 'l')), first);
  expect(second.roles[0]).toBe(first.roles[0]);
  expect(second.roles[1]).not.toBe(first.roles[1]);
  const before = new Authority(first);
  const alice = before.of('alice');
  expect(before.of('bob')!.read.covers(utf8('l'), none)).toBe(false);
  const after = new Authority(second, before);
  expect(after.of('alice')).toBe(alice);
  expect(after.of('bob')!.read.covers(utf8('l'), none)).toBe(true);
  expect(after.of('bob')!.read.covers(utf8('y'), none)).toBe(true);
  // A role that is gone, or another one of its name.
  const third = new Authority({ ...view(3), roles: [{ name: 'a', permissions: grants('z') }] }, after);
  expect(third.of('alice')!.read.covers(utf8('x'), none)).toBe(false);
  expect(third.of('bob')!.read.covers(utf8('k'), none)).toBe(false);
});
