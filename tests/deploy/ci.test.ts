/** The example for users' own test suites, run as they would run it. */
import { spawn } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { repositoryRoot } from '../support/child.ts';

const script = join(repositoryRoot, 'deploy/ci/with-quoin.mjs');
const memory = existsSync('/dev/shm') ? '/dev/shm' : tmpdir();

function run(...args: string[]): Promise<{ readonly code: number | null; readonly output: string }> {
  const child = spawn(process.execPath, [script, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (data: Buffer) => {
      output += data.toString();
    });
  }
  return new Promise((resolve) => child.once('close', (code) => resolve({ code, output })));
}

test('the example suite passes, two at the same time, and nothing is left', async () => {
  const suite = ['--', process.execPath, '--test', join(repositoryRoot, 'deploy/ci/example.test.mjs')];
  const [first, second] = await Promise.all([run(...suite), run(...suite)]);
  for (const { code, output } of [first, second]) {
    expect(output).toMatch(/pass 3/);
    expect(code, output).toBe(0);
  }
  const left = readdirSync(memory).filter((name) => name.startsWith('with-quoin-'));
  expect(left).toEqual([]);
}, 90_000);

test('the exit code is the command’s, and the endpoint is told', async () => {
  const print = 'console.log(process.env.ETCDCTL_ENDPOINTS, process.env.QUOIN_URL); process.exit(7)';
  const { code, output } = await run('--', process.execPath, '-e', print);
  expect(output).toMatch(/^(127\.0\.0\.1:\d+) http:\/\/\1$/m);
  expect(code).toBe(7);
}, 60_000);

test.each([
  [[], /^with-quoin: usage: /],
  [['--no-such-flag', '--', 'true'], /quoin: .*no-such-flag[\s\S]*with-quoin: the server ended/],
  [['--', 'no-such-command'], /with-quoin: no-such-command: /],
])(
  '%j says what is wrong',
  async (args, message) => {
    const { code, output } = await run(...args);
    expect(output).toMatch(message);
    expect(code).not.toBe(0);
  },
  60_000,
);
