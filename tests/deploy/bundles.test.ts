import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Client } from '@quoin/client';
import { afterAll, describe, expect, test } from 'vitest';
import { bundle } from '../../tools/package/bundle.mjs';
import { packageRole } from '../../tools/package.mjs';
import { memoryBytes } from '../../tools/scale/process-memory.ts';
import { repositoryRoot } from '../support/child.ts';
import { idleLimitMiB, startBundled } from './bundled-cluster.ts';
import { type BundledApp, bundled, removeBundles } from './bundles.ts';

const apps: readonly BundledApp[] = ['member', 'gateway', 'backup', 'quoin', 'cli'];
const bundleLimitBytes = 30e6;

const temporary = mkdtempSync(join(tmpdir(), 'quoin-bundles-test-'));
afterAll(() => {
  removeBundles();
  rmSync(temporary, { recursive: true, force: true });
});

function digests(dir: string): Record<string, string> {
  return Object.fromEntries(
    readdirSync(dir)
      .sort()
      .map((name) => [
        name,
        createHash('sha256')
          .update(readFileSync(join(dir, name)))
          .digest('hex'),
      ]),
  );
}

test.each(apps)('%s: two builds in different places are the same bytes, at most 30 MB', async (app) => {
  const { dir, files } = await bundled(app);
  const again = join(temporary, `${app}-again`);
  await bundle(join(repositoryRoot, 'apps', app), again);
  expect(digests(again)).toEqual(digests(dir));
  const programs = files.map(({ path }) => path.split('/').at(-1)!).filter((name) => name.endsWith('.mjs'));
  expect(programs).toEqual(app === 'cli' ? ['quoinctl.mjs', 'quoinutl.mjs'] : ['main.mjs']);
  expect(files.reduce((total, { bytes }) => total + bytes, 0)).toBeLessThan(bundleLimitBytes);
});

test('a tarball is the same bytes each time, and its command runs where it is unpacked', async () => {
  const [first, second] = [await packageRole('gateway', false), await packageRole('gateway', false)];
  expect(first.equals(second)).toBe(true);
  const unpacked = spawnSync('tar', ['-xzf', '-', '-C', temporary], { input: first });
  expect(unpacked.stderr.toString()).toBe('');
  const command = join(temporary, 'quoin-gateway-0.1.0-linux-x64', 'bin', 'quoin-gateway');
  const run = (node: string) => {
    const env = { ...process.env, QUOIN_NODE: node };
    return spawnSync(command, ['--version'], { env, encoding: 'utf8' });
  };
  expect(run(process.execPath).stdout).toMatch(/^etcd Version: /);
  const none = run('no-such-node');
  expect(none.status).toBe(1);
  expect(none.stderr).toContain('quoin-gateway: there is no no-such-node here: install Node 24');
});

describe('three members, two gateways and a backup worker from bundles', () => {
  test('serve, keep within their idle memory, and compute passwords in their thread', async () => {
    const cluster = await startBundled({ members: 3, gateways: 2, backup: true });
    try {
      for (const child of [...cluster.members, ...cluster.gateways]) {
        const role = child.name.startsWith('m') ? 'member' : 'gateway';
        const residentMiB = (): number => memoryBytes(child.pid!, 'VmRSS') / 2 ** 20;
        await expect
          .poll(residentMiB, { timeout: 20_000, interval: 500, message: child.name })
          .toBeLessThanOrEqual(idleLimitMiB[role]);
      }
      const client = new Client({ endpoints: cluster.endpoints });
      try {
        await client.kv.put('a', 'b');
        const { kvs } = await client.kv.get('a');
        expect(Buffer.from(kvs[0]!.value).toString()).toBe('b');
        await client.auth.userAdd('root', 'secret');
      } finally {
        client.close();
      }
    } finally {
      await cluster.stop();
    }
  }, 60_000);
});
