/** How gateways find members, members each other, and clients the gateways, with real processes. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Client } from '@quoin/client';
import { afterAll, afterEach, describe, expect, test } from 'vitest';
import { Child } from '../support/child.ts';
import { startCluster } from '../support/cluster.ts';
import { WriteLoad } from '../support/load.ts';
import { freePorts } from '../support/ports.ts';
import { DnsServer } from './dns-server.ts';

const dir = mkdtempSync(join(tmpdir(), 'quoin-discovery-'));
const ending: (() => unknown)[] = [];
afterEach(async () => {
  for (const end of ending.splice(0).reverse()) await end();
});
afterAll(() => rmSync(dir, { recursive: true, force: true }));

const readyText = 'ready to serve client requests';
const readyMs = 30_000;

function start(role: 'member' | 'gateway', name: string, args: readonly string[], env = {}): Child {
  const child = new Child({
    name,
    script: `apps/${role}/src/main.ts`,
    args: [`--name=${name}`, ...args],
    env,
    readyText,
  });
  ending.push(() => child.stop());
  child.start();
  return child;
}

/** Membership changes one at a time: who asks during one is told to come again, as with etcd. */
async function change<T>(ask: () => Promise<T>): Promise<T> {
  for (let tries = 0; ; tries++) {
    try {
      return await ask();
    } catch (error) {
      const again = /too many requests|unhealthy cluster|not enough started members/;
      if (tries === 100 || !again.test((error as Error).message)) throw error;
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }
}

test('all three members are replaced under load while one gateway runs', async () => {
  const cluster = await startCluster({ members: 3, gateways: 1 });
  ending.push(() => cluster.stop());
  const [endpoint] = cluster.endpoints as [string];
  const client = new Client({ endpoints: [endpoint], timeoutMs: 15_000 });
  ending.push(() => client.close());
  const load = new WriteLoad([endpoint], 4);
  ending.push(() => load.stop());
  const gatewayPid = cluster.gateways[0]!.pid;
  for (const [i, old] of cluster.members.entries()) {
    const name = `n${i + 1}`;
    const [port] = (await freePorts(1)) as [number];
    const peer = `http://127.0.0.1:${port}`;
    const { members } = await client.cluster.memberList();
    const leaving = members.find((member) => member.peerURLs.includes(old.peerUrl))!;
    await change(() => client.cluster.memberRemove(leaving.ID));
    await old.stop();
    const added = await change(() => client.cluster.memberAdd([peer]));
    const initial = added.members
      .map((member) => `${member.ID === added.member!.ID ? name : member.name}=${member.peerURLs[0]}`)
      .join(',');
    const child = start('member', name, [
      `--data-dir=${join(dir, name)}`,
      `--listen-peer-urls=${peer}`,
      `--initial-advertise-peer-urls=${peer}`,
      `--initial-cluster=${initial}`,
      '--initial-cluster-state=existing',
      '--initial-cluster-token=quoin-cluster',
    ]);
    await child.ready(readyMs);
  }
  const before = load.count;
  await expect.poll(() => load.count, { timeout: 10_000 }).toBeGreaterThan(before + 20);
  await load.stop();
  expect(cluster.gateways[0]!.pid).toBe(gatewayPid);
  expect(await load.lost(endpoint)).toEqual([]);
  const { members } = await client.cluster.memberList();
  expect(members.map((member) => member.name).sort()).toEqual(['n1', 'n2', 'n3']);
  const opened = () => cluster.gateways[0]!.logs().filter((line) => line.includes('member link open')).length;
  await expect.poll(opened, { timeout: 10_000 }).toBeGreaterThanOrEqual(6);
}, 120_000);

test('MemberList names the gateways that are there, for clients that synchronise their endpoints', async () => {
  const cluster = await startCluster({ members: 3, gateways: 2, gatewaysAdvertise: true });
  ending.push(() => cluster.stop());
  const [first, second] = cluster.gateways as [(typeof cluster.gateways)[0], (typeof cluster.gateways)[0]];
  const client = new Client({ endpoints: [first.endpoint] });
  ending.push(() => client.close());
  const urls = async () => (await client.cluster.memberList()).members.map((member) => member.clientURLs);
  const both = [first.url, second.url].sort();
  await expect.poll(urls, { timeout: 10_000 }).toEqual([both, both, both]);
  await second.stop();
  await expect.poll(urls, { timeout: 10_000 }).toEqual([[first.url], [first.url], [first.url]]);
  second.start();
  await expect.poll(urls, { timeout: 20_000 }).toEqual([both, both, both]);
  // One that was added and has not started shows nothing, as with etcd.
  const added = await client.cluster.memberAdd(['http://127.0.0.1:1'], { learner: true });
  const { members } = await client.cluster.memberList();
  expect(members.find((member) => member.ID === added.member!.ID)!.clientURLs).toEqual([]);
});

describe('SRV records', () => {
  const domain = 'quoin.test';
  const name = '_etcd-server-blue._tcp.quoin.test';

  async function names(): Promise<{ server: DnsServer; env: Record<string, string> }> {
    const server = new DnsServer();
    const address = await server.start();
    ending.push(() => server.stop());
    const preload = join(import.meta.dirname, 'use-dns.mjs');
    return { server, env: { TEST_DNS: address, NODE_OPTIONS: `--import=${preload}` } };
  }

  const srv = [`--discovery-srv=${domain}`, '--discovery-srv-name=blue'];

  function member(i: number, port: number, env: Record<string, string>): Child {
    const url = `http://localhost:${port}`;
    return start(
      'member',
      `s${i}`,
      [
        `--data-dir=${join(dir, `s${i}`)}`,
        `--listen-peer-urls=${url}`,
        `--initial-advertise-peer-urls=${url}`,
        ...srv,
      ],
      env,
    );
  }

  test('make a cluster of members and lead a gateway to it, also once all have moved', async () => {
    const { server, env } = await names();
    const ports = await freePorts(4);
    const [clientPort, ...peers] = ports as [number, number, number, number];
    // The gateway is there first: it asks until there are members.
    const gateway = start(
      'gateway',
      'g',
      [`--listen-client-urls=http://127.0.0.1:${clientPort}`, ...srv],
      env,
    );
    await expect
      .poll(() => gateway.logs().join('\n'), { timeout: 10_000 })
      .toContain('SRV records cannot be had');
    server.records.set(
      name,
      peers.map((port) => ({ target: 'localhost', port })),
    );
    const members = peers.map((port, i) => member(i, port, env));
    await Promise.all([...members, gateway].map((child) => child.ready(readyMs)));
    const client = new Client({ endpoints: [`127.0.0.1:${clientPort}`] });
    ending.push(() => client.close());
    await client.kv.put('found', 'by name');
    const listed = (await client.cluster.memberList()).members;
    expect(listed.map((each) => each.name).sort()).toEqual(['s0', 's1', 's2']);
    // A restart does not ask: the directory knows.
    server.records.clear();
    await members[0]!.stop();
    const asked = server.asked;
    members[0]!.start();
    await members[0]!.ready(readyMs);
    expect(server.asked).toBe(asked);
  }, 90_000);

  test('that do not lead here, or are not there, end a member with one line', async () => {
    const { server, env } = await names();
    const [port, other] = (await freePorts(2)) as [number, number];
    const none = member(7, port, env);
    await expect(none.ready(readyMs)).rejects.toThrow(
      'no members by --discovery-srv: _etcd-server-ssl-blue._tcp.quoin.test: ENOTFOUND, _etcd-server-blue._tcp.quoin.test: ENOTFOUND',
    );
    server.records.set(name, [{ target: 'localhost', port: other }]);
    const elsewhere = member(8, port, env);
    await expect(elsewhere.ready(readyMs)).rejects.toThrow(
      'cannot find local etcd member "s8" in SRV records',
    );
  });
});
