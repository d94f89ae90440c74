import { utf8 } from '@quoin/base';
import { Method } from '@quoin/contracts';
import { etcd, LinkClient, peerUrl } from '@quoin/sim';
import { expect, test } from 'vitest';
import { emptied, expectEqualStates, started } from './cluster-support.ts';

const { idRequest, putRequest, rangeRequest, readKvs, varint } = etcd;

function addRequest(url: string, learner: boolean): Uint8Array {
  const bytes = utf8(url);
  return new Uint8Array([10, bytes.length, ...bytes, ...(learner ? [16, 1] : [])]);
}

test('membership: a learner is added, listed, and removed', () => {
  const { cluster, client } = started(67);
  cluster.run(2_000);
  const urls = addRequest('http://m9:80', true);
  const added = client.ok(Method.memberAdd, urls);
  const member = etcd.field(added, 18)!;
  const id = BigInt.asUintN(64, varint(member, 8));
  expect(varint(member, 40)).toBe(1n);
  expect(etcd.fields(added, 26).length).toBe(4);
  // Ids of added members contain the second.
  cluster.run(1_500);
  expect(client.call(Method.memberAdd, urls)).toMatchObject({
    message: 'etcdserver: Peer URLs already exists',
  });
  const second = addRequest('http://m8:80', true);
  expect(client.call(Method.memberAdd, second)).toMatchObject({
    message: 'etcdserver: too many learner members in cluster',
  });
  expect(client.call(Method.memberPromote, idRequest(id))).toMatchObject({
    message: 'etcdserver: can only promote a learner member which is in sync with leader',
  });
  for (const node of cluster.nodes) {
    const list = client.ok(Method.memberList, new Uint8Array([8, 1]), node);
    expect(etcd.fields(list, 18).length).toBe(4);
  }
  client.ok(Method.memberRemove, idRequest(id));
  expect(client.call(Method.memberRemove, idRequest(id))).toMatchObject({
    message: 'etcdserver: member not found',
  });
  cluster.run(500);
  for (const node of cluster.nodes) cluster.crash(node);
  cluster.start();
  cluster.waitForLeader();
  expect(etcd.fields(client.ok(Method.memberList, new Uint8Array([8, 1])), 18).length).toBe(3);
  expectEqualStates(cluster);
});

test('the lead can be moved', () => {
  const { cluster, client } = started(68);
  const leader = cluster.waitForLeader();
  const heir = cluster.nodes.find((node) => node !== leader)!;
  expect(client.ok(Method.moveLeader, idRequest(heir.member!.memberId))).toEqual(new Uint8Array(0));
  expect(cluster.waitForLeader()).toBe(heir);
  expect(client.call(Method.moveLeader, idRequest(heir.member!.memberId))).toMatchObject({
    message: 'etcdserver: bad leader transferee',
  });
});

test('a member that was added joins by snapshot, first as a learner, then promoted, and survives a restart', () => {
  const { cluster, client } = started(70);
  cluster.run(2_000);
  for (let i = 0; i < 50; i++) client.ok(Method.put, putRequest(`k${i}`, 'v'));
  const node = cluster.addNode();
  const added = client.ok(Method.memberAdd, addRequest(peerUrl(node.name), true));
  const id = BigInt.asUintN(64, varint(etcd.field(added, 18)!, 8));
  cluster.startNode(node);
  expect(cluster.runUntil(() => (node.member?.status().revision ?? 0) === 51, 10_000)).toBe(true);
  cluster.run(2_000);
  expect(node.failure).toBeUndefined();
  expect(node.member!.memberId).toBe(id);
  expect(node.member!.status().learner).toBe(true);
  // A learner serves what it has, and sends the rest elsewhere.
  const link = new LinkClient(cluster, client.host, node);
  cluster.run(100);
  const answers: string[] = [];
  link.request(Method.range, rangeRequest('k1', { serializable: true }), (a) => answers.push(a.kind));
  link.request(Method.range, rangeRequest('k1'), (a) => answers.push(a.kind));
  cluster.run(100);
  expect(answers.sort()).toEqual(['notTaken', 'ok']);
  client.ok(Method.memberPromote, idRequest(id));
  cluster.run(1_000);
  expect(node.member!.status().learner).toBe(false);
  expectEqualStates(cluster);
  // Four voters: with one of the old ones gone the new one counts.
  cluster.crash(cluster.nodes[0]!);
  cluster.crash(node);
  cluster.startNode(node);
  cluster.waitForLeader();
  client.ok(Method.put, putRequest('after', '1'));
  expect(readKvs(client.ok(Method.range, rangeRequest('after')))[0]!.value).toBe('1');
  cluster.start();
  cluster.run(3_000);
  expectEqualStates(cluster);
  const names = node.member!.status().members.map((m) => m.name);
  expect(names.sort()).toEqual(['m1', 'm2', 'm3', 'm4']);
});

test('who was not added does not join; a removed member ends itself', () => {
  const { cluster, client } = started(71);
  cluster.run(2_000);
  const stranger = cluster.addNode();
  cluster.startNode(stranger);
  cluster.run(5_000);
  expect(stranger.failure).toContain('add it first');
  cluster.nodes.pop();
  const follower = cluster.nodes.find((node) => node !== cluster.waitForLeader())!;
  const id = follower.member!.memberId;
  client.ok(Method.memberRemove, idRequest(id));
  cluster.run(5_000);
  expect(follower.failure).toContain('removed');
  expect(client.call(Method.put, putRequest('a', '1')).kind).toBe('ok');
  cluster.startNode(follower);
  cluster.run(2_000);
  expect(follower.failure).toContain('removed');
});

// Simulator with membership changes, seeds 42 and 43: it could not answer a leader whose address it did not know, so it was
// never sent the entry that would have told it.
test('a member that was away while the leader was added comes back', () => {
  const { cluster, client } = started(72);
  cluster.run(2_000);
  const away = cluster.nodes.find((node) => node !== cluster.waitForLeader())!;
  cluster.crash(away);
  const node = cluster.addNode();
  const added = client.ok(Method.memberAdd, addRequest(peerUrl(node.name), true));
  const id = BigInt.asUintN(64, varint(etcd.field(added, 18)!, 8));
  cluster.startNode(node);
  cluster.run(3_000);
  client.ok(Method.memberPromote, idRequest(id));
  client.ok(Method.moveLeader, idRequest(id));
  cluster.run(1_000);
  expect(cluster.waitForLeader()).toBe(node);
  cluster.startNode(away);
  cluster.run(3_000);
  expect(away.member?.status().leader).toBe(id);
  expectEqualStates(cluster);
});

// It asked one member after the other and believed the first: one that was cut off from the rest told it the id that had been
// removed, and it was refused as removed for ever.
test('who joins under the URL of a removed member is not misled by a member that lags', () => {
  const { cluster, client } = started(86, 5);
  cluster.run(2_000);
  const [lagging, ...rest] = cluster.nodes;
  const old = rest.pop()!;
  const removed = old.member!.memberId;
  for (const node of [...rest, old]) {
    cluster.network.cut(lagging!.name, node.name);
    cluster.network.cut(node.name, lagging!.name);
  }
  cluster.run(3_000);
  client.ok(Method.memberRemove, idRequest(removed));
  cluster.run(1_500);
  client.ok(Method.memberAdd, addRequest(peerUrl(old.name), true));
  cluster.run(200);
  const fresh = emptied(cluster, old, 9);
  fresh.joins = true;
  cluster.network.heal();
  // Only the one that joins reaches it.
  for (const node of rest) {
    cluster.network.cut(lagging!.name, node.name);
    cluster.network.cut(node.name, lagging!.name);
  }
  cluster.startNode(fresh);
  cluster.run(5_000);
  expect(fresh.failure).toBe(undefined);
  expect(fresh.running).toBe(true);
  expect(fresh.member!.memberId).not.toBe(removed);
  cluster.heal();
  cluster.run(5_000);
  expectEqualStates(cluster);
});
