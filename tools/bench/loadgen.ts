/** The load generator where Go is absent: the same flags and the same JSON lines as loadgen/main.go, on our own client. */
import { readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { Prng } from '@quoin/base';
import { Client, compare, op } from '@quoin/client';
import { Lease, Watch } from '@quoin/contracts/etcd';

const { values: flags } = parseArgs({
  options: {
    endpoints: { type: 'string', default: '127.0.0.1:2379' },
    workload: { type: 'string', default: 'put' },
    conns: { type: 'string', default: '1' },
    clients: { type: 'string', default: '1' },
    warmup: { type: 'string', default: '0' },
    seconds: { type: 'string', default: '5' },
    fill: { type: 'boolean', default: false },
    keys: { type: 'string', default: '10000' },
    'key-size': { type: 'string', default: '8' },
    'value-size': { type: 'string', default: '256' },
    /** Given, connections use TLS. */
    cacert: { type: 'string' },
    cert: { type: 'string' },
    key: { type: 'string' },
  },
});

const keySpace = Number(flags.keys);
const clients = Number(flags.clients);
const value = new Uint8Array(Number(flags['value-size'])).map((_, i) => 33 + (i % 90));
const rangeEnd = Uint8Array.of(0, 255);
const pauseAfterErrorMs = 10;
const leaseTtl = 600n;
const writers = 100;
const writerConns = 10;
const delaySample = 16;

const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

function dial(n: number): Client[] {
  const endpoints = flags.endpoints.split(',');
  const file = (path: string | undefined) => (path === undefined ? undefined : readFileSync(path));
  const { cacert, cert, key: certKey } = flags;
  const tls = cacert === undefined ? undefined : { ca: file(cacert), cert: file(cert), key: file(certKey) };
  return Array.from(
    { length: n },
    (_, i) => new Client({ endpoints: [endpoints[i % endpoints.length]!], tls }),
  );
}

function key(n: number): Uint8Array {
  const bytes = Buffer.alloc(Number(flags['key-size']));
  bytes.writeBigUInt64BE(BigInt(n));
  return bytes;
}

/** What is finished between start and stop. */
class Tally {
  private counting = false;
  private operations = 0;
  private puts = 0;
  private errors = 0;
  private firstError: string | undefined;
  private readonly latencies: number[] = [];
  private startedAt = 0;
  private cpu = process.cpuUsage();

  done(operations: number, latencyMs: number | undefined): void {
    if (!this.counting) return;
    this.operations += operations;
    if (latencyMs !== undefined) this.latencies.push(latencyMs);
  }

  put(): void {
    if (this.counting) this.puts++;
  }

  failed(error: unknown): void {
    if (!this.counting) return;
    this.errors++;
    this.firstError ??= String(error);
  }

  start(): void {
    this.startedAt = performance.now();
    this.cpu = process.cpuUsage();
    this.counting = true;
  }

  stop(): object {
    this.counting = false;
    const seconds = (performance.now() - this.startedAt) / 1000;
    const { user, system } = process.cpuUsage(this.cpu);
    this.latencies.sort((a, b) => a - b);
    return {
      workload: flags.workload,
      operations: this.operations,
      errors: this.errors,
      firstError: this.firstError,
      seconds,
      perSecond: this.operations / seconds,
      p50Ms: this.latencies[Math.floor(this.latencies.length / 2)] ?? 0,
      p99Ms: this.latencies[Math.floor(this.latencies.length * 0.99)] ?? 0,
      ...(this.puts > 0 && { putsPerSecond: this.puts / seconds }),
      cpuSeconds: (user + system) / 1e6,
    };
  }
}

type Operation = (client: Client, n: number, random: Prng) => Promise<unknown>;

const put: Operation = (client, n) => client.kv.put(key(n), value);
const get: Operation = (client, n) => client.kv.get(key(n));

async function rangeOf(client: Client, from: number, want: number, limit: number): Promise<void> {
  const { kvs } = await client.kv.get(key(from), { rangeEnd, limit });
  if (kvs.length !== want) throw new Error(`a range of ${kvs.length} keys, not ${want}`);
}

/** As Kubernetes updates an object: see loadgen/unary.go. */
function compareAndPut(): Operation {
  const known = new Map<number, bigint>();
  return async (client, n) => {
    const { succeeded, header, responses } = await client.kv.txn({
      compare: [compare.modRevision(key(n), '=', known.get(n) ?? 0n)],
      success: [op.put(key(n), value)],
      failure: [op.get(key(n))],
    });
    if (succeeded) known.set(n, header!.revision);
    else {
      const found = responses[0]?.response;
      const kv = found?.case === 'responseRange' ? found.value.kvs[0] : undefined;
      if (kv !== undefined) known.set(n, kv.modRevision);
    }
  };
}

const unary: Readonly<Record<string, () => Operation>> = {
  put: () => put,
  get: () => get,
  'get-serializable': () => (client, n) => client.kv.get(key(n), { serializable: true }),
  range: () => (client, n) => {
    const from = Math.floor(n / 2);
    return rangeOf(client, from, Math.min(1000, keySpace - from), 1000);
  },
  'range-all': () => (client) => rangeOf(client, 0, keySpace, 0),
  txn: compareAndPut,
  mixed: () => (client, n, random) => (random.below(10) === 0 ? put : get)(client, n, random),
};

async function work(tally: Tally, operation: Operation, client: Client, seed: number): Promise<void> {
  const random = new Prng(seed);
  for (;;) {
    const before = performance.now();
    try {
      await operation(client, random.below(keySpace), random);
      tally.done(1, performance.now() - before);
    } catch (error) {
      tally.failed(error);
      await sleep(pauseAfterErrorMs);
    }
  }
}

/** One stream for each lease, renewed as fast as it is answered. */
async function keepalives(pool: readonly Client[]): Promise<(tally: Tally) => void> {
  const open = await Promise.all(
    Array.from({ length: clients }, async (_, i) => {
      const client = pool[i % pool.length]!;
      const { ID } = await client.lease.grant(leaseTtl);
      return { ID, stream: await client.transport.bidi(Lease.method.leaseKeepAlive) };
    }),
  );
  return (tally) => {
    for (const { ID, stream } of open) {
      let before = performance.now();
      stream.on('data', ({ TTL }) => {
        if (TTL > 0n) tally.done(1, performance.now() - before);
        else tally.failed(`lease ${ID.toString(16)} was not renewed`);
        before = performance.now();
        stream.write({ ID });
      });
      stream.on('error', (error) => tally.failed(error));
      stream.write({ ID });
    }
  };
}

async function watchers(pool: readonly Client[], end: Uint8Array) {
  const count = Math.min(clients, pool.length);
  return Promise.all(
    Array.from({ length: count }, async (_, i) => {
      const stream = await pool[i]!.transport.bidi(Watch.method.watch);
      let awaited = 0;
      for (let w = i; w < clients; w += count, awaited++) {
        const create = { key: key(0), rangeEnd: end };
        stream.write({ requestUnion: { case: 'createRequest', value: create } });
      }
      await new Promise<void>((resolve, reject) => {
        const onData = ({ created, canceled }: { created: boolean; canceled: boolean }): void => {
          if (!created || canceled) return reject(new Error('a watch was not created'));
          if (--awaited > 0) return;
          stream.off('data', onData);
          resolve();
        };
        stream.on('data', onData);
        stream.once('error', reject);
      });
      return stream;
    }),
  );
}

/** Puts once, waits until every watcher has it, and puts again. */
async function watchOne(pool: readonly Client[]): Promise<(tally: Tally) => void> {
  const streams = await watchers(pool, new Uint8Array(0));
  return (tally) => {
    let seen = 0;
    let before = 0;
    const next = (): void => {
      seen = 0;
      before = performance.now();
      put(pool[0]!, 0, new Prng(0)).catch((error: unknown) => tally.failed(error));
    };
    for (const stream of streams) {
      stream.on('error', (error) => tally.failed(error));
      stream.on('data', ({ events }) => {
        seen += events.length;
        if (seen < clients) return;
        tally.done(1, performance.now() - before);
        next();
      });
    }
    next();
  };
}

/** Every watcher sees every put. */
async function watchRate(pool: readonly Client[]): Promise<(tally: Tally) => void> {
  const streams = await watchers(pool, rangeEnd);
  const putters = dial(writerConns);
  const now = (): number => performance.timeOrigin + performance.now();
  const stamped = async (tally: Tally, client: Client, seed: number): Promise<void> => {
    const random = new Prng(seed);
    const own = Buffer.from(value);
    for (;;) {
      own.writeDoubleBE(now());
      try {
        await client.kv.put(key(random.below(keySpace)), own);
        tally.put();
      } catch (error) {
        tally.failed(error);
        await sleep(pauseAfterErrorMs);
      }
    }
  };
  return (tally) => {
    for (const stream of streams) {
      let n = 0;
      stream.on('error', (error) => tally.failed(error));
      stream.on('data', ({ events }) => {
        const first = events[0]?.kv?.value;
        if (first === undefined) return;
        const sampled = n++ % delaySample === 0;
        tally.done(events.length, sampled ? now() - Buffer.from(first).readDoubleBE() : undefined);
      });
    }
    for (let w = 0; w < writers; w++) void stamped(tally, putters[w % writerConns]!, w);
  };
}

async function fill(pool: readonly Client[]): Promise<void> {
  let next = 0;
  const worker = async (client: Client): Promise<void> => {
    for (let n = next++; n < keySpace; n = next++) await client.kv.put(key(n), value);
  };
  await Promise.all(Array.from({ length: 64 }, (_, i) => worker(pool[i % pool.length]!)));
}

function workload(pool: readonly Client[]): Promise<(tally: Tally) => void> {
  if (flags.workload === 'keepalive') return keepalives(pool);
  if (flags.workload === 'watch-one') return watchOne(pool);
  if (flags.workload === 'watch-rate') return watchRate(pool);
  const operation = unary[flags.workload]?.();
  if (operation === undefined) throw new Error(`unknown workload ${flags.workload}`);
  return Promise.resolve((tally) => {
    for (let i = 0; i < clients; i++) void work(tally, operation, pool[i % pool.length]!, i);
  });
}

const pool = dial(Number(flags.conns));
if (flags.fill) await fill(pool);
const load = await workload(pool);
const tally = new Tally();
load(tally);
await sleep(Number(flags.warmup) * 1000);
tally.start();
process.stdout.write('{"started":true}\n');
await sleep(Number(flags.seconds) * 1000);
process.stdout.write(`${JSON.stringify(tally.stop())}\n`, () => process.exit(0));
