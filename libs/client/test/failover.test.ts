import { Event_EventType } from '@quoin/contracts/etcd';
import { afterAll, describe, expect, test } from 'vitest';
import { startTestServer, type TestServer } from '../../../tests/support/test-server.ts';
import { Client, EtcdError } from '../src/index.ts';

const external = (process.env['QUOIN_TEST_ENDPOINTS'] ?? '') !== '';
const server: TestServer | undefined = external ? undefined : await startTestServer(3);
const text = (bytes: Uint8Array | undefined): string => new TextDecoder().decode(bytes);

afterAll(() => server?.stop());

async function until<T>(what: () => Promise<T>, withinMs = 15_000): Promise<T> {
  const end = Date.now() + withinMs;
  for (;;) {
    try {
      return await what();
    } catch (error) {
      if (Date.now() > end) throw error;
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }
}

describe.skipIf(server === undefined)('three nodes', () => {
  test('reads and watches go on while nodes die and come back; every acknowledged write is seen once', async () => {
    const client = new Client({ endpoints: server!.endpoints, timeoutMs: 5000 });
    await until(() => client.kv.put('ready', '1'));
    const watcher = client.watch.watch('f/', { prefix: true });
    await watcher.created;
    const seen: string[] = [];
    const watching = (async () => {
      for await (const response of watcher) {
        for (const event of response.events)
          if (event.type === Event_EventType.PUT) seen.push(text(event.kv!.key));
        if (seen.includes('f/end')) return;
      }
    })();
    const acknowledged: string[] = [];
    let writing = true;
    const writer = (async () => {
      for (let i = 0; writing; i++) {
        const key = `f/${String(i).padStart(5, '0')}`;
        try {
          await client.kv.put(key, 'v');
          acknowledged.push(key);
        } catch (error) {
          expect(error).toBeInstanceOf(EtcdError); // perhaps applied: not repeated
        }
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
    })();
    for (const node of [0, 1, 2]) {
      await server!.kill(node);
      // A read is repeated elsewhere until it succeeds.
      expect((await client.kv.get('ready')).count).toBe(1n);
      await server!.restart(node);
      await until(() => client.maintenance.status({ endpoint: server!.endpoints[node], timeoutMs: 1000 }));
      // A write that the node took along is waited for until its deadline; then they go on.
      const before = acknowledged.length;
      await expect.poll(() => acknowledged.length, { timeout: 15_000 }).toBeGreaterThan(before);
    }
    writing = false;
    await writer;
    await until(() => client.kv.put('f/end', ''));
    await watching;
    expect(new Set(seen).size).toBe(seen.length);
    expect(acknowledged.filter((key) => !seen.includes(key))).toEqual([]);
    expect(acknowledged.length).toBeGreaterThan(0);
    client.close();
  }, 60_000);

  test('a client with one dead endpoint works through the others', async () => {
    const client = new Client({ endpoints: ['127.0.0.1:1', ...server!.endpoints] });
    for (let i = 0; i < 5; i++) await client.kv.put('x', String(i));
    client.close();
  });
});
