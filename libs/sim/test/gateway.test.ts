import { etcd, SimGateway } from '@quoin/sim';
import { expect, test } from 'vitest';
import { expectEqualStates, started } from './cluster-support.ts';

const { field, fields, putRequest, rangeRequest, readHeader, readKv, readKvs } = etcd;
const put = '/etcdserverpb.KV/Put';
const range = '/etcdserverpb.KV/Range';

test('the whole path: any gateway, whoever leads, also while the lead changes', () => {
  const { cluster } = started(80);
  const gateways = [new SimGateway(cluster, 'g1'), new SimGateway(cluster, 'g2')];
  cluster.run(500);
  let acknowledged = 0;
  for (let round = 0; round < 3; round++) {
    for (let i = 0; i < 20; i++) {
      const reply = gateways[i % 2]!.call(put, putRequest(`k${acknowledged}`, 'v'));
      expect(reply).toMatchObject({ code: 0, message: '' });
      acknowledged++;
    }
    const leader = cluster.waitForLeader();
    cluster.crash(leader);
    cluster.run(10);
    // Sent while nobody leads: it waits for the next leader instead of failing.
    expect(gateways[0]!.call(put, putRequest(`k${acknowledged}`, 'v')).code).toBe(0);
    acknowledged++;
    cluster.startNode(leader);
    cluster.run(2_000);
  }
  for (const gateway of gateways) {
    expect(readKvs(gateway.call(range, rangeRequest('k', { end: 'l' })).body).length).toBe(acknowledged);
  }
  expectEqualStates(cluster);
});

test('a large answer comes whole, through parts and credit', () => {
  const { cluster } = started(81, 3, { streamWindowBytes: 100_000 });
  const gateway = new SimGateway(cluster, 'g1');
  cluster.run(500);
  for (let i = 0; i < 6; i++) gateway.call(put, putRequest(`k${i}`, `${i}`.repeat(400_000)));
  const kvs = readKvs(gateway.call(range, rangeRequest('k', { end: 'l' })).body);
  expect(kvs.map((kv) => kv.value.length)).toEqual([400_000, 400_000, 400_000, 400_000, 400_000, 400_000]);
});

test('a watch gets every event once and in order, over the loss of any member', () => {
  const { cluster } = started(82);
  const gateway = new SimGateway(cluster, 'g1');
  cluster.run(500);
  const watch = gateway.stream('/etcdserverpb.Watch/Watch');
  // WatchRequest{create_request{key 'k', range_end 'l', start_revision 2}}
  watch.server.onMessage(new Uint8Array([10, 8, 10, 1, 107, 18, 1, 108, 24, 2]));
  for (let i = 0; i < 30; i++) {
    expect(gateway.call(put, putRequest(`k${i}`, 'v')).code).toBe(0);
    if (i % 10 === 5) {
      const node = cluster.nodes[Math.floor(i / 10)]!;
      cluster.crash(node);
      cluster.run(3_000);
      cluster.startNode(node);
      cluster.run(2_000);
    }
  }
  cluster.run(3_000);
  expect(watch.ended).toBeUndefined();
  const events = watch.received.flatMap((response) => fields(response, 90));
  const keys = events.map((event) => readKv(field(event, 18)!)).map((kv) => `${kv.modRevision} ${kv.key}`);
  expect(keys).toEqual(Array.from({ length: 30 }, (_, i) => `${i + 2} k${i}`));
  expect(readHeader(watch.received[0]!).revision).toBe(1);
});

test('whoever has added a member sees it in the list, though the member that is read from lags', () => {
  const { cluster } = started(83);
  const leader = cluster.waitForLeader();
  const behind = cluster.nodes.find((node) => node !== leader)!;
  const gateway = new SimGateway(cluster, 'g1', { homeUrl: `http://${behind.name}:2380` });
  cluster.run(500);
  const members = (): number =>
    fields(gateway.call('/etcdserverpb.Cluster/MemberList', new Uint8Array(0)).body, 18).length;
  expect(members()).toBe(3);
  for (const node of cluster.nodes) cluster.network.setLink(node.name, behind.name, { delayMs: 300 });
  // MemberAddRequest{peer_urls, is_learner}
  const url = new TextEncoder().encode('http://new:2380');
  const add = new Uint8Array([10, url.length, ...url, 16, 1]);
  expect(gateway.call('/etcdserverpb.Cluster/MemberAdd', add)).toMatchObject({ code: 0, message: '' });
  expect(members()).toBe(4);
  // And while nobody leads, what this member has.
  for (const node of cluster.nodes) if (node !== behind) cluster.crash(node);
  expect(members()).toBe(4);
});
