/**
 * The main job on real input: a real etcd full of objects shaped like Kubernetes' is copied by etcdctl make-mirror into
 * a Quoin cluster, while a follower is killed and comes back. Afterwards every key and value is equal on both sides and on
 * every member.
 */
import { Prng } from '@quoin/base';
import { Client, op } from '@quoin/client';
import { afterAll, describe, expect, test } from 'vitest';
import { type Cluster, startCluster } from '../support/cluster.ts';
import { hasEtcdctl, RunningEtcdctl } from '../support/etcdctl.ts';
import { contents, leaderOf, memberContents } from '../support/state.ts';
import { etcdBinary, hasEtcd, startEtcd, type TestServer } from '../support/test-server.ts';

const objects = 10_000;
const prefix = '/registry/';
const kinds = [
  'pods',
  'configmaps',
  'secrets',
  'events',
  'leases',
  'deployments',
  'services/specs',
  'minions',
];

/** Protobuf-like bytes: the magic, some text, some noise; mostly small, a few up to 50 KB. */
function objectBytes(random: Prng, n: number): Uint8Array {
  const length = random.chance(0.9) ? 500 + random.below(3_000) : 3_500 + random.below(46_500);
  const bytes = new Uint8Array(length);
  bytes.set(
    Buffer.from(`k8s\0{"apiVersion":"v1","metadata":{"name":"object-${n}","uid":"${random.u32()}"}}`),
  );
  for (let i = 120; i < length; i++) bytes[i] = i % 3 === 0 ? random.u32() & 0xff : 0x61 + (i % 26);
  return bytes;
}

const objectKey = (n: number): string =>
  `${prefix}${kinds[n % kinds.length]}/namespace-${n % 37}/object-${n}`;

async function fill(endpoint: string): Promise<void> {
  const client = new Client({ endpoints: [endpoint], timeoutMs: 60_000 });
  const random = new Prng(2026);
  try {
    for (let n = 0; n < objects; n += 20) {
      const puts = Array.from({ length: 20 }, (_, i) => op.put(objectKey(n + i), objectBytes(random, n + i)));
      await client.kv.txn({ success: puts });
    }
  } finally {
    client.close();
  }
}

if (!hasEtcd) process.stderr.write(`skipped: ${etcdBinary} is not installed; Debian's etcd-server has it\n`);

let etcd: TestServer | undefined;
let cluster: Cluster | undefined;
let mirror: RunningEtcdctl | undefined;

describe.runIf(hasEtcd && hasEtcdctl)('make-mirror from a real etcd', () => {
  afterAll(async () => {
    await mirror?.stop();
    await Promise.all([etcd?.stop(), cluster?.stop()]);
  });

  test('every key and value arrives, on every member, although a follower is killed on the way', async () => {
    [etcd, cluster] = await Promise.all([startEtcd(), startCluster({ members: 3, gateways: 2 })]);
    const sourceEndpoint = etcd.endpoints[0]!;
    await fill(sourceEndpoint);
    // make-mirror writes to the endpoints of its destination; here to both gateways.
    mirror = new RunningEtcdctl(
      [sourceEndpoint],
      ['make-mirror', '--prefix=/', '--no-dest-prefix=false', cluster.endpoints[0]!],
    );
    const client = new Client({ endpoints: cluster.endpoints, timeoutMs: 30_000 });
    try {
      const copied = async (): Promise<number> =>
        Number((await client.kv.get(prefix, { prefix: true, countOnly: true })).count);
      await expect.poll(copied, { timeout: 60_000, interval: 50 }).toBeGreaterThan(objects / 10);
      // Not the leader: a put that was under way to it has an unknown outcome, and make-mirror ends at its first error.
      const killed = ((await leaderOf(cluster.members.map((m) => m.peerUrl))) + 1) % 3;
      await cluster.kill(killed);
      await expect.poll(copied, { timeout: 60_000, interval: 50 }).toBeGreaterThan(objects / 2);
      expect(mirror.running, mirror.stderr).toBe(true);
      await cluster.restart(killed);
      await expect.poll(copied, { timeout: 120_000, interval: 200 }).toBe(objects);
      // The mirror follows: a change in the source arrives too.
      const source = new Client({ endpoints: [sourceEndpoint] });
      await source.kv.put(`${prefix}pods/late`, 'x');
      await source.kv.delete(objectKey(7));
      source.close();
      await expect
        .poll(async () => (await client.kv.get(`${prefix}pods/late`)).kvs.length, { timeout: 30_000 })
        .toBe(1);
      await expect
        .poll(async () => (await client.kv.get(objectKey(7))).kvs.length, { timeout: 30_000 })
        .toBe(0);
    } finally {
      client.close();
    }
    expect(mirror.running, mirror.stderr).toBe(true);
    const options = { prefix, revisions: false };
    const wanted = await contents(sourceEndpoint, options);
    expect(wanted.count).toBe(objects);
    for (const endpoint of cluster.endpoints)
      expect((await contents(endpoint, options)).digest).toBe(wanted.digest);
    for (const { peerUrl } of cluster.members) {
      await expect
        .poll(async () => (await memberContents(peerUrl, options)).digest, { timeout: 30_000, interval: 300 })
        .toBe(wanted.digest);
    }
    process.stdout.write(
      `mirrored ${wanted.count} objects from etcd with a follower killed on the way; all members equal\n`,
    );
  }, 240_000);
});
