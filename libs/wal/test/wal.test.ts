import { EntryType } from '@quoin/raft';
import { expect, test } from 'vitest';
import { Wal } from '../src/index.ts';
import { dir, entriesOf, entry, metadata, plain, snapshotAt, World } from './world.ts';

const state = (term: number, commit: number, vote = 0xfedc_ba98_7654_3210n) => ({ term, vote, commit });

test('a new log is empty, and gives back what was appended', () => {
  const world = new World();
  const first = world.openWell();
  expect(first.recovered).toMatchObject({ created: true, entries: [], hardState: undefined, nextIndex: 1 });
  const entries = [
    entry(1, 1),
    { term: 1, index: 2, type: EntryType.confChange, data: new Uint8Array(0) },
    entry(3, 2, 5000),
    entry(4, 2, 9000),
  ];
  world.wait((cb) => first.wal.append(state(2, 3), entries, true, cb));
  world.kill();
  world.disk.crash('lost');
  const { recovered } = world.openWell();
  expect(recovered).toMatchObject({
    created: false,
    hardState: state(2, 3),
    nextIndex: 5,
    repair: undefined,
  });
  expect(recovered.metadata).toEqual(metadata);
  expect(plain(recovered.entries)).toEqual(plain(entries));
});

test('exists tells a log from an empty or missing directory', () => {
  const world = new World();
  const exists = () => {
    let found: boolean | undefined;
    Wal.exists(world.disk.port(world.host), dir, (error, is) => {
      expect(error).toBe(null);
      found = is;
    });
    world.until(() => found !== undefined);
    return found;
  };
  expect(exists()).toBe(false);
  world.openWell();
  expect(exists()).toBe(true);
});

test('appends of one turn share one sync, and their callbacks come in order', () => {
  const world = new World();
  const { wal } = world.openWell({ segmentBytes: 1 << 20 });
  const order: number[] = [];
  const before = wal.syncs;
  for (let i = 1; i <= 100; i++) wal.append(undefined, [entry(i, 1)], true, () => order.push(i));
  expect(order).toEqual([]);
  world.until(() => order.length === 100);
  expect(order).toEqual(Array.from({ length: 100 }, (_, i) => i + 1));
  expect(wal.syncs - before).toBe(1);
});

test('appends that arrive during a sync form the next group', () => {
  const world = new World();
  const { wal } = world.openWell({ segmentBytes: 1 << 20 });
  const order: number[] = [];
  wal.append(undefined, [entry(1, 1)], true, () => order.push(1));
  world.until(() => wal.syncs === 1);
  const before = wal.syncs;
  for (let i = 2; i <= 50; i++) wal.append(undefined, [entry(i, 1)], true, () => order.push(i));
  world.until(() => order.length === 50);
  expect(wal.syncs - before).toBe(1);
  expect(order[0]).toBe(1);
});

test('what a callback appends belongs to the next group, with one sync', () => {
  const world = new World();
  const { wal } = world.openWell({ segmentBytes: 1 << 20 });
  let done = 0;
  const again = (index: number) => (): void => {
    done = index;
    if (index < 20) wal.append(undefined, [entry(index + 1, 1)], true, again(index + 1));
  };
  const before = wal.syncs;
  wal.append(undefined, [entry(1, 1)], true, again(1));
  world.until(() => done === 20);
  expect(wal.syncs - before).toBe(20);
});

test('a new commit index alone costs no sync, is not lost by close, and goes with the next group', () => {
  const world = new World();
  const { wal } = world.openWell();
  world.wait((cb) => wal.append(state(1, 0), entriesOf(1, 3, 1), true, cb));
  const { syncs, bytesWritten } = wal;
  let called = false;
  wal.append(state(1, 2), [], false, () => {
    called = true;
  });
  expect(called).toBe(false);
  world.until(() => called);
  expect([wal.syncs, wal.bytesWritten]).toEqual([syncs, bytesWritten]);
  world.wait((cb) => wal.append(undefined, [entry(4, 1)], true, cb));
  wal.append(state(1, 4), [], false, () => {});
  const alive = new World(1, world.disk.clone(7));
  expect(alive.openWell().recovered.hardState).toEqual(state(1, 2));
  world.wait((cb) => wal.close(cb));
  world.kill();
  world.disk.crash('lost');
  expect(world.openWell().recovered.hardState).toEqual(state(1, 4));
});

test('the callback of a commit index waits for the appends before it', () => {
  const world = new World();
  const { wal } = world.openWell();
  const order: string[] = [];
  wal.append(undefined, [entry(1, 1)], true, () => order.push('entry'));
  wal.append(state(1, 1), [], false, () => order.push('commit'));
  wal.append(undefined, [entry(2, 1)], true, () => order.push('second'));
  world.until(() => order.length === 3);
  expect(order).toEqual(['entry', 'commit', 'second']);
});

test('a later append replaces the suffix', () => {
  const world = new World();
  const { wal } = world.openWell();
  world.wait((cb) => wal.append(state(1, 2), entriesOf(1, 6, 1), true, cb));
  world.wait((cb) => wal.append(state(2, 2), entriesOf(4, 5, 2), true, cb));
  world.kill();
  const { recovered } = world.openWell();
  expect(plain(recovered.entries)).toEqual(plain([...entriesOf(1, 3, 1), ...entriesOf(4, 5, 2)]));
});

test('a snapshot of the own state keeps later entries, an installed one replaces the log', () => {
  const world = new World();
  const { wal } = world.openWell();
  world.wait((cb) => wal.append(state(1, 6), entriesOf(1, 10, 1), true, cb));
  world.wait((cb) => wal.saveSnapshot(snapshotAt(6, 1), cb));
  const own = new World(1, world.disk.clone(1)).openWell().recovered;
  expect(own.snapshot).toEqual(snapshotAt(6, 1));
  expect(own.entries.map((e) => e.index)).toEqual([7, 8, 9, 10]);

  world.wait((cb) => wal.saveSnapshot(snapshotAt(9, 4), cb));
  const conflicting = new World(1, world.disk.clone(1)).openWell().recovered;
  expect([conflicting.entries.length, conflicting.nextIndex]).toEqual([0, 10]);

  world.wait((cb) => wal.saveSnapshot(snapshotAt(50, 4), cb));
  world.wait((cb) => wal.append(state(4, 50), entriesOf(51, 52, 4), true, cb));
  const ahead = new World(1, world.disk.clone(1)).openWell().recovered;
  expect(ahead.snapshot).toEqual(snapshotAt(50, 4));
  expect(ahead.entries.map((e) => e.index)).toEqual([51, 52]);
  expect(ahead.hardState).toEqual(state(4, 50));
});

test('segments rotate, repeat hard state and snapshot, and are released whole', () => {
  const world = new World();
  const { wal } = world.openWell();
  world.wait((cb) => wal.append(state(3, 0), [], true, cb));
  world.wait((cb) => wal.append(undefined, [entry(1, 3)], true, cb));
  world.wait((cb) => wal.saveSnapshot(snapshotAt(1, 3), cb));
  for (let i = 2; i <= 100; i++) world.wait((cb) => wal.append(undefined, [entry(i, 3, 200)], true, cb));
  const segments = () => world.disk.files().filter((path) => path.endsWith('.wal'));
  const before = segments();
  expect(before.length).toBeGreaterThan(5);
  expect(before[0]).toBe(`${dir}/0000000000000001-0000000000000001.wal`);
  wal.release(60);
  world.settle();
  const after = segments();
  expect(after.length).toBeLessThan(before.length);
  world.kill();
  world.disk.crash('lost');
  const { recovered } = world.openWell();
  expect(recovered.hardState).toEqual(state(3, 1));
  expect(recovered.snapshot).toEqual(snapshotAt(1, 3));
  const first = recovered.entries[0]!.index;
  expect(first).toBeLessThanOrEqual(61);
  expect(plain(recovered.entries)).toEqual(plain(entriesOf(first, 100, 3, 200)));
});

test('release never removes the last segment, and the log goes on after it', () => {
  const world = new World();
  const { wal } = world.openWell();
  for (let i = 1; i <= 40; i++) world.wait((cb) => wal.append(undefined, [entry(i, 1, 300)], true, cb));
  wal.release(1000);
  world.settle();
  expect(world.disk.files().filter((path) => path.endsWith('.wal')).length).toBe(1);
  world.wait((cb) => wal.append(undefined, [entry(41, 1)], true, cb));
  world.kill();
  expect(world.openWell().recovered.entries.at(-1)!.index).toBe(41);
});

test('a record larger than a segment gets a segment of its size', () => {
  const world = new World();
  const { wal } = world.openWell();
  const big = entry(2, 1, 50_000);
  world.wait((cb) => wal.append(undefined, [entry(1, 1)], true, cb));
  world.wait((cb) => wal.append(undefined, [big, entry(3, 1)], true, cb));
  world.kill();
  expect(plain(world.openWell().recovered.entries)).toEqual(plain([entry(1, 1), big, entry(3, 1)]));
});

test('the observers see every write and sync', () => {
  const world = new World();
  let bytes = 0;
  const syncs: number[] = [];
  const { wal } = world.openWell({
    onWrite: (_, n) => {
      bytes += n;
    },
    onSync: (durationMs) => syncs.push(durationMs),
  });
  for (let i = 1; i <= 30; i++) world.wait((cb) => wal.append(undefined, [entry(i, 1, 500)], true, cb));
  expect(bytes).toBe(wal.bytesWritten);
  expect(syncs.length).toBe(wal.syncs);
  expect(Math.min(...syncs)).toBeGreaterThan(0);
});

test('nothing is appended that does not follow', () => {
  const world = new World();
  const { wal } = world.openWell();
  expect(() => wal.append(undefined, [entry(2, 1)], true, () => {})).toThrow(/entry 2 follows entry 0/);
  expect(() => wal.append(undefined, [entry(1, 1), entry(3, 1)], true, () => {})).toThrow(/contiguous/);
});
