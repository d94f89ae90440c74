/**
 * The same JSON requests to Debian's etcd 3.4 and to Quoin: same HTTP status, same body. etcd 3.4 has grpc-gateway v1,
 * etcd 3.7 (what Quoin follows) v2; where these differ the table at the end says how, and both sides are held to it.
 */
import { existsSync } from 'node:fs';
import { request as httpRequest } from 'node:http';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { etcdBinary, startEtcd, startQuoin, type TestServer } from '../support/test-server.ts';

const hasEtcd = existsSync(etcdBinary);
if (!hasEtcd) console.log(`skipped: comparison of the JSON API, ${etcdBinary} is not installed`);

interface Options {
  readonly method?: string;
  readonly headers?: Readonly<Record<string, string>>;
  /** Take so many lines, then leave. */
  readonly lines?: number;
}

interface Reply {
  readonly status: number;
  readonly headers: NodeJS.Dict<string | string[]>;
  readonly text: string;
}

function send(endpoint: string, path: string, body: string, options: Options = {}): Promise<Reply> {
  const { method = 'POST', headers = {}, lines = Number.POSITIVE_INFINITY } = options;
  return new Promise((resolve, reject) => {
    const request = httpRequest(
      `http://${endpoint}${path}`,
      { method, headers, agent: false },
      (response) => {
        let text = '';
        const done = (): void => resolve({ status: response.statusCode!, headers: response.headers, text });
        response.setEncoding('utf8');
        response.on('data', (part: string) => {
          text += part;
          if (text.split('\n').length <= lines) return;
          done();
          request.destroy();
        });
        response.on('end', done);
        response.on('error', () => {});
      },
    );
    request.on('error', reject);
    request.end(body);
  });
}

const b64 = (text: string): string => Buffer.from(text).toString('base64');
const own = new Set(['cluster_id', 'member_id', 'raft_term']);

/** Without what belongs to one cluster alone. */
function common(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(common);
  if (!(value instanceof Object)) return value;
  return Object.fromEntries(
    Object.entries(value).map(([key, inner]) => [key, own.has(key) ? '(own)' : common(inner)]),
  );
}

/** etcd 3.4 says the text twice. */
function withoutEcho(value: unknown): unknown {
  if (!(value instanceof Object) || !('error' in value) || !('message' in value)) return value;
  const { error, ...rest } = value;
  expect(error).toBe(rest.message);
  return rest;
}

function bodies(text: string): unknown[] {
  return text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => common(withoutEcho(JSON.parse(line))));
}

describe.runIf(hasEtcd)('JSON API: etcd 3.4 and Quoin', () => {
  let etcd: TestServer;
  let quoin: TestServer;
  beforeAll(async () => {
    [etcd, quoin] = await Promise.all([startEtcd(), startQuoin(1)]);
  });
  afterAll(async () => {
    await Promise.all([etcd?.stop(), quoin?.stop()]);
  });

  const both = (path: string, body: string, options?: Options): Promise<[Reply, Reply]> =>
    Promise.all([
      send(etcd.endpoints[0]!, path, body, options),
      send(quoin.endpoints[0]!, path, body, options),
    ]);

  /** Sends to both, compares, and gives what both said. */
  async function same(path: string, body: string | object, options?: Options): Promise<unknown[]> {
    const text = typeof body === 'string' ? body : JSON.stringify(body);
    const [theirs, ours] = await both(path, text, options);
    const what = `${path} ${text.slice(0, 200)}`;
    expect({ what, status: ours.status, bodies: bodies(ours.text) }).toEqual({
      what,
      // FailedPrecondition: v1 sends 412, v2 400.
      status: theirs.status === 412 ? 400 : theirs.status,
      bodies: bodies(theirs.text),
    });
    for (const header of ['content-type', 'grpc-metadata-content-type', 'access-control-allow-origin']) {
      expect(ours.headers[header], `${header} of ${what}`).toBe(theirs.headers[header]);
    }
    return bodies(ours.text);
  }

  test('keys: put, range, delete', async () => {
    const [key, value] = [b64('foo'), b64('bar')];
    expect(await same('/v3/kv/put', { key, value })).toEqual([
      { header: expect.objectContaining({ revision: '2' }) },
    ]);
    await same('/v3/kv/put', { key, value: b64('baz'), prev_kv: true });
    await same('/v3/kv/put', { key, ignore_value: true });
    await same('/v3/kv/put', { key, value: '' });
    for (let i = 0; i < 5; i++)
      await same('/v3/kv/put', { key: b64(`p/${i}`), value: b64(`\0ÿ${i}`.repeat(i)) });
    await same('/v3/kv/range', { key });
    await same('/v3beta/kv/range', { key });
    const prefix = { key: b64('p/'), range_end: b64('p0') };
    await same('/v3/kv/range', prefix);
    await same('/v3/kv/range', { ...prefix, limit: 2 });
    await same('/v3/kv/range', { ...prefix, limit: '2', keys_only: true });
    await same('/v3/kv/range', { ...prefix, count_only: true });
    await same('/v3/kv/range', { ...prefix, sort_order: 'DESCEND', sort_target: 'CREATE' });
    await same('/v3/kv/range', { ...prefix, sortOrder: 2, sortTarget: 4, serializable: true });
    await same('/v3/kv/range', { ...prefix, min_mod_revision: '7', max_create_revision: '8' });
    await same('/v3/kv/range', { key, revision: 2 });
    await same('/v3/kv/range', { key: b64('none') });
    await same('/v3/kv/range', { key: 'AA==', range_end: 'AA==', limit: 1 });
    await same('/v3/kv/range', '{"key":"+/+/", "unknown":{"a":[1,"}"]}}');
    await same('/v3/kv/deleterange', { ...prefix, prev_kv: true });
    await same('/v3/kv/deleterange', { key: b64('none') });
  });

  test('transactions', async () => {
    const key = b64('txn');
    const put = (value: string) => ({ request_put: { key, value: b64(value) } });
    const get = { request_range: { key } };
    await same('/v3/kv/txn', {
      compare: [{ target: 'VERSION', key, version: '0' }],
      success: [put('one'), get],
      failure: [get],
    });
    await same('/v3/kv/txn', {
      compare: [
        { result: 'LESS', target: 'MOD', key, mod_revision: 1 },
        { result: 3, target: 3, key, value: b64('two') },
      ],
      success: [put('never')],
      failure: [
        get,
        { request_txn: { success: [{ request_delete_range: { key: b64('foo'), prev_kv: true } }, get] } },
        put('three'),
      ],
    });
    await same('/v3/kv/txn', { success: [{ request_range: { key: b64('none') } }] });
    await same('/v3/kv/txn', {});
    await same('/v3/kv/txn', { success: [put('a'), put('b')] });
    await same('/v3/kv/txn', { success: Array.from({ length: 129 }, () => get) });
  });

  test('errors have the same text, code and HTTP status', async () => {
    const key = b64('foo');
    expect(await same('/v3/kv/range', {})).toEqual([{ code: 3, message: 'etcdserver: key is not provided' }]);
    await same('/v3/kv/range', '');
    await same('/v3/kv/range', { key, revision: '999' });
    await same('/v3/kv/put', { key, lease: '77' });
    await same('/v3/kv/put', { key, value: key, ignore_value: true });
    await same('/v3/kv/put', { key: b64('none'), ignore_lease: true });
    await same('/v3/kv/compaction', { revision: '4' });
    await same('/v3/kv/compaction', { revision: '4' });
    await same('/v3/kv/range', { key, revision: '3' });
    await same('/v3/kv/compaction', { revision: '999' });
    await same('/v3/lease/revoke', { ID: '77' });
    await same('/v3/cluster/member/remove', { ID: '77' });
    await same('/v3/kv/range', { key }, { headers: { 'grpc-timeout': '1n' } });
    await same('/v3/kv/range', { key }, { headers: { 'grpc-timeout': 'soon' } });
    await same('/v3/kv/range', { key }, { headers: { 'grpc-timeout': '5S' } });
  });

  test('malformed JSON is named in the same words', async () => {
    const wrong = [
      'x',
      '{',
      '{"key":"Zm9v"',
      '{"key" "Zm9v"}',
      "{'key':1}",
      '{"key":"\n"}',
      '{"limit":1.}',
      '{"limit":-}',
    ];
    wrong.push(
      '{"limit":1e}',
      '{"a":tru}',
      '{"a":[1,]}',
      '{"a":[1 2]}',
      '{"a":1,}',
      '{"a":"\\x"}',
      '{"a":"\\u12g4"}',
    );
    wrong.push('\\', '\u0001', 'é', '{"a":00}', '}', ':', '{"a"}', 'nul', '"');
    for (const body of wrong) await same('/v3/kv/range', body);
    // What follows the first value means nothing.
    await same('/v3/kv/range', `{"key":"${b64('foo')}"} and so on`);
  });

  test('a request that is too large', async () => {
    const put = (bytes: number) => ({ key: b64('big'), value: Buffer.alloc(bytes).toString('base64') });
    await same('/v3/kv/put', put(1_500_000));
    expect(await same('/v3/kv/put', put(1_600_000))).toMatchObject([
      { message: 'etcdserver: request is too large' },
    ]);
    expect(await same('/v3/kv/put', put(2_200_000))).toMatchObject([
      { code: 8, message: 'grpc: received message larger than max (2200010 vs. 2097152)' },
    ]);
    await same('/v3/kv/range', { key: b64('big') });
  });

  test('leases, with ids that are too long for a double', async () => {
    await same('/v3/lease/grant', { ID: '7587863094830382593', TTL: 600 });
    await same('/v3/lease/grant', '{"ID":9007199254740993,"TTL":"900"}');
    await same('/v3/kv/put', '{"key":"bGVhc2U=","value":"eA==","lease":7587863094830382593}');
    await same('/v3/lease/timetolive', { ID: '7587863094830382593', keys: true });
    await same('/v3/kv/lease/timetolive', { ID: '5' });
    const [listed] = (await same('/v3/lease/leases', {})) as [{ leases: unknown[] }];
    expect(listed.leases.length).toBe(2);
    await same('/v3/lease/keepalive', '{"ID":"7587863094830382593"}{"ID":5}\n{"ID":9007199254740993}');
    await same('/v3/kv/lease/revoke', { ID: '7587863094830382593' });
    await same('/v3/lease/revoke', { ID: '9007199254740993' });
    await same('/v3/kv/range', { key: 'bGVhc2U=' });
  });

  test('watch: several requests in one body, a line for each response', async () => {
    const key = b64('watched');
    const [{ header }] = (await same('/v3/kv/put', { key, value: b64('1') })) as [
      { header: { revision: string } },
    ];
    await same('/v3/kv/put', { key, value: b64('2') });
    const [deleted] = (await same('/v3/kv/deleterange', { key })) as [{ header: { revision: string } }];
    const create = (more: object) =>
      JSON.stringify({ create_request: { key, start_revision: header.revision, ...more } });
    // Once the last event is known to be there, the others come in one response with it.
    await same('/v3/watch', create({ start_revision: deleted.header.revision }), { lines: 2 });
    expect((await same('/v3/watch', create({ prev_kv: true }), { lines: 2 })).length).toBe(2);
    await same('/v3/watch', create({ filters: ['NODELETE'], watch_id: '5' }), { lines: 2 });
    await same('/v3/watch', create({ start_revision: '1' }), { lines: 2 });
    await same('/v3/watch', `${create({ start_revision: '0' })}{"cancel_request":{"watch_id":"0"}}`, {
      lines: 2,
    });
    await same('/v3/watch', create({ range_end: b64('a') }), { lines: 1 });
  });

  test('the cluster', async () => {
    const [theirs, ours] = await both('/v3/cluster/member/list', '');
    const shapes = [theirs, ours].map(({ text }) => {
      const { members } = JSON.parse(text) as { members: Record<string, unknown>[] };
      return members.map((member) => Object.entries(member).map(([name, value]) => [name, typeof value]));
    });
    expect(shapes[1]).toEqual(shapes[0]);
    await same('/v3/maintenance/defragment', '');
    await same('/v3/maintenance/transfer-leadership', { targetID: '1' });
  });

  test('locks and elections', async () => {
    const served = (await send(quoin.endpoints[0]!, '/v3/lock/unlock', '{"key":"eA=="}')).status !== 501;
    if (!served) return console.log('skipped: locks and elections over JSON, Quoin does not serve them yet');
    await same('/v3/lease/grant', { ID: '11', TTL: 600 });
    await same('/v3/lock/lock', { name: b64('lock'), lease: 11 });
    await same('/v3/lock/unlock', { key: b64('lock/b') });
    await same('/v3/election/leader', { name: b64('election') });
    const [{ leader }] = (await same('/v3/election/campaign', {
      name: b64('election'),
      lease: '11',
      value: b64('me'),
    })) as [{ leader: object }];
    await same('/v3/election/leader', { name: b64('election') });
    await same('/v3/election/observe', { name: b64('election') }, { lines: 1 });
    await same('/v3/election/proclaim', { leader, value: b64('I') });
    await same('/v3/election/resign', { leader });
    await same('/v3/election/resign', {});
  });

  // Where grpc-gateway v1 (etcd 3.4) and v2 (etcd 3.7) differ: what each answers.
  const v1 = (status: number, code: number, message: string): [number, unknown] => [
    status,
    { error: message, message, code },
  ];
  const v2 = (status: number, code: number, message: string): [number, unknown] => [
    status,
    { code, message },
  ];
  test.each([
    [
      'base64 for URLs',
      '/v3/kv/range',
      '{"key":"-_-_"}',
      {},
      v1(400, 3, 'illegal base64 data at input byte 0'),
      [200, { header: expect.anything() }],
    ],
    [
      'the header of alarms (etcd, not its gateway)',
      '/v3/maintenance/alarm',
      '{"action":"GET","alarm":"NOSPACE"}',
      {},
      [200, {}],
      [200, { header: expect.anything() }],
    ],
    ['an unknown path', '/v3/nope', '{}', {}, [404, 'Not Found\n'], v2(404, 5, 'Not Found')],
    [
      'another method',
      '/v3/kv/range',
      '',
      { method: 'GET' },
      [405, 'Method Not Allowed\n'],
      v2(501, 12, 'Method Not Allowed'),
    ],
    [
      'the body of an error',
      '/v3/kv/range',
      '{}',
      {},
      v1(400, 3, 'etcdserver: key is not provided'),
      v2(400, 3, 'etcdserver: key is not provided'),
    ],
    [
      'a malformed first value of a stream',
      '/v3/watch',
      'x',
      {},
      v1(500, 2, "invalid character 'x' looking for beginning of value"),
      v2(400, 3, "invalid character 'x' looking for beginning of value"),
    ],
    [
      'a value that is no base64',
      '/v3/kv/range',
      '{"key":"!"}',
      {},
      v1(400, 3, 'illegal base64 data at input byte 0'),
      [400, { code: 3, message: expect.stringMatching(/^proto: /) }],
    ],
    [
      'null for a message',
      '/v3/kv/range',
      'null',
      {},
      v1(400, 3, 'etcdserver: key is not provided'),
      [400, { code: 3, message: expect.stringMatching(/^proto: /) }],
    ],
    [
      'a name twice',
      '/v3/kv/range',
      '{"key":"YQ==","key":""}',
      {},
      v1(400, 3, 'etcdserver: key is not provided'),
      [400, { code: 3, message: expect.stringMatching(/^proto: /) }],
    ],
    [
      'an unknown name of an enum',
      '/v3/kv/range',
      '{"sort_order":"NOPE"}',
      {},
      v1(400, 3, 'unknown value "NOPE" for enum etcdserverpb.RangeRequest_SortOrder'),
      v2(400, 3, 'etcdserver: key is not provided'),
    ],
    [
      'an unknown number of an enum (etcd, not its gateway)',
      '/v3/kv/range',
      '{"key":"YQ==","sort_order":9}',
      {},
      [200, expect.anything()],
      v2(400, 3, 'etcdserver: invalid sort option'),
    ],
  ] as const)('known difference: %s', async (_what, path, body, options, theirs, ours) => {
    const replies = await both(path, body, options);
    const shown = replies.map(({ status, text }) => [status, text.startsWith('{') ? JSON.parse(text) : text]);
    expect(shown[0]).toEqual(theirs);
    expect(shown[1]).toEqual(ours);
  });

  test('known difference: FailedPrecondition', async () => {
    const grant = '{"ID":"12","TTL":600}';
    await same('/v3/lease/grant', grant);
    const [theirs, ours] = await both('/v3/lease/grant', grant);
    expect([theirs.status, ours.status]).toEqual([412, 400]);
    expect(bodies(ours.text)).toEqual(bodies(theirs.text));
    expect(bodies(ours.text)).toEqual([{ code: 9, message: 'etcdserver: lease already exists' }]);
  });

  test('known difference: how a stream says its error', async () => {
    const watch = JSON.stringify({ create_request: { key: b64('silent') } });
    const [theirs, ours] = await both('/v3/watch', watch, { headers: { 'grpc-timeout': '300m' } });
    const message = 'context deadline exceeded';
    expect([theirs.status, ours.status]).toEqual([200, 200]);
    expect(bodies(ours.text)[0]).toEqual(bodies(theirs.text)[0]);
    // Which code 3.4 finds depends on who sees the deadline first.
    expect(bodies(theirs.text)[1]).toEqual({
      error: {
        grpc_code: expect.any(Number),
        http_code: expect.any(Number),
        message,
        http_status: expect.any(String),
      },
    });
    expect(bodies(ours.text)[1]).toEqual({ error: { code: 4, message } });
  });

  test('CORS, and the answer to OPTIONS', async () => {
    const [theirs, ours] = await both('/v3/kv/range', '', {
      method: 'OPTIONS',
      headers: { origin: 'http://a.example' },
    });
    expect([ours.status, ours.text]).toEqual([theirs.status, theirs.text]);
    for (const name of ['methods', 'origin', 'headers']) {
      expect(ours.headers[`access-control-allow-${name}`]).toBe(
        theirs.headers[`access-control-allow-${name}`],
      );
    }
  });

  // Last: it locks everybody else out.
  test('a token in the Authorization header', async () => {
    if ((await send(quoin.endpoints[0]!, '/v3/auth/status', '{}')).status === 501) {
      return console.log('skipped: tokens over JSON, Quoin does not serve authentication yet');
    }
    await same('/v3/auth/authenticate', { name: 'root', password: 'pw' });
    await same('/v3/auth/user/add', { name: 'root', password: 'pw' });
    await same('/v3/auth/role/add', { name: 'root' });
    await same('/v3/auth/user/grant', { user: 'root', role: 'root' });
    await same('/v3/auth/enable', {});
    const key = b64('foo');
    await same('/v3/kv/range', { key });
    await same('/v3/kv/range', { key }, { headers: { authorization: 'nonsense' } });
    await same('/v3/auth/authenticate', { name: 'root', password: 'wrong' });
    for (const [server, name] of [
      [etcd, 'etcd'],
      [quoin, 'quoin'],
    ] as const) {
      const endpoint = server.endpoints[0]!;
      const { text } = await send(endpoint, '/v3/auth/authenticate', '{"name":"root","password":"pw"}');
      const { token } = JSON.parse(text) as { token: string };
      for (const authorization of [token, `Bearer ${token}`]) {
        // Bearer came after 3.4.
        if (name === 'etcd' && authorization !== token) continue;
        const { status } = await send(endpoint, '/v3/kv/range', JSON.stringify({ key }), {
          headers: { authorization },
        });
        expect([name, status]).toEqual([name, 200]);
      }
    }
  });
});
