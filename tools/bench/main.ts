/**
 * `npm run bench`: real etcd and Quoin on this machine, the same shapes and the same load generator, in turns.
 * Prints medians and ratios; `--write` puts them into docs/perf.json, docs/perf.md and docs/perf.svg.
 */
import { spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { type CertificateSet, makeCertificates } from '../../deploy/tls/make-certificates.ts';
import { findOracle } from '../../tests/compat/oracle.ts';
import { chart } from './chart.ts';
import { type Generator, loadGenerator, runLoad } from './load.ts';
import { reportAll } from './profile.ts';
import { floorTable, resultTable, section, withSection } from './report.ts';
import {
  type Measured,
  merge,
  type ProcessUse,
  type Row,
  ratiosOf,
  readRows,
  summarise,
  writeRows,
} from './results.ts';
import { type Secrets, type Shape, type Software, startNodes, startRoles } from './servers.ts';
import { watchUsage } from './usage.ts';
import {
  chooseShapes,
  chooseWorkloads,
  type ShapeId,
  shapes,
  type Workload,
  workloads,
} from './workloads.ts';

const root = join(import.meta.dirname, '..', '..');
const help = `npm run bench -- [flags]

  --workloads A,B    of ${workloads.map(({ id }) => id).join(', ')};
                     without the number: all of that kind
  --shapes A,B       one (one node each), nodes (3 nodes), roles (3 members + 2 gateways)
  --rounds N         turns of etcd and Quoin (5)
  --seconds S        measured, of each turn (5)
  --warmup S         load before the clock starts, for compilers and caches of either side (5)
  --quick            1 round of 2 s after 1 s
  --etcd FILE|3.7    which etcd (etcd on the path); 3.7 builds that one where Go is present
  --base DIR         another checkout of Quoin in the place of etcd: before and after a change
  --load go|typescript   which client makes the load (go where it is present)
  --write            put the results into docs/perf.json, docs/perf.md and docs/perf.svg
  --docs DIR         where these are (docs)
  --json FILE        every measurement of this run
  --profile DIR      CPU profiles of Quoin's processes into DIR, summarised by role; etcd is left out
`;

const { values: flags } = parseArgs({
  options: {
    help: { type: 'boolean', default: false },
    workloads: { type: 'string' },
    shapes: { type: 'string' },
    rounds: { type: 'string' },
    seconds: { type: 'string' },
    warmup: { type: 'string' },
    quick: { type: 'boolean', default: false },
    etcd: { type: 'string', default: 'etcd' },
    base: { type: 'string' },
    load: { type: 'string', default: 'go' },
    write: { type: 'boolean', default: false },
    docs: { type: 'string', default: join(root, 'docs') },
    json: { type: 'string' },
    profile: { type: 'string' },
  },
});

const number = (flag: string, given: string | undefined, otherwise: number, quick: number): number => {
  const value = given === undefined ? (flags.quick ? quick : otherwise) : Number(given);
  if (!(value >= 0)) throw new Error(`--${flag} ${given} is not a number of 0 or more`);
  return value;
};

interface Contender {
  readonly name: string;
  readonly side: 'etcd' | 'quoin';
  readonly shape: ShapeId;
  readonly software: Software;
}

interface Plan {
  readonly workloads: readonly Workload[];
  readonly shapes: readonly ShapeId[];
  readonly rounds: number;
  readonly seconds: number;
  readonly warmup: number;
  readonly generator: Generator;
  readonly other: Software;
  readonly version: string;
  readonly cache: string;
}

const stopping = new AbortController();

/** @throws Error for a flag that says nothing. */
function plan(): Plan {
  const chosen = chooseWorkloads(flags.workloads);
  const chosenShapes = chooseShapes(flags.shapes);
  const rounds = number('rounds', flags.rounds, 5, 1);
  if (!Number.isInteger(rounds) || rounds < 1) throw new Error('--rounds is a whole number from 1 on');
  if (flags.load !== 'go' && flags.load !== 'typescript') throw new Error('--load is go or typescript');
  const seconds = number('seconds', flags.seconds, 5, 2);
  const warmup = number('warmup', flags.warmup, 5, 1);
  if (flags.base !== undefined && flags.write)
    throw new Error('--write takes results beside etcd, not with --base');
  const cache = join(root, '.cache', 'bench', String(process.pid));
  const other: Software =
    flags.base === undefined
      ? { kind: 'etcd', binary: flags.etcd === '3.7' ? builtEtcd() : flags.etcd }
      : { kind: 'quoin', tree: resolve(flags.base) };
  const version = versionOf(other);
  mkdirSync(join(root, '.cache', 'bench'), { recursive: true });
  const generator = loadGenerator(flags.load, join(root, '.cache', 'bench'));
  return {
    workloads: chosen,
    shapes: chosenShapes,
    rounds,
    seconds,
    warmup,
    generator,
    other,
    version,
    cache,
  };
}

/** The one that the comparison tests build. */
function builtEtcd(): string {
  const oracle = findOracle('3.7');
  if (oracle === undefined) throw new Error('etcd 3.7 could not be built');
  return oracle.binary;
}

function versionOf(software: Software): string {
  if (software.kind === 'quoin') {
    if (!existsSync(join(software.tree, 'apps', 'quoin')))
      throw new Error(`${software.tree} is not a checkout of Quoin`);
    return `Quoin in ${software.tree}`;
  }
  if (flags.profile !== undefined) return 'etcd';
  const { error, stdout } = spawnSync(software.binary, ['--version'], { encoding: 'utf8' });
  if (error !== undefined)
    throw new Error(
      `there is no etcd to compare with (${error.message}); install Debian's etcd-server or name one by --etcd`,
    );
  return stdout.split('\n')[0]!.replace(' Version:', '');
}

/** Who takes a turn in each round: of each size of etcd one, and behind it Quoin's shapes of that size. */
function contenders({ shapes: chosen, other }: Plan, workload: Workload): Contender[] {
  const profile =
    flags.profile === undefined
      ? {}
      : { profile: { dir: resolve(flags.profile), prefix: workload.id.replace(':', '-') } };
  const software: Software = { kind: 'quoin', tree: root, ...profile };
  const list: Contender[] = [];
  for (const shape of chosen) {
    const { title, etcdNodes } = shapes[shape];
    // Another checkout has the same shapes; etcd's 3 nodes stand beside both of Quoin's.
    const there = list.some(
      (each) => each.side === 'etcd' && shapes[each.shape].etcdNodes === etcdNodes && other.kind === 'etcd',
    );
    if (!there && flags.profile === undefined) {
      const name =
        other.kind === 'etcd' ? `etcd, ${etcdNodes} node${etcdNodes > 1 ? 's' : ''}` : `base, ${title}`;
      list.push({ name, side: 'etcd', shape, software: other });
    }
    list.push({ name: `quoin, ${title}`, side: 'quoin', shape, software });
  }
  return list;
}

function start({ software, shape }: Contender, dir: string, secrets: Secrets): Promise<Shape> {
  if (software.kind === 'quoin' && shape === 'roles') return startRoles(software, 3, 2, dir, secrets);
  return startNodes(software, shapes[shape].etcdNodes, dir, secrets);
}

function certificatesFor(plan: Plan, workload: Workload): CertificateSet | undefined {
  if (!workload.tls) return undefined;
  return makeCertificates(`${plan.cache}-certificates`, { hosts: ['127.0.0.1'], clients: ['root'] });
}

/** A key made for this run. */
function keyFileFor(plan: Plan, workload: Workload): string | undefined {
  if (!workload.encrypted) return undefined;
  const path = `${plan.cache}-keys`;
  if (!existsSync(path))
    writeFileSync(path, `bench ${randomBytes(32).toString('base64')}\n`, { mode: 0o600 });
  return path;
}

/** What was made for this run beside what each shape removes itself. */
function tidy({ cache }: Plan): void {
  rmSync(`${cache}-certificates`, { recursive: true, force: true });
  rmSync(`${cache}-keys`, { force: true });
}

async function measure(plan: Plan, contender: Contender, workload: Workload): Promise<Measured> {
  const certificates = certificatesFor(plan, workload);
  const keyFile = keyFileFor(plan, workload);
  const shape = await start(contender, plan.cache, { certificates, keyFile });
  try {
    let stopUsage: (() => ProcessUse[]) | undefined;
    let processes: ProcessUse[] = [];
    const outcome = await runLoad(plan.generator, shape.endpoints, workload, {
      seconds: plan.seconds,
      warmup: plan.warmup,
      signal: stopping.signal,
      certificates,
      onStart: () => {
        stopUsage = watchUsage(shape.processes);
      },
      onStop: () => {
        processes = stopUsage?.() ?? [];
      },
    });
    if (outcome.errors > 0)
      say(`  ${contender.name}: ${outcome.errors} errors, first: ${outcome.firstError}`);
    return { ...outcome, processes };
  } finally {
    await shape.stop();
  }
}

const say = (line: string): void => {
  process.stderr.write(`${line}\n`);
};

function duration(ms: number): string {
  const seconds = Math.round(ms / 1000);
  return seconds < 90 ? `${seconds} s` : `${Math.round(seconds / 60)} min`;
}

/** All rounds of one workload; a turn that fails (twice) is told and leaves its shape without a row. */
async function runWorkload(
  plan: Plan,
  workload: Workload,
  progress: Progress,
): Promise<Map<string, Measured[]>> {
  const taking = contenders(plan, workload);
  const runs = new Map<string, Measured[]>(taking.map(({ name }) => [name, []]));
  for (let round = 1; round <= plan.rounds; round++) {
    for (const contender of taking) {
      const measured = await measure(plan, contender, workload).catch((error: Error) => {
        if (stopping.signal.aborted) throw error;
        say(`  ${contender.name}: ${error.message}; once more`);
        return measure(plan, contender, workload);
      });
      runs.get(contender.name)!.push(measured);
      const { perSecond, p50Ms, p99Ms } = measured;
      say(
        `${workload.id}, round ${round}/${plan.rounds}: ${contender.name} ${perSecond.toFixed(0)}/s, ` +
          `p50 ${p50Ms.toFixed(2)} ms, p99 ${p99Ms.toFixed(2)} ms (${progress.step()})`,
      );
    }
  }
  return runs;
}

class Progress {
  private readonly total: number;
  private readonly startedAt = Date.now();
  private done = 0;

  constructor(total: number) {
    this.total = total;
  }

  /** One turn is over. */
  step(): string {
    this.done++;
    const each = (Date.now() - this.startedAt) / this.done;
    return `${this.done}/${this.total}, about ${duration(each * (this.total - this.done))} left`;
  }
}

function rowsOf(plan: Plan, workload: Workload, runs: ReadonlyMap<string, Measured[]>): Row[] {
  const taking = contenders(plan, workload);
  return taking
    .filter(({ side }) => side === 'quoin')
    .map((contender): Row => {
      const beside = taking.find(
        ({ side, shape, software }) =>
          side === 'etcd' &&
          (software.kind === 'etcd'
            ? shapes[shape].etcdNodes === shapes[contender.shape].etcdNodes
            : shape === contender.shape),
      )!;
      const etcd = runs.get(beside.name)!;
      const quoin = runs.get(contender.name)!;
      return {
        workload: workload.id,
        shape: contender.shape,
        date: new Date().toISOString(),
        command: commandLine(plan),
        version: plan.version,
        generator: plan.generator.name,
        cores: cpus().length,
        rounds: plan.rounds,
        etcd: summarise(etcd),
        quoin: summarise(quoin),
        ratios: ratiosOf(etcd, quoin),
      };
    });
}

/** What makes these figures again; not which workloads, which each row says itself. */
function commandLine({ rounds, seconds, warmup }: Plan): string {
  return `npm run bench -- --rounds ${rounds} --seconds ${seconds} --warmup ${warmup}`;
}

function write(rows: readonly Row[]): void {
  const json = join(flags.docs, 'perf.json');
  const markdown = join(flags.docs, 'perf.md');
  const all = merge(readRows(json), rows);
  mkdirSync(flags.docs, { recursive: true });
  writeRows(json, all);
  writeFileSync(join(flags.docs, 'perf.svg'), chart(all));
  const old = existsSync(markdown) ? readFileSync(markdown, 'utf8') : '# Performance\n';
  writeFileSync(markdown, withSection(old, section(all)));
}

async function main(): Promise<void> {
  if (flags.help) {
    process.stdout.write(help);
    return;
  }
  const made = plan();
  const turns = made.workloads.reduce((sum, each) => sum + contenders(made, each).length * made.rounds, 0);
  say(`${made.version}; load by ${made.generator.name}; ${turns} turns`);
  const progress = new Progress(turns);
  const rows: Row[] = [];
  const measurements: { workload: string; contender: string; runs: Measured[] }[] = [];
  let failed = 0;
  process.once('exit', () => tidy(made));
  for (const workload of made.workloads) {
    try {
      const runs = await runWorkload(made, workload, progress);
      for (const [contender, of] of runs) measurements.push({ workload: workload.id, contender, runs: of });
      if (flags.profile === undefined) rows.push(...rowsOf(made, workload, runs));
    } catch (error) {
      if (stopping.signal.aborted) break;
      failed++;
      say(`bench: ${workload.id} could not be measured: ${(error as Error).message}`);
    }
    // After each workload: a run that is ended early keeps what it has.
    if (flags.write && rows.length > 0) write(rows);
    if (flags.json !== undefined)
      writeFileSync(flags.json, `${JSON.stringify({ rows, measurements }, null, 1)}\n`);
  }
  if (rows.length > 0) process.stdout.write(`${resultTable(rows)}\n\n${floorTable(rows)}\n`);
  if (flags.profile !== undefined) reportAll(resolve(flags.profile));
  if (failed > 0 || stopping.signal.aborted) process.exitCode = 1;
}

for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => stopping.abort());

try {
  await main();
} catch (error) {
  say(`bench: ${(error as Error).message}`);
  process.exitCode = 1;
}
