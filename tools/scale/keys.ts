/** Many keys in one member: memory, reopening, put rate and ranges, beside those of a small store. */
import { fromBinary } from '@bufbuild/protobuf';
import {
  PutRequestSchema,
  RangeRequestSchema,
  RangeResponseSchema,
  TxnRequestSchema,
} from '@quoin/contracts/etcd';
import { cpuSeconds, memoryBytes, mib } from './process-memory.ts';
import { atFullRate, encode, type Rate, RawClient } from './raw-client.ts';
import { progress, type ScaleServer } from './server.ts';

const valueBytes = 256;
const putsPerTxn = 128;
const loadersAtOnce = 8;
const putClients = 200;
const rangeKeys = 500;
const smallKeys = 100_000;
const measureSeconds = 8;

const keyOf = (n: number): Uint8Array => Buffer.from(`key/${String(n).padStart(12, '0')}`);

interface Point {
  readonly keys: number;
  readonly put: Rate;
  readonly putCpuMicros: number;
  readonly rangeP50Ms: number;
  readonly residentBytes: number;
}

/** Prints one row for each size; the small one is what the large one is held against. */
export async function measureKeys(server: ScaleServer, keys: number): Promise<void> {
  const clients = Array.from({ length: 8 }, () => new RawClient(server.endpoint));
  try {
    const small = Math.min(smallKeys, keys);
    await load(clients, 0, small);
    const first = await measure(server, clients, small);
    show(server, first, undefined);
    if (keys > small) {
      await load(clients, small, keys);
      show(server, await measure(server, clients, keys), first);
    }
    for (const client of clients) client.close();
    await reopen(server, keys);
  } finally {
    for (const client of clients) client.close();
  }
}

async function load(clients: readonly RawClient[], from: number, to: number): Promise<void> {
  const value = Buffer.alloc(valueBytes, 'v');
  let next = from;
  const told = progress('keys loaded', to);
  await Promise.all(
    Array.from({ length: loadersAtOnce }, async (_, i) => {
      for (let at = next; at < to; at = next) {
        next = Math.min(at + putsPerTxn, to);
        const success = Array.from({ length: next - at }, (_unused, k) => ({
          request: { case: 'requestPut' as const, value: { key: keyOf(at + k), value } },
        }));
        await clients[i % clients.length]!.call(
          '/etcdserverpb.KV/Txn',
          encode(TxnRequestSchema, { success }),
        );
        told(at);
      }
    }),
  );
  told(to);
}

async function measure(server: ScaleServer, clients: readonly RawClient[], keys: number): Promise<Point> {
  const value = Buffer.alloc(valueBytes, 'w');
  const random = randomBelow(keys);
  const before = cpuSeconds(server.pid());
  const put = await atFullRate(putClients, measureSeconds, (n) =>
    clients[n % clients.length]!.call(
      '/etcdserverpb.KV/Put',
      encode(PutRequestSchema, { key: keyOf(random()), value }),
    ),
  );
  const putCpuMicros = ((cpuSeconds(server.pid()) - before) / put.operations) * 1e6;
  const middle = encode(RangeRequestSchema, {
    key: keyOf(Math.floor(keys / 2)),
    rangeEnd: Buffer.from('key0'),
    limit: BigInt(rangeKeys),
    serializable: true,
  });
  const counted = fromBinary(RangeResponseSchema, await clients[0]!.call('/etcdserverpb.KV/Range', middle));
  if (counted.kvs.length !== Math.min(rangeKeys, Math.ceil(keys / 2)))
    throw new Error(`a range of ${rangeKeys} from the middle gave ${counted.kvs.length}`);
  const exact = encode(RangeRequestSchema, {
    key: keyOf(Math.floor(keys / 2)),
    rangeEnd: keyOf(Math.floor(keys / 2) + rangeKeys),
    serializable: true,
  });
  const range = await atFullRate(1, measureSeconds / 2, () =>
    clients[0]!.call('/etcdserverpb.KV/Range', exact),
  );
  return {
    keys,
    put,
    putCpuMicros,
    rangeP50Ms: range.p50Ms,
    residentBytes: memoryBytes(server.pid(), 'VmRSS'),
  };
}

function show(server: ScaleServer, point: Point, base: Point | undefined): void {
  const ratio = (now: number, then: number | undefined): string =>
    then === undefined ? '' : ` (${(now / then).toFixed(2)})`;
  process.stdout.write(
    `${server.name}, ${point.keys} keys: put ${point.put.perSecond.toFixed(0)}/s${ratio(point.put.perSecond, base?.put.perSecond)}, ` +
      `${point.putCpuMicros.toFixed(0)} µs of CPU each${ratio(point.putCpuMicros, base?.putCpuMicros)}, ` +
      `range of ${rangeKeys} from the middle p50 ${point.rangeP50Ms.toFixed(2)} ms${ratio(point.rangeP50Ms, base?.rangeP50Ms)}, ` +
      `resident ${mib(point.residentBytes)}\n`,
  );
}

/** From the start of the process to the first linearizable read. */
async function reopen(server: ScaleServer, keys: number): Promise<void> {
  await server.stop();
  const began = performance.now();
  await server.start();
  const client = new RawClient(server.endpoint);
  const request = encode(RangeRequestSchema, { key: keyOf(keys - 1) });
  const answer = fromBinary(RangeResponseSchema, await client.call('/etcdserverpb.KV/Range', request));
  client.close();
  if (answer.kvs.length !== 1) throw new Error('the last key is gone after reopening');
  const seconds = (performance.now() - began) / 1_000;
  process.stdout.write(
    `${server.name}, ${keys} keys: reopened in ${seconds.toFixed(1)} s, resident ${mib(memoryBytes(server.pid(), 'VmRSS'))}\n`,
  );
}

/** Whole numbers below `limit`, the same in every run. */
function randomBelow(limit: number): () => number {
  let state = 12345;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * limit);
  };
}
