/**
 * The log on the real disk: `node libs/wal/bench/wal.bench.ts [directory]`. CPU is user + system of all threads,
 * preparing of segments included. Figures: DESIGN.md.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Log } from '@quoin/base';
import { RealClock, RealDisk, RealTimers } from '@quoin/platform';
import type { Entry } from '@quoin/raft';
import { type Recovered, Wal, type WalOptions } from '@quoin/wal';

const entryBytes = 300;
const dir = mkdtempSync(join(process.argv[2] ?? tmpdir(), 'quoin-wal-'));
const log: Log = { debug: () => {}, info: () => {}, warn: console.warn, error: console.error };
const syncsMs: number[] = [];
const options: WalOptions = {
  clock: new RealClock(),
  timers: new RealTimers(),
  log,
  onFatal: (message) => {
    throw new Error(message);
  },
  onSync: (durationMs) => syncsMs.push(durationMs),
};
const data = new Uint8Array(entryBytes).map((_, i) => (i * 131) & 255);
const entry = (index: number): Entry => ({ term: 1, index, type: 0, data });

function open(name: string): Promise<{ wal: Wal; recovered: Recovered }> {
  return new Promise((resolve, reject) => {
    Wal.open(new RealDisk(dir), name, options, new Uint8Array(16), (error, wal, recovered) => {
      if (wal === null || recovered === null) reject(error);
      else resolve({ wal, recovered });
    });
  });
}

/** `perTurn` appends of one entry each, every turn, with at most `inFlight` unanswered. */
async function appends(perTurn: number, inFlight: number, total: number): Promise<void> {
  const name = `wal-${perTurn}-${inFlight}`;
  const { wal } = await open(name);
  // The first spare segment is made outside of what is measured; those of rotation are inside.
  await new Promise((resolve) => setTimeout(resolve, 500));
  syncsMs.length = 0;
  const cpu = process.cpuUsage();
  const start = performance.now();
  await new Promise<void>((resolve) => {
    let sent = 0;
    let done = 0;
    let waiting = false;
    const answered = (): void => {
      done++;
      if (done === total) resolve();
      else if (!waiting) next();
    };
    const turn = (): void => {
      waiting = false;
      for (let i = 0; i < perTurn && sent < total && sent - done < inFlight; i++) {
        sent++;
        wal.append(undefined, [entry(sent)], true, answered);
      }
      if (sent < total && sent - done < inFlight) next();
    };
    const next = (): void => {
      waiting = true;
      setImmediate(turn);
    };
    turn();
  });
  const seconds = (performance.now() - start) / 1000;
  const used = process.cpuUsage(cpu);
  syncsMs.sort((a, b) => a - b);
  const at = (q: number): string => syncsMs[Math.floor(syncsMs.length * q)]!.toFixed(2);
  console.log(
    `${String(perTurn).padStart(4)} a turn, ${String(inFlight).padStart(5)} in flight: ` +
      `${Math.round(total / seconds)
        .toLocaleString()
        .padStart(9)} appends/s, ` +
      `${((used.user + used.system) / total).toFixed(2).padStart(6)} µs CPU per append, ` +
      `${(total / wal.syncs).toFixed(1)} appends per sync, sync p50 ${at(0.5)} p99 ${at(0.99)} ms`,
  );
  await new Promise<void>((resolve) => wal.close(resolve));
}

async function encodeOnly(): Promise<void> {
  const { wal } = await open('wal-batch');
  const batch = Array.from({ length: 1000 }, (_, i) => i);
  let index = 0;
  const cpu = process.cpuUsage();
  const start = performance.now();
  for (let round = 0; round < 300; round++) {
    const entries = batch.map(() => entry(++index));
    await new Promise<void>((resolve) => wal.append(undefined, entries, true, resolve));
  }
  const used = process.cpuUsage(cpu);
  const seconds = (performance.now() - start) / 1000;
  console.log(
    `1000 entries an append: ${Math.round(index / seconds).toLocaleString()} entries/s, ` +
      `${((used.user + used.system) / index).toFixed(2)} µs CPU per entry`,
  );
  await new Promise<void>((resolve) => wal.close(resolve));
}

async function recovery(name: string): Promise<void> {
  const cpu = process.cpuUsage();
  const start = performance.now();
  const { wal, recovered } = await open(name);
  const used = process.cpuUsage(cpu);
  const cpuSeconds = (used.user + used.system) / 1e6;
  const seconds = (performance.now() - start) / 1000;
  const mib = recovered.bytesRead / (1 << 20);
  console.log(
    `recovery of ${name}: ${mib.toFixed(0)} MiB in ${recovered.segments} segments, ${recovered.entries.length.toLocaleString()} entries ` +
      `in ${seconds.toFixed(2)} s: ${(mib / seconds).toFixed(0)} MiB/s; ${(mib / cpuSeconds).toFixed(0)} MiB per second of CPU`,
  );
  await new Promise<void>((resolve) => wal.close(resolve));
}

try {
  await appends(1, 1, 3_000);
  await appends(10, 100, 50_000);
  await appends(100, 1_000, 300_000);
  await encodeOnly();
  await recovery('wal-100-1000');
  await recovery('wal-batch');
} finally {
  rmSync(dir, { recursive: true, force: true });
}
