/** Debian's etcdctl turns authentication on and works with it: the same words from a real etcd and from Quoin. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { makeCertificates } from '../../deploy/tls/make-certificates.ts';
import { Child } from '../support/child.ts';
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
