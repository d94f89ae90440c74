/** How a gateway lets go of its clients: at a stop, and of connections that are old. */
import { mkdtempSync, rmSync } from 'node:fs';
import { connect } from 'node:http2';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Client } from '@quoin/client';
import { afterEach, expect, test } from 'vitest';
import { Child } from '../support/child.ts';
import { type Cluster, startCluster } from '../support/cluster.ts';
import { freePorts } from '../support/ports.ts';

let cluster: Cluster | undefined;
const closers: (() => unknown)[] = [];
afterEach(async () => {
  await cluster?.stop();
  cluster = undefined;
  for (const close of closers.splice(0).reverse()) await close();
});

/** All roles in one process, with its metrics on the last of `ports`. */
function quoin(ports: readonly number[], ...more: string[]): Child {
  const dir = mkdtempSync(join(tmpdir(), 'quoin-draining-'));
  closers.push(() => rmSync(dir, { recursive: true, force: true }));
  const [client, peer, metrics] = ports.map((port) => `http://127.0.0.1:${port}`);
  const args = [
    `--data-dir=${dir}`,
    `--listen-client-urls=${client}`,
    `--advertise-client-urls=${client}`,
    `--listen-peer-urls=${peer}`,
    `--initial-advertise-peer-urls=${peer}`,
    `--initial-cluster=default=${peer}`,
    `--listen-metrics-urls=${metrics}`,
    ...more,
  ];
  const readyText = 'ready to serve client requests';
  const child = new Child({ name: 'quoin', script: 'apps/quoin/src/main.ts', args, readyText });
  closers.push(() => child.stop());
  child.start();
  return child;
}

const start = async (...gatewayArgs: string[]): Promise<Cluster> => {
  cluster = await startCluster({ members: 1, gateways: 1, gatewayArgs });
  return cluster;
};

/** A bare HTTP/2 connection with one stream that stays open, and what becomes of them. */
function hold(url: string) {
  const session = connect(url);
  const seen = { goAwayMs: Number.NaN, closedMs: Number.NaN };
  const sinceMs = performance.now();
  session.on('error', () => {});
  session.on('goaway', () => {
    seen.goAwayMs = performance.now() - sinceMs;
  });
  session.on('close', () => {
    seen.closedMs = performance.now() - sinceMs;
  });
  const stream = session.request({
    ':method': 'POST',
    ':path': '/etcdserverpb.Watch/Watch',
    'content-type': 'application/grpc',
    te: 'trailers',
  });
  stream.on('error', () => {});
  return { session, seen };
}

/** A watch of the JSON API over HTTP/1.1. Resolves when it was cut. */
async function jsonWatch(url: string): Promise<void> {
  const body = JSON.stringify({ create_request: { key: 'aw==' } });
  const reader = (await fetch(`${url}/v3/watch`, { method: 'POST', body })).body!.getReader();
  const read = async (): Promise<void> => {
    while (!(await reader.read()).done);
    throw new Error('the watch was ended, not cut');
  };
  await expect(read()).rejects.toThrow('terminated');
}

test('a stop: not ready at once, serving for the delay, then gone', async () => {
  const { gateways, endpoints } = await start('--shutdown-delay=3s');
  const [gateway] = gateways;
  const client = new Client({ endpoints });
  try {
    await client.kv.put('a', 'b');
    const ready = async () => (await fetch(`${gateway!.url}/readyz?verbose`)).text();
    expect(await ready()).toContain('[+]load ok');
    const { seen } = hold(gateway!.url);
    const gone = gateway!.stop();
    await expect.poll(ready, { timeout: 2_500 }).toContain('[-]load failed: the gateway stops');
    // Whoever has not noticed yet is served.
    await client.kv.put('a', 'c');
    expect(seen.goAwayMs).toBeNaN();
    expect(await gone).toBe('exit code 0');
    await expect.poll(() => seen.goAwayMs, { timeout: 5_000 }).toBeGreaterThan(2_000);
  } finally {
    client.close();
  }
}, 60_000);

test('a stop of all roles in one process: its metrics port says so, too, as long as it serves', async () => {
  const ports = await freePorts(3);
  const node = quoin(ports, '--shutdown-delay=5s');
  await node.ready(30_000);
  const ready = async (port: number) => (await fetch(`http://127.0.0.1:${port}/readyz`)).status;
  expect(await ready(ports[2]!)).toBe(200);
  const gone = node.stop(30_000);
  await expect.poll(() => ready(ports[0]!), { timeout: 4_500 }).toBe(503);
  expect(await ready(ports[2]!)).toBe(503);
  expect(await gone).toBe('exit code 0');
}, 60_000);

test('a start that fails does not wait for clients that it never had', async () => {
  const ports = await freePorts(3);
  const holder = createServer();
  await new Promise<void>((resolve) => holder.listen(ports[2], '127.0.0.1', resolve));
  closers.push(() => holder.close());
  const node = quoin(ports, '--shutdown-delay=1h');
  await expect(node.ready(30_000)).rejects.toThrow('address already in use');
}, 60_000);

test('an old connection is asked to move on, and cut after the grace; clients and watches do not notice', async () => {
  const { gateways, endpoints } = await start('--max-connection-age=1s', '--max-connection-age-grace=1s');
  const client = new Client({ endpoints });
  try {
    const { seen } = hold(gateways[0]!.url);
    const streamed = jsonWatch(gateways[0]!.url);
    const watcher = client.watch.watch('k');
    await watcher.created;
    const revisions: bigint[] = [];
    const reading = (async () => {
      for await (const { events } of watcher) for (const { kv } of events) revisions.push(kv!.modRevision);
    })();
    const untilMs = performance.now() + 6_000;
    let puts = 0;
    while (performance.now() < untilMs) {
      await client.kv.put('k', String(puts++));
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    await expect.poll(() => revisions.length, { timeout: 10_000 }).toBe(puts);
    expect(new Set(revisions).size).toBe(puts);
    watcher.cancel();
    await reading;
    await streamed;
    // The age varies by a tenth; when a busy machine gets to it is another matter.
    expect(seen.goAwayMs).toBeGreaterThan(800);
    expect(seen.closedMs).toBeGreaterThan(seen.goAwayMs + 800);
  } finally {
    client.close();
  }
}, 60_000);
