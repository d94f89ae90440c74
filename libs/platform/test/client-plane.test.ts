import { connect as connectHttp2 } from 'node:http2';
import { connect } from 'node:net';
import {
  Client,
  credentials,
  type Metadata,
  Metadata as MetadataClass,
  type ServiceError,
  status as Status,
} from '@grpc/grpc-js';
import { unimplemented } from '@quoin/contracts';
import type { ApiHandler, CallContext, ServerStream } from '@quoin/gateway';
import {
  httpRoutes,
  Listener,
  plainRoutes,
  type RouteTable,
  RpcEdge,
  startTelemetry,
  type Telemetry,
  tracingConfig,
} from '@quoin/platform';
import { afterEach, expect, test } from 'vitest';

const range = '/etcdserverpb.KV/Range';
const watch = '/etcdserverpb.Watch/Watch';
const keepAlive = '/etcdserverpb.Lease/LeaseKeepAlive';
const toBuffer = (bytes: Uint8Array): Buffer => Buffer.from(bytes);
const same = (buffer: Buffer): Buffer => buffer;

/** Answers Range with the request's bytes in two pieces, Watch with each message; remembers what it was told. */
class Echo implements ApiHandler {
  readonly contexts: CallContext[] = [];
  readonly cancelled: string[] = [];
  streams: ServerStream[] = [];

  unary(path: string, request: Uint8Array, context: CallContext, reply: Parameters<ApiHandler['unary']>[3]) {
    this.contexts.push(context);
    const text = Buffer.from(request).toString();
    expect(Buffer.isBuffer(request)).toBe(false);
    if (path !== range) reply(unimplemented(path), []);
    else if (text === 'fail')
      reply(
        { code: Status.OUT_OF_RANGE, message: 'etcdserver: mvcc: required revision is a future revision' },
        [],
      );
    else if (text !== 'wait') reply(null, [request.subarray(0, 1), request.subarray(1)]);
    return () => {
      this.cancelled.push(path);
    };
  }

  stream(path: string, context: CallContext, stream: ServerStream): void {
    this.contexts.push(context);
    if (path !== watch && path !== keepAlive) {
      stream.end(unimplemented(path));
      return;
    }
    this.streams.push(stream);
    stream.onMessage = (message) => {
      if (Buffer.from(message).toString() === 'end')
        stream.end({ code: Status.UNAVAILABLE, message: 'etcdserver: no leader' });
      else stream.send([message]);
    };
    // grpc-js ends its side before it resets the stream: only what outlives that can see the reset.
    stream.onHalfClose = () => (path === watch ? stream.end(null) : undefined);
    stream.onCancel = () => this.cancelled.push(path);
  }
}

const closers: (() => void)[] = [];
afterEach(() => {
  for (const close of closers.splice(0)) close();
});

const routes: RouteTable = {
  exact: { '/health': (query, reply) => reply(200, 'application/json', JSON.stringify([...query])) },
  fallback: undefined,
};

function makeEdge(echo: Echo, telemetry?: Telemetry): RpcEdge {
  return new RpcEdge(echo, {
    maxRequestBytes: 1000,
    maxConcurrentStreams: 0xffffffff,
    keepaliveMinTimeMs: 5_000,
    keepaliveIntervalMs: 7_200_000,
    keepaliveTimeoutMs: 20_000,
    telemetry,
    plain: plainRoutes(routes),
  });
}

async function serve(telemetry?: Telemetry) {
  const echo = new Echo();
  const api = makeEdge(echo, telemetry);
  const listener = new Listener({
    onHttp2: (socket) => api.accept(socket),
    onHttp1: httpRoutes(routes),
  });
  const [port] = await listener.listen([
    { text: 'http://127.0.0.1:0', scheme: 'http', host: '127.0.0.1', port: 0 },
  ]);
  const client = new Client(`127.0.0.1:${port}`, credentials.createInsecure(), {
    'grpc.enable_http_proxy': 0,
  });
  closers.push(
    () => client.close(),
    () => listener.destroy(),
    () => api.stop(0, () => {}),
  );
  return { echo, api, listener, client, port: port! };
}

function call(
  client: Client,
  path: string,
  request: string | Buffer,
  options: { deadline?: Date; metadata?: Metadata } = {},
) {
  return new Promise<{ error: ServiceError | null; response: string | undefined }>((resolve) => {
    const { metadata = new MetadataClass(), ...rest } = options;
    client.makeUnaryRequest(path, toBuffer, same, Buffer.from(request), metadata, rest, (error, response) =>
      resolve({ error, response: response?.toString() }),
    );
  });
}

function raw(port: number, chunks: readonly string[]): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect(port, '127.0.0.1');
    let got = '';
    socket.on('data', (data) => {
      got += data.toString('latin1');
      if (got.length > 8) socket.end();
    });
    socket.on('close', () => resolve(got));
    socket.on('error', reject);
    const next = (i: number): void => {
      if (i === chunks.length || socket.writableEnded) return;
      socket.write(Buffer.from(chunks[i]!, 'latin1'));
      setTimeout(next, 5, i + 1);
    };
    socket.once('connect', () => next(0));
  });
}

test('a unary call carries bytes, metadata and the deadline, and gets pieces as one message', async () => {
  const { echo, client } = await serve();
  const metadata = new MetadataClass();
  metadata.set('hasleader', 'true');
  const before = performance.now();
  const { response } = await call(client, range, 'hello', {
    metadata,
    deadline: new Date(Date.now() + 5000),
  });
  expect(response).toBe('hello');
  const context = echo.contexts[0]!;
  expect(context.metadata('hasleader')).toBe('true');
  expect(context.metadata('token')).toBeUndefined();
  expect(context.deadlineMs! - before).toBeGreaterThan(4000);
  expect(context.deadlineMs! - before).toBeLessThan(6000);
  expect(context.peer).toMatch(/^127\.0\.0\.1:\d+$/);
  expect(context.trace).toBeUndefined();
  expect((await call(client, range, 'x')).response).toBe('x');
  expect(echo.contexts[1]!.deadlineMs).toBeUndefined();
});

test('grpc-trace-bin is read as bytes: from grpc-js, without padding, and the first of several', async () => {
  // Nobody listens there, and the dice never say yes: a context can only come from the caller.
  const flags = {
    address: '127.0.0.1:9',
    defaultAddress: '',
    serviceName: '',
    instanceId: '',
    samplingRate: 0,
  };
  const telemetry = await startTelemetry(tracingConfig(flags, 'i', {})!, {
    service: 'test',
    version: '0',
    log: { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} },
  });
  closers.push(() => void telemetry.shutdown());
  const { echo, client, port } = await serve(telemetry);
  const traceId = '0af7651916cd43dd8448eb211c80319c';
  const bin = Buffer.from(`0000${traceId}01b7ad6b71692033310201`, 'hex');
  const metadata = new MetadataClass();
  metadata.set('grpc-trace-bin', bin);
  await call(client, range, 'x', { metadata });
  const session = connectHttp2(`http://127.0.0.1:${port}`);
  const header = async (value: string) => {
    const stream = session.request({
      ':method': 'POST',
      ':path': range,
      'content-type': 'application/grpc',
      'grpc-trace-bin': value,
    });
    stream.end(Buffer.from([0, 0, 0, 0, 1, 120]));
    stream.resume();
    await new Promise((resolve) => stream.once('close', resolve));
  };
  const text = bin.toString('base64');
  expect(text).toMatch(/=$/);
  await header(text.replace(/=+$/, ''));
  await header(`${text},AAAA`);
  await header('not base64!');
  await header('');
  session.close();
  const traces = echo.contexts.map(({ trace }) => trace && Buffer.from(trace).toString('hex', 0, 16));
  expect(traces).toEqual([traceId, traceId, traceId, undefined, undefined]);
});

test('a client whose headers never end is cut, one whose answer or body takes long is not', async () => {
  const listener = new Listener({
    onHttp2: undefined,
    onHttp1: (request, response) => {
      if (request.method === 'POST') request.on('end', () => response.end('body read')).resume();
      else setTimeout(() => response.end('late'), 900);
    },
    headersTimeoutMs: 300,
  });
  closers.push(() => listener.destroy());
  const [port] = await listener.listen([
    { text: 'http://127.0.0.1:0', scheme: 'http', host: '127.0.0.1', port: 0 },
  ]);
  const trickle = (start: string, more: string, lastMs: number, last: string) =>
    new Promise<{ got: string; afterMs: number }>((resolve) => {
      const socket = connect(port!, '127.0.0.1');
      const began = performance.now();
      let got = '';
      socket.write(start);
      const timer = setInterval(() => socket.writable && socket.write(more), 50);
      const end = setTimeout(() => {
        clearInterval(timer);
        if (socket.writable) socket.end(last);
      }, lastMs);
      socket.on('data', (data) => {
        got += data.toString();
      });
      socket.on('error', () => {});
      socket.on('close', () => {
        clearInterval(timer);
        clearTimeout(end);
        resolve({ got, afterMs: performance.now() - began });
      });
    });
  const head = 'POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n';
  const [slow, late, body] = await Promise.all([
    trickle('GET / HTTP/1.1\r\nHost: a\r\n', 'X-More: 1\r\n', 5_000, '\r\n'),
    trickle('GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n', '', 2_000, ''),
    trickle(`${head}Connection: close\r\n\r\n`, '1\r\nx\r\n', 1_000, '0\r\n\r\n'),
  ]);
  expect(slow.afterMs).toBeLessThan(2_000);
  expect(slow.got).toMatch(/^(HTTP\/1.1 408|$)/);
  expect(late.got).toMatch(/late/);
  expect(body.got).toMatch(/body read/);
});

test('a status comes back with its code and exact text', async () => {
  const { client } = await serve();
  const { error } = await call(client, range, 'fail');
  expect(error).toMatchObject({
    code: Status.OUT_OF_RANGE,
    details: 'etcdserver: mvcc: required revision is a future revision',
  });
});

test('unknown paths get the handler’s answer, which is Go’s', async () => {
  const { client } = await serve();
  expect((await call(client, '/etcdserverpb.KV/Nope', '')).error).toMatchObject({
    code: Status.UNIMPLEMENTED,
    details: 'unknown method Nope for service etcdserverpb.KV',
  });
  expect((await call(client, '/a.B/C', '')).error).toMatchObject({
    code: Status.UNIMPLEMENTED,
    details: 'unknown service a.B',
  });
});

test('a message above the limit is refused, one at the limit is not', async () => {
  const { client } = await serve();
  const limit = 1000 + 512 * 1024;
  expect((await call(client, range, Buffer.alloc(limit))).error).toBeNull();
  expect((await call(client, range, Buffer.alloc(limit + 1))).error).toMatchObject({
    code: Status.RESOURCE_EXHAUSTED,
  });
});

test('a call that its client gives up is cancelled', async () => {
  const { echo, client } = await serve();
  const { error } = await call(client, range, 'wait', { deadline: new Date(Date.now() + 100) });
  expect(error).toMatchObject({ code: Status.DEADLINE_EXCEEDED });
  await expect.poll(() => echo.cancelled).toEqual([range]);
});

test('streams: messages in order, half close, status after what was sent', async () => {
  const { client } = await serve();
  const stream = client.makeBidiStreamRequest<Buffer, Buffer>(watch, toBuffer, same);
  const got: string[] = [];
  const done = new Promise<{ code: number; details: string }>((resolve) => stream.on('status', resolve));
  stream.on('error', () => {});
  stream.on('data', (message: Buffer) => got.push(message.toString()));
  for (let i = 0; i < 100; i++) stream.write(Buffer.from(`m${i}`));
  stream.write(Buffer.from('end'));
  expect(await done).toMatchObject({ code: Status.UNAVAILABLE, details: 'etcdserver: no leader' });
  expect(got).toEqual(Array.from({ length: 100 }, (_, i) => `m${i}`));
  const second = client.makeBidiStreamRequest<Buffer, Buffer>(watch, toBuffer, same);
  const ended = new Promise<{ code: number }>((resolve) => second.on('status', resolve));
  second.on('data', () => {});
  second.end();
  expect((await ended).code).toBe(Status.OK);
});

test('a stream whose client leaves is cancelled once', async () => {
  const { echo, client } = await serve();
  const stream = client.makeBidiStreamRequest<Buffer, Buffer>(keepAlive, toBuffer, same);
  stream.on('error', () => {});
  stream.on('data', () => stream.cancel());
  stream.write(Buffer.from('x'));
  await expect.poll(() => echo.cancelled).toEqual([keepAlive]);
});

test('a client that does not read fills the stream’s queue and empties it when it reads', async () => {
  const { echo, client } = await serve();
  const stream = client.makeBidiStreamRequest<Buffer, Buffer>(watch, toBuffer, same);
  stream.on('error', () => {});
  stream.write(Buffer.from('x'));
  await expect.poll(() => echo.streams.length).toBe(1);
  const server = echo.streams[0]!;
  let drained = 0;
  server.onDrain = () => drained++;
  let sent = 0;
  // Small pieces, which are copied into memory that is used again once it has been written.
  const send = (): boolean => server.send(new Array<Uint8Array>(25).fill(new Uint8Array(4_000).fill(sent++)));
  while (send());
  for (let i = 0; i < 50; i++) send();
  expect(server.queuedBytes()).toBeGreaterThan(1_000_000);
  expect(drained).toBe(0);
  let read = 0;
  stream.on('data', (data: Buffer) => {
    if (data.length > 1 && data.equals(Buffer.alloc(100_000, read))) read++;
  });
  await expect.poll(() => read, { timeout: 20_000 }).toBe(sent);
  expect(drained).toBe(1);
  expect(server.queuedBytes()).toBe(0);
});

test('HTTP/1.1 is served on the same port', async () => {
  const { port, client } = await serve();
  const answer = await fetch(`http://127.0.0.1:${port}/health?a=1&a=2&b=`);
  expect(answer.status).toBe(200);
  expect(answer.headers.get('content-type')).toBe('application/json');
  expect(await answer.json()).toEqual([
    ['a', ['1', '2']],
    ['b', ['']],
  ]);
  expect((await fetch(`http://127.0.0.1:${port}/nope`)).status).toBe(404);
  expect((await fetch(`http://127.0.0.1:${port}/health`, { method: 'POST', body: 'x' })).status).toBe(405);
  const head = await fetch(`http://127.0.0.1:${port}/health`, { method: 'HEAD' });
  expect(await head.text()).toBe('');
  expect((await call(client, range, 'both')).response).toBe('both');
});

test('the protocol is told apart however the first bytes are cut', async () => {
  const { port } = await serve();
  const preface = 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n';
  const settings = '\0\0\0\x04\0\0\0\0\0';
  for (const cut of [1, 3, 4, 5, 20]) {
    const got = await raw(port, [preface.slice(0, cut), preface.slice(cut) + settings]);
    // The answer is a SETTINGS frame: length, type 4.
    expect(got.charCodeAt(3), `cut after ${cut}`).toBe(4);
  }
  const letters = 'GET /health HTTP/1.1\r\nHost: x\r\n\r\n';
  expect(await raw(port, [...letters.slice(0, 6), letters.slice(6)])).toMatch(/^HTTP\/1\.1 200/);
  expect(await raw(port, ['GET /health\x00 HTTP/1.1\r\nHost: x\r\n\r\n'])).toMatch(/^HTTP\/1\.1 400/);
  // Neither protocol: a broken preface is not answered (h2spec, http2/3.5.2), nor is TLS where there is none.
  expect(await raw(port, ['PRIVATE / HTTP/1.1\r\nHost: x\r\n\r\n'])).toBe('');
  expect(await raw(port, ['\x16\x03\x01 not http at all\r\n\r\n'])).toBe('');
});

test('a port in use gives one line', async () => {
  const { port } = await serve();
  const second = new Listener({ onHttp2: undefined, onHttp1: () => {} });
  const url = { text: '', scheme: 'http' as const, host: '127.0.0.1', port };
  await expect(second.listen([{ ...url, port: 0 }, url])).rejects.toThrow(
    `listen tcp 127.0.0.1:${port}: bind: address already in use`,
  );
});

test('stop lets calls under way end within the grace time', async () => {
  const { api, client } = await serve();
  await call(client, range, 'x');
  const waiting = call(client, range, 'wait');
  await new Promise((resolve) => setTimeout(resolve, 50));
  const before = performance.now();
  await new Promise<void>((resolve) => api.stop(200, resolve));
  expect(performance.now() - before).toBeGreaterThan(150);
  expect((await waiting).error).not.toBeNull();
});
