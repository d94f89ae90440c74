import { spawn, spawnSync } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, expect, test } from 'vitest';
import { Child, repositoryRoot } from '../../../tests/support/child.ts';
import { freePorts } from '../../../tests/support/ports.ts';

const script = 'apps/quoin/src/main.ts';
const scratch = mkdtempSync(join(tmpdir(), 'quoin-app-'));
const children: Child[] = [];
let dirs = 0;

afterEach(async () => {
  await Promise.all(children.splice(0).map((child) => child.kill('SIGKILL')));
});
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

const freshDir = (): string => join(scratch, `d${dirs++}`);

interface Quoin {
  readonly child: Child;
  readonly url: string;
  readonly clientPort: number;
  readonly dataDir: string;
  readonly flags: readonly string[];
}

async function quoin(more: readonly string[] = [], dataDir = freshDir()): Promise<Quoin> {
  const [clientPort, peerPort] = await freePorts(2);
  const url = `http://127.0.0.1:${clientPort}`;
  const peer = `http://127.0.0.1:${peerPort}`;
  const flags = [
    `--data-dir=${dataDir}`,
    `--listen-client-urls=${url}`,
    `--advertise-client-urls=${url}`,
    `--listen-peer-urls=${peer}`,
    `--initial-advertise-peer-urls=${peer}`,
    ...more,
  ];
  const child = new Child({
    name: 'quoin',
    script,
    args: flags,
    readyText: 'ready to serve client requests',
  });
  children.push(child);
  return { child, url, clientPort: clientPort!, dataDir, flags };
}

async function started(more: readonly string[] = []): Promise<Quoin> {
  const node = await quoin(more);
  await restarted(node);
  return node;
}

async function restarted({ child }: Quoin): Promise<void> {
  child.start();
  await child.ready(15_000);
}

/** Runs to its end; what it says of itself must be one line on stderr, besides the log. */
function run(args: readonly string[], env: Record<string, string> = {}) {
  const result = spawnSync(process.execPath, [join(repositoryRoot, script), ...args], {
    cwd: scratch,
    env: { PATH: process.env['PATH'], ...env },
    encoding: 'utf8',
    timeout: 20_000,
  });
  const said = result.stderr.split('\n').filter((line) => line !== '' && !line.startsWith('{'));
  return { code: result.status, stdout: result.stdout, said };
}

function etcdctl(url: string, ...args: string[]) {
  return spawnSync('etcdctl', [`--endpoints=${url}`, ...args], {
    env: { ...process.env, ETCDCTL_API: '3' },
    encoding: 'utf8',
    timeout: 20_000,
  });
}

const hasEtcdctl = spawnSync('etcdctl', ['version']).error === undefined;

test('serves, stops on SIGTERM with exit code 0, and has everything when it starts again', async () => {
  const node = await started();
  const { child, url } = node;
  expect(await (await fetch(`${url}/health`)).json()).toEqual({ health: 'true', reason: '' });
  expect(await (await fetch(`${url}/version`)).json()).toMatchObject({ etcdserver: '3.7.1' });
  const metrics = await (await fetch(`${url}/metrics`)).text();
  for (const name of [
    'etcd_server_has_leader 1',
    'process_resident_memory_bytes',
    'nodejs_eventloop_delay_seconds',
  ]) {
    expect(metrics).toContain(name);
  }
  expect((await fetch(`${url}/nope`)).status).toBe(404);
  if (hasEtcdctl) expect(etcdctl(url, 'put', 'k', 'v').stdout).toBe('OK\n');
  expect(await child.stop()).toBe('exit code 0');
  expect(child.logs().join('\n')).toContain('"msg":"stopped"');
  await restarted(node);
  if (hasEtcdctl) expect(etcdctl(url, 'get', 'k').stdout).toBe('k\nv\n');
  expect(await child.stop()).toBe('exit code 0');
});

test.runIf(hasEtcdctl)('etcdctl drives it', async () => {
  const { url } = await started();
  const ok = (...args: string[]): string => {
    const { stdout, stderr, status } = etcdctl(url, ...args);
    expect({ args, stderr, status }).toMatchObject({ status: 0 });
    return stdout;
  };
  expect(ok('put', 'a', '1')).toBe('OK\n');
  expect(ok('put', 'a', '2', '--prev-kv')).toBe('OK\na\n1\n');
  expect(ok('get', '', '--prefix')).toBe('a\n2\n');
  expect(ok('get', 'a', '--rev=2')).toBe('a\n1\n');
  expect(ok('del', 'a')).toBe('1\n');
  const lease = /^lease ([0-9a-f]+) granted/.exec(ok('lease', 'grant', '60'))![1]!;
  ok('put', 'b', 'leased', `--lease=${lease}`);
  expect(ok('lease', 'timetolive', lease, '--keys')).toContain('attached keys([b])');
  ok('lease', 'revoke', lease);
  expect(ok('get', 'b')).toBe('');
  expect(ok('endpoint', 'health')).toBe('');
  expect(ok('member', 'list')).toContain(', started, default, ');
  expect(ok('endpoint', 'status', '-w=json')).toContain('"version":"3.7.1"');
  ok('compaction', '3');
  expect(etcdctl(url, 'get', 'a', '--rev=2').stderr).toContain('required revision has been compacted');
  expect(etcdctl(url, 'get', 'a', '--rev=999').stderr).toContain('required revision is a future revision');
});

test('a crash loses nothing that was acknowledged', async () => {
  const node = await started();
  if (!hasEtcdctl) return;
  for (let i = 0; i < 5; i++) etcdctl(node.url, 'put', `k${i}`, 'v');
  expect(await node.child.kill('SIGKILL')).toBe('SIGKILL');
  await restarted(node);
  expect(etcdctl(node.url, 'get', 'k', '--prefix', '-w=fields').stdout).toContain('"Count" : 5');
});

test('a second process on the same data directory is refused', async () => {
  const first = await started();
  const second = await quoin([], first.dataDir);
  const { code, said } = run(second.flags);
  expect(said).toEqual([`quoin: data directory ${first.dataDir} is in use by another process`]);
  expect(code).toBe(1);
  expect((await fetch(`${first.url}/health`)).status).toBe(200);
});

test('a port in use is refused', async () => {
  const { flags, clientPort } = await quoin();
  const squatter = createServer();
  await new Promise<void>((resolve) => squatter.listen(clientPort, '127.0.0.1', resolve));
  const { code, said } = run(flags);
  squatter.close();
  expect(said).toEqual([`quoin: listen tcp 127.0.0.1:${clientPort}: bind: address already in use`]);
  expect(code).toBe(1);
});

test.each([
  [['--naem=x'], 'flag provided but not defined: --naem (did you mean --name?)'],
  [
    ['--listen-peer-urls=nonsense'],
    'invalid value "nonsense" for flag --listen-peer-urls: URL must have the form http://host:port',
  ],
  [
    ['--initial-cluster=other=http://127.0.0.1:2380'],
    `couldn't find local name "default" in the initial cluster configuration "other=http://127.0.0.1:2380"`,
  ],
  [['--cert-file=x'], '--cert-file and --key-file must both be present [key: , cert: x]'],
])('%s is refused with one line', (args, message) => {
  const { code, said, stdout } = run(args);
  expect(said).toEqual([`quoin: ${message}`]);
  expect(stdout).toBe('');
  expect(code).toBe(1);
  expect(existsSync(join(scratch, 'default.etcd'))).toBe(false);
});

test('data directories that cannot be used are refused', async () => {
  const file = freshDir();
  writeFileSync(file, '');
  expect(run(['--data-dir', file]).said).toEqual([`quoin: data directory ${file} is not a directory`]);
  const below = join(file, 'sub');
  expect(run(['--data-dir', below]).said).toEqual([`quoin: data directory ${below} is not a directory`]);
  const etcd = freshDir();
  mkdirSync(join(etcd, 'member', 'snap'), { recursive: true });
  expect(run(['--data-dir', etcd]).said[0]).toContain(`data directory ${etcd} holds data of etcd`);
  if (process.getuid?.() === 0) return;
  const locked = freshDir();
  mkdirSync(locked, { mode: 0o500 });
  chmodSync(locked, 0o500);
  expect(run(['--data-dir', locked]).said).toEqual([`quoin: data directory ${locked} is not writable`]);
});

test('variables count as flags, and what has no effect is said', async () => {
  const node = await quoin();
  const child = new Child({
    name: 'quoin',
    script,
    args: node.flags.filter((flag) => !flag.startsWith('--data-dir')),
    env: { ETCD_DATA_DIR: node.dataDir, ETCD_BACKEND_BATCH_LIMIT: '5', QUOIN_NAME: 'default' },
    readyText: 'ready to serve client requests',
  });
  children.push(child);
  child.start();
  await child.ready(15_000);
  expect(readdirSync(node.dataDir)).toContain('member');
  expect(child.logs().join('\n')).toContain(
    'ETCD_BACKEND_BATCH_LIMIT has no effect: Quoin stores its data in RocksDB',
  );
});

test('--version and --help', () => {
  const version = run(['--version']);
  expect(version.code).toBe(0);
  expect(version.stdout).toMatch(/^etcd Version: 3\.7\.1\nQuoin Version: \d+\.\d+\.\d+\n/);
  const help = run(['--help']);
  expect(help.code).toBe(0);
  expect(help.stdout).toContain('--listen-client-urls');
});

test('ends when the parent that speaks IPC does', async () => {
  const node = await quoin();
  const parent = spawn(
    process.execPath,
    [
      '--input-type=module',
      '-e',
      `import { spawn } from 'node:child_process';
       const child = spawn(process.execPath, ${JSON.stringify([join(repositoryRoot, script), ...node.flags])}, { detached: true, stdio: ['ignore', 'ignore', 'ignore', 'ipc'] });
       console.log(child.pid);`,
    ],
    { stdio: ['ignore', 'pipe', 'inherit'] },
  );
  const pid = await new Promise<number>((resolve) =>
    parent.stdout.once('data', (data) => resolve(Number(data))),
  );
  await expect
    .poll(async () => (await fetch(`${node.url}/version`).catch(() => undefined))?.status, {
      timeout: 15_000,
    })
    .toBe(200);
  parent.kill('SIGKILL');
  await expect.poll(() => alive(pid), { timeout: 5_000 }).toBe(false);
});

function alive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

// Through npm a terminal's Ctrl-C comes twice. Taken for impatience, it cut the clean stop short.
test('the same signal twice at once is one: the stop is clean', async () => {
  const { child } = await started();
  child.kill('SIGINT');
  expect(await child.kill('SIGINT')).toBe('exit code 0');
  expect(child.logs().join('\n')).toContain('"msg":"stopped"');
});

test('under npm start it tells where it listens and how to reach it', async () => {
  const node = await quoin();
  const child = new Child({
    name: 'quoin',
    script,
    args: node.flags,
    env: { QUOIN_BOOTSTRAP: 'start' },
    readyText: 'Ctrl-C stops it',
  });
  children.push(child);
  child.start();
  await child.ready(15_000);
  const text = child.logs().join('\n');
  expect(text).toContain(`Quoin serves etcd's API on ${node.url}`);
  expect(text).toContain(`etcdctl --endpoints=127.0.0.1:${node.clientPort} put greeting hello`);
  expect(text).toContain(`npm run quoinctl -- --endpoints=127.0.0.1:${node.clientPort}`);
  expect(text).toContain('ready to serve client requests');
});
