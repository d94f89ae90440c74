/**
 * `etcdctl snapshot save` from Quoin, restored into a real etcd: every key at every revision, leases, users and roles are
 * there again, and HashKV is the same number.
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Client } from '@quoin/client';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Child, repositoryRoot } from '../support/child.ts';
import { freePorts } from '../support/ports.ts';
import { grantLeases, historyLeases, writeHistory } from '../support/random-history.ts';
import { etcdBinary, etcdctlBinary, hasEtcd, startQuoin, type TestServer } from '../support/test-server.ts';

// etcd 3.6 and later restore with etcdutl, earlier ones with etcdctl.
const restoreBinary = process.env['ETCDUTL_BINARY'] ?? etcdctlBinary;
const isPresent = hasEtcd && existsSync(etcdctlBinary) && existsSync(restoreBinary);
if (!isPresent)
  console.log('skipped: a snapshot restored into etcd; install etcd-server and etcd-client for it');

function run(binary: string, args: readonly string[]): string {
  const { status, stdout, stderr } = spawnSync(binary, args, {
    env: { ...process.env, ETCDCTL_API: '3' },
    encoding: 'utf8',
  });
  expect({ args, status, stderr: status === 0 ? '' : stderr }).toEqual({ args, status: 0, stderr: '' });
  return stdout;
}

describe.runIf(isPresent)('a snapshot from Quoin', () => {
  const dir = mkdtempSync(join(tmpdir(), 'quoin-snapshot-'));
  let quoin: TestServer;
  let source: Client;
  let etcd: ChildProcess | undefined;
  let restored: Client | undefined;

  beforeAll(async () => {
    quoin = await startQuoin(1);
    source = new Client({ endpoints: [...quoin.endpoints] });
  });
  afterAll(async () => {
    source?.close();
    restored?.close();
    etcd?.kill('SIGKILL');
    await quoin?.stop();
    rmSync(dir, { recursive: true, force: true });
  });

  const save = (name: string, endpoint = quoin.endpoints[0]!): string => {
    const file = join(dir, name);
    run(etcdctlBinary, [`--endpoints=${endpoint}`, 'snapshot', 'save', file]);
    return file;
  };

  /** Restores a file with quoinutl, starts Quoin on it, and gives the client of that to `work`. */
  async function withRestored(
    file: string,
    more: readonly string[],
    work: (client: Client) => Promise<void>,
  ): Promise<void> {
    const [client, peer] = await freePorts(2);
    const name = `q${client}`;
    const data = [
      `--name=${name}`,
      `--data-dir=${join(dir, name)}`,
      `--initial-cluster=${name}=http://127.0.0.1:${peer}`,
      `--initial-advertise-peer-urls=http://127.0.0.1:${peer}`,
    ];
    const script = join(repositoryRoot, 'apps/cli/src/quoinutl.ts');
    run(process.execPath, [script, 'snapshot', 'restore', file, ...data, ...more]);
    const endpoint = `127.0.0.1:${client}`;
    const child = new Child({
      name,
      script: 'apps/quoin/src/main.ts',
      args: [
        ...data,
        `--listen-client-urls=http://${endpoint}`,
        `--advertise-client-urls=http://${endpoint}`,
        `--listen-peer-urls=http://127.0.0.1:${peer}`,
      ],
      readyText: 'ready to serve client requests',
    });
    child.start();
    const restoredClient = new Client({ endpoints: [endpoint] });
    try {
      await child.ready(30_000);
      await work(restoredClient);
    } finally {
      restoredClient.close();
      await child.stop();
    }
  }

  test('of an empty store is a database, too', () => {
    const status = JSON.parse(run(etcdctlBinary, ['snapshot', 'status', save('empty.db'), '-w', 'json']));
    expect(status).toMatchObject({ revision: 0 });
  });

  test('is restored by etcd with all that was in it', async () => {
    await grantLeases(source);
    await writeHistory(source, 7, 120);
    await source.auth.userAdd('root', 'secret');
    await source.auth.roleAdd('root');
    await source.auth.userGrantRole('root', 'root');
    await source.auth.userAdd('alice', 'wonder');
    await source.auth.roleAdd('reader');
    await source.auth.roleGrantPermission('reader', 'read', 'k', { prefix: true });
    await source.auth.userGrantRole('alice', 'reader');
    await source.kv.compact(80, { physical: true });
    await writeHistory(source, 8, 60);
    const file = save('full.db');
    const { revision } = (await source.kv.get('none')).header!;
    const [client, peer] = await freePorts(2);
    const names = ['--name=r', `--initial-advertise-peer-urls=http://127.0.0.1:${peer}`];
    const data = [`--data-dir=${join(dir, 'r')}`, `--initial-cluster=r=http://127.0.0.1:${peer}`];
    run(restoreBinary, ['snapshot', 'restore', file, ...names, ...data]);
    const urls = [
      `--listen-client-urls=http://127.0.0.1:${client}`,
      `--listen-peer-urls=http://127.0.0.1:${peer}`,
    ];
    const args = [...names, ...data, ...urls, `--advertise-client-urls=http://127.0.0.1:${client}`];
    etcd = spawn(etcdBinary, args, { stdio: 'ignore', env: { PATH: process.env['PATH'] } });
    const target = new Client({ endpoints: [`127.0.0.1:${client}`] });
    restored = target;
    await expect
      .poll(
        () =>
          target.kv.get('none').then(
            () => true,
            () => false,
          ),
        { timeout: 15_000 },
      )
      .toBe(true);
    for (let at = 80n; at <= revision; at += 7n) {
      const [ours, theirs] = await Promise.all(
        [source, target].map((each) => each.kv.get('', { fromKey: true, revision: at })),
      );
      expect({ at, kvs: theirs!.kvs }).toEqual({ at, kvs: ours!.kvs });
    }
    const hashes = await Promise.all([source, target].map((each) => each.maintenance.hashKv(0)));
    expect(hashes[1]!.hash).toBe(hashes[0]!.hash);
    for (const id of historyLeases) {
      const [ours, theirs] = await Promise.all(
        [source, target].map((each) => each.lease.timeToLive(id, { keys: true })),
      );
      expect(theirs!.grantedTTL).toBe(ours!.grantedTTL);
      expect([...theirs!.keys].map(String).sort()).toEqual([...ours!.keys].map(String).sort());
    }
    // Going on from there.
    const next = await target.kv.put('after', 'the restore');
    expect(next.header!.revision).toBe(revision + 1n);
    await target.auth.enable();
    const alice = new Client({ endpoints: [`127.0.0.1:${client}`], user: 'alice', password: 'wonder' });
    await alice.kv.get('k', { prefix: true });
    await expect(alice.kv.put('k1', 'x')).rejects.toThrow('permission denied');
    alice.close();
  }, 60_000);

  test('and one from etcd is restored by Quoin', async () => {
    // What the test before left behind, with authentication on.
    const root = { user: 'root', password: 'secret' };
    const endpoint = restored!.endpoints()[0]!;
    const old = new Client({ endpoints: [endpoint], ...root });
    await writeHistory(old, 9, 40);
    const { revision } = (await old.kv.get('none')).header!;
    const hash = (await old.maintenance.hashKv(0)).hash;
    const all = (client: Client, at: bigint | number) => client.kv.get('', { fromKey: true, revision: at });
    const kvs = (await all(old, 0)).kvs;
    const earlier = (await all(old, 100)).kvs;
    await old.auth.disable();
    const file = save('etcd.db', endpoint.replace(/^http:../, ''));
    await old.auth.enable();
    old.close();
    await withRestored(file, [], async (client) => {
      expect((await client.maintenance.hashKv(0)).hash).toBe(hash);
      expect((await all(client, 0)).kvs).toEqual(kvs);
      expect((await all(client, 100)).kvs).toEqual(earlier);
      await expect(all(client, 79)).rejects.toThrow('has been compacted');
      expect((await client.lease.timeToLive(historyLeases[0]!)).grantedTTL).toBe(3_600n);
      expect((await client.auth.userList()).users).toEqual(['alice', 'root']);
      // Events from the compact revision on can be watched.
      const watcher = await client.watch.watch('', { fromKey: true, startRevision: 80 });
      for await (const response of watcher) {
        expect(response.events.length).toBeGreaterThan(0);
        break;
      }
      const next = await client.kv.put('after', 'the restore');
      expect(next.header!.revision).toBe(revision + 1n);
      await client.auth.enable();
      const alice = new Client({ endpoints: client.endpoints(), user: 'alice', password: 'wonder' });
      await alice.kv.get('k', { prefix: true });
      await expect(alice.kv.put('k1', 'x')).rejects.toThrow('permission denied');
      alice.close();
    });
    await withRestored(file, ['--bump-revision=1000000', '--mark-compacted'], async (client) => {
      const found = await all(client, 0);
      expect(found.kvs).toEqual(kvs);
      expect(found.header!.revision).toBe(revision + 1_000_000n);
      await expect(all(client, revision)).rejects.toThrow('has been compacted');
      const next = await client.kv.put('after', 'the bump');
      expect(next.header!.revision).toBe(revision + 1_000_001n);
    });
  }, 90_000);

  test('a file that was cut, changed, or has no digest is refused', () => {
    const file = save('good.db');
    const refuse = (name: string, bytes: Buffer, more: readonly string[], message: string): void => {
      const bad = join(dir, name);
      writeFileSync(bad, bytes);
      const script = join(repositoryRoot, 'apps/cli/src/quoinutl.ts');
      const args = [script, 'snapshot', 'restore', bad, `--data-dir=${join(dir, `${name}.data`)}`, ...more];
      const { status, stderr } = spawnSync(process.execPath, args, { encoding: 'utf8' });
      expect({ name, status }).toEqual({ name, status: name === 'bump' ? 128 : 1 });
      expect(stderr).toContain(message);
      expect(existsSync(join(dir, `${name}.data`))).toBe(false);
    };
    const bytes = readFileSync(file);
    refuse('cut', bytes.subarray(0, 8192), [], 'snapshot missing hash');
    const changed = Buffer.from(bytes);
    changed[bytes.length - 5000]! ^= 1;
    refuse('changed', changed, [], 'expected sha256');
    refuse('half', bytes.subarray(0, 16_384), ['--skip-hash-check'], 'the database is damaged');
    refuse('other', Buffer.alloc(20_000, 'x'), ['--skip-hash-check'], 'it is no bbolt database');
    refuse('bump', bytes, ['--bump-revision=5'], '--mark-compacted required');
  });
});
