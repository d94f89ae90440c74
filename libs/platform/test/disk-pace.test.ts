import { expect, test } from 'vitest';
import { DiskPace } from '../src/disk-pace.ts';

const small = 4_000;

/**
 * Milliseconds that the loop stood still while calls came back to back for `forMs`, each of which takes `callMs(i)`, and
 * `tripMs` more in the pool.
 */
function run(
  pace: DiskPace,
  forMs: number,
  callMs: (i: number) => number,
  tripMs = 0,
): { loopMs: number; onLoop: number } {
  let loopMs = 0;
  let onLoop = 0;
  let nowMs = 0;
  for (let i = 0; nowMs < forMs; i++) {
    const allowed = pace.allows(small, nowMs);
    const durationMs = callMs(i) + (allowed ? 0 : tripMs);
    nowMs += durationMs;
    pace.took(small, durationMs, allowed);
    if (!allowed) continue;
    loopMs += callMs(i);
    onLoop++;
  }
  return { loopMs, onLoop };
}

test('a fast disk is waited for once it has shown itself', () => {
  const pace = new DiskPace({ bytesMax: small, firstMedianMs: 2 });
  expect(pace.allows(small, 0)).toBe(false);
  expect(run(pace, 1_000, () => 0.1).onLoop).toBeGreaterThan(9_900);
  expect(pace.allows(small + 1, 1_000)).toBe(false);
});

test('what a trip through the pool adds is not taken for time of the disk', () => {
  const pace = new DiskPace({ bytesMax: small, firstMedianMs: 2 });
  expect(run(pace, 10_000, () => 0.55, 0.2).onLoop).toBeGreaterThan(17_000);
});

test('a slow disk never is, also one that has become slow', () => {
  const slow = new DiskPace({ bytesMax: small, firstMedianMs: 2 });
  expect(run(slow, 10_000, () => 8).onLoop).toBe(0);
  const ageing = new DiskPace({ bytesMax: small, firstMedianMs: 0 });
  run(ageing, 1_000, () => 0.1);
  // Found out by its budget at first, then by the median.
  expect(run(ageing, 10_000, () => 8).loopMs).toBeLessThan(40);
});

test('stalls of a fast disk cost a bounded share of the time', () => {
  const pace = new DiskPace({ bytesMax: small, firstMedianMs: 0 });
  expect(pace.allows(small, 0)).toBe(true);
  pace.took(small, 100, true);
  for (const [nowMs, allowed] of [
    [3_900, false],
    [4_100, true],
  ] as const)
    expect(pace.allows(small, nowMs)).toBe(allowed);
  const stalling = run(pace, 100_000, (i) => (i % 100 === 99 ? 30 : 0.2));
  const stalls = stalling.loopMs - stalling.onLoop * 0.2;
  // 2 % of the time, what was saved up, and one stall more than it allows.
  expect(stalls).toBeLessThan(0.02 * 100_000 + 20 + 30);
  expect(stalling.onLoop).toBeGreaterThan(1_000);
});
