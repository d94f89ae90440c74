import { decodeSnapshotChunk, encodeBackupRequest, Method, type SnapshotChunk } from '@quoin/contracts';
import { SimCluster as Cluster, etcd, SimClient, type SimCluster, type SimNode } from '@quoin/sim';
import { expect, test } from 'vitest';
import { expectEqualStates, started } from './cluster-support.ts';

const { putRequest, rangeRequest, readKvs } = etcd;

/** Reads a whole backup over a link, giving credit as chunks come. */
function backup(cluster: SimCluster, client: SimClient, node: SimNode): SnapshotChunk[] {
  const chunks: SnapshotChunk[] = [];
  let done = false;
  client.linkTo(node).request(
    Method.backup,
    encodeBackupRequest({ windowBytes: 2_000 }),
    (answer) => {
      if (answer.kind === 'ok') chunks.push(decodeSnapshotChunk(answer.body));
      done = true;
    },
    { onPart: (body) => void chunks.push(decodeSnapshotChunk(body)) },
  );
  expect(cluster.runUntil(() => done, 30_000)).toBe(true);
  return chunks;
}

function all(client: SimClient, revision = 0): string[] {
  const kvs = readKvs(client.ok(Method.range, rangeRequest('a', { end: 'z', revision })));
  return kvs.map(
    (kv) => `${kv.key}=${kv.value} ${kv.createRevision} ${kv.modRevision} ${kv.version} ${kv.lease}`,
  );
}

test('a backup taken from a follower under load restores into a new cluster that equals the old one', () => {
  const { cluster, client } = started(40, 3, { snapshotChunkBytes: 1_000 });
  client.ok(Method.leaseGrant, etcd.leaseGrantRequest(1_000, 9n));
  client.ok(Method.put, putRequest('leased', 'v', { lease: 9n }));
  for (let i = 0; i < 100; i++) client.ok(Method.put, putRequest(`k${i % 40}`, `${i} ${'x'.repeat(50)}`));
  let stopped = false;
  const write = (): void => {
    if (!stopped) client.request(Method.put, putRequest('moving', 'x'), () => client.host.enqueue(1, write));
  };
  write();
  cluster.run(20);
  const follower = cluster.nodes.find((node) => node !== cluster.waitForLeader())!;
  const chunks = backup(cluster, client, follower);
  stopped = true;
  expect(chunks.length).toBeGreaterThan(5);
  const { revision } = chunks[0]!.header!;

  const fresh = new Cluster({ seed: 41, clusterToken: 'restored' });
  const summaries = fresh.nodes.map((node) => fresh.restore(node, chunks));
  expect(new Set(summaries.map((s) => s.clusterId)).size).toBe(1);
  expect(summaries[0]!.clusterId).not.toBe(cluster.nodes[0]!.member!.clusterId);
  expect(summaries[0]!.revision).toBe(revision);
  fresh.start();
  const reader = new SimClient(fresh, 'reader');
  fresh.waitForLeader();
  fresh.run(500);
  expect(all(reader)).toEqual(all(client, revision));
  expect(etcd.fields(reader.ok(Method.leaseLeases, new Uint8Array(0)), 18).length).toBe(1);
  // It lives: writes go on from the revision of the backup.
  const put = reader.ok(Method.put, putRequest('a', 'new'));
  expect(etcd.readHeader(put).revision).toBe(revision + 1);
  fresh.run(2_000);
  expectEqualStates(fresh);
});

test('a damaged, reordered or cut backup is refused', () => {
  const { cluster, client } = started(42, 1, { snapshotChunkBytes: 500 });
  for (let i = 0; i < 50; i++) client.ok(Method.put, putRequest(`k${i}`, 'x'.repeat(50)));
  const chunks = backup(cluster, client, cluster.nodes[0]!);
  const restore = (seed: number, damaged: SnapshotChunk[]): void => {
    const fresh = new Cluster({ seed, members: 1 });
    fresh.restore(fresh.nodes[0]!, damaged);
  };
  const second = chunks[1]!;
  const flipped = second.pairs.map((bytes) => bytes.slice());
  flipped[1]![0]! ^= 1;
  expect(() => restore(43, [chunks[0]!, { ...second, pairs: flipped }, ...chunks.slice(2)])).toThrow(
    'checksum',
  );
  expect(() => restore(44, [chunks[0]!, ...chunks.slice(2)])).toThrow('instead of');
  expect(() => restore(45, chunks.slice(0, -1))).toThrow('not whole');
  expect(() => restore(46, chunks.slice(1))).toThrow('no header');
  expect(() => restore(47, chunks)).not.toThrow();
});

test('a reader that takes nothing more is told so after a minute; one that only pauses goes on', () => {
  const { cluster, client } = started(43, 1, { snapshotChunkBytes: 1_000, streamWindowBytes: 2_000 });
  for (let i = 0; i < 200; i++) client.ok(Method.put, putRequest(`k${i}`, 'x'.repeat(100)));
  const node = cluster.waitForLeader();
  const link = client.linkTo(node);
  const ended = new Map<string, string>();
  const read = (name: string, method: Method, body: Uint8Array): number =>
    link.request(
      method,
      body,
      (answer) => ended.set(name, answer.kind === 'error' ? answer.message : answer.kind),
      { timeoutMs: 600_000, onPart: () => false },
    );
  read('backup', Method.backup, encodeBackupRequest({ windowBytes: 2_000 }));
  read('snapshot', Method.snapshot, new Uint8Array(0));
  const paused = read('paused', Method.backup, encodeBackupRequest({ windowBytes: 2_000 }));
  for (let i = 0; i < 3; i++) {
    cluster.run(50_000);
    expect(ended.has('paused')).toBe(false);
    link.credit(paused, false, 2_000);
  }
  expect([...ended].sort()).toEqual([
    ['backup', 'etcdserver: the backup was given up: its reader has taken nothing for 60 s'],
    ['snapshot', 'etcdserver: the snapshot was given up: its reader has taken nothing for 60 s'],
  ]);
  link.credit(paused, false, 1 << 20);
  cluster.run(1_000);
  expect(ended.get('paused')).toBe('ok');
}, 20_000);
