/**
 * What the units promise, without systemd as process 1: a real socket of a service manager, the units checked by
 * systemd-analyze, the variables in them read by the roles themselves.
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import {
  chmodSync,
  closeSync,
  cpSync,
  fstatSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { readNodeConfig } from '@quoin/platform';
import { afterAll, afterEach, describe, expect, test } from 'vitest';
import { Child, repositoryRoot } from '../support/child.ts';
import { freePorts } from '../support/ports.ts';

const units = join(repositoryRoot, 'deploy', 'systemd');
const dir = mkdtempSync(join(tmpdir(), 'quoin-systemd-'));
afterAll(() => rmSync(dir, { recursive: true, force: true }));

const has = (command: string, ...args: string[]): boolean => spawnSync(command, args).status === 0;

const missing = [
  ...(has('python3', '--version') ? [] : ['python3']),
  ...(has('systemd-notify', '--version') ? [] : ['systemd-notify']),
];
if (missing.length > 0)
  process.stderr.write(`skipped: no notification of a service manager: no ${missing} here\n`);

/** A socket as systemd's, and what was sent to it. */
class Manager {
  readonly path: string;
  readonly lines: string[] = [];
  private readonly process: ChildProcess;
  private readonly open: Promise<void>;

  constructor(name: string) {
    this.path = join(dir, name);
    this.process = spawn('python3', [join(import.meta.dirname, 'notify-socket.py'), this.path], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const { promise, resolve } = Promise.withResolvers<void>();
    this.open = promise;
    createInterface({ input: this.process.stdout! }).on('line', (text) => {
      const { lines } = JSON.parse(text) as { lines?: string[] };
      if (lines === undefined) resolve();
      else this.lines.push(...lines.filter((line) => line !== 'BARRIER=1'));
    });
  }

  async listening(): Promise<void> {
    await this.open;
  }

  count(line: string): number {
    return this.lines.filter((each) => each === line).length;
  }

  end(): void {
    this.process.kill('SIGKILL');
  }
}

const children: { stop(): Promise<unknown> }[] = [];
const managers: Manager[] = [];
afterEach(async () => {
  for (const child of children.splice(0)) await child.stop();
  for (const manager of managers.splice(0)) manager.end();
});

const watchdogUsec = 600_000;

async function quoin(name: string, env: Record<string, string>): Promise<Child> {
  const [client, peer] = (await freePorts(2)) as [number, number];
  const child = new Child({
    name,
    script: 'apps/quoin/src/main.ts',
    args: [
      `--data-dir=${join(dir, name)}.data`,
      `--listen-client-urls=http://127.0.0.1:${client}`,
      `--advertise-client-urls=http://127.0.0.1:${client}`,
      `--listen-peer-urls=http://127.0.0.1:${peer}`,
      `--initial-advertise-peer-urls=http://127.0.0.1:${peer}`,
    ],
    env,
    readyText: 'ready to serve client requests',
  });
  children.push(child);
  child.start();
  await child.ready(20_000);
  return child;
}

describe.skipIf(missing.length > 0)('with a service manager', () => {
  const manager = async (name: string): Promise<Manager> => {
    const made = new Manager(name);
    managers.push(made);
    await made.listening();
    return made;
  };

  test('READY when it serves, WATCHDOG while its loop turns and not while it stands, STATUS, STOPPING', async () => {
    const told = await manager('all');
    const child = await quoin('all', { NOTIFY_SOCKET: told.path, WATCHDOG_USEC: String(watchdogUsec) });
    await expect.poll(() => told.count('READY=1'), { timeout: 10_000 }).toBe(1);
    await expect.poll(() => told.count('WATCHDOG=1'), { timeout: 10_000 }).toBeGreaterThan(2);
    await expect
      .poll(() => told.lines.find((line) => /^STATUS=.*leader/.test(line)), { timeout: 10_000 })
      .toBeDefined();
    await child.kill('SIGSTOP');
    // What it had said before is still on its way.
    await new Promise((resolve) => setTimeout(resolve, 1_500));
    const before = told.count('WATCHDOG=1');
    await new Promise((resolve) => setTimeout(resolve, 1_500));
    expect(told.count('WATCHDOG=1')).toBe(before);
    await child.kill('SIGCONT');
    expect(await child.stop()).toBe('exit code 0');
    await expect.poll(() => told.count('STOPPING=1'), { timeout: 10_000 }).toBe(1);
    expect(told.lines.indexOf('STOPPING=1')).toBeGreaterThan(told.lines.indexOf('READY=1'));
    expect(told.lines.filter((line) => /^STATUS=stopping/.test(line))).toEqual(['STATUS=stopping (SIGTERM)']);
    expect(told.count('READY=1')).toBe(1);
  });

  test('a gateway without members is not ready', async () => {
    const told = await manager('gateway');
    const [client, none] = (await freePorts(2)) as [number, number];
    const child = new Child({
      name: 'gateway',
      script: 'apps/gateway/src/main.ts',
      args: [`--listen-client-urls=http://127.0.0.1:${client}`, `--members=http://127.0.0.1:${none}`],
      env: { NOTIFY_SOCKET: told.path, WATCHDOG_USEC: String(watchdogUsec) },
      readyText: 'serving clients',
    });
    children.push(child);
    child.start();
    await child.ready(20_000);
    await expect.poll(() => told.count('WATCHDOG=1'), { timeout: 10_000 }).toBeGreaterThan(1);
    expect(told.count('READY=1')).toBe(0);
    expect(told.lines).toContain('STATUS=no member that serves reads, no leader');
  });

  test('a watchdog that is meant for another process is left alone', async () => {
    const told = await manager('other');
    const env = { NOTIFY_SOCKET: told.path, WATCHDOG_USEC: '100000', WATCHDOG_PID: '1' };
    const child = await quoin('other', env);
    await expect.poll(() => told.count('READY=1'), { timeout: 10_000 }).toBe(1);
    expect(await child.stop()).toBe('exit code 0');
    expect(told.count('WATCHDOG=1')).toBe(0);
  });
});

test('without systemd-notify it says so once and serves all the same', async () => {
  const child = await quoin('none', {
    NOTIFY_SOCKET: join(dir, 'nobody'),
    PATH: dir,
    WATCHDOG_USEC: '100000',
  });
  await new Promise((resolve) => setTimeout(resolve, 500));
  const said = child.logs().filter((line) => line.includes('the service manager cannot be told'));
  expect(said).toHaveLength(1);
  expect(said[0]).toContain('there is no systemd-notify here');
});

describe('--log-outputs=systemd/journal', () => {
  const run = (file: string, env: Record<string, string>): string => {
    const path = join(dir, file);
    const descriptor = openSync(path, 'w');
    const { dev, ino } = fstatSync(descriptor);
    const journal = { JOURNAL_STREAM: `${dev}:${ino}`, ...env };
    // A port that is taken by nobody, a host that is nobody's: it ends at once, with lines of two levels.
    const args = [
      '--log-outputs=systemd/journal',
      '--listen-client-urls=http://192.0.2.1:1',
      '--enable-pprof',
    ];
    spawnSync(process.execPath, [join(repositoryRoot, 'apps/gateway/src/main.ts'), ...args], {
      env: { ...process.env, ...journal },
      stdio: ['ignore', 'ignore', descriptor],
    });
    closeSync(descriptor);
    return readFileSync(path, 'utf8');
  };

  test('lines carry their priority, as sd-daemon(3) has it', () => {
    const text = run('journal', {});
    expect(text).toMatch(/^<4>\{"level":"warn",.*enable-pprof/m);
    expect(text).toMatch(/^(<3>|quoin-gateway: ).*listen tcp 192\.0\.2\.1:1/m);
  });

  test('is refused where stderr is not the journal', () => {
    expect(run('no-journal', { JOURNAL_STREAM: '1:2' })).toBe(
      'quoin-gateway: --log-outputs: systemd/journal needs a stderr that systemd has connected to the journal; use stderr, or run it below systemd-cat\n',
    );
  });
});

describe('units', () => {
  const files = readdirSync(units).filter((name) => name.endsWith('.service'));
  const roleOf = (file: string) =>
    (/^quoin-(member|gateway)\.service$/.exec(file)?.[1] ?? 'quoin') as 'quoin';
  const variables = (text: string): Record<string, string> =>
    Object.fromEntries(
      [...text.matchAll(/^Environment=(\w+)=(.*)$/gm)].map((match) => [match[1]!, match[2]!]),
    );

  test.each(files.filter((file) => file !== 'quoin-backup.service'))(
    '%s: its variables are flags of the role',
    (file) => {
      const env = variables(readFileSync(join(units, file), 'utf8'));
      expect(Object.keys(env).length).toBeGreaterThan(0);
      const outcome = readNodeConfig(roleOf(file), { args: [], env, readFile: () => '' });
      expect(outcome).toMatchObject({ kind: 'run', notices: [] });
    },
  );

  test.skipIf(!has('systemd-analyze', '--version'))(
    'systemd-analyze finds nothing, and little exposure',
    () => {
      const root = join(dir, 'root');
      const own = join(root, 'etc/systemd/system');
      mkdirSync(own, { recursive: true });
      mkdirSync(join(root, 'usr/local/bin'), { recursive: true });
      cpSync(units, own, { recursive: true });
      const debian = [
        '[Unit]',
        'Description=etcd',
        '[Service]',
        'Type=notify',
        'ExecStart=/usr/bin/etcd $DAEMON_ARGS',
      ];
      writeFileSync(join(own, 'etcd.service'), `${debian.join('\n')}\n`);
      for (const program of ['quoin', 'quoin-member', 'quoin-gateway', 'quoin-backup']) {
        const path = join(root, 'usr/local/bin', program);
        writeFileSync(path, '#!/bin/sh\n');
        chmodSync(path, 0o755);
      }
      const verify = spawnSync(
        'systemd-analyze',
        ['verify', `--root=${root}`, '--recursive-errors=no', ...files, 'etcd.service'],
        { encoding: 'utf8' },
      );
      expect(verify.stdout + verify.stderr).toBe('');
      expect(verify.status).toBe(0);
      for (const file of files) {
        // 10 is wide open; 20 here is 2.0, which systemd calls OK.
        const args = ['security', `--root=${root}`, '--offline=yes', '--threshold=20', file];
        expect(spawnSync('systemd-analyze', args, { encoding: 'utf8' }).status, file).toBe(0);
      }
    },
  );
});
if (!has('systemd-analyze', '--version'))
  process.stderr.write('skipped: units are not verified: no systemd-analyze here\n');
