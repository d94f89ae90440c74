/** The load generator as a process of its own: the official Go client where Go is present, else our own. */
import { spawn, spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { CertificateSet } from '../../deploy/tls/make-certificates.ts';
import type { Outcome } from './results.ts';
import type { Workload } from './workloads.ts';

export interface Generator {
  readonly name: string;
  readonly file: string;
  readonly args: readonly string[];
}

const buildLimitMs = 300_000;

const typescript: Generator = {
  name: 'TypeScript client',
  file: process.execPath,
  args: [join(import.meta.dirname, 'loadgen.ts')],
};

/** Builds the Go one into `cache`; `typescript` asks for the other. */
export function loadGenerator(wanted: string, cache: string): Generator {
  if (wanted === 'typescript') return typescript;
  const binary = join(cache, 'loadgen');
  const build = spawnSync('go', ['build', '-o', binary, '.'], {
    cwd: join(import.meta.dirname, 'loadgen'),
    stdio: ['ignore', 'inherit', 'inherit'],
    timeout: buildLimitMs,
  });
  if (build.error === undefined && build.status === 0) return { name: 'Go clientv3', file: binary, args: [] };
  process.stderr.write(
    'bench: Go is not here (or its modules are not); using the TypeScript client, which costs more CPU itself\n',
  );
  return typescript;
}

export interface LoadOptions {
  readonly seconds: number;
  readonly warmup: number;
  /** For a workload over TLS. */
  readonly certificates: CertificateSet | undefined;
  /** The clock starts: keys are there, watchers are open, clients are warm. */
  onStart(): void;
  /** The clock has stopped; the generator may still be at work. */
  onStop(): void;
  readonly signal: AbortSignal;
}

export function runLoad(
  generator: Generator,
  endpoints: readonly string[],
  workload: Workload,
  options: LoadOptions,
): Promise<Outcome> {
  const { certificates } = options;
  const args = [
    ...generator.args,
    ...(certificates === undefined
      ? []
      : [
          `--cacert=${certificates.file('ca')}`,
          `--cert=${certificates.file('root')}`,
          `--key=${certificates.file('root', 'key')}`,
        ]),
    `--endpoints=${endpoints.join(',')}`,
    `--workload=${workload.load}`,
    `--conns=${workload.conns}`,
    `--clients=${workload.clients}`,
    `--value-size=${workload.valueBytes}`,
    `--keys=${workload.keys}`,
    `--seconds=${options.seconds}`,
    `--warmup=${options.warmup}`,
    ...(workload.fill ? ['--fill'] : []),
  ];
  return new Promise((resolve, reject) => {
    const child = spawn(generator.file, args, {
      stdio: ['ignore', 'pipe', 'inherit'],
      signal: options.signal,
      killSignal: 'SIGKILL',
    });
    let outcome: Outcome | undefined;
    createInterface({ input: child.stdout }).on('line', (line) => {
      const said = JSON.parse(line) as Outcome | { readonly started: true };
      if ('started' in said) return options.onStart();
      options.onStop();
      outcome = said;
    });
    child.on('error', reject);
    child.on('close', (code, signal) => {
      if (outcome !== undefined && outcome.operations > 0) resolve(outcome);
      else if (outcome !== undefined)
        reject(new Error(`no operation succeeded; first error: ${outcome.firstError ?? 'none'}`));
      else reject(new Error(`the load generator ended with ${signal ?? code}`));
    });
  });
}
