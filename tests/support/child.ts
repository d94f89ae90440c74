/** One process of the product under test: started, watched, killed, never left behind. */
import { type ChildProcess, spawn } from 'node:child_process';
import { join, resolve } from 'node:path';
import { createInterface } from 'node:readline';

export const repositoryRoot: string = join(import.meta.dirname, '..', '..');

export interface ChildOptions {
  /** Prefix of its log lines, and its name in errors. */
  readonly name: string;
  /** Entry point, absolute or relative to the repository. */
  readonly script?: string;
  /** Or a program on the path, such as `etcd`. */
  readonly command?: string;
  readonly args: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  /** The line that tells that it serves. */
  readonly readyText: string;
  readonly onLine?: ((name: string, line: string) => void) | undefined;
  /** The process is gone, and nobody asked for it. */
  readonly onDeath?: ((name: string, how: string) => void) | undefined;
}

const compileCache = join(repositoryRoot, '.cache', 'compile');

/** Lines kept for error messages and for tests that look at logs. */
const keptLines = 5_000;
const shownLines = 15;

/**
 * Runs on the very Node that runs this. The child has an IPC channel, which it takes as a sign of life: when this
 * process ends, however that happens, the child does too. It is in a group of its own, so that a terminal's Ctrl-C
 * reaches only the one who starts and stops things in order.
 */
export class Child {
  readonly name: string;
  private readonly options: ChildOptions;
  private process: ChildProcess | undefined;
  private exit: Promise<string> = Promise.resolve('never started');
  private lines: string[] = [];
  private wanted = false;
  private readyNow = false;
  private waiters: ((problem: string | undefined) => void)[] = [];

  constructor(options: ChildOptions) {
    this.name = options.name;
    this.options = options;
  }

  get pid(): number | undefined {
    return this.process?.pid;
  }

  get running(): boolean {
    return this.process !== undefined;
  }

  /** What it has written since its last start, oldest first. */
  logs(): readonly string[] {
    return this.lines;
  }

  /** `more`: further flags, for this life alone. */
  start(more: readonly string[] = []): void {
    if (this.process !== undefined) throw new Error(`${this.name} runs already`);
    const { script, command = process.execPath, args, env } = this.options;
    const own = script === undefined ? [] : [resolve(repositoryRoot, script)];
    const child = spawn(command, [...own, ...args, ...more], {
      cwd: repositoryRoot,
      detached: true,
      // Sources are stripped of their types at each start; the cache halves that.
      env: { ...cleanEnvironment(), NODE_COMPILE_CACHE: compileCache, ...env },
      stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
    });
    this.process = child;
    this.lines = [];
    this.wanted = true;
    this.readyNow = false;
    for (const stream of [child.stdout!, child.stderr!]) {
      createInterface({ input: stream }).on('line', (line) => this.take(line));
    }
    // Not 'exit': the last lines arrive up to 'close'.
    this.exit = new Promise((resolve) => {
      child.once('error', (error) => resolve(error.message));
      child.once('close', (code, signal) => resolve(signal ?? `exit code ${code}`));
    });
    void this.exit.then((how) => this.gone(child, how));
  }

  /** Resolves when the ready line was seen. Rejects, with the last lines, when the process ends or the time is over. */
  ready(timeoutMs: number): Promise<void> {
    if (this.readyNow) return Promise.resolve();
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => done(`was not ready after ${timeoutMs} ms`), timeoutMs);
      const done = (problem: string | undefined): void => {
        clearTimeout(timer);
        if (problem === undefined) resolve();
        else reject(new Error(`${this.name} ${problem}; its last lines:\n${this.tail()}`));
      };
      this.waiters.push(done);
      if (this.process === undefined) this.wake('does not run');
    });
  }

  /** Sends a signal; for those that end a process, waits until it is gone. Tells how it ended. */
  async kill(signal: NodeJS.Signals = 'SIGKILL'): Promise<string | undefined> {
    const child = this.process;
    if (child === undefined) return undefined;
    const ends = signal !== 'SIGSTOP' && signal !== 'SIGCONT' && signal !== 'SIGUSR1' && signal !== 'SIGUSR2';
    if (ends) this.wanted = false;
    child.kill(signal);
    return ends ? await this.exit : undefined;
  }

  /** SIGTERM, then SIGKILL after the bound. */
  async stop(timeoutMs = 10_000): Promise<string | undefined> {
    const child = this.process;
    if (child === undefined) return undefined;
    const timer = setTimeout(() => {
      child.kill('SIGCONT');
      child.kill('SIGKILL');
    }, timeoutMs);
    // One that is stopped would not see the signal before it goes on.
    child.kill('SIGCONT');
    const how = await this.kill('SIGTERM');
    clearTimeout(timer);
    return how;
  }

  private take(line: string): void {
    this.lines.push(line);
    if (this.lines.length > keptLines) this.lines.splice(0, this.lines.length - keptLines / 2);
    if (!this.readyNow && line.includes(this.options.readyText)) {
      this.readyNow = true;
      this.wake(undefined);
    }
    this.options.onLine?.(this.name, line);
  }

  private gone(child: ChildProcess, how: string): void {
    if (this.process !== child) return;
    this.process = undefined;
    this.readyNow = false;
    this.wake(`ended (${how})`);
    if (this.wanted) this.options.onDeath?.(this.name, how);
  }

  private wake(problem: string | undefined): void {
    for (const waiter of this.waiters.splice(0)) waiter(problem);
  }

  private tail(): string {
    return this.lines.slice(-shownLines).join('\n');
  }
}

/** Without what would change the flags of the product, or make a child believe it is part of the test runner. */
function cleanEnvironment(): NodeJS.ProcessEnv {
  const env = { ...process.env };
  for (const name of Object.keys(env)) {
    if (/^(ETCD_|QUOIN_|OTEL_|VITEST|NODE_OPTIONS$|NODE_CHANNEL)/.test(name)) delete env[name];
  }
  return env;
}
