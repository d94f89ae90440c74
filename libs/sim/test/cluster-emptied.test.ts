import { Method } from '@quoin/contracts';
import type { MemberOptions } from '@quoin/member';
import { etcd, SimClient, SimCluster, type SimNode } from '@quoin/sim';
import { expect, test } from 'vitest';
import { emptied, expectEqualStates, follower, started } from './cluster-support.ts';

const { idRequest, putRequest, rangeRequest, readKvs } = etcd;

// It could vote, though it had forgotten what it had voted for and acknowledged: two of three forgot a committed write.
for (const advertised of [['http://client:2379'], []]) {
  test(`an emptied member does not start anew under its old id, ${advertised.length} client URLs`, () => {
    const limits: Partial<MemberOptions> = { advertiseClientUrls: advertised };
    const { cluster, client } = started(81, 3, limits);
    client.ok(Method.put, putRequest('k', 'v'));
    cluster.run(500);
    const old = follower(cluster);
    const id = old.member!.memberId.toString(16);
    const fresh = emptied(cluster, old, 5);
    // Nobody remembers more than what is on disk: the others were down, too.
    for (const node of cluster.nodes) if (node !== fresh) cluster.crash(node);
    for (const node of cluster.nodes) if (node !== fresh) cluster.startNode(node);
    cluster.run(20);
    cluster.startNode(fresh);
    cluster.run(3_000);
    expect(fresh.failure).toMatch(new RegExp(`^member ${id} has already been bootstrapped.*member remove`));
    expect(fresh.disk.files()).toEqual([]);
    cluster.waitForLeader();
    expect(readKvs(client.ok(Method.range, rangeRequest('k')))[0]!.value).toBe('v');
  });
}

test('a member that is emptied right after its first acknowledgement does not start anew either', () => {
  const cluster = new SimCluster({ seed: 87 });
  for (const node of cluster.nodes.slice(0, 2)) cluster.startNode(node);
  const committed = (node: SimNode | undefined): number => node?.member?.status().commitIndex ?? 0;
  expect(cluster.runUntil(() => committed(cluster.leader()) > 1, 10_000)).toBe(true);
  const follower = cluster.nodes.slice(0, 2).find((node) => node !== cluster.leader())!;
  const fresh = emptied(cluster, follower, 10);
  cluster.startNode(fresh);
  cluster.run(3_000);
  expect(fresh.failure).toContain('has already been bootstrapped');
});

test('an emptied member does not join again under the id that it had', () => {
  const { cluster } = started(82);
  const fresh = emptied(cluster, follower(cluster), 6);
  fresh.joins = true;
  cluster.startNode(fresh);
  cluster.run(3_000);
  expect(fresh.failure).toContain('has already been bootstrapped');
});

test('an emptied member that was removed is told so', () => {
  const { cluster, client } = started(83);
  cluster.run(2_000);
  const old = follower(cluster);
  const id = old.member!.memberId;
  const fresh = emptied(cluster, old, 7);
  client.ok(Method.memberRemove, idRequest(id));
  cluster.startNode(fresh);
  cluster.run(3_000);
  expect(fresh.failure).toContain('permanently removed from the cluster: add it as a new one');
});

test('a member of a new cluster that was never started comes late, and after starts that came to nothing', () => {
  const cluster = new SimCluster({ seed: 84 });
  for (const node of cluster.nodes.slice(0, 2)) cluster.startNode(node);
  const client = new SimClient(cluster, 'client');
  cluster.waitForLeader();
  cluster.run(200);
  client.ok(Method.put, putRequest('k', 'v'));
  for (let life = 0; life < 3; life++) {
    const late = emptied(cluster, cluster.nodes[2]!, 8 + life);
    cluster.startNode(late);
    // Less than a message takes: it has asked, and said nothing else yet.
    cluster.run(0.2);
  }
  const late = emptied(cluster, cluster.nodes[2]!, 20);
  cluster.startNode(late);
  cluster.run(2_000);
  expect(late.failure).toBeUndefined();
  expectEqualStates(cluster);
});

test('members of a new cluster that are emptied before there is a quorum start again', () => {
  const cluster = new SimCluster({ seed: 85 });
  cluster.startNode(cluster.nodes[0]!);
  cluster.run(3_000);
  const again = emptied(cluster, cluster.nodes[0]!, 9);
  cluster.start();
  cluster.waitForLeader(4_000);
  expect(again.failure).toBeUndefined();
  expectEqualStates(cluster);
});

test('a new cluster starts at once, also while one of its members cannot be reached', () => {
  const cluster = new SimCluster({ seed: 86 });
  cluster.isolate(cluster.nodes[2]!);
  cluster.start();
  const beganMs = cluster.scheduler.nowMs;
  expect(cluster.runUntil(() => cluster.leader() !== undefined, 10_000)).toBe(true);
  expect(cluster.scheduler.nowMs - beganMs).toBeLessThan(5_000);
  expect(cluster.nodes[1]!.running).toBe(true);
});
