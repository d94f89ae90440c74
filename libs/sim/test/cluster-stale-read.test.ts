import { Prng } from '@quoin/base';
import { Method } from '@quoin/contracts';
import { etcd, SimClient } from '@quoin/sim';
import { expect, test } from 'vitest';
import { started } from './cluster-support.ts';

const { putRequest, rangeRequest, readKvs } = etcd;

/**
 * The leader's process is stopped, the others elect another and acknowledge a write; a read that begins after that reaches the old
 * leader, which goes on as if no time had passed. Returns what the read found, or why it found nothing.
 */
function readAtOldLeader(seed: number, leaseReads: boolean): string {
  const { cluster, client } = started(seed, 3, { leaseReads });
  const other = new SimClient(cluster, 'other');
  cluster.run(100);
  client.ok(Method.put, putRequest('a', 'old'));
  const leader = cluster.waitForLeader();
  const read = rangeRequest('a');
  expect(readKvs(client.ok(Method.range, read, leader))[0]!.value).toBe('old');
  // Anywhere between two ticks and two heartbeats.
  cluster.run((seed * 7.3) % 120);
  leader.host!.pause();
  // Its clients and peers know nothing but that it does not answer.
  expect(
    cluster.runUntil(
      () => cluster.nodes.some((n) => n !== leader && n.member?.status().role === 'leader'),
      10_000,
    ),
  ).toBe(true);
  const [next] = cluster.nodes.filter((n) => n !== leader && n.member?.status().role === 'leader');
  let written = false;
  other.linkTo(next!).request(Method.put, putRequest('a', 'new'), (answer) => {
    written = answer.kind === 'ok';
  });
  expect(cluster.runUntil(() => written, 10_000)).toBe(true);
  let found = 'no answer';
  client.linkTo(leader).request(Method.range, read, (answer) => {
    if (answer.kind === 'ok') found = readKvs(answer.body)[0]!.value;
    else found = answer.kind === 'error' ? answer.message : answer.kind;
  });
  cluster.run(5);
  leader.host!.resume(new Prng(seed));
  cluster.run(10_000);
  return found;
}

const seeds = Array.from({ length: 40 }, (_, i) => i + 1);

test.each([false, true])('a leader that was stopped serves no stale read, lease reads %s', (leaseReads) => {
  const found = seeds.map((seed) => readAtOldLeader(seed, leaseReads));
  expect(found.filter((value) => value === 'old')).toEqual([]);
  // It was asked, and it answered once it had learned better.
  const answers = ['new', 'etcdserver: leader changed'];
  expect(found.filter((value) => !answers.includes(value))).toEqual([]);
});
