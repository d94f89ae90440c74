import { type Log, Prng } from '@quoin/base';
import { type ConfState, type Entry, EntryType, type SnapshotMeta } from '@quoin/raft';
import { Scheduler, SimClock, SimDisk, SimHost, SimTimers } from '@quoin/sim';
import { type Recovered, Wal, type WalError, type WalOptions } from '@quoin/wal';

export const dir = 'member/wal';
export const metadata = new Uint8Array([1, 2, 3, 4, 5, 6, 7, 8, 9]);
export const confState: ConfState = {
  voters: [1n, 2n, 0xffff_ffff_ffff_fffen],
  votersOutgoing: [4n],
  learners: [],
  learnersNext: [5n],
  autoLeave: true,
};

const silent: Log = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} };

export interface Opened {
  readonly error: WalError | null;
  readonly wal: Wal | null;
  readonly recovered: Recovered | null;
}

/** One machine with a simulated disk, whose process opens logs and dies. */
export class World {
  readonly scheduler = new Scheduler();
  readonly clock = new SimClock(this.scheduler);
  disk: SimDisk;
  host = new SimHost(this.scheduler, 'a');
  fatals: string[] = [];

  constructor(seed = 1, disk = new SimDisk(new Prng(seed))) {
    this.disk = disk;
  }

  options(more: Partial<WalOptions> = {}): WalOptions {
    return {
      clock: this.clock,
      timers: new SimTimers(this.host, this.clock),
      log: silent,
      onFatal: (message) => this.fatals.push(message),
      segmentBytes: 4096,
      readChunkBytes: 1024,
      allocateStepBytes: 1024,
      ...more,
    };
  }

  open(more: Partial<WalOptions> = {}, meta: Uint8Array = metadata): Opened {
    let opened: Opened | undefined;
    Wal.open(this.disk.port(this.host), dir, this.options(more), meta, (error, wal, recovered) => {
      opened = { error, wal, recovered };
    });
    this.until(() => opened !== undefined);
    return opened!;
  }

  openWell(more: Partial<WalOptions> = {}): { wal: Wal; recovered: Recovered } {
    const { error, wal, recovered } = this.open(more);
    if (error !== null) throw error;
    return { wal: wal!, recovered: recovered! };
  }

  /** Runs a call with a completion callback to its end. */
  wait(call: (cb: () => void) => void): void {
    let done = false;
    call(() => {
      done = true;
    });
    this.until(() => done);
  }

  until(predicate: () => boolean): void {
    if (!this.scheduler.runUntil(predicate, this.scheduler.nowMs + 60_000))
      throw new Error('it never happens');
  }

  settle(): void {
    this.scheduler.run(this.scheduler.nowMs + 1000);
  }

  /** The process dies. */
  kill(): void {
    this.host.kill();
    this.host = new SimHost(this.scheduler, 'a');
  }
}

export function entry(index: number, term: number, bytes = 20): Entry {
  const data = new Uint8Array(bytes);
  // Nowhere a whole sector of zeros, so that damage never looks like a torn write.
  for (let i = 0; i < bytes; i++) data[i] = ((index * 31 + term * 7 + i * 13) % 255) + 1;
  return { term, index, type: EntryType.normal, data };
}

export function entriesOf(from: number, to: number, term: number, bytes = 20): Entry[] {
  const entries: Entry[] = [];
  for (let index = from; index <= to; index++) entries.push(entry(index, term, bytes));
  return entries;
}

export function snapshotAt(index: number, term: number): SnapshotMeta {
  return { index, term, confState };
}

/** For comparing: views of different buffers, as plain values. */
export function plain(entries: readonly Entry[]): unknown[] {
  return entries.map(({ term, index, type, data }) => ({ term, index, type, data: [...data] }));
}
