/** Random runs; CHAOS_SEEDS=n runs more of them, CHAOS_FROM=n begins elsewhere. A seed that fails becomes a test of its own. */
import { expect, test } from 'vitest';
import { Chaos, type ChaosOptions, type ChaosResult } from './chaos.ts';

const seeds = Number(process.env['CHAOS_SEEDS'] ?? 60);
const from = Number(process.env['CHAOS_FROM'] ?? 0);

const base: ChaosOptions = {
  steps: 3000,
  voters: 3,
  spares: 0,
  preVote: true,
  checkQuorum: true,
  leaseReads: false,
  lose: 0.05,
  repeat: 0.05,
};

const kinds: Record<string, ChaosOptions> = {
  'three voters': base,
  'five voters': { ...base, voters: 5, steps: 4000 },
  'changing members': { ...base, spares: 3, steps: 4000 },
  'without pre-vote and check-quorum': { ...base, preVote: false, checkQuorum: false },
  'a bad network': { ...base, lose: 0.25, repeat: 0.2 },
  'lease reads': { ...base, leaseReads: true, steps: 4000 },
  'one voter and spares': { ...base, voters: 1, spares: 4, steps: 4000 },
};

for (const [name, options] of Object.entries(kinds)) {
  test(`safe and live: ${name}, ${seeds} seeds`, { timeout: 600_000 }, () => {
    const sum: Record<keyof ChaosResult, number> = {
      elections: 0,
      commits: 0,
      reads: 0,
      crashes: 0,
      snapshots: 0,
      confChanges: 0,
    };
    for (let seed = from; seed < from + seeds; seed++) {
      try {
        const result = new Chaos(seed, options).run();
        for (const key of Object.keys(sum) as (keyof ChaosResult)[]) sum[key] += result[key];
      } catch (error) {
        throw new Error(`seed ${seed}: ${(error as Error).message}`, { cause: error });
      }
    }
    // A run in which nothing happens proves nothing.
    expect(sum.elections).toBeGreaterThan(seeds);
    expect(sum.commits).toBeGreaterThan(seeds * 10);
    expect(sum.reads).toBeGreaterThan(seeds);
    expect(sum.crashes).toBeGreaterThan(seeds);
    expect(sum.snapshots).toBeGreaterThan(0);
    if (options.spares > 0) expect(sum.confChanges).toBeGreaterThan(seeds);
    if (process.env['CHAOS_SEEDS'] !== undefined) console.log(name, sum);
  });
}
