#!/usr/bin/env node
/**
 * `npm run fleet -- --minutes 10 [--seed N]`: gateways are killed, stopped and added at random under load; at its end
 * what clients saw, and exit 1 if anything was lost, failed for good or was missed by a watch.
 */
import { parseArgs } from 'node:util';
import { runFleet } from '../tests/deploy/fleet.ts';

const { values } = parseArgs({
  options: {
    minutes: { type: 'string', default: '10' },
    seed: { type: 'string', default: String(1 + Math.floor(Math.random() * 1_000_000)) },
    verbose: { type: 'boolean', default: false },
  },
});
const seconds = Number(values.minutes) * 60;
const seed = Number(values.seed);
if (!(seconds > 0) || !Number.isSafeInteger(seed)) {
  process.stderr.write('fleet: --minutes must be a number above 0, --seed a whole number\n');
  process.exit(2);
}
process.stdout.write(`seed ${seed}, ${seconds} s\n`);
const report = await runFleet({
  seconds,
  seed,
  ...(values.verbose ? { onLine: (line: string) => process.stdout.write(`${line}\n`) } : {}),
});
process.stdout.write(`${JSON.stringify(report, undefined, 2)}\n`);
process.exit(report.wrong.length === 0 ? 0 : 1);
