import { type ClientRequest, request as httpRequest, type IncomingMessage } from 'node:http';
import { connect as connectHttp2 } from 'node:http2';
import { create, toBinary } from '@bufbuild/protobuf';
import { RangeResponseSchema, WatchResponseSchema } from '@quoin/contracts/etcd';
import { type ApiHandler, type CallContext, JsonApi, type ServerStream } from '@quoin/gateway';
import {
  ClientHttp,
  type HttpAccess,
  httpRoutes,
  Listener,
  plainRoutes,
  RealClock,
  RealTimers,
  type RouteTable,
  RpcEdge,
  readNodeConfig,
} from '@quoin/platform';
import { afterEach, describe, expect, test } from 'vitest';

const closers: (() => void)[] = [];
afterEach(() => {
  for (const close of closers.splice(0)) close();
});

/** Answers Range with as many keys as its request has bytes of limit, and Watch with what `streams` is told. */
class Handler implements ApiHandler {
  readonly contexts: CallContext[] = [];
  readonly streams: ServerStream[] = [];
  readonly cancelled: string[] = [];
  messages = 0;
  halfClosed = 0;
  answer: Uint8Array = toBinary(RangeResponseSchema, create(RangeResponseSchema, { count: 3n }));

  unary(path: string, request: Uint8Array, context: CallContext, reply: Parameters<ApiHandler['unary']>[3]) {
    this.contexts.push(context);
    expect(Buffer.isBuffer(request)).toBe(false);
    if (path === '/etcdserverpb.KV/Range') setImmediate(() => reply(null, [this.answer]));
    return () => this.cancelled.push(path);
  }

  stream(path: string, context: CallContext, stream: ServerStream): void {
    this.contexts.push(context);
    this.streams.push(stream);
    stream.onMessage = () => this.messages++;
    stream.onHalfClose = () => this.halfClosed++;
    stream.onCancel = () => this.cancelled.push(path);
  }
}

const routes: RouteTable = {
  exact: { '/health': (_query, reply) => reply(200, 'application/json', '{"health":"true"}') },
  fallback: undefined,
};

const everybody: HttpAccess = { cors: ['*'], hostWhitelist: ['*'] };

async function serve(access: HttpAccess = everybody, enabled = true) {
  const handler = new Handler();
  const refusedHosts: string[] = [];
  const clock = new RealClock();
  const ports = { clock, timers: new RealTimers(), span: undefined };
  const http = new ClientHttp({
    access,
    json: enabled ? new JsonApi(handler, { maxRequestBytes: 1000 }, ports) : undefined,
    onHttp1: httpRoutes(routes),
    plain: plainRoutes(routes),
    onRefusedHost: (host) => refusedHosts.push(host),
  });
  const edge = new RpcEdge(handler, {
    maxRequestBytes: 1000,
    maxConcurrentStreams: 0xffffffff,
    keepaliveMinTimeMs: 5_000,
    keepaliveIntervalMs: 7_200_000,
    keepaliveTimeoutMs: 20_000,
    telemetry: undefined,
    plain: http.onPlain,
    plainStream: http.onPlainStream,
  });
  const listener = new Listener({ onHttp2: (socket) => edge.accept(socket), onHttp1: http.onHttp1 });
  const [port] = await listener.listen([
    { text: 'http://127.0.0.1:0', scheme: 'http', host: '127.0.0.1', port: 0 },
  ]);
  closers.push(
    () => listener.destroy(),
    () => edge.stop(0, () => {}),
  );
  return { handler, port: port!, refusedHosts };
}

interface Exchange {
  readonly status: Promise<number>;
  readonly headers: Promise<Record<string, unknown>>;
  /** All so far. */
  text(): string;
  readonly ended: Promise<void>;
  write(text: string): void;
  end(text?: string): void;
  pause(): void;
  resume(): void;
  leave(): void;
}

interface Options {
  readonly method?: string;
  readonly headers?: Record<string, string>;
}

type Open = (port: number, path: string, options?: Options) => Exchange;

function overHttp1(port: number, path: string, { method = 'POST', headers = {} }: Options = {}): Exchange {
  let got = '';
  const request: ClientRequest = httpRequest({
    port,
    host: '127.0.0.1',
    path,
    method,
    headers,
    agent: false,
  });
  const response = new Promise<IncomingMessage>((resolve) => request.on('response', resolve));
  const ended = response.then(
    (message) =>
      new Promise<void>((resolve) => {
        message.setEncoding('utf8');
        message.on('data', (text: string) => {
          got += text;
        });
        message.on('end', resolve);
        message.on('error', () => {});
      }),
  );
  request.on('error', () => {});
  request.flushHeaders();
  return {
    status: response.then((message) => message.statusCode!),
    headers: response.then((message) => message.headers),
    text: () => got,
    ended,
    write: (text) => request.write(text),
    end: (text = '') => request.end(text),
    pause: () => void response.then((message) => message.pause()),
    resume: () => void response.then((message) => message.resume()),
    leave: () => request.destroy(),
  };
}

function overHttp2(port: number, path: string, { method = 'POST', headers = {} }: Options = {}): Exchange {
  const { host, ...rest } = headers;
  const session = connectHttp2(`http://127.0.0.1:${port}`);
  closers.push(() => session.destroy());
  const authority = host === undefined ? {} : { ':authority': host };
  const stream = session.request(
    { ':method': method, ':path': path, ...authority, ...rest },
    { endStream: false },
  );
  let got = '';
  stream.setEncoding('utf8');
  stream.on('data', (text: string) => {
    got += text;
  });
  stream.on('error', () => {});
  const response = new Promise<Record<string, unknown>>((resolve) => stream.on('response', resolve));
  return {
    status: response.then((fields) => fields[':status'] as number),
    headers: response,
    text: () => got,
    ended: new Promise((resolve) => stream.on('end', resolve)),
    write: (text) => stream.write(text),
    end: (text = '') => stream.end(text),
    pause: () => stream.pause(),
    resume: () => stream.resume(),
    leave: () => stream.close(8),
  };
}

const event = (id: number): Uint8Array =>
  toBinary(
    WatchResponseSchema,
    create(WatchResponseSchema, { watchId: BigInt(id), cancelReason: 'x'.repeat(20_000) }),
  );

describe.each<[string, Open]>([
  ['HTTP/1.1', overHttp1],
  ['HTTP/2', overHttp2],
])('over %s', (_, open) => {
  test('a unary call, with its headers and a length', async () => {
    const { handler, port } = await serve();
    const call = open(port, '/v3/kv/range', {
      headers: { authorization: 'Bearer t.1', 'grpc-timeout': '9S' },
    });
    call.write('{"key":');
    call.end('"Zm9v"}');
    await call.ended;
    expect([await call.status, call.text()]).toEqual([200, '{"count":"3"}']);
    expect(await call.headers).toMatchObject({
      'content-type': 'application/json',
      'content-length': '13',
      'grpc-metadata-content-type': 'application/grpc',
      'access-control-allow-origin': '*',
    });
    expect(handler.contexts[0]!.metadata('authorization')).toBe('t.1');
    expect(handler.contexts[0]!.deadlineMs).toBeGreaterThan(0);
    expect(handler.contexts[0]!.peer).toMatch(/^127\.0\.0\.1:\d+$/);
  });

  test('errors: unknown path, wrong method, malformed body', async () => {
    const { port } = await serve();
    const table = [
      ['POST', '/v3/nope', '{}', 404, 5],
      ['GET', '/v3/kv/range', '', 501, 12],
      ['POST', '/v3beta/kv/range', 'x', 400, 3],
      ['POST', '/v3/kv%2Frange', '', 200, undefined],
    ] as const;
    for (const [method, path, body, status, code] of table) {
      const call = open(port, path, { method });
      call.end(body);
      await call.ended;
      expect([await call.status, (JSON.parse(call.text()) as { code?: number }).code]).toEqual([
        status,
        code,
      ]);
    }
  });

  test('both bodies of a stream are open at the same time', async () => {
    const { handler, port } = await serve();
    const call = open(port, '/v3/watch');
    await expect.poll(() => handler.streams.length).toBe(1);
    for (let i = 1; i <= 3; i++) {
      call.write('{"progress_request":{}}');
      await expect.poll(() => handler.messages).toBe(i);
      handler.streams[0]!.send([event(i)]);
      await expect.poll(() => call.text().split('\n').length).toBe(i + 1);
    }
    expect(await call.status).toBe(200);
    call.end();
    await expect.poll(() => handler.halfClosed).toBe(1);
    handler.streams[0]!.end({ code: 14, message: 'etcdserver: no leader' });
    await call.ended;
    const last = call.text().split('\n').at(-2)!;
    expect(JSON.parse(last)).toEqual({ error: { code: 14, message: 'etcdserver: no leader' } });
    expect(handler.cancelled).toEqual([]);
  });

  test('a client that leaves cancels its calls', async () => {
    const { handler, port } = await serve();
    const stream = open(port, '/v3/watch');
    const call = open(port, '/v3/kv/put');
    call.end('{}');
    await expect.poll(() => handler.contexts.length).toBe(2);
    stream.leave();
    call.leave();
    await expect.poll(() => handler.cancelled.length).toBe(2);
    expect(handler.cancelled.sort()).toEqual(['/etcdserverpb.KV/Put', '/etcdserverpb.Watch/Watch']);
  });

  test('a client that does not read holds its stream back', async () => {
    const { handler, port } = await serve();
    const call = open(port, '/v3/watch');
    await expect.poll(() => handler.streams.length).toBe(1);
    const stream = handler.streams[0]!;
    let drains = 0;
    stream.onDrain = () => drains++;
    stream.send([event(0)]);
    await call.status;
    call.pause();
    let sent = 1;
    // Until sockets and windows are full, and stay so.
    for (let held = false; !held; ) {
      const before = drains;
      while (stream.send([event(sent++)])) expect(sent).toBeLessThan(100_000);
      await new Promise((resolve) => setTimeout(resolve, 40));
      held = drains === before;
    }
    expect(stream.queuedBytes()).toBeGreaterThan(0);
    const before = drains;
    call.resume();
    await expect.poll(() => drains, { timeout: 10_000 }).toBeGreaterThan(before);
    stream.end(null);
    await call.ended;
    const ids = call
      .text()
      .trimEnd()
      .split('\n')
      .map((line) => (JSON.parse(line) as { result: { watch_id?: string } }).result.watch_id);
    expect(ids).toEqual(Array.from({ length: sent }, (_each, i) => (i === 0 ? undefined : String(i))));
  });

  test('a large answer arrives whole', async () => {
    const { handler, port } = await serve();
    const kvs = Array.from({ length: 300 }, (_each, i) => ({
      key: new Uint8Array([i >> 8, i]),
      value: new Uint8Array(20_000).fill(i),
    }));
    handler.answer = toBinary(RangeResponseSchema, create(RangeResponseSchema, { kvs, more: true }));
    const call = open(port, '/v3/kv/range');
    call.end('{}');
    await call.ended;
    const got = JSON.parse(call.text()) as { kvs: { value: string }[]; more: boolean };
    expect([got.kvs.length, got.more]).toEqual([300, true]);
    expect(got.kvs[255]!.value).toBe(Buffer.alloc(20_000, 255).toString('base64'));
  });

  test('CORS headers go to the origins that are allowed, on every route', async () => {
    const { port } = await serve({ cors: ['https://a.example'], hostWhitelist: [] });
    for (const path of ['/v3/kv/range', '/health', '/nowhere']) {
      const method = path === '/v3/kv/range' ? 'POST' : 'GET';
      for (const origin of ['https://a.example', 'https://b.example', undefined]) {
        const call = open(port, path, { method, headers: origin === undefined ? {} : { origin } });
        call.end();
        const headers = await call.headers;
        const allowed = origin === 'https://a.example';
        expect(headers['access-control-allow-origin'], path).toBe(allowed ? origin : undefined);
        expect(headers['access-control-allow-headers']).toBe(
          allowed ? 'accept, content-type, authorization' : undefined,
        );
      }
    }
    const preflight = open(port, '/v3/kv/put', {
      method: 'OPTIONS',
      headers: { origin: 'https://a.example' },
    });
    preflight.end();
    expect(await preflight.status).toBe(200);
    expect((await preflight.headers)['access-control-allow-methods']).toBe('POST, GET, OPTIONS, PUT, DELETE');
  });

  test('a host that is not on the list is turned away from every route', async () => {
    const { port, refusedHosts } = await serve({ cors: [], hostWhitelist: ['db.example', '::1'] });
    for (const path of ['/v3/kv/range', '/health']) {
      for (const host of ['db.example', 'db.example:2379', '[::1]:2379']) {
        const call = open(port, path, { method: path === '/health' ? 'GET' : 'POST', headers: { host } });
        call.end();
        expect(await call.status, host).toBe(200);
      }
      for (const host of [`evil.example:${port}`, '[::1]', 'db.example.:1']) {
        const call = open(port, path, { headers: { host } });
        call.end('{}');
        await call.ended;
        expect([await call.status, call.text()], host).toEqual([
          421,
          expect.stringContaining('CVE-2018-5702'),
        ]);
      }
    }
    expect(refusedHosts.slice(0, 3)).toEqual(['evil.example', '[::1]', 'db.example.']);
  });

  test('turned off, its paths are unknown', async () => {
    const { port, handler } = await serve(everybody, false);
    const call = open(port, '/v3/kv/range');
    call.end('{}');
    await call.ended;
    expect([await call.status, call.text()]).toEqual([404, '404 page not found\n']);
    expect(handler.contexts).toEqual([]);
    const health = open(port, '/health', { method: 'GET' });
    health.end();
    await health.ended;
    expect(health.text()).toBe('{"health":"true"}');
  });
});

test('--cors and --host-whitelist are lists; an origin is compared as browsers write it', () => {
  const read = (...args: string[]) => {
    const outcome = readNodeConfig('gateway', {
      args: ['--members=http://127.0.0.1:2380', ...args],
      env: {},
      readFile: () => '',
    });
    if (outcome.kind !== 'run') throw new Error(outcome.kind);
    const { cors, hostWhitelist, enableGrpcGateway } = outcome.config;
    return { cors, hostWhitelist, enableGrpcGateway };
  };
  expect(read()).toEqual({ cors: ['*'], hostWhitelist: ['*'], enableGrpcGateway: true });
  expect(
    read(
      '--cors=http://A.example:80,https://b.example:8443',
      '--host-whitelist=a,::1',
      '--enable-grpc-gateway=false',
    ),
  ).toEqual({
    cors: ['http://a.example', 'https://b.example:8443'],
    hostWhitelist: ['a', '::1'],
    enableGrpcGateway: false,
  });
  expect(read('--cors=', '--host-whitelist=')).toMatchObject({ cors: [], hostWhitelist: [] });
  for (const wrong of ['a.example', 'http://a.example/path', 'ftp://a.example']) {
    expect(() => read(`--cors=${wrong}`)).toThrow(`invalid value "${wrong}" for flag --cors`);
  }
});
