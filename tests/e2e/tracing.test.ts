/**
 * Real processes, a real collector: one put through gateway 2 while member 1 leads is one trace over three kinds of
 * processes, and what many requests do at the same time stays in the trace of each.
 */
import { type AddressInfo, createServer } from 'node:net';
import { Client } from '@quoin/client';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type Cluster, startCluster } from '../support/cluster.ts';
import { type CollectedSpan, Collector, tracingFlags } from '../support/collector.ts';

const collector = new Collector();
let cluster: Cluster;
let client: Client;

beforeAll(async () => {
  await collector.start();
  const flags = tracingFlags(collector.address, everyone);
  cluster = await startCluster({ members: 3, gateways: 2, memberArgs: flags, gatewayArgs: flags });
  client = new Client({ endpoints: [cluster.endpoints[1]!] });
  const { members } = await client.cluster.memberList();
  const m1 = members.find((member) => member.name === 'm1')!.ID;
  if ((await client.maintenance.status()).leader !== m1) await client.maintenance.moveLeader(m1);
}, 90_000);

afterAll(async () => {
  client?.close();
  await cluster?.stop();
  collector.stop();
});

/** Every request is traced. */
const everyone = 1_000_000;

const isRoot = (name: string) => (span: CollectedSpan) =>
  span.name === name && span.kind === 2 && span.parentId === '';
const who = (span: CollectedSpan): string => `${span.service}/${span.instance}`;
const below = (spans: readonly CollectedSpan[], parent: CollectedSpan): CollectedSpan[] =>
  spans.filter((span) => span.parentId === parent.spanId);

/**
 * The first trace with such a root that has so many spans. The exporters send in batches: what an earlier test did may
 * arrive late, and has fewer.
 */
async function traceOf(name: string, spans: number): Promise<CollectedSpan[]> {
  let found: CollectedSpan[] = [];
  await expect
    .poll(
      () => {
        const traces = collector.spans.filter(isRoot(name)).map((root) => collector.trace(root.traceId));
        found = traces.find((trace) => trace.length >= spans) ?? traces.at(-1) ?? [];
        return found.length;
      },
      { timeout: 30_000, interval: 200 },
    )
    .toBeGreaterThanOrEqual(spans);
  return found;
}

/** Every span but the root has its parent in the trace, and begins after it; it ends before it, unless it is a consumer's. */
function expectNested(spans: readonly CollectedSpan[]): void {
  const byId = new Map(spans.map((span) => [span.spanId, span]));
  expect(byId.size).toBe(spans.length);
  expect(spans.filter((span) => span.parentId === '')).toHaveLength(1);
  // Clocks of processes on one machine, which each follow corrections of it on their own.
  const slackNs = 3_000_000n;
  for (const span of spans) {
    expect(span.endNs, span.name).toBeGreaterThanOrEqual(span.startNs);
    if (span.parentId === '') continue;
    const parent = byId.get(span.parentId);
    expect(parent, `${span.name} has no parent`).toBeDefined();
    const sameClock = who(span) === who(parent!) ? 1_000n : slackNs;
    expect(span.startNs + sameClock, `${span.name} in ${parent!.name}`).toBeGreaterThanOrEqual(
      parent!.startNs,
    );
    if (isAsync(span, byId)) continue;
    expect(span.endNs, `${span.name} in ${parent!.name}`).toBeLessThanOrEqual(parent!.endNs + sameClock);
  }
}

/** It works on what the request has left behind, which need not wait for it. */
function isAsync(span: CollectedSpan, byId: ReadonlyMap<string, CollectedSpan>): boolean {
  for (let at: CollectedSpan | undefined = span; at !== undefined; at = byId.get(at.parentId)) {
    if (at.kind === 5) return true;
  }
  return false;
}

test('a put through gateway 2 with leader 1: one trace from the call to every disk', async () => {
  collector.spans.length = 0;
  await client.kv.put('traced', 'x');
  const spans = await traceOf('etcdserverpb.KV/Put', 23);
  expectNested(spans);
  expect(new Set(spans.map(who))).toEqual(
    new Set(['quoin-gateway/g2', 'quoin-member/m1', 'quoin-member/m2', 'quoin-member/m3']),
  );
  const of = (process: string): string[] =>
    spans
      .filter((span) => span.instance === process)
      .map((span) => span.name)
      .sort();
  expect(of('g2')).toEqual([
    'etcdserverpb.KV/Put',
    'gateway.queue',
    'gateway.reply',
    'gateway.route',
    'link',
  ]);
  const leader = ['member.apply', 'member.put', 'raft.append', 'raft.commit', 'raft.propose', 'store.write'];
  expect(of('m1')).toEqual([...leader, 'wal.fsync', 'wal.write']);
  const follower = ['follower.append', 'member.apply', 'store.write', 'wal.fsync', 'wal.write'];
  expect(of('m2')).toEqual(follower);
  expect(of('m3')).toEqual(follower);
  const one = (name: string, process: string): CollectedSpan =>
    spans.find((span) => span.name === name && span.instance === process)!;
  const root = one('etcdserverpb.KV/Put', 'g2');
  const names = (parent: CollectedSpan): string[] =>
    below(spans, parent).map((span) => `${span.instance} ${span.name}`);
  expect(names(root).sort()).toEqual(['g2 gateway.reply', 'g2 gateway.route']);
  expect(names(one('gateway.route', 'g2')).sort()).toEqual(['g2 gateway.queue', 'g2 link']);
  expect(names(one('link', 'g2'))).toEqual(['m1 member.put']);
  expect(names(one('member.put', 'm1')).sort()).toEqual([
    'm1 member.apply',
    'm1 raft.append',
    'm1 raft.commit',
    'm1 raft.propose',
    'm2 follower.append',
    'm2 member.apply',
    'm3 follower.append',
    'm3 member.apply',
  ]);
  expect(names(one('raft.append', 'm1')).sort()).toEqual(['m1 wal.fsync', 'm1 wal.write']);
  expect(names(one('follower.append', 'm3')).sort()).toEqual(['m3 wal.fsync', 'm3 wal.write']);
  expect(names(one('member.apply', 'm2'))).toEqual(['m2 store.write']);
  // What the turn did as a whole is linked to it.
  const batches = collector.spans.filter((span) => span.links.some((link) => link.traceId === root.traceId));
  expect(batches.map((span) => `${span.instance} ${span.name}`).sort()).toEqual([
    'g2 link.batch',
    'm1 apply.batch',
    'm1 raft.batch',
    'm2 apply.batch',
    'm2 raft.batch',
    'm3 apply.batch',
    'm3 raft.batch',
  ]);
}, 60_000);

test('what a thousand puts at once do is in the trace of each, and nowhere else', async () => {
  collector.spans.length = 0;
  const count = 1_000;
  await Promise.all(Array.from({ length: count }, (_, i) => client.kv.put(`many/${i}`, String(i))));
  const roots = () => collector.spans.filter(isRoot('etcdserverpb.KV/Put'));
  await expect.poll(() => roots().length, { timeout: 60_000, interval: 200 }).toBe(count);
  const traces = new Map<string, CollectedSpan[]>();
  const sort = (): number => {
    traces.clear();
    for (const span of collector.spans) {
      const spans = traces.get(span.traceId);
      if (spans === undefined) traces.set(span.traceId, [span]);
      else spans.push(span);
    }
    return Math.min(...roots().map((root) => traces.get(root.traceId)!.length));
  };
  await expect.poll(sort, { timeout: 60_000, interval: 300 }).toBe(23);
  expect(new Set(roots().map((root) => root.traceId)).size).toBe(count);
  const shape = (spans: readonly CollectedSpan[]): string =>
    spans
      .map((span) => `${span.instance} ${span.name}`)
      .sort()
      .join(' ');
  const first = shape(traces.get(roots()[0]!.traceId)!);
  for (const root of roots()) {
    const spans = traces.get(root.traceId)!;
    expect(shape(spans)).toBe(first);
    expectNested(spans);
  }
  // Batches carried more than one, each links to sampled requests that are there.
  const batches = collector.spans.filter((span) => span.name === 'raft.batch');
  expect(Math.max(...batches.map((span) => span.links.length))).toBeGreaterThan(1);
  const known = new Set(roots().map((root) => root.traceId));
  for (const batch of batches) for (const link of batch.links) expect(known.has(link.traceId)).toBe(true);
}, 180_000);

test('a caller’s trace goes on, by gRPC’s metadata and by HTTP’s header', async () => {
  const traceId = '11f7651916cd43dd8448eb211c80319c';
  const response = await fetch(`${cluster.gateways[0]!.url}/v3/kv/put`, {
    method: 'POST',
    headers: { traceparent: `00-${traceId}-b7ad6b7169203331-01`, tracestate: 'v=1', baggage: 'tenant=t' },
    body: JSON.stringify({ key: Buffer.from('json').toString('base64'), value: 'eA==' }),
  });
  expect(response.status).toBe(200);
  await expect
    .poll(() => collector.trace(traceId).length, { timeout: 30_000, interval: 200 })
    .toBeGreaterThanOrEqual(23);
  const root = collector.trace(traceId).find((span) => span.kind === 2 && span.service === 'quoin-gateway')!;
  expect(root).toMatchObject({ parentId: 'b7ad6b7169203331', traceState: 'v=1', instance: 'g1' });
  expect(root.attributes.get('baggage.tenant')).toBe('t');
});

test('reads, leases and watches have their spans', async () => {
  collector.spans.length = 0;
  await client.kv.get('traced');
  const range = await traceOf('etcdserverpb.KV/Range', 8);
  expectNested(range);
  expect(range.map((span) => span.name).sort()).toEqual([
    'etcdserverpb.KV/Range',
    'gateway.queue',
    'gateway.reply',
    'gateway.route',
    'link',
    'member.range',
    'read.wait',
    'store.read',
  ]);
  const lease = await client.lease.grant(60);
  const granted = await traceOf('etcdserverpb.Lease/LeaseGrant', 23);
  expectNested(granted);
  expect(granted.some((span) => span.name === 'member.leaseGrant')).toBe(true);
  await client.lease.revoke(lease.ID);
  expectNested(await traceOf('etcdserverpb.Lease/LeaseRevoke', 23));
}, 60_000);

test('the events of a put are delivered in its trace, by every gateway that has a watcher for them', async () => {
  const other = new Client({ endpoints: [cluster.endpoints[0]!] });
  const watchers = [client, other].map((from) => from.watch.watch('watched'));
  try {
    collector.spans.length = 0;
    await Promise.all(watchers.map((watcher) => watcher.created));
    await client.kv.put('watched', '1');
    await Promise.all(watchers.map((watcher) => watcher.next()));
    const spans = await traceOf('etcdserverpb.KV/Put', 25);
    expectNested(spans);
    const creations = collector.spans.filter((span) => span.name === 'watch.create');
    expect(creations.map((span) => span.instance).sort()).toEqual(['g1', 'g2']);
    const deliveries = spans.filter((span) => span.name === 'watch.deliver');
    expect(deliveries.map((span) => span.instance).sort()).toEqual(['g1', 'g2']);
    for (const { attributes } of deliveries) expect(attributes.get('quoin.watchers')).toBe(1);
    await client.kv.put('unwatched', '1');
  } finally {
    for (const watcher of watchers) watcher.cancel();
    other.close();
  }
  // The streams' own spans end with them.
  await expect
    .poll(() => collector.spans.some((span) => span.name === 'etcdserverpb.Watch/Watch'), { timeout: 30_000 })
    .toBe(true);
}, 60_000);

test.each(['nobody', 'somebody who never answers'])(
  'with %s at the collector’s address, and with headers that are none, requests are answered, and each process warns once',
  async (who) => {
    const silent = createServer(() => {});
    await new Promise<void>((resolve) => silent.listen(0, '127.0.0.1', resolve));
    const { port } = silent.address() as AddressInfo;
    if (who === 'nobody') silent.close();
    const args = tracingFlags(`127.0.0.1:${port}`, everyone);
    const alone = await startCluster({
      members: 1,
      gateways: 1,
      memberArgs: args,
      gatewayArgs: args,
      env: { OTEL_BSP_SCHEDULE_DELAY: '50', OTEL_BSP_EXPORT_TIMEOUT: '300', OTEL_BSP_MAX_QUEUE_SIZE: '500' },
    });
    try {
      const headers = [
        { traceparent: 'x' },
        { traceparent: `00-${'g'.repeat(32)}-${'0'.repeat(16)}-01`, tracestate: '=,=,,', baggage: ';;%zz=%' },
        {
          traceparent: `00-${'1'.repeat(32)}-${'2'.repeat(16)}-01`,
          tracestate: 'a'.repeat(4_000),
          baggage: 'k=v,'.repeat(1_000),
        },
      ];
      for (let i = 0; i < 300; i++) {
        const response = await fetch(`${alone.gateways[0]!.url}/v3/kv/put`, {
          method: 'POST',
          headers: headers[i % headers.length]!,
          body: JSON.stringify({ key: 'aw==', value: 'dg==' }),
        });
        expect(response.status).toBe(200);
        await response.arrayBuffer();
      }
      const warnings = (): string[] =>
        alone
          .logs()
          .split('\n')
          .filter((line) => line.includes('traces cannot be exported'))
          .map((line) => line.split(' ')[0]!);
      await expect.poll(() => new Set(warnings()).size, { timeout: 20_000 }).toBe(2);
      // More exports fail meanwhile.
      await new Promise((resolve) => setTimeout(resolve, 2_500));
      expect(warnings().sort()).toEqual(['g1', 'm1']);
      const metrics = await (await fetch(`${alone.gateways[0]!.url}/metrics`)).text();
      const waiting = Number(/^quoin_tracing_spans_waiting (\d+)$/m.exec(metrics)![1]);
      expect(waiting).toBeLessThanOrEqual(500);
      expect(Number(/dropped_total\{reason="queue_full"\} (\d+)/.exec(metrics)![1])).toBeGreaterThan(0);
    } finally {
      await alone.stop();
      silent.close();
    }
  },
  90_000,
);

test('nothing is exported when tracing is off', async () => {
  const unused = new Collector();
  await unused.start();
  const off = await startCluster({
    members: 1,
    gateways: 1,
    env: { OTEL_EXPORTER_OTLP_ENDPOINT: `http://${unused.address}`, OTEL_TRACES_SAMPLER: 'always_on' },
  });
  const plain = new Client({ endpoints: off.endpoints });
  try {
    await plain.kv.put('untraced', 'x');
  } finally {
    plain.close();
    await off.stop();
    unused.stop();
  }
  expect(unused.exports).toBe(0);
}, 60_000);
