import { expect, test } from 'vitest';
import { entriesOf, plain, World } from './world.ts';

// A failed fsync leaves bytes that the next process reads and believes, and that no later fsync would write.
// Simulator, seeds 27 and 147: a member went on from them, lost power, and refused its own log as corrupt.
test.each([false, true])(
  'bytes of a failed fsync are written again by the next life (segment ended: %s)',
  (ended) => {
    // Whether the failed fsync had written some of them is up to the disk.
    for (let seed = 1; seed <= 10; seed++) failThenLosePower(seed, ended);
  },
);

function failThenLosePower(seed: number, ended: boolean): void {
  const world = new World(seed);
  const { wal } = world.openWell();
  world.wait((cb) => wal.append({ term: 1, vote: 1n, commit: 0 }, entriesOf(1, 3, 1), true, cb));
  world.disk.fault = ({ op }) => (op === 'sync' ? 'EIO' : undefined);
  // With enough of them the segment is ended, and it is that sync which fails.
  wal.append(undefined, entriesOf(4, 5, 1, ended ? 3_000 : 20), true, () => {
    throw new Error('acknowledged');
  });
  world.settle();
  expect(world.fatals.length).toBe(1);
  world.disk.fault = undefined;
  world.kill();
  const second = world.openWell();
  const seen = plain(second.recovered.entries);
  const from = second.recovered.nextIndex;
  world.wait((cb) => second.wal.append(undefined, entriesOf(from, from + 2, 2), true, cb));
  world.kill();
  world.disk.crash('lost');
  const third = world.openWell();
  expect(plain(third.recovered.entries)).toEqual([...seen, ...plain(entriesOf(from, from + 2, 2))]);
}
