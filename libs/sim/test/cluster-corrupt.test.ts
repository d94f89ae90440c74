/** One member's engine lies: the others find out, name it, and it takes their state. */
import { utf8 } from '@quoin/base';
import { Method } from '@quoin/contracts';
import { etcd, type SimCluster, type SimNode } from '@quoin/sim';
import { expect, test } from 'vitest';
import { expectEqualStates, started } from './cluster-support.ts';

const { putRequest, rangeRequest, readKvs } = etcd;

const limits = { corruptCheckIntervalMs: 5_000 };

function corrupt(cluster: SimCluster): bigint[] {
  const { alarms } = cluster.waitForLeader().member!.status();
  return alarms.filter((alarm) => alarm.type === 2).map((alarm) => alarm.memberId);
}

function damage(node: SimNode): void {
  expect(node.engines.damage(utf8('good'), utf8('evil'))).toBeGreaterThan(0);
}

test.each(['a follower', 'the leader'])(
  '%s whose data changed by itself is named, repaired, and cleared',
  (who) => {
    const { cluster, client } = started(who === 'the leader' ? 91 : 90, 3, limits);
    for (let i = 0; i < 30; i++) client.ok(Method.put, putRequest(`k${i}`, `good${i}`));
    cluster.settle();
    const leader = cluster.leader()!;
    const victim = who === 'the leader' ? leader : cluster.nodes.find((node) => node !== leader)!;
    const id = victim.member!.memberId;
    damage(victim);
    let named = false;
    let cleared = false;
    for (let i = 0; i < 2_000 && !cleared; i++) {
      cluster.run(10);
      if (corrupt(cluster).includes(id)) named = true;
      else if (named) cleared = true;
    }
    expect({ named, cleared }).toEqual({ named: true, cleared: true });
    // Serving again, and right.
    client.ok(Method.put, putRequest('after', 'good'));
    cluster.settle();
    const request = rangeRequest('k7', { serializable: true });
    expect(readKvs(client.ok(Method.range, request, victim))[0]!.value).toBe('good7');
    expectEqualStates(cluster);
    // It stays a member as good as any: also without the others' log.
    for (const node of cluster.nodes) cluster.crash(node);
    cluster.start();
    cluster.waitForLeader();
    client.ok(Method.put, putRequest('again', 'good'));
    expectEqualStates(cluster);
    expect(corrupt(cluster)).toEqual([]);
  },
);

test('while a member is known to be wrong nothing is read from it', () => {
  const { cluster, client } = started(92, 3, { ...limits, corruptRepair: false });
  client.ok(Method.put, putRequest('k', 'good'));
  cluster.settle();
  const victim = cluster.nodes.find((node) => node !== cluster.leader())!;
  damage(victim);
  cluster.run(8_000);
  expect(corrupt(cluster)).toEqual([victim.member!.memberId]);
  expect(client.call(Method.put, putRequest('k', 'x'))).toMatchObject({
    message: 'etcdserver: corrupt cluster',
  });
  const request = rangeRequest('k', { serializable: true });
  expect(client.call(Method.range, request, victim, 500).kind).toBe('notTaken');
  expect(readKvs(client.ok(Method.range, request, cluster.leader()))[0]!.value).toBe('good');
});

test('of two that differ nobody is named', () => {
  const { cluster, client } = started(93, 2, limits);
  client.ok(Method.put, putRequest('k', 'good'));
  cluster.settle();
  damage(cluster.nodes[0]!);
  cluster.run(8_000);
  expect(corrupt(cluster)).toEqual([0n]);
  cluster.run(12_000);
  expect(corrupt(cluster)).toEqual([0n]);
});

test('a member that starts is compared before anything is read from it', () => {
  const { cluster, client } = started(95, 3, {
    corruptCheckIntervalMs: 0,
    initialCorruptCheck: true,
    flushIntervalMs: 500,
  });
  for (let i = 0; i < 30; i++) client.ok(Method.put, putRequest(`k${i}`, `good${i}`));
  cluster.settle();
  const victim = cluster.nodes.find((node) => node !== cluster.leader())!;
  const id = victim.member!.memberId;
  cluster.run(2_000);
  damage(victim);
  cluster.crash(victim);
  // So that there is time to ask.
  for (const node of cluster.nodes) cluster.network.setLink(node.name, victim.name, { delayMs: 100 });
  cluster.startNode(victim);
  const request = rangeRequest('k7', { serializable: true });
  const answers: string[] = [];
  let ready = false;
  let named = false;
  for (let i = 0; i < 500 && !ready; i++) {
    cluster.run(2);
    if (!victim.running) continue;
    if (answers.length === 0) victim.member!.onceReady(() => (ready = true));
    const answer = client.call(Method.range, request, victim, 20);
    answers.push(answer.kind === 'ok' ? readKvs(answer.body)[0]!.value : answer.kind);
    named ||= corrupt(cluster).includes(id);
  }
  expect(new Set(answers.slice(0, -1))).toEqual(new Set(['notTaken']));
  expect({ named, ready, left: corrupt(cluster) }).toEqual({ named: true, ready: true, left: [] });
  expect(readKvs(client.ok(Method.range, request, victim))[0]!.value).toBe('good7');
  for (const node of cluster.nodes) cluster.network.setLink(node.name, victim.name, {});
  cluster.settle();
  cluster.run(2_000);
  // Nobody to compare with: it serves after the request timeout, as etcd does.
  for (const node of cluster.nodes) if (node !== victim) cluster.crash(node);
  cluster.crash(victim);
  cluster.startNode(victim);
  cluster.run(5_000);
  expect(client.call(Method.range, request, victim, 500).kind).toBe('notTaken');
  cluster.run(5_000);
  expect(readKvs(client.ok(Method.range, request, victim))[0]!.value).toBe('good7');
});

test('what is well stays well: no alarm, also with members that come and go', () => {
  const { cluster, client } = started(94, 3, {
    ...limits,
    corruptCheckIntervalMs: 300,
    initialCorruptCheck: true,
  });
  for (let i = 0; i < 40; i++) {
    client.ok(Method.put, putRequest(`k${i % 7}`, `v${i}`));
    if (i % 8 === 3) cluster.crash(cluster.nodes[i % 3]!);
    if (i % 8 === 5) cluster.start();
    cluster.run(200);
  }
  cluster.start();
  cluster.waitForLeader();
  cluster.run(2_000);
  expect(corrupt(cluster)).toEqual([]);
  expectEqualStates(cluster);
});
