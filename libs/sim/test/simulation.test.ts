import { type SimReport, simulate } from '@quoin/sim';
import { expect, test } from 'vitest';

// A bounded share of `npm run sim`, the same seeds each time. SIM_SEEDS=1000..1200 chooses others.
const [first, last] = (process.env['SIM_SEEDS'] ?? '1..160').split('..').map(Number);
const groupSize = 20;
const groups: number[] = [];
for (let seed = first!; seed <= last!; seed += groupSize) groups.push(seed);

test.each(groups)('seeds from %d on keep every promise', { timeout: 120_000 }, (from) => {
  const reports: SimReport[] = [];
  for (let seed = from; seed < from + groupSize && seed <= last!; seed++) reports.push(simulate(seed));
  const failures = reports.filter((report) => report.failure !== undefined);
  expect(failures.map(({ seed, failure }) => `npm run sim -- --seed ${seed} --trace: ${failure}`)).toEqual(
    [],
  );
  // A run in which nothing happens proves nothing.
  const sum = (of: (report: SimReport) => number): number =>
    reports.reduce((total, report) => total + of(report), 0);
  expect(sum((report) => report.acknowledged)).toBeGreaterThan(1_000);
  expect(sum((report) => report.watchEvents)).toBeGreaterThan(100);
  expect(sum((report) => report.leaseRenewals)).toBeGreaterThan(20);
  expect(sum((report) => Object.values(report.faults).reduce((a, b) => a + b, 0))).toBeGreaterThan(50);
});

test.each([4, 6])('seed %d twice: the same, line by line', (seed) => {
  const run = (): string => {
    const lines: string[] = [];
    const report = simulate(seed, { trace: (line) => lines.push(line), plan: { memberChanges: true } });
    return `${lines.join('\n')}\n${JSON.stringify(report)}`;
  };
  const trace = run();
  expect(trace.length).toBeGreaterThan(50_000);
  expect(run()).toBe(trace);
});

test('whether somebody listens to the trace changes nothing', () => {
  expect(simulate(5, { trace: () => {} })).toEqual(simulate(5));
});
