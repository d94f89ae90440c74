import { traceContextBytes } from '@quoin/base';
import { encodeLinkUp, Method } from '@quoin/contracts';
import { etcd, linkAddress, SimCluster, SimHost } from '@quoin/sim';
import { expect, test } from 'vitest';
import { expectEqualStates, RecordingTracer, started } from './cluster-support.ts';

const { putRequest, rangeRequest, readKvs } = etcd;

test('a failed write of the log ends the member; the others go on', () => {
  const { cluster, client } = started(60);
  const leader = cluster.waitForLeader();
  leader.disk.fault = ({ op }) => (op === 'sync' ? 'EIO' : undefined);
  const answer = client.call(Method.put, putRequest('a', '1'));
  cluster.run(5_000);
  expect(leader.failure).toMatch(/EIO/);
  expect(leader.running).toBe(false);
  expect(['ok', 'lost']).toContain(answer.kind);
  expect(client.call(Method.put, putRequest('b', '1')).kind).toBe('ok');
  leader.disk.fault = undefined;
  leader.disk.crash();
  cluster.startNode(leader);
  cluster.run(3_000);
  expectEqualStates(cluster);
});

test('a gateway of another cluster is refused', () => {
  const { cluster } = started(61, 1);
  const host = new SimHost(cluster.scheduler, 'stranger');
  const channel = cluster.network.dial(host, linkAddress('m1'));
  let closed = false;
  let answered = false;
  channel.onClose = () => (closed = true);
  channel.onMessage = () => (answered = true);
  const hello = { protocol: 1, gateway: 'stranger', clusterId: 12345n, clientUrls: [] };
  channel.send(encodeLinkUp({ hello, requests: [], subscribes: [], cancels: [], credits: [] }));
  cluster.run(100);
  expect([closed, answered]).toEqual([true, false]);
});

test('bytes that are no message close the link, the member lives', () => {
  const { cluster, client } = started(62, 1);
  const host = new SimHost(cluster.scheduler, 'noise');
  const channel = cluster.network.dial(host, linkAddress('m1'));
  let closed = false;
  channel.onClose = () => (closed = true);
  channel.send(new Uint8Array([0xff, 0xff, 0xff]));
  cluster.run(100);
  expect(closed).toBe(true);
  expect(client.call(Method.put, putRequest('a', '1')).kind).toBe('ok');
  // A malformed request inside a good message: an error for it alone.
  expect(client.call(Method.txn, new Uint8Array([0x0a, 0x7f]))).toMatchObject({ kind: 'error', code: 13 });
  expect(client.call(Method.put, new Uint8Array([0x0a, 0x7f]))).toMatchObject({ kind: 'error', code: 13 });
});

test('the data directory of another cluster is refused in one line', () => {
  const first = new SimCluster({ seed: 63, members: 1, clusterToken: 'one' });
  first.start();
  first.waitForLeader();
  first.run(500);
  const second = new SimCluster({ seed: 64, members: 1, clusterToken: 'two' });
  const node = second.nodes[0]!;
  for (const path of first.nodes[0]!.disk.files())
    node.disk.install(path, first.nodes[0]!.disk.contents(path));
  second.start();
  second.run(500);
  expect(node.running).toBe(false);
  expect(node.failure).toContain('belongs to a cluster with token "one", not "two"');
});

test('a log without its store, and a damaged log, are refused', () => {
  const { cluster, client } = started(65, 1);
  const node = cluster.nodes[0]!;
  client.ok(Method.put, putRequest('a', '1'));
  cluster.run(200);
  cluster.kill(node);
  const fresh = new SimCluster({ seed: 66, members: 1 });
  for (const path of node.disk.files()) fresh.nodes[0]!.disk.install(path, node.disk.contents(path));
  fresh.start();
  fresh.run(500);
  expect(fresh.nodes[0]!.failure).toContain('member/store-1 is missing');
});

test('a sampled put leaves spans on the leader and both followers; an unsampled one none', () => {
  const tracer = new RecordingTracer();
  const { cluster, client } = started(69, 3, {}, { tracer });
  cluster.run(3_000);
  expect(tracer.names).toEqual([]);
  client.ok(Method.put, putRequest('a', '1'));
  expect(tracer.names).toEqual([]);
  const link = client.linkTo(cluster.waitForLeader());
  const trace = new Uint8Array(traceContextBytes).fill(7);
  let done = 0;
  link.request(Method.put, putRequest('a', '2'), () => done++, { trace });
  cluster.run(500);
  link.request(Method.range, rangeRequest('a'), () => done++, { trace });
  cluster.run(500);
  expect(done).toBe(2);
  expect([...tracer.names].sort()).toEqual([
    'apply.batch of 1',
    'apply.batch of 1',
    'apply.batch of 1',
    'follower.append',
    'follower.append',
    'member.apply',
    'member.apply',
    'member.apply',
    'member.put',
    'member.range',
    'raft.append',
    'raft.batch of 1',
    'raft.batch of 1',
    'raft.batch of 1',
    'raft.commit',
    'raft.propose',
    'read.wait',
    'store.read',
    'store.write',
    'store.write',
    'store.write',
    'wal.fsync',
    'wal.fsync',
    'wal.fsync',
    'wal.write',
    'wal.write',
    'wal.write',
  ]);
  expect(readKvs(client.ok(Method.range, rangeRequest('a')))[0]!.value).toBe('2');
});
