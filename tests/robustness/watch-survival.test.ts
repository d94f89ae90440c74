/** A bounded share of `npm run robustness -- --watchers 1000`. */
import { expect, test } from 'vitest';
import { surviveWatches } from './watch-survival.ts';

test.skipIf(process.platform !== 'linux')(
  '1,000 watches outlive leaders, members and links without a gap, a duplicate or a split revision',
  async () => {
    const report = await surviveWatches({ watchers: 1_000, rounds: 1, pauseMs: 500 });
    process.stdout.write(
      `${report.faults.join('; ')}: ${report.writes} writes, ${report.events} events, longest pause ${report.longestPauseMs.toFixed(0)} ms\n`,
    );
    expect(report.problems.slice(0, 5)).toEqual([]);
    expect(report.faults.length).toBe(5);
    expect(report.writes).toBeGreaterThan(100);
    expect(report.events).toBeGreaterThan(report.writes);
  },
  240_000,
);
