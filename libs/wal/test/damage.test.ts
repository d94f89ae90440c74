/** What a log does when its bytes are not what was written: torn by a crash, flipped, missing, somebody else's. */
import { Prng } from '@quoin/base';
import { SimDisk } from '@quoin/sim';
import { describe, expect, test } from 'vitest';
import type { Recovered } from '../src/index.ts';
import { dir, entriesOf, entry, plain, snapshotAt, World } from './world.ts';

const first = `${dir}/0000000000000001-0000000000000001.wal`;
const quick = process.env['QUOIN_EXHAUSTIVE'] === undefined;

const usedBytes = (bytes: Uint8Array): number => {
  let end = bytes.length;
  while (end > 0 && bytes[end - 1] === 0) end--;
  return Math.ceil(end / 8) * 8;
};

/** A fresh machine whose disk holds these files, all durable. */
function machine(files: ReadonlyMap<string, Uint8Array>): World {
  const disk = new SimDisk(new Prng(1), { spikeEvery: 0 });
  for (const [path, bytes] of files) disk.install(path, bytes);
  return new World(1, disk);
}

/** Three synced groups, then one of several records that was written but not synced when the process died. */
function logWithUnsyncedTail(): { bytes: Uint8Array; synced: number; end: number } {
  const world = new World();
  const { wal } = world.openWell({ segmentBytes: 8192 });
  world.wait((cb) => wal.append({ term: 1, vote: 7n, commit: 0 }, entriesOf(1, 2, 1, 30), true, cb));
  world.wait((cb) => wal.append({ term: 1, vote: 7n, commit: 1 }, entriesOf(3, 3, 1, 700), true, cb));
  world.wait((cb) => wal.append({ term: 2, vote: 7n, commit: 3 }, entriesOf(4, 4, 2, 30), true, cb));
  const synced = usedBytes(world.disk.contents(first));
  const before = wal.bytesWritten;
  for (let i = 5; i <= 8; i++)
    wal.append({ term: 2, vote: 7n, commit: i - 1 }, [entry(i, 2, i === 6 ? 900 : 40)], true, () => {});
  world.until(() => wal.bytesWritten > before && wal.syncs === 4);
  const bytes = world.disk.contents(first);
  return { bytes, synced, end: usedBytes(bytes) };
}

const whole = plain([
  ...entriesOf(1, 2, 1, 30),
  ...entriesOf(3, 3, 1, 700),
  ...entriesOf(4, 5, 2, 30).slice(0, 1),
  entry(5, 2, 40),
  entry(6, 2, 900),
  ...entriesOf(7, 8, 2, 40),
]);

function expectPrefix(recovered: Recovered, atLeast: number): void {
  const entries = plain(recovered.entries);
  expect(entries.length).toBeGreaterThanOrEqual(atLeast);
  expect(entries).toEqual(whole.slice(0, entries.length));
  expect(recovered.hardState!.commit).toBeLessThanOrEqual(entries.length);
}

/** Recovers, appends on top, and recovers again. */
function expectUsable(world: World, atLeast: number): void {
  const { wal, recovered } = world.openWell({ segmentBytes: 8192 });
  expectPrefix(recovered, atLeast);
  const next = entry(recovered.nextIndex, 9, 33);
  world.wait((cb) => wal.append(undefined, [next], true, cb));
  world.kill();
  world.disk.crash('lost');
  const again = world.openWell({ segmentBytes: 8192 }).recovered;
  expect(again.repair).toBe(undefined);
  expect(plain(again.entries)).toEqual([...plain(recovered.entries), ...plain([next])]);
}

describe('the unsynced tail', () => {
  const { bytes, synced, end } = logWithUnsyncedTail();

  test('is there, and whole, when nothing happened to it', () => {
    expect(synced).toBeLessThan(end);
    const { recovered } = machine(new Map([[first, bytes]])).openWell();
    expect(plain(recovered.entries)).toEqual(whole);
    expect(recovered.repair).toBe(undefined);
  });

  test.each(['zeros from there on', 'the file ends there'])('cut at any byte: %s', (kind) => {
    for (let at = synced; at <= end; at += quick && at < end - 7 ? 3 : 1) {
      const cut = kind === 'the file ends there' ? bytes.slice(0, at) : bytes.slice().fill(0, at);
      expectUsable(machine(new Map([[first, cut]])), 4);
    }
  });

  test('with any set of its sectors lost', () => {
    const prng = new Prng(3);
    for (let round = 0; round < (quick ? 60 : 2000); round++) {
      const torn = bytes.slice();
      for (let at = synced; at < end; ) {
        const next = at + 512 - (at % 512);
        if (prng.chance(0.5)) torn.fill(0, at, Math.min(next, end));
        at = next;
      }
      expectUsable(machine(new Map([[first, torn]])), 4);
    }
  });

  test('repair is reported', () => {
    const { recovered } = machine(new Map([[first, bytes.slice().fill(0, end - 100)]])).openWell();
    expect(recovered.repair).toMatchObject({ file: first });
    expect(recovered.repair!.offset).toBeGreaterThanOrEqual(synced);
    expect(recovered.repair!.bytes).toBeGreaterThan(0);
  });
});

describe('one flipped bit', () => {
  const refused = (bytes: Uint8Array, bit: number): string | undefined => {
    const flipped = bytes.slice();
    flipped[bit >> 3]! ^= 1 << (bit & 7);
    const { error, recovered } = machine(new Map([[first, flipped]])).open({ segmentBytes: 8192 });
    if (error === null) {
      expectPrefix(recovered!, 4);
      return undefined;
    }
    expect(error.kind).toBe('corrupt');
    const offset = Number(/at offset (\d+): /.exec(error.message)?.[1]);
    expect(offset).toBeLessThanOrEqual(bit >> 3);
    expect(error.message).toContain(first);
    expect(error.message).toContain('restore from a backup');
    return error.message;
  };

  test('in what was synced is refused, naming file and offset', () => {
    const { bytes, synced } = logWithUnsyncedTail();
    for (let bit = 0; bit < synced * 8; bit += quick ? 13 : 1) expect(refused(bytes, bit)).toBeDefined();
  });

  test('in the last group, which may have been synced, is refused or drops no more than that group', () => {
    const { bytes, synced, end } = logWithUnsyncedTail();
    let refusals = 0;
    for (let bit = synced * 8; bit < end * 8; bit += quick ? 17 : 1) if (refused(bytes, bit)) refusals++;
    expect(refusals).toBeGreaterThan(0);
  });

  test('after a clean close is refused wherever it is, even in the last group', () => {
    const world = new World();
    const { wal } = world.openWell({ segmentBytes: 8192 });
    const zeros = { ...entry(1, 1), data: new Uint8Array(3000) };
    world.wait((cb) => wal.append({ term: 1, vote: 7n, commit: 0 }, [zeros], true, cb));
    world.wait((cb) => wal.close(cb));
    const bytes = world.disk.contents(first);
    const from = 40 + 56 + 24;
    for (let bit = from * 8; bit < (from + 3000) * 8; bit += quick ? 401 : 11) {
      expect(refused(bytes, bit)).toMatch(/checksum mismatch/);
    }
  });

  test('in space that was never written is repaired', () => {
    const { bytes, end } = logWithUnsyncedTail();
    for (let bit = end * 8; bit < 8192 * 8; bit += quick ? 211 : 7) {
      const flipped = bytes.slice();
      flipped[bit >> 3]! ^= 1 << (bit & 7);
      const { recovered } = machine(new Map([[first, flipped]])).openWell({ segmentBytes: 8192 });
      expect(recovered.entries.length).toBe(8);
      expect(recovered.repair).toMatchObject({ file: first });
    }
  });

  test('in a segment that is not the last is refused', () => {
    const files = manySegments();
    const paths = [...files.keys()];
    const prng = new Prng(5);
    for (let round = 0; round < 50; round++) {
      const path = prng.pick(paths.slice(0, -1));
      const bytes = files.get(path)!.slice();
      const bit = prng.below(usedBytes(bytes) * 8);
      bytes[bit >> 3]! ^= 1 << (bit & 7);
      const { error, recovered } = machine(new Map(files).set(path, bytes)).open();
      if (error !== null)
        expect(error.message).toMatch(new RegExp(`^WAL ${path} is corrupt at offset \\d+: `));
      else expect(recovered!.entries.length).toBe(40);
    }
  });
});

function manySegments(): Map<string, Uint8Array> {
  const world = new World();
  const { wal } = world.openWell();
  for (let i = 1; i <= 40; i++) world.wait((cb) => wal.append(undefined, [entry(i, 1, 300)], true, cb));
  const paths = world.disk.files().filter((path) => path.endsWith('.wal'));
  expect(paths.length).toBeGreaterThan(3);
  return new Map(paths.map((path) => [path, world.disk.contents(path)]));
}

test('a record from another place is never taken for valid', () => {
  const { bytes, synced } = logWithUnsyncedTail();
  // The first hard state and entries 1 and 2: taken for valid, they would cut the log to two entries.
  const early = bytes.subarray(40, 224);
  for (let at = synced; at < synced + 64; at += 8) {
    const stale = bytes.slice().fill(0, synced);
    stale.set(early, at);
    const { error, recovered } = machine(new Map([[first, stale]])).open({ segmentBytes: 8192 });
    if (error !== null) expect(error.message).toMatch(`at offset ${synced}: `);
    else expect([recovered!.entries.length, recovered!.hardState!.term]).toEqual([4, 2]);
  }
});

describe('files', () => {
  test('a segment missing in the middle is refused', () => {
    const files = manySegments();
    files.delete([...files.keys()][1]!);
    const { error } = machine(files).open();
    expect(error!.message).toMatch(
      /^WAL member\/wal is corrupt: a segment is missing between 0{15}1-\S+ and 0{15}3-/,
    );
  });

  test('a segment in the middle that is cut short is refused', () => {
    const files = manySegments();
    const path = [...files.keys()][1]!;
    files.set(path, files.get(path)!.slice(0, 2000));
    expect(machine(files).open().error!.message).toMatch(`WAL ${path} is corrupt at offset `);
  });

  test.each([0, 10, 39])('a last segment of %i bytes, less than its head, is refused', (bytes) => {
    const files = manySegments();
    const path = [...files.keys()].at(-1)!;
    files.set(path, files.get(path)!.slice(0, bytes));
    expect(machine(files).open().error!.message).toMatch(
      `WAL ${path} is corrupt at offset 0: the segment's head is`,
    );
  });

  test('a segment of another log is refused', () => {
    const files = manySegments();
    const path = [...files.keys()].at(-1)!;
    const other = new World();
    other.open({}, new Uint8Array(9));
    files.set(path, other.disk.contents(first));
    expect(machine(files).open().error!.message).toMatch(`WAL ${path} is corrupt at offset 0`);
  });

  test('a foreign file is refused, lost+found is not', () => {
    const files = manySegments();
    files.set(`${dir}/lost+found`, new Uint8Array(0));
    expect(machine(files).open().error).toBe(null);
    files.set(`${dir}/notes.txt`, new Uint8Array(3));
    const { error } = machine(files).open();
    expect(error!.kind).toBe('foreign');
    expect(error!.message).toContain('notes.txt');
  });

  test('a log of another cluster or member is refused, with the words of the caller', () => {
    const files = manySegments();
    const plainError = machine(files).open({}, new Uint8Array(3)).error!;
    expect([plainError.kind, plainError.message]).toEqual([
      'metadata',
      'WAL member/wal cannot be used: it was written by another member or for another cluster',
    ]);
    const { error } = machine(files).open({ checkMetadata: (found) => `it belongs to cluster ${found[0]}` });
    expect(error!.message).toBe('WAL member/wal cannot be used: it belongs to cluster 1');
  });

  test('a leftover of a segment being made is removed', () => {
    const files = manySegments();
    files.set(`${dir}/next.tmp`, new Uint8Array(77));
    expect(machine(files).openWell().recovered.entries.length).toBe(40);
  });

  test('a crash between the end of a segment and the next one loses nothing', () => {
    const files = manySegments();
    files.delete([...files.keys()].at(-1)!);
    const world = machine(files);
    const { wal, recovered } = world.openWell();
    const { nextIndex } = recovered;
    world.wait((cb) => wal.saveSnapshot(snapshotAt(3, 1), cb));
    world.wait((cb) => wal.append({ term: 2, vote: 1n, commit: 5 }, [entry(nextIndex, 2)], true, cb));
    world.kill();
    world.disk.crash('lost');
    const again = world.openWell().recovered;
    expect([again.nextIndex, again.segments]).toEqual([nextIndex + 1, files.size + 1]);
  });
});
