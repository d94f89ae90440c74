/** Debian's etcdctl (3.4) as the client that judges us. */
import { type ChildProcessWithoutNullStreams, spawn, spawnSync } from 'node:child_process';

export const hasEtcdctl: boolean = spawnSync('etcdctl', ['version']).error === undefined;
if (!hasEtcdctl)
  process.stderr.write("skipped: comparison with etcdctl; install Debian's etcd-client for it\n");

export interface Output {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

const timeoutMsDefault = 20_000;

function environment(): NodeJS.ProcessEnv {
  const env: NodeJS.ProcessEnv = { ...process.env, ETCDCTL_API: '3' };
  delete env['ETCDCTL_ENDPOINTS'];
  return env;
}

/** Runs to the end and tells what came out; `input` is its standard input. */
export function etcdctl(
  endpoints: readonly string[],
  args: readonly string[],
  options: { readonly input?: string; readonly timeoutMs?: number } = {},
): Promise<Output> {
  return new Promise((resolve, reject) => {
    const child = spawn('etcdctl', [`--endpoints=${endpoints.join(',')}`, ...args], { env: environment() });
    const limit = setTimeout(() => child.kill('SIGKILL'), options.timeoutMs ?? timeoutMsDefault);
    let stdout = '';
    let stderr = '';
    child.stdout.on('data', (data: Buffer) => {
      stdout += data.toString();
    });
    child.stderr.on('data', (data: Buffer) => {
      stderr += data.toString();
    });
    child.on('error', reject);
    child.on('close', (code) => {
      clearTimeout(limit);
      resolve({ code: code ?? -1, stdout, stderr });
    });
    child.stdin.on('error', () => {});
    child.stdin.end(options.input ?? '');
  });
}

/** One that runs until it is told to stop: watch, keep-alive, make-mirror. */
export class RunningEtcdctl {
  stdout = '';
  stderr = '';
  private readonly child: ChildProcessWithoutNullStreams;
  private readonly ended: Promise<void>;

  constructor(endpoints: readonly string[], args: readonly string[]) {
    this.child = spawn('etcdctl', [`--endpoints=${endpoints.join(',')}`, ...args], { env: environment() });
    this.child.stdout.on('data', (data: Buffer) => {
      this.stdout += data.toString();
    });
    this.child.stderr.on('data', (data: Buffer) => {
      this.stderr += data.toString();
    });
    this.ended = new Promise((resolve) => {
      this.child.on('close', () => resolve());
      this.child.on('error', () => resolve());
    });
  }

  get running(): boolean {
    return this.child.exitCode === null && this.child.signalCode === null;
  }

  async stop(): Promise<void> {
    if (this.running) this.child.kill('SIGKILL');
    await this.ended;
  }
}
