/** Runs quoinctl, or the etcdctl it is measured by. */
import { type ChildProcess, spawn } from 'node:child_process';
import { join } from 'node:path';

export interface Outcome {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

export interface RunOptions {
  readonly input?: string;
  readonly env?: Readonly<Record<string, string>>;
}

const script = join(import.meta.dirname, '..', 'src', 'quoinctl.ts');
const limitMs = 20_000;

function environment(more: RunOptions['env']): NodeJS.ProcessEnv {
  const env: NodeJS.ProcessEnv = {
    PATH: process.env['PATH'],
    HOME: process.env['HOME'],
    ETCDCTL_API: '3',
    ...more,
  };
  return env;
}

export function spawnTool(
  tool: 'quoinctl' | 'etcdctl',
  args: readonly string[],
  options: RunOptions = {},
): ChildProcess {
  const command =
    tool === 'etcdctl' ? (process.env['ETCDCTL_BINARY'] ?? '/usr/bin/etcdctl') : process.execPath;
  return spawn(command, tool === 'etcdctl' ? args : [script, ...args], {
    env: environment(options.env),
    stdio: 'pipe',
  });
}

export function run(
  tool: 'quoinctl' | 'etcdctl',
  args: readonly string[],
  options: RunOptions = {},
): Promise<Outcome> {
  return new Promise((resolve, reject) => {
    const child = spawnTool(tool, args, options);
    let stdout = '';
    let stderr = '';
    child.stdout!.on('data', (data: Buffer) => {
      stdout += data.toString('latin1');
    });
    child.stderr!.on('data', (data: Buffer) => {
      stderr += data.toString('latin1');
    });
    const limit = setTimeout(() => child.kill('SIGKILL'), limitMs);
    child.on('error', reject);
    child.on('close', (code) => {
      clearTimeout(limit);
      resolve({ code: code ?? -1, stdout, stderr });
    });
    child.stdin!.on('error', () => {});
    child.stdin!.end(options.input ?? '');
  });
}
