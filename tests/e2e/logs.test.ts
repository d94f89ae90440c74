/** Logs of a real process: slow requests with where their time went, levels at run time, a log disk that is full. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Client } from '@quoin/client';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { Child } from '../support/child.ts';
import { freePorts } from '../support/ports.ts';
import { scrape, sumOf } from '../support/scrape.ts';

const dir = mkdtempSync(join(tmpdir(), 'quoin-logs-'));
let child: Child;
let client: Client;
let metricsUrl: string;

type Line = Readonly<Record<string, unknown>> & { readonly level: string; readonly msg: string };

const lines = (): Line[] =>
  child.logs().flatMap((line) => (line.startsWith('{') ? [JSON.parse(line) as Line] : []));

const find = (msg: RegExp, from = 0): Line | undefined =>
  lines()
    .slice(from)
    .find((line) => msg.test(line.msg));

beforeAll(async () => {
  const [clients, peers, metrics] = await freePorts(3);
  metricsUrl = `http://127.0.0.1:${metrics}`;
  child = new Child({
    name: 'quoin',
    script: 'apps/quoin/src/main.ts',
    args: [
      `--data-dir=${join(dir, 'data')}`,
      `--listen-client-urls=http://127.0.0.1:${clients}`,
      `--advertise-client-urls=http://127.0.0.1:${clients}`,
      `--listen-peer-urls=http://127.0.0.1:${peers}`,
      `--initial-advertise-peer-urls=http://127.0.0.1:${peers}`,
      `--initial-cluster=default=http://127.0.0.1:${peers}`,
      `--listen-metrics-urls=${metricsUrl}`,
      '--log-outputs=stderr,/dev/full',
      // Every request is slow.
      '--warning-unary-request-duration=1us',
    ],
    readyText: 'ready to serve client requests',
  });
  child.start();
  await child.ready(30_000);
  client = new Client({ endpoints: [`127.0.0.1:${clients}`] });
}, 60_000);

afterAll(async () => {
  client?.close();
  await child?.stop();
  rmSync(dir, { recursive: true, force: true });
});

test('a full log disk fails no request, and costs one warning', async () => {
  for (let i = 0; i < 200; i++) await client.kv.put(`/k/${i}`, 'x');
  expect((await client.kv.get('/k/199')).kvs).toHaveLength(1);
  await expect.poll(() => find(/^the log \/dev\/full cannot be written: ENOSPC/)).toBeDefined();
  expect(lines().filter(({ msg }) => msg.startsWith('the log /dev/full'))).toHaveLength(1);
});

test('a slow write says where its time went, and its steps are all of it', async () => {
  await client.kv.put('/slow', 'x');
  await expect.poll(() => find(/^slow request: the longest step/)).toBeDefined();
  const line = find(/^slow request: the longest step/)!;
  expect(line).toMatchObject({ level: 'warn', method: 'put', 'expected-duration-ms': 0.001 });
  const steps = ['queue-ms', 'fsync-ms', 'replication-ms', 'apply-wait-ms', 'apply-ms'].map(
    (step) => line[step] as number,
  );
  for (const step of steps) expect(step).toBeGreaterThanOrEqual(0);
  expect(steps.reduce((sum, step) => sum + step, 0)).toBeCloseTo(line['duration-ms'] as number, 6);
  expect(find(/^slow request: the log of the leader/)).toMatchObject({
    rpc: '/etcdserverpb.KV/Put',
    code: 'OK',
    remote: expect.stringMatching(/^127\.0\.0\.1:\d+$/),
  });
  expect(find(/^slow read: /)).toMatchObject({ method: 'range', 'agreement-ms': expect.any(Number) });
  // Hundreds of requests were slow, and few lines say so.
  expect(lines().filter(({ msg }) => msg.startsWith('slow')).length).toBeLessThan(20);
});

test('the level changes by a signal and by a request, and the next lines follow it', async () => {
  process.kill(child.pid!, 'SIGUSR2');
  await expect.poll(() => find(/^log level changed/)).toMatchObject({ from: 'info', to: 'debug' });
  const put = await fetch(`${metricsUrl}/config/local/log`, { method: 'PUT', body: '{"Level":"error"}' });
  expect(put.status).toBe(204);
  await expect.poll(() => lines().filter(({ msg }) => msg === 'log level changed')).toHaveLength(2);
  const before = lines().length;
  for (let i = 0; i < 50; i++) await client.kv.put('/quiet', 'x');
  expect(lines().length).toBe(before);
  expect(sumOf(await scrape(metricsUrl), 'quoin_log_lines_total', { level: 'warn' })).toBeGreaterThan(0);
});
