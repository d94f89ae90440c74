/** Certificates on every port: the published procedure with etcdctl, and who gets nothing. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { request } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as grpc from '@grpc/grpc-js';
import { Client, LinkClient } from '@quoin/client';
import { services } from '@quoin/contracts';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type CertificateSet, makeCertificates } from '../../deploy/tls/make-certificates.ts';
import { Child, repositoryRoot } from '../support/child.ts';
import { type Cluster, startCluster } from '../support/cluster.ts';
import { etcdctl, hasEtcdctl } from '../support/etcdctl.ts';
import { freePorts } from '../support/ports.ts';

const scratch = mkdtempSync(join(tmpdir(), 'quoin-tls-e2e-'));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

/** Three nodes, each with an address of its own, one certificate for all purposes, as in the published procedure. */
describe.runIf(hasEtcdctl)('three controllers with the flags of the unit file', () => {
  const nodes: Child[] = [];
  let certificates: CertificateSet;
  let clientUrls: string[];

  beforeAll(async () => {
    const hosts = ['127.0.0.1', '127.0.0.2', '127.0.0.3'];
    certificates = makeCertificates(join(scratch, 'controllers'), { hosts });
    const ca = certificates.file('ca');
    const cert = certificates.file('server');
    const key = certificates.file('server', 'key');
    const [peerPort, clientPort] = await freePorts(2);
    const peerUrl = (i: number): string => `https://${hosts[i]}:${peerPort}`;
    clientUrls = hosts.map((host) => `https://${host}:${clientPort}`);
    for (let i = 0; i < 3; i++) {
      const args = [
        '--name',
        `controller-${i}`,
        `--cert-file=${cert}`,
        `--key-file=${key}`,
        `--peer-cert-file=${cert}`,
        `--peer-key-file=${key}`,
        `--trusted-ca-file=${ca}`,
        `--peer-trusted-ca-file=${ca}`,
        '--peer-client-cert-auth',
        '--client-cert-auth',
        '--initial-advertise-peer-urls',
        peerUrl(i),
        '--listen-peer-urls',
        peerUrl(i),
        '--listen-client-urls',
        clientUrls[i]!,
        '--advertise-client-urls',
        clientUrls[i]!,
        '--initial-cluster-token',
        'etcd-cluster-0',
        '--initial-cluster',
        [0, 1, 2].map((n) => `controller-${n}=${peerUrl(n)}`).join(','),
        '--initial-cluster-state',
        'new',
        `--data-dir=${join(scratch, `controller-${i}`)}`,
      ];
      nodes.push(
        new Child({
          name: `controller-${i}`,
          script: 'apps/quoin/src/main.ts',
          args,
          readyText: 'ready to serve',
        }),
      );
    }
    for (const node of nodes) node.start();
    await Promise.all(nodes.map((node) => node.ready(30_000)));
  });
  afterAll(async () => {
    await Promise.all(nodes.map((node) => node.stop()));
  });

  const flags = (): string[] => [
    `--cacert=${certificates.file('ca')}`,
    `--cert=${certificates.file('server')}`,
    `--key=${certificates.file('server', 'key')}`,
  ];

  test('member list prints three started members', async () => {
    const { code, stdout, stderr } = await etcdctl([clientUrls[0]!], ['member', 'list', ...flags()]);
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    const lines = stdout.trim().split('\n');
    expect(lines).toHaveLength(3);
    for (const name of ['controller-0', 'controller-1', 'controller-2'])
      expect(lines.find((line) => line.includes(name))).toMatch(/^[0-9a-f]+, started, /);
  });

  test('what is written at one is read at another, also after a restart', async () => {
    expect((await etcdctl([clientUrls[1]!], ['put', 'k', 'v', ...flags()])).stdout).toBe('OK\n');
    await nodes[0]!.stop();
    nodes[0]!.start();
    await nodes[0]!.ready(30_000);
    expect((await etcdctl([clientUrls[0]!], ['get', 'k', ...flags()])).stdout).toBe('k\nv\n');
    const health = await etcdctl(clientUrls, ['endpoint', 'health', ...flags()]);
    expect(health.code).toBe(0);
  });

  test('without a certificate etcdctl gets nothing', async () => {
    const { code, stdout } = await etcdctl(
      [clientUrls[0]!],
      ['get', 'k', `--cacert=${certificates.file('ca')}`, '--dial-timeout=2s', '--command-timeout=2s'],
    );
    expect([code, stdout]).toEqual([1, '']);
  });
});

interface Identity {
  readonly cert: Buffer;
  readonly key: Buffer;
}

describe('3 members and 2 gateways, a CA for clients and one for members and gateways', () => {
  let cluster: Cluster;
  let certificates: CertificateSet;
  const identities = new Map<string, Identity | undefined>();

  beforeAll(async () => {
    certificates = makeCertificates(join(scratch, 'roles'), { hosts: ['127.0.0.1'], clients: ['root'] });
    const { file, ca, peerCa, issue, revoke } = certificates;
    const client = { usages: ['client'] as const };
    const crl = revoke([issue('revoked', ca, client)]);
    issue('expired', ca, { ...client, notAfter: new Date(Date.now() - 60_000) });
    issue('server-only', ca, { usages: ['server'] });
    makeCertificates(join(scratch, 'foreign'), { hosts: ['127.0.0.1'], clients: ['foreign'] });
    issue('elsewhere', peerCa, { hosts: ['192.0.2.1'] });
    issue('stranger', peerCa, { hosts: ['127.0.0.1'] });
    const read = (cert: string, key: string) => ({ cert: readFileSync(cert), key: readFileSync(key) });
    for (const name of [
      'root',
      'revoked',
      'expired',
      'server-only',
      'peer',
      'gateway',
      'elsewhere',
      'stranger',
    ])
      identities.set(name, read(file(name), file(name, 'key')));
    const foreign = join(scratch, 'foreign', 'foreign');
    identities.set('foreign', read(`${foreign}.pem`, `${foreign}-key.pem`));
    identities.set('none', undefined);
    const peerFlags = (name: string): string[] => [
      `--peer-cert-file=${file(name)}`,
      `--peer-key-file=${file(name, 'key')}`,
      `--peer-trusted-ca-file=${file('peer-ca')}`,
    ];
    cluster = await startCluster({
      scheme: 'https',
      backup: true,
      backupArgs: peerFlags('gateway'),
      memberArgs: [
        ...peerFlags('peer'),
        '--peer-client-cert-auth',
        '--peer-cert-allowed-cn=peer',
        '--gateway-cert-allowed-cn=gateway',
      ],
      gatewayArgs: [
        ...peerFlags('gateway'),
        `--cert-file=${file('server')}`,
        `--key-file=${file('server', 'key')}`,
        `--trusted-ca-file=${file('ca')}`,
        '--client-cert-auth',
        `--client-crl-file=${crl}`,
      ],
    });
  });
  afterAll(async () => {
    await cluster?.stop();
  });

  const rpcs = services.flatMap((service) => service.rpcs.map((rpc) => rpc.path));

  /** One call of every RPC on one connection; the codes that came back. */
  async function callAll(address: string, caName: string, who: string): Promise<Set<grpc.status>> {
    const identity = identities.get(who);
    const ca = readFileSync(certificates.file(caName));
    const credentials = grpc.credentials.createSsl(ca, identity?.key ?? null, identity?.cert ?? null);
    const client = new grpc.Client(address, credentials, { 'grpc.enable_retries': 0 });
    const outcomes = await Promise.all(
      rpcs.map(
        (path) =>
          new Promise<grpc.status>((resolve) => {
            const bytes = (data: Buffer): Buffer => data;
            const deadline = Date.now() + 10_000;
            const options = { deadline, waitForReady: false };
            const call = client.makeUnaryRequest(path, bytes, bytes, Buffer.alloc(0), options, (error) =>
              resolve(error?.code ?? grpc.status.OK),
            );
            call.on('error', () => {});
          }),
      ),
    );
    client.close();
    return new Set(outcomes);
  }

  const httpRoutes = [
    '/health',
    '/livez',
    '/readyz',
    '/version',
    '/metrics',
    '/v3/kv/range',
    '/',
    '/debug/vars',
  ];

  function get(url: string, caName: string, who: string): Promise<string> {
    const identity = identities.get(who);
    return new Promise((resolve) => {
      const ca = readFileSync(certificates.file(caName));
      const call = request(url, { ...identity, ca, agent: false }, (response) => {
        response.resume();
        resolve(`status ${response.statusCode}`);
      });
      call.on('error', () => resolve('refused'));
      call.end();
    });
  }

  test('the root client reads and writes through either gateway', async () => {
    const tls = { ca: readFileSync(certificates.file('ca')), ...identities.get('root') };
    const client = new Client({ endpoints: cluster.gateways.map((gateway) => gateway.url), tls });
    await client.kv.put('a', 'b');
    expect((await client.kv.get('a')).kvs).toHaveLength(1);
    client.close();
    expect(await get(`${cluster.gateways[1]!.url}/health`, 'ca', 'root')).toBe('status 200');
  });

  test.each(['none', 'foreign', 'revoked', 'expired', 'server-only', 'peer', 'gateway'])(
    '%s: no RPC and no route of a gateway answers',
    async (who) => {
      const { endpoint, url } = cluster.gateways[0]!;
      expect(await callAll(endpoint, 'ca', who)).toEqual(new Set([grpc.status.UNAVAILABLE]));
      for (const route of httpRoutes) expect(await get(url + route, 'ca', who)).toBe('refused');
    },
  );

  test.each(['none', 'foreign', 'root', 'revoked', 'elsewhere', 'stranger'])(
    '%s: no RPC and no route of a member answers, and no link opens',
    async (who) => {
      const { peerUrl } = cluster.members[0]!;
      expect(await callAll(new URL(peerUrl).host, 'peer-ca', who)).toEqual(
        new Set([grpc.status.UNAVAILABLE]),
      );
      for (const route of httpRoutes) expect(await get(peerUrl + route, 'peer-ca', who)).toBe('refused');
      expect(await welcome(who)).toBe('refused');
    },
  );

  /** Whether a member takes a link from that identity. */
  async function welcome(who: string): Promise<string> {
    const tls = { ca: readFileSync(certificates.file('peer-ca')), ...identities.get(who) };
    const link = new LinkClient({ url: cluster.members[0]!.peerUrl, name: who, tls });
    const outcome = await link.welcome.then(
      () => 'welcome',
      () => 'refused',
    );
    link.close();
    return outcome;
  }

  test('a gateway may open a link and no stream of a member; a member may open both', async () => {
    expect(await welcome('gateway')).toBe('welcome');
    expect(await welcome('peer')).toBe('welcome');
    expect(await upgrade('gateway', 'Link')).toBe('101');
    expect(await upgrade('gateway', 'Peer')).toBe('404');
    expect(await upgrade('peer', 'Peer')).toBe('101');
    expect(await upgrade('stranger', 'Link')).toBe('refused');
  });

  function upgrade(who: string, service: string): Promise<string> {
    const { peerUrl } = cluster.members[0]!;
    const ca = readFileSync(certificates.file('peer-ca'));
    return new Promise((resolve) => {
      const call = request(`${peerUrl}/quoin.internal.v1.${service}/Stream`, {
        ...identities.get(who),
        ca,
        agent: false,
        headers: { Connection: 'Upgrade', Upgrade: 'quoin-stream/1' },
      });
      call.on('upgrade', (response, socket) => {
        resolve(String(response.statusCode));
        socket.destroy();
      });
      call.on('response', (response) => {
        response.resume();
        resolve(String(response.statusCode));
      });
      call.on('error', () => resolve('refused'));
      call.end();
    });
  }

  test('the backup worker takes a backup with the certificate of a gateway', async () => {
    const made = (): string[] =>
      readdirSync(join(cluster.dataDir, 'backup'), { recursive: true }).map(String);
    await expect
      .poll(() => made().filter((name) => name.endsWith('.backup.json')).length, { timeout: 20_000 })
      .toBeGreaterThan(0);
  });

  test('plain text gets nothing on any port', async () => {
    for (const url of [cluster.gateways[0]!.url, cluster.members[0]!.peerUrl]) {
      const plain = url.replace('https:', 'http:');
      await expect(fetch(`${plain}/version`)).rejects.toThrow();
      const client = new grpc.Client(new URL(url).host, grpc.credentials.createInsecure(), {
        'grpc.enable_retries': 0,
      });
      const code = await new Promise((resolve) => {
        const bytes = (data: Buffer): Buffer => data;
        const deadline = Date.now() + 10_000;
        client.makeUnaryRequest(
          '/etcdserverpb.KV/Range',
          bytes,
          bytes,
          Buffer.alloc(0),
          { deadline },
          (error) => resolve(error?.code),
        );
      });
      expect(code).toBe(grpc.status.UNAVAILABLE);
      client.close();
    }
  });
});

test('--auto-tls and --peer-auto-tls make certificates once and keep them', async () => {
  const dataDir = join(scratch, 'auto');
  const [peerPort, clientPort] = await freePorts(2);
  const url = `https://127.0.0.1:${clientPort}`;
  const node = new Child({
    name: 'auto',
    script: 'apps/quoin/src/main.ts',
    readyText: 'ready to serve',
    args: [
      '--auto-tls',
      '--peer-auto-tls',
      `--data-dir=${dataDir}`,
      `--listen-client-urls=${url}`,
      `--advertise-client-urls=${url}`,
      `--listen-peer-urls=https://127.0.0.1:${peerPort}`,
      `--initial-advertise-peer-urls=https://127.0.0.1:${peerPort}`,
      `--initial-cluster=default=https://127.0.0.1:${peerPort}`,
    ],
  });
  const shown = async (): Promise<string> => {
    node.start();
    try {
      await node.ready(30_000);
      const tls = { ca: readFileSync(join(dataDir, 'fixtures', 'client', 'cert.pem')) };
      const client = new Client({ endpoints: [url], tls });
      await client.kv.put('a', 'b');
      client.close();
      const refused = new Client({ endpoints: [url], tls: {}, dialTimeoutMs: 500 });
      await expect(refused.kv.get('a')).rejects.toThrow();
      refused.close();
      return readFileSync(join(dataDir, 'fixtures', 'client', 'cert.pem'), 'utf8');
    } finally {
      await node.stop();
    }
  };
  const first = await shown();
  expect(await shown()).toBe(first);
});

test('make-certificates is a command', () => {
  const script = join(repositoryRoot, 'deploy', 'tls', 'make-certificates.ts');
  const out = join(scratch, 'made');
  const run = (...args: string[]) => spawnSync(process.execPath, [script, ...args], { encoding: 'utf8' });
  expect(run('--out', out, '--host', '10.0.0.1', '--client', 'alice').stdout).toContain('alice');
  expect(readFileSync(join(out, 'alice-key.pem'), 'utf8')).toContain('PRIVATE KEY');
  expect(run('--days', 'x')).toMatchObject({ status: 2, stderr: expect.stringContaining('--days must be') });
});
