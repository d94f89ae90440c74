#!/usr/bin/env node
/**
 * `npm run robustness`: real processes under failures, round after round, until the time is over or a round fails.
 *
 *     npm run robustness -- --minutes 10 [--seed 1] [--faults kill,pause,partition,network,disk] [--round-seconds 40]
 *     npm run robustness -- --seed 27 --rounds 1         the round of that seed again
 *     npm run robustness -- --watchers 1000 --minutes 5  so many watches that must outlive leaders, members and links
 *
 * Round i has seed + i. Docs: docs/internals/robustness.md.
 */
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { type FaultKind, faultGroups, faultKinds } from '../tests/robustness/faults.ts';
import { type RoundReport, runRound } from '../tests/robustness/round.ts';
import { surviveWatches } from '../tests/robustness/watch-survival.ts';

const { values } = parseArgs({
  options: {
    minutes: { type: 'string' },
    rounds: { type: 'string' },
    'round-seconds': { type: 'string', default: '40' },
    seed: { type: 'string', default: String(1 + Math.floor(Math.random() * 1_000_000)) },
    watchers: { type: 'string' },
    faults: { type: 'string', default: 'kill,pause,partition,network,disk' },
    keep: { type: 'boolean', default: false },
    'keep-going': { type: 'boolean', default: false },
    json: { type: 'boolean', default: false },
  },
});

/** A longer pause in writes is told with the faults that were at work. */
const tellPauseMs = 10_000;
const unshared = 'QUOIN_ROBUSTNESS_UNSHARED';
moveApart();
await main();

/** Into a mount namespace of its own, where that may be had: whatever becomes of this process, no mount stays. */
function moveApart(): void {
  const unshare = '/usr/bin/unshare';
  if (process.platform !== 'linux' || process.getuid?.() !== 0 || process.env[unshared] !== undefined) return;
  if (!existsSync(unshare) || process.execve === undefined || process.channel !== undefined) return;
  const env = { ...process.env, [unshared]: '1' };
  const script =
    'unshare --mount true 2>/dev/null && exec unshare --mount --propagation private "$@"; exec "$@"';
  process.execve(
    '/bin/sh',
    ['sh', '-c', script, 'sh', process.execPath, ...process.execArgv, ...process.argv.slice(1)],
    env,
  );
}

function wholeNumber(name: string, text: string): number {
  const value = Number(text);
  if (Number.isSafeInteger(value) && value >= 0) return value;
  process.stderr.write(`robustness: --${name} must be a whole number, not ${text}\n`);
  return process.exit(2);
}

/** Undefined: no limit but the number of rounds. */
function minutesOf(hasRounds: boolean): number | undefined {
  const { minutes } = values;
  if (minutes === undefined) return hasRounds ? undefined : 2;
  const value = Number(minutes);
  if (value > 0) return value;
  process.stderr.write(`robustness: --minutes must be a number above 0, not ${minutes}\n`);
  return process.exit(2);
}

function kindsOf(text: string): FaultKind[] {
  const kinds = new Set<FaultKind>();
  for (const name of text.split(',').filter((part) => part !== '' && part !== 'none')) {
    const group = faultGroups[name] ?? faultKinds.filter((kind) => kind === name);
    if (group.length === 0) {
      process.stderr.write(
        `robustness: no fault ${name}; there are ${[...new Set([...Object.keys(faultGroups), ...faultKinds])].join(', ')}, none\n`,
      );
      process.exit(2);
    }
    for (const kind of group) kinds.add(kind);
  }
  return [...kinds];
}

/** Rounds of every fault in turn, while writers write as fast as they can. */
async function survival(watchers: number, untilMs: number): Promise<never> {
  let failed = false;
  let round = 0;
  do {
    const report = await surviveWatches({
      watchers,
      rounds: 2,
      pauseMs: 1_000,
      onStep: (text) => process.stdout.write(`  ${text}\n`),
    });
    const { writes, writesPerSecond, failedWrites, events, longestPauseMs, problems } = report;
    failed = problems.length > 0;
    process.stdout.write(
      `run ${++round}, ${watchers} watches: ${writes} writes, ${writesPerSecond.toFixed(0)}/s, ${failedWrites} of unknown outcome, longest pause ` +
        `${(longestPauseMs / 1_000).toFixed(1)} s; ${events} events, ${failed ? `FAILED: ${problems.slice(0, 5).join('; ')}` : 'none missing, twice or split'}\n`,
    );
  } while (!failed && performance.now() < untilMs);
  process.exit(failed ? 1 : 0);
}

async function main(): Promise<void> {
  const seed = wholeNumber('seed', values.seed);
  const seconds = wholeNumber('round-seconds', values['round-seconds']);
  const faults = kindsOf(values.faults);
  const rounds = values.rounds === undefined ? undefined : wholeNumber('rounds', values.rounds);
  const minutes = minutesOf(rounds !== undefined);
  const untilMs = minutes === undefined ? Number.POSITIVE_INFINITY : performance.now() + minutes * 60_000;
  if (values.watchers !== undefined)
    await survival(wholeNumber('watchers', values.watchers), minutes === undefined ? 0 : untilMs);
  const dir = mkdtempSync(join(tmpdir(), 'quoin-robustness-'));
  const say = (line: string): void => {
    if (!values.json) process.stdout.write(`${line}\n`);
  };
  say(`seed ${seed}, rounds of ${seconds} s, faults ${faults.join(', ') || 'none'}`);
  const reports: RoundReport[] = [];
  // Processes of the cluster end with this one, and its mounts with them; images and logs would stay.
  const isKept = (): boolean => reports.some((report) => report.dir !== undefined);
  process.on('exit', () => {
    if (!isKept()) rmSync(dir, { recursive: true, force: true, maxRetries: 3 });
  });
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => process.exit(130));
  const startMs = performance.now();
  for (let i = 0; i < (rounds ?? Number.POSITIVE_INFINITY); i++) {
    const leftSeconds = (untilMs - performance.now()) / 1_000;
    if (leftSeconds < 10 && i > 0) break;
    const report = await runRound({
      seed: seed + i,
      seconds: rounds === undefined ? Math.max(5, Math.min(seconds, leftSeconds - 10)) : seconds,
      faults,
      dir: join(dir, `seed-${seed + i}`),
      keep: values.keep,
      onProgress: (line) => say(`  ${((performance.now() - startMs) / 1_000).toFixed(0)} s, ${line}`),
    });
    if (report.skipped !== undefined && i === 0) say(report.skipped);
    reports.push(report);
    tell(report, say);
    if (report.failure !== undefined && !values['keep-going']) break;
  }
  const failed = reports.filter((report) => report.failure !== undefined).length;
  if (values.json) process.stdout.write(`${JSON.stringify(reports)}\n`);
  else summary(reports, failed, performance.now() - startMs, say);
  process.exit(failed > 0 ? 1 : 0);
}

function tell(report: RoundReport, say: (line: string) => void): void {
  const { seed, failure } = report;
  if (failure === undefined) {
    say(
      `seed ${seed}: ok, ${report.operations} operations (${report.unknown} of unknown outcome), ${report.revisions} revisions, ${report.watchEvents} watch events, longest pause in writes ${(report.longestPause.ms / 1_000).toFixed(1)} s, serving again after ${(report.recoveryMs / 1_000).toFixed(1)} s, checked in ${report.checkMs} ms`,
    );
    if (report.longestPause.ms > tellPauseMs)
      say(`  in that pause: ${report.longestPause.faults.join('; ')}`);
    return;
  }
  say(`seed ${seed} FAILED: ${failure}`);
  say(`history and logs: ${report.dir}`);
  say(
    `again: npm run robustness -- --seed ${seed} --rounds 1 --round-seconds ${values['round-seconds']} --faults ${values.faults}`,
  );
}

function summary(
  reports: readonly RoundReport[],
  failed: number,
  ms: number,
  say: (line: string) => void,
): void {
  const sum = (of: (report: RoundReport) => number): string =>
    reports.reduce((total, report) => total + of(report), 0).toLocaleString('en');
  const faults = new Map<string, number>();
  for (const report of reports) {
    for (const [kind, count] of Object.entries(report.faults))
      faults.set(kind, (faults.get(kind) ?? 0) + count);
  }
  say(`${reports.length} rounds, ${failed} failed, in ${(ms / 60_000).toFixed(1)} minutes`);
  say(
    `${sum((r) => r.operations)} operations, ${sum((r) => r.acknowledged)} acknowledged, ${sum((r) => r.unknown)} of unknown outcome; ${sum((r) => r.revisions)} revisions`,
  );
  say(
    `${sum((r) => r.watchEvents)} watch events, ${sum((r) => r.bookmarks)} bookmarks; ${sum((r) => r.leaseRenewals)} leases renewed, ${sum((r) => r.leaseExpiries)} expired`,
  );
  say(
    `faults: ${
      [...faults]
        .sort()
        .map(([kind, count]) => `${kind} ${count}`)
        .join(', ') || 'none'
    }; ${sum((r) => r.elections)} elections, ${sum((r) => r.starts)} starts of processes, ${sum((r) => r.snapshots)} snapshots received, ${sum((r) => r.ends)} members ended themselves for want of room`,
  );
  say(
    `longest pause in writes ${(Math.max(0, ...reports.map((r) => r.longestPause.ms)) / 1_000).toFixed(1)} s`,
  );
}
