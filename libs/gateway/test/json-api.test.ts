import { create, type DescMessage, fromBinary, fromJson, toBinary, toJson } from '@bufbuild/protobuf';
import { utf8 } from '@quoin/base';
import { services } from '@quoin/contracts';
import {
  LeaseGrantRequestSchema,
  type RangeResponse,
  RangeResponseSchema,
  TxnResponseSchema,
} from '@quoin/contracts/etcd';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { Answer, Bench, cut, maxMessageBytes } from './json-client.ts';

const rangePath = '/v3/kv/range';
const options = { useProtoFieldName: true } as const;

test('every route of every service reaches its RPC, and nothing else does', () => {
  const bench = new Bench();
  let routes = 0;
  for (const rpc of services.flatMap((service) => service.rpcs)) {
    for (const route of rpc.routes) {
      routes++;
      for (const path of [route, route.replace('/v3/', '/v3beta/')]) {
        expect(bench.api.serves(path)).toBe(true);
        bench.send(path, { body: '' });
        const { unaries, streams } = bench.handler;
        expect((rpc.kind === 'unary' ? unaries : streams).at(-1)!.path).toBe(rpc.path);
      }
    }
  }
  expect(routes).toBe(51);
  expect(bench.handler.unaries.length + bench.handler.streams.length).toBe(2 * routes);

  expect(bench.api.serves('/health')).toBe(false);
  expect(bench.api.serves('/v3')).toBe(false);
  for (const path of ['/v3/', '/v3/kv', '/v3/kv/range/', '/v3/KV/range', '/v3/kv/rangestream']) {
    const { answer } = bench.send(path, { body: '{}' });
    expect([answer.status, answer.text]).toEqual([404, '{"code":5,"message":"Not Found"}']);
  }
  for (const method of ['GET', 'PUT', 'DELETE', 'post']) {
    const { answer } = bench.send(rangePath, { method });
    expect([answer.status, answer.text]).toEqual([501, '{"code":12,"message":"Method Not Allowed"}']);
  }
  expect(bench.handler.unaries.length + bench.handler.streams.length).toBe(2 * routes);
});

test('a status has the HTTP code and the body of grpc-gateway', () => {
  const codes = [200, 499, 500, 400, 504, 404, 409, 403, 429, 400, 409, 400, 501, 500, 503, 500, 401, 500];
  for (let code = 1; code < codes.length; code++) {
    const bench = new Bench();
    const answer = bench.ask(rangePath, '{}', { code, message: 'etcdserver: "x" <é>' });
    expect([answer.status, answer.json]).toEqual([codes[code], { code, message: 'etcdserver: "x" <é>' }]);
    expect(answer.headers.get('Content-Type')).toBe('application/json');
    expect(answer.headers.get('WWW-Authenticate')).toBe(code === 16 ? 'etcdserver: "x" < >' : undefined);
    expect(bench.spans).toEqual([{ path: '/etcdserverpb.KV/Range', end: [code, 'etcdserver: "x" <é>'] }]);
  }
  expect(new Bench().ask(rangePath, '{}', { code: 2, message: '' }).text).toBe('{"code":2}');
});

/** JSON of a message with every field drawn, in protobuf's JSON form. */
function jsonOf(desc: DescMessage, depth = 3): fc.Arbitrary<Record<string, unknown>> {
  const fields = desc.fields.map((field) => {
    const one = ((): fc.Arbitrary<unknown> => {
      if (field.message) return depth === 0 ? fc.constant({}) : jsonOf(field.message, depth - 1);
      if (field.enum) return fc.constantFrom(...field.enum.values.flatMap((v) => [v.name, v.number]));
      const type = String(field.scalar);
      if (type === '12') {
        return fc.uint8Array({ maxLength: 40 }).map((bytes) => Buffer.from(bytes).toString('base64'));
      }
      if (type === '9') return fc.string({ unit: 'grapheme', maxLength: 12 });
      if (type === '8') return fc.boolean();
      if (type === '3') return fc.bigInt(-(2n ** 63n), 2n ** 63n - 1n).map(String);
      if (type === '4') return fc.bigInt(0n, 2n ** 64n - 1n).map(String);
      if (type === '13') return fc.nat();
      return fc.integer();
    })();
    return [field, field.fieldKind === 'list' ? fc.array(one, { maxLength: 3 }) : one] as const;
  });
  const taken = new Set<string>();
  const shape: Record<string, fc.Arbitrary<unknown>> = {};
  for (const [field, value] of fields) {
    // One member of a oneof at a time.
    if (field.oneof && taken.has(field.oneof.name)) continue;
    if (field.oneof) taken.add(field.oneof.name);
    shape[field.name] = value;
  }
  return fc.record(shape, { requiredKeys: [] });
}

const requests = services.flatMap((service) => service.rpcs).filter((rpc) => rpc.routes.length > 0);

test('any request, however its body is cut, becomes the message that it says', () => {
  const any = fc
    .constantFrom(...requests)
    .chain((rpc) => fc.tuple(fc.constant(rpc), jsonOf(rpc.request), fc.array(fc.nat(), { maxLength: 5 })));
  fc.assert(
    fc.property(any, fc.constantFrom(0, 1), ([rpc, json, places], spaces) => {
      const bench = new Bench();
      const text = utf8(JSON.stringify({ unknown: [1, { a: '}' }], ...json }, null, spaces));
      const { answer } = bench.send(rpc.routes[0]!, { body: cut(text, places) });
      expect(answer.text).toBe('');
      const { unaries, streams } = bench.handler;
      const got = rpc.kind === 'unary' ? unaries[0]!.request : streams[0]!.messages[0]!;
      const expected = toBinary(
        rpc.request,
        fromJson(rpc.request, json as Parameters<typeof fromJson>[1], { ignoreUnknownFields: true }),
      );
      expect(got).toEqual(expected);
    }),
    { numRuns: 300 },
  );
});

test('what protobuf allows in JSON, and what it does not', () => {
  const decoded = (body: string) => {
    const bench = new Bench();
    const { answer } = bench.send('/v3/kv/range', { body });
    const request = bench.handler.unaries[0]?.request;
    return request === undefined
      ? [answer.status, (answer.json as { code: number }).code]
      : Buffer.from(request).toString('hex');
  };
  // Standard and URL-safe base64, with and without padding.
  for (const text of ['+/+/', '-_-_']) expect(decoded(`{"key":"${text}"}`)).toBe('0a03fbffbf');
  for (const text of ['_w', '_w==', '/w==']) expect(decoded(`{"key":"${text}"}`)).toBe('0a01ff');
  for (const limit of ['5', '"5"', '5.0', '0.5e1']) expect(decoded(`{"limit":${limit}}`)).toBe('1805');
  for (const name of ['keys_only', 'keysOnly']) expect(decoded(`{"${name}":true}`)).toBe('4001');
  for (const order of ['"DESCEND"', '2']) expect(decoded(`{"sort_order":${order}}`)).toBe('2802');
  expect(decoded('{"sort_order":"NOPE","key":null,"limit":0}')).toBe('');
  expect(decoded('{"key":""}')).toBe('');
  expect(decoded('')).toBe('');
  expect(decoded(' \r\n\t')).toBe('');
  // After the first value a body may hold anything.
  expect(decoded('{"limit":5} and so on')).toBe('1805');
  const wrong = [
    '{"key":5}',
    '{"key":"!"}',
    '{"limit":1.5}',
    '{"limit":"x"}',
    '{"keys_only":1}',
    '[]',
    'null',
  ];
  wrong.push(
    '"x"',
    '12',
    'true',
    '{"limit":99999999999999999999}',
    '{"limit":1,"limit":2}',
    '{"kvs":1,"kvs":2}',
  );
  for (const body of wrong) expect(decoded(body), body).toEqual([400, 3]);
});

test('an id of 64 bits is exact without quotes, too', () => {
  for (const id of [
    '9223372036854775807',
    '-9223372036854775808',
    '7587863094830382593',
    '9007199254740993',
  ]) {
    const bench = new Bench();
    bench.send('/v3/lease/grant', { body: `{"note": "\\"1234567890123456789", "ID" : ${id},"TTL":60}` });
    const { ID, TTL } = fromBinary(LeaseGrantRequestSchema, bench.handler.unaries[0]!.request);
    expect([ID, TTL]).toEqual([BigInt(id), 60n]);
  }
});

test.each([
  ['{', 'unexpected EOF'],
  ['{"key":"Zm9v"', 'unexpected EOF'],
  ['"', 'unexpected EOF'],
  ['tru', 'unexpected EOF'],
  ['-', 'unexpected EOF'],
  ['x', "invalid character 'x' looking for beginning of value"],
  ["'a'", "invalid character '\\'' looking for beginning of value"],
  ['{"a":}', "invalid character '}' looking for beginning of value"],
  ['[1,]', "invalid character ']' looking for beginning of value"],
  ['{a', "invalid character 'a' looking for beginning of object key string"],
  ['{"a":1,}', "invalid character '}' looking for beginning of object key string"],
  ['{"a" 1', "invalid character '1' after object key"],
  ['{"a":1 "', `invalid character '"' after object key:value pair`],
  ['[1 2', "invalid character '2' after array element"],
  ['{"a":"\n', "invalid character '\\n' in string literal"],
  ['{"a":"\\x', "invalid character 'x' in string escape code"],
  ['{"a":"\\u00g', "invalid character 'g' in \\u hexadecimal character escape"],
  ['{"a":-x', "invalid character 'x' in numeric literal"],
  ['{"a":1.x', "invalid character 'x' after decimal point in numeric literal"],
  ['{"a":1e+x', "invalid character 'x' in exponent of numeric literal"],
  ['{"a":trux', "invalid character 'x' in literal true (expecting 'e')"],
  ['{"a":01', "invalid character '1' after object key:value pair"],
  ['\\', "invalid character '\\\\' looking for beginning of value"],
  ['\u0001', "invalid character '\\x01' looking for beginning of value"],
  ['é', "invalid character 'Ã' looking for beginning of value"],
])('malformed JSON %j is InvalidArgument in the words of Go', (body, message) => {
  const bench = new Bench();
  const { answer } = bench.send(rangePath, { body });
  expect([answer.status, answer.json]).toEqual([400, { code: 3, message }]);
  expect(bench.handler.unaries).toEqual([]);
});

test('JSON may nest 10000 deep and no deeper', () => {
  const nested = (depth: number): string => `{"?":${'['.repeat(depth - 1)}${']'.repeat(depth - 1)}}`;
  expect(new Bench().send(rangePath, { body: nested(10_000) }).answer.text).toBe('');
  const { answer } = new Bench().send(rangePath, { body: nested(10_001) });
  expect(answer.json).toEqual({ code: 3, message: 'exceeded max depth' });
  // Messages have a bound of their own; neither may end in an overflow of the stack.
  const txns = `${'{"success":[{"request_txn":'.repeat(4000)}{}${'}]}'.repeat(4000)}`;
  expect(new Bench().send('/v3/kv/txn', { body: txns }).answer.json).toMatchObject({ code: 3 });
});

test('it takes as JSON what JSON.parse takes, wherever the text is cut', () => {
  const value = fc.jsonValue({ maxDepth: 3 }).map((json) => JSON.stringify({ '?': json }, null, 1));
  const spoil = fc.tuple(fc.nat(), fc.nat({ max: 2 }), fc.constantFrom(...'{}[]",:\\ 01-+.eEtfn\n\tx'));
  fc.assert(
    fc.property(
      value,
      fc.array(spoil, { maxLength: 2 }),
      fc.array(fc.nat(), { maxLength: 4 }),
      (json, edits, places) => {
        let text = json;
        for (const [at, removed, added] of edits) {
          const from = at % (text.length + 1);
          text = text.slice(0, from) + added + text.slice(from + removed);
        }
        let good = true;
        try {
          good = JSON.parse(text) instanceof Object;
        } catch {
          good = false;
        }
        const bench = new Bench();
        const { answer } = bench.send(rangePath, { body: cut(utf8(text), places) });
        const problem = answer.status === 0 ? '' : (answer.json as { message: string }).message;
        const syntax = /^(invalid character|unexpected EOF)/.test(problem);
        // Beyond syntax: an array is no message, a doubled key is none either, and after its end a body may hold anything.
        if (good) expect(syntax, text).toBe(false);
        else if (answer.status === 0) expect(() => JSON.parse(firstValue(text))).not.toThrow();
      },
    ),
    { numRuns: 1000 },
  );
});

/** Up to the last brace with which the text parses; an edit may have left something behind it. */
function firstValue(text: string): string {
  for (let end = text.indexOf('}'); end >= 0; end = text.indexOf('}', end + 1)) {
    try {
      JSON.parse(text.slice(0, end + 1));
      return text.slice(0, end + 1);
    } catch {
      // Longer.
    }
  }
  return text.trim();
}

function rangeResponse(kvs: number, valueBytes: number): RangeResponse {
  return create(RangeResponseSchema, {
    header: { clusterId: 2n ** 64n - 1n, memberId: 1n, revision: 7n, raftTerm: 2n },
    kvs: Array.from({ length: kvs }, (_, i) => ({
      key: utf8(`k${i}`),
      value: new Uint8Array(valueBytes).fill(i),
      modRevision: BigInt(i),
      lease: -1n,
    })),
    more: true,
    count: BigInt(kvs),
  });
}

test('an answer is the same text in substance, small or large, in one piece or many', () => {
  const any = fc
    .constantFrom(...requests.filter((rpc) => rpc.kind === 'unary'))
    .chain((rpc) => fc.tuple(fc.constant(rpc), jsonOf(rpc.response), fc.array(fc.nat(), { maxLength: 3 })));
  fc.assert(
    fc.property(any, ([rpc, json, places]) => {
      const message = fromJson(rpc.response, json as Parameters<typeof fromJson>[1]);
      const answer = new Bench().ask(
        rpc.routes[0]!,
        '{}',
        null,
        cut(toBinary(rpc.response, message), places),
      );
      expect([answer.status, answer.ended, answer.json]).toEqual([
        200,
        true,
        toJson(rpc.response, message, options),
      ]);
    }),
    { numRuns: 200 },
  );
  for (const [kvs, bytes] of [
    [0, 0],
    [1, 10],
    [1000, 10],
    [3, 100_000],
    [20, 20_000],
  ] as const) {
    const message = rangeResponse(kvs, bytes);
    const answer = new Bench().ask(rangePath, '{}', null, [toBinary(RangeResponseSchema, message)]);
    expect(answer.json).toEqual(toJson(RangeResponseSchema, message, options));
    expect(answer.headers.get('Grpc-Metadata-Content-Type')).toBe('application/grpc');
    // In one part it gets a Content-Length.
    if (kvs * bytes < 1000) expect(answer.writes).toBe(0);
  }
  const txn = create(TxnResponseSchema, {
    succeeded: true,
    responses: [
      { response: { case: 'responseRange', value: rangeResponse(2000, 30) } },
      { response: { case: 'responsePut', value: { header: { revision: 5n } } } },
      { response: { case: 'responseTxn', value: { responses: [] } } },
    ],
  });
  const answer = new Bench().ask('/v3/kv/txn', '{}', null, [toBinary(TxnResponseSchema, txn)]);
  expect(answer.json).toEqual(toJson(TxnResponseSchema, txn, options));
});

test('an answer that takes long is made in slices, and no faster than its client reads', () => {
  // A clock on which every look takes half a millisecond.
  let now = 0;
  const bench = new Bench({ monotonicMs: () => (now += 0.5), wallMs: () => 0 });
  const message = rangeResponse(30, 10_000);
  const answer = new Answer();
  answer.room = 100_000;
  const { call } = bench.send(rangePath, { body: '{}', answer });
  bench.handler.unaries[0]!.reply(null, [toBinary(RangeResponseSchema, message)]);
  expect(answer.writes).toBeLessThanOrEqual(1);
  let reads = 0;
  for (; !answer.ended; reads++) {
    bench.world.run(1);
    expect(answer.queuedBytes()).toBeLessThan(100_000);
    if (answer.ended) break;
    answer.read();
    call.drained();
  }
  expect(reads).toBeGreaterThan(2);
  expect(answer.json).toEqual(toJson(RangeResponseSchema, message, options));
});

test('a message beyond max-request-bytes and 512 KiB is refused as over gRPC', () => {
  const bench = new Bench();
  const value = (bytes: number): string => `{"value":"${Buffer.alloc(bytes).toString('base64')}"}`;
  bench.send('/v3/kv/put', { body: value(maxMessageBytes - 4) });
  expect(bench.handler.unaries[0]!.request.length).toBe(maxMessageBytes);
  const over = bench.send('/v3/kv/put', { body: value(maxMessageBytes - 3) });
  expect([over.answer.status, over.answer.json]).toEqual([
    429,
    {
      code: 8,
      message: `grpc: received message larger than max (${maxMessageBytes + 1} vs. ${maxMessageBytes})`,
    },
  ]);
  // A body that never ends is refused on the way; what comes after is not kept.
  const { call, answer } = bench.send('/v3/kv/put');
  const part = new Uint8Array(100_000).fill(0x20);
  call.body(utf8('{'));
  for (let i = 0; i < 25 && !answer.ended; i++) call.body(part);
  expect(answer.status).toBe(429);
  call.body(part);
  call.endOfBody();
  expect(bench.handler.unaries.length).toBe(1);
});

test('metadata is what etcd sees behind grpc-gateway', () => {
  const bench = new Bench();
  const headers = {
    authorization: 'Bearer abc.5',
    'grpc-metadata-hasleader': 'true',
    accept: '*/*',
    token: 'never',
    traceparent: '00-1-2-01',
  };
  bench.send(rangePath, { body: '{}', headers });
  const { context } = bench.handler.unaries[0]!;
  expect(context.metadata('authorization')).toBe('abc.5');
  expect(context.metadata('hasleader')).toBe('true');
  expect(context.metadata('grpcgateway-accept')).toBe('*/*');
  expect(context.metadata('traceparent')).toBe('00-1-2-01');
  expect(context.metadata('token')).toBeUndefined();
  expect(context.metadata('accept')).toBeUndefined();
  expect(context.peer).toBe('127.0.0.1:1');
  expect(context.trace?.length).toBe(25);
  bench.send(rangePath, { body: '{}', headers: { authorization: 'raw' } });
  expect(bench.handler.unaries[1]!.context.metadata('authorization')).toBe('raw');
});

test('a deadline is told to the handler, and kept without it', () => {
  const bench = new Bench();
  const start = bench.world.nowMs;
  const { answer } = bench.send(rangePath, { body: '{}', headers: { 'grpc-timeout': '250m' } });
  const seen = bench.handler.unaries[0]!;
  expect(seen.context.deadlineMs).toBe(start + 250);
  bench.world.run(249);
  expect(answer.ended).toBe(false);
  bench.world.run(1);
  expect([answer.status, answer.json]).toEqual([504, { code: 4, message: 'context deadline exceeded' }]);
  expect(seen.cancelled).toBe(true);
  seen.reply({ code: 14, message: 'too late' }, []);
  expect(answer.text).toBe('{"code":4,"message":"context deadline exceeded"}');

  const units: [string, number | undefined][] = [
    ['1H', 3.6e6],
    ['2M', 120_000],
    ['3S', 3000],
    ['5u', 0.005],
  ];
  units.push(['7000000n', 7], ['0S', undefined]);
  for (const [timeout, ms] of units) {
    bench.send(rangePath, { body: '{}', headers: { 'grpc-timeout': timeout } });
    const { deadlineMs } = bench.handler.unaries.at(-1)!.context;
    expect(deadlineMs).toBe(ms === undefined ? undefined : bench.world.nowMs + ms);
  }
  // One that has passed before the call begins is not begun.
  const calls = bench.handler.unaries.length;
  const late = bench.send(rangePath, { body: '{}', headers: { 'grpc-timeout': '-1S' } });
  expect([late.answer.status, bench.handler.unaries.length]).toEqual([504, calls]);
  for (const timeout of ['abc', 'S', '5', '1.5S', '5s']) {
    const refused = bench.send(rangePath, { body: '{}', headers: { 'grpc-timeout': timeout } });
    expect(refused.answer.json).toEqual({ code: 3, message: `invalid grpc-timeout: ${timeout}` });
  }
});

test('a client that leaves cancels its call and is not answered', () => {
  const bench = new Bench();
  const { call, answer } = bench.send(rangePath, { body: '{}' });
  call.abort();
  expect(bench.handler.unaries[0]!.cancelled).toBe(true);
  bench.handler.unaries[0]!.reply(null, [new Uint8Array(0)]);
  expect([answer.status, bench.spans[0]!.end]).toEqual([0, [1, 'canceled']]);
  // Before its body is complete there is no call yet.
  const early = bench.send(rangePath);
  early.call.body(utf8('{'));
  early.call.abort();
  early.call.endOfBody();
  expect(bench.handler.unaries.length).toBe(1);
});
