import fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  Connection,
  type ConnectionOptions,
  clientPreface,
  defaultConnectionOptions,
  ErrorCode,
  encodeHeaders,
  type HeaderField,
  type HeaderList,
  HeaderTemplate,
  HpackDecoder,
  HpackError,
  type Stream,
} from '../src/index.ts';

interface Frame {
  readonly type: number;
  readonly flags: number;
  readonly id: number;
  readonly body: Uint8Array;
}

const ascii = (text: string): Uint8Array => Uint8Array.from(text, (c) => c.charCodeAt(0));

function frame(type: number, flags: number, id: number, body: readonly number[] | Uint8Array): Uint8Array {
  const n = body.length;
  return Uint8Array.from([n >> 16, n >> 8, n, type, flags, id >>> 24, id >> 16, id >> 8, id, ...body]);
}

function frames(chunks: readonly Uint8Array[]): Frame[] {
  const bytes = Buffer.concat(chunks);
  const out: Frame[] = [];
  for (let at = 0; at < bytes.length; ) {
    const length = bytes.readUIntBE(at, 3);
    out.push({
      type: bytes[at + 3]!,
      flags: bytes[at + 4]!,
      id: bytes.readUInt32BE(at + 5),
      body: bytes.subarray(at + 9, at + 9 + length),
    });
    at += 9 + length;
  }
  return out;
}

/** A connection, what it was asked, and what it said; time stands still until it is moved. */
class Peer {
  now = 1_000;
  closed: string | undefined = undefined;
  /** Of each announcement of output, whether it was urgent. */
  readonly announced: boolean[] = [];
  readonly requests: {
    stream: Stream;
    headers: readonly HeaderField[];
    body: number;
    ended: boolean;
    aborted: string | undefined;
  }[] = [];
  readonly connection: Connection;

  constructor(options: Partial<ConnectionOptions> = {}) {
    this.connection = new Connection(
      { ...defaultConnectionOptions, ...options },
      {
        onRequest: (stream, headers, end) => {
          const request = {
            stream,
            headers: headers.fields,
            body: 0,
            ended: end,
            aborted: undefined as string | undefined,
          };
          this.requests.push(request);
          return {
            onData: (_data, from, to, last) => {
              request.body += to - from;
              request.ended ||= last;
            },
            onAbort: (reason) => {
              request.aborted = reason;
            },
            onDrain: () => {},
          };
        },
        onOutput: (urgent) => this.announced.push(urgent),
        onClose: (reason) => {
          this.closed = reason;
        },
      },
      { monotonicMs: () => this.now, wallMs: () => this.now },
    );
    this.connection.takeOutput();
    this.say(ascii(clientPreface), frame(4, 0, 0, []));
  }

  say(...chunks: Uint8Array[]): Frame[] {
    for (const chunk of chunks) this.connection.receive(chunk);
    return frames(this.connection.takeOutput());
  }

  /** The error code of the GOAWAY among the frames. */
  static goAway(said: readonly Frame[]): number | undefined {
    const found = said.find((f) => f.type === 7);
    return found === undefined ? undefined : Buffer.from(found.body).readUInt32BE(4);
  }

  static reset(said: readonly Frame[]): number | undefined {
    const found = said.find((f) => f.type === 3);
    return found === undefined ? undefined : Buffer.from(found.body).readUInt32BE(0);
  }
}

const post = encodeHeaders([
  { name: ':method', value: 'POST' },
  { name: ':scheme', value: 'http' },
  { name: ':path', value: '/s/m' },
  { name: 'te', value: 'trailers' },
]);
const answerHeaders = new HeaderTemplate([
  { name: ':status', value: '200' },
  { name: 'content-type', value: 'application/grpc' },
]);
const answerTrailers = new HeaderTemplate([{ name: 'grpc-status', value: '0' }]);
const endHeaders = 0x4;
const endStream = 0x1;

test('bytes in any cut make the same request', () => {
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1 }), (cuts) => {
      const peer = new Peer();
      const all = Buffer.concat([
        frame(1, endHeaders, 1, post),
        frame(0, 0, 1, [1, 2, 3]),
        frame(0, endStream, 1, [4]),
      ]);
      for (let at = 0, i = 0; at < all.length; i++) {
        const n = cuts[i % cuts.length]!;
        peer.say(Uint8Array.from(all.subarray(at, at + n)));
        at += n;
      }
      expect(peer.requests).toHaveLength(1);
      expect(peer.requests[0]).toMatchObject({ body: 4, ended: true });
    }),
  );
});

test('headers come whole from CONTINUATION frames, and nothing may come between them', () => {
  const peer = new Peer();
  peer.say(
    frame(1, endStream, 1, post.subarray(0, 3)),
    frame(9, 0, 1, post.subarray(3, 5)),
    frame(9, endHeaders, 1, post.subarray(5)),
  );
  expect(peer.requests[0]!.headers.map((h) => h.name)).toEqual([':method', ':scheme', ':path', 'te']);
  expect(Peer.goAway(peer.say(frame(1, 0, 3, post.subarray(0, 3)), frame(6, 0, 0, new Uint8Array(8))))).toBe(
    ErrorCode.protocolError,
  );
  expect(peer.closed).toBeDefined();
});

const table: [name: string, code: number, said: Uint8Array[]][] = [
  ['DATA on stream 0', ErrorCode.protocolError, [frame(0, 0, 0, [1])]],
  ['DATA on an idle stream', ErrorCode.protocolError, [frame(0, 0, 5, [1])]],
  ['HEADERS on an even stream', ErrorCode.protocolError, [frame(1, endHeaders, 2, post)]],
  [
    'a frame longer than allowed',
    ErrorCode.frameSizeError,
    [Uint8Array.from([0, 0x40, 1, 0, 0, 0, 0, 0, 1])],
  ],
  ['SETTINGS of odd length', ErrorCode.frameSizeError, [frame(4, 0, 0, [1])]],
  ['an impossible window', ErrorCode.flowControlError, [frame(4, 0, 0, [0, 4, 0xff, 0xff, 0xff, 0xff])]],
  ['PUSH_PROMISE', ErrorCode.protocolError, [frame(5, endHeaders, 1, [0, 0, 0, 2])]],
  ['a window that overflows', ErrorCode.flowControlError, [frame(8, 0, 0, [0x7f, 0xff, 0xff, 0xff])]],
  [
    'padding longer than the frame',
    ErrorCode.protocolError,
    [frame(1, endHeaders, 1, post), frame(0, 0x8, 1, [5, 1])],
  ],
  [
    'a header block that cannot be decoded',
    ErrorCode.compressionError,
    [frame(1, endHeaders, 1, [0xff, 0xff, 0xff, 0xff, 0xff, 0x7f])],
  ],
  [
    'DATA after the end',
    ErrorCode.streamClosed,
    [frame(1, endHeaders | endStream, 1, post), frame(0, 0, 1, [1])],
  ],
  ['CONTINUATION without HEADERS', ErrorCode.protocolError, [frame(9, endHeaders, 1, post)]],
];

test.each(table)('%s ends the connection', (_name, code, said) => {
  const peer = new Peer();
  expect(Peer.goAway(peer.say(...said))).toBe(code);
  expect(peer.closed).toBeDefined();
});

const malformed: [name: string, headers: HeaderField[]][] = [
  [
    'no path',
    [
      { name: ':method', value: 'POST' },
      { name: ':scheme', value: 'http' },
    ],
  ],
  ['upper case', [...requestFields(), { name: 'Te', value: 'trailers' }]],
  ['a connection field', [...requestFields(), { name: 'connection', value: 'close' }]],
  ['te other than trailers', [...requestFields(), { name: 'te', value: 'gzip' }]],
  [
    'a pseudo field late',
    [...requestFields(), { name: 'a', value: 'b' }, { name: ':authority', value: 'x' }],
  ],
  ['a response pseudo field', [...requestFields(), { name: ':status', value: '200' }]],
];

function requestFields(): HeaderField[] {
  return [
    { name: ':method', value: 'POST' },
    { name: ':scheme', value: 'http' },
    { name: ':path', value: '/' },
  ];
}

test.each(malformed)('a request with %s is reset, the connection goes on', (_name, headers) => {
  const peer = new Peer();
  expect(Peer.reset(peer.say(frame(1, endHeaders | endStream, 1, encodeHeaders(headers))))).toBe(
    ErrorCode.protocolError,
  );
  expect(peer.requests).toHaveLength(0);
  peer.say(frame(1, endHeaders | endStream, 3, post));
  expect(peer.requests).toHaveLength(1);
});

test('answers keep to both windows and go on when they open', () => {
  const peer = new Peer();
  peer.say(frame(4, 0, 0, [0, 4, 0, 0, 0, 10]), frame(1, endHeaders | endStream, 1, post));
  const { stream } = peer.requests[0]!;
  expect(peer.connection.sendData(stream, [new Uint8Array(25)], false)).toBe(true);
  peer.connection.sendTrailers(stream, encodeHeaders([{ name: 'grpc-status', value: '0' }]));
  const sent = (said: Frame[]): number[] => said.filter((f) => f.type === 0).map((f) => f.body.length);
  expect(sent(frames(peer.connection.takeOutput()))).toEqual([10]);
  expect(sent(peer.say(frame(8, 0, 1, [0, 0, 0, 8])))).toEqual([8]);
  const last = peer.say(frame(8, 0, 1, [0, 0, 0, 100]));
  expect(sent(last)).toEqual([7]);
  expect(last.at(-1)).toMatchObject({ type: 1, flags: endHeaders | endStream });
  expect(peer.connection.streamCount).toBe(0);
});

test('messages of a stream share frames until another frame comes between, and come whole whatever the windows', () => {
  const step = fc.oneof(
    fc.record({ kind: fc.constant('send'), n: fc.integer({ min: 0, max: 20_000 }), stream: fc.nat(1) }),
    fc.record({ kind: fc.constant('send'), n: fc.nat(300), stream: fc.nat(1) }),
    fc.record({
      kind: fc.constantFrom('open', 'ping', 'take', 'reuse'),
      n: fc.nat(40_000),
      stream: fc.nat(1),
    }),
  );
  fc.assert(
    fc.property(fc.array(step), (steps) => {
      const peer = new Peer();
      peer.say(frame(1, endHeaders, 1, post), frame(1, endHeaders, 3, post));
      const [sent, got]: Uint8Array[][][] = [
        [[], []],
        [[], []],
      ];
      let last: Frame | undefined;
      const take = (): void => {
        last = undefined;
        const chunks = peer.connection.takeOutput();
        for (const f of frames(chunks.map((chunk) => chunk.slice()))) {
          expect(f.body.length).toBeLessThanOrEqual(16_384);
          if (f.type === 0) got[f.id === 1 ? 0 : 1]!.push(f.body);
          // Two that could have been one.
          const both = f.type === 0 && last?.type === 0 && last.id === f.id;
          if (both) expect(last!.body.length + f.body.length).toBeGreaterThan(16_384);
          last = f;
        }
        for (const chunk of chunks) chunk.fill(0xee);
        peer.connection.reuseOutput();
      };
      steps.forEach(({ kind, n, stream }, i) => {
        const increment = frame(8, 0, 2 * stream + 1, [0, 0, (n + 1) >> 8, (n + 1) & 0xff]);
        if (kind === 'open') peer.connection.receive(increment);
        else if (kind === 'ping') peer.connection.receive(frame(6, 0, 0, new Uint8Array(8).fill(i)));
        else if (kind === 'take') take();
        // Of what was taken before; what has come since stays.
        else if (kind === 'reuse') peer.connection.reuseOutput();
        else {
          const body = new Uint8Array(n).fill(i);
          const pieces = [body.subarray(0, n >> 1), body.subarray(n >> 1)];
          peer.connection.sendStreamed(peer.requests[stream]!.stream, pieces, n);
          sent[stream]!.push(Uint8Array.of(0, 0, n >> 16, n >> 8, n), body.slice());
        }
      });
      const wide = [0, 0x40, 0, 0];
      for (const id of [0, 1, 3]) peer.connection.receive(frame(8, 0, id, wide));
      take();
      for (const s of [0, 1]) expect(Buffer.concat(got[s]!)).toEqual(Buffer.concat(sent[s]!));
    }),
  );
});

test('memory of output goes from one connection to the next once nobody reads it, and not before', () => {
  const step = fc.record({
    kind: fc.constantFrom('send', 'send', 'take', 'done'),
    who: fc.nat(2),
    n: fc.oneof(fc.nat(300), fc.nat(20_000)),
  });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const peers = [new Peer(), new Peer(), new Peer()].map((peer, who) => {
        peer.say(frame(1, endHeaders, 1, post), frame(8, 0, 0, [0x3f, 0, 0, 0]));
        peer.say(frame(8, 0, 1, [0x3f, 0, 0, 0]));
        return { peer, who, held: [] as Uint8Array[] };
      });
      const check = ({ held, who }: (typeof peers)[number]): void => {
        for (const f of frames(held)) expect(f.body.every((byte) => byte === who + 1)).toBe(true);
      };
      for (const { kind, who, n } of steps) {
        const one = peers[who]!;
        const { connection, requests } = one.peer;
        if (kind === 'send')
          connection.sendData(requests[0]!.stream, [new Uint8Array(n).fill(who + 1)], false);
        else one.held.push(...connection.takeOutput());
        if (kind !== 'done') continue;
        // Whole and unmixed for as long as they are held.
        for (const each of peers) check(each);
        for (const chunk of one.held) chunk.fill(0xee);
        one.held = [];
        connection.reuseOutput();
      }
      for (const each of peers) check(each);
    }),
  );
  const [first, second, third] = [new Peer(), new Peer(), new Peer()];
  const memory = ({ connection }: Peer): ArrayBufferLike => {
    connection.receive(frame(6, 0, 0, new Uint8Array(8)));
    return connection.takeOutput()[0]!.buffer;
  };
  for (const { connection } of [first, second, third]) connection.reuseOutput();
  const shared = memory(first);
  expect(memory(second)).not.toBe(shared);
  first.connection.reuseOutput();
  expect(memory(third)).toBe(shared);
});

test('streams that lack the window of the connection take turns', () => {
  const peer = new Peer();
  peer.say(
    frame(4, 0, 0, [0, 4, 0x10, 0, 0, 0]),
    frame(1, endHeaders | endStream, 1, post),
    frame(1, endHeaders | endStream, 3, post),
  );
  for (const { stream } of peer.requests) peer.connection.sendData(stream, [new Uint8Array(100_000)], true);
  const first = frames(peer.connection.takeOutput()).filter((f) => f.type === 0);
  expect(first.reduce((sum, f) => sum + f.body.length, 0)).toBe(65_535);
  const seen = new Set<number>();
  for (let i = 0; i < 4; i++)
    for (const f of peer.say(frame(8, 0, 0, [0, 0, 0x10, 0]))) if (f.type === 0) seen.add(f.id);
  expect([...seen].sort()).toEqual([1, 3]);
});

test('a flood of frames that carry nothing ends the connection', () => {
  for (const nuisance of [
    frame(6, 0, 0, new Uint8Array(8)),
    frame(4, 0, 0, []),
    frame(2, 0, 1, [0, 0, 0, 0, 1]),
    frame(99, 0, 0, []),
  ]) {
    const peer = new Peer({ maxIdleFramesPerSecond: 100 });
    let code: number | undefined;
    for (let i = 0; i < 200 && code === undefined; i++) code = Peer.goAway(peer.say(nuisance));
    expect(code).toBe(ErrorCode.enhanceYourCalm);
  }
});

test.each([0, 10])('a flood of CONTINUATION frames of %d bytes ends the connection', (bytes) => {
  const peer = new Peer();
  peer.say(frame(1, 0, 1, post.subarray(0, 3)));
  let code: number | undefined;
  let frames = 0;
  for (; frames < 1_000 && code === undefined; frames++)
    code = Peer.goAway(peer.say(frame(9, 0, 1, new Uint8Array(bytes))));
  expect(code).toBe(ErrorCode.enhanceYourCalm);
  expect(frames).toBeLessThanOrEqual(64);
});

test('a flood of empty DATA frames ends the connection', () => {
  const peer = new Peer({ maxIdleFramesPerSecond: 100 });
  peer.say(frame(1, endHeaders, 1, post));
  let code: number | undefined;
  for (let i = 0; i < 200 && code === undefined; i++) code = Peer.goAway(peer.say(frame(0, 0, 1, [])));
  expect(code).toBe(ErrorCode.enhanceYourCalm);
  expect(peer.requests[0]!.aborted).toBeDefined();
});

test('requests that are reset at once are counted, slow ones are not', () => {
  const rapid = new Peer({ maxIdleFramesPerSecond: 100 });
  let code: number | undefined;
  for (let id = 1; id < 1_000 && code === undefined; id += 2) {
    code = Peer.goAway(rapid.say(frame(1, endHeaders | endStream, id, post), frame(3, 0, id, [0, 0, 0, 8])));
  }
  expect(code).toBe(ErrorCode.enhanceYourCalm);
  const slow = new Peer({ maxIdleFramesPerSecond: 100 });
  for (let id = 1; id < 1_000; id += 2) {
    slow.now += 100;
    expect(
      Peer.goAway(slow.say(frame(1, endHeaders | endStream, id, post), frame(3, 0, id, [0, 0, 0, 8]))),
    ).toBeUndefined();
  }
  expect(slow.requests.every((r) => r.aborted !== undefined)).toBe(true);
});

test('pings without need are strikes', () => {
  const ping = frame(6, 0, 0, new Uint8Array(8));
  const eager = new Peer();
  let said: Frame[] = [];
  for (let i = 0; i < 4; i++) said = eager.say(ping);
  expect(Peer.goAway(said)).toBe(ErrorCode.enhanceYourCalm);
  expect(Buffer.from(said.at(-1)!.body.subarray(8)).toString()).toBe('too_many_pings');
  const patient = new Peer();
  patient.say(frame(1, endHeaders, 1, post));
  for (let i = 0; i < 20; i++) {
    patient.now += 5_001;
    expect(Peer.goAway(patient.say(ping))).toBeUndefined();
  }
});

test('pings between the parts of a large answer are no strikes: a client measures its bandwidth by them', () => {
  const peer = new Peer();
  peer.say(frame(1, endHeaders | endStream, 1, post));
  peer.connection.sendData(peer.requests[0]!.stream, [new Uint8Array(1 << 20)], true);
  frames(peer.connection.takeOutput());
  const ping = frame(6, 0, 0, new Uint8Array(8));
  const window = [0, 0, 0x80, 0];
  for (let i = 0; i < 20; i++) {
    const said = peer.say(frame(8, 0, 0, window), frame(8, 0, 1, window), ping);
    expect(Peer.goAway(said)).toBeUndefined();
    expect(said.some((f) => f.type === 0)).toBe(true);
  }
  expect(peer.closed).toBeUndefined();
  // With nothing sent between them they are.
  let said: Frame[] = [];
  for (let i = 0; i < 3; i++) said = peer.say(ping);
  expect(Peer.goAway(said)).toBe(ErrorCode.enhanceYourCalm);
});

test('the answer to a ping waits for answers to calls under way', () => {
  const peer = new Peer();
  const ping = frame(6, 0, 0, [1, 2, 3, 4, 5, 6, 7, 8]);
  peer.announced.length = 0;
  peer.connection.receive(ping);
  expect(peer.announced).toEqual([true]);
  expect(frames(peer.connection.takeOutput())).toMatchObject([{ type: 6, flags: 1 }]);
  peer.say(frame(1, endHeaders | endStream, 1, post));
  peer.announced.length = 0;
  peer.connection.receive(ping);
  expect(peer.announced).toEqual([false]);
  peer.connection.sendMessage(peer.requests[0]!.stream, answerHeaders, [], 0, answerTrailers);
  expect(peer.announced).toEqual([false, true]);
  expect(frames(peer.connection.takeOutput()).map((f) => f.type)).toEqual([6, 1, 0, 1]);
  // As grpc-go sends it: before the calls that go with it.
  peer.announced.length = 0;
  peer.connection.receive(Buffer.concat([ping, frame(1, endHeaders | endStream, 3, post)]));
  expect(peer.announced).toEqual([false]);
});

test('a block that comes again is the same list, until the table means something else by it', () => {
  const decoder = new HpackDecoder(65_536);
  const literal = (name: string, value: string): Uint8Array =>
    Uint8Array.from([0x40, name.length, ...ascii(name), value.length, ...ascii(value)]);
  const newest = Uint8Array.of(0x83, 0x80 + 62);
  decoder.decode(literal('a', '1'));
  const first = decoder.decode(newest);
  expect(first).toMatchObject({
    fields: [
      { name: ':method', value: 'POST' },
      { name: 'a', value: '1' },
    ],
  });
  expect(decoder.decode(Uint8Array.of(0, ...newest, 0), 1, 3)).toBe(first);
  expect(decoder.decode(Uint8Array.of(0x83))).toMatchObject({ fields: [{ name: ':method' }] });
  expect(decoder.decode(newest)).toBe(first);
  decoder.decode(literal('b', '2'));
  expect(decoder.decode(newest)).toMatchObject({ fields: [{ name: ':method' }, { name: 'b', value: '2' }] });
  // A table of no bytes: what the same block meant is gone.
  decoder.decode(Uint8Array.of(0x20));
  expect(() => decoder.decode(newest)).toThrow(HpackError);
});

test('headers of answers are in the table after the first, whatever the order in which streams end', () => {
  const text = (fields: readonly HeaderField[]): string[] =>
    fields.map(({ name, value }) => `${name}: ${value}`);
  fc.assert(
    fc.property(
      fc.array(fc.record({ bytes: fc.integer({ min: 0, max: 300 }), opens: fc.boolean() }), { minLength: 1 }),
      fc.option(fc.nat(60)),
      (answers, shrinkAt) => {
        const peer = new Peer();
        const decoder = new HpackDecoder(65_536);
        const blocks = new Map<number, string[][]>();
        const read = (said: readonly Frame[]): void => {
          for (const { type, id, body } of said)
            if (type === 1)
              blocks.set(id, [...(blocks.get(id) ?? []), text((decoder.decode(body) as HeaderList).fields)]);
        };
        // A window of 100 bytes for each stream: larger answers wait, and end after those that came later.
        read(peer.say(frame(4, 0, 0, [0, 4, 0, 0, 0, 100])));
        answers.forEach(({ bytes, opens }, i) => {
          if (i === shrinkAt) read(peer.say(frame(4, 0, 0, [0, 1, 0, 0, 0, 0])));
          const id = 2 * i + 1;
          read(peer.say(frame(1, endHeaders | endStream, id, post)));
          const { stream } = peer.requests.at(-1)!;
          peer.connection.sendMessage(stream, answerHeaders, [new Uint8Array(bytes)], bytes, answerTrailers);
          read(peer.say(...(opens ? [frame(8, 0, id, [0, 0, 4, 0])] : [])));
        });
        answers.forEach((_, i) => {
          if (peer.requests[i]!.stream.closed) return;
          read(peer.say(frame(8, 0, 2 * i + 1, [0, 0, 4, 0])));
        });
        answers.forEach((_, i) => {
          expect(blocks.get(2 * i + 1)).toEqual([text(answerHeaders.fields), text(answerTrailers.fields)]);
        });
      },
    ),
  );
});

test('a usual answer takes one byte for each header that its client knows; a client without a table is told that none is used', () => {
  const answer = (peer: Peer, id: number): number[][] => {
    peer.say(frame(1, endHeaders | endStream, id, post));
    peer.connection.sendMessage(peer.requests.at(-1)!.stream, answerHeaders, [], 0, answerTrailers);
    return frames(peer.connection.takeOutput()).flatMap((f) => (f.type === 1 ? [[...f.body]] : []));
  };
  const peer = new Peer();
  answer(peer, 1);
  expect(answer(peer, 3)).toEqual([[0x88, 0x80 + 63], [0x80 + 62]]);
  peer.say(frame(4, 0, 0, [0, 1, 0, 0, 0, 64]));
  const literal = [[...answerHeaders.literal], [...answerTrailers.literal]];
  expect(answer(peer, 5)).toEqual([[0x20, ...literal[0]!], literal[1]]);
  expect(answer(peer, 7)).toEqual(literal);
});

test('shutdown lets the requests under way finish', () => {
  const peer = new Peer();
  peer.say(frame(1, endHeaders | endStream, 1, post));
  peer.connection.shutdown();
  const said = frames(peer.connection.takeOutput());
  expect(Peer.goAway(said)).toBe(ErrorCode.noError);
  const ping = said.find((f) => f.type === 6)!;
  peer.say(frame(1, endHeaders | endStream, 3, post), frame(6, 1, 0, ping.body));
  expect(peer.requests).toHaveLength(2);
  expect(peer.closed).toBeUndefined();
  for (const { stream } of peer.requests)
    peer.connection.sendMessage(stream, answerHeaders, [], 0, answerTrailers);
  expect(peer.closed).toBe('shutdown');
});

test('a shutdown waits for the answer to its own ping, not to one that was under way', () => {
  const peer = new Peer({ keepaliveIntervalMs: 1_000 });
  peer.say(frame(1, endHeaders | endStream, 1, post));
  peer.now += 1_001;
  peer.connection.tick();
  const keepalive = frames(peer.connection.takeOutput()).find((f) => f.type === 6)!;
  peer.connection.shutdown();
  const ping = frames(peer.connection.takeOutput()).find((f) => f.type === 6)!;
  expect(Peer.goAway(peer.say(frame(6, 1, 0, keepalive.body)))).toBeUndefined();
  peer.say(frame(1, endHeaders | endStream, 3, post));
  expect(peer.requests).toHaveLength(2);
  expect(Peer.goAway(peer.say(frame(6, 1, 0, ping.body)))).toBe(ErrorCode.noError);
});

test('a silent client is asked and then let go', () => {
  const peer = new Peer({ keepaliveIntervalMs: 1_000, keepaliveTimeoutMs: 500 });
  peer.now += 1_001;
  peer.connection.tick();
  expect(frames(peer.connection.takeOutput()).map((f) => f.type)).toEqual([6]);
  peer.now += 501;
  peer.connection.tick();
  expect(peer.closed).toBe('keepalive timeout');
});

test('a header list over the limit is refused, whatever it is packed in', () => {
  const peer = new Peer({ maxHeaderListBytes: 1_000 });
  const long = encodeHeaders([
    ...requestFields(),
    ...Array.from({ length: 40 }, (_, i) => ({ name: `x-${i}`, value: 'y' })),
  ]);
  expect(Peer.reset(peer.say(frame(1, endHeaders | endStream, 1, long)))).toBe(ErrorCode.enhanceYourCalm);
  // One byte of the block stands for a whole field of the table: a bomb.
  const bomb = Buffer.concat([
    encodeHeaders(requestFields()),
    Buffer.from([0x40, 1, 0x61, 100]),
    Buffer.alloc(100, 0x62),
    Buffer.alloc(500, 0xbe),
  ]);
  expect(Peer.reset(peer.say(frame(1, endHeaders | endStream, 3, bomb)))).toBe(ErrorCode.enhanceYourCalm);
  peer.say(frame(1, endHeaders | endStream, 5, post));
  expect(peer.requests).toHaveLength(1);
});

test('the examples of RFC 7541 appendix C.4 and C.6 decode, with their tables', () => {
  const decoder = new HpackDecoder(1 << 16);
  const text = (hex: string): string => {
    const fields = decoder.decode(Buffer.from(hex, 'hex'));
    return typeof fields === 'string' ? fields : fields.fields.map((f) => `${f.name}: ${f.value}`).join('\n');
  };
  expect(text('828684418cf1e3c2e5f23a6ba0ab90f4ff')).toBe(
    ':method: GET\n:scheme: http\n:path: /\n:authority: www.example.com',
  );
  expect(text('828684be5886a8eb10649cbf')).toBe(
    ':method: GET\n:scheme: http\n:path: /\n:authority: www.example.com\ncache-control: no-cache',
  );
  expect(text('828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf')).toBe(
    ':method: GET\n:scheme: https\n:path: /index.html\n:authority: www.example.com\ncustom-key: custom-value',
  );
});

test('any bytes as a header block decode or fail in the one way there is', () => {
  const decoder = new HpackDecoder(1 << 16);
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
      try {
        decoder.decode(bytes);
      } catch (error) {
        expect(error).toBeInstanceOf(HpackError);
      }
    }),
    { numRuns: 2_000 },
  );
});

test('mutated conversations never throw and never make much of little', () => {
  const conversation = Buffer.concat([
    frame(4, 0, 0, [0, 4, 0, 0, 1, 0]),
    frame(1, endHeaders, 1, post),
    frame(0, 0, 1, new Uint8Array(50)),
    frame(8, 0, 1, [0, 0, 1, 0]),
    frame(1, endHeaders | endStream, 3, post),
    frame(6, 0, 0, new Uint8Array(8)),
    frame(3, 0, 1, [0, 0, 0, 8]),
    frame(0, endStream, 1, []),
    frame(7, 0, 0, new Uint8Array(8)),
  ]);
  const mutation = fc.record({ at: fc.nat(conversation.length - 1), value: fc.nat(255) });
  fc.assert(
    fc.property(
      fc.array(mutation, { minLength: 1, maxLength: 8 }),
      fc.integer({ min: 1, max: 60 }),
      (mutations, cut) => {
        const bytes = Uint8Array.from(conversation);
        for (const { at, value } of mutations) bytes[at] = value;
        const peer = new Peer();
        let answered = 0;
        for (let at = 0; at < bytes.length; at += cut) {
          for (const said of peer.say(bytes.slice(at, at + cut))) answered += 9 + said.body.length;
          for (const { stream } of peer.requests)
            peer.connection.sendMessage(stream, answerHeaders, [new Uint8Array(10)], 10, answerTrailers);
        }
        expect(answered).toBeLessThan(2_000);
      },
    ),
    { numRuns: 2_000 },
  );
});
