/**
 * A bounded share of `npm run compat`: random requests to real etcd and to Quoin, every answer compared. Each run of the
 * tests takes the same sequences; `npm run compat` takes others.
 */
import { expect, test } from 'vitest';
import { findOracle } from './oracle.ts';
import { randomRun } from './random-run.ts';

const oracle = findOracle();

test.runIf(oracle !== undefined)(
  'random sequences: every answer of Quoin is etcd’s',
  async () => {
    const result = await randomRun({
      oracle: oracle!,
      shapes: ['node', 'cluster'],
      operations: 1_500,
      limitMs: 35_000,
      seed: 7,
      differencesMax: 1,
      shrinkLimitMs: 40_000,
    });
    process.stdout.write(
      `etcd ${oracle!.fullVersion}: ${result.operations} operations in ${result.sequences} sequences compared\n`,
    );
    expect(result.unexplained.join('\n\n')).toBe('');
    expect(result.operations).toBeGreaterThan(100);
  },
  180_000,
);
