/** The same sequence on etcd and on Quoin, answer against answer. */
import { compare } from './differences.ts';
import type { Plain } from './message.ts';
import type { OracleVersion } from './oracle.ts';
import { printStep, printValue, type Step } from './step.ts';
import type { Target } from './target.ts';
import { sleep } from './watch-session.ts';

export interface Difference {
  /** Undefined: what watches were told over the whole sequence. */
  readonly step: Step | undefined;
  readonly index: number;
  readonly target: string;
  readonly etcd: Plain;
  readonly quoin: Plain;
}

export interface Comparison {
  readonly difference: Difference | undefined;
  /** How often each row of the table of differences was needed. */
  readonly explained: ReadonlyMap<string, number>;
  /** The servers did not agree about revisions when it began: they have to start anew. */
  readonly diverged: boolean;
}

const eventsLimitMs = 5_000;
const watches: Step = { watch: -1, progress: true };

export async function compareOn(
  etcd: Target,
  quoins: readonly Target[],
  steps: readonly Step[],
  oracle: OracleVersion,
): Promise<Comparison> {
  const explained = new Map<string, number>();
  const count = (ids: readonly string[]): void => {
    for (const id of ids) explained.set(id, (explained.get(id) ?? 0) + 1);
  };
  // 0: a server that no longer answers, which also is to start anew.
  const bases = await Promise.all([etcd, ...quoins].map((target) => target.begin().catch(() => 0)));
  const behind = bases.findIndex((base) => base !== bases[0] || base === 0);
  if (behind >= 0) {
    const difference = {
      step: undefined,
      index: -1,
      target: quoins[Math.max(0, behind - 1)]!.name,
      etcd: { revision: bases[0]! },
      quoin: { revision: bases[behind]! },
    };
    return { difference, explained, diverged: true };
  }
  const [expected, ...answers] = await Promise.all([etcd, ...quoins].map((target) => perform(target, steps)));
  for (const [index, step] of steps.entries()) {
    for (const [i, target] of quoins.entries()) {
      const verdict = compare(step, expected![index]!, answers[i]![index]!, oracle);
      count(verdict.explainedBy);
      if (verdict.equal) continue;
      const difference = {
        step,
        index,
        target: target.name,
        etcd: expected![index]!,
        quoin: answers[i]![index]!,
      };
      return { difference, explained, diverged: false };
    }
  }
  for (const target of quoins) {
    const until = performance.now() + eventsLimitMs;
    for (;;) {
      const [told, heard] = [etcd.logs(), target.logs()];
      const verdict = compare(watches, told, heard, oracle);
      if (verdict.equal) {
        count(verdict.explainedBy);
        break;
      }
      if (performance.now() > until)
        return {
          difference: { step: undefined, index: steps.length, target: target.name, etcd: told, quoin: heard },
          explained,
          diverged: false,
        };
      await sleep(20);
    }
  }
  return { difference: undefined, explained, diverged: false };
}

async function perform(target: Target, steps: readonly Step[]): Promise<Plain[]> {
  const answers: Plain[] = [];
  try {
    for (const step of steps) answers.push(await target.perform(step));
    await target.watchLogs();
  } catch (error) {
    // The server has gone, or does not catch up: from here on it has no answers.
    const failed: Plain = { failed: error instanceof Error ? error.message : String(error) };
    while (answers.length < steps.length) answers.push(failed);
  }
  return answers;
}

/** For a person: the sequence up to the difference, and both answers. */
export function report(steps: readonly Step[], difference: Difference): string {
  const lines = steps.map((step, i) => `${i === difference.index ? '>' : ' '} ${printStep(step)},`);
  const what =
    difference.step === undefined
      ? difference.index < 0
        ? 'the revision at the start'
        : 'what watches were told'
      : 'the answer';
  return [
    ...lines,
    `  ${what} of ${difference.target} is not etcd's:`,
    `  etcd:  ${printValue(difference.etcd)}`,
    `  quoin: ${printValue(difference.quoin)}`,
  ].join('\n');
}
