/**
 * `npm run bench`: real etcd and Quoin on this machine, the same shapes and the same load generator, in turns.
 * Prints medians and ratios; `--write` puts them into docs/perf.md.
 */
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { report } from './profile.ts';
import { profile, type Shape, startNodes, startRoles, usage } from './servers.ts';

const root = join(import.meta.dirname, '..', '..');
const cache = join(root, '.cache', 'bench');

interface Load {
  readonly workload: string;
  readonly conns: number;
  readonly clients: number;
}

interface Outcome {
  readonly perSecond: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly errors: number;
  readonly firstError?: string;
  readonly operations: number;
}

interface Measured extends Outcome {
  /** CPU seconds of all server processes for 1,000 operations. */
  readonly serverCpuPer1000: number;
  readonly residentBytes: number;
}

const loads: readonly Load[] = [
  { workload: 'put', conns: 1, clients: 1 },
  { workload: 'put', conns: 100, clients: 1000 },
  { workload: 'get', conns: 1, clients: 1 },
  { workload: 'get', conns: 100, clients: 1000 },
  { workload: 'get-serializable', conns: 100, clients: 1000 },
  { workload: 'range', conns: 10, clients: 10 },
];

const { values: options } = parseArgs({
  options: {
    rounds: { type: 'string', default: '3' },
    seconds: { type: 'string', default: '5' },
    /** Load before the clock starts, for compilers and caches of either side. */
    warmup: { type: 'string', default: '2' },
    shapes: { type: 'string', default: 'nodes,roles' },
    workloads: { type: 'string', default: loads.map((l) => `${l.workload}:${l.clients}`).join(',') },
    write: { type: 'boolean', default: false },
    /** Directory for CPU profiles of Quoin's processes, which are then summarised. Slows them down. */
    profile: { type: 'string' },
  },
});

/** The official Go client where Go is present, else our own. */
function loadGenerator(): { name: string; file: string; args: string[] } {
  const binary = join(cache, 'loadgen');
  const build = spawnSync('go', ['build', '-o', binary, '.'], {
    cwd: join(import.meta.dirname, 'loadgen'),
    stdio: ['ignore', 'inherit', 'inherit'],
  });
  if (build.error === undefined && build.status === 0) return { name: 'Go clientv3', file: binary, args: [] };
  process.stderr.write(
    'bench: Go is not here (or its modules are not); using the TypeScript client, which costs more CPU itself\n',
  );
  return {
    name: 'TypeScript client',
    file: process.execPath,
    args: [join(import.meta.dirname, 'loadgen.ts')],
  };
}

function runLoad(
  generator: ReturnType<typeof loadGenerator>,
  shape: Shape,
  load: Load,
  seconds = options.seconds,
): Promise<Outcome> {
  const args = [
    ...generator.args,
    `--endpoints=${shape.endpoints.join(',')}`,
    `--workload=${load.workload}`,
    `--conns=${load.conns}`,
    `--clients=${load.clients}`,
    `--seconds=${seconds}`,
  ];
  return new Promise((resolve, reject) => {
    const child = spawn(generator.file, args, { stdio: ['ignore', 'pipe', 'inherit'] });
    let out = '';
    child.stdout.on('data', (data: Buffer) => {
      out += data.toString();
    });
    child.on('error', reject);
    child.on('exit', (code) =>
      code === 0 ? resolve(JSON.parse(out)) : reject(new Error(`load generator ended with ${code}`)),
    );
  });
}

const median = (numbers: number[]): number =>
  numbers.sort((a, b) => a - b)[Math.floor(numbers.length / 2)] ?? Number.NaN;

async function measure(
  generator: ReturnType<typeof loadGenerator>,
  make: () => Promise<Shape>,
  load: Load,
): Promise<Measured> {
  const shape = await make();
  try {
    if (load.workload !== 'put') await runLoad(generator, shape, { workload: 'fill', conns: 8, clients: 64 });
    if (Number(options.warmup) > 0) await runLoad(generator, shape, load, options.warmup);
    const before = usage(shape.pids);
    const outcome = await runLoad(generator, shape, load);
    const after = usage(shape.pids);
    if (outcome.errors > 0)
      process.stderr.write(
        `bench: ${shape.name}, ${load.workload}: ${outcome.errors} errors, first: ${outcome.firstError}\n`,
      );
    return {
      ...outcome,
      serverCpuPer1000: ((after.cpuSeconds - before.cpuSeconds) / outcome.operations) * 1000,
      residentBytes: after.residentBytes,
    };
  } finally {
    await shape.stop();
  }
}

interface Contender {
  readonly name: string;
  make(): Promise<Shape>;
}

function contenders(): Contender[] {
  const list: Contender[] = [{ name: 'etcd', make: () => startNodes('etcd', 3, join(cache, 'etcd')) }];
  if (options.shapes.includes('nodes'))
    list.push({ name: 'quoin, 3 nodes', make: () => startNodes('quoin', 3, join(cache, 'nodes')) });
  if (options.shapes.includes('roles'))
    list.push({ name: 'quoin, 3 + 2', make: () => startRoles(3, 2, join(cache, 'roles')) });
  return list;
}

function table(results: Map<string, Map<string, Measured[]>>): string {
  const lines = [
    '| workload | server | op/s | ratio | p50 ms | p99 ms | server CPU s per 1,000 | RSS MiB |',
    '|---|---|---|---|---|---|---|---|',
  ];
  for (const [load, servers] of results) {
    const base = median(servers.get('etcd')!.map((m) => m.perSecond));
    for (const [server, runs] of servers) {
      const of = (pick: (m: Measured) => number): number => median(runs.map(pick));
      const ratio = server === 'etcd' ? '1' : `**${(of((m) => m.perSecond) / base).toFixed(2)}**`;
      lines.push(
        `| ${load} | ${server} | ${of((m) => m.perSecond).toFixed(0)} | ${ratio} | ${of((m) => m.p50Ms).toFixed(2)} | ` +
          `${of((m) => m.p99Ms).toFixed(2)} | ${of((m) => m.serverCpuPer1000).toFixed(3)} | ${(of((m) => m.residentBytes) / 2 ** 20).toFixed(0)} |`,
      );
    }
  }
  return lines.join('\n');
}

async function main(): Promise<void> {
  if (spawnSync('etcd', ['--version']).error !== undefined) {
    process.stderr.write("bench: there is no etcd to compare with; install Debian's etcd-server\n");
    process.exitCode = 1;
    return;
  }
  mkdirSync(cache, { recursive: true });
  if (options.profile !== undefined) profile(resolve(options.profile));
  const generator = loadGenerator();
  const etcdVersion = execFileSync('etcd', ['--version'], { encoding: 'utf8' }).split('\n')[0];
  const rounds = Number(options.rounds);
  const wanted = options.workloads.split(',');
  const results = new Map<string, Map<string, Measured[]>>();
  for (const load of loads.filter(
    (l) => wanted.includes(l.workload) || wanted.includes(`${l.workload}:${l.clients}`),
  )) {
    const name = `${load.workload}, ${load.clients} client${load.clients > 1 ? 's' : ''}`;
    const servers = new Map<string, Measured[]>();
    results.set(name, servers);
    for (let round = 1; round <= rounds; round++) {
      for (const contender of contenders()) {
        const measured = await measure(generator, contender.make, load);
        const runs = servers.get(contender.name) ?? [];
        runs.push(measured);
        servers.set(contender.name, runs);
        process.stderr.write(
          `${name}, round ${round}/${rounds}: ${contender.name} ${measured.perSecond.toFixed(0)}/s, p50 ${measured.p50Ms.toFixed(2)} ms\n`,
        );
      }
    }
  }
  const text = table(results);
  process.stdout.write(`${text}\n`);
  if (options.profile !== undefined) {
    for (const file of readdirSync(options.profile).sort()) report(join(options.profile, file));
  }
  if (options.write) writeReport(text, generator.name, etcdVersion ?? 'etcd', rounds);
}

function writeReport(text: string, generator: string, etcdVersion: string, rounds: number): void {
  const file = join(root, 'docs', 'perf.md');
  const begin = '<!-- bench:begin -->';
  const end = '<!-- bench:end -->';
  const section = [
    begin,
    `Made by \`npm run bench -- --rounds ${rounds} --seconds ${options.seconds} --write\`: ${etcdVersion}, 3 nodes each, fsync on, ${cpus().length} cores,`,
    `256-byte values, load by ${generator} on the same machine, ${options.warmup} s of warm-up, medians of ${rounds} rounds in turns.`,
    '',
    text,
    end,
  ].join('\n');
  const old = existsSync(file) ? readFileSync(file, 'utf8') : '';
  const at = old.indexOf(begin);
  const to = old.indexOf(end);
  writeFileSync(
    file,
    at >= 0 && to > at
      ? old.slice(0, at) + section + old.slice(to + end.length)
      : `${old.trimEnd()}\n\n${section}\n`,
  );
}

await main();
