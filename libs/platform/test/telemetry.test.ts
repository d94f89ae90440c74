import { createServer } from 'node:net';
import { startTelemetry, type Telemetry } from '@quoin/platform';
import { expect, test } from 'vitest';
import { Collector } from '../../../tests/support/collector.ts';

const path = '/etcdserverpb.KV/Put';
const traceId = '0af7651916cd43dd8448eb211c80319c';
const spanId = 'b7ad6b7169203331';

function start(address: string, samplingRatio: number): Promise<Telemetry> {
  return startTelemetry(
    { address, serviceName: '', instanceId: 'i1', samplingRatio },
    { service: 'quoin-test', version: '0' },
  );
}

const none = (): undefined => undefined;
const header = (key: string, value: string | Uint8Array) => (asked: string) =>
  asked === key ? value : undefined;

test('one call is one trace: the caller’s span, the edge’s, and those below it', async () => {
  const collector = new Collector();
  await collector.start();
  const telemetry = await start(collector.address, 0);
  const edge = telemetry.edge(path, header('traceparent', `00-${traceId}-${spanId}-01`), '127.0.0.1:1')!;
  expect(edge.context).toHaveLength(25);
  expect(Buffer.from(edge.context).toString('hex', 0, 16)).toBe(traceId);
  expect(edge.context[24]).toBe(1);
  const child = telemetry.tracer.start('propose', edge.context, { bytes: 3 });
  telemetry.tracer.record('wal', child.context, 1_700_000_000_000, 1_700_000_000_002);
  telemetry.tracer.start('apply', child.context).fail('broken');
  child.end();
  edge.end(14, 'etcdserver: no leader');
  await telemetry.shutdown();
  const byName = new Map(collector.spans.map((span) => [span.name, span]));
  collector.stop();
  expect([...byName.keys()].sort()).toEqual(['apply', 'etcdserverpb.KV/Put', 'propose', 'wal']);
  for (const span of byName.values()) {
    expect(span).toMatchObject({ traceId, service: 'quoin-test', instance: 'i1' });
  }
  const root = byName.get('etcdserverpb.KV/Put')!;
  const propose = byName.get('propose')!;
  expect(root).toMatchObject({ parentId: spanId });
  expect(propose.parentId).toBe(root.spanId);
  expect(byName.get('apply')).toMatchObject({ parentId: propose.spanId });
  expect(byName.get('wal')).toMatchObject({
    parentId: propose.spanId,
    startNs: 1_700_000_000_000_000_000n,
    endNs: 1_700_000_000_002_000_000n,
  });
});

test('the caller decides; where it is silent, the dice do', async () => {
  const collector = new Collector();
  await collector.start();
  const always = await start(collector.address, 1);
  const never = await start(collector.address, 0);
  const half = await start(collector.address, 0.5);
  expect(always.edge(path, none, '')).toBeDefined();
  expect(never.edge(path, none, '')).toBeUndefined();
  expect(always.edge(path, header('traceparent', `00-${traceId}-${spanId}-00`), '')).toBeUndefined();
  expect(never.edge(path, header('traceparent', `00-${traceId}-${spanId}-03`), '')).toBeDefined();
  let sampled = 0;
  for (let i = 0; i < 1000; i++) if (half.edge(path, none, '') !== undefined) sampled++;
  expect(sampled).toBeGreaterThan(400);
  expect(sampled).toBeLessThan(600);
  await Promise.all([always, never, half].map((telemetry) => telemetry.shutdown()));
  collector.stop();
});

test.each([
  ['no version', `${traceId}-${spanId}-01`],
  ['version ff', `ff-${traceId}-${spanId}-01`],
  ['zero trace id', `00-${'0'.repeat(32)}-${spanId}-01`],
  ['zero span id', `00-${traceId}-${'0'.repeat(16)}-01`],
  ['capitals', `00-${traceId.toUpperCase()}-${spanId}-01`],
  ['a tail in version 00', `00-${traceId}-${spanId}-01-x`],
  ['nothing', ''],
])('a traceparent with %s is as if there were none', async (_what, value) => {
  const telemetry = await start('127.0.0.1:1', 0);
  expect(telemetry.edge(path, header('traceparent', value), '')).toBeUndefined();
  await telemetry.shutdown();
});

test('grpc-trace-bin is understood', async () => {
  const telemetry = await start('127.0.0.1:1', 0);
  const id = Buffer.from(traceId, 'hex');
  const span = Buffer.from(spanId, 'hex');
  const bin = Buffer.concat([Buffer.from([0, 0]), id, Buffer.from([1]), span, Buffer.from([2, 1])]);
  const edge = telemetry.edge(path, header('grpc-trace-bin', bin), '')!;
  expect(Buffer.from(edge.context).toString('hex', 0, 16)).toBe(traceId);
  expect(telemetry.edge(path, header('grpc-trace-bin', bin.subarray(0, 20)), '')).toBeUndefined();
  await telemetry.shutdown();
});

test.each(['nobody', 'somebody who never answers'])(
  'with %s at the collector’s address nothing waits',
  async (who) => {
    const silent = createServer(() => {});
    await new Promise<void>((resolve) => silent.listen(0, '127.0.0.1', resolve));
    const { port } = silent.address() as { port: number };
    if (who === 'nobody') silent.close();
    const telemetry = await start(`127.0.0.1:${port}`, 1);
    const before = performance.now();
    for (let i = 0; i < 20_000; i++) telemetry.edge(path, none, '')!.end(0, '');
    // Some microseconds each, and the queue is bounded: what does not fit is dropped.
    expect(performance.now() - before).toBeLessThan(2000);
    const closing = performance.now();
    await telemetry.shutdown();
    expect(performance.now() - closing).toBeLessThan(3000);
    silent.close();
  },
);
