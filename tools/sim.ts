#!/usr/bin/env node
/**
 * `npm run sim`: runs the simulated deployment, seed by seed, until one fails.
 *
 *     npm run sim -- --seeds 500 [--from 1] [--workers 2] [--keep-going] [--json]
 *     npm run sim -- --seed 27 --trace          one run, with everything that happens in it
 *     npm run sim -- --auth …                   with users, roles and grants in every run, not only where the seed says so
 *
 * Seeds are handed out one at a time to child processes, one for each core.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { availableParallelism } from 'node:os';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { type SimReport, simulate } from '@quoin/sim';

const { values } = parseArgs({
  options: {
    seeds: { type: 'string', default: '100' },
    from: { type: 'string', default: '1' },
    seed: { type: 'string' },
    trace: { type: 'boolean', default: false },
    workers: { type: 'string', default: String(availableParallelism()) },
    'keep-going': { type: 'boolean', default: false },
    json: { type: 'boolean', default: false },
    auth: { type: 'boolean', default: false },
    worker: { type: 'boolean', default: false },
  },
});

/** What a worker answers a seed with. */
interface Outcome {
  readonly report: SimReport;
  readonly cpuMs: number;
}

const withAuth = values.auth ? ['--auth'] : [];

if (values.worker) work();
else if (values.seed !== undefined) runOne(wholeNumber('seed', values.seed));
else runMany();

function wholeNumber(name: string, text: string): number {
  const value = Number(text);
  if (Number.isSafeInteger(value) && value >= 0) return value;
  process.stderr.write(`sim: --${name} must be a whole number, not ${text}\n`);
  return process.exit(2);
}

function measured(seed: number, trace?: (line: string) => void): Outcome {
  const before = process.cpuUsage();
  const report = simulate(seed, {
    ...(trace === undefined ? {} : { trace }),
    ...(values.auth ? { plan: { auth: true } } : {}),
  });
  const { user, system } = process.cpuUsage(before);
  return { report, cpuMs: (user + system) / 1_000 };
}

function work(): void {
  process.on('message', (seed: number) => process.send!(measured(seed)));
  process.on('disconnect', () => process.exit(0));
}

function runOne(seed: number): void {
  const lines: string[] = [];
  const keep = (line: string): void => {
    lines.push(line);
    if (lines.length >= 1_000) process.stdout.write(`${lines.splice(0).join('\n')}\n`);
  };
  const { report, cpuMs } = measured(seed, values.trace ? keep : undefined);
  if (lines.length > 0) process.stdout.write(`${lines.join('\n')}\n`);
  process.stdout.write(`${JSON.stringify({ ...report, cpuMs: Math.round(cpuMs) }, null, 2)}\n`);
  process.exitCode = report.failure === undefined ? 0 : 1;
}

interface Totals {
  seeds: number;
  failed: number;
  /** The first one that was seen. */
  failure: { seed: number; text: string } | undefined;
  virtualMs: number;
  cpuMs: number;
  events: number;
  operations: number;
  watchEvents: number;
  leaders: number;
  snapshots: number;
  authChanges: number;
  allowed: number;
  denied: number;
  readonly faults: Map<string, number>;
}

function runMany(): void {
  const seeds = wholeNumber('seeds', values.seeds);
  const from = wholeNumber('from', values.from);
  const beganMs = performance.now();
  const totals: Totals = {
    seeds: 0,
    failed: 0,
    failure: undefined,
    virtualMs: 0,
    cpuMs: 0,
    events: 0,
    operations: 0,
    watchEvents: 0,
    leaders: 0,
    snapshots: 0,
    authChanges: 0,
    allowed: 0,
    denied: 0,
    faults: new Map(),
  };
  let next = from;
  let stopped = false;
  const workers: ChildProcess[] = [];
  const feed = (worker: ChildProcess): void => {
    if (stopped || next >= from + seeds) worker.disconnect();
    else worker.send(next++);
  };
  const take = (worker: ChildProcess, outcome: Outcome): void => {
    add(totals, outcome);
    if (outcome.report.failure !== undefined) {
      tell(outcome.report);
      stopped ||= !values['keep-going'];
    } else if (totals.seeds % 100 === 0 && !values.json) {
      process.stdout.write(`${rate(totals, beganMs)}\n`);
    }
    feed(worker);
  };
  let running = 0;
  const count = Math.max(1, Math.min(wholeNumber('workers', values.workers), seeds));
  for (let i = 0; i < count; i++) {
    const worker = fork(fileURLToPath(import.meta.url), ['--worker', ...withAuth]);
    workers.push(worker);
    running++;
    worker.on('message', (outcome: Outcome) => take(worker, outcome));
    worker.on('exit', (code) => {
      if (code !== 0) {
        process.stderr.write(`sim: a worker ended with ${code}\n`);
        process.exitCode = 1;
      }
      if (--running === 0) finish(totals, beganMs);
    });
    feed(worker);
  }
}

function add(totals: Totals, { report, cpuMs }: Outcome): void {
  totals.seeds++;
  if (report.failure !== undefined) {
    totals.failed++;
    totals.failure ??= { seed: report.seed, text: report.failure };
  }
  totals.virtualMs += report.virtualMs;
  totals.cpuMs += cpuMs;
  totals.events += report.events;
  totals.operations += report.operations;
  totals.watchEvents += report.watchEvents;
  totals.leaders += report.leaders;
  totals.snapshots += report.snapshots;
  totals.authChanges += report.authChanges;
  totals.allowed += report.allowed;
  totals.denied += report.denied;
  for (const [kind, count] of Object.entries(report.faults)) {
    totals.faults.set(kind, (totals.faults.get(kind) ?? 0) + count);
  }
}

function tell(report: SimReport): void {
  if (values.json) return;
  process.stdout.write(`\nseed ${report.seed} FAILED: ${report.failure}\n`);
  process.stdout.write(
    `reproduce: npm run sim -- --seed ${report.seed} ${withAuth.map((flag) => `${flag} `).join('')}--trace\n\n`,
  );
}

function rate(totals: Totals, beganMs: number): string {
  const seconds = (performance.now() - beganMs) / 1_000;
  const perSecond = (n: number): string => Math.round(n / seconds).toLocaleString('en');
  const hours = (totals.virtualMs / 3_600_000).toFixed(2);
  const times = Math.round(totals.virtualMs / 1_000 / seconds);
  const perCore = Math.round(totals.virtualMs / totals.cpuMs);
  return `${totals.seeds} seeds, ${totals.failed} failed; ${(totals.seeds / seconds).toFixed(1)} seeds/s, ${perSecond(totals.events)} events/s; ${hours} simulated hours, ${times}× real time (${perCore}× per CPU second)`;
}

function finish(totals: Totals, beganMs: number): void {
  if (values.json) {
    process.stdout.write(`${JSON.stringify({ ...totals, faults: Object.fromEntries(totals.faults) })}\n`);
  } else {
    const faults = [...totals.faults].sort().map(([kind, count]) => `${kind} ${count}`);
    process.stdout.write(`${rate(totals, beganMs)}\n`);
    process.stdout.write(
      `${totals.operations.toLocaleString('en')} calls, ${totals.watchEvents.toLocaleString('en')} watch events, ${totals.leaders} elections, ${totals.snapshots} snapshots sent\n`,
    );
    process.stdout.write(
      `${totals.authChanges} changes of users and rights; ordinary users: ${totals.allowed} allowed, ${totals.denied} denied\n`,
    );
    process.stdout.write(`faults: ${faults.join(', ')}\n`);
  }
  if (totals.failed > 0) process.exitCode = 1;
}
