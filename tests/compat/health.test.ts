/** What probes are told, by a real etcd and by one node of Quoin. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { startEtcd, startQuoin, type TestServer } from '../support/test-server.ts';
import { findOracle } from './oracle.ts';

const oracle = findOracle();
const is37 = oracle?.version === '3.7';
if (oracle !== undefined && !is37)
  process.stderr.write('skipped: comparison of health checks; it needs etcd 3.7, which is built with Go\n');

interface Page {
  readonly status: number;
  readonly type: string | null;
  readonly allow: string | null;
  readonly body: string;
}

/** Checks that Quoin has and etcd has not. */
const ours = /^\[[+-]\](?!(?:data_corruption|serializable_read|linearizable_read|non_learner) ).*\n/gm;

/** etcd's checks come in no order. */
const sorted = (text: string): string => text.split('\n').sort().join('\n');

async function get(server: TestServer, path: string, method: string): Promise<Page> {
  const response = await fetch(`http://${server.endpoints[0]}${path}`, { method });
  const body = await response.text();
  return {
    status: response.status,
    type: response.headers.get('content-type'),
    allow: response.headers.get('allow'),
    body: sorted(body.replace(ours, '')),
  };
}

/** Of no member: one whose own state is said to be corrupt leaves reads to others here. */
async function alarm(server: TestServer, action: 'ACTIVATE' | 'DEACTIVATE', name: string): Promise<void> {
  const { status } = await fetch(`http://${server.endpoints[0]}/v3/maintenance/alarm`, {
    method: 'POST',
    body: JSON.stringify({ action, alarm: name }),
  });
  expect(status).toBe(200);
}

const pages = [
  '/health',
  '/health?serializable=true',
  '/health?exclude=NOSPACE',
  '/health?exclude=nospace',
  '/health?exclude=CORRUPT',
  '/health?exclude=NOSPACE&exclude=CORRUPT',
  '/health?exclude=',
  '/livez',
  '/livez?verbose',
  '/livez?verbose=false',
  '/livez/serializable_read',
  '/livez/serializable_read?verbose',
  '/livez/linearizable_read',
  '/livez?exclude=serializable_read&verbose',
  '/readyz',
  '/readyz?verbose',
  '/readyz?exclude=linearizable_read&verbose',
  '/readyz?exclude=no_such_check',
  '/readyz?exclude=data_corruption',
  '/readyz/data_corruption',
  '/readyz/linearizable_read?verbose',
  '/readyz/serializable_read',
  '/readyz/non_learner?verbose',
  '/readyz/no_such_check',
  '/healthz',
  '/version',
];

describe.skipIf(!is37)('as etcd 3.7', () => {
  let etcd: TestServer;
  let quoin: TestServer;

  beforeAll(async () => {
    [etcd, quoin] = await Promise.all([startEtcd(1, oracle!.args, oracle!.binary), startQuoin(1)]);
    // etcd listens before it serves.
    for (const untilMs = performance.now() + 15_000; ; ) {
      if ((await get(etcd, '/health', 'GET')).status === 200) return;
      if (performance.now() > untilMs) throw new Error('etcd is not healthy');
    }
  }, 60_000);

  afterAll(() => Promise.all([etcd?.stop(), quoin?.stop()]));

  const compare = async (path: string, method = 'GET'): Promise<void> => {
    const [theirs, found] = await Promise.all([get(etcd, path, method), get(quoin, path, method)]);
    expect(found, `${method} ${path}`).toEqual(theirs);
  };

  test.each(pages)('%s', (path) => compare(path));

  test.each(['POST', 'PUT', 'HEAD', 'DELETE'])('%s is not for probes', async (method) => {
    for (const path of ['/health', '/livez', '/readyz', '/readyz/non_learner']) await compare(path, method);
  });

  test.each(['NOSPACE', 'CORRUPT'])('with the alarm %s', async (name) => {
    await Promise.all([alarm(etcd, 'ACTIVATE', name), alarm(quoin, 'ACTIVATE', name)]);
    try {
      for (const path of pages) await compare(path);
    } finally {
      await Promise.all([alarm(etcd, 'DEACTIVATE', name), alarm(quoin, 'DEACTIVATE', name)]);
    }
  });
});
