import { create, toBinary } from '@bufbuild/protobuf';
import { utf8 } from '@quoin/base';
import { Method } from '@quoin/contracts';
import { PutRequestSchema, RangeRequestSchema } from '@quoin/contracts/etcd';
import { Gateway, gatewayDefaults } from '@quoin/gateway';
import { expect, test } from 'vitest';
import { FakeCluster, type FakeMember } from './fake-cluster.ts';
import { unary, World } from './world.ts';

type Options = Partial<ConstructorParameters<typeof Gateway>[0]>;

function setup(options: Options = {}, burden: () => string | undefined = () => undefined) {
  const world = new World();
  const cluster = new FakeCluster(world, 3);
  const gateway = new Gateway(
    { name: 'g1', memberUrls: ['http://m1:2380'], ...options },
    { ...world.ports(cluster.dial), burden },
  );
  return { world, cluster, gateway, members: cluster.members };
}

const urls = (gateway: Gateway, open = true) =>
  gateway
    .status()
    .links.filter((link) => link.open === open)
    .map((link) => link.url)
    .sort();

const put = toBinary(PutRequestSchema, create(PutRequestSchema, { key: utf8('a') }));
const range = toBinary(RangeRequestSchema, create(RangeRequestSchema, { key: utf8('a') }));

test('a member with several addresses is reached at any of them', () => {
  const { world, cluster, gateway, members } = setup();
  const third = members[2]!;
  third.advertised = 'http://nowhere:1';
  third.alsoAt = ['http://nowhere:2', third.url];
  gateway.start();
  world.run(1_000);
  expect(urls(gateway)).toHaveLength(3);
  cluster.elect(third);
  world.run(50);
  const call = unary(world, gateway, '/etcdserverpb.KV/Put', put);
  world.run(50);
  expect(call.status).toBeNull();
  expect(third.count(Method.put)).toBe(1);
  // Gone and back: it is found again, and there is one link to it.
  third.down();
  world.run(5_000);
  third.up = true;
  world.run(5_000);
  expect(gateway.status().links.filter((link) => link.memberId === 3n && link.open)).toHaveLength(1);
});

test('members that are found later are dialled, and those found before are let go', () => {
  const { world, gateway } = setup({ memberUrls: [], discovers: true });
  gateway.start();
  world.run(100);
  expect(gateway.ready()).toBe(false);
  gateway.setMemberUrls(['http://gone:1', 'http://gone:2']);
  world.run(2_000);
  expect(urls(gateway, false)).toEqual(['http://gone:1', 'http://gone:2']);
  gateway.setMemberUrls(['http://m2:2380']);
  world.run(2_000);
  expect(gateway.ready()).toBe(true);
  expect(urls(gateway)).toEqual(['http://m1:2380', 'http://m2:2380', 'http://m3:2380']);
  expect(urls(gateway, false)).toEqual([]);
});

test('a member that has left may answer what it was asked before, up to a limit', () => {
  const { world, cluster, gateway, members } = setup();
  const [leaver, next] = members as [FakeMember, FakeMember];
  gateway.start();
  world.run(1_000);
  leaver.override = () => undefined;
  const call = unary(world, gateway, '/etcdserverpb.KV/Put', put);
  world.run(1);
  cluster.members.splice(0, 1);
  cluster.elect(next);
  // Its own state tells it no later than after half a second.
  world.run(550);
  expect(call.done).toBe(false);
  expect(urls(gateway)).toContain('http://m1:2380');
  world.run(gatewayDefaults.leaveLingerMs + 100);
  expect(call.status?.message).toBe('etcdserver: request timed out, possibly due to connection lost');
  expect(urls(gateway)).toEqual(['http://m2:2380', 'http://m3:2380']);
});

test('no members and no discovery is a mistake', () => {
  expect(() => setup({ memberUrls: [] })).toThrow('gateway needs at least one member URL');
});

test('reads go to a member of the own zone while there is a healthy one, and back to it', () => {
  const { world, gateway, members } = setup({ zone: 'b' });
  for (const [i, zone] of ['a', 'b', 'a'].entries()) members[i]!.zone = zone;
  gateway.start();
  world.run(1_000);
  expect(gateway.status().home).toBe(2n);
  members[1]!.down();
  world.run(100);
  const call = unary(world, gateway, '/etcdserverpb.KV/Range', range);
  world.run(50);
  expect(call.status).toBeNull();
  expect([1n, 3n]).toContain(gateway.status().home);
  members[1]!.up = true;
  world.run(5_000);
  expect(gateway.status().home).toBe(2n);
});

test('a zone that no member has changes nothing, and the first choice stays', () => {
  const { world, gateway, members } = setup({ zone: 'nowhere' });
  for (const member of members) member.zone = 'a';
  gateway.start();
  world.run(1_000);
  const first = gateway.status().home;
  expect(first).not.toBe(0n);
  for (let i = 0; i < 10; i++) world.run(1_000);
  expect(gateway.status().home).toBe(first);
});

function readyz(world: World, gateway: Gateway): [number, string] | undefined {
  let answer: [number, string] | undefined;
  gateway.http('/readyz', new Map(), (code, _, body) => {
    answer = [code, body];
  });
  world.run(100);
  return answer;
}

test('/readyz says no while the process is burdened, while too much waits, and once it drains', () => {
  let reason: string | undefined;
  const limit = 100;
  const { world, cluster, gateway } = setup({ maxWaitingRequests: limit }, () => reason);
  gateway.start();
  world.run(100);
  expect(readyz(world, gateway)).toEqual([200, 'ok\n']);
  reason = 'timers are late';
  const lines =
    '[+]data_corruption ok\n[+]serializable_read ok\n[+]linearizable_read ok\n[+]non_learner ok\n[+]apply_lag ok\n';
  expect(readyz(world, gateway)).toEqual([503, `${lines}[-]load failed: timers are late\n\n`]);
  reason = undefined;
  expect(readyz(world, gateway)?.[0]).toBe(200);
  // No leader: writes wait. Reads go on, so everything but the room for what waits is well.
  cluster.leader = undefined;
  for (const member of cluster.members) member.tell();
  world.run(100);
  for (let i = 0; i < limit * 0.8; i++) unary(world, gateway, '/etcdserverpb.KV/Put', put);
  expect(readyz(world, gateway)?.[1]).toContain('[-]load failed: 8');
  cluster.elect(cluster.members[0]);
  world.run(1_000);
  expect(readyz(world, gateway)?.[0]).toBe(200);
  gateway.drain();
  expect(readyz(world, gateway)?.[1]).toContain('[-]load failed: the gateway stops');
  const served = unary(world, gateway, '/etcdserverpb.KV/Put', put);
  world.run(100);
  expect(served.status).toBeNull();
  expect(gatewayDefaults.maxWaitingRequests).toBeGreaterThan(limit);
});
