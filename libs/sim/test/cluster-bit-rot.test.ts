import { utf8 } from '@quoin/base';
import { Method } from '@quoin/contracts';
import { etcd, peerUrl, type SimNode, simulate } from '@quoin/sim';
import { expect, test } from 'vitest';
import { emptied, expectEqualStates, follower, type Started, started } from './cluster-support.ts';

const { idRequest, putRequest, rangeRequest, readKvs } = etcd;

function put({ client }: Started, from: number, to: number): void {
  for (let i = from; i < to; i++) client.ok(Method.put, putRequest(`k${i}`, `v${i}`));
}

function addRequest(url: string): Uint8Array {
  const bytes = utf8(url);
  return new Uint8Array([10, bytes.length, ...bytes, 16, 1]);
}

function segments(node: SimNode): string[] {
  return node.disk.files().filter((path) => path.endsWith('.wal'));
}

/** Bytes of a file up to its last that is not zero. */
function written(node: SimNode, path: string): number {
  const bytes = node.disk.contents(path);
  let end = bytes.length;
  while (end > 0 && bytes[end - 1] === 0) end--;
  return end;
}

/** Adds the machine as a learner, starts it, promotes it when it has caught up. */
function join({ cluster, client }: Started, node: SimNode): void {
  client.ok(Method.memberAdd, addRequest(peerUrl(node.name)));
  cluster.startNode(node);
  cluster.run(3_000);
  client.ok(Method.memberPromote, idRequest(node.member!.memberId));
  cluster.run(500);
}

test('a member whose log has rotted while it was down does not start, and its place is taken by another', () => {
  const world = started(80, 3, { walSegmentBytes: 8_192, snapshotCount: 10_000, flushIntervalMs: 60_000 });
  const { cluster, client } = world;
  put(world, 0, 40);
  const node = follower(cluster);
  const { memberId } = node.member!;
  cluster.run(100);
  cluster.kill(node);
  const [path] = segments(node);
  node.disk.flipBit(path!, (written(node, path!) >> 1) * 8);
  cluster.startNode(node);
  cluster.run(3_000);
  expect(node.running).toBe(false);
  expect(node.failure).toMatch(new RegExp(`WAL ${path} is corrupt at offset \\d+: .*restore from a backup`));
  put(world, 40, 60);
  client.ok(Method.memberRemove, idRequest(memberId));
  cluster.nodes.splice(cluster.nodes.indexOf(node), 1);
  join(world, cluster.addNode());
  expectEqualStates(cluster);
  expect(cluster.nodes.filter((each) => each.running)).toHaveLength(3);
});

test('the same machine comes back under a new id once its directory is empty', () => {
  const world = started(81);
  const { cluster, client } = world;
  put(world, 0, 20);
  const node = follower(cluster);
  const { memberId } = node.member!;
  cluster.kill(node);
  node.disk.flipBit(segments(node)[0]!, 60 * 8);
  cluster.startNode(node);
  cluster.run(1_000);
  expect(node.failure).toMatch(/is corrupt at offset \d+/);
  client.ok(Method.memberRemove, idRequest(memberId));
  cluster.run(1_000);
  const fresh = emptied(cluster, node, 1);
  fresh.joins = true;
  join(world, fresh);
  expect(fresh.member!.memberId).not.toBe(memberId);
  put(world, 20, 30);
  expectEqualStates(cluster);
});

test('a member that runs when its log rots goes on from what it knows, and does not start again', () => {
  const world = started(82);
  const { cluster, client } = world;
  put(world, 0, 20);
  const leader = cluster.waitForLeader();
  const [path] = segments(leader);
  for (let at = 100; at < written(leader, path!); at += 97) leader.disk.flipBit(path!, at * 8);
  put(world, 20, 30);
  cluster.crash(leader);
  cluster.startNode(leader);
  cluster.run(3_000);
  put(world, 30, 40);
  expect(leader.failure).toMatch(new RegExp(`WAL ${path} is corrupt at offset \\d+: `));
  const others = cluster.nodes.filter((node) => node !== leader);
  for (const node of others) {
    for (let i = 0; i < 40; i++) {
      expect(readKvs(client.ok(Method.range, rangeRequest(`k${i}`), node))[0]!.value).toBe(`v${i}`);
    }
  }
});

test('damaged logs among everything else: refused, replaced, and nothing lost', () => {
  let refused = 0;
  for (let seed = 1; seed <= 8; seed++) {
    const trace: string[] = [];
    const report = simulate(seed, {
      plan: {
        members: 3,
        faults: ['bitRot', 'bounce', 'crash'],
        faultEveryMs: 300,
        gateways: 2,
        memberChanges: false,
        auth: false,
      },
      trace: (line) => trace.push(line),
    });
    expect(report.failure).toBe(undefined);
    refused += trace.filter((line) => line.includes(' takes ')).length;
  }
  expect(refused).toBeGreaterThan(2);
});
