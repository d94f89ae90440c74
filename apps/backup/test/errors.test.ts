import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { repositoryRoot } from '../../../tests/support/child.ts';

const scratch = mkdtempSync(join(tmpdir(), 'quoin-backup-'));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

function lastWords(...args: string[]): { code: number | null; lines: string[] } {
  const script = join(repositoryRoot, 'apps/backup/src/main.ts');
  const all = ['--members=http://127.0.0.1:1', '--listen-metrics-urls=http://127.0.0.1:0', ...args];
  const { status, stderr } = spawnSync(process.execPath, [script, ...all], {
    encoding: 'utf8',
    timeout: 20_000,
  });
  return { code: status, lines: stderr.trim().split('\n') };
}

// Both came as Node's own errors, the first with a stack.
test('a log that cannot be opened is one line', () => {
  const { code, lines } = lastWords(`--dir=${join(scratch, 'b')}`, '--log-outputs=/nonexistent/x');
  expect(code).toBe(1);
  expect(lines).toEqual([
    expect.stringMatching(/^quoin-backup: cannot open log output \/nonexistent\/x: ENOENT/),
  ]);
});

test('a directory that is a file is one line', () => {
  const file = join(scratch, 'file');
  writeFileSync(file, '');
  const { code, lines } = lastWords(`--dir=${file}`);
  expect(code).toBe(1);
  expect(lines).toEqual([`quoin-backup: backup directory ${file} is not a directory`]);
});
