/** Random sequences on both servers until there were enough operations, or too many differences. */
import fc from 'fast-check';
import { sequences } from './generate.ts';
import type { Oracle } from './oracle.ts';
import { type Comparison, compareOn, type Difference, report } from './sequence.ts';
import { type Servers, type Shape, startServers } from './servers.ts';
import { shrink } from './shrink.ts';
import type { Step } from './step.ts';

export interface RandomRunOptions {
  readonly oracle: Oracle;
  readonly shapes: readonly Shape[];
  /** Stops after so many steps, or after so long. */
  readonly operations: number;
  readonly limitMs?: number;
  readonly seed: number;
  /** The sequence to begin with. Default 0. */
  readonly first?: number;
  /** Longest sequence. Default 50. */
  readonly steps?: number;
  /** Unexplained differences until it gives up. Default 3. */
  readonly differencesMax?: number;
  /** Default 120 s for each difference. */
  readonly shrinkLimitMs?: number;
  onProgress?(result: RandomRunResult): void;
  onDifference?(text: string): void;
}

export interface RandomRunResult {
  operations: number;
  sequences: number;
  readonly explained: Map<string, number>;
  /** Each a minimal sequence with both answers and its seed. */
  readonly unexplained: string[];
  /** By RPC. */
  readonly steps: Map<string, number>;
}

const stepsDefault = 50;
const differencesMaxDefault = 3;
const shrinkLimitMsDefault = 120_000;

/** Sequence i of a seed is a function of both. */
const seedOf = (seed: number, i: number): number => (Math.imul(seed, 0x9e3779b1) + i) | 0;

export async function randomRun(options: RandomRunOptions): Promise<RandomRunResult> {
  const result: RandomRunResult = {
    operations: 0,
    sequences: 0,
    explained: new Map(),
    unexplained: [],
    steps: new Map(),
  };
  const arbitrary = sequences({
    oracle: options.oracle.version,
    steps: options.steps ?? stepsDefault,
  });
  const until = performance.now() + (options.limitMs ?? Number.POSITIVE_INFINITY);
  const running = new Running(options);
  try {
    for (
      let i = options.first ?? 0;
      result.operations < options.operations && performance.now() < until;
      i++
    ) {
      const found = await oneSequence(running, arbitrary, seedOf(options.seed, i), options, result);
      if (found !== undefined) {
        const text = `difference ${result.unexplained.length + 1}, --seed ${options.seed} --first ${i}:\n${found}`;
        result.unexplained.push(text);
        options.onDifference?.(text);
        if (result.unexplained.length >= (options.differencesMax ?? differencesMaxDefault)) break;
      }
      options.onProgress?.(result);
    }
  } finally {
    await running.stop();
  }
  return result;
}

/** The servers, started anew whenever they no longer agree. */
class Running {
  private readonly options: RandomRunOptions;
  private servers: Servers | undefined;

  constructor(options: RandomRunOptions) {
    this.options = options;
  }

  async compare(steps: readonly Step[]): Promise<Comparison> {
    const { oracle, shapes } = this.options;
    for (let attempt = 0; ; attempt++) {
      this.servers ??= await startServers(oracle, shapes);
      const comparison = await compareOn(this.servers.etcd!, this.servers.quoins, steps, oracle.version);
      if (!comparison.diverged || attempt > 0) return comparison;
      // What differed before has moved one of them on.
      await this.stop();
    }
  }

  async stop(): Promise<void> {
    await this.servers?.stop();
    this.servers = undefined;
  }
}

/** One sequence; where it shows a difference, the smallest that still does, as text. */
async function oneSequence(
  running: Running,
  arbitrary: fc.Arbitrary<Step[]>,
  seed: number,
  options: RandomRunOptions,
  result: RandomRunResult,
): Promise<string | undefined> {
  const steps = fc.sample(arbitrary, { seed, numRuns: 1 })[0]!;
  const comparison = await running.compare(steps);
  result.operations += steps.length;
  result.sequences++;
  for (const step of steps) tally(result.steps, 'rpc' in step ? step.rpc : 'Watch');
  for (const [id, times] of comparison.explained) tally(result.explained, id, times);
  const found = comparison.difference;
  if (found === undefined) return undefined;
  const until = performance.now() + (options.shrinkLimitMs ?? shrinkLimitMsDefault);
  let difference = found;
  const smallest = await shrink(steps.slice(0, found.index + 1), async (candidate) => {
    if (performance.now() > until) return undefined;
    const { difference: left } = await running.compare(candidate);
    // Another difference than the one that is looked at would lead away from it.
    if (left === undefined || left.target !== found.target || rpcOf(left) !== rpcOf(found)) return undefined;
    difference = left;
    return candidate.slice(0, left.index + 1);
  });
  return report(smallest, difference);
}

const rpcOf = ({ step }: Difference): string =>
  step === undefined ? 'watches' : 'rpc' in step ? step.rpc : Object.keys(step).join();

function tally(counts: Map<string, number>, name: string, times = 1): void {
  counts.set(name, (counts.get(name) ?? 0) + times);
}
