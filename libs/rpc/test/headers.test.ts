import fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  clientPreface,
  defaultConnectionOptions,
  GrpcServerConnection,
  parseGrpcTimeoutMs,
} from '../src/index.ts';

type Pair = readonly [name: string, value: string];

const ascii = (text: string): number[] => Array.from(text, (c) => c.charCodeAt(0));
const sizeOf = ([name, value]: Pair): number => name.length + value.length + 32;

/** How a field is packed when there is a choice. */
type Packing = 'index' | 'add' | 'plain';

/** An HPACK encoder with a table that drops what is oldest (RFC 7541 §4), as clients have one. */
class ClientTable {
  /** Newest first. */
  private entries: Pair[] = [];
  private limit = 4096;

  encode(fields: readonly Pair[], packing: readonly Packing[], resize: number | undefined): number[] {
    const out: number[] = [];
    if (resize !== undefined) {
      this.integer(out, resize, 5, 0x20);
      this.limit = resize;
      this.evict();
    }
    for (const [i, field] of fields.entries()) this.pack(out, field, packing[i % packing.length]!);
    return out;
  }

  private pack(out: number[], field: Pair, how: Packing): void {
    const at = this.entries.findIndex(([name, value]) => name === field[0] && value === field[1]);
    if (at >= 0 && how === 'index') {
      this.integer(out, 62 + at, 7, 0x80);
      return;
    }
    const named = this.entries.findIndex(([name]) => name === field[0]);
    const index = named < 0 ? 0 : 62 + named;
    if (how === 'plain') this.integer(out, index, 4, 0);
    else this.integer(out, index, 6, 0x40);
    for (const text of named < 0 ? field : field.slice(1)) {
      this.integer(out, text.length, 7, 0);
      out.push(...ascii(text));
    }
    if (how === 'plain') return;
    this.entries.unshift(field);
    this.evict();
  }

  private evict(): void {
    while (this.entries.reduce((sum, field) => sum + sizeOf(field), 0) > this.limit) this.entries.pop();
  }

  private integer(out: number[], value: number, bits: number, pattern: number): void {
    const mask = (1 << bits) - 1;
    if (value < mask) {
      out.push(pattern | value);
      return;
    }
    out.push(pattern | mask);
    let rest = value - mask;
    for (; rest > 127; rest >>= 7) out.push((rest & 127) | 128);
    out.push(rest);
  }
}

const grpcTypes = ['application/grpc', 'application/grpc+proto'];
const refusedNames = ['connection', 'Upper', ':other'];

/** What is to become of a call with these headers, by the plainest reading of them. */
function fateOf(fields: readonly Pair[], nowMs: number, listBytesMax: number): unknown {
  if (fields.reduce((sum, field) => sum + sizeOf(field), 0) > listBytesMax) return 'reset 11';
  const first = (name: string): string | undefined => fields.find((field) => field[0] === name)?.[1];
  const pseudo = fields.filter(([name]) => name.startsWith(':')).map(([name]) => name);
  const bad =
    fields.some(([name, value]) => refusedNames.includes(name) || (name === 'te' && value !== 'trailers')) ||
    fields.slice(0, pseudo.length).some(([name]) => !name.startsWith(':')) ||
    new Set(pseudo).size < pseudo.length ||
    [':method', ':scheme', ':path'].some((name) => first(name) === undefined);
  if (bad) return 'reset 1';
  if (!grpcTypes.includes(first('content-type') ?? '') || first(':method') !== 'POST') return 'plain';
  const timeoutMs = parseGrpcTimeoutMs(first('grpc-timeout'));
  if (Number.isNaN(timeoutMs)) return 'status 13';
  if (first('grpc-encoding') === 'br') return 'status 12';
  return {
    path: first(':path'),
    deadlineMs: timeoutMs === undefined ? undefined : nowMs + timeoutMs,
    metadata: asked.map(first),
  };
}

const asked = [
  'token',
  'grpc-timeout',
  'traceparent',
  'x-a',
  'te',
  ':path',
  'nothing',
  'content-type',
  'x-b',
  'x-a',
];

function frame(type: number, flags: number, id: number, body: readonly number[]): Uint8Array {
  const n = body.length;
  return Uint8Array.from([n >> 16, n >> 8, n, type, flags, id >>> 24, id >> 16, id >> 8, id, ...body]);
}

/** A connection whose calls tell what came to them. */
class Server {
  nowMs = 5_000;
  private fate: unknown = undefined;
  private nextId = 1;
  private readonly server: GrpcServerConnection;

  constructor(listBytesMax: number) {
    const meet = (
      path: string,
      context: { deadlineMs: number | undefined; metadata(key: string): string | undefined },
    ) => {
      this.fate = {
        path,
        deadlineMs: context.deadlineMs,
        metadata: asked.map((key) => context.metadata(key)),
      };
    };
    this.server = new GrpcServerConnection(
      {
        ...defaultConnectionOptions,
        maxHeaderListBytes: listBytesMax,
        maxMessageBytes: 100,
        maxIdleFramesPerSecond: 1e9,
      },
      {
        clock: { monotonicMs: () => this.nowMs, wallMs: () => 0 },
        handler: {
          unary: (path, _request, context) => {
            meet(path, context);
            return () => {};
          },
          stream: (path, context) => meet(path, context),
        },
        isStreaming: (path) => path.startsWith('/s'),
        span: undefined,
        gunzip: () => undefined,
        plain: () => {
          this.fate = 'plain';
        },
      },
      'peer',
      { onOutput: () => {}, onClose: (reason) => expect.fail(reason) },
    );
    this.server.connection.receive(Uint8Array.from([...ascii(clientPreface), ...frame(4, 0, 0, [])]));
    this.server.connection.takeOutput();
  }

  call(block: readonly number[]): unknown {
    const id = this.nextId;
    this.nextId += 2;
    this.fate = undefined;
    this.server.connection.receive(frame(1, 4, id, block));
    this.server.connection.receive(frame(0, 1, id, [0, 0, 0, 0, 0]));
    const said = Buffer.concat(this.server.connection.takeOutput());
    for (let at = 0; at < said.length; at += 9 + said.readUIntBE(at, 3)) {
      const body = said.subarray(at + 9, at + 9 + said.readUIntBE(at, 3));
      if (said[at + 3] === 3) this.fate ??= `reset ${body.readUInt32BE(0)}`;
      if (said[at + 3] === 1)
        this.fate ??= `status ${/grpc-status.(\d+)/s.exec(body.toString('latin1'))?.[1]}`;
    }
    return this.fate;
  }
}

const usual: readonly Pair[] = [
  [':method', 'POST'],
  [':scheme', 'http'],
  [':path', '/u/1'],
  ['content-type', 'application/grpc'],
  ['te', 'trailers'],
  ['x-a', '1'],
];
const anyField: fc.Arbitrary<Pair> = fc.oneof(
  { weight: 4, arbitrary: fc.tuple(fc.constant('grpc-timeout'), fc.stringMatching(/^[0-9]{1,8}[HMSmun]$/)) },
  { weight: 1, arbitrary: fc.constantFrom<Pair>(['grpc-timeout', 'soon'], ['grpc-timeout', '5S']) },
  {
    weight: 4,
    arbitrary: fc.tuple(
      fc.constantFrom('traceparent', 'token', 'x-a', 'x-b'),
      fc.constantFrom('1', '2', '33'),
    ),
  },
  { weight: 2, arbitrary: fc.tuple(fc.constantFrom(':path'), fc.constantFrom('/u/1', '/u/2', '/s/1')) },
  {
    weight: 1,
    arbitrary: fc.tuple(fc.constantFrom('content-type'), fc.constantFrom(...grpcTypes, 'text/plain')),
  },
  { weight: 1, arbitrary: fc.tuple(fc.constantFrom('grpc-encoding'), fc.constantFrom('br', 'gzip')) },
  { weight: 1, arbitrary: fc.tuple(fc.constantFrom('te'), fc.constantFrom('trailers', 'gzip')) },
  { weight: 1, arbitrary: fc.tuple(fc.constantFrom(':method'), fc.constantFrom('POST', 'GET')) },
  { weight: 1, arbitrary: fc.tuple(fc.constantFrom(...refusedNames), fc.constant('x')) },
);
const oneCall = fc.record({
  /** Each takes the place of one of that name, or comes at the end. */
  changes: fc.array(fc.record({ field: anyField, apart: fc.nat(9) }), { maxLength: 3 }),
  left: fc.oneof({ weight: 8, arbitrary: fc.constant(-1) }, { weight: 1, arbitrary: fc.nat(6) }),
  packing: fc.oneof(
    { weight: 3, arbitrary: fc.constant<Packing[]>(['index']) },
    {
      weight: 1,
      arbitrary: fc.array(fc.constantFrom<Packing>('index', 'add', 'plain'), { minLength: 1, maxLength: 9 }),
    },
  ),
  resize: fc.oneof(
    { weight: 9, arbitrary: fc.constant(undefined) },
    { weight: 1, arbitrary: fc.constantFrom(0, 250, 4096) },
  ),
  again: fc.nat(2),
});

test('every call is judged and served by its own headers, whatever came before it and however they are packed', () => {
  fc.assert(
    fc.property(
      fc.array(oneCall, { minLength: 1, maxLength: 40 }),
      fc.constantFrom(380, 8_192),
      (calls, listBytesMax) => {
        const server = new Server(listBytesMax);
        const table = new ClientTable();
        let fields: Pair[] = [...usual];
        for (const { changes, left, packing, resize, again } of calls) {
          for (const { field, apart } of changes) {
            const at = fields.findIndex(([name]) => name === field[0]);
            if (at < 0 || apart === 0) fields = [...fields, field];
            else fields = fields.with(at, field);
          }
          if (left >= 0) fields = fields.filter((_, i) => i !== left);
          for (let n = 0; n <= again; n++) {
            server.nowMs += 7;
            const block = table.encode(fields, packing, n === 0 ? resize : undefined);
            expect(server.call(block)).toEqual(fateOf(fields, server.nowMs, listBytesMax));
          }
          // Mistakes are not to last, or nothing else would be seen.
          if (typeof fateOf(fields, 0, listBytesMax) === 'string') fields = [...usual];
        }
      },
    ),
    { numRuns: 400 },
  );
});
