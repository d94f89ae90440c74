/** The load generator where Go is absent: the same flags and the same JSON line as loadgen/main.go, on our own client. */
import { parseArgs } from 'node:util';
import { Prng } from '@quoin/base';
import { Client, compare, op } from '@quoin/client';

const { values: flags } = parseArgs({
  options: {
    endpoints: { type: 'string', default: '127.0.0.1:2379' },
    workload: { type: 'string', default: 'put' },
    conns: { type: 'string', default: '1' },
    clients: { type: 'string', default: '1' },
    seconds: { type: 'string', default: '5' },
    keys: { type: 'string', default: '10000' },
    'key-size': { type: 'string', default: '8' },
    'value-size': { type: 'string', default: '256' },
  },
});

const keySpace = Number(flags.keys);
const value = new Uint8Array(Number(flags['value-size'])).map((_, i) => 33 + (i % 90));

function key(n: number): Uint8Array {
  const bytes = Buffer.alloc(Number(flags['key-size']));
  bytes.writeBigUInt64BE(BigInt(n));
  return bytes;
}

async function compareAndPut(client: Client, n: number): Promise<unknown> {
  const found = (await client.kv.get(key(n))).kvs[0];
  return client.kv.txn({
    compare: [compare.modRevision(key(n), '=', found?.modRevision ?? 0n)],
    success: [op.put(key(n), value)],
    failure: [op.get(key(n))],
  });
}

const workloads: Record<string, (client: Client, n: number) => Promise<unknown>> = {
  put: (client, n) => client.kv.put(key(n), value),
  get: (client, n) => client.kv.get(key(n)),
  'get-serializable': (client, n) => client.kv.get(key(n), { serializable: true }),
  range: (client, n) =>
    client.kv.get(key(Math.floor(n / 2)), { rangeEnd: Uint8Array.of(0, 255), limit: 1000 }),
  txn: compareAndPut,
};

async function fill(pool: readonly Client[]): Promise<void> {
  let next = 0;
  const worker = async (client: Client): Promise<void> => {
    for (let n = next++; n < keySpace; n = next++) await client.kv.put(key(n), value);
  };
  await Promise.all(Array.from({ length: 64 }, (_, i) => worker(pool[i % pool.length]!)));
}

async function run(pool: readonly Client[]): Promise<object> {
  const operation = workloads[flags.workload];
  if (operation === undefined) throw new Error(`unknown workload ${flags.workload}`);
  const latencies: number[] = [];
  let errors = 0;
  let firstError: string | undefined;
  const start = performance.now();
  const end = start + Number(flags.seconds) * 1000;
  const cpu = process.cpuUsage();
  const worker = async (i: number): Promise<void> => {
    const random = new Prng(i);
    for (;;) {
      const before = performance.now();
      if (before >= end) return;
      try {
        await operation(pool[i % pool.length]!, random.below(keySpace));
        latencies.push(performance.now() - before);
      } catch (error) {
        errors++;
        firstError ??= String(error);
      }
    }
  };
  await Promise.all(Array.from({ length: Number(flags.clients) }, (_, i) => worker(i)));
  const seconds = (performance.now() - start) / 1000;
  const { user, system } = process.cpuUsage(cpu);
  latencies.sort((a, b) => a - b);
  return {
    workload: flags.workload,
    operations: latencies.length,
    errors,
    firstError,
    seconds,
    perSecond: latencies.length / seconds,
    p50Ms: latencies[Math.floor(latencies.length / 2)] ?? 0,
    p99Ms: latencies[Math.floor(latencies.length * 0.99)] ?? 0,
    cpuSeconds: (user + system) / 1e6,
  };
}

const endpoints = flags.endpoints.split(',');
const pool = Array.from(
  { length: Number(flags.conns) },
  (_, i) => new Client({ endpoints: [endpoints[i % endpoints.length]!] }),
);
if (flags.workload === 'fill') {
  await fill(pool);
  process.stdout.write(`${JSON.stringify({ workload: 'fill', operations: keySpace })}\n`);
} else process.stdout.write(`${JSON.stringify(await run(pool))}\n`);
for (const client of pool) client.close();
