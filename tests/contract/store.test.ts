/** The store over both backends: the same random runs, held to the same model. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { RocksBackend } from '@quoin/platform';
import { MemoryBackend, Scheduler, SimClock, SimHost, SimTimers } from '@quoin/sim';
import { afterAll, expect, test } from 'vitest';
import { Run } from './store-run.ts';

const dir = mkdtempSync(join(tmpdir(), 'quoin-store-'));
afterAll(() => rmSync(dir, { recursive: true, force: true }));

const scheduler = new Scheduler();
const host = new SimHost(scheduler, 'store');
const timers = new SimTimers(host, new SimClock(scheduler));

test.each(Array.from({ length: 18 }, (_, i) => i + 1))('memory, seed %i', (seed) => {
  const run = new Run(new MemoryBackend({ timers }), {
    seed,
    turns: 120,
    largeValues: seed % 3 === 0,
    keyBytesMax: seed % 4 === 0 ? 1 : 3,
    // Small ones make lagging feeds read history and puts read what they replace.
    eventRingBytes: [500, 20_000, 1 << 20][seed % 3]!,
    metaCacheBytes: [0, 40_000, 1 << 24][(seed >> 1) % 3]!,
    // The tables alone are 8 KiB: from nothing in memory to everything.
    overlayBytes: [0, 12_000, 30_000, 1 << 24][seed % 4]!,
    crash: (backend, prng) => {
      const memory = backend as MemoryBackend;
      return memory.crash(prng.below(memory.unflushedWrites + 1));
    },
  });
  run.go();
  run.store.close();
});

test.each([101, 102])('RocksDB, seed %i', (seed) => {
  const path = join(dir, `run-${seed}`);
  const run = new Run(new RocksBackend(path), {
    seed,
    turns: 80,
    largeValues: true,
    keyBytesMax: seed === 101 ? 1 : 3,
    eventRingBytes: 2000,
    metaCacheBytes: 1 << 20,
    overlayBytes: 12_000,
    crash: (backend) => {
      backend.close();
      return new RocksBackend(path);
    },
  });
  run.go();
  expect(run.store.sizes().totalBytes).toBeGreaterThan(0);
  run.store.close();
});
