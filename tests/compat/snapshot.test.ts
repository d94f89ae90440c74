/**
 * `etcdctl snapshot save` from Quoin, restored into a real etcd: every key at every revision, leases, users and roles are
 * there again, and HashKV is the same number.
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Client } from '@quoin/client';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
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

  const save = (name: string): string => {
    const file = join(dir, name);
    run(etcdctlBinary, [`--endpoints=${quoin.endpoints[0]}`, 'snapshot', 'save', file]);
    return file;
  };

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
});
