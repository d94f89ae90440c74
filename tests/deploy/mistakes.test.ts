/** What goes wrong when roles are deployed, and the lines that say so. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { decodeLinkDown, encodeLinkUp } from '@quoin/contracts';
import { dialChannel, linkPath } from '@quoin/platform';
import { afterAll, afterEach, expect, test } from 'vitest';
import { Child, repositoryRoot } from '../support/child.ts';
import { freePorts } from '../support/ports.ts';

const dir = mkdtempSync(join(tmpdir(), 'quoin-mistakes-'));
const children: Child[] = [];
afterEach(async () => {
  await Promise.all(children.splice(0).map((child) => child.stop()));
});
afterAll(() => rmSync(dir, { recursive: true, force: true }));

function member(name: string, ports: readonly number[], i: number, data: string, env = {}): Child {
  const url = `http://127.0.0.1:${ports[i]}`;
  const child = new Child({
    name,
    script: 'apps/member/src/main.ts',
    args: [
      `--name=m${i + 1}`,
      `--data-dir=${join(dir, data)}`,
      `--listen-peer-urls=${url}`,
      `--initial-advertise-peer-urls=${url}`,
      `--initial-cluster=${ports.map((port, n) => `m${n + 1}=http://127.0.0.1:${port}`).join(',')}`,
    ],
    env,
    readyText: 'ready to serve client requests',
  });
  children.push(child);
  child.start();
  return child;
}

test('clocks apart: a warning on both sides, with how far', async () => {
  const ports = await freePorts(2);
  const preload = join(import.meta.dirname, 'shift-clock.mjs');
  const ahead = { NODE_OPTIONS: `--import=${preload}`, CLOCK_SHIFT_MS: '5000' };
  const [first, second] = [member('right', ports, 0, 'c1'), member('ahead', ports, 1, 'c2', ahead)];
  await Promise.all([first.ready(30_000), second.ready(30_000)]);
  const said = (child: Child) => child.logs().find((line) => line.includes('prober found high clock drift'));
  await expect.poll(() => said(first), { timeout: 10_000 }).toMatch(/"clock-drift":"(49\d\d|5\d\d\d)ms"/);
  await expect
    .poll(() => said(second), { timeout: 10_000 })
    .toMatch(/"clock-drift":"-(49\d\d|[45]\d\d\d)ms"/);
});

test('two members with one volume: the second ends with a line, the first goes on', async () => {
  const [one] = (await freePorts(1)) as [number];
  const first = member('first', [one], 0, 'shared');
  await first.ready(30_000);
  const [two] = (await freePorts(1)) as [number];
  const second = member('second', [two], 0, 'shared');
  await expect(second.ready(30_000)).rejects.toThrow(/data directory .*shared is in use by another process/);
  expect(first.running).toBe(true);
});

test('a gateway of another version of the link is told both numbers', async () => {
  const [port] = (await freePorts(1)) as [number];
  const own = member('own', [port], 0, 'version');
  await own.ready(30_000);
  const channel = dialChannel(`http://127.0.0.1:${port}`, linkPath);
  let welcomed = false;
  const closed = new Promise<void>((resolve) => {
    channel.onMessage = (message) => {
      welcomed = decodeLinkDown(message).welcome !== undefined;
    };
    channel.onDrain = () => {};
    channel.onClose = () => resolve();
  });
  const hello = { protocol: 99, gateway: 'from the future', clusterId: 0n, clientUrls: [] };
  channel.send(encodeLinkUp({ hello, requests: [], subscribes: [], cancels: [], credits: [] }));
  await closed;
  expect(welcomed).toBe(false);
  const said = () => own.logs().filter((line) => line.includes('closed a gateway link'));
  await expect.poll(said).toHaveLength(1);
  expect(said()[0]).toContain('link protocol 99, this member speaks 1');
});

test.each([
  [
    'member',
    ['--peer-cert-file=none.pem', '--peer-key-file=none.pem'],
    /^quoin-member: cannot read certificate file: .*none\.pem/,
  ],
  ['member', ['--encryption-key-file=none'], /^quoin-member: .*none/m],
  [
    'gateway',
    ['--cert-file=none.pem', '--key-file=none.pem'],
    /^quoin-gateway: cannot read certificate file: .*none\.pem/,
  ],
  ['gateway', ['--fair-use=none.yaml'], /^quoin-gateway: cannot read fair use file none\.yaml: /],
] as const)('a %s with %j ends with one line', async (role, flags, message) => {
  const [port] = (await freePorts(1)) as [number];
  // A certificate is for https URLs; without one it is not looked at.
  const scheme = flags.some((flag) => flag.includes('cert-file')) ? 'https' : 'http';
  const own = role === 'member' ? ['--data-dir', join(dir, `missing-${port}`)] : [];
  const listen =
    role === 'member'
      ? [
          `--listen-peer-urls=${scheme}://127.0.0.1:${port}`,
          `--initial-advertise-peer-urls=${scheme}://127.0.0.1:${port}`,
        ]
      : [`--listen-client-urls=${scheme}://127.0.0.1:${port}`];
  const script = join(repositoryRoot, `apps/${role}/src/main.ts`);
  const result = spawnSync(process.execPath, [script, ...own, ...listen, ...flags], {
    encoding: 'utf8',
    timeout: 20_000,
  });
  expect(result.status).toBe(1);
  expect(result.stderr).toMatch(message);
});
