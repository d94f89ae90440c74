import type { Disk } from '@quoin/base';
import type { Entry, HardState, SnapshotMeta } from '@quoin/raft';
import type { WalError } from './error.ts';
import type { WalOptions } from './options.ts';

/** What a torn tail cost: bytes of a group that had been written but never synced, so nobody was told of it. */
export interface WalRepair {
  readonly file: string;
  readonly offset: number;
  /** From `offset` to the last byte that was not zero. */
  readonly bytes: number;
}

/** The state that the log holds: what raft starts from. */
export interface Recovered {
  /** The log was made by this `open`. */
  readonly created: boolean;
  readonly metadata: Uint8Array;
  /** Last one written; its commit is never beyond the entries or before the snapshot. Undefined in a new log. */
  readonly hardState: HardState | undefined;
  /** Last one given to `saveSnapshot`. */
  readonly snapshot: SnapshotMeta | undefined;
  /**
   * Contiguous, all above `snapshot.index`. The first one may be further above it than 1 when segments were released:
   * the caller's own state then contains everything before it, which it must check.
   */
  readonly entries: Entry[];
  readonly repair: WalRepair | undefined;
  readonly segments: number;
  readonly bytesRead: number;
}

/** The durable log of one member. Every callback comes in the order of the calls, never before the call has returned. */
export class Wal {
  /** Bytes given to the disk since open. */
  bytesWritten = 0;
  /** Syncs of groups since open (not those of preparing segments). */
  syncs = 0;

  private constructor() {}

  /** Whether `dir` holds a log: at least one segment. */
  static exists(disk: Disk, dir: string, cb: (error: WalError | null, exists: boolean) => void): void {
    void [disk, dir, cb];
    throw new Error('not built yet');
  }

  /**
   * Opens the log in `dir`, repairs a torn tail, or makes a new log when there is none. `metadata` is opaque and is
   * written at the head of each segment. The error's message names file, offset and remedy.
   */
  static open(
    disk: Disk,
    dir: string,
    options: WalOptions,
    metadata: Uint8Array,
    cb: (error: WalError | null, wal: Wal | null, recovered: Recovered | null) => void,
  ): void {
    void [disk, dir, options, metadata, cb];
    throw new Error('not built yet');
  }

  /**
   * Appends a hard state, entries (contiguous; a first index at or below the last one replaces the suffix), or both.
   * `cb` comes when all of it is durable. Appends of one turn, and those that arrive while a write or sync is in
   * flight, share one sync. `mustSync` false (a new commit index alone): kept in memory and written with the next
   * group; `cb` waits only for what was appended before it.
   */
  append(
    hardState: HardState | undefined,
    entries: readonly Entry[],
    mustSync: boolean,
    cb: () => void,
  ): void {
    void [hardState, entries, mustSync, cb];
    throw new Error('not built yet');
  }

  /**
   * Records that state up to `meta.index` exists elsewhere, durably. If the log has no entry of that index and term,
   * the whole log is replaced by it and continues at `meta.index + 1`; otherwise later entries stay.
   */
  saveSnapshot(meta: SnapshotMeta, cb: () => void): void {
    void [meta, cb];
    throw new Error('not built yet');
  }

  /** Removes whole segments, never the last, whose entries are all at or below `index`; in the background. */
  release(index: number): void {
    void index;
    throw new Error('not built yet');
  }

  /** Writes and syncs what is waiting, marks the log as cleanly closed, closes the files. No append may follow. */
  close(cb: () => void): void {
    void cb;
    throw new Error('not built yet');
  }
}
