/** Limits for users and prefixes: at the gateway by time, in the state by count. */
import { utf8 } from '@quoin/base';
import type { FairUse, UseLimits } from '@quoin/contracts';
import { FairApi } from '@quoin/gateway';
import { SimClock, SimStream, SimTimers } from '@quoin/sim';
import { expect, test } from 'vitest';
import { AuthWorld, bytesOf, responses, watchRequest } from './auth-world.ts';

function limits(users: Record<string, UseLimits>, prefixes: Record<string, UseLimits> = {}): FairUse {
  return {
    users: new Map(Object.entries(users)),
    prefixes: Object.entries(prefixes).map(([prefix, each]) => ({ prefix: utf8(prefix), limits: each })),
  };
}

function layered(world: AuthWorld, fairUse: FairUse) {
  const [gateway] = world.gateways;
  const clock = new SimClock(world.cluster.scheduler);
  const timers = new SimTimers(gateway!.host, clock);
  const api = new FairApi(gateway!.gateway, { clock, timers, fairUse });
  const context = () => {
    const { token } = gateway!;
    return {
      deadlineMs: undefined,
      metadata: (key: string) => (key === 'token' && token !== '' ? token : undefined),
      trace: undefined,
      peer: '10.0.0.1:7',
    };
  };
  const call = (rpc: string, init: object): string => {
    let answer: string | undefined;
    api.unary(`/etcdserverpb.${rpc}`, bytesOf(rpc, init), context(), (status) => {
      answer = status === null ? '' : `${status.code} ${status.message}`;
    });
    world.cluster.runUntil(() => answer !== undefined, 10_000);
    return answer!;
  };
  const open = (path: string) => {
    const stream = new SimStream();
    api.stream(`/etcdserverpb.${path}`, context(), stream.server);
    return stream;
  };
  return { call, open };
}

test('requests per second of a user and of a prefix; what keeps the cluster alive is never held back', () => {
  const world = new AuthWorld(740);
  world.enable();
  const { call, open } = layered(
    world,
    limits({ '*': { requestsPerSecond: 5 } }, { 'slow/': { requestsPerSecond: 2 } }),
  );
  const get = () => call('KV/Range', { key: utf8('a/1') });
  // Until the token is known its user is nobody, for whom there is no row.
  get();
  world.cluster.run(1_000);
  const refused = '8 quoin: limit reached: requests per second of user root';
  const outcomes = Array.from({ length: 12 }, get);
  expect(outcomes.filter((each) => each === refused).length).toBeGreaterThanOrEqual(6);
  expect(outcomes.slice(0, 5)).toEqual(['', '', '', '', '']);
  expect(call('Cluster/MemberList', {})).toBe('');
  expect(call('Maintenance/Status', {})).toBe('');
  const renewals = open('Lease/LeaseKeepAlive');
  for (let i = 0; i < 20; i++) renewals.server.onMessage(bytesOf('Lease/LeaseRevoke', { ID: 1n }));
  world.cluster.run(300);
  expect(renewals.received.length).toBe(20);
  world.cluster.run(2_000);
  expect(get()).toBe('');
  const slow = '8 quoin: limit reached: requests per second of prefix slow/';
  const inTxn = {
    failure: [{ request: { case: 'requestRange', value: { key: utf8('a'), rangeEnd: utf8('z') } } }],
  };
  expect([
    call('KV/Put', { key: utf8('slow/1') }),
    call('KV/Txn', inTxn),
    call('KV/Range', { key: utf8('slow/2') }),
    call('KV/Range', { key: utf8('other') }),
  ]).toEqual(['', '', slow, '']);
}, 20_000);

test('bytes per second are paid for when they are known', () => {
  const world = new AuthWorld(741);
  const { call } = layered(world, limits({ '': { bytesPerSecond: 10_000 } }));
  const put = () => call('KV/Put', { key: utf8('a'), value: new Uint8Array(30_000) });
  expect(put()).toBe('');
  const refused = '8 quoin: limit reached: bytes per second of those without a user';
  expect(put()).toBe(refused);
  world.cluster.run(1_500);
  expect(put()).toBe(refused);
  world.cluster.run(1_500);
  expect(call('KV/Range', { key: utf8('a') })).toBe('');
  expect(call('KV/Range', { key: utf8('a') })).toBe(refused);
}, 20_000);

test('watches: refused one by one, free again when cancelled, refused by the server, or with the stream', () => {
  const world = new AuthWorld(742);
  const { open } = layered(world, limits({}, { 'a/': { watches: 2 } }));
  const create = (stream: SimStream, key: string) => {
    stream.server.onMessage(watchRequest({ key: utf8(key) }));
    world.cluster.run(300);
    const { canceled, cancelReason, watchId } = responses(stream).at(-1)!;
    return canceled ? cancelReason : Number(watchId);
  };
  const first = open('Watch/Watch');
  const second = open('Watch/Watch');
  const refused = 'rpc error: code = ResourceExhausted desc = quoin: limit reached: watches of prefix a/';
  expect(create(first, 'a/1')).toBe(0);
  expect(create(second, 'a/2')).toBe(0);
  expect(create(second, 'a/3')).toBe(refused);
  expect(create(first, 'b')).toBe(1);
  second.server.onMessage(Uint8Array.of(0x12, 0x00));
  world.cluster.run(300);
  expect(create(first, 'a/3')).toBe(2);
  expect(create(first, 'a/4')).toBe(refused);
  // One that the server itself refuses is not counted.
  first.server.onCancel();
  expect(create(second, 'a/5')).toBe(1);
  second.server.onMessage(watchRequest({ key: utf8('a/9'), rangeEnd: utf8('a/8') }));
  world.cluster.run(300);
  expect(create(second, 'a/6')).toBe(2);
  expect(create(second, 'a/7')).toBe(refused);
}, 20_000);

test('leases of a user are counted by all members, whatever the next leader is configured with', () => {
  const fairUse = limits({ '*': { leases: 3 }, root: {} });
  const world = new AuthWorld(743, { limits: { fairUse } });
  world.enable();
  const grant = (ID: bigint, TTL = 600n) => world.call('Lease/LeaseGrant', { ID, TTL }).problem;
  const refused = 'quoin: limit reached: leases of user alice';
  world.as('alice', () => {
    expect([1n, 2n, 3n].map((id) => grant(id))).toEqual(['', '', '']);
    expect(grant(4n)).toBe(refused);
    expect(world.call('Lease/LeaseRevoke', { ID: 2n }).problem).toBe('');
    expect(grant(4n, 5n)).toBe('');
    expect(grant(5n)).toBe(refused);
  });
  world.as('bob', () => expect(grant(10n)).toBe(''));
  for (let id = 20n; id < 26n; id++) expect(grant(id)).toBe('');
  const { cluster } = world;
  const leader = cluster.waitForLeader();
  cluster.crash(leader);
  cluster.run(3_000);
  world.as('alice', () => expect(grant(5n)).toBe(refused));
  cluster.startNode(leader);
  cluster.run(3_000);
  // The short one has run out; a restart has not forgotten the others.
  cluster.run(6_000);
  world.as('alice', () => {
    expect(grant(6n)).toBe('');
    expect(grant(7n)).toBe(refused);
  });
  cluster.settle();
  expect(new Set(cluster.stateHashes().map(({ hash }) => hash)).size).toBe(1);
}, 30_000);

test('keys below a prefix are counted exactly, by whatever way they come and go', () => {
  const fairUse = limits({}, { 'a/': { keys: 5 }, 'b/': { watches: 1 } });
  const world = new AuthWorld(744, { limits: { fairUse } });
  const refused = 'quoin: limit reached: keys of prefix a/';
  const put = (key: string, more: object = {}) => world.call('KV/Put', { key: utf8(key), ...more }).problem;
  const del = (key: string, end = '') => world.ok('KV/DeleteRange', { key: utf8(key), rangeEnd: utf8(end) });
  const putOp = (key: string) => ({ request: { case: 'requestPut', value: { key: utf8(key) } } });
  const delOp = (key: string, end = '') => ({
    request: { case: 'requestDeleteRange', value: { key: utf8(key), rangeEnd: utf8(end) } },
  });
  const txn = (...success: object[]) => world.call('KV/Txn', { success }).problem;
  world.ok('Lease/LeaseGrant', { ID: 1n, TTL: 600n });
  expect([1, 2, 3].map((n) => put(`a/${n}`, { lease: 1n }))).toEqual(['', '', '']);
  expect(txn(putOp('a/4'), putOp('a/5'), putOp('a/6'))).toBe(refused);
  expect(txn(putOp('a/3'), putOp('a/4'), putOp('a/5'), putOp('b/1'))).toBe('');
  expect(put('a/6')).toBe(refused);
  expect(put('a/5')).toBe('');
  expect(put('b/2')).toBe('');
  del('a/5');
  expect(put('a/6')).toBe('');
  expect(put('a/7')).toBe(refused);
  // Partly below the prefix.
  del('a/6', 'b0');
  expect(put('a/7')).toBe('');
  expect(put('a/8')).toBe(refused);
  world.ok('Lease/LeaseRevoke', { ID: 1n });
  // a/3 had been taken from the lease: it is still there, and a/4 and a/7.
  expect(world.ok('KV/Range', { key: utf8('a/'), rangeEnd: utf8('a0') }).count).toBe(3n);
  expect([put('a/8'), put('a/9'), put('a/x')]).toEqual(['', '', refused]);
  expect(txn(delOp('a/', 'a0'))).toBe('');
  expect(txn(...[1, 2, 3, 4, 5].map((n) => putOp(`a/${n}`)))).toBe('');
  expect(put('a/6')).toBe(refused);
  const { cluster } = world;
  for (const node of [...cluster.nodes]) {
    cluster.crash(node);
    cluster.run(3_000);
    expect(put('a/6')).toBe(refused);
    del('a/5');
    expect(put('a/5')).toBe('');
    cluster.startNode(node);
    cluster.run(3_000);
  }
  cluster.settle();
  expect(new Set(cluster.stateHashes().map(({ hash }) => hash)).size).toBe(1);
}, 30_000);
