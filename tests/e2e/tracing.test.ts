/** One put through gateway 2 while member 1 leads arrives at a collector as one trace over three kinds of processes. */
import { Client } from '@quoin/client';
import { afterAll, expect, test } from 'vitest';
import { type Cluster, startCluster } from '../support/cluster.ts';
import { type CollectedSpan, Collector } from '../support/collector.ts';

const collector = new Collector();
let cluster: Cluster | undefined;

afterAll(async () => {
  await cluster?.stop();
  collector.stop();
});

const flags = (): string[] => [
  '--enable-distributed-tracing',
  `--distributed-tracing-address=${collector.address}`,
  '--distributed-tracing-sampling-rate=1000000',
];

test('gateway, leader and followers in one trace, with parents that are there and times that nest', async () => {
  await collector.start();
  cluster = await startCluster({ members: 3, gateways: 2, memberArgs: flags(), gatewayArgs: flags() });
  const client = new Client({ endpoints: [cluster.endpoints[1]!] });
  try {
    await client.kv.put('traced', 'x');
    await client.kv.get('traced');
  } finally {
    client.close();
  }
  const traceOf = (name: RegExp): CollectedSpan[] => {
    const root = collector.spans.find((s) => s.service.includes('gateway') && name.test(s.name));
    return root === undefined ? [] : collector.spans.filter((s) => s.traceId === root.traceId);
  };
  const processes = (spans: readonly CollectedSpan[]): number =>
    new Set(spans.map((s) => `${s.service}/${s.instance}`)).size;
  // The exporter sends in batches.
  await expect.poll(() => processes(traceOf(/Put$/)), { timeout: 30_000, interval: 200 }).toBe(4);
  const put = traceOf(/Put$/);
  const known = new Set(put.map((s) => s.spanId));
  const roots = put.filter((s) => s.parentId === '');
  expect(roots).toHaveLength(1);
  expect(roots[0]!.service).toContain('gateway');
  expect(roots[0]!.instance).toBe('g2');
  const gatewaySpans = put.filter((s) => s.service.includes('gateway')).map((s) => s.name);
  expect(gatewaySpans.sort()).toEqual(['etcdserverpb.KV/Put', 'gateway.route']);
  expect(put.filter((s) => s.parentId !== '' && !known.has(s.parentId))).toEqual([]);
  for (const span of put) expect(span.endNs).toBeGreaterThanOrEqual(span.startNs);
  // Processes of one machine share a clock, up to its resolution; followers may go on after the client has its answer.
  const slackNs = 5_000_000n;
  for (const span of put) expect(span.startNs + slackNs).toBeGreaterThanOrEqual(roots[0]!.startNs);
  await expect
    .poll(() => processes(traceOf(/Range$/)), { timeout: 30_000, interval: 200 })
    .toBeGreaterThanOrEqual(2);
  process.stdout.write(`trace of one put: ${put.map((s) => `${s.instance}:${s.name}`).join(', ')}\n`);
}, 90_000);

test('nothing is exported when tracing is off', async () => {
  collector.spans.length = 0;
  const off = await startCluster({
    members: 1,
    gateways: 1,
    env: { OTEL_EXPORTER_OTLP_ENDPOINT: `http://${collector.address}` },
  });
  const client = new Client({ endpoints: off.endpoints });
  try {
    await client.kv.put('untraced', 'x');
  } finally {
    client.close();
    await off.stop();
  }
  expect(collector.spans.filter((s) => /untraced/.test(s.name) || s.instance === 'g1')).toEqual([]);
}, 60_000);
