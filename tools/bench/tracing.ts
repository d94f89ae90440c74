#!/usr/bin/env node
/**
 * What tracing costs: puts of 1,000 clients to 3 members + 2 gateways with tracing off, at 1 % and at 100 %, in turns of one
 * run, each a fresh cluster. A collector in this process takes the spans and throws them away.
 *
 *     node tools/bench/tracing.ts --rounds 5 --base ../before-tracing
 *     node tools/bench/tracing.ts --side-by-side --variants off,100    on a machine that others use, too
 */
import { mkdirSync, rmSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { tracingFlags } from '../../tests/support/collector.ts';
import { BlindCollector } from './blind-collector.ts';
import { type Generator, loadGenerator, runLoad } from './load.ts';
import { reportAll } from './profile.ts';
import { median } from './results.ts';
import { startRoles } from './servers.ts';
import { watchUsage } from './usage.ts';
import { chooseWorkloads, type Workload } from './workloads.ts';

const help = `node tools/bench/tracing.ts [flags]

  --workload W       of npm run bench (put:1000)
  --rounds N         turns of each variant (5)
  --seconds S        measured, of each turn (4)
  --warmup S         load before the clock starts (2)
  --variants A,B     of off, 1, 10, 100: percent of requests that are sampled (off,1,100)
  --side-by-side     the variants of a round at the same time, so that whatever else the machine does is the same for
                     all: compare the CPU of a put, not the rates
  --base DIR         also a checkout of Quoin before tracing, with tracing off
  --load go|typescript   which client makes the load (go where it is present)
  --profile DIR      CPU profiles of the processes into DIR, summarised by role
`;

const root = join(import.meta.dirname, '..', '..');
const { values: flags } = parseArgs({
  options: {
    help: { type: 'boolean', default: false },
    workload: { type: 'string', default: 'put:1000' },
    rounds: { type: 'string', default: '5' },
    seconds: { type: 'string', default: '4' },
    warmup: { type: 'string', default: '2' },
    variants: { type: 'string', default: 'off,1,100' },
    'side-by-side': { type: 'boolean', default: false },
    base: { type: 'string' },
    load: { type: 'string', default: 'go' },
    profile: { type: 'string' },
  },
});

interface Turn {
  readonly perSecond: number;
  readonly p99Ms: number;
  /** Of all servers. */
  readonly cpuUs: number;
  readonly peakMiB: number;
  readonly spanBytes: number;
}

interface Variant {
  readonly name: string;
  readonly tree: string;
  /** Percent; undefined: off. */
  readonly sampled: number | undefined;
}

const say = (line: string): void => void process.stderr.write(`${line}\n`);
const stopping = new AbortController();

function variants(): Variant[] {
  const chosen = flags.variants.split(',').map((text): Variant => {
    if (text === 'off') return { name: 'off', tree: root, sampled: undefined };
    const sampled = Number(text);
    if (!(sampled >= 0 && sampled <= 100)) throw new Error(`--variants ${text}: must be off or a percentage`);
    return { name: `${text} %`, tree: root, sampled };
  });
  if (flags.base !== undefined)
    chosen.unshift({ name: 'before', tree: resolve(flags.base), sampled: undefined });
  return chosen;
}

/** One turn of a variant on a cluster of its own. */
async function measure(variant: Variant, workload: Workload, generator: Generator): Promise<Turn> {
  const collector = new BlindCollector();
  await collector.start();
  const dir = join(root, '.cache', 'bench', `tracing-${process.pid}-${variant.name.replace(/\W/g, '')}`);
  const tracing = tracingFlags(collector.address, (variant.sampled ?? 0) * 10_000);
  const profile = flags.profile;
  const shape = await startRoles(
    {
      kind: 'quoin',
      tree: variant.tree,
      ...(variant.sampled === undefined ? {} : { flags: tracing }),
      ...(profile === undefined
        ? {}
        : { profile: { dir: resolve(profile), prefix: `tracing-${variant.name.replace(/\W/g, '')}` } }),
    },
    3,
    2,
    dir,
  );
  try {
    let stopUsage: ReturnType<typeof watchUsage> | undefined;
    let cpuSeconds = 0;
    let peakBytes = 0;
    let spansBefore = 0;
    let spans = 0;
    const outcome = await runLoad(generator, shape.endpoints, workload, {
      seconds: Number(flags.seconds),
      warmup: Number(flags.warmup),
      signal: stopping.signal,
      certificates: undefined,
      onStart: () => {
        stopUsage = watchUsage(shape.processes);
        spansBefore = collector.bytes;
      },
      onStop: () => {
        for (const use of stopUsage?.() ?? []) {
          cpuSeconds += use.cpuSeconds;
          peakBytes += use.peakBytes;
        }
        spans = collector.bytes - spansBefore;
      },
    });
    const operations = outcome.operations;
    return {
      perSecond: outcome.perSecond,
      p99Ms: outcome.p99Ms,
      cpuUs: (cpuSeconds * 1e6) / operations,
      peakMiB: peakBytes / 2 ** 20,
      spanBytes: spans / operations,
    };
  } finally {
    await shape.stop();
    collector.stop();
    rmSync(dir, { recursive: true, force: true });
  }
}

/** Variants begin in another order each round: whatever the machine does over time counts for none of them. */
function rotated<T>(list: readonly T[], by: number): T[] {
  const at = by % list.length;
  return [...list.slice(at), ...list.slice(0, at)];
}

function table(taking: readonly Variant[], turns: ReadonlyMap<string, Turn[]>): string {
  const off = turns.get('off') ?? turns.get(taking[0]!.name)!;
  const of = (name: string, what: keyof Turn): number => median(turns.get(name)!.map((turn) => turn[what]));
  const rows = taking.map(({ name }) => {
    const ratios = turns.get(name)!.map((turn, i) => turn.perSecond / off[i]!.perSecond);
    const cpuRatios = turns.get(name)!.map((turn, i) => turn.cpuUs / off[i]!.cpuUs);
    const spread = `${Math.min(...ratios).toFixed(3)}–${Math.max(...ratios).toFixed(3)}`;
    return (
      `| ${name} | ${of(name, 'perSecond').toFixed(0)} | **${median(ratios).toFixed(3)}** | ${spread} | ` +
      `${of(name, 'p99Ms').toFixed(0)} | ${of(name, 'cpuUs').toFixed(1)} | **${median(cpuRatios).toFixed(3)}** | ${of(name, 'peakMiB').toFixed(0)} | ` +
      `${of(name, 'spanBytes').toFixed(0)} |`
    );
  });
  return [
    '| sampled | put/s | to off | least–most | p99 ms | servers’ CPU µs/put | to off | servers’ peak MiB | exported bytes/put |',
    '|---|---|---|---|---|---|---|---|---|',
    ...rows,
  ].join('\n');
}

async function main(): Promise<void> {
  if (flags.help) {
    process.stdout.write(help);
    return;
  }
  const taking = variants();
  const [workload] = chooseWorkloads(flags.workload);
  const cache = join(root, '.cache', 'bench');
  mkdirSync(cache, { recursive: true });
  const generator = loadGenerator(flags.load, cache);
  const turns = new Map<string, Turn[]>(taking.map(({ name }) => [name, []]));
  for (let round = 0; round < Number(flags.rounds); round++) {
    const one = async (variant: Variant): Promise<void> => {
      const turn = await measure(variant, workload!, generator);
      turns.get(variant.name)!.push(turn);
      say(
        `round ${round + 1}/${flags.rounds}: ${variant.name} ${turn.perSecond.toFixed(0)}/s, ` +
          `CPU ${turn.cpuUs.toFixed(1)} µs, ${turn.spanBytes.toFixed(0)} bytes of spans per put`,
      );
    };
    if (flags['side-by-side']) await Promise.all(rotated(taking, round).map(one));
    else for (const variant of rotated(taking, round)) await one(variant);
  }
  process.stdout.write(`${table(taking, turns)}\n`);
  if (flags.profile !== undefined) reportAll(resolve(flags.profile));
}

for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => stopping.abort());

try {
  await main();
} catch (error) {
  say(`bench: ${(error as Error).message}`);
  process.exitCode = 1;
}
