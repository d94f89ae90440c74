#!/usr/bin/env node
/**
 * `npm run scaling`: what one operation costs each role in CPU with 1, 2 and 4 gateways, and what follows: where each
 * role saturates, and the fleet for a number of operations a second. The tables of docs/operating/scaling.md.
 *
 *     npm run scaling -- [--gateways 1,2,4] [--workloads get:1000,put:1000] [--seconds 5] [--target 1000000]
 *
 * CPU is read from /proc, so it does not matter that all processes share the cores of one machine: what is predicted
 * for more machines is CPU alone, and needs a network that carries it.
 */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { repositoryRoot } from '../tests/support/child.ts';
import { startCluster } from '../tests/support/cluster.ts';
import { leaderOf } from '../tests/support/state.ts';
import { type Generator, loadGenerator, runLoad } from './bench/load.ts';
import { chooseWorkloads, type Workload } from './bench/workloads.ts';
import { cpuSeconds } from './scale/process-memory.ts';

const { values } = parseArgs({
  options: {
    gateways: { type: 'string', default: '1,2,4' },
    workloads: { type: 'string', default: 'get:1,get:1000,get:16000,put:1000' },
    seconds: { type: 'string', default: '5' },
    target: { type: 'string', default: '1000000' },
    generator: { type: 'string', default: 'go' },
  },
});

/** Microseconds of CPU for one operation. */
interface Cost {
  /** The load generator's word: get or put. */
  readonly load: string;
  readonly workload: string;
  readonly gateways: number;
  readonly perSecond: number;
  /** All gateways together. */
  readonly gateway: number;
  readonly leader: number;
  /** All followers together. */
  readonly followers: number;
}

const warmupSeconds = 2;
/** How busy a core may be for short delays; above it queues grow. */
const busy = 0.7;
const voters = 3;

async function measure(
  generator: Generator,
  workload: Workload,
  gateways: number,
  seconds: number,
): Promise<Cost> {
  const cluster = await startCluster({ members: voters, gateways });
  const abort = new AbortController();
  try {
    let before: number[] = [];
    let after: number[] = [];
    const processes = [...cluster.members, ...cluster.gateways];
    const read = (): number[] => processes.map(({ pid }) => cpuSeconds(pid!));
    const outcome = await runLoad(generator, cluster.endpoints, workload, {
      seconds,
      warmup: warmupSeconds,
      certificates: undefined,
      onStart: () => {
        before = read();
      },
      onStop: () => {
        after = read();
      },
      signal: abort.signal,
    });
    const micros = after.map((value, i) => ((value - before[i]!) * 1e6) / outcome.operations);
    const leader = await leaderOf(cluster.members.map(({ peerUrl }) => peerUrl));
    const sum = (numbers: readonly number[]): number => numbers.reduce((total, each) => total + each, 0);
    return {
      load: workload.load,
      workload: workload.title,
      gateways,
      perSecond: outcome.perSecond,
      gateway: sum(micros.slice(voters)),
      leader: micros[leader]!,
      followers: sum(micros.slice(0, voters)) - micros[leader]!,
    };
  } finally {
    abort.abort();
    await cluster.stop();
  }
}

const round = (value: number): string => (value >= 100 ? value.toFixed(0) : value.toFixed(1));
const thousands = (value: number): string => `${(value / 1_000).toFixed(0)}k`;

function print(costs: readonly Cost[], target: number): void {
  const rows = costs.map(
    ({ workload, gateways, perSecond, gateway, leader, followers }) =>
      `| ${workload} | ${gateways} | ${thousands(perSecond)} | ${round(gateway)} | ${round(leader)} | ${round(followers)} | ${round(leader + followers)} |`,
  );
  process.stdout.write(
    [
      '| operation | gateways | a second here | gateways µs | leader µs | followers µs | members µs |',
      '|---|---|---|---|---|---|---|',
      ...rows,
      '',
      ...model(costs, target),
      '',
    ].join('\n'),
  );
}

/** Where a gateway had most to do: batches are largest there, as they are when it saturates. */
function busiest(costs: readonly Cost[], load: string): Cost | undefined {
  const of = costs.filter((cost) => cost.load === load);
  return of.sort((a, b) => b.perSecond / b.gateways - a.perSecond / a.gateways)[0];
}

/**
 * A process does its work on one core, and that core may be busy for so much of the time. Reads are shared by gateways,
 * and by the members that they read from; a write is the leader's, and each follower's.
 */
function model(costs: readonly Cost[], target: number): string[] {
  const lines = [`| process | operation | saturates at | at ${busy * 100} % |`, '|---|---|---|---|'];
  const row = (process: string, what: string, micros: number): void => {
    const full = 1e6 / micros;
    lines.push(`| ${process} | ${what} | ${thousands(full)}/s | ${thousands(full * busy)}/s |`);
  };
  const [read, put] = [busiest(costs, 'get'), busiest(costs, 'put')];
  if (read !== undefined) {
    row('gateway', 'linearizable get', read.gateway);
    row('member, of each that is read from', 'linearizable get', read.leader + read.followers);
  }
  if (put !== undefined) {
    row('gateway', 'put', put.gateway);
    row('leader', 'put', put.leader);
    row('follower', 'put', put.followers / (voters - 1));
  }
  if (read === undefined) return lines;
  const processes = (micros: number): number => Math.ceil((target * micros) / 1e6 / busy);
  const members = processes(read.leader + read.followers);
  lines.push(
    '',
    `Fleet for ${thousands(target)} reads a second, no core busier than ${busy * 100} %: ${processes(read.gateway)} gateways, and ${members} members (voters or learners) that they read from.`,
  );
  return lines;
}

const counts = values.gateways.split(',').map(Number);
const seconds = Number(values.seconds);
const target = Number(values.target);
if (!counts.every((count) => Number.isInteger(count) && count > 0) || !(seconds > 0) || !(target > 0)) {
  process.stderr.write(
    'scaling: --gateways must be numbers from 1, --seconds and --target numbers above 0\n',
  );
  process.exit(2);
}
const cache = join(repositoryRoot, '.cache', 'bench');
mkdirSync(cache, { recursive: true });
const generator = loadGenerator(values.generator, cache);
process.stdout.write(`load: ${generator.name}, ${seconds} s each\n\n`);
const costs: Cost[] = [];
for (const workload of chooseWorkloads(values.workloads)) {
  for (const gateways of counts) costs.push(await measure(generator, workload, gateways, seconds));
}
print(costs, target);
