import { equalBytes, hex, MetricRegistry, renderMetrics, utf8, utf8Text } from '@quoin/base';
import { encodeKeyValue, KeyValueView, readEvent } from '@quoin/contracts';
import { registerStoreMetrics, Store, snapshotWriter, storeVersion } from '@quoin/mvcc';
import { MemoryBackend, Scheduler, SimClock, SimHost, SimTimers } from '@quoin/sim';
import { expect, test } from 'vitest';

const scheduler = new Scheduler();
const timers = new SimTimers(new SimHost(scheduler, 'store'), new SimClock(scheduler));
const fromKey = Uint8Array.of(0);
const all = { key: fromKey, rangeEnd: fromKey };

function open(): { store: Store; backend: MemoryBackend } {
  const backend = new MemoryBackend({ timers });
  return { store: Store.open(backend), backend };
}

let index = 0;

function put(store: Store, key: string, value: string | Uint8Array, lease = 0n): number {
  const txn = store.begin();
  txn.put(utf8(key), typeof value === 'string' ? utf8(value) : value, lease);
  return txn.end().revision;
}

function commit(store: Store): void {
  store.commit(++index, 1);
}

function value(kv: Uint8Array | undefined): string | undefined {
  return kv === undefined ? undefined : utf8Text(new KeyValueView().read(kv).value());
}

test('an empty store stands at revision 1 and was never compacted', () => {
  const { store } = open();
  expect([store.revision, store.compactRevision, store.appliedIndex, store.keysTotal]).toEqual([1, -1, 0, 0]);
  expect(store.range(all)).toEqual({ kvs: [], count: 0, more: false });
  expect(store.range({ ...all, revision: 2 })).toBe('future');
  expect(store.compact(0)).toBeUndefined();
  expect(store.compact(0)).toBe('compacted');
});

test('stored bytes are the KeyValue that contracts encodes, and events carry them', () => {
  const { store } = open();
  const events: Uint8Array[] = [];
  store.hub.subscribe(
    { fromRevision: 0, prevKv: true },
    { events: (revisions) => events.push(...revisions.flatMap((r) => r.events)), compacted: () => {} },
  );
  put(store, 'k', 'one');
  put(store, 'k', 'two', 9n);
  const txn = store.begin();
  expect(txn.deleteRange(utf8('k'), new Uint8Array(0), true).deleted).toBe(1);
  txn.end();
  expect(events, 'nothing is given before the commit').toEqual([]);
  commit(store);
  const [first, second, third] = events.map(readEvent);
  const one = encodeKeyValue(utf8('k'), 2, 2, 1, utf8('one'), 0n);
  const two = encodeKeyValue(utf8('k'), 2, 3, 2, utf8('two'), 9n);
  expect([hex(first!.kv), first!.prevKv]).toEqual([hex(one), undefined]);
  expect([hex(second!.kv), hex(second!.prevKv!)]).toEqual([hex(two), hex(one)]);
  expect(hex(third!.kv)).toBe(hex(encodeKeyValue(utf8('k'), 0, 4, 0, new Uint8Array(0), 0n)));
  expect(hex(third!.prevKv!)).toBe(hex(two));
});

test('a request that changes nothing does not move the revision', () => {
  const { store } = open();
  const txn = store.begin();
  expect(txn.deleteRange(fromKey, fromKey).deleted).toBe(0);
  expect(txn.end()).toEqual({ revision: 1, changed: false });
  commit(store);
  expect([store.revision, store.appliedIndex]).toEqual([1, index]);
});

test('a revision of very many events is never split, neither in storage nor in feeds', () => {
  const { store } = open();
  const count = 5000;
  for (let i = 0; i < count; i++) put(store, `key-${String(i).padStart(5, '0')}`, `value ${i}`);
  commit(store);
  const txn = store.begin();
  expect(txn.deleteRange(fromKey, fromKey).deleted).toBe(count);
  const { revision } = txn.end();
  commit(store);
  const read = store.history({ ...all, from: revision, to: revision, prevKv: true, maxBytes: 1 });
  expect(read.revisions.length).toBe(1);
  const events = read.revisions[0]!.events.map(readEvent);
  expect(events.map((e) => value(e.prevKv))).toEqual(Array.from({ length: count }, (_, i) => `value ${i}`));
  const past = store.range({ ...all, revision: revision - 1 });
  expect(typeof past === 'string' ? past : past.count).toBe(count);
});

test('a large value is stored once, counted without being read, and goes with its version', () => {
  const { store, backend } = open();
  const large = new Uint8Array(50_000).fill(0x78);
  for (let i = 0; i < 5; i++) put(store, 'k', large);
  put(store, 'k2', large);
  commit(store);
  const before = backend.sizes().totalBytes;
  expect(before).toBeGreaterThan(6 * 50_000);
  expect(before).toBeLessThan(6 * 50_000 + 5000);
  const range = store.range({ ...all, revision: 4 });
  expect(typeof range === 'string' ? 0 : range.kvs[0]!.length).toBeGreaterThan(50_000);
  expect(store.compact(store.revision)).toBeUndefined();
  commit(store);
  while (store.compactionStep(1) === 'more');
  expect(backend.sizes().totalBytes).toBeLessThan(2 * 50_000 + 3000);
  expect(value(store.get(utf8('k')))!.length).toBe(50_000);
});

test('large values are read a few megabytes a step, whatever the revision', () => {
  const { store } = open();
  const large = new Uint8Array(1 << 20).fill(0x78);
  for (let i = 0; i < 12; i++) put(store, `k${i}`, large);
  const old = store.revision;
  for (let i = 0; i < 12; i++) put(store, `k${i}`, large);
  commit(store);
  for (const options of [
    all,
    { ...all, revision: old },
    { ...all, sortTarget: 4 as const, sortOrder: 2 as const },
  ]) {
    const reader = store.rangeReader(options);
    if (typeof reader === 'string') throw new Error(reader);
    let steps = 1;
    while (!reader.step(1_000_000)) steps++;
    expect(steps).toBeGreaterThanOrEqual(4);
    expect(reader.result().kvs.map((kv) => value(kv)?.length)).toEqual(new Array(12).fill(1 << 20));
    reader.close();
    expect(store.range(options)).toMatchObject({ count: 12 });
  }
});

test('a reader of one key reads it as of its opening, whenever it is stepped', () => {
  const { store } = open();
  put(store, 'k', 'old');
  commit(store);
  const reader = store.rangeReader({ key: utf8('k') });
  if (typeof reader === 'string') throw new Error(reader);
  put(store, 'k', 'new');
  commit(store);
  while (!reader.step(5));
  expect(reader.result().kvs.map(value)).toEqual(['old']);
  reader.close();
});

test('removal waits for a reader that is half way', () => {
  const { store } = open();
  for (let i = 0; i < 20; i++) put(store, `k${i}`, 'old');
  const old = store.revision;
  for (let i = 0; i < 20; i++) put(store, `k${i}`, 'new');
  commit(store);
  const reader = store.rangeReader({ ...all, revision: old });
  if (typeof reader === 'string') throw new Error(reader);
  reader.step(5);
  store.compact(store.revision);
  commit(store);
  expect(store.compactionStep(1000)).toBe('more');
  while (!reader.step(5));
  expect(reader.result().kvs.map(value)).toEqual(Array.from({ length: 20 }, () => 'old'));
  reader.close();
  while (store.compactionStep(1000) !== 'idle');
  expect(store.compactionFinished).toBe(true);
  expect(store.range({ ...all, revision: old })).toBe('compacted');
});

test('a compaction goes on after a restart', () => {
  const { store, backend } = open();
  for (let i = 0; i < 3000; i++) put(store, `k${i % 7}`, `value ${i}`);
  commit(store);
  store.compact(2500);
  commit(store);
  expect(store.compactionStep(10)).toBe('more');
  const again = Store.open(backend.crash(0));
  expect([again.compactRevision, again.compactionFinished]).toEqual([2500, false]);
  while (again.compactionStep(10) === 'more');
  expect(again.compactionFinished).toBe(true);
  const range = again.range({ ...all, revision: 2500 });
  // Revision r holds value r - 2: the newest of each of the seven keys up to 2500.
  expect(typeof range === 'string' ? range : range.kvs.map(value).sort()).toEqual(
    Array.from({ length: 7 }, (_, i) => `value ${2492 + i}`),
  );
});

test('a feed that falls behind goes through history and comes back without gap or repeat', () => {
  const backend = new MemoryBackend({ timers });
  const store = Store.open(backend, { eventRingBytes: 2000 });
  const seen: number[] = [];
  const feed = store.hub.subscribe(
    { fromRevision: 0, prevKv: false, creditBytes: 100 },
    { events: (revisions) => seen.push(...revisions.map((r) => r.revision)), compacted: () => {} },
  );
  for (let i = 0; i < 500; i++) {
    put(store, `k${i % 3}`, `value ${i}`);
    commit(store);
  }
  expect(seen.length).toBeLessThan(10);
  expect(feed.synced).toBe(false);
  feed.credit(Number.MAX_SAFE_INTEGER);
  while (store.hub.pump(300));
  expect(feed.synced).toBe(true);
  put(store, 'k', 'live');
  commit(store);
  expect(seen).toEqual(Array.from({ length: 501 }, (_, i) => i + 2));
});

test('a feed ends when compaction overtakes it', () => {
  const backend = new MemoryBackend({ timers });
  const store = Store.open(backend, { eventRingBytes: 0 });
  let compacted = 0;
  const feed = store.hub.subscribe(
    { fromRevision: 2, prevKv: false, creditBytes: 0 },
    {
      events: () => {},
      compacted: (revision) => {
        compacted = revision;
      },
    },
  );
  for (let i = 0; i < 10; i++) put(store, 'k', `${i}`);
  store.compact(5);
  commit(store);
  expect([compacted, store.hub.feedsBehind]).toEqual([0, 1]);
  feed.credit(1);
  expect(store.hub.pump(1000)).toBe(false);
  expect([compacted, store.hub.feeds]).toEqual([5, 0]);
});

test('a snapshot makes an equal store, whatever was grouped or removed differently', async () => {
  const build = (perCommit: number, compactNow: boolean): Store => {
    const { store } = open();
    let n = 0;
    for (let i = 0; i < 400; i++) {
      put(store, `k${(i * 7) % 50}`, i % 9 === 0 ? 'x'.repeat(3000) : `value ${i}`, i % 5 === 0 ? 7n : 0n);
      if (i % 11 === 0) {
        const txn = store.begin();
        txn.deleteRange(utf8(`k${i % 50}`), new Uint8Array(0));
        txn.end();
      }
      if (i === 300) store.compact(200);
      if (++n % perCommit === 0) store.commit(i, 1);
    }
    store.putRecord(3, utf8('r'), utf8('record'));
    store.commit(1000, 2);
    if (compactNow) while (store.compactionStep(20) === 'more');
    return store;
  };
  const hash = (store: Store): number => {
    const hasher = store.stateHasher();
    while (!hasher.step(700));
    hasher.close();
    return hasher.hash();
  };
  const source = build(1, false);
  expect(hash(build(37, true))).toBe(hash(source));
  const other = build(1, false);
  put(other, 'k', 'different');
  other.commit(1001, 2);
  expect(hash(other)).not.toBe(hash(source));

  const target = new MemoryBackend({ timers });
  const writer = snapshotWriter(target);
  const cursor = source.snapshotCursor();
  expect([cursor.meta.appliedIndex, cursor.meta.appliedTerm, storeVersion]).toEqual([1000, 2, 3]);
  for (let more = true; more; ) {
    const pairs: Uint8Array[] = [];
    more = cursor.next(2000, (key, entry) => pairs.push(key.slice(), entry.slice()));
    writer.write(pairs);
  }
  cursor.close();
  const meta = await new Promise((resolve, reject) => {
    writer.finish(undefined, (error, found) => (error === null ? resolve(found) : reject(error)));
    while (scheduler.step());
  });
  expect(meta).toEqual(cursor.meta);
  const copy = Store.open(target);
  expect(hash(copy)).toBe(hash(source));
  expect(copy.range(all)).toEqual(source.range(all));
  expect(copy.leaseKeys(7n)).toEqual(source.leaseKeys(7n));
  expect(copy.getRecord(3, utf8('r'))).toEqual(utf8('record'));
});

test('a snapshot that was cut off is not a store', () => {
  const { store } = open();
  put(store, 'k', 'v');
  commit(store);
  const target = new MemoryBackend({ timers });
  const writer = snapshotWriter(target);
  const pairs: Uint8Array[] = [];
  store.snapshotCursor().next(1e6, (key, entry) => pairs.push(key.slice(), entry.slice()));
  // Everything but the state, which comes before the events.
  const state = pairs.findIndex((each, i) => i % 2 === 0 && equalBytes(each, utf8('Ms')));
  expect(state).toBeGreaterThanOrEqual(0);
  writer.write(pairs.filter((_, i) => i !== state && i !== state + 1));
  let message = '';
  writer.finish(undefined, (error) => {
    message = error?.message ?? '';
  });
  while (scheduler.step());
  expect(message).toMatch(/incomplete/);
  expect(() => Store.open(target)).toThrow(/not a store/);
  expect(() => writer.write([utf8('x'), utf8('y')])).toThrow(/unknown kind/);
});

test('the metadata cache answers alone once it is warm, and is bounded', () => {
  const { store, backend } = open();
  for (let i = 0; i < 3000; i++)
    put(store, `key-${i}`, 'x'.repeat(i % 2 === 0 ? 10 : 2000), i % 3 === 0 ? 5n : 0n);
  commit(store);
  expect(store.metaCache).toMatchObject({ keys: 3000, complete: true });
  const again = Store.open(backend.crash(0));
  expect(again.metaCache.complete).toBe(false);
  while (again.warm(100));
  expect(again.metaCache).toMatchObject({ keys: 3000, complete: true });
  const { metaMisses } = again.stats;
  expect(again.meta(utf8('key-2999'))?.version).toBe(1);
  expect(again.meta(utf8('key-2997'))?.lease).toBe(5n);
  expect(again.meta(utf8('absent'))).toBeUndefined();
  expect(again.stats.metaMisses).toBe(metaMisses);
  again.close();

  const small = Store.open(new MemoryBackend({ timers }), { metaCacheBytes: 150_000 });
  for (let i = 0; i < 3000; i++) put(small, `key-${i}`, 'v');
  commit(small);
  expect(small.metaCache.complete).toBe(false);
  expect(small.metaCache.keys).toBeLessThan(3000);
  expect(small.metaCache.bytes).toBeLessThanOrEqual(200_000);
  for (let i = 0; i < 3000; i += 97) expect(small.meta(utf8(`key-${i}`))?.modRevision).toBe(i + 2);
});

test('metrics have etcd’s names', () => {
  const registry = new MetricRegistry();
  let current: Store | undefined;
  registerStoreMetrics(registry, () => current);
  expect(renderMetrics(registry.all())).toContain('etcd_mvcc_put_total 0');
  current = open().store;
  put(current, 'k', 'v');
  commit(current);
  const text = renderMetrics(registry.all());
  expect(text).toContain('etcd_mvcc_put_total 1');
  expect(text).toContain('etcd_debugging_mvcc_current_revision 2');
  expect(text).toContain('etcd_debugging_mvcc_keys_total 1');
});

/** Entries of a kind by the first byte of their keys. */
function entriesOf(backend: MemoryBackend, first: string): number {
  let count = 0;
  backend.scan(utf8(first), Uint8Array.of(utf8(first)[0]! + 1), false, () => {
    count++;
    return true;
  });
  return count;
}

test('versions that followed one another share entries, also across restarts, and leave nothing behind', () => {
  const options = { overlayBytes: 40_000 };
  const backend = new MemoryBackend({ timers });
  let store = Store.open(backend, options);
  const names = ['a', 'b', 'c'];
  /** What each revision shows of each key. */
  const past: Record<string, string>[] = [{}, {}];
  let now: Record<string, string> = {};
  const step = (i: number): void => {
    const name = names[i % 3]!;
    const txn = store.begin();
    if (i % 29 === 0) txn.deleteRange(utf8(name), new Uint8Array(0));
    else txn.put(utf8(name), utf8(`value ${i}`), 0n);
    const { revision } = txn.end();
    const { [name]: _, ...others } = now;
    now = i % 29 === 0 ? others : { ...others, [name]: `value ${i}` };
    past[revision] = now;
  };
  const check = (from: number): void => {
    for (let revision = from; revision <= store.revision; revision++) {
      const range = store.range({ ...all, revision });
      if (typeof range === 'string') throw new Error(`${revision}: ${range}`);
      const found = range.kvs.map((kv) => {
        const view = new KeyValueView().read(kv);
        return [utf8Text(view.key()), utf8Text(view.value())];
      });
      expect(Object.fromEntries(found), `at ${revision}`).toEqual(past[revision]);
    }
  };
  for (let i = 1; i <= 1_500; i++) {
    step(i);
    commit(store);
    // What has left the overlay since the last commit comes back, and its entries are there already.
    if (i % 170 === 0) {
      for (let n = 0; n < i % 7; n++) store.materialise(5);
      store = Store.open(backend, options);
    }
  }
  while (store.materialise(100));
  // One for each version would be about 1,450.
  expect(entriesOf(backend, 'H')).toBeLessThan(1_500 / 8);
  check(2);
  for (const revision of [203, 204, 900, 1_311, store.revision]) {
    store.compact(revision);
    commit(store);
    while (store.compactionStep(7) === 'more');
    check(revision);
  }
  expect(entriesOf(backend, 'H')).toBe(0);
});

test('an engine of the format before is read, one of a later format is refused', () => {
  const { store, backend } = open();
  put(store, 'k', 'one');
  commit(store);
  store.materialise(10);
  store.compact(store.revision);
  commit(store);
  const key = utf8('Ms');
  const format = (n: number): void => {
    const state = backend.get(key)!.slice();
    state[0] = n;
    backend.put(key, state);
  };
  format(3);
  expect(value(Store.open(backend).get(utf8('k')))).toBe('one');
  format(5);
  expect(() => Store.open(backend)).toThrow('store state has format 5');
  format(2);
  expect(() => Store.open(backend)).toThrow('this version reads 3 to 4');
});

test('a reader that is closed takes nothing from those that are open', () => {
  const { store } = open();
  for (let i = 0; i < 5_000; i++) put(store, `k${String(i).padStart(5, '0')}`, 'old');
  commit(store);
  const start = () => {
    const reader = store.rangeReader(all);
    if (typeof reader === 'string') throw new Error(reader);
    return reader;
  };
  const finish = (reader: ReturnType<typeof start>): Set<string | undefined> => {
    while (!reader.step(100));
    const values = new Set(reader.result().kvs.map(value));
    reader.close();
    return values;
  };
  const [first, second] = [start(), start()];
  first.step(10);
  second.close();
  second.close();
  for (let i = 0; i < 5_000; i++) put(store, `a${String(i).padStart(5, '0')}`, 'new');
  commit(store);
  const [third, fourth] = [start(), start()];
  expect(finish(first)).toEqual(new Set(['old']));
  expect(finish(third)).toEqual(new Set(['new', 'old']));
  expect(finish(fourth)).toEqual(new Set(['new', 'old']));
});
