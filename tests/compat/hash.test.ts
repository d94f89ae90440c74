/** HashKV of the same history is the same number on a real etcd and on Quoin, at every revision, compacted or not. */
import { Client } from '@quoin/client';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { grantLeases, writeHistory } from '../support/random-history.ts';
import { etcdBinary, hasEtcd, startEtcd, startQuoin, type TestServer } from '../support/test-server.ts';
import { findOracle } from './oracle.ts';

if (!hasEtcd) console.log(`skipped: comparison of HashKV, ${etcdBinary} is not installed`);

describe.runIf(hasEtcd)('HashKV', () => {
  const servers: TestServer[] = [];
  const clients: Client[] = [];

  beforeAll(async () => {
    servers.push(...(await Promise.all([startEtcd(), startQuoin(1)])));
    for (const { endpoints } of servers) clients.push(new Client({ endpoints: [...endpoints] }));
    for (const client of clients) await grantLeases(client);
  });
  afterAll(async () => {
    for (const client of clients) client.close();
    await Promise.all(servers.map((server) => server.stop()));
  });

  const both = <T>(ask: (client: Client) => Promise<T>): Promise<T[]> => Promise.all(clients.map(ask));

  async function expectSame(revision: number): Promise<void> {
    const [etcd, quoin] = await both((client) =>
      client.maintenance.hashKv(revision).then(
        (r) => ({ hash: r.hash, compact: r.compactRevision, revision: r.header?.revision }),
        (error: Error) => error.message,
      ),
    );
    expect({ revision, answer: quoin }).toEqual({ revision, answer: etcd });
  }

  async function expectAllSame(from: number, to: number): Promise<void> {
    for (let revision = from; revision <= to; revision++) await expectSame(revision);
  }

  test('of an empty store, a grown one, and after each of several compactions', async () => {
    await expectSame(0);
    let last = 1;
    for (const [round, fraction] of [0.3, 0.8, 1, 0.5].entries()) {
      await both((client) => writeHistory(client, 100 + round, 60));
      const status = await clients[1]!.maintenance.status();
      const current = Number(status.header!.revision);
      await expectAllSame(last + 1, current + 1);
      await expectSame(0);
      const target = last + Math.floor((current - last) * fraction);
      await both((client) => client.kv.compact(target, { physical: true }));
      // At the compact revision itself 3.4 refuses, 3.7 gives what it had reckoned before compacting.
      await expectAllSame(target + 1, current + 1);
      await expectSame(target - 1);
      last = target;
    }
  });

  test('when nothing is alive any more', async () => {
    await both((client) => client.kv.delete('', { fromKey: true }));
    await expectSame(0);
    await both((client) => client.kv.put('again', ''));
    await expectSame(0);
  });
});

const oracle = findOracle();

// Until it is restarted, etcd 3.7 gives for the compact revision what it had reckoned while it compacted.
test.runIf(oracle?.version === '3.7')(
  'at the compact revision itself: that of etcd 3.7 once it has to read what is left',
  async () => {
    const servers = await Promise.all([startEtcd(1, oracle!.args, oracle!.binary), startQuoin(1)]);
    const clients = servers.map(({ endpoints }) => new Client({ endpoints: [...endpoints] }));
    const [etcd] = servers;
    try {
      for (const client of clients) await grantLeases(client);
      for (const [round, gone] of [false, true, false].entries()) {
        let target = 0;
        for (const client of clients) {
          await writeHistory(client, 200 + round, 60);
          // A tombstone at the compact revision, or something alive.
          if (gone) await client.kv.put('gone', 'x');
          const { header } = gone ? await client.kv.delete('gone') : await client.kv.put('kept', 'x');
          target = Number(header!.revision);
          await client.kv.put('after', 'x');
          await client.kv.compact(target, { physical: true });
        }
        // Longer than etcd waits before it commits, or it would compact once more when it starts.
        await new Promise((resolve) => setTimeout(resolve, 500));
        await etcd!.kill(0);
        await etcd!.restart(0);
        const [theirs, ours] = await Promise.all(
          clients.map(async (client) => {
            const { hash, compactRevision, hashRevision } = await client.maintenance.hashKv(target);
            return { hash, compactRevision, hashRevision };
          }),
        );
        expect({ round, ...ours }).toEqual({ round, ...theirs });
        expect(ours!.compactRevision).toBe(BigInt(target));
      }
    } finally {
      for (const client of clients) client.close();
      await Promise.all(servers.map((server) => server.stop()));
    }
  },
  60_000,
);
