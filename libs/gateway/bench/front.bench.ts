/**
 * What a put with a deadline and gets with and without one cost a gateway without its sockets: `node
 * libs/gateway/bench/front.bench.ts`. Bytes as grpc-go sends them go through HTTP/2, HPACK, gRPC, checks, routing and the
 * link's codec, to a member that answers every turn, and back.
 */
import { type Channel, type Log, MetricRegistry } from '@quoin/base';
import {
  decodeLinkUp,
  encodeLinkDown,
  type LinkReply,
  type LinkUp,
  Method,
  writePutResponse,
  writeRangeResponse,
} from '@quoin/contracts';
import { Gateway, grpcOverheadBytes } from '@quoin/gateway';
import { RealClock, RealRandom } from '@quoin/platform';
import { defaultConnectionOptions, GrpcServerConnection, type GrpcServerPorts } from '@quoin/rpc';

const connections = 50;
const perRead = 4;
const reads = 100;
const passes = 25;
const key = Uint8Array.from([0, 0, 0, 0, 0, 0, 0, 1]);

/** An HPACK encoder with a table, as grpc-go's: every field is indexed, so that a deadline moves the others. */
class Encoder {
  private table: string[] = [];

  encode(fields: readonly (readonly [string, string])[]): number[] {
    const out: number[] = [0x83, 0x86];
    for (const [name, value] of fields) {
      const at = this.table.indexOf(`${name}\0${value}`);
      if (at >= 0) {
        this.integer(out, 62 + at, 7, 0x80);
        continue;
      }
      const named = this.table.findIndex((field) => field.startsWith(`${name}\0`));
      this.integer(out, named < 0 ? 0 : 62 + named, 6, 0x40);
      for (const text of named < 0 ? [name, value] : [value]) this.text(out, text);
      this.table.unshift(`${name}\0${value}`);
      while (this.table.reduce((sum, f) => sum + f.length + 31, 0) > 4096) this.table.pop();
    }
    return out;
  }

  /** Deadlines are packed, as all that becomes shorter by it: 5 bits for 0, 1 and 2, 6 for the others and for u. */
  private text(out: number[], text: string): void {
    if (!/^\d+u$/.test(text)) {
      this.integer(out, text.length, 7, 0);
      for (const c of text) out.push(c.charCodeAt(0));
      return;
    }
    const code = (c: string): string => {
      const digit = Number(c);
      if (c === 'u') return '101101';
      return digit < 3 ? digit.toString(2).padStart(5, '0') : (0x16 + digit).toString(2).padStart(6, '0');
    };
    const bits = Array.from(text, code).join('');
    const bytes = (bits.match(/.{1,8}/g) ?? []).map((byte) => Number.parseInt(byte.padEnd(8, '1'), 2));
    this.integer(out, bytes.length, 7, 0x80);
    out.push(...bytes);
  }

  private integer(out: number[], value: number, bits: number, pattern: number): void {
    const mask = (1 << bits) - 1;
    if (value < mask) out.push(pattern | value);
    else out.push(pattern | mask, value - mask);
  }
}

function frame(type: number, flags: number, id: number, body: ArrayLike<number>): Uint8Array {
  const out = new Uint8Array(9 + body.length);
  out.set([body.length >> 16, body.length >> 8, body.length, type, flags, id >> 24, id >> 16, id >> 8, id]);
  out.set(body, 9);
  return out;
}

function join(parts: readonly Uint8Array[]): Uint8Array {
  return Uint8Array.from(parts.flatMap((part) => [...part]));
}

/** What one connection reads, chunk by chunk. */
function clientChunks(path: string, message: Uint8Array, deadlines: boolean): Uint8Array[] {
  const encoder = new Encoder();
  const prefixed = Uint8Array.from([0, 0, 0, message.length >> 8, message.length & 255, ...message]);
  const preface = Uint8Array.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', (c) => c.charCodeAt(0));
  const room = frame(8, 0, 0, [0x40, 0, 0, 0]);
  const chunks = [join([preface, frame(4, 0, 0, []), room])];
  let id = 1;
  for (let read = 0; read < reads; read++) {
    const parts: Uint8Array[] = [];
    for (let i = 0; i < perRead; i++, id += 2) {
      const fields: [string, string][] = [
        [':path', path],
        [':authority', '127.0.0.1:2379'],
        ['content-type', 'application/grpc'],
        ['user-agent', 'grpc-go/1.71.1'],
        ['te', 'trailers'],
        ['client-api-version', '3.6.6'],
      ];
      if (deadlines) fields.push(['grpc-timeout', `${9_999_999 - id}u`]);
      parts.push(frame(1, 4, id, encoder.encode(fields)), frame(0, 1, id, prefixed));
    }
    chunks.push(join(parts));
  }
  return chunks;
}

const turn: (() => void)[] = [];
const timers = {
  after: (delayMs: number, fn: () => void) => {
    const timer = setTimeout(fn, delayMs);
    timer.unref();
    return { cancel: () => clearTimeout(timer) };
  },
  endOfTurn: (fn: () => void): void => void turn.push(fn),
};
function endTurn(): void {
  while (turn.length > 0) for (const fn of turn.splice(0)) fn();
}

/** A member that answers all of a message at the end of its turn. */
function member(answers: ReadonlyMap<number, Uint8Array>, inProcess: boolean): Channel {
  const state = {
    leader: 1n,
    term: 2,
    revision: 5,
    compactRevision: 0,
    appliedIndex: 9,
    learner: false,
    members: [{ id: 1n, name: 'm', peerUrls: ['http://m:2380'], clientUrls: [], learner: false }],
  };
  const take = (up: LinkUp): boolean => {
    timers.endOfTurn(() => {
      const replies: LinkReply[] = up.requests.map(({ id, method }) => ({
        id,
        code: 0,
        message: '',
        body: answers.get(method)!,
        more: false,
        notTaken: false,
        totalBytes: 0,
      }));
      const welcome =
        up.hello === undefined
          ? undefined
          : { protocol: 1, clusterId: 7n, memberId: 1n, name: 'm', zone: '' };
      const down = {
        welcome,
        replies,
        state: welcome === undefined ? undefined : state,
        feeds: [],
        auth: new Uint8Array(0),
      };
      if (inProcess) channel.onPassed?.(down);
      else channel.onMessage(encodeLinkDown(down));
    });
    return true;
  };
  const channel: Channel = {
    send: (message) => take(decodeLinkUp(message)),
    pass: inProcess ? (message) => take(message as LinkUp) : undefined,
    onPassed: undefined,
    queuedBytes: () => 0,
    close: () => {},
    onMessage: () => {},
    onDrain: () => {},
    onClose: () => {},
  };
  return channel;
}

const log: Log = { debug() {}, info() {}, warn() {}, error: console.error };
const value = new Uint8Array(256).fill(7);
const pair = Uint8Array.from([10, key.length, ...key, 16, 5, 24, 6, 32, 2, 42, 128, 2, ...value]);
const header = { clusterId: 7n, memberId: 1n, revision: 100_000, raftTerm: 2 };
const answers = new Map<number, Uint8Array>([
  [Method.put, writePutResponse(header, undefined)],
  [Method.range, writeRangeResponse(header, [pair], false, 1)[0]!],
]);
const clock = new RealClock();
function serve(inProcess: boolean): GrpcServerPorts {
  const gateway = new Gateway(
    { name: 'g', memberUrls: ['http://m:2380'] },
    {
      clock,
      timers,
      random: new RealRandom(),
      log,
      tracer: undefined,
      metrics: new MetricRegistry(),
      dial: () => member(answers, inProcess),
    },
  );
  gateway.start();
  endTurn();
  return {
    clock,
    handler: gateway,
    isStreaming: () => false,
    span: undefined,
    gunzip: () => undefined,
    plain: () => {},
  };
}

function measure(
  title: string,
  ports: GrpcServerPorts,
  chunks: readonly Uint8Array[],
  answerBytesMin: number,
): void {
  let best = Number.POSITIVE_INFINITY;
  for (let pass = 0; pass < passes; pass++) {
    let bytes = 0;
    const dirty: GrpcServerConnection[] = [];
    const all = Array.from({ length: connections }, () => {
      const connection: GrpcServerConnection = new GrpcServerConnection(
        { ...defaultConnectionOptions, maxMessageBytes: 1_572_864 + grpcOverheadBytes },
        ports,
        '127.0.0.1:1',
        { onOutput: () => dirty.push(connection), onClose: (reason) => console.error(reason) },
      );
      return connection;
    });
    const before = process.cpuUsage();
    for (const chunk of chunks) {
      for (const { connection } of all) connection.receive(chunk.slice());
      endTurn();
      for (const { connection } of dirty.splice(0)) {
        for (const piece of connection.takeOutput()) bytes += piece.length;
        connection.reuseOutput();
      }
    }
    const { user, system } = process.cpuUsage(before);
    const requests = connections * perRead * reads;
    best = Math.min(best, (user + system) / requests);
    if (bytes < requests * answerBytesMin) throw new Error(`only ${bytes} bytes of answers`);
  }
  process.stdout.write(`${title}, ${perRead} in a read: ${best.toFixed(2)} µs of CPU\n`);
}

const put = Uint8Array.from([10, key.length, ...key, 18, 128, 2, ...value]);
const apart = serve(false);
measure('put', apart, clientChunks('/etcdserverpb.KV/Put', put, true), 40);
const get = Uint8Array.from([10, key.length, ...key]);
const gets = clientChunks('/etcdserverpb.KV/Range', get, false);
measure('get with a deadline', apart, clientChunks('/etcdserverpb.KV/Range', get, true), 300);
measure('get', apart, gets, 300);
measure('get, the member in the same process', serve(true), gets, 300);
