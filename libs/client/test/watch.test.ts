import { etcdErrors } from '@quoin/contracts';
import { Event_EventType, type WatchResponse } from '@quoin/contracts/etcd';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { startTestServer, type TestServer } from '../../../tests/support/test-server.ts';
import {
  Client,
  CompactedError,
  Election,
  type EtcdError,
  Mutex,
  Session,
  type Watcher,
} from '../src/index.ts';

const server: TestServer | undefined = await startTestServer();
let client: Client;
let n = 0;
const fresh = (): string => `watch-${process.pid}-${++n}/`;
const text = (bytes: Uint8Array | undefined): string => new TextDecoder().decode(bytes);

beforeAll(() => {
  if (server !== undefined) client = new Client({ endpoints: server.endpoints });
});
afterAll(async () => {
  client?.close();
  await server?.stop();
});

async function events(watcher: Watcher, count: number): Promise<string[]> {
  const seen: string[] = [];
  while (seen.length < count) {
    const { value, done } = await watcher.next();
    if (done) break;
    for (const { type, kv } of value.events)
      seen.push(type === Event_EventType.DELETE ? '-' : text(kv!.value));
  }
  return seen;
}

describe.skipIf(server === undefined)('watch', () => {
  test('events from now on, in order, with previous values', async () => {
    const k = fresh();
    const watcher = client.watch.watch(k, { prevKv: true });
    await watcher.created;
    await client.kv.put(k, '1');
    await client.kv.put(k, '2');
    await client.kv.delete(k);
    const responses: WatchResponse[] = [];
    for await (const response of watcher) {
      responses.push(response);
      if (responses.flatMap((r) => r.events).length === 3) break;
    }
    const all = responses.flatMap((r) => r.events);
    expect(all.map((e) => [e.type, text(e.kv!.value), text(e.prevKv?.value)])).toEqual([
      [Event_EventType.PUT, '1', ''],
      [Event_EventType.PUT, '2', '1'],
      [Event_EventType.DELETE, '', '2'],
    ]);
  });

  test('from a past revision, by prefix, filtered; many watches on one stream', async () => {
    const p = fresh();
    const { header } = await client.kv.put(`${p}a`, '1');
    await client.kv.put(`${p}b`, '2');
    await client.kv.delete(`${p}a`);
    await client.kv.put(`${p}b`, '3');
    const startRevision = header!.revision;
    const all = client.watch.watch(p, { prefix: true, startRevision });
    const puts = client.watch.watch(p, { prefix: true, startRevision, noDelete: true });
    const deletes = client.watch.watch(p, { prefix: true, startRevision, noPut: true });
    expect(await events(all, 4)).toEqual(['1', '2', '-', '3']);
    expect(await events(puts, 3)).toEqual(['1', '2', '3']);
    expect(await events(deletes, 1)).toEqual(['-']);
    for (const watcher of [all, puts, deletes]) watcher.cancel();
    expect((await all.next()).done).toBe(true);
  });

  test('a compacted start revision is told with the revision to start from', async () => {
    const k = fresh();
    const { header } = await client.kv.put(k, '1');
    const compactAt = (await client.kv.put(k, '2')).header!.revision;
    await client.kv.compact(compactAt);
    const watcher = client.watch.watch(k, { startRevision: header!.revision });
    const error = await watcher.next().then(
      () => undefined,
      (e: unknown) => e,
    );
    expect(error).toBeInstanceOf(CompactedError);
    expect((error as CompactedError).compactRevision).toBe(compactAt);
    expect((error as CompactedError).message).toBe(etcdErrors.compacted.message);
  });

  test('a refused creation ends that watch only', async () => {
    const good = client.watch.watch(fresh());
    await good.created;
    const bad = client.watch.watch('b', { rangeEnd: 'a' });
    const error = await bad.next().then(
      () => undefined,
      (e: unknown) => e,
    );
    expect((error as EtcdError).message).toContain('mvcc: watcher range is empty');
    const k = fresh();
    const after = client.watch.watch(k);
    await after.created;
    await client.kv.put(k, 'x');
    expect(await events(after, 1)).toEqual(['x']);
    good.cancel();
    after.cancel();
  });

  test('progress on request covers everything delivered', async () => {
    const k = fresh();
    const watcher = client.watch.watch(k);
    await watcher.created;
    const { header } = await client.kv.put(k, '1');
    expect(await events(watcher, 1)).toEqual(['1']);
    const asking = setInterval(() => client.watch.requestProgress(), 100);
    const { value } = await watcher.next();
    clearInterval(asking);
    expect(value!.events).toEqual([]);
    expect(value!.header!.revision).toBeGreaterThanOrEqual(header!.revision);
    watcher.cancel();
  });

  test('a large response comes whole, cut or not', async () => {
    const p = fresh();
    const value = new Uint8Array(600_000).fill(120);
    const { header } = await client.kv.put(`${p}0`, value);
    for (let i = 1; i < 8; i++) await client.kv.put(`${p}${i}`, value);
    const watcher = client.watch.watch(p, { prefix: true, startRevision: header!.revision });
    const lengths: number[] = [];
    while (lengths.length < 8) {
      const { value: response } = await watcher.next();
      for (const event of response!.events) lengths.push(event.kv!.value.length);
    }
    expect(lengths).toEqual(new Array(8).fill(600_000));
    watcher.cancel();
    await client.kv.delete(p, { prefix: true });
  });

  test('a mutex is held by one session at a time, and passes on', async () => {
    const name = fresh();
    const [a, b] = [await Session.open(client, { ttl: 5 }), await Session.open(client, { ttl: 5 })];
    const [first, second] = [new Mutex(a, name), new Mutex(b, name)];
    await first.lock();
    const order: string[] = [];
    const waiting = second.lock().then(() => order.push('second'));
    await new Promise((resolve) => setTimeout(resolve, 200));
    order.push('unlock');
    await first.unlock();
    await waiting;
    expect(order).toEqual(['unlock', 'second']);
    await second.unlock();
    await Promise.all([a.close(), b.close()]);
  });

  test('an election: the losers lead in turn, observers see every leader and value', async () => {
    const election = new Election(client, fresh().slice(0, -1));
    const [a, b] = [await Session.open(client, { ttl: 5 }), await Session.open(client, { ttl: 5 })];
    const seen: string[] = [];
    const stop = new AbortController();
    const observing = (async () => {
      for await (const { kv } of election.observe(stop.signal)) seen.push(text(kv.value));
    })().catch(() => {});
    const held = await election.campaign(a, 'a1');
    await election.proclaim(a, held, 'a2');
    const next = election.campaign(b, 'b1');
    await new Promise((resolve) => setTimeout(resolve, 200));
    expect(text((await election.leader()).kvs[0]!.value)).toBe('a2');
    await election.resign(held);
    const heldByB = await next;
    await new Promise((resolve) => setTimeout(resolve, 200));
    await election.resign(heldByB);
    await expect(election.leader()).rejects.toThrow('election: no leader');
    stop.abort();
    await observing;
    expect(seen.filter((value, i) => value !== seen[i - 1])).toEqual(['a1', 'a2', 'b1']);
    await Promise.all([a.close(), b.close()]);
  });
});
