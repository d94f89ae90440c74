/**
 * CPU and wall time of the store on RocksDB: `node libs/mvcc/bench/store.bench.ts`. CPU is user + system of all
 * threads, flushes and compactions in the background included; main is this thread's share. Figures: DESIGN.md.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { utf8 } from '@quoin/base';
import { Store } from '@quoin/mvcc';
import { RocksBackend } from '@quoin/platform';

const keysTotal = 100_000;
const value = new Uint8Array(256);
for (let i = 0; i < value.length; i++) value[i] = i % 2 === 0 ? (Math.random() * 256) & 255 : 7;

const dir = mkdtempSync(join(tmpdir(), 'quoin-bench-'));
const store = Store.open(new RocksBackend(join(dir, 'store')));
let index = 0;

function measure(name: string, units: number, work: () => void): void {
  const cpu = process.cpuUsage();
  const main = process.threadCpuUsage();
  const start = performance.now();
  work();
  const wallUs = (performance.now() - start) * 1000;
  const used = process.cpuUsage(cpu);
  const cpuUs = used.user + used.system;
  const usedHere = process.threadCpuUsage(main);
  const mainUs = usedHere.user + usedHere.system;
  console.log(
    `${name.padEnd(44)} ${Math.round(units / (wallUs / 1e6))
      .toLocaleString()
      .padStart(10)} /s ` +
      `${(wallUs / units).toFixed(2).padStart(8)} µs wall ${(mainUs / units).toFixed(2).padStart(8)} main ` +
      `${(cpuUs / units).toFixed(2).padStart(8)} all CPU`,
  );
}

const key = (space: number, i: number): Uint8Array =>
  utf8(`/registry/${space}/${String(i).padStart(12, '0')}`);

function puts(space: number, batch: number, count: number, step: number): void {
  for (let i = 0; i < count; ) {
    for (let n = 0; n < batch && i < count; n++, i++) {
      const txn = store.begin();
      txn.put(key(space, (i * step) % keysTotal), value, 0n);
      txn.end();
    }
    store.commit(++index, 1);
  }
}

for (const batch of [1, 30, 1000]) {
  measure(`put, new keys in order, batches of ${batch}`, keysTotal, () => puts(batch, batch, keysTotal, 1));
  measure(`put, overwrites at random, batches of ${batch}`, keysTotal, () =>
    puts(batch, batch, keysTotal, 7919),
  );
}
measure('put, new keys at random, batches of 30', keysTotal, () => puts(31, 30, keysTotal, 7919));

let delivered = 0;
const feed = store.hub.subscribe(
  { fromRevision: 0, prevKv: true, creditBytes: Number.MAX_SAFE_INTEGER },
  {
    events: (revisions) => {
      delivered += revisions.length;
    },
    compacted: () => {
      throw new Error('the feed was cut off');
    },
  },
);
measure('put, overwrites, batches of 30, prev_kv feed', 50_000, () => puts(30, 30, 50_000, 7919));
feed.close();
if (delivered !== 50_000) throw new Error(`the feed was given ${delivered} revisions`);

measure('get, one key', 100_000, () => {
  for (let i = 0; i < 100_000; i++)
    if (store.get(key(30, (i * 7919) % keysTotal)) === undefined) throw new Error('lost');
});
measure('range, one key', 100_000, () => {
  for (let i = 0; i < 100_000; i++) store.range({ key: key(30, (i * 7919) % keysTotal) });
});
measure('meta (compare in a txn)', 100_000, () => {
  for (let i = 0; i < 100_000; i++) store.meta(key(30, (i * 7919) % keysTotal));
});
measure('range of 1,000, per key', 100_000, () => {
  for (let i = 0; i < 100; i++) store.range({ key: key(30, i * 1000), rangeEnd: key(30, (i + 1) * 1000) });
});
measure('count of all, per key', store.keysTotal, () => {
  store.range({ key: Uint8Array.of(0), rangeEnd: Uint8Array.of(0), countOnly: true });
});
const past = store.revision - 50_000;
measure('range of 1,000 in the past, per key', 20_000, () => {
  for (let i = 0; i < 20; i++) {
    store.range({ key: key(30, i * 1000), rangeEnd: key(30, (i + 1) * 1000), revision: past });
  }
});
measure('history of 50,000 revisions, per event', 50_000, () => {
  for (let from = past; from <= store.revision; ) {
    const all = { key: Uint8Array.of(0), rangeEnd: Uint8Array.of(0) };
    from = store.history({ ...all, from, to: store.revision, prevKv: false, maxBytes: 1 << 20 }).nextRevision;
  }
});
const removed = store.revision - 10_000;
store.compact(removed);
store.commit(++index, 1);
let longestMs = 0;
measure('compaction, per event', removed, () => {
  for (let outcome = 'more'; outcome === 'more'; ) {
    const start = performance.now();
    outcome = store.compactionStep(300);
    longestMs = Math.max(longestMs, performance.now() - start);
  }
});
const memory = Math.round(process.memoryUsage().heapUsed / 1e6);
console.log(
  `longest compaction step of 300 events ${longestMs.toFixed(1)} ms; heap ${memory} MB;`,
  store.metaCache,
);
store.close();
const opening = performance.now();
const again = Store.open(new RocksBackend(join(dir, 'store')));
console.log(`open with ${again.keysTotal} keys: ${(performance.now() - opening).toFixed(0)} ms`);
measure('warm the cache, per key', again.keysTotal, () => {
  while (again.warm(2000));
});
console.log(again.metaCache, again.sizes());
again.close();
rmSync(dir, { recursive: true, force: true });
