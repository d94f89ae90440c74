import type { Clock, Log, Sealer, Timers } from '@quoin/base';

/** Every limit of the log with its default. Bytes. */
export const walDefaults = {
  /** Length of a segment file, reserved on disk before it is written to. */
  segmentBytes: 64 * 1024 * 1024,
  /** One read of recovery, and the longest stretch of log parsed in one turn. */
  readChunkBytes: 1024 * 1024,
  /** Entries of one append are cut into records of about this size, so that recovery's memory is bounded. */
  recordBytes: 1024 * 1024,
  /** A write takes no more than this of what is waiting (at least one record): bounds the turn that encodes it. */
  groupBytes: 4 * 1024 * 1024,
  /** The next segment is reserved and synced in steps of this size, so that it never holds up a group's sync for long. */
  allocateStepBytes: 4 * 1024 * 1024,
} as const;

export interface WalOptions {
  readonly clock: Clock;
  readonly timers: Timers;
  readonly log: Log;
  /** A write or sync failed. Called once; nothing is called back afterwards, and what was not synced stays unanswered. */
  readonly onFatal: (message: string) => void;
  /**
   * Compares the metadata found with the metadata given to `open`; a text refuses the log and says why.
   * Absent: they must be equal.
   */
  readonly checkMetadata?: (found: Uint8Array, expected: Uint8Array) => string | undefined;
  /** Entries are encrypted with it; the rest of a log (terms, votes, memberships) is not. The same for all of a log's life. */
  readonly sealer?: Sealer | undefined;
  /** One write call: milliseconds from call to completion, and bytes of log. */
  readonly onWrite?: (durationMs: number, bytes: number) => void;
  /** One sync call: milliseconds from call to completion. */
  readonly onSync?: (durationMs: number) => void;
  readonly segmentBytes?: number;
  readonly readChunkBytes?: number;
  readonly recordBytes?: number;
  readonly groupBytes?: number;
  readonly allocateStepBytes?: number;
}
