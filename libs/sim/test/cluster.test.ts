import { Method } from '@quoin/contracts';
import { type Answer, etcd, feedEvents } from '@quoin/sim';
import { expect, test } from 'vitest';
import { expectEqualStates, started } from './cluster-support.ts';

const { compactRequest, deleteRequest, putRequest, rangeRequest, readHeader, readKvs } = etcd;

test('one member: put and get', () => {
  const { client } = started(1, 1);
  const put = client.ok(Method.put, putRequest('a', '1'));
  expect(readHeader(put).revision).toBe(2);
  const range = client.ok(Method.range, rangeRequest('a'));
  expect(readKvs(range)).toEqual([
    { key: 'a', value: '1', createRevision: 2, modRevision: 2, version: 1, lease: 0n },
  ]);
});

test('three members: put at the leader, get through any, states are equal', () => {
  const { cluster, client } = started(2);
  for (let i = 0; i < 20; i++) client.ok(Method.put, putRequest(`k${i}`, `v${i}`));
  for (const node of cluster.nodes) {
    const kvs = readKvs(client.ok(Method.range, rangeRequest('k', { end: 'l' }), node));
    expect(kvs.length).toBe(20);
  }
  expectEqualStates(cluster);
});

test('followers hear of the last put of a stream long before the next heartbeat, and of a put that comes alone', () => {
  const { cluster, client } = started(2);
  const lags: number[] = [];
  for (let round = 0; round < 20; round++) {
    // One round begins anywhere between two heartbeats, which are 100 ms apart.
    cluster.run(137);
    for (let i = 0; i <= round % 4; i++) client.ok(Method.put, putRequest(`k${i}`, `v${round}`));
    const { revision } = readHeader(client.ok(Method.put, putRequest('last', `v${round}`)));
    let lagMs = 0;
    const behind = () => cluster.nodes.some((node) => node.member!.status().revision < revision);
    for (; behind(); lagMs++) cluster.run(1);
    lags.push(lagMs);
  }
  expect(Math.max(...lags)).toBeLessThan(20);
});

test('members publish their names and client URLs', () => {
  const { cluster, client } = started(3);
  cluster.run(2_000);
  const members = client.links[0]!.state!.members;
  expect(members.map((m) => m.name).sort()).toEqual(['m1', 'm2', 'm3']);
  expect(members.every((m) => m.clientUrls[0] === `http://${m.name}:2379`)).toBe(true);
});

test('the leader is killed under load: no acknowledged write is lost, writes resume', () => {
  const { cluster, client } = started(4);
  const acknowledged: string[] = [];
  let stopped = false;
  let next = 0;
  const write = (): void => {
    if (stopped) return;
    const key = `k${next++}`;
    client.request(Method.put, putRequest(key, key), (answer: Answer) => {
      if (answer.kind === 'ok') acknowledged.push(key);
      client.host.enqueue(10, write);
    });
  };
  for (let i = 0; i < 4; i++) write();
  cluster.run(500);
  const before = acknowledged.length;
  expect(before).toBeGreaterThan(50);
  const leader = cluster.waitForLeader();
  cluster.crash(leader);
  cluster.run(4_000);
  expect(acknowledged.length).toBeGreaterThan(before + 100);
  cluster.startNode(leader);
  cluster.run(2_000);
  stopped = true;
  expectEqualStates(cluster);
  for (const node of cluster.nodes) {
    const range = client.ok(Method.range, rangeRequest('k', { end: 'l', serializable: true }), node);
    const found = new Set(readKvs(range).map((kv) => kv.key));
    expect(acknowledged.filter((key) => !found.has(key))).toEqual([]);
  }
});

test('everything loses power at once: all acknowledged writes are there after a restart', () => {
  const { cluster, client } = started(5);
  const acknowledged: string[] = [];
  for (let i = 0; i < 300; i++) {
    client.request(Method.put, putRequest(`k${i}`, 'v'), (a) => {
      if (a.kind === 'ok') acknowledged.push(`k${i}`);
    });
    cluster.run(0.3);
  }
  expect(acknowledged.length).toBeGreaterThan(50);
  for (const node of cluster.nodes) cluster.crash(node, 'lost');
  cluster.run(1_000);
  cluster.start();
  cluster.waitForLeader();
  const found = new Set(
    readKvs(client.ok(Method.range, rangeRequest('k', { end: 'l' }))).map((kv) => kv.key),
  );
  expect(acknowledged.filter((key) => !found.has(key))).toEqual([]);
  expectEqualStates(cluster);
});

test('a restart replays only what the store had not made durable', () => {
  const { cluster, client } = started(6, 1, { flushIntervalMs: 100 });
  for (let i = 0; i < 50; i++) client.ok(Method.put, putRequest(`k${i}`, 'v'));
  cluster.run(500);
  const node = cluster.nodes[0]!;
  const before = node.member!.status();
  cluster.crash(node);
  cluster.start();
  cluster.waitForLeader();
  cluster.run(100);
  expect(node.member!.status().revision).toBe(before.revision);
  expect(readKvs(client.ok(Method.range, rangeRequest('k', { end: 'l' }))).length).toBe(50);
});

test('a follower past compaction of the log catches up by snapshot while writes go on', () => {
  const limits = {
    snapshotCount: 20,
    snapshotCatchupEntries: 5,
    flushIntervalMs: 50,
    snapshotChunkBytes: 2_000,
  };
  const { cluster, client } = started(7, 3, limits);
  const leader = cluster.waitForLeader();
  const follower = cluster.nodes.find((node) => node !== leader)!;
  cluster.crash(follower);
  for (let i = 0; i < 200; i++)
    client.ok(Method.put, putRequest(`k${i % 90}`, `value ${i} ${'x'.repeat(100)}`));
  cluster.run(1_000);
  let written = 0;
  let stopped = false;
  const write = (): void => {
    if (stopped) return;
    client.request(Method.put, putRequest(`w${written++ % 50}`, 'w'), () => client.host.enqueue(2, write));
  };
  write();
  cluster.startNode(follower);
  const caughtUp = cluster.runUntil(
    () => (follower.member?.status().revision ?? 0) > 200 && follower.member!.status().appliedIndex > 150,
    20_000,
  );
  stopped = true;
  expect(caughtUp).toBe(true);
  expect(written).toBeGreaterThan(10);
  cluster.run(2_000);
  expectEqualStates(cluster);
  const received = follower.metrics.all().find((m) => m.name === 'etcd_network_snapshot_receive_success');
  expect(received!.samples().reduce((sum, s) => sum + s.value, 0)).toBeGreaterThanOrEqual(1);
  // What it received is what it starts from.
  cluster.crash(follower, 'lost');
  cluster.startNode(follower);
  cluster.run(3_000);
  expect(follower.failure).toBeUndefined();
  expectEqualStates(cluster);
});

test('a feed goes on over a leader change and a snapshot of its member', () => {
  const { cluster, client } = started(8);
  const node = cluster.nodes[0]!;
  const link = client.linkTo(node);
  const seen: string[] = [];
  let revision = 1;
  link.onFeed = (batch) => {
    for (const event of feedEvents(batch)) seen.push(`${event.revision} ${event.type} ${event.key}`);
    revision = Math.max(revision, batch.revision);
  };
  link.onOpen = () => link.subscribe(1, revision + 1);
  link.subscribe(1, 2);
  for (let i = 0; i < 10; i++) client.ok(Method.put, putRequest(`k${i}`, 'v'));
  const leader = cluster.waitForLeader();
  cluster.crash(leader);
  cluster.run(3_000);
  cluster.start();
  cluster.waitForLeader();
  for (let i = 10; i < 20; i++) client.ok(Method.put, putRequest(`k${i}`, 'v'));
  client.ok(Method.deleteRange, deleteRequest('k0'));
  cluster.run(2_000);
  const wanted = Array.from({ length: 20 }, (_, i) => `${i + 2} put k${i}`);
  expect(seen).toEqual([...wanted, '22 delete k0']);
});

test('an isolated leader answers no linearizable read and steps down', () => {
  const { cluster, client } = started(9);
  const leader = cluster.waitForLeader();
  client.ok(Method.put, putRequest('a', 'old'));
  cluster.isolate(leader);
  const link = client.linkTo(leader);
  let stale: Answer | undefined;
  link.request(Method.range, rangeRequest('a'), (a) => (stale = a), { timeoutMs: 3_000 });
  cluster.run(3_000);
  const put = client.call(Method.put, putRequest('a', 'new'));
  expect(put.kind).toBe('ok');
  cluster.run(5_000);
  expect(stale?.kind).toBe('error');
  expect(leader.member!.status().role).not.toBe('leader');
  cluster.heal();
  cluster.run(3_000);
  const read = client.ok(Method.range, rangeRequest('a'), leader);
  expect(readKvs(read)[0]!.value).toBe('new');
  expectEqualStates(cluster);
});

test('no leader: a proposal is not taken, a linearizable read times out, a serializable one is served', () => {
  const { cluster, client } = started(10);
  client.ok(Method.put, putRequest('a', '1'));
  const [m1, m2, m3] = cluster.nodes;
  cluster.crash(m2!);
  cluster.crash(m3!);
  cluster.run(5_000);
  const link = client.linkTo(m1!);
  const answers: Record<string, Answer> = {};
  link.request(Method.put, putRequest('a', '2'), (a) => (answers['put'] = a));
  link.request(Method.range, rangeRequest('a'), (a) => (answers['range'] = a));
  link.request(Method.range, rangeRequest('a', { serializable: true }), (a) => (answers['local'] = a));
  cluster.run(8_000);
  expect(answers['put']).toEqual({ kind: 'notTaken' });
  expect(answers['range']).toEqual({ kind: 'error', code: 14, message: 'etcdserver: request timed out' });
  expect(answers['local']!.kind).toBe('ok');
});

test('compaction: old revisions are gone everywhere, physical waits for the removal', () => {
  const { cluster, client } = started(11);
  for (let i = 0; i < 10; i++) client.ok(Method.put, putRequest('a', `${i}`));
  client.ok(Method.compact, compactRequest(8, true));
  expect(client.call(Method.range, rangeRequest('a', { revision: 5 }))).toMatchObject({
    kind: 'error',
    message: 'etcdserver: mvcc: required revision has been compacted',
  });
  expect(client.call(Method.compact, compactRequest(8))).toMatchObject({ code: 11 });
  expect(client.call(Method.compact, compactRequest(100))).toMatchObject({
    message: 'etcdserver: mvcc: required revision is a future revision',
  });
  expect(readKvs(client.ok(Method.range, rangeRequest('a', { revision: 8 })))[0]!.value).toBe('6');
  expectEqualStates(cluster);
});

test('a request beyond the limit is refused, one at it is taken', () => {
  const { client } = started(12, 1, { maxRequestBytes: 1_000 });
  expect(client.call(Method.put, putRequest('a', 'x'.repeat(1_000)))).toMatchObject({
    message: 'etcdserver: request is too large',
  });
  expect(client.call(Method.put, putRequest('a', 'x'.repeat(900))).kind).toBe('ok');
});

test('a stopping leader hands over; the cluster goes on at once', () => {
  const { cluster, client } = started(13);
  const leader = cluster.waitForLeader();
  let stopped = false;
  leader.member!.stop(() => (stopped = true));
  expect(cluster.runUntil(() => stopped, 5_000)).toBe(true);
  cluster.kill(leader);
  const startedMs = cluster.scheduler.nowMs;
  expect(client.call(Method.put, putRequest('a', '1')).kind).toBe('ok');
  // Less than an election timeout: nobody had to notice that the leader was gone.
  expect(cluster.scheduler.nowMs - startedMs).toBeLessThan(1_000);
  cluster.startNode(leader);
  cluster.run(2_000);
  expect(leader.failure).toBeUndefined();
  expectEqualStates(cluster);
});

test('a proposal that the next leader has overwritten is known not to have happened', () => {
  const { cluster, client } = started(14);
  const leader = cluster.waitForLeader();
  cluster.isolate(leader);
  let answer: Answer | undefined;
  client.linkTo(leader).request(Method.put, putRequest('a', 'lost'), (a) => (answer = a));
  cluster.run(100);
  const others = cluster.nodes.filter((node) => node !== leader);
  expect(cluster.runUntil(() => others.some((n) => n.member!.status().role === 'leader'), 5_000)).toBe(true);
  cluster.run(1_500);
  expect(client.call(Method.put, putRequest('b', '1')).kind).toBe('ok');
  expect(answer).toBeUndefined();
  cluster.heal();
  cluster.run(2_500);
  // Long before its time was up, and it may be sent again.
  expect(answer).toEqual({ kind: 'notTaken' });
  expect(readKvs(client.ok(Method.range, rangeRequest('a'))).length).toBe(0);
  expectEqualStates(cluster);
});
