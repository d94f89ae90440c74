import { simulate } from '@quoin/sim';
import { expect, test } from 'vitest';

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
