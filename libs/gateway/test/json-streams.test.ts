import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { utf8 } from '@quoin/base';
import {
  LeaseKeepAliveRequestSchema,
  LeaseKeepAliveResponseSchema,
  SnapshotResponseSchema,
  WatchRequestSchema,
  WatchResponseSchema,
} from '@quoin/contracts/etcd';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { Answer, Bench, cut, maxMessageBytes } from './json-client.ts';

const watchPath = '/v3/watch';
const keepAlivePath = '/v3/lease/keepalive';

const created = (id: number): Uint8Array =>
  toBinary(WatchResponseSchema, create(WatchResponseSchema, { watchId: BigInt(id), created: true }));

test('each JSON value of a body is a message, however the body is cut and spaced', () => {
  fc.assert(
    fc.property(
      fc.array(fc.bigInt(1n, 2n ** 63n - 1n), { maxLength: 5 }),
      fc.constantFrom('', '\n', ' \r\n\t'),
      fc.array(fc.nat(), { maxLength: 6 }),
      (ids, space, places) => {
        const bench = new Bench();
        const body = ids.map((id) => `{"ID":"${id}"}${space}`).join('');
        bench.send(keepAlivePath, { body: cut(utf8(body), places) });
        const { messages, halfClosed, path } = bench.handler.streams[0]!;
        expect(messages.map((bytes) => fromBinary(LeaseKeepAliveRequestSchema, bytes).ID)).toEqual(ids);
        expect([path, halfClosed]).toEqual(['/etcdserverpb.Lease/LeaseKeepAlive', true]);
      },
    ),
  );
});

test('a watch: requests while the body is open, a line for each response, then the error', () => {
  const bench = new Bench();
  const { call, answer } = bench.send(watchPath);
  const seen = bench.handler.streams[0]!;
  // The stream is there before its first message, and says nothing before the handler does.
  expect(answer.status).toBe(0);
  call.body(utf8('{"create_request":{"key":"Zm9v","filters":["NODELETE"],"watch_id":"7"}}{"prog'));
  expect(seen.messages.length).toBe(1);
  const first = fromBinary(WatchRequestSchema, seen.messages[0]!);
  expect(first.requestUnion).toMatchObject({
    case: 'createRequest',
    value: { key: utf8('foo'), filters: [1], watchId: 7n },
  });
  expect(seen.stream.send([created(7).subarray(0, 1), created(7).subarray(1)])).toBe(true);
  expect([answer.status, answer.headers.get('Grpc-Metadata-Content-Type')]).toEqual([
    200,
    'application/grpc',
  ]);
  expect(answer.lines).toEqual([{ result: { watch_id: '7', created: true } }]);
  call.body(utf8('ress_request":{}}'));
  expect(seen.messages.length).toBe(2);
  call.endOfBody();
  expect([seen.halfClosed, seen.cancelled]).toEqual([true, false]);
  seen.stream.send([created(0)]);
  seen.stream.end({ code: 14, message: 'etcdserver: no leader' });
  expect(answer.ended).toBe(true);
  expect(answer.lines.slice(1)).toEqual([
    { result: { created: true } },
    { error: { code: 14, message: 'etcdserver: no leader' } },
  ]);
  expect(bench.spans[0]!.end).toEqual([14, 'etcdserver: no leader']);
  // Over is over.
  call.body(utf8('{}'));
  call.abort();
  expect([seen.messages.length, seen.cancelled]).toEqual([2, false]);
});

test('a stream that ends before its first message', () => {
  const bench = new Bench();
  const failed = bench.send(watchPath, { body: '' });
  bench.handler.streams[0]!.stream.end({ code: 16, message: 'etcdserver: invalid auth token' });
  expect([failed.answer.status, failed.answer.lines]).toEqual([
    401,
    [{ error: { code: 16, message: 'etcdserver: invalid auth token' } }],
  ]);
  const well = bench.send(keepAlivePath, { body: '' });
  bench.handler.streams[1]!.stream.end(null);
  expect([well.answer.status, well.answer.text, well.answer.ended]).toEqual([200, '', true]);
});

test('a malformed first value is answered; after a good one it ends the client side', () => {
  for (const body of ['x', '{"ID":}', '{"ID":"1"', '{"ID":"x"}']) {
    const bench = new Bench();
    const { answer } = bench.send(keepAlivePath, { body });
    expect([answer.status, answer.json], body).toEqual([400, { code: 3, message: expect.any(String) }]);
    const { messages, cancelled, halfClosed } = bench.handler.streams[0]!;
    expect([messages.length, cancelled, halfClosed]).toEqual([0, true, false]);
  }
  for (const junk of ['x', '{"ID":}', '{"ID":"2"', '{"ID":"x"}{"ID":"3"}', ',{"ID":"3"}']) {
    const bench = new Bench();
    const { answer } = bench.send(keepAlivePath, { body: `{"ID":"1"}${junk}` });
    const { messages, cancelled, halfClosed, stream } = bench.handler.streams[0]!;
    expect([messages.length, cancelled, halfClosed], junk).toEqual([1, false, true]);
    stream.send([toBinary(LeaseKeepAliveResponseSchema, create(LeaseKeepAliveResponseSchema, { ID: 1n }))]);
    stream.end(null);
    expect(answer.lines).toEqual([{ result: { ID: '1' } }]);
  }
});

test('a message that is too long ends the stream', () => {
  const bench = new Bench();
  const key = Buffer.alloc(maxMessageBytes).toString('base64');
  const { answer } = bench.send(watchPath, { body: `{"create_request":{"key":"${key}"}}` });
  const { messages, cancelled } = bench.handler.streams[0]!;
  expect([answer.status, messages.length, cancelled]).toEqual([429, 0, true]);
  expect(answer.lines).toEqual([
    { error: { code: 8, message: expect.stringMatching(/^grpc: received message larger than max \(/) } },
  ]);
});

test('a server stream takes one request, with or without a body', () => {
  for (const body of ['', '{}', '{} {"more":1}', ' \n']) {
    const bench = new Bench();
    const { answer } = bench.send('/v3/maintenance/snapshot', { body });
    const { path, messages, halfClosed, stream } = bench.handler.streams[0]!;
    expect([path, messages.length, halfClosed]).toEqual(['/etcdserverpb.Maintenance/Snapshot', 1, true]);
    const blob = new Uint8Array(32 * 1024).fill(1);
    const part = create(SnapshotResponseSchema, { remainingBytes: 5n, blob });
    stream.send([toBinary(SnapshotResponseSchema, part)]);
    stream.end(null);
    expect(answer.lines).toEqual([
      { result: { remaining_bytes: '5', blob: Buffer.from(blob).toString('base64') } },
    ]);
  }
  const bench = new Bench();
  expect(bench.send('/v3/maintenance/snapshot', { body: 'x' }).answer.json).toEqual({
    code: 3,
    message: "invalid character 'x' looking for beginning of value",
  });
  expect(bench.handler.streams).toEqual([]);
});

test('deadline and leaving client cancel a stream', () => {
  const bench = new Bench();
  const { answer } = bench.send(watchPath, { headers: { 'grpc-timeout': '1S' } });
  const seen = bench.handler.streams[0]!;
  expect(seen.context.deadlineMs).toBe(bench.world.nowMs + 1000);
  seen.stream.send([created(0)]);
  bench.world.run(1000);
  expect(seen.cancelled).toBe(true);
  expect(answer.lines.at(-1)).toEqual({ error: { code: 4, message: 'context deadline exceeded' } });
  seen.stream.send([created(1)]);
  seen.stream.end(null);
  expect(answer.lines.length).toBe(2);

  const { call, answer: left } = bench.send(watchPath);
  const other = bench.handler.streams[1]!;
  call.abort();
  expect(other.cancelled).toBe(true);
  other.stream.send([created(0)]);
  expect([left.status, left.ended]).toEqual([0, false]);
});

test('a client that does not read holds its stream back, and gets everything in order later', () => {
  const bench = new Bench();
  const answer = new Answer();
  answer.room = 1000;
  const { call } = bench.send(watchPath, { answer });
  const seen = bench.handler.streams[0]!;
  let sent = 0;
  while (seen.stream.send([created(++sent)])) expect(sent).toBeLessThan(1000);
  const held = sent;
  // The handler may overdo it: nothing is lost, and all of it is accounted for.
  for (; sent < held + 50; ) expect(seen.stream.send([created(++sent)])).toBe(false);
  expect(seen.stream.queuedBytes()).toBeGreaterThan(50 * (created(1).length - 1));
  expect(answer.lines.length).toBe(held);
  expect(seen.drains).toBe(0);
  for (let i = 0; i < 100 && seen.drains === 0; i++) {
    answer.read();
    call.drained();
  }
  expect([seen.drains, seen.stream.queuedBytes()]).toEqual([1, 0]);
  seen.stream.end(null);
  expect(answer.lines).toEqual(
    Array.from({ length: sent }, (_, i) => ({ result: { watch_id: String(i + 1), created: true } })),
  );
});

test('an end waits for the messages before it', () => {
  const bench = new Bench();
  const answer = new Answer();
  answer.room = 10;
  const { call } = bench.send(watchPath, { answer });
  const { stream } = bench.handler.streams[0]!;
  for (let i = 0; i < 5; i++) stream.send([created(i)]);
  stream.end({ code: 1, message: 'etcdserver: watch canceled' });
  expect(answer.ended).toBe(false);
  for (let i = 0; i < 10 && !answer.ended; i++) {
    answer.read();
    call.drained();
  }
  expect(answer.lines.length).toBe(6);
  expect(answer.lines[5]).toEqual({ error: { code: 1, message: 'etcdserver: watch canceled' } });
});
