import { Method } from '@quoin/contracts';
import { etcd, feedEvents, type SimClient } from '@quoin/sim';
import { expect, test } from 'vitest';
import { expectEqualStates, started } from './cluster-support.ts';

const { idRequest, leaseGrantRequest, putRequest, rangeRequest, readHeader, readKvs, varint } = etcd;

function ttlOf(client: SimClient, id: bigint): { ttl: bigint; granted: bigint; keys: string[] } {
  const body = client.ok(Method.leaseTimeToLive, idRequest(id, true));
  const keys = etcd.fields(body, 42).map((key) => String.fromCharCode(...key));
  return { ttl: varint(body, 24), granted: varint(body, 32), keys };
}

function keysOf(client: SimClient): string[] {
  return readKvs(client.ok(Method.range, rangeRequest('a', { end: 'z' }))).map((kv) => kv.key);
}

test('grant: chosen id, least TTL, errors', () => {
  const { cluster, client } = started(30);
  const grant = client.ok(Method.leaseGrant, leaseGrantRequest(1));
  const id = varint(grant, 16);
  expect(id > 0n).toBe(true);
  // ceil(1.5 × election timeout of 1 s)
  expect(varint(grant, 24)).toBe(2n);
  expect(readHeader(grant).revision).toBe(1);
  expect(client.call(Method.leaseGrant, leaseGrantRequest(10, id))).toMatchObject({
    code: 9,
    message: 'etcdserver: lease already exists',
  });
  expect(client.call(Method.leaseGrant, leaseGrantRequest(9_000_000_001))).toMatchObject({
    code: 11,
    message: 'etcdserver: too large lease TTL',
  });
  expect(client.call(Method.leaseRevoke, idRequest(99n))).toMatchObject({
    code: 5,
    message: 'etcdserver: requested lease not found',
  });
  expect(client.call(Method.put, putRequest('a', '1', { lease: 99n }))).toMatchObject({
    message: 'etcdserver: requested lease not found',
  });
  expectEqualStates(cluster);
});

test('expiry deletes all keys in one revision, on all members', () => {
  const { cluster, client } = started(31);
  client.ok(Method.leaseGrant, leaseGrantRequest(3, 7n));
  for (const key of ['c', 'b', 'd']) client.ok(Method.put, putRequest(key, '1', { lease: 7n }));
  client.ok(Method.put, putRequest('e', '1', { lease: 7n }));
  client.ok(Method.put, putRequest('e', '2'));
  expect(ttlOf(client, 7n)).toEqual({ ttl: 2n, granted: 3n, keys: ['b', 'c', 'd'] });
  const link = client.linkTo(cluster.nodes[1]!);
  const events: string[] = [];
  link.onFeed = (batch) => {
    for (const e of feedEvents(batch)) events.push(`${e.revision} ${e.type} ${e.key}`);
  };
  // A follower may be a little behind: "from now on" would be its now.
  link.subscribe(1, 7);
  cluster.run(2_000);
  expect(keysOf(client)).toEqual(['b', 'c', 'd', 'e']);
  cluster.run(2_500);
  expect(keysOf(client)).toEqual(['e']);
  expect(events).toEqual(['7 delete b', '7 delete c', '7 delete d']);
  expect(ttlOf(client, 7n)).toEqual({ ttl: -1n, granted: 0n, keys: [] });
  // Keep-alive of a lease that is gone: no error, TTL 0.
  expect(varint(client.ok(Method.leaseKeepAlive, idRequest(7n)), 24)).toBe(0n);
  expectEqualStates(cluster);
});

test('keep-alive renews', () => {
  const { cluster, client } = started(32);
  client.ok(Method.leaseGrant, leaseGrantRequest(3, 7n));
  client.ok(Method.put, putRequest('a', '1', { lease: 7n }));
  for (let i = 0; i < 5; i++) {
    cluster.run(2_000);
    expect(varint(client.ok(Method.leaseKeepAlive, idRequest(7n)), 24)).toBe(3n);
  }
  expect(keysOf(client)).toEqual(['a']);
  cluster.run(5_000);
  expect(keysOf(client)).toEqual([]);
});

test('a new leader gives every lease its full TTL again, and ends it', () => {
  const { cluster, client } = started(33);
  client.ok(Method.leaseGrant, leaseGrantRequest(5, 7n));
  client.ok(Method.put, putRequest('a', '1', { lease: 7n }));
  cluster.run(4_000);
  const leader = cluster.waitForLeader();
  cluster.crash(leader);
  cluster.waitForLeader();
  cluster.run(300);
  expect(Number(ttlOf(client, 7n).ttl)).toBeGreaterThanOrEqual(4);
  cluster.run(3_000);
  expect(keysOf(client)).toEqual(['a']);
  cluster.run(5_000);
  expect(keysOf(client)).toEqual([]);
  cluster.start();
  cluster.run(3_000);
  expectEqualStates(cluster);
});

test('leases survive a restart of everything', () => {
  const { cluster, client } = started(34, 3, { flushIntervalMs: 200 });
  client.ok(Method.leaseGrant, leaseGrantRequest(60, 7n));
  client.ok(Method.leaseGrant, leaseGrantRequest(60, 8n));
  client.ok(Method.leaseRevoke, idRequest(8n));
  cluster.run(1_000);
  for (const node of cluster.nodes) cluster.crash(node);
  cluster.start();
  cluster.waitForLeader();
  const ids = etcd
    .fields(client.ok(Method.leaseLeases, new Uint8Array(0)), 18)
    .map((lease) => varint(lease, 8));
  expect(ids).toEqual([7n]);
  expect(ttlOf(client, 7n).granted).toBe(60n);
});

test('many leases that end together are revoked at the bounded rate', () => {
  const { cluster, client } = started(35, 1, { leaseRevokesPerSecond: 100 });
  for (let i = 1; i <= 300; i++) client.request(Method.leaseGrant, leaseGrantRequest(2, BigInt(i)), () => {});
  cluster.run(500);
  const count = (): number => etcd.fields(client.ok(Method.leaseLeases, new Uint8Array(0)), 18).length;
  expect(count()).toBe(300);
  cluster.run(2_200);
  const after = count();
  expect(after).toBeLessThan(300);
  expect(after).toBeGreaterThan(100);
  cluster.run(3_000);
  expect(count()).toBe(0);
});

test('with checkpoints a new leader goes on with what was left, and a renewal undoes that', () => {
  const { cluster, client } = started(38, 3, { leaseCheckpointIntervalMs: 10_000 });
  for (const id of [7n, 8n]) client.ok(Method.leaseGrant, leaseGrantRequest(100, id));
  client.ok(Method.leaseGrant, leaseGrantRequest(9, 9n));
  cluster.run(45_000);
  // Renewed right before the change: it has its whole TTL, whatever was written down.
  expect(varint(client.ok(Method.leaseKeepAlive, idRequest(8n)), 24)).toBe(100n);
  cluster.crash(cluster.leader()!);
  cluster.waitForLeader();
  cluster.run(500);
  const left = Number(ttlOf(client, 7n).ttl);
  expect(left).toBeGreaterThan(45);
  expect(left).toBeLessThan(75);
  expect(Number(ttlOf(client, 8n).ttl)).toBeGreaterThan(95);
  expect(ttlOf(client, 9n).ttl).toBe(-1n);
  cluster.start();
  expectEqualStates(cluster);
  // All restart: what was written down is still there.
  for (const node of cluster.nodes) cluster.crash(node);
  cluster.start();
  cluster.waitForLeader();
  cluster.run(500);
  expect(Number(ttlOf(client, 7n).ttl)).toBeLessThan(75);
  cluster.run(80_000);
  expect(ttlOf(client, 7n).ttl).toBe(-1n);
  expectEqualStates(cluster);
});

test('a lease with a negative id runs out, too, also after a restart', () => {
  const { cluster, client } = started(39);
  for (const id of [-5n, -6n]) client.ok(Method.leaseGrant, leaseGrantRequest(id === -5n ? 3 : 40, id));
  client.ok(Method.put, putRequest('b', '1', { lease: -5n }));
  client.ok(Method.put, putRequest('c', '1', { lease: -6n }));
  cluster.run(6_000);
  expect(keysOf(client)).toEqual(['c']);
  for (const node of cluster.nodes) cluster.crash(node);
  cluster.start();
  cluster.waitForLeader();
  expect(Number(ttlOf(client, -6n).ttl)).toBeGreaterThan(20);
  client.ok(Method.leaseRevoke, idRequest(-6n));
  expect(keysOf(client)).toEqual([]);
  expectEqualStates(cluster);
});

// LEASES=100000 for the full storm.
test('many leases: none ends early, none later than 2 s and what the revoke rate takes; a new leader loses none', () => {
  const { cluster, client } = started(40, 3, { leaseRevokesPerSecond: 5_000 });
  const count = Number(process.env['LEASES'] ?? 20_000);
  let granted = 0;
  const ttlSeconds = 60;
  for (let id = 1n; id <= BigInt(count); id++) {
    client.request(Method.leaseGrant, leaseGrantRequest(ttlSeconds, id), (answer) => {
      if (answer.kind === 'ok') granted++;
    });
    if (id % 5_000n === 0n) cluster.run(20);
  }
  expect(cluster.runUntil(() => granted === count, 30_000)).toBe(true);
  const leases = (): number =>
    etcd.fields(client.ok(Method.leaseLeases, new Uint8Array(0), cluster.leader()), 18).length;
  cluster.crash(cluster.leader()!);
  cluster.waitForLeader();
  const ledMs = cluster.scheduler.nowMs;
  cluster.run(1_000);
  expect(leases()).toBe(count);
  // The full TTL and an election timeout more from the new leader on.
  cluster.run(ledMs + ttlSeconds * 1_000 - cluster.scheduler.nowMs);
  expect(leases()).toBe(count);
  cluster.run(1_000 + 2_000 + (count / 5_000) * 1_000);
  expect(leases()).toBe(0);
  cluster.start();
  expectEqualStates(cluster);
});
