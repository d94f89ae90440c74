/** h2spec, every section (generic, http2, hpack), against the gateway's listener. */
import { spawn, spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type Cluster, startCluster } from '../support/cluster.ts';
import { build, type Program } from '../support/toolchain.ts';

const program: Program = {
  name: 'h2spec',
  source: import.meta.dirname,
  probes: [{ command: 'go', args: ['version'] }],
  steps: (out) => [
    { command: 'go', args: ['build', '-o', join(out, 'h2spec'), 'github.com/summerwind/h2spec/cmd/h2spec'] },
  ],
  limitMs: 120_000,
};

/** One on the path, else built here. */
async function find(): Promise<string | undefined> {
  if (spawnSync('h2spec', ['--version'], { stdio: 'ignore' }).status === 0) return 'h2spec';
  const dir = await build(program);
  return dir && join(dir, 'h2spec');
}

const h2spec = await find();
const timeoutSeconds = 5;
const limitMs = 120_000;
let cluster: Cluster | undefined;

beforeAll(async () => {
  if (h2spec !== undefined)
    cluster = await startCluster({
      members: 1,
      gateways: 1,
      // A limit that is not told cannot be exceeded: the case for it would be left out.
      gatewayArgs: ['--max-concurrent-streams=100'],
    });
});

afterAll(() => cluster?.stop());

test.skipIf(h2spec === undefined)('every case passes', { timeout: limitMs }, async () => {
  const [host, port] = cluster!.endpoints[0]!.split(':') as [string, string];
  const args = ['--host', host, '--port', port, '--path', '/health', '--timeout', String(timeoutSeconds)];
  const child = spawn(h2spec!, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  const limit = setTimeout(() => child.kill('SIGKILL'), limitMs);
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (data: Buffer) => {
      output += data.toString();
    });
  }
  const code = await new Promise((resolve) => child.once('close', resolve));
  clearTimeout(limit);
  const [, total, passed, , failed] =
    /(\d+) tests, (\d+) passed, (\d+) skipped, (\d+) failed/.exec(output) ?? [];
  expect(failed, output.slice(-6000)).toBe('0');
  expect(code).toBe(0);
  // Less would mean that sections are left out.
  expect(Number(total)).toBeGreaterThanOrEqual(140);
  expect(passed).toBe(total);
});
