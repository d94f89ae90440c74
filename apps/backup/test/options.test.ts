import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { help, readOptions } from '../src/options.ts';

const read = (args: string[], env: Record<string, string> = {}) => readOptions(args, env, () => '');
const needed = ['--members=http://10.0.0.1:2380,http://10.0.0.2:2380', '--dir=/b'];

describe('flags of the worker', () => {
  test('and their defaults', () => {
    const outcome = read(needed);
    expect(outcome).toMatchObject({
      kind: 'run',
      options: {
        name: 'backup',
        members: ['http://10.0.0.1:2380', 'http://10.0.0.2:2380'],
        dir: '/b',
        intervalMs: 3_600_000,
        keep: 24,
      },
    });
  });
  test('variables stand in for flags', () => {
    const outcome = read(needed, { QUOIN_INTERVAL: '5m', QUOIN_KEEP: '3' });
    expect(outcome).toMatchObject({ options: { intervalMs: 300_000, keep: 3 } });
  });
  test('mistakes are one line', () => {
    const cases: [string[], RegExp][] = [
      [['--dir=/b'], /--members must be given/],
      [[needed[0]!], /--dir must be given/],
      [[...needed, '--keep=0'], /--keep must be at least 1/],
      [[...needed, '--interval=5'], /interval/],
      [[...needed, '--interval=10ms'], /--interval must be 0 or at least 1s/],
      [[...needed, '--members=ftp://x:1'], /URL scheme must be http/],
      [[...needed, '--kep=3'], /--kep/],
      [[...needed, '--log-level=loud'], /log-level/],
    ];
    for (const [args, text] of cases) expect(() => read(args), args.join(' ')).toThrow(text);
  });
  test('help names them all', () => {
    for (const name of ['members', 'dir', 'interval', 'keep', 'listen-metrics-urls'])
      expect(help()).toContain(`--${name} `);
  });
  test('the process ends with one line and code 1', async () => {
    const child = spawn(process.execPath, [join(import.meta.dirname, '..', 'src', 'main.ts'), '--dir=/b']);
    let text = '';
    child.stderr.on('data', (data: Buffer) => {
      text += data.toString();
    });
    const code = await new Promise((resolve) => child.on('close', resolve));
    expect([code, text]).toEqual([
      1,
      'quoin-backup: --members must be given: peer URLs such as http://10.0.0.1:2380\n',
    ]);
  });
});
