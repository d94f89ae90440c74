import { simulate } from '@quoin/sim';
import { expect, test } from 'vitest';

test.each([
  [4, false],
  [6, true],
])('seed %d twice, with authentication: %s: the same, line by line', (seed, auth) => {
  const run = (): string => {
    const lines: string[] = [];
    const report = simulate(seed, { trace: (line) => lines.push(line), plan: { memberChanges: true, auth } });
    return `${lines.join('\n')}\n${JSON.stringify(report)}`;
  };
  const trace = run();
  expect(trace.length).toBeGreaterThan(50_000);
  expect(run()).toBe(trace);
});

// Gateways that come and go, feeds that break, rings too small for everybody: what few watchers seldom meet at once.
test.each([21, 22, 23])(
  'seed %d with 200 watchers',
  (seed) => {
    const report = simulate(seed, {
      plan: {
        watchers: 200,
        gateways: 2,
        members: 3,
        faultsMs: 3_000,
        faults: ['crashLeader', 'bounce', 'break', 'cutGateway', 'isolateLeader'],
        compactions: seed === 23,
        auth: false,
      },
    });
    expect(report.failure).toBeUndefined();
    expect(report.watchEvents).toBeGreaterThan(10 * report.revision);
  },
  60_000,
);

test('whether somebody listens to the trace changes nothing', () => {
  expect(simulate(5, { trace: () => {} })).toEqual(simulate(5));
});
