import { Method } from '@quoin/contracts';
import { etcd, SimClient, SimCluster } from '@quoin/sim';
import { expect, test } from 'vitest';

const { putRequest, rangeRequest, readHeader, readKvs } = etcd;

function started(seed: number, members = 3, limits = {}): { cluster: SimCluster; client: SimClient } {
  const log = process.env['SIM_LOG'] === undefined ? undefined : (line: string) => console.log(line);
  const cluster = new SimCluster({ seed, members, limits, ...(log === undefined ? {} : { log }) });
  cluster.start();
  return { cluster, client: new SimClient(cluster, 'client') };
}

test('one member: put and get', () => {
  const { cluster, client } = started(1, 1);
  cluster.waitForLeader();
  const put = client.ok(Method.put, putRequest('a', '1'));
  expect(readHeader(put).revision).toBe(2);
  const range = client.ok(Method.range, rangeRequest('a'));
  expect(readKvs(range)).toEqual([
    { key: 'a', value: '1', createRevision: 2, modRevision: 2, version: 1, lease: 0n },
  ]);
});

test('three members: put at the leader, get through any', () => {
  const { cluster, client } = started(2);
  cluster.waitForLeader();
  for (let i = 0; i < 20; i++) client.ok(Method.put, putRequest(`k${i}`, `v${i}`));
  for (const node of cluster.nodes) {
    const kvs = readKvs(client.ok(Method.range, rangeRequest('k', { end: 'l' }), node));
    expect(kvs.length).toBe(20);
  }
  cluster.settle();
  const hashes = cluster.stateHashes();
  expect(new Set(hashes.map((h) => h.hash)).size).toBe(1);
});
