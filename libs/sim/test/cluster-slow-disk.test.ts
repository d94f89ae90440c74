import { Method } from '@quoin/contracts';
import { etcd } from '@quoin/sim';
import { expect, test } from 'vitest';
import { expectEqualStates, started } from './cluster-support.ts';

const { putRequest } = etcd;

test('a leader whose disk stalls hands its lead over, and writes go on', () => {
  const { cluster, client } = started(91);
  const leader = cluster.waitForLeader();
  leader.disk.slowFactor = 50_000;
  // The followers commit it, but the one that is to answer cannot apply what its own disk may lose.
  client.call(Method.put, putRequest('a', '1'), undefined, 100);
  cluster.run(3_000);
  expect(cluster.waitForLeader()).not.toBe(leader);
  const startedMs = cluster.scheduler.nowMs;
  client.ok(Method.put, putRequest('a', '2'));
  expect(cluster.scheduler.nowMs - startedMs).toBeLessThan(500);
  leader.disk.slowFactor = 1;
  cluster.run(200_000);
  expectEqualStates(cluster);
});

test('a leader keeps its lead when the others are no faster, and while there is nothing to write', () => {
  const { cluster, client } = started(92);
  const leader = cluster.waitForLeader();
  for (const node of cluster.nodes) node.disk.slowFactor = 1_500;
  for (let i = 0; i < 5; i++) client.call(Method.put, putRequest('a', `${i}`), undefined, 20_000);
  expect(cluster.waitForLeader()).toBe(leader);
  for (const node of cluster.nodes) node.disk.slowFactor = 1;
  leader.disk.slowFactor = 50_000;
  cluster.run(30_000);
  expect(cluster.waitForLeader()).toBe(leader);
});
