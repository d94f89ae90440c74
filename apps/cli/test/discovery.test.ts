/** Endpoints by DNS SRV records, against one node with TLS and without. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { makeCertificates } from '../../../deploy/tls/make-certificates.ts';
import { DnsServer } from '../../../tests/deploy/dns-server.ts';
import { Child } from '../../../tests/support/child.ts';
import { freePorts } from '../../../tests/support/ports.ts';
import { run } from './support.ts';

const dir = mkdtempSync(join(tmpdir(), 'quoin-cli-srv-'));
const dns = new DnsServer();
const preload = join(import.meta.dirname, '..', '..', '..', 'tests', 'deploy', 'use-dns.mjs');
let node: Child | undefined;
let env: Record<string, string> = {};
let [secure, plain] = [0, 0];
let ca = '';

beforeAll(async () => {
  const [securePort, plainPort, peer] = (await freePorts(3)) as [number, number, number];
  [secure, plain] = [securePort, plainPort];
  // Its name is the domain's, not the host's that the records give.
  const certificates = makeCertificates(join(dir, 'tls'), { hosts: ['quoin.test'] });
  ca = certificates.file('ca');
  const urls = [`https://127.0.0.1:${secure}`, `http://127.0.0.1:${plain}`].join(',');
  node = new Child({
    name: 'quoin',
    script: 'apps/quoin/src/main.ts',
    args: [
      `--data-dir=${join(dir, 'data')}`,
      `--listen-client-urls=${urls}`,
      `--advertise-client-urls=${urls}`,
      `--listen-peer-urls=http://127.0.0.1:${peer}`,
      `--initial-advertise-peer-urls=http://127.0.0.1:${peer}`,
      `--initial-cluster=default=http://127.0.0.1:${peer}`,
      `--cert-file=${certificates.file('server')}`,
      `--key-file=${certificates.file('server', 'key')}`,
    ],
    readyText: 'ready to serve client requests',
  });
  node.start();
  await node.ready(30_000);
  env = { NODE_OPTIONS: `--import=${preload}`, TEST_DNS: await dns.start() };
}, 40_000);

afterAll(async () => {
  await node?.stop();
  dns.stop();
  rmSync(dir, { recursive: true, force: true });
});

function named(records: Readonly<Record<string, number>>): void {
  dns.records.clear();
  for (const [service, port] of Object.entries(records)) {
    dns.records.set(`_${service}._tcp.quoin.test`, [{ target: 'localhost', port }]);
  }
}

const put = (...args: string[]) =>
  run('quoinctl', ['put', 'k', 'v', '--command-timeout=10s', ...args], { env });

describe('quoinctl --discovery-srv', () => {
  test('finds endpoints under etcd’s names', async () => {
    named({ 'etcd-client': plain });
    expect(await put('-d', 'quoin.test')).toEqual({ code: 0, stdout: 'OK\n', stderr: '' });
    named({ 'etcd-client-blue': plain });
    expect((await put('--discovery-srv=quoin.test', '--discovery-srv-name=blue')).stdout).toBe('OK\n');
    const variable = { ...env, ETCDCTL_DISCOVERY_SRV: 'quoin.test', ETCDCTL_DISCOVERY_SRV_NAME: 'blue' };
    expect((await run('quoinctl', ['put', 'k', 'v'], { env: variable })).stdout).toBe('OK\n');
  });

  test('without records ends with both reasons; what needs no server does not ask', async () => {
    named({});
    expect(await put('-d', 'quoin.test')).toEqual({
      code: 1,
      stdout: '',
      stderr:
        'Error: dns lookup errors: lookup _etcd-client-ssl._tcp.quoin.test: no such host and lookup _etcd-client._tcp.quoin.test: no such host\n',
    });
    const { asked } = dns;
    expect((await run('quoinctl', ['version', '-d', 'quoin.test'], { env })).code).toBe(0);
    expect(dns.asked).toBe(asked);
  });

  test('--insecure-discovery=false: the certificate must be the domain’s, and plain text is left out', async () => {
    named({ 'etcd-client-ssl': secure, 'etcd-client': plain });
    const strict = await put('-d', 'quoin.test', '--insecure-discovery=false', `--cacert=${ca}`);
    expect(strict).toEqual({
      code: 0,
      stdout: 'OK\n',
      stderr: `ignoring discovered insecure endpoint "http://localhost:${plain}"\n`,
    });
    // The host of the record is not in the certificate.
    named({ 'etcd-client-ssl': secure });
    expect((await put('-d', 'quoin.test', `--cacert=${ca}`, '--command-timeout=2s')).code).toBe(1);
    // Nothing is left: as with etcdctl, --endpoints are.
    named({ 'etcd-client': plain });
    const fallback = await put(
      '-d',
      'quoin.test',
      '--insecure-discovery=false',
      `--endpoints=http://127.0.0.1:${plain}`,
    );
    expect(fallback.stdout).toBe('OK\n');
  });
});
