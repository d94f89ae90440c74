/** A bounded share of `npm run sim` in `npm test`: the same seeds each time, in several files, so that all workers have a part. */
import { type SimReport, simulate } from '@quoin/sim';
import { afterAll, expect, test } from 'vitest';

const groupSize = 25;

/** More than 500 of them have 3 or 5 members, the others one. SIM_SEEDS=1000..1200 chooses others; each share takes its part. */
export function simulateShare(share: number, shares: number): void {
  const [first, last] = (process.env['SIM_SEEDS'] ?? '1..570').split('..').map(Number) as [number, number];
  const each = Math.ceil((last - first + 1) / shares);
  const from = first + share * each;
  const to = Math.min(from + each - 1, last);
  const reports: SimReport[] = [];
  let cpuSeconds = 0;
  const groups: number[] = [];
  for (let seed = from; seed <= to; seed += groupSize) groups.push(seed);
  test.each(groups)('seeds from %d on keep every promise', { timeout: 240_000 }, (seed) => {
    const group: SimReport[] = [];
    const began = process.cpuUsage();
    for (let i = seed; i < seed + groupSize && i <= to; i++) group.push(simulate(i));
    const { user, system } = process.cpuUsage(began);
    cpuSeconds += (user + system) / 1e6;
    reports.push(...group);
    const failures = group.filter((report) => report.failure !== undefined);
    const told = failures.map((report) => `npm run sim -- --seed ${report.seed} --trace: ${report.failure}`);
    expect(told).toEqual([]);
    // A run in which nothing happens proves nothing.
    if (group.length === groupSize) expectBusy(group);
  });
  afterAll(() => {
    const virtualSeconds = sum(reports, (report) => report.virtualMs) / 1_000;
    const rate = (reports.length / cpuSeconds).toFixed(1);
    const times = Math.round(virtualSeconds / cpuSeconds);
    console.log(`sim: ${reports.length} seeds, ${rate} a CPU second, ${times}× real time for each core`);
  });
}

function expectBusy(reports: readonly SimReport[]): void {
  expect(sum(reports, (report) => report.acknowledged)).toBeGreaterThan(1_200);
  expect(sum(reports, (report) => report.watchEvents)).toBeGreaterThan(120);
  expect(sum(reports, (report) => report.leaseRenewals)).toBeGreaterThan(25);
  expect(sum(reports, (report) => report.authChanges)).toBeGreaterThan(20);
  expect(sum(reports, (report) => report.allowed)).toBeGreaterThan(40);
  expect(sum(reports, (report) => report.denied)).toBeGreaterThan(20);
  const faults = (report: SimReport): number => Object.values(report.faults).reduce((a, b) => a + b, 0);
  expect(sum(reports, faults)).toBeGreaterThan(60);
}

function sum(reports: readonly SimReport[], of: (report: SimReport) => number): number {
  return reports.reduce((total, report) => total + of(report), 0);
}
