/**
 * Mutated frames and headers: into the connection's state machine, and through real sockets to a gateway. In CI for 60 s
 * in all, elsewhere for a few; QUOIN_FUZZ_SECONDS says otherwise. A failure names its seed, and a seed is one conversation.
 */
import { readFileSync } from 'node:fs';
import { connect } from 'node:net';
import { gunzipSync } from 'node:zlib';
import { Prng } from '@quoin/base';
import { Client } from '@quoin/client';
import {
  defaultConnectionOptions,
  encodeHeaders,
  GrpcServerConnection,
  type GrpcServerPorts,
  type GrpcServerStream,
} from '@quoin/rpc';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type Cluster, startCluster } from '../support/cluster.ts';
import { conversation, frame, preface, retainedBytes } from './conversation.ts';

const seconds = Number(process.env['QUOIN_FUZZ_SECONDS'] ?? (process.env['CI'] === undefined ? 6 : 60));
const firstSeed = Number(process.env['QUOIN_FUZZ_SEED'] ?? 1);
const limitMs = seconds * 1000 + 120_000;
const MiB = 1 << 20;

/** Answers some calls at once, some later, some never; talks on streams. */
function machine(random: Prng) {
  let now = 1_000;
  const later: (() => void)[] = [];
  const streams: GrpcServerStream[] = [];
  let closed = false;
  const ports: GrpcServerPorts = {
    clock: { monotonicMs: () => now, wallMs: () => now },
    handler: {
      unary: (_path, request, _context, reply) => {
        const answer = (): void => reply(null, [request, new Uint8Array(random.below(2_000))]);
        const when = random.below(4);
        if (when === 0) answer();
        else if (when < 3) later.push(answer);
        return () => {};
      },
      stream: (_path, _context, stream) => {
        streams.push(stream);
        stream.onMessage = (message) => stream.send([message]);
        stream.onHalfClose = () => stream.end(null);
      },
    },
    isStreaming: (path) => path.includes('Watch') || path.includes('KeepAlive'),
    span: undefined,
    gunzip: (bytes, most) => {
      try {
        return gunzipSync(bytes, { maxOutputLength: most });
      } catch {
        return undefined;
      }
    },
    plain: (_request, reply) => reply(200, [], Buffer.from('ok')),
  };
  const options = { ...defaultConnectionOptions, maxMessageBytes: 100_000, maxConcurrentStreams: 50 };
  const server = new GrpcServerConnection(options, ports, 'peer', {
    onOutput: () => {},
    onClose: () => {
      closed = true;
    },
  });
  return {
    server,
    isClosed: () => closed,
    /** What happens between two reads of a socket. */
    turn: (): number => {
      now += random.below(200);
      if (random.below(3) === 0) later.splice(0).forEach((answer) => void answer());
      if (random.below(6) === 0) server.tick();
      const stream = streams[random.below(streams.length + 1)];
      if (stream !== undefined && random.below(4) === 0) stream.end(null);
      return server.connection.takeOutput().reduce((sum, piece) => sum + piece.length, 0);
    },
  };
}

/** Its own tables and blocks, what a client may have sent ahead, and answers that lack a window. */
const retainedMax = 2 * MiB;

test('the state machine survives what is sent, keeps little, and answers little', {
  timeout: limitMs,
}, () => {
  const until = Date.now() + seconds * 750;
  let seed = firstSeed;
  let told = 0;
  for (; Date.now() < until; seed++) {
    const random = new Prng(seed);
    const pieces = conversation(random);
    const { server, turn, isClosed } = machine(random);
    let sent = 0;
    let answered = 0;
    try {
      for (const piece of pieces) {
        server.connection.receive(piece);
        sent += piece.length;
        answered += turn();
      }
      const streams = server.connection.streamCount;
      expect(streams).toBeLessThanOrEqual(50);
      if (seed % 16 === 0) expect(retainedBytes(server.connection)).toBeLessThan(retainedMax + sent);
      // At most an answer of 2 kB for a request of some 20 bytes: the smallest header block.
      expect(answered).toBeLessThan(4_000 + sent * 120);
      server.connection.abort('gone');
      expect(server.connection.streamCount).toBe(0);
      if (isClosed()) told++;
    } catch (error) {
      throw new Error(`seed ${seed} (QUOIN_FUZZ_SEED=${seed}): ${(error as Error).message}`, {
        cause: error,
      });
    }
  }
  console.log(`fuzz: ${seed - firstSeed} conversations with the state machine`);
  expect(told).toBe(seed - firstSeed);
});

let cluster: Cluster;
let client: Client;

beforeAll(async () => {
  cluster = await startCluster({ members: 1, gateways: 1 });
  client = new Client({ endpoints: cluster.endpoints });
  await client.kv.put('fuzz', 'x');
});

afterAll(async () => {
  client?.close();
  await cluster?.stop();
});

const residentBytes = (): number =>
  Number(/^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${cluster.gateways[0]!.pid}/status`, 'utf8'))![1]) *
  1024;

function talk(pieces: readonly Uint8Array[]): Promise<void> {
  const [host, port] = cluster.endpoints[0]!.split(':') as [string, string];
  return new Promise((resolve) => {
    const socket = connect(Number(port), host);
    // Some conversations leave the gateway waiting for more; it is the client that goes then.
    const limit = setTimeout(() => socket.destroy(), 50);
    socket.on('data', () => {});
    socket.on('error', () => {});
    socket.on('close', () => {
      clearTimeout(limit);
      resolve();
    });
    for (const piece of pieces) socket.write(piece);
  });
}

test('a gateway survives what is sent, and serves others meanwhile', { timeout: limitMs }, async () => {
  const until = Date.now() + seconds * 250;
  const before = residentBytes();
  let seed = firstSeed + 1_000_000;
  const talker = async (): Promise<void> => {
    while (Date.now() < until) await talk(conversation(new Prng(seed++)));
  };
  const other = async (): Promise<void> => {
    while (Date.now() < until) {
      expect((await client.kv.get('fuzz', {}, { timeoutMs: 20_000 })).kvs).toHaveLength(1);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  };
  await Promise.all([...Array.from({ length: 8 }, talker), other()]);
  console.log(`fuzz: ${seed - firstSeed - 1_000_000} conversations with a gateway`);
  expect(cluster.gateways[0]!.running).toBe(true);
  expect(residentBytes() - before).toBeLessThan(200 * MiB);
});

test('clients that stop reading cost bounded memory, and others are served', {
  timeout: 120_000,
}, async () => {
  const value = 'v'.repeat(MiB);
  await client.kv.put('big', value);
  const [host, port] = cluster.endpoints[0]!.split(':') as [string, string];
  const block = encodeHeaders([
    { name: ':method', value: 'POST' },
    { name: ':scheme', value: 'http' },
    { name: ':path', value: '/etcdserverpb.KV/Range' },
    { name: 'content-type', value: 'application/grpc' },
    { name: 'te', value: 'trailers' },
  ]);
  const request = Buffer.from([0, 0, 0, 0, 5, 0x0a, 3, ...Buffer.from('big')]);
  const wide = [0x7f, 0xff, 0x00, 0x00];
  const before = residentBytes();
  const clients = 5;
  const requests = 200;
  const sockets = Array.from({ length: clients }, () => {
    const socket = connect(Number(port), host);
    socket.on('error', () => {});
    // It opens every window and never reads.
    socket.pause();
    socket.write(preface);
    socket.write(frame(4, 0, 0, Buffer.from([0, 4, 0x7f, 0xff, 0xff, 0xff])));
    socket.write(frame(8, 0, 0, Buffer.from(wide)));
    return socket;
  });
  // One after the other: what a client may have under way before it reads is its own affair.
  for (let i = 0; i < requests; i++) {
    for (const socket of sockets) {
      socket.write(frame(1, 4, 1 + 2 * i, block));
      socket.write(frame(0, 1, 1 + 2 * i, request));
    }
    expect((await client.kv.get('fuzz', {}, { timeoutMs: 20_000 })).kvs).toHaveLength(1);
  }
  const grown = residentBytes() - before;
  for (const socket of sockets) socket.destroy();
  // Asked for 1,000 MiB; each connection may keep 4 MiB, a turn's answers above it, and what garbage there is.
  expect(grown).toBeLessThan(clients * 40 * MiB);
});
