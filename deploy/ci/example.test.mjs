/** A test suite of somebody who uses Quoin: run by `node deploy/ci/with-quoin.mjs -- node --test deploy/ci/example.test.mjs`. */
import assert from 'node:assert/strict';
import test from 'node:test';

const url = process.env.QUOIN_URL;
const base64 = (text) => Buffer.from(text).toString('base64');

/** etcd's JSON API, so that this example needs no package; a client library takes ETCDCTL_ENDPOINTS. */
async function call(path, body) {
  const response = await fetch(`${url}/v3/${path}`, { method: 'POST', body: JSON.stringify(body) });
  assert.equal(response.status, 200, await response.clone().text());
  return response.json();
}

test('begins empty', async () => {
  const { count = '0' } = await call('kv/range', {
    key: base64('\0'),
    range_end: base64('\0'),
    count_only: true,
  });
  assert.equal(count, '0');
});

test('what is put is there, at the next revision', async () => {
  const put = await call('kv/put', { key: base64('greeting'), value: base64('hello') });
  const { kvs } = await call('kv/range', { key: base64('greeting') });
  assert.equal(Buffer.from(kvs[0].value, 'base64').toString(), 'hello');
  assert.equal(kvs[0].mod_revision, put.header.revision);
});

test('a lease takes its keys along', async () => {
  const { ID } = await call('lease/grant', { TTL: 60 });
  await call('kv/put', { key: base64('held'), value: base64('x'), lease: ID });
  await call('lease/revoke', { ID });
  assert.equal((await call('kv/range', { key: base64('held') })).kvs, undefined);
});
