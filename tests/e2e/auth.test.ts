/** Debian's etcdctl turns authentication on and works with it: the same words from a real etcd and from Quoin. */
import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { makeCertificates } from '../../deploy/tls/make-certificates.ts';
import { Child, repositoryRoot } from '../support/child.ts';
import { etcdctl, hasEtcdctl } from '../support/etcdctl.ts';
import { freePorts } from '../support/ports.ts';
import { hasEtcd, startEtcd, startQuoin, type TestServer } from '../support/test-server.ts';

const root = ['--user', 'root:rootpw'];
const alice = ['--user', 'alice:alicepw'];

const cheapHashes = ['--bcrypt-cost=4'];

/** Each line is one call, in order. What 3.4 did otherwise than 3.7 is left out: role root, compaction by anybody. */
const script: readonly (readonly string[])[] = [
  ['auth', 'enable'],
  ['user', 'add', 'root:rootpw'],
  ['user', 'add', 'root:rootpw'],
  ['role', 'add', 'root'],
  ['user', 'grant-role', 'root', 'root'],
  ['user', 'grant-role', 'root', 'missing'],
  ['put', 'outside', '1'],
  ['auth', 'enable'],
  ['get', 'outside'],
  ['get', 'outside', '--user', 'root:wrong'],
  ['get', 'outside', '--user', 'missing:wrong'],
  ['get', 'outside', ...root],
  ['user', 'add', 'alice:alicepw', ...root],
  ['user', 'add', 'cert', '--no-password', ...root],
  ['role', 'add', 'app', ...root],
  ['role', 'add', 'app', ...root],
  ['role', 'grant-permission', 'app', 'readwrite', 'app/', '--prefix', ...root],
  ['role', 'grant-permission', 'app', 'read', 'config', ...root],
  ['role', 'grant-permission', 'missing', 'read', 'config', ...root],
  ['user', 'grant-role', 'alice', 'app', ...root],
  ['user', 'list', ...root],
  ['user', 'get', 'alice', ...root],
  ['user', 'get', 'alice', '--detail', ...root],
  ['role', 'list', ...root],
  ['role', 'get', 'app', ...root],
  ['put', 'app/1', 'one', ...alice],
  ['put', 'app/2', 'two', '--prev-kv', ...alice],
  ['get', 'app/', '--prefix', ...alice],
  ['get', 'config', ...alice],
  ['put', 'config', 'x', ...alice],
  ['get', 'outside', ...alice],
  ['get', '', '--prefix', ...alice],
  ['get', 'app/', '--from-key', ...alice],
  ['del', 'outside', ...alice],
  ['del', 'app/2', ...alice],
  ['user', 'list', ...alice],
  ['user', 'add', 'eve:eve', ...alice],
  ['user', 'get', 'alice', ...alice],
  ['user', 'get', 'root', ...alice],
  ['role', 'get', 'app', ...alice],
  ['get', 'app/1', '--user', 'cert:any'],
  ['user', 'passwd', 'alice:changed', '--interactive=false', ...root],
  ['get', 'app/1', ...alice],
  ['role', 'revoke-permission', 'app', 'config', ...root],
  ['role', 'revoke-permission', 'app', 'config', ...root],
  ['user', 'revoke-role', 'alice', 'app', ...root],
  ['user', 'revoke-role', 'alice', 'app', ...root],
  ['user', 'delete', 'root', ...root],
  ['role', 'delete', 'root', ...root],
  ['user', 'revoke-role', 'root', 'root', ...root],
  ['role', 'delete', 'app', ...root],
  ['user', 'delete', 'alice', ...root],
  ['user', 'delete', 'alice', ...root],
  ['auth', 'disable', ...root],
  ['get', 'outside'],
];

interface Said {
  readonly code: number;
  readonly stdout: string;
  readonly error: string;
}

async function say(server: TestServer, args: readonly string[]): Promise<Said> {
  const input = args.includes('passwd') ? 'alicepw\n' : '';
  const { code, stdout, stderr } = await etcdctl(server.endpoints, args, { input });
  const error = stderr.split('\n').filter((line) => line.startsWith('Error:'));
  return { code, stdout, error: error.join('\n') };
}

describe.runIf(hasEtcdctl && hasEtcd)('the same words as etcd', () => {
  let servers: [TestServer, TestServer];
  beforeAll(async () => {
    servers = await Promise.all([startQuoin(1, cheapHashes), startEtcd(1, cheapHashes)]);
  }, 40_000);
  afterAll(() => Promise.all(servers.map((server) => server.stop())));

  test('users, roles, permissions', async () => {
    const mine: [string, Said][] = [];
    const theirs: [string, Said][] = [];
    for (const args of script) {
      const [a, b] = await Promise.all(servers.map((server) => say(server, args)));
      mine.push([args.join(' '), a!]);
      theirs.push([args.join(' '), b!]);
    }
    expect(mine).toEqual(theirs);
    // It was about something.
    expect(mine.filter(([, { code }]) => code !== 0).length).toBeGreaterThan(20);
  }, 120_000);
});

describe.runIf(hasEtcdctl)('the name in a certificate is the user', () => {
  const dir = mkdtempSync(join(tmpdir(), 'quoin-auth-e2e-'));
  const certificates = makeCertificates(join(dir, 'certs'), {
    hosts: ['127.0.0.1'],
    clients: ['root', 'alice'],
  });
  let node: Child;
  let url: string;

  beforeAll(async () => {
    const [client, peer] = await freePorts(2);
    url = `https://127.0.0.1:${client}`;
    const args = [
      `--data-dir=${join(dir, 'data')}`,
      `--listen-client-urls=${url}`,
      `--advertise-client-urls=${url}`,
      `--listen-peer-urls=http://127.0.0.1:${peer}`,
      `--initial-advertise-peer-urls=http://127.0.0.1:${peer}`,
      `--initial-cluster=default=http://127.0.0.1:${peer}`,
      `--cert-file=${certificates.file('server')}`,
      `--key-file=${certificates.file('server', 'key')}`,
      `--trusted-ca-file=${certificates.file('ca')}`,
      '--client-cert-auth',
    ];
    node = new Child({ name: 'quoin', script: 'apps/quoin/src/main.ts', args, readyText: 'ready to serve' });
    node.start();
    await node.ready(30_000);
  }, 40_000);
  afterAll(async () => {
    await node.stop();
    rmSync(dir, { recursive: true, force: true });
  });

  const run = (who: string, ...args: string[]) =>
    etcdctl(
      [url],
      [
        ...args,
        `--cacert=${certificates.file('ca')}`,
        `--cert=${certificates.file(who)}`,
        `--key=${certificates.file(who, 'key')}`,
      ],
    );

  test('root and alice work without a password; a token goes before the certificate', async () => {
    for (const args of [
      'user add root --no-password',
      'user grant-role root root',
      'user add alice --no-password',
      'role add app',
      'role grant-permission app readwrite app/ --prefix',
      'user grant-role alice app',
      'auth enable',
      'user add bob:bob',
    ]) {
      const { code, stderr } = await run('root', ...args.split(' '));
      expect([args, code, stderr]).toEqual([args, 0, '']);
    }
    expect((await run('root', 'put', 'outside', '1')).stdout).toBe('OK\n');
    expect((await run('alice', 'put', 'app/1', '1')).stdout).toBe('OK\n');
    expect((await run('alice', 'get', 'outside')).stderr).toContain('etcdserver: permission denied');
    expect((await run('root', 'get', 'outside', '--user', 'bob:bob')).stderr).toContain('permission denied');
    // A certificate that names nobody that there is.
    expect((await run('server', 'get', 'outside')).stderr).toContain('etcdserver: permission denied');
  }, 60_000);
});

describe('the JSON API and quoinctl', () => {
  let server: TestServer;
  beforeAll(async () => {
    server = await startQuoin(1, cheapHashes);
  }, 40_000);
  afterAll(() => server.stop());

  const json = async (
    route: string,
    body: object,
    token?: string,
  ): Promise<[number, Record<string, unknown>]> => {
    const response = await fetch(`http://${server.endpoints[0]}/v3/${route}`, {
      method: 'POST',
      body: JSON.stringify(body),
      headers: token === undefined ? {} : { authorization: token },
    });
    return [response.status, (await response.json()) as Record<string, unknown>];
  };
  const base64 = (text: string): string => Buffer.from(text).toString('base64');
  const quoinctl = promisify(execFile);
  const ctl = async (...args: string[]): Promise<string> => {
    const all = ['apps/cli/src/quoinctl.ts', '--endpoints', server.endpoints[0]!, ...args];
    const options = { cwd: repositoryRoot, timeout: 20_000 };
    return quoinctl(process.execPath, all, options).then(
      ({ stdout }) => stdout,
      (error: { stderr: string }) => error.stderr,
    );
  };

  test('both turn it on, log in, and are refused alike', async () => {
    expect((await json('auth/user/add', { name: 'root', password: 'rootpw' }))[0]).toBe(200);
    expect((await json('auth/user/grant', { user: 'root', role: 'root' }))[0]).toBe(200);
    expect((await json('auth/enable', {}))[0]).toBe(200);
    expect(await json('kv/range', { key: base64('a') })).toMatchObject([
      400,
      { code: 3, message: 'etcdserver: user name is empty' },
    ]);
    const [, { token }] = await json('auth/authenticate', { name: 'root', password: 'rootpw' });
    const root = token as string;
    expect((await json('auth/user/add', { name: 'app', password: 'apppw' }, root))[0]).toBe(200);
    expect((await json('auth/role/add', { name: 'app' }, root))[0]).toBe(200);
    const perm = { permType: 'READWRITE', key: base64('app/'), range_end: base64('app0') };
    expect((await json('auth/role/grant', { name: 'app', perm }, root))[0]).toBe(200);
    expect(await ctl('--user', 'root:rootpw', 'user', 'grant-role', 'app', 'app')).toBe(
      'Role app is granted to user app\n',
    );
    expect(await ctl('--user', 'app:apppw', 'put', 'app/1', 'x')).toBe('OK\n');
    expect(await ctl('--user', 'app:apppw', 'get', 'other')).toContain('etcdserver: permission denied');
    expect(await ctl('get', 'app/1')).toContain('etcdserver: user name is empty');
    expect(await ctl('auth', 'status')).toContain('Authentication Status: true');
    const [, login] = await json('auth/authenticate', { name: 'app', password: 'apppw' });
    const app = login['token'] as string;
    for (const header of [app, `Bearer ${app}`]) {
      expect((await json('kv/range', { key: base64('app/1') }, header))[1]).toMatchObject({ count: '1' });
    }
    expect(await json('kv/range', { key: base64('other') }, app)).toMatchObject([403, { code: 7 }]);
    expect(await json('kv/range', { key: base64('app/1') }, 'forged')).toMatchObject([
      401,
      { code: 16, message: 'etcdserver: invalid auth token' },
    ]);
    const health = await fetch(`http://${server.endpoints[0]}/health`);
    expect(await health.json()).toEqual({ health: 'true', reason: '' });
  }, 60_000);
});
