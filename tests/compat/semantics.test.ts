/**
 * A case for every line of etcd's semantics that one server can show: its answers against what is written, and against
 * etcd's where there is one.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { repositoryRoot } from '../support/child.ts';
import { type Case, mismatch, relative } from './cases/case.ts';
import { guardCases } from './cases/guards.ts';
import { kvCases } from './cases/kv.ts';
import { watchLeaseCases } from './cases/watch-lease.ts';
import { compare } from './differences.ts';
import type { Plain } from './message.ts';
import { findOracle } from './oracle.ts';
import { type Servers, startServers } from './servers.ts';
import { printStep, printValue, type Step } from './step.ts';
import type { Target } from './target.ts';
import { sleep } from './watch-session.ts';

const oracle = findOracle();
// 3.4 differs in too much, and crashes on some of it.
const judge = oracle?.version === '3.7' ? oracle : undefined;
let servers: Servers;

beforeAll(async () => {
  servers = await startServers(judge, ['node']);
});
afterAll(() => servers?.stop());

interface Told {
  readonly base: number;
  readonly answers: readonly Plain[];
}

async function perform(target: Target, steps: readonly Step[]): Promise<Told> {
  const base = await target.begin();
  const answers: Plain[] = [];
  for (const step of steps) answers.push(relative(await target.perform(step), base));
  await target.watchLogs();
  return { base, answers };
}

const watches: Step = { watch: -1, progress: true };

/** Watches are told in their own time: once they have been told what etcd's were, that is all. */
async function logsLike(target: Target, base: number, wanted: (logs: Plain) => boolean): Promise<Plain> {
  for (let tries = 0; ; tries++) {
    const logs = relative(target.logs(), base);
    if (wanted(logs) || tries > 100) return logs;
    await sleep(20);
  }
}

async function runCase({ steps, watches: told, alone }: Case): Promise<void> {
  const quoin = servers.quoins[0]!;
  const etcd = alone === true ? undefined : servers.etcd;
  const asked = steps.map(([step]) => step);
  const [mine, theirs] = await Promise.all([
    perform(quoin, asked),
    etcd === undefined ? undefined : perform(etcd, asked),
  ]);
  for (const [i, [step, expected]] of steps.entries()) {
    const answer = mine.answers[i]!;
    if (expected !== undefined)
      expect(mismatch(answer, expected), `${printStep(step)}: ${printValue(answer)}`).toBeUndefined();
    if (theirs === undefined) continue;
    const { equal } = compare(step, theirs.answers[i]!, answer, '3.7');
    expect(
      equal,
      `${printStep(step)}\netcd:  ${printValue(theirs.answers[i])}\nquoin: ${printValue(answer)}`,
    ).toBe(true);
  }
  const logs = relative(etcd?.logs() ?? {}, theirs?.base ?? 0);
  const like = (found: Plain): boolean => etcd === undefined || compare(watches, logs, found, '3.7').equal;
  const heard = await logsLike(quoin, mine.base, like);
  expect(like(heard), `watches\netcd:  ${printValue(logs)}\nquoin: ${printValue(heard)}`).toBe(true);
  if (told !== undefined)
    await expect
      .poll(() => mismatch(relative(quoin.logs(), mine.base), told, 'watches'), { timeout: 5_000 })
      .toBeUndefined();
}

describe.each([
  ['keys', kvCases],
  ['watches, leases, locks', watchLeaseCases],
  ['limits, users, alarms, members', guardCases],
] as const)('%s', (_, cases) => {
  test.each(cases.filter(({ alone }) => alone !== true))('$name', runCase);
});

// Last: from here on the two are not at the same revision any more.
describe('what etcd cannot be asked', () => {
  test.each([...kvCases, ...watchLeaseCases, ...guardCases].filter(({ alone }) => alone === true))(
    '$name',
    runCase,
  );
});

/** Points of the closing checklist (section 18) that one healthy server does not show, and who shows them. */
const elsewhere: Readonly<Record<number, string>> = {
  11: 'tests/compat/errors.test.ts',
  17: 'tests/contract/auth.test.ts',
  18: 'tests/compat/json-api.test.ts',
  19: 'tests/compat/errors.test.ts',
  24: 'libs/rpc/test/connection.test.ts',
};

test('no point of the checklist is missing', () => {
  const cases = [...kvCases, ...watchLeaseCases, ...guardCases].flatMap(({ points }) => points ?? []);
  const covered = new Set([...cases, ...Object.keys(elsewhere).map(Number)]);
  expect(Array.from({ length: 24 }, (_, i) => i + 1).filter((point) => !covered.has(point))).toEqual([]);
  for (const file of Object.values(elsewhere))
    expect(existsSync(join(repositoryRoot, file)), file).toBe(true);
});
