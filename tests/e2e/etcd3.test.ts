/** The npm client `etcd3`, as its users write it, against 3 members + 2 gateways. */
import { Etcd3, isRecoverableError } from 'etcd3';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type Cluster, startCluster } from '../support/cluster.ts';

let cluster: Cluster;
let client: Etcd3;

beforeAll(async () => {
  cluster = await startCluster({ members: 3, gateways: 2 });
  client = new Etcd3({ hosts: cluster.endpoints.map((e) => `http://${e}`) });
});

afterAll(async () => {
  client?.close();
  await cluster?.stop();
});

test('values, prefixes, ranges and deletes', async () => {
  await client.put('foo').value('bar');
  expect(await client.get('foo').string()).toBe('bar');
  const ns = client.namespace('ns/');
  await Promise.all(Array.from({ length: 30 }, (_, i) => ns.put(`k${String(i).padStart(2, '0')}`).value(i)));
  expect(await ns.getAll().prefix('k').count()).toBe(30);
  expect(await ns.getAll().prefix('k').limit(3).keys()).toEqual(['k00', 'k01', 'k02']);
  expect(await ns.getAll().prefix('k').sort('Key', 'Descend').limit(2).numbers()).toEqual({
    k28: 28,
    k29: 29,
  });
  const { deleted } = await ns.delete().prefix('k1');
  expect(Number(deleted)).toBe(10);
  expect(await client.get('missing').string()).toBeNull();
});

test('transactions compare before they write', async () => {
  await client.put('t').value('1');
  const attempt = () =>
    client
      .if('t', 'Value', '==', '1')
      .then(client.put('t').value('2'), client.get('t'))
      .else(client.get('t'))
      .commit();
  expect((await attempt()).succeeded).toBe(true);
  const second = await attempt();
  expect(second.succeeded).toBe(false);
  expect(second.responses[0]!.response_range!.kvs[0]!.value.toString()).toBe('2');
});

test('a watcher sees puts and deletes in order', async () => {
  const seen: string[] = [];
  const watcher = await client.watch().prefix('w/').create();
  watcher.on('put', (kv) => seen.push(`put ${kv.key} ${kv.value}`));
  watcher.on('delete', (kv) => seen.push(`delete ${kv.key}`));
  await client.put('w/a').value('1');
  await client.put('w/b').value('2');
  await client.delete().key('w/a');
  await expect.poll(() => seen, { timeout: 15_000 }).toEqual(['put w/a 1', 'put w/b 2', 'delete w/a']);
  await watcher.cancel();
});

test('a lease keeps its key while it is kept alive and takes it along when revoked', async () => {
  const lease = client.lease(5);
  await lease.put('leased').value('x');
  expect(await client.get('leased').string()).toBe('x');
  await lease.keepaliveOnce();
  await lease.revoke();
  expect(await client.get('leased').string()).toBeNull();
});

test('a lock is held by one', async () => {
  const order: string[] = [];
  await client
    .lock('mutex')
    .ttl(10)
    .do(async () => {
      order.push('first');
      await expect(client.lock('mutex').ttl(10).acquire()).rejects.toThrow();
      order.push('first still');
    });
  await client
    .lock('mutex')
    .ttl(10)
    .do(() => {
      order.push('second');
    });
  expect(order).toEqual(['first', 'first still', 'second']);
});

test('errors come as the client knows them', async () => {
  const error = await client
    .put('')
    .value('x')
    .exec()
    .catch((e: unknown) => e);
  expect(error).toBeInstanceOf(Error);
  expect(String(error)).toContain('etcdserver: key is not provided');
  expect(isRecoverableError(error as Error)).toBe(false);
});
