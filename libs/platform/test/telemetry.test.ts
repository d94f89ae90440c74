import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Log, MetricRegistry, renderMetrics, SpanKind } from '@quoin/base';
import { issueCertificate, startTelemetry, type Telemetry, tracingConfig } from '@quoin/platform';
import fc from 'fast-check';
import { afterEach, expect, test } from 'vitest';
import { type CollectedSpan, Collector } from '../../../tests/support/collector.ts';

const path = '/etcdserverpb.KV/Put';
const traceId = '0af7651916cd43dd8448eb211c80319c';
const spanId = 'b7ad6b7169203331';

type Env = Readonly<Record<string, string>>;

interface Started {
  readonly telemetry: Telemetry;
  /** level, message */
  readonly lines: string[];
  metrics(): string;
}

const closers: (() => unknown)[] = [];

afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

async function collect(options: ConstructorParameters<typeof Collector>[0] = {}): Promise<Collector> {
  const collector = new Collector(options);
  await collector.start();
  closers.push(() => collector.stop());
  return collector;
}

async function start(
  address: string | undefined,
  samplingRate: number | undefined,
  env: Env = {},
): Promise<Started> {
  const lines: string[] = [];
  const say = (level: string) => (message: string) => void lines.push(`${level} ${message}`);
  const log: Log = { debug: () => {}, info: say('info'), warn: say('warn'), error: say('error') };
  const flags = { address, defaultAddress: 'localhost:4317', serviceName: '', instanceId: '', samplingRate };
  const metrics = new MetricRegistry();
  const telemetry = await startTelemetry(tracingConfig(flags, 'i1', env)!, {
    service: 'quoin-test',
    version: '0',
    log,
    metrics,
  });
  closers.push(() => telemetry.shutdown());
  return { telemetry, lines, metrics: () => renderMetrics(metrics.all()) };
}

/** Counted by Prometheus' name. */
function counted(started: Started, name: string): number {
  const line = started
    .metrics()
    .split('\n')
    .find((l) => l.startsWith(`${name} `));
  return Number(line?.split(' ')[1] ?? Number.NaN);
}

const none = (): undefined => undefined;
const headers = (values: Readonly<Record<string, string | Uint8Array>>) => (asked: string) => values[asked];
const sampledParent = headers({ traceparent: `00-${traceId}-${spanId}-01` });
const wait = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

test('one call is one trace: the caller’s span, the edge’s, and those below it', async () => {
  const collector = await collect();
  const { telemetry } = await start(collector.address, 0);
  const before = BigInt(Date.now() - 5) * 1_000_000n;
  const edge = telemetry.edge(
    path,
    headers({
      traceparent: `00-${traceId}-${spanId}-01`,
      tracestate: 'rojo=00f067aa0ba902b7, congo=t61rcWkgMzE',
      baggage: 'tenant=blue%20team;p=1, bad key=x, other=1',
    }),
    '127.0.0.1:1',
  )!;
  expect(edge.context).toHaveLength(25);
  expect(Buffer.from(edge.context).toString('hex', 0, 16)).toBe(traceId);
  expect(edge.context[24]).toBe(1);
  const { tracer } = telemetry;
  const child = tracer.start('propose', edge.context, SpanKind.client);
  const nowMs = performance.now();
  tracer.record('append', child.context, nowMs, nowMs + 2.5, SpanKind.consumer);
  tracer.recordBelow('write', nowMs, nowMs + 1);
  tracer.recordBelow('fsync', nowMs + 1, nowMs + 2);
  tracer.start('apply', child.context).fail('broken', { index: 2 ** 40, ok: false, what: 'ü' });
  tracer.batch('turn', nowMs, nowMs + 3, [edge.context, child.context], { sampled: 2 });
  child.end();
  child.end();
  edge.end(14, 'etcdserver: no leader');
  edge.end(0, '');
  await telemetry.shutdown();
  const byName = new Map(collector.spans.map((span) => [span.name, span]));
  expect(collector.spans).toHaveLength(8);
  const [root, propose, append] = ['etcdserverpb.KV/Put', 'propose', 'append'].map(
    (name) => byName.get(name)!,
  );
  for (const [name, span] of byName) {
    expect(span).toMatchObject({ service: 'quoin-test', instance: 'i1' });
    if (name !== 'turn') expect(span.traceId).toBe(traceId);
    expect(span.startNs).toBeGreaterThan(before);
    expect(span.endNs).toBeGreaterThanOrEqual(span.startNs);
  }
  expect(root).toMatchObject({
    parentId: spanId,
    kind: 2,
    traceState: 'rojo=00f067aa0ba902b7,congo=t61rcWkgMzE',
    statusCode: 2,
    statusMessage: 'etcdserver: no leader',
  });
  expect(Object.fromEntries(root!.attributes)).toEqual({
    'rpc.system': 'grpc',
    'rpc.service': 'etcdserverpb.KV',
    'rpc.method': 'Put',
    'rpc.grpc.status_code': 14,
    'client.address': '127.0.0.1:1',
    'baggage.tenant': 'blue team',
    'baggage.other': '1',
  });
  expect(propose).toMatchObject({ parentId: root!.spanId, kind: 3, statusCode: 0 });
  expect(byName.get('gateway.reply')!.parentId).toBe(root!.spanId);
  expect(append).toMatchObject({ parentId: propose!.spanId, kind: 5 });
  expect(append!.endNs - append!.startNs).toBeGreaterThanOrEqual(2_499_000n);
  expect(append!.endNs - append!.startNs).toBeLessThanOrEqual(2_501_000n);
  expect(byName.get('write')!.parentId).toBe(append!.spanId);
  expect(byName.get('fsync')!.parentId).toBe(append!.spanId);
  const apply = byName.get('apply')!;
  expect(apply).toMatchObject({ parentId: propose!.spanId, statusCode: 2, statusMessage: 'broken' });
  expect(Object.fromEntries(apply.attributes)).toEqual({ index: 2 ** 40, ok: false, what: 'ü' });
  const turn = byName.get('turn')!;
  expect(turn.parentId).toBe('');
  expect(turn.traceId).not.toBe(traceId);
  expect(turn.links).toEqual([root, propose].map((span) => ({ traceId, spanId: span!.spanId })));
});

test('the caller decides; where it is silent, the dice do', async () => {
  const collector = await collect();
  const always = await start(collector.address, 1_000_000);
  const never = await start(collector.address, 0);
  const half = await start(collector.address, 500_000);
  const unsampled = headers({ traceparent: `00-${traceId}-${spanId}-00` });
  expect(always.telemetry.edge(path, none, '')).toBeDefined();
  expect(never.telemetry.edge(path, none, '')).toBeUndefined();
  expect(always.telemetry.edge(path, unsampled, '')).toBeUndefined();
  expect(
    never.telemetry.edge(path, headers({ traceparent: `00-${traceId}-${spanId}-03` }), ''),
  ).toBeDefined();
  let sampled = 0;
  for (let i = 0; i < 1000; i++) if (half.telemetry.edge(path, none, '') !== undefined) sampled++;
  expect(sampled).toBeGreaterThan(400);
  expect(sampled).toBeLessThan(600);
});

test('a sampler that is not told to follow the caller goes by the trace’s id, in the caller’s trace', async () => {
  const collector = await collect();
  const on = await start(collector.address, undefined, { OTEL_TRACES_SAMPLER: 'always_on' });
  const off = await start(collector.address, undefined, { OTEL_TRACES_SAMPLER: 'always_off' });
  const ratio = { OTEL_TRACES_SAMPLER: 'traceidratio', OTEL_TRACES_SAMPLER_ARG: '0.5' };
  const [here, there] = [
    await start(collector.address, undefined, ratio),
    await start(collector.address, undefined, ratio),
  ];
  const edge = on.telemetry.edge(path, headers({ traceparent: `00-${traceId}-${spanId}-00` }), '')!;
  expect(Buffer.from(edge.context).toString('hex', 0, 16)).toBe(traceId);
  expect(edge.context[24]).toBe(1);
  expect(off.telemetry.edge(path, sampledParent, '')).toBeUndefined();
  let sampled = 0;
  for (let i = 0; i < 256; i++) {
    const id = `${traceId.slice(0, 24)}${i.toString(16).padStart(2, '0')}cdef01`;
    const asked = headers({ traceparent: `00-${id}-${spanId}-01` });
    const taken = here.telemetry.edge(path, asked, '') !== undefined;
    expect(there.telemetry.edge(path, asked, '') !== undefined).toBe(taken);
    if (taken) sampled++;
  }
  expect(sampled).toBe(128);
});

test.each([
  ['no version', `${traceId}-${spanId}-01`],
  ['version ff', `ff-${traceId}-${spanId}-01`],
  ['zero trace id', `00-${'0'.repeat(32)}-${spanId}-01`],
  ['zero span id', `00-${traceId}-${'0'.repeat(16)}-01`],
  ['capitals', `00-${traceId.toUpperCase()}-${spanId}-01`],
  ['a tail in version 00', `00-${traceId}-${spanId}-01-x`],
  ['flags that are no number', `00-${traceId}-${spanId}-0x`],
  ['nothing', ''],
  ['a megabyte', `00-${traceId}-${spanId}-01${'-x'.repeat(500_000)}`],
])('a traceparent with %s is as if there were none', async (_what, value) => {
  const { telemetry } = await start('127.0.0.1:1', 0);
  expect(telemetry.edge(path, headers({ traceparent: value }), '')).toBeUndefined();
});

test('a later version of traceparent may say more', async () => {
  const { telemetry } = await start('127.0.0.1:1', 0);
  expect(telemetry.edge(path, headers({ traceparent: `01-${traceId}-${spanId}-01-more` }), '')).toBeDefined();
});

test('grpc-trace-bin is understood', async () => {
  const { telemetry } = await start('127.0.0.1:1', 0);
  const id = Buffer.from(traceId, 'hex');
  const span = Buffer.from(spanId, 'hex');
  const bin = Buffer.concat([Buffer.from([0, 0]), id, Buffer.from([1]), span, Buffer.from([2, 1])]);
  const edge = telemetry.edge(path, headers({ 'grpc-trace-bin': bin }), '')!;
  expect(Buffer.from(edge.context).toString('hex', 0, 16)).toBe(traceId);
  expect(telemetry.edge(path, headers({ 'grpc-trace-bin': bin.subarray(0, 20) }), '')).toBeUndefined();
});

test('any tracestate and baggage: the span is there, what it says of them is bounded', async () => {
  const collector = await collect();
  const { telemetry } = await start(collector.address, 0);
  const text = fc.oneof(
    fc.string({ unit: 'binary', maxLength: 200 }),
    fc.string({
      unit: fc.constantFrom('a', '=', ',', ';', '%', '@', ' ', '\n', '\0', '1'),
      maxLength: 9_000,
    }),
    fc.constant('a=b,'.repeat(5_000)),
    fc.constant(`k=${'%41'.repeat(2_000)}`),
  );
  let calls = 0;
  fc.assert(
    fc.property(text, text, (tracestate, baggage) => {
      const asked = headers({ traceparent: `00-${traceId}-${spanId}-01`, tracestate, baggage });
      telemetry.edge(path, asked, 'p')!.end(0, '');
      calls++;
    }),
  );
  await telemetry.shutdown();
  const roots = collector.spans.filter((span) => span.parentId === spanId);
  expect(roots).toHaveLength(calls);
  for (const { traceState, attributes } of roots) {
    expect(traceState.length).toBeLessThanOrEqual(512);
    expect(attributes.size).toBeLessThanOrEqual(5 + 16);
    for (const value of attributes.values()) expect(String(value).length).toBeLessThanOrEqual(256);
  }
});

test('OTLP over HTTP: below the path of the endpoint, with headers, compressed', async () => {
  const collector = await collect();
  const { telemetry, lines } = await start(undefined, 1_000_000, {
    OTEL_EXPORTER_OTLP_PROTOCOL: 'http/protobuf',
    OTEL_EXPORTER_OTLP_ENDPOINT: collector.httpUrl,
    OTEL_EXPORTER_OTLP_HEADERS: 'api-key=k%3D1,x=y',
    OTEL_EXPORTER_OTLP_COMPRESSION: 'gzip',
    OTEL_RESOURCE_ATTRIBUTES: 'deployment.environment=test,service.name=not-this',
    OTEL_SERVICE_NAME: 'named',
  });
  telemetry.edge(path, none, 'p')!.end(0, '');
  await telemetry.shutdown();
  expect(collector.spans.map((span) => span.name).sort()).toEqual(['etcdserverpb.KV/Put', 'gateway.reply']);
  expect(collector.spans[0]!.service).toBe('named');
  expect(collector.spans[0]!.resource.get('deployment.environment')).toBe('test');
  expect(collector.headers[0]).toMatchObject({ 'api-key': 'k=1', x: 'y', 'content-encoding': 'gzip' });
  expect(lines).toEqual([]);
});

test('gRPC over TLS, compressed: a collector whose certificate we know gets all, another nothing', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'quoin-telemetry-'));
  closers.push(() => rmSync(dir, { recursive: true, force: true }));
  const [notBefore, notAfter] = [new Date(Date.now() - 86_400_000), new Date(Date.now() + 86_400_000)];
  const [ours, others] = ['ours', 'others'].map((commonName) => {
    const ca = issueCertificate({ commonName, isCa: true, notBefore, notAfter });
    const server = issueCertificate({ commonName: 'c', hosts: ['127.0.0.1'], notBefore, notAfter }, ca);
    writeFileSync(join(dir, commonName), ca.certificatePem);
    return { cert: server.certificatePem, key: server.keyPem };
  });
  for (const tls of [ours!, others!]) {
    const collector = await collect({ tls });
    const { telemetry, lines } = await start(undefined, 1_000_000, {
      OTEL_EXPORTER_OTLP_ENDPOINT: `https://${collector.address}`,
      OTEL_EXPORTER_OTLP_CERTIFICATE: join(dir, 'ours'),
      OTEL_EXPORTER_OTLP_COMPRESSION: 'gzip',
    });
    telemetry.edge(path, none, 'p')!.end(0, '');
    await telemetry.shutdown();
    expect(collector.spans).toHaveLength(tls === ours ? 2 : 0);
    expect(lines.map((line) => line.slice(0, 30))).toEqual(
      tls === ours ? [] : ['warn traces cannot be exported'],
    );
  }
});

test('headers go with gRPC, too', async () => {
  const collector = await collect();
  const env = {
    OTEL_EXPORTER_OTLP_ENDPOINT: `http://${collector.address}`,
    OTEL_EXPORTER_OTLP_TRACES_HEADERS: 'tenant=t',
  };
  const { telemetry } = await start(undefined, 1_000_000, env);
  telemetry.edge(path, none, 'p')!.end(0, '');
  await telemetry.shutdown();
  expect(collector.headers[0]).toMatchObject({ tenant: 't' });
});

test('a header that gRPC cannot carry is one warning, and nothing else', async () => {
  const collector = await collect();
  const { telemetry, lines } = await start(collector.address, 1_000_000, {
    OTEL_EXPORTER_OTLP_HEADERS: 'not%20a name=x',
    OTEL_BSP_SCHEDULE_DELAY: '20',
  });
  telemetry.edge(path, none, '')!.end(0, '');
  await expect.poll(() => lines.length, { timeout: 10_000 }).toBe(1);
  expect(lines[0]).toMatch(/^warn traces cannot be exported/);
  expect(collector.spans).toEqual([]);
});

test('limits of a span and of an export hold, and what they cut is counted', async () => {
  const collector = await collect();
  const { telemetry } = await start(collector.address, 1_000_000, {
    OTEL_BSP_MAX_EXPORT_BATCH_SIZE: '10',
    OTEL_SPAN_LINK_COUNT_LIMIT: '3',
    OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT: '2',
    OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT: '5',
  });
  const context = telemetry.edge(path, none, '')!.context;
  const links = Array.from({ length: 5 }, () => context);
  telemetry.tracer.batch('b', 0, 1, links, { long: 'abcdefgh', two: 2, three: 3 });
  for (let i = 0; i < 25; i++) telemetry.tracer.record(`n${i}`, context, i, i + 1);
  await telemetry.shutdown();
  expect(collector.spans).toHaveLength(26);
  expect(collector.exports).toBeGreaterThanOrEqual(3);
  const batch = collector.spans.find((span) => span.name === 'b')!;
  expect(batch.links).toHaveLength(3);
  expect(batch.droppedLinks).toBe(2);
  expect(Object.fromEntries(batch.attributes)).toEqual({ long: 'abcde', two: 2 });
  expect(collector.spans.map((span) => span.name).slice(1)).toEqual(
    Array.from({ length: 25 }, (_, i) => `n${i}`),
  );
});

test('a hundred thousand spans arrive whole, each once, in exports of bounded size', async () => {
  const sizes: number[] = [];
  const spans: CollectedSpan[] = [];
  const collector = await collect({
    onSpans: (batch) => {
      sizes.push(batch.length);
      spans.push(...batch);
    },
  });
  const started = await start(collector.address, 1_000_000);
  const context = started.telemetry.edge(path, none, '')!.context;
  for (let i = 0; i < 100; i++) {
    for (let k = 0; k < 1_000; k++) started.telemetry.tracer.record('s', context, i, i + k / 1_000);
    await wait(1);
    while (counted(started, 'quoin_tracing_spans_waiting') > 20_000) await wait(5);
  }
  while (counted(started, 'quoin_tracing_spans_waiting') > 0) await wait(20);
  await started.telemetry.shutdown();
  expect(spans).toHaveLength(100_000);
  expect(new Set(spans.map((span) => span.spanId)).size).toBe(100_000);
  expect(Math.max(...sizes)).toBeLessThanOrEqual(8_192);
  expect(counted(started, 'quoin_tracing_spans_exported_total')).toBe(100_000);
}, 30_000);

test.each(['nobody', 'somebody who never answers', 'somebody who refuses'])(
  'with %s at the collector’s address nothing waits, memory is bounded, and there is one warning',
  async (who) => {
    const silent = createServer(() => {});
    await new Promise<void>((resolve) => silent.listen(0, '127.0.0.1', resolve));
    closers.push(() => silent.close());
    let { port } = silent.address() as { port: number };
    if (who === 'nobody') silent.close();
    if (who === 'somebody who refuses') {
      const collector = await collect();
      collector.refusing = true;
      port = Number(collector.address.split(':')[1]);
    }
    const env = {
      OTEL_BSP_SCHEDULE_DELAY: '20',
      OTEL_BSP_EXPORT_TIMEOUT: '200',
      OTEL_BSP_MAX_QUEUE_SIZE: '2000',
    };
    const started = await start(`127.0.0.1:${port}`, 1_000_000, env);
    const { telemetry, lines } = started;
    const before = performance.now();
    for (let i = 0; i < 20_000; i++) telemetry.edge(path, none, '')!.end(0, '');
    // Some microseconds each, whatever becomes of them.
    expect(performance.now() - before).toBeLessThan(2_000);
    await expect.poll(() => lines.length, { timeout: 10_000 }).toBeGreaterThan(0);
    for (let i = 0; i < 20; i++) {
      for (let k = 0; k < 500; k++) telemetry.edge(path, none, '')!.end(0, '');
      await wait(20);
    }
    expect(counted(started, 'quoin_tracing_spans_waiting')).toBeLessThanOrEqual(2_000);
    expect(lines).toHaveLength(1);
    expect(lines[0]).toMatch(/^warn traces cannot be exported: check that the collector runs/);
    const dropped = /quoin_tracing_spans_dropped_total\{reason="queue_full"\} (\d+)/.exec(started.metrics());
    expect(Number(dropped![1])).toBeGreaterThan(10_000);
    const closing = performance.now();
    await telemetry.shutdown();
    expect(performance.now() - closing).toBeLessThan(3_000);
  },
  30_000,
);

test('a collector that was started again gets what comes then', async () => {
  const first = await collect();
  const { telemetry } = await start(first.address, 1_000_000, { OTEL_BSP_SCHEDULE_DELAY: '20' });
  telemetry.edge(path, none, '')!.end(0, '');
  await expect.poll(() => first.spans.length, { timeout: 10_000 }).toBe(2);
  first.stop();
  const second = new Collector();
  await second.start(Number(first.address.split(':')[1]));
  closers.push(() => second.stop());
  await expect
    .poll(
      () => {
        telemetry.edge(path, none, '')!.end(0, '');
        return second.spans.length;
      },
      { timeout: 20_000 },
    )
    .toBeGreaterThan(0);
}, 30_000);

test('when the collector is back, spans arrive again, and one line says what was lost', async () => {
  const collector = await collect();
  collector.refusing = true;
  const started = await start(collector.address, 1_000_000, { OTEL_BSP_SCHEDULE_DELAY: '20' });
  started.telemetry.edge(path, none, '')!.end(0, '');
  await expect.poll(() => started.lines.length, { timeout: 10_000 }).toBe(1);
  collector.refusing = false;
  started.telemetry.edge(path, none, '')!.end(0, '');
  await expect.poll(() => collector.spans.length, { timeout: 10_000 }).toBeGreaterThan(0);
  await expect.poll(() => started.lines.length, { timeout: 10_000 }).toBe(2);
  expect(started.lines[1]).toBe('info traces are exported again');
  expect(counted(started, 'quoin_tracing_export_failures_total')).toBe(1);
}, 30_000);
