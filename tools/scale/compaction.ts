/** Puts at full rate while a long history is compacted: how much slower do they get? */

import { fromBinary } from '@bufbuild/protobuf';
import {
  CompactionRequestSchema,
  PutRequestSchema,
  PutResponseSchema,
  TxnRequestSchema,
} from '@quoin/contracts/etcd';
import { atFullRate, encode, type Rate, RawClient } from './raw-client.ts';
import { progress, type ScaleServer } from './server.ts';

const keys = 10_000;
const revisionsPerCall = 16;
const historyClients = 512;
const putClients = 50;
const measureSeconds = 10;
const value = Buffer.alloc(256, 'c');

const keyOf = (n: number): Uint8Array => Buffer.from(`compact/${String(n % keys).padStart(6, '0')}`);

export async function measureCompaction(server: ScaleServer, revisions: number): Promise<void> {
  const clients = Array.from({ length: 4 }, () => new RawClient(server.endpoint));
  const put = (n: number): Promise<Buffer> =>
    clients[n % clients.length]!.call(
      '/etcdserverpb.KV/Put',
      encode(PutRequestSchema, { key: keyOf(n * 7919), value }),
    );
  try {
    await history(clients, revisions);
    const before = await atFullRate(putClients, measureSeconds, put);
    const last = fromBinary(PutResponseSchema, await put(0));
    const revision = last.header!.revision;
    let compacted = 0;
    const began = performance.now();
    // `physical`: the answer comes when the history is gone.
    const done = clients[0]!
      .call('/etcdserverpb.KV/Compact', encode(CompactionRequestSchema, { revision, physical: true }))
      .then(() => {
        compacted = performance.now() - began;
      });
    const during: Rate[] = [];
    while (compacted === 0) during.push(await atFullRate(putClients, 1, put));
    await done;
    const worst = Math.max(...during.map((rate) => rate.p99Ms));
    const p99 = during.map((rate) => rate.p99Ms).sort((a, b) => a - b)[Math.floor(during.length / 2)]!;
    const rate = during.reduce((sum, one) => sum + one.perSecond, 0) / during.length;
    process.stdout.write(
      `${server.name}: ${revisions} revisions compacted in ${(compacted / 1_000).toFixed(1)} s; puts ${before.perSecond.toFixed(0)}/s before, ` +
        `${rate.toFixed(0)}/s during; p99 ${before.p99Ms.toFixed(1)} ms before, ${p99.toFixed(1)} ms during (${(p99 / before.p99Ms).toFixed(2)}), ` +
        `worst second ${worst.toFixed(1)} ms\n`,
    );
  } finally {
    for (const client of clients) client.close();
  }
}

/** Each operation of a transaction is a change of another key at one revision, so every call makes one revision. */
async function history(clients: readonly RawClient[], revisions: number): Promise<void> {
  const told = progress('revisions made', revisions);
  let next = 0;
  await Promise.all(
    Array.from({ length: historyClients }, async (_, i) => {
      for (let n = next++; n < revisions; n = next++) {
        const success = Array.from(
          { length: n % revisionsPerCall === 0 ? revisionsPerCall : 1 },
          (_unused, k) => ({
            request: { case: 'requestPut' as const, value: { key: keyOf(n * 31 + k), value } },
          }),
        );
        await clients[i % clients.length]!.call(
          '/etcdserverpb.KV/Txn',
          encode(TxnRequestSchema, { success }),
        );
        told(n);
      }
    }),
  );
  told(revisions);
}
