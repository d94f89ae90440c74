/**
 * `npm run compat -- --ops 50000 --seed 1 [--oracle 3.7|3.4] [--shapes node,cluster]`: random requests to real etcd and
 * to Quoin, every answer compared. `--fuzz 300`: so many mutations of each RPC's request instead. Ends with code 1 on a difference that the table does not explain.
 */
import { parseArgs } from 'node:util';
import { fuzzRun } from './fuzz-run.ts';
import { findOracle, type Oracle } from './oracle.ts';
import { type RandomRunResult, randomRun } from './random-run.ts';
import { type Shape, startServers } from './servers.ts';

const { values: flags } = parseArgs({
  options: {
    ops: { type: 'string', default: '5000' },
    seed: { type: 'string' },
    first: { type: 'string', default: '0' },
    oracle: { type: 'string' },
    shapes: { type: 'string', default: 'node,cluster' },
    steps: { type: 'string', default: '50' },
    fuzz: { type: 'string' },
    differences: { type: 'string', default: '3' },
    'shrink-seconds': { type: 'string', default: '120' },
  },
});

function wholeNumber(name: keyof typeof flags, text: string | undefined): number {
  const number = Number(text);
  if (text === undefined || !Number.isSafeInteger(number) || number < 0) {
    process.stderr.write(`compat: --${name} needs a whole number, not ${JSON.stringify(text ?? '')}\n`);
    process.exit(2);
  }
  return number;
}

function shapesOf(text: string): Shape[] {
  const shapes = text.split(',');
  for (const shape of shapes) {
    if (shape === 'node' || shape === 'cluster') continue;
    process.stderr.write(`compat: --shapes takes node, cluster or both, not ${JSON.stringify(text)}\n`);
    process.exit(2);
  }
  return shapes as Shape[];
}

/** Broken bytes on every RPC, so many of each. */
async function fuzz(on: Oracle, each: number): Promise<never> {
  const servers = await startServers(on, shapes);
  try {
    const targets = [...(servers.etcd === undefined ? [] : [servers.etcd]), ...servers.quoins];
    const found = await fuzzRun({
      targets,
      seed,
      each,
      onProgress: (requests) => process.stdout.write(`${requests} requests\n`),
    });
    for (const difference of found.differences) process.stdout.write(`${difference}\n`);
    const codes = [...found.codes].sort(([a], [b]) => a - b).map(([code, times]) => `${code}: ${times}`);
    process.stdout.write(`codes ${codes.join(', ')}\n`);
    process.stdout.write(
      `compat: etcd ${on.fullVersion}, seed ${seed}: ${found.requests} broken messages, ${found.differences.length} differences\n`,
    );
    process.exitCode = found.differences.length > 0 ? 1 : 0;
  } finally {
    await servers.stop();
  }
  process.exit();
}

const progressEveryMs = 5_000;
const seed = flags.seed === undefined ? Math.trunc(Math.random() * 1e9) : wholeNumber('seed', flags.seed);
const operations = wholeNumber('ops', flags.ops);
const shapes = shapesOf(flags.shapes);
const oracle = findOracle(flags.oracle);
if (oracle === undefined) process.exit(flags.oracle === undefined ? 0 : 2);

if (flags.fuzz !== undefined) await fuzz(oracle, wholeNumber('fuzz', flags.fuzz));

const summary = (result: RandomRunResult): string => {
  const explained = [...result.explained.values()].reduce((sum, each) => sum + each, 0);
  return `${result.operations} operations in ${result.sequences} sequences, ${explained} differences explained, ${result.unexplained.length} unexplained`;
};

process.stdout.write(`etcd ${oracle.fullVersion} and Quoin (${shapes.join(', ')}), seed ${seed}\n`);
const began = performance.now();
let shown = began;
const result = await randomRun({
  oracle,
  shapes,
  operations,
  seed,
  first: wholeNumber('first', flags.first),
  steps: wholeNumber('steps', flags.steps),
  differencesMax: wholeNumber('differences', flags.differences),
  shrinkLimitMs: wholeNumber('shrink-seconds', flags['shrink-seconds']) * 1_000,
  onProgress: (sofar) => {
    if (performance.now() - shown < progressEveryMs) return;
    shown = performance.now();
    process.stdout.write(`${Math.round((shown - began) / 1_000)} s: ${summary(sofar)}\n`);
  },
  onDifference: (text) => process.stdout.write(`${text}\n`),
});
const byRpc = [...result.steps].sort(([, a], [, b]) => b - a).map(([name, times]) => `${name} ${times}`);
process.stdout.write(`steps: ${byRpc.join(', ')}\n`);
for (const [id, times] of [...result.explained].sort())
  process.stdout.write(`explained by ${id}: ${times}\n`);
const seconds = Math.round((performance.now() - began) / 1_000);
process.stdout.write(`compat: etcd ${oracle.fullVersion}, seed ${seed}: ${summary(result)}, ${seconds} s\n`);
process.exit(result.unexplained.length > 0 ? 1 : 0);
