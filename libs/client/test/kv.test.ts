import { Code, etcdErrors } from '@quoin/contracts';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { startTestServer, type TestServer } from '../../../tests/support/test-server.ts';
import { Client, compare, EtcdError, op, prefixEnd } from '../src/index.ts';

const server: TestServer | undefined = await startTestServer();
let client: Client;
let n = 0;
const fresh = (): string => `kv-${process.pid}-${++n}/`;
const text = (bytes: Uint8Array | undefined): string => new TextDecoder().decode(bytes);

beforeAll(() => {
  if (server !== undefined) client = new Client({ endpoints: server.endpoints });
});
afterAll(async () => {
  client?.close();
  await server?.stop();
});

async function failure(promise: Promise<unknown>): Promise<EtcdError> {
  const error = await promise.then(
    () => undefined,
    (e: unknown) => e,
  );
  expect(error).toBeInstanceOf(EtcdError);
  return error as EtcdError;
}

test('prefixEnd is the first key after all that begin with the prefix', () => {
  expect([...prefixEnd(Uint8Array.of(1, 2))]).toEqual([1, 3]);
  expect([...prefixEnd(Uint8Array.of(1, 255, 255))]).toEqual([2]);
  expect([...prefixEnd(Uint8Array.of(255))]).toEqual([0]);
  const prefix = Buffer.from([7, 7]);
  prefixEnd(prefix);
  expect([...prefix]).toEqual([7, 7]);
});

describe.skipIf(server === undefined)('kv', () => {
  test('put, get, delete with previous values and revisions', async () => {
    const k = fresh();
    const put = await client.kv.put(k, 'one');
    const again = await client.kv.put(k, 'two', { prevKv: true });
    expect(text(again.prevKv?.value)).toBe('one');
    expect(again.header!.revision).toBe(put.header!.revision + 1n);
    const got = await client.kv.get(k);
    expect(got.kvs.map((kv) => [text(kv.value), kv.version, kv.createRevision, kv.modRevision])).toEqual([
      ['two', 2n, put.header!.revision, again.header!.revision],
    ]);
    const old = await client.kv.get(k, { revision: put.header!.revision });
    expect(text(old.kvs[0]!.value)).toBe('one');
    const gone = await client.kv.delete(k, { prevKv: true });
    expect([gone.deleted, text(gone.prevKvs[0]!.value)]).toEqual([1n, 'two']);
    expect((await client.kv.get(k)).count).toBe(0n);
  });

  test('range options: prefix, end, from key, limit, sort, count, keys only, revision filters', async () => {
    const p = fresh();
    const revisions: bigint[] = [];
    for (const name of ['b', 'a', 'c', 'd']) {
      revisions.push((await client.kv.put(p + name, name.repeat(2))).header!.revision);
    }
    const names = async (options: object, key = p) =>
      (await client.kv.get(key, options)).kvs.map((kv) => text(kv.key).slice(p.length)).join('');
    expect(await names({ prefix: true })).toBe('abcd');
    expect(await names({ rangeEnd: `${p}c` }, `${p}a`)).toBe('ab');
    expect(await names({ prefix: true, sortBy: 'create', order: 'descend' })).toBe('dcab');
    expect(await names({ prefix: true, sortBy: 'value', order: 'descend', limit: 2 })).toBe('dc');
    expect(await names({ prefix: true, minModRevision: revisions[2] })).toBe('cd');
    expect(await names({ prefix: true, maxCreateRevision: revisions[0] })).toBe('b');
    expect(await names({ prefix: true, serializable: true, limit: 3 })).toBe('abc');
    const page = await client.kv.get(p, { prefix: true, limit: 3, keysOnly: true });
    expect([page.more, page.count, page.kvs[0]!.value.length]).toEqual([true, 4n, 0]);
    const count = await client.kv.get(p, { prefix: true, countOnly: true });
    expect([count.count, count.kvs.length]).toEqual([4n, 0]);
    const all = await client.kv.get('', { prefix: true });
    expect(all.count).toBeGreaterThanOrEqual(4n);
    expect((await client.kv.delete(`${p}c`, { rangeEnd: `${p}z` })).deleted).toBe(2n);
    expect((await client.kv.delete(p, { prefix: true })).deleted).toBe(2n);
  });

  test('transactions take the branch that the comparisons choose', async () => {
    const k = fresh();
    const create = {
      compare: [compare.version(k, '=', 0)],
      success: [op.put(k, 'v'), op.get(k)],
      failure: [op.get(k)],
    };
    const first = await client.kv.txn(create);
    expect([first.succeeded, first.responses.map((r) => r.response.case)]).toEqual([
      true,
      ['responsePut', 'responseRange'],
    ]);
    const second = await client.kv.txn(create);
    expect(second.succeeded).toBe(false);
    const seen = second.responses[0]!.response;
    expect(seen.case === 'responseRange' && text(seen.value.kvs[0]!.value)).toBe('v');
    const revision = first.header!.revision;
    const checks = [
      compare.value(k, '=', 'v'),
      compare.createRevision(k, '=', revision),
      compare.modRevision(k, '<', revision + 1n),
      compare.lease(k, '=', 0),
      compare.version(k, '!=', 7),
    ];
    const nested = await client.kv.txn({
      compare: checks,
      success: [op.txn({ success: [op.delete(k, { prevKv: true })] })],
    });
    expect([nested.succeeded, nested.responses[0]!.response.case]).toEqual([true, 'responseTxn']);
    expect((await client.kv.get(k)).kvs).toEqual([]);
  });

  test('binary keys and values, and one larger than a frame', async () => {
    const key = Uint8Array.of(0xff, 0, 1, 0x80, ++n);
    const value = new Uint8Array(1_000_000).map((_, i) => i * 7);
    await client.kv.put(key, value);
    const { kvs } = await client.kv.get(key);
    expect(Buffer.compare(kvs[0]!.value, value)).toBe(0);
    await client.kv.delete(key);
  });

  test("the server's errors come with their code and exact text", async () => {
    const k = fresh();
    const is = async (promise: Promise<unknown>, expected: { code: number; message: string }) => {
      const error = await failure(promise);
      expect([error.code, error.message]).toEqual([expected.code, expected.message]);
    };
    await is(client.kv.put('', 'v'), etcdErrors.emptyKey);
    await is(client.kv.put(k, 'v', { lease: 12345 }), etcdErrors.leaseNotFound);
    await is(client.kv.put(k, '', { ignoreValue: true }), etcdErrors.keyNotFound);
    await is(client.kv.put(k, 'v', { ignoreValue: true }), etcdErrors.valueProvided);
    await is(client.kv.get(k, { revision: 1n << 40n }), etcdErrors.futureRev);
    await is(client.kv.txn({ success: [op.put(k, '1'), op.put(k, '2')] }), etcdErrors.duplicateKey);
    await is(client.kv.put(k, new Uint8Array(1_700_000)), etcdErrors.requestTooLarge);
    const { header } = await client.kv.put(k, 'v');
    await client.kv.compact(header!.revision, { physical: true });
    await is(client.kv.compact(header!.revision), etcdErrors.compacted);
    await is(client.kv.get(k, { revision: header!.revision - 1n }), etcdErrors.compacted);
  });

  test('a range in parts adds up to the whole one', async () => {
    const p = fresh();
    for (let i = 0; i < 30; i++) await client.kv.put(`${p}${String(i).padStart(2, '0')}`, 'x');
    const keys: string[] = [];
    let last: { count: bigint } | undefined;
    try {
      for await (const part of client.kv.rangeStream(p, { prefix: true })) {
        keys.push(...part.kvs.map((kv) => text(kv.key)));
        last = part;
      }
    } catch (error) {
      // etcd has it from 3.7 on.
      expect((error as EtcdError).code).toBe(Code.unimplemented);
      return;
    }
    expect(keys).toEqual((await client.kv.get(p, { prefix: true })).kvs.map((kv) => text(kv.key)));
    expect(last!.count).toBe(30n);
  });

  test('a deadline and an abort end the call', async () => {
    expect((await failure(client.kv.get('k', {}, { signal: AbortSignal.abort() }))).code).toBe(Code.canceled);
    const nowhere = new Client({ endpoints: ['127.0.0.1:1'] });
    const started = Date.now();
    const error = await failure(nowhere.kv.get('k', {}, { timeoutMs: 300 }));
    expect([error.code, error.message]).toEqual([Code.deadlineExceeded, 'context deadline exceeded']);
    expect(Date.now() - started).toBeLessThan(2000);
    nowhere.close();
  });

  test('leases: keys go with them; absent ones are told apart', async () => {
    const k = fresh();
    const { ID } = await client.lease.grant(30);
    await client.kv.put(k, 'v', { lease: ID });
    const ttl = await client.lease.timeToLive(ID, { keys: true });
    expect([ttl.grantedTTL, ttl.keys.map(text)]).toEqual([30n, [k]]);
    expect((await client.lease.leases()).leases.map((l) => l.ID)).toContain(ID);
    expect((await client.lease.keepAliveOnce(ID)).TTL).toBe(30n);
    await client.lease.revoke(ID);
    expect((await client.kv.get(k)).count).toBe(0n);
    expect((await client.lease.timeToLive(ID)).TTL).toBe(-1n);
    expect((await failure(client.lease.keepAliveOnce(ID))).message).toBe(etcdErrors.leaseNotFound.message);
    expect((await failure(client.lease.revoke(ID))).message).toBe(etcdErrors.leaseNotFound.message);
  });

  test('keepAlive renews a lease past its TTL and reports its loss', async () => {
    const { ID, TTL } = await client.lease.grant(2);
    let renewed = 0;
    const keeper = client.lease.keepAlive(ID, () => renewed++);
    await new Promise((resolve) => setTimeout(resolve, Number(TTL) * 1000 + 1200));
    expect((await client.lease.timeToLive(ID)).TTL).toBeGreaterThan(0n);
    expect(renewed).toBeGreaterThanOrEqual(3);
    await client.lease.revoke(ID);
    expect((await keeper.ended)?.message).toBe(etcdErrors.leaseNotFound.message);
  });

  test('cluster and maintenance', async () => {
    const { members } = await client.cluster.memberList();
    expect(members.length).toBeGreaterThanOrEqual(1);
    const status = await client.maintenance.status({ endpoint: server!.endpoints[0] });
    expect(status.leader).not.toBe(0n);
    const hash = await client.maintenance.hashKv().catch((error: EtcdError) => error);
    if (hash instanceof EtcdError) expect(hash.code).toBe(Code.unimplemented);
    else expect(hash.hash).toBeTypeOf('number');
    expect((await client.maintenance.alarms()).alarms).toEqual([]);
  });
});
