import { create, type DescMessage, fromBinary, type MessageInitShape, toBinary } from '@bufbuild/protobuf';
import { renderMetrics, type Span, utf8, utf8Text } from '@quoin/base';
import { etcdErrors, Method } from '@quoin/contracts';
import {
  CampaignRequestSchema,
  CampaignResponseSchema,
  HealthCheckRequestSchema,
  HealthCheckResponseSchema,
  LeaderRequestSchema,
  LeaderResponseSchema,
  LeaseKeepAliveRequestSchema,
  LeaseKeepAliveResponseSchema,
  LockRequestSchema,
  LockResponseSchema,
  ProclaimRequestSchema,
  type RangeRequest_SortOrder,
  RangeRequestSchema,
  RangeResponseSchema,
  RangeStreamResponseSchema,
  ResignRequestSchema,
  SnapshotRequestSchema,
  SnapshotResponseSchema,
  StatusResponseSchema,
  UnlockRequestSchema,
} from '@quoin/contracts/etcd';
import { Gateway, type GatewayOptions, gatewayConfig, gatewayConfigError } from '@quoin/gateway';
import { expect, test } from 'vitest';
import { FakeCluster } from './fake-cluster.ts';
import { contextOf, TestStream, unary, World } from './world.ts';

function setup(size = 1, options: Partial<GatewayOptions> = {}) {
  const world = new World(3);
  const cluster = new FakeCluster(world, size);
  const ports = world.ports(cluster.dial);
  const gateway = new Gateway({ name: 'g1', memberUrls: [cluster.members[0]!.url], ...options }, ports);
  gateway.start();
  world.run(50);
  return { world, cluster, gateway, ports, member: cluster.members[0]! };
}

const bytes = <T extends DescMessage>(schema: T, init: MessageInitShape<T>) =>
  toBinary(schema, create(schema, init));

function open(gateway: Gateway, path: string, ...requests: Uint8Array[]) {
  const stream = new TestStream();
  gateway.stream(path, contextOf(), stream);
  for (const request of requests) stream.onMessage(request);
  if (requests.length > 0) stream.onHalfClose();
  return stream;
}

// RangeStream.

function rangeStream(gateway: Gateway, world: World, init: MessageInitShape<typeof RangeRequestSchema>) {
  const stream = open(gateway, '/etcdserverpb.KV/RangeStream', bytes(RangeRequestSchema, init));
  world.run(2_000);
  const chunks = stream.received.map((each) => fromBinary(RangeStreamResponseSchema, each).rangeResponse!);
  return { stream, chunks };
}

test('a RangeStream gives the unary answer in chunks, header and count in the last', () => {
  const { world, cluster, gateway } = setup(1, { maxRequestBytes: 2_000 });
  for (let i = 0; i < 300; i++) {
    cluster.change([
      { put: true, key: utf8(`k${String(i).padStart(3, '0')}`), value: new Uint8Array(i % 50) },
    ]);
  }
  world.run(20);
  const all = { key: new Uint8Array(1), rangeEnd: new Uint8Array(1) };
  const variants: MessageInitShape<typeof RangeRequestSchema>[] = [
    {},
    { limit: 35n },
    { limit: 300n },
    { limit: 5n },
    { revision: 120n },
    { countOnly: true },
    { sortOrder: 1 },
  ];
  for (const more of variants) {
    const request = { ...more, ...all };
    const call = unary(world, gateway, '/etcdserverpb.KV/Range', bytes(RangeRequestSchema, request));
    const { stream, chunks } = rangeStream(gateway, world, request);
    const whole = fromBinary(RangeResponseSchema, call.body);
    expect(stream.ended).toEqual({ status: null });
    expect(chunks.flatMap((chunk) => chunk.kvs)).toEqual(whole.kvs);
    const last = chunks.at(-1)!;
    expect([last.header, last.more, last.count]).toEqual([whole.header, whole.more, whole.count]);
    for (const chunk of chunks.slice(0, -1)) {
      expect([chunk.header, chunk.more, chunk.count]).toEqual([undefined, false, 0n]);
    }
    if (whole.kvs.length > 10) expect(chunks[0]!.kvs.length).toBe(10);
    for (const each of stream.received) expect(each.length).toBeLessThan(4_500);
  }
});

test('all chunks are of one revision, and only one page is read ahead of the client', () => {
  const { world, cluster, gateway, member } = setup(1, { maxRequestBytes: 300 });
  for (let i = 0; i < 100; i++) cluster.change([{ put: true, key: utf8(`k${i}`) }]);
  world.run(20);
  const stream = new TestStream(1);
  gateway.stream('/etcdserverpb.KV/RangeStream', contextOf(), stream);
  stream.paused = true;
  stream.onMessage(bytes(RangeRequestSchema, { key: new Uint8Array(1), rangeEnd: new Uint8Array(1) }));
  world.run(100);
  expect(member.count(Method.range)).toBe(1);
  cluster.change([{ put: true, key: utf8('k50'), value: utf8('later') }]);
  cluster.change([{ put: false, key: utf8('k60') }]);
  world.run(20);
  stream.resume();
  world.run(1_000);
  expect(stream.ended).toEqual({ status: null });
  const chunks = stream.received.map((each) => fromBinary(RangeStreamResponseSchema, each).rangeResponse!);
  expect(chunks.flatMap((chunk) => chunk.kvs).length).toBe(100);
  expect(chunks.flatMap((chunk) => chunk.kvs).some((kv) => utf8Text(kv.value) === 'later')).toBe(false);
  expect(chunks.at(-1)!.header!.revision).toBe(101n);
});

test('what a RangeStream cannot do, and a compaction in its middle', () => {
  const { world, cluster, gateway } = setup();
  const key = utf8('a');
  const status = (init: MessageInitShape<typeof RangeRequestSchema>) => {
    const { stream } = rangeStream(gateway, world, init);
    return [stream.ended?.status?.code, stream.ended?.status?.message];
  };
  expect(status({})).toEqual([3, 'etcdserver: key is not provided']);
  expect(status({ key, sortOrder: 7 as RangeRequest_SortOrder })).toEqual([
    3,
    'etcdserver: invalid sort option',
  ]);
  expect(status({ key, sortOrder: 2 })).toEqual([12, 'RangeStream does not support custom sort orders']);
  expect(status({ key, sortOrder: 1, sortTarget: 1 })).toEqual([
    12,
    'RangeStream does not support custom sort orders',
  ]);
  expect(status({ key, sortTarget: 3, maxModRevision: 1n << 40n })).toEqual([
    12,
    'RangeStream does not support revision filters',
  ]);
  for (let i = 0; i < 50; i++) cluster.change([{ put: true, key: utf8(`k${i}`) }]);
  world.run(20);
  const stream = new TestStream(1);
  gateway.stream('/etcdserverpb.KV/RangeStream', contextOf(), stream);
  stream.paused = true;
  stream.onMessage(
    bytes(RangeRequestSchema, { key: new Uint8Array(1), rangeEnd: new Uint8Array(1), revision: 30n }),
  );
  world.run(20);
  cluster.model.compactRevision = 40;
  stream.resume();
  world.run(100);
  expect(stream.ended?.status).toEqual(etcdErrors.compacted);
});

// Lease keepalive.

const keepAlive = (ID: bigint) => bytes(LeaseKeepAliveRequestSchema, { ID });
const keepAlivePath = '/etcdserverpb.Lease/LeaseKeepAlive';

test('keepalives are answered in order, and a missing lease with TTL 0', () => {
  const { world, gateway, member } = setup();
  let n = 0;
  // The first answer is late.
  member.override = (request) =>
    request.method === Method.leaseKeepAlive && n++ === 0 ? undefined : 'usual';
  const stream = open(gateway, keepAlivePath);
  for (const id of [7n, 404n, 8n]) stream.onMessage(keepAlive(id));
  world.run(20);
  expect(stream.received).toEqual([]);
  member.cut();
  world.run(300);
  const answers = stream.received.map((each) => fromBinary(LeaseKeepAliveResponseSchema, each));
  expect(answers.map((a) => [a.ID, a.TTL])).toEqual([
    [7n, 30n],
    [404n, 0n],
    [8n, 30n],
  ]);
  stream.onHalfClose();
  expect(stream.ended).toEqual({ status: null });
});

test('a client that keeps more leases alive than are asked for at once is made to wait', () => {
  const { world, gateway, member } = setup();
  member.override = () => undefined;
  const stream = open(gateway, keepAlivePath);
  let id = 0n;
  const whileAllowed = (): void => {
    for (let n = 0; n < 2_000 && !stream.held; n++) stream.onMessage(keepAlive(++id));
  };
  whileAllowed();
  expect(Number(id)).toBe(1_024);
  world.run(20);
  expect(stream.ended).toBeUndefined();
  member.override = () => 'usual';
  member.cut();
  world.run(300);
  expect(stream.held).toBe(false);
  expect(stream.received.length).toBe(1_024);
  // A client that is not held and does not stop is not followed into any amount of memory.
  member.override = () => undefined;
  for (let n = 0; n < 5_000 && stream.ended === undefined; n++) stream.onMessage(keepAlive(++id));
  expect(stream.ended?.status).toEqual(etcdErrors.requestTooManyRequests);
});

test('a keepalive that fails ends its stream', () => {
  const { world, cluster, gateway } = setup();
  cluster.elect(undefined);
  world.run(20);
  const stream = open(gateway, keepAlivePath);
  stream.onMessage(keepAlive(7n));
  world.run(6_900);
  expect(stream.ended).toBeUndefined();
  world.run(200);
  expect(stream.ended?.status).toEqual(etcdErrors.timeout);
  const malformed = open(gateway, keepAlivePath);
  malformed.onMessage(new Uint8Array([0xff]));
  expect(malformed.ended?.status?.code).toBe(13);
});

// Maintenance.

test('a snapshot passes through, part by part, and the member gets credit as the client reads', () => {
  const { world, gateway, member } = setup();
  const path = '/etcdserverpb.Maintenance/Snapshot';
  const stream = new TestStream(1);
  gateway.stream(path, contextOf(), stream);
  stream.paused = true;
  stream.onMessage(bytes(SnapshotRequestSchema, {}));
  world.run(50);
  expect(member.credited).toBe(0);
  stream.resume();
  world.run(50);
  expect(stream.received.map((each) => fromBinary(SnapshotResponseSchema, each).blob[0])).toEqual([1, 2, 3]);
  expect(stream.ended).toEqual({ status: null });
});

test('status is asked of the home member', () => {
  const { world, gateway } = setup(3);
  const call = unary(world, gateway, '/etcdserverpb.Maintenance/Status', new Uint8Array(0));
  world.run(20);
  const response = fromBinary(StatusResponseSchema, call.body);
  expect(response.header?.memberId).toBe(gateway.status().home);
});

// Health.

test('grpc health follows leader and home', () => {
  const { world, cluster, gateway } = setup();
  const check = (service: string) => {
    const call = unary(
      world,
      gateway,
      '/grpc.health.v1.Health/Check',
      bytes(HealthCheckRequestSchema, { service }),
    );
    world.run(1);
    return call.status?.code ?? fromBinary(HealthCheckResponseSchema, call.body).status;
  };
  const watch = open(gateway, '/grpc.health.v1.Health/Watch');
  watch.onMessage(bytes(HealthCheckRequestSchema, {}));
  expect(check('')).toBe(1);
  expect(check('other')).toBe(5);
  cluster.elect(undefined);
  world.run(20);
  expect(check('')).toBe(2);
  cluster.elect(cluster.members[0]);
  world.run(20);
  expect(watch.received.map((each) => fromBinary(HealthCheckResponseSchema, each).status)).toEqual([1, 2, 1]);
});

test('/health, /livez, /readyz and /version', () => {
  const { world, cluster, gateway, member } = setup();
  const get = (path: string, query: Record<string, string> = {}) => {
    let answer: [number, string] | undefined;
    gateway.http(path, new Map(Object.entries(query).map(([k, v]) => [k, [v]])), (code, _, body) => {
      answer = [code, body];
    });
    world.run(8_000);
    return answer;
  };
  expect(get('/health')).toEqual([200, '{"health":"true","reason":""}']);
  expect(get('/livez')).toEqual([200, 'ok\n']);
  expect(get('/readyz')).toEqual([200, 'ok\n']);
  expect(get('/readyz', { verbose: '', exclude: 'linearizable_read' })).toEqual([
    200,
    '[+]data_corruption ok\n[+]serializable_read ok\n[+]non_learner ok\n[+]apply_lag ok\n[+]load ok\nok\n',
  ]);
  expect(get('/readyz/non_learner')).toEqual([200, 'ok\n']);
  expect(get('/readyz/nothing')?.[0]).toBe(404);
  expect(get('/metrics')?.[0]).toBe(404);
  expect(get('/version')).toEqual([200, '{"etcdserver":"3.7.1","etcdcluster":"3.7.0","storage":"3.7.0"}']);
  member.override = (request) =>
    request.method === Method.status
      ? { body: bytes(StatusResponseSchema, { errors: ['memberID:1 alarm:NOSPACE '] }) }
      : 'usual';
  expect(get('/health')).toEqual([503, '{"health":"false","reason":"ALARM NOSPACE"}\n']);
  expect(get('/health', { exclude: 'NOSPACE' })?.[0]).toBe(200);
  member.override = (request) => (request.method === Method.range ? { ...etcdErrors.timeout } : 'usual');
  expect(get('/health')).toEqual([
    503,
    '{"health":"false","reason":"RANGE ERROR:etcdserver: request timed out"}\n',
  ]);
  expect(get('/livez')).toEqual([503, '[-]serializable_read failed: etcdserver: request timed out\n\n']);
  cluster.elect(undefined);
  world.run(20);
  expect(get('/health')).toEqual([503, '{"health":"false","reason":"RAFT NO LEADER"}\n']);
});

// Lock and election.

test('a lock is held by one at a time, in the order of asking', () => {
  const { world, cluster, gateway } = setup();
  const lock = (lease: bigint) =>
    unary(world, gateway, '/v3lockpb.Lock/Lock', bytes(LockRequestSchema, { name: utf8('l'), lease }));
  const first = lock(0xan);
  world.run(20);
  const second = lock(0xbn);
  world.run(20);
  const third = lock(0xcn);
  world.run(20);
  expect([first.done, second.done, third.done]).toEqual([true, false, false]);
  expect(utf8Text(fromBinary(LockResponseSchema, first.body).key)).toBe('l/a');
  // Asking again with the same lease is the same lock.
  const again = lock(0xan);
  world.run(20);
  expect(again.status).toBeNull();
  // The one that waits in the middle goes away.
  second.cancel();
  world.run(20);
  const unlock = unary(
    world,
    gateway,
    '/v3lockpb.Lock/Unlock',
    bytes(UnlockRequestSchema, { key: utf8('l/a') }),
  );
  world.run(50);
  expect(unlock.status).toBeNull();
  expect([second.done, third.status]).toEqual([false, null]);
  expect([...cluster.model.states.at(-1)!.keys()]).toEqual(['l/c']);
});

test('an election: campaign, proclaim, leader, observe, resign', () => {
  const { world, gateway } = setup();
  const call = (rpc: string, request: Uint8Array) => {
    const outcome = unary(world, gateway, `/v3electionpb.Election/${rpc}`, request);
    world.run(50);
    return outcome;
  };
  const name = utf8('e');
  const leaderRequest = bytes(LeaderRequestSchema, { name });
  const observe = open(gateway, '/v3electionpb.Election/Observe');
  observe.onMessage(leaderRequest);
  expect(call('Leader', leaderRequest).status).toEqual({ code: 2, message: 'election: no leader' });
  expect(call('Proclaim', bytes(ProclaimRequestSchema, {})).status?.message).toBe(
    '"leader" field must be provided',
  );
  const won = call('Campaign', bytes(CampaignRequestSchema, { name, lease: 1n, value: utf8('one') }));
  const { leader } = fromBinary(CampaignResponseSchema, won.body);
  expect(leader).toMatchObject({ rev: 2n, lease: 1n });
  expect(utf8Text(leader!.key)).toBe('e/1');
  const waiting = call('Campaign', bytes(CampaignRequestSchema, { name, lease: 2n, value: utf8('two') }));
  expect(waiting.done).toBe(false);
  expect(
    call('Proclaim', bytes(ProclaimRequestSchema, { leader: leader!, value: utf8('uno') })).status,
  ).toBeNull();
  const stranger = { ...leader!, rev: 99n };
  expect(
    call('Proclaim', bytes(ProclaimRequestSchema, { leader: stranger, value: utf8('x') })).status?.message,
  ).toBe('election: not leader');
  expect(utf8Text(fromBinary(LeaderResponseSchema, call('Leader', leaderRequest).body).kv!.value)).toBe(
    'uno',
  );
  expect(call('Resign', bytes(ResignRequestSchema, { leader: leader! })).status).toBeNull();
  expect(waiting.status).toBeNull();
  expect(observe.received.map((each) => utf8Text(fromBinary(LeaderResponseSchema, each).kv!.value))).toEqual([
    'one',
    'uno',
    'two',
  ]);
});

// Around all of them.

test("requests are counted by the client's version, and a client cannot make labels without end", () => {
  const { world, gateway, ports } = setup();
  const ask = (version?: string) =>
    unary(
      world,
      gateway,
      '/etcdserverpb.KV/Range',
      bytes(RangeRequestSchema, { key: utf8('a') }),
      contextOf(version === undefined ? {} : { 'client-api-version': version }),
    );
  for (const version of ['3.7', '3.7', '3.4', undefined, '', 'x'.repeat(1_000), 'a\nb']) ask(version);
  for (let i = 0; i < 1_000; i++) ask(`9.${i}`);
  const stream = new TestStream();
  gateway.stream('/etcdserverpb.Watch/Watch', contextOf({ 'client-api-version': '3.7' }), stream);
  world.run(100);
  const text = renderMetrics(ports.metrics.all());
  const counts = new Map(
    [...text.matchAll(/client_requests_total\{client_api_version="(.*)",type="(.*)"\} (\d+)/g)].map(
      ([, version, type, n]) => [`${version} ${type}`, Number(n)],
    ),
  );
  expect(counts.get('3.7 unary')).toBe(2);
  expect(counts.get('3.7 stream')).toBe(1);
  expect(counts.get('3.4 unary')).toBe(1);
  expect(counts.get('unknown unary')).toBe(4);
  expect(counts.get('other unary')).toBeGreaterThan(900);
  expect(counts.size).toBeLessThan(50);
  expect([...counts.values()].reduce((a, b) => a + b)).toBe(1_008);
});

test('metrics count calls by RPC and code', () => {
  const { world, gateway, ports } = setup();
  unary(world, gateway, '/etcdserverpb.KV/Range', bytes(RangeRequestSchema, { key: utf8('a') }));
  unary(world, gateway, '/etcdserverpb.KV/Range', bytes(RangeRequestSchema, {}));
  world.run(20);
  const text = renderMetrics(ports.metrics.all());
  const range = 'grpc_method="Range",grpc_service="etcdserverpb.KV",grpc_type="unary"';
  expect(text).toContain(`grpc_server_started_total{${range}} 2`);
  expect(text).toContain(`grpc_server_handled_total{grpc_code="OK",${range}} 1`);
  expect(text).toContain(`grpc_server_handled_total{grpc_code="InvalidArgument",${range}} 1`);
  expect(text).toContain('etcd_server_has_leader 1');
  expect(text).toContain('etcd_server_client_requests_total{client_api_version="unknown",type="unary"} 2');
});

test('a sampled call has a span, whose context goes to the member', () => {
  const { world, cluster } = setup();
  const ended: string[] = [];
  const context = new Uint8Array(25).fill(9);
  const tracer = {
    start: (name: string, parent: Uint8Array): Span => {
      ended.push(`${name} below ${parent[0]}`);
      const end = (): number => ended.push(`end of ${name}`);
      return { context, startMs: 0, end, fail: (message: string) => ended.push(message) };
    },
    root: () => expect.unreachable(),
    record: (name: string, parent: Uint8Array) => ended.push(`${name} below ${parent[0]}`),
    recordBelow: () => expect.unreachable(),
    batch: (name: string, _startMs: number, _endMs: number, links: readonly Uint8Array[]) =>
      ended.push(`${name} for ${links.length}`),
  };
  const gateway = new Gateway(
    { name: 'g', memberUrls: ['http://m1:2380'] },
    { ...world.ports(cluster.dial), tracer },
  );
  gateway.start();
  world.run(20);
  const sampled = { ...contextOf(), trace: new Uint8Array(25).fill(1) };
  unary(world, gateway, '/etcdserverpb.KV/Range', bytes(RangeRequestSchema, { key: utf8('a') }), sampled);
  world.run(20);
  expect(ended).toEqual([
    'gateway.route below 1',
    'link below 9',
    'gateway.queue below 9',
    'link.batch for 1',
    'end of link',
    'end of gateway.route',
  ]);
  expect([...cluster.members[0]!.seen.at(-1)!.trace]).toEqual([...context]);
});

test('a wrong configuration is refused with one line', () => {
  const problem = (options: Partial<GatewayOptions>) =>
    gatewayConfigError(gatewayConfig({ name: 'g', memberUrls: ['http://a:1'], ...options }));
  expect(problem({})).toBeUndefined();
  expect(problem({ memberUrls: [] })).toBe('gateway needs at least one member URL');
  expect(problem({ memberUrls: ['x', 'x'] })).toBe('gateway: member URL x is given twice');
  expect(problem({ progressNotifyIntervalMs: 50 })).toBe(
    'watch-progress-notify-interval must be at least 100ms (set to 50ms)',
  );
  expect(problem({ ringBytes: 0 })).toBe('gateway: ringBytes must be a positive number (set to 0)');
  expect(problem({ maxTxnOps: Number.NaN })).toContain('maxTxnOps');
});
