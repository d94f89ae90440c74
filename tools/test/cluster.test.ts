import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, expect, test } from 'vitest';
import { freePorts, isFree } from '../../tests/support/ports.ts';

const started: { child: ChildProcess; dir: string }[] = [];
afterEach(() => {
  for (const { child, dir } of started.splice(0)) {
    child.kill('SIGKILL');
    rmSync(dir, { recursive: true, force: true });
  }
});

/** One member and one gateway by the command, with what it prints. */
async function run(...more: string[]) {
  const dir = mkdtempSync(join(tmpdir(), 'quoin-dev-cluster-'));
  let port = 0;
  do [port] = (await freePorts(1)) as [number];
  while (!(await isFree(port + 1)) || !(await isFree(port + 2)));
  const script = join(import.meta.dirname, '..', 'cluster.ts');
  const flags = ['--members=1', '--gateways=1', '--no-backup', `--base-port=${port}`, `--data-dir=${dir}`];
  const child = spawn(process.execPath, [script, ...flags, ...more], { stdio: ['ignore', 'pipe', 'pipe'] });
  started.push({ child, dir });
  const output = { text: '' };
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (data: Buffer) => {
      output.text += data.toString();
    });
  }
  const exit = new Promise<number | null>((resolve) => child.once('exit', resolve));
  await expect.poll(() => output.text, { timeout: 20_000 }).toContain('Ctrl-C stops all');
  const ports = [port, port + 1, port + 2];
  const free = async (): Promise<boolean> => (await Promise.all(ports.map(isFree))).every((each) => each);
  return { child, output, exit, free, port };
}

test('prints prefixed logs and where to reach it; Ctrl-C stops gateways, then members, and exits 0', async () => {
  const { child, output, exit, free, port } = await run();
  expect(output.text).toMatch(/^m1 {5}\| [\d:.]+ info {2}serving peers and gateways/m);
  expect(output.text).toMatch(/^g1 {5}\| [\d:.]+ info {2}serving clients/m);
  expect(output.text).toContain(`etcdctl --endpoints=127.0.0.1:${port} put`);
  expect(await (await fetch(`http://127.0.0.1:${port}/health`)).json()).toMatchObject({ health: 'true' });
  child.kill('SIGINT');
  expect(await exit).toBe(0);
  expect(output.text.indexOf('g1     | ')).toBeGreaterThan(-1);
  expect(output.text.lastIndexOf('g1     | ')).toBeLessThan(output.text.lastIndexOf('m1     | '));
  expect(await free()).toBe(true);
});

test('leaves no process behind when it is killed itself', async () => {
  const { child, free } = await run();
  expect(await free()).toBe(false);
  child.kill('SIGKILL');
  await expect.poll(free, { timeout: 10_000 }).toBe(true);
});

test.each([
  [['--members=x'], 'cluster: --members must be a number from 1 to 65535\n'],
  [['--nonsense'], "cluster: Unknown option '--nonsense'"],
])('%s is refused', async (args, message) => {
  const child = spawn(process.execPath, [join(import.meta.dirname, '..', 'cluster.ts'), ...args]);
  let text = '';
  child.stderr.on('data', (data: Buffer) => {
    text += data.toString();
  });
  expect(await new Promise((resolve) => child.once('close', resolve))).toBe(1);
  expect(text).toContain(message);
});
