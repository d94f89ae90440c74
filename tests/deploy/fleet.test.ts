import { expect, test } from 'vitest';
import { runFleet } from './fleet.ts';

/** `npm run fleet -- --minutes 10` runs it for longer. */
const seconds = 20;

test('gateways come and go: nothing is lost, no call fails for good, watches have no gap', async () => {
  const lines: string[] = [];
  const report = await runFleet({ seconds, seed: 8, onLine: (line) => lines.push(line) });
  expect(report.wrong, lines.join('\n')).toEqual([]);
  expect(report.kills + report.stops).toBeGreaterThan(2);
  expect(report.puts).toBeGreaterThan(100);
  expect(report.events).toBeGreaterThanOrEqual(report.puts);
}, 120_000);
