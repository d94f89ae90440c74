/** Backups of a running cluster, by the worker and by hand; restored, the new cluster is the old one at that revision. */
import { type ChildProcess, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Client, openBackupSource } from '@quoin/client';
import { listBackups, type Manifest, writeBackup } from '@quoin/platform';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { repositoryRoot } from '../support/child.ts';
import { type Cluster, startCluster } from '../support/cluster.ts';
import { WriteLoad } from '../support/load.ts';
import { freePorts, isFree } from '../support/ports.ts';

const clusters: Cluster[] = [];
const children: ChildProcess[] = [];
let load: WriteLoad | undefined;
let dir: string;

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'quoin-backup-e2e-'));
});
afterEach(async () => {
  await load?.stop();
  load = undefined;
  for (const child of children.splice(0)) child.kill('SIGKILL');
  await Promise.all(clusters.splice(0).map((cluster) => cluster.stop()));
  rmSync(dir, { recursive: true, force: true });
});

async function start(options: Parameters<typeof startCluster>[0]): Promise<Cluster> {
  const cluster = await startCluster(options);
  clusters.push(cluster);
  return cluster;
}

function quoinctl(
  args: readonly string[],
  shell?: string,
): Promise<{ code: number; stdout: string; stderr: string }> {
  const script = join(repositoryRoot, 'apps/cli/src/quoinctl.ts');
  const child =
    shell === undefined
      ? spawn(process.execPath, [script, ...args])
      : spawn('sh', ['-c', `${shell} exec "$0" "$@"`, process.execPath, script, ...args]);
  children.push(child);
  return new Promise((resolve) => {
    const out = { stdout: '', stderr: '' };
    child.stdout.on('data', (data: Buffer) => {
      out.stdout += data.toString();
    });
    child.stderr.on('data', (data: Buffer) => {
      out.stderr += data.toString();
    });
    child.on('close', (code) => resolve({ code: code ?? -1, ...out }));
  });
}

/** A port from which the ports that the cluster derives from it are free, too. */
async function freeBasePort(): Promise<number> {
  for (;;) {
    const [base] = await freePorts(1);
    if (base! > 25_000) continue;
    const derived = [0, 1, 2].flatMap((i) => [
      base! + 10_000 * i,
      base! + 1 + 10_000 * i,
      base! + 2 + 10_000 * i,
    ]);
    if ((await Promise.all(derived.map(isFree))).every((free) => free)) return base!;
  }
}

/** Every key with everything about it, at one revision. */
async function stateAt(endpoint: string, revision: number): Promise<{ keys: number; digest: string }> {
  const client = new Client({ endpoints: [endpoint] });
  const hash = createHash('sha256');
  let key: Uint8Array = new Uint8Array(1);
  let keys = 0;
  try {
    for (;;) {
      const page = await client.kv.get(key, { fromKey: true, revision, limit: 500 });
      for (const kv of page.kvs) {
        hash
          .update(
            `${kv.key.length} ${kv.value.length} ${kv.createRevision} ${kv.modRevision} ${kv.version} ${kv.lease}`,
          )
          .update(kv.key)
          .update(kv.value);
        keys++;
      }
      if (!page.more) return { keys, digest: hash.digest('hex') };
      key = Buffer.concat([page.kvs.at(-1)!.key, Buffer.of(0)]);
    }
  } finally {
    client.close();
  }
}

const peers = (cluster: Cluster): string[] => cluster.members.map((member) => member.peerUrl);

test('a backup taken under load by the worker restores into a new cluster that equals the old one at its revision', async () => {
  const [port] = await freePorts(1);
  const old = await start({ members: 3, gateways: 2 });
  const client = new Client({ endpoints: old.endpoints });
  const { ID: lease } = await client.lease.grant(3600);
  await client.kv.put('leased', 'v', { lease });
  for (let i = 0; i < 30; i++) await client.kv.put(`gone/${i}`, 'v');
  const before = (await client.kv.delete('gone/', { prefix: true })).header!.revision;
  load = new WriteLoad(old.endpoints, 8);
  await expect.poll(() => load!.count, { timeout: 30_000 }).toBeGreaterThan(200);

  const worker = spawn(process.execPath, [
    join(repositoryRoot, 'apps/backup/src/main.ts'),
    `--members=${peers(old)[0]}`,
    `--dir=${dir}`,
    '--interval=0',
    '--keep=2',
    `--listen-metrics-urls=http://127.0.0.1:${port}`,
  ]);
  children.push(worker);
  let log = '';
  worker.stderr.on('data', (data: Buffer) => {
    log += data.toString();
  });
  await expect.poll(() => log, { timeout: 20_000 }).toContain('ready to serve client requests');
  const answers: Manifest[] = [];
  for (let i = 0; i < 3; i++) {
    const { code, stdout, stderr } = await quoinctl([
      'backup',
      'now',
      '--worker',
      `http://127.0.0.1:${port}`,
      '-w',
      'json',
    ]);
    expect(`${code} ${stderr}`).toBe('0 ');
    answers.push((JSON.parse(stdout) as Manifest[])[0]!);
  }
  expect(load.count).toBeGreaterThan(0);
  const at = answers[2]!.revision;
  expect(at).toBeGreaterThan(answers[0]!.revision);
  await load.stop();

  // A follower gave it; the two newest are kept; the metrics tell.
  const leaders = await Promise.all(
    answers.map((answer) =>
      client.maintenance.status().then((s) => s.leader.toString(16).padStart(16, '0') === answer.memberId),
    ),
  );
  expect(leaders).toEqual([false, false, false]);
  const listed = await quoinctl(['backup', 'list', '--dir', dir, '-w', 'json']);
  expect((JSON.parse(listed.stdout) as Manifest[]).map((manifest) => manifest.revision)).toEqual([
    answers[1]!.revision,
    at,
  ]);
  const metrics = await (await fetch(`http://127.0.0.1:${port}/metrics`)).text();
  expect(metrics).toContain('quoin_backup_success_total 3');
  expect(metrics).toContain(`quoin_backup_last_revision ${at}`);
  expect((await fetch(`http://127.0.0.1:${port}/health`)).status).toBe(200);
  expect((await fetch(`http://127.0.0.1:${port}/backup/now`)).status).toBe(405);

  const [file] = (await listBackups(dir)).slice(-1).map((backup) => backup.path);
  expect((await quoinctl(['backup', 'verify', file!])).code).toBe(0);
  const expected = await stateAt(old.endpoints[0]!, at);
  const expectedEarlier = await stateAt(old.endpoints[1]!, Number(before));

  const basePort = await freeBasePort();
  const initialCluster = [0, 1, 2]
    .map((i) => `m${i + 1}=http://127.0.0.1:${basePort + 1 + 10_000 * i}`)
    .join(',');
  const dataDir = join(dir, 'new');
  const flags = ['--initial-cluster', initialCluster, '--initial-cluster-token', 'restored'];
  const restored = await quoinctl(['backup', 'restore', file!, '--all', '--data-dir', dataDir, ...flags]);
  expect(`${restored.code} ${restored.stderr}`).toBe('0 ');
  const again = await quoinctl([
    'backup',
    'restore',
    file!,
    '--name',
    'm1',
    '--data-dir',
    join(dataDir, 'm1'),
    ...flags,
  ]);
  expect([again.code, again.stderr]).toEqual([1, `Error: data-dir ${join(dataDir, 'm1')} is not empty\n`]);

  const fresh = await start({ members: 3, gateways: 1, basePort, dataDir, token: 'restored' });
  const target = new Client({ endpoints: fresh.endpoints });
  const now = await target.kv.get('leased');
  expect(now.header!.revision).toBe(BigInt(at));
  expect(now.header!.clusterId).not.toBe((await client.kv.get('leased')).header!.clusterId);
  expect(await stateAt(fresh.endpoints[0]!, at)).toEqual(expected);
  expect(await stateAt(fresh.endpoints[0]!, Number(before))).toEqual(expectedEarlier);
  expect(expected.keys).toBeGreaterThan(100);
  const ttl = await target.lease.timeToLive(lease, { keys: true });
  expect([ttl.grantedTTL, ttl.keys.map((key) => Buffer.from(key).toString())]).toEqual([3600n, ['leased']]);
  // It goes on from there, on every member.
  expect((await target.kv.put('after', 'restore')).header!.revision).toBe(BigInt(at) + 1n);
  await fresh.kill(0);
  expect((await target.kv.put('after', 'a kill')).header!.revision).toBe(BigInt(at) + 2n);
  await fresh.restart(0);
  const { members } = await target.cluster.memberList();
  expect(members.map((member) => member.name).sort()).toEqual(['m1', 'm2', 'm3']);
  client.close();
  target.close();
}, 180_000);

test('a member that dies while it sends leaves nothing; the next attempt takes another', async () => {
  const cluster = await start({ members: 3, gateways: 1 });
  const client = new Client({ endpoints: cluster.endpoints });
  for (let i = 0; i < 40; i++) await client.kv.put(`big/${i}`, new Uint8Array(400_000).fill(i));
  const source = await openBackupSource({ members: peers(cluster), name: 'test' });
  expect(source.isLeader).toBe(false);
  async function* killing(): AsyncGenerator<Uint8Array, void, undefined> {
    let seen = 0;
    for await (const chunk of source.chunks) {
      if (++seen === 3) await cluster.kill(peers(cluster).indexOf(source.url));
      yield chunk;
    }
  }
  const options = { dir, clusterId: source.clusterId, members: source.members };
  await expect(writeBackup(killing(), options)).rejects.toThrow();
  source.close();
  expect(
    readdirSync(dir, { recursive: true, encoding: 'utf8' }).filter((name) => name.includes('backup')),
  ).toEqual([]);
  const second = await quoinctl([
    'backup',
    'now',
    '--members',
    peers(cluster).join(','),
    '--dir',
    dir,
    '-w',
    'json',
  ]);
  expect(second.code).toBe(0);
  expect((JSON.parse(second.stdout) as Manifest[])[0]!.bytes).toBeGreaterThan(16_000_000);
  client.close();
}, 120_000);

test('a disk that is full, members that are not there, wrong flags: one line, a code, nothing left', async () => {
  const cluster = await start({ members: 1, gateways: 1 });
  const client = new Client({ endpoints: cluster.endpoints });
  for (let i = 0; i < 10; i++) await client.kv.put(`big/${i}`, new Uint8Array(300_000));
  client.close();
  const now = ['backup', 'now', '--members', peers(cluster)[0]!, '--dir', dir];
  // No file may grow beyond 1 MiB.
  const full = await quoinctl(now, "trap '' XFSZ; ulimit -f 2048;");
  expect(full.code).toBe(6);
  expect(full.stderr).toMatch(
    /^Error: cannot write .*\.backup\.tmp: the file would be larger than allowed$/m,
  );
  expect(full.stderr.trim().split('\n')).toHaveLength(1);
  expect(
    readdirSync(dir, { recursive: true, encoding: 'utf8' }).filter((name) => name.includes('.backup')),
  ).toEqual([]);
  expect((await quoinctl(now)).code).toBe(0);

  const nobody = await quoinctl(['backup', 'now', '--members', 'http://127.0.0.1:1', '--dir', dir]);
  expect(nobody.code).toBe(1);
  expect(nobody.stderr).toContain('no member to take a backup from (http://127.0.0.1:1: ');
  expect((await quoinctl(['backup', 'now'])).code).toBe(128);
  expect((await quoinctl(['backup', 'list'])).code).toBe(128);
  const missing = await quoinctl(['backup', 'restore', join(dir, 'none'), '--data-dir', join(dir, 'd')]);
  expect([missing.code, missing.stderr]).toEqual([1, `Error: ${join(dir, 'none')}: no such file\n`]);
  expect(existsSync(join(dir, 'd'))).toBe(false);
}, 120_000);
