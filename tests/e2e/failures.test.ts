/** What is killed comes back, and nothing that was acknowledged is lost: real processes, SIGKILL, default timeouts. */
import { Client } from '@quoin/client';
import { afterEach, expect, test } from 'vitest';
import { type Cluster, startCluster } from '../support/cluster.ts';
import { longestGapMs, WriteLoad } from '../support/load.ts';
import { leaderOf, memberContents } from '../support/state.ts';

let cluster: Cluster | undefined;
let load: WriteLoad | undefined;

afterEach(async () => {
  await load?.stop();
  await cluster?.stop();
  load = undefined;
  cluster = undefined;
});

const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

async function writesGoOn(of: WriteLoad, timeoutMs = 30_000): Promise<void> {
  const before = of.count;
  await expect.poll(() => of.count, { timeout: timeoutMs, interval: 50 }).toBeGreaterThan(before + 50);
}

async function membersAgree(of: Cluster): Promise<void> {
  await expect
    .poll(
      async () =>
        new Set(
          (await Promise.all(of.members.map((m) => memberContents(m.peerUrl)))).map(
            (c) => `${c.revision} ${c.digest}`,
          ),
        ).size,
      {
        timeout: 30_000,
        interval: 300,
      },
    )
    .toBe(1);
}

test('the leader is killed under load: no acknowledged write is lost, writes resume, it comes back equal', async () => {
  cluster = await startCluster({ members: 3, gateways: 2 });
  load = new WriteLoad(cluster.endpoints, 16);
  await writesGoOn(load);
  const leader = await leaderOf(cluster.members.map((m) => m.peerUrl));
  const killedAtMs = performance.now();
  await cluster.kill(leader);
  await writesGoOn(load);
  await sleep(1_000);
  await cluster.restart(leader);
  await writesGoOn(load);
  await load.stop();
  const gap = longestGapMs(load.acknowledgedAtMs, killedAtMs);
  process.stdout.write(
    `leader killed: ${load.count} writes acknowledged, longest pause ${gap.toFixed(0)} ms, errors ${JSON.stringify([...load.errors])}\n`,
  );
  // What a client may see of a mutation whose outcome is unknown, in etcd's words.
  for (const text of load.errors.keys())
    expect(text).toMatch(
      /etcdserver: (request timed out|no leader|leader changed)|Unavailable|DeadlineExceeded|connection/i,
    );
  for (const endpoint of cluster.endpoints) expect(await load.lost(endpoint)).toEqual([]);
  await membersAgree(cluster);
}, 120_000);

test('everything is killed at once and restarted: all acknowledged writes are there', async () => {
  cluster = await startCluster({ members: 3, gateways: 2 });
  load = new WriteLoad(cluster.endpoints, 16);
  await writesGoOn(load);
  await sleep(1_000);
  await Promise.all([...cluster.members, ...cluster.gateways].map((child) => child.kill('SIGKILL')));
  await load.stop();
  for (const child of [...cluster.members, ...cluster.gateways]) child.start();
  await Promise.all([...cluster.members, ...cluster.gateways].map((child) => child.ready(30_000)));
  expect(load.acknowledged.size).toBeGreaterThan(50);
  expect(await load.lost(cluster.endpoints[0]!)).toEqual([]);
  await membersAgree(cluster);
}, 120_000);

test('a follower that stopped past log compaction catches up by snapshot while writes go on', async () => {
  cluster = await startCluster({
    members: 3,
    gateways: 2,
    memberArgs: ['--snapshot-count=100', '--snapshot-catchup-entries=50'],
  });
  load = new WriteLoad(cluster.endpoints, 8);
  await writesGoOn(load);
  const leader = await leaderOf(cluster.members.map((m) => m.peerUrl));
  const follower = (leader + 1) % 3;
  await cluster.kill(follower);
  const client = new Client({ endpoints: cluster.endpoints });
  try {
    const behind = (await client.kv.get('a')).header!.revision;
    // Far more turns than the log keeps: each of these is at least one entry after the other.
    for (let i = 0; i < 1_000; i++) await client.kv.put(`sequence/${i % 10}`, String(i));
    expect((await client.kv.get('a')).header!.revision).toBeGreaterThan(behind + 1_000n);
  } finally {
    client.close();
  }
  await cluster.restart(follower);
  await writesGoOn(load);
  await load.stop();
  await membersAgree(cluster);
  expect(cluster.members[follower]!.logs().join('\n')).toMatch(/snapshot/i);
  const metrics = await (await fetch(`${cluster.members[follower]!.metricsUrl}/metrics`)).text();
  expect(metrics).toMatch(/^etcd_network_snapshot_receive_success\{[^}]*\} [1-9]/m);
  expect(await load.lost(cluster.endpoints[1]!)).toEqual([]);
}, 120_000);

test('gateways are killed and come back: the other one serves, clients go on', async () => {
  cluster = await startCluster({ members: 3, gateways: 2 });
  const { gateways } = cluster;
  load = new WriteLoad(cluster.endpoints, 8);
  const client = new Client({ endpoints: cluster.endpoints });
  const seen: number[] = [];
  const watcher = client.watch.watch('w/', { prefix: true });
  await watcher.created;
  const reading = (async () => {
    for await (const { events } of watcher)
      for (const event of events) seen.push(Number(Buffer.from(event.kv!.value)));
  })();
  let n = 0;
  const put = async (): Promise<void> => {
    // A put that failed may have happened: its number is not used again.
    await client.kv.put('w/k', String(n++)).catch(() => {});
  };
  for (const i of [0, 1]) {
    await writesGoOn(load);
    for (let k = 0; k < 20; k++) await put();
    await gateways[i]!.kill('SIGKILL');
    for (let k = 0; k < 20; k++) await put();
    await writesGoOn(load);
    gateways[i]!.start();
    await gateways[i]!.ready(30_000);
  }
  await load.stop();
  const last = n;
  await client.kv.put('w/k', String(last));
  await expect.poll(() => seen.at(-1), { timeout: 20_000 }).toBe(last);
  watcher.cancel();
  await reading;
  // In order, each once: what the watch saw is the history of the key.
  expect(seen).toEqual([...new Set(seen)].sort((a, b) => a - b));
  const { kvs } = await client.kv.get('w/k');
  expect(BigInt(seen.length)).toBe(kvs[0]!.version);
  client.close();
  expect(await load.lost(cluster.endpoints[0]!)).toEqual([]);
}, 120_000);
