import type { Backend } from './backend.ts';

/** What one snapshot or restart begins from. */
export interface StoreMeta {
  readonly revision: number;
  readonly compactRevision: number;
  readonly appliedIndex: number;
  readonly appliedTerm: number;
  readonly keysTotal: number;
}

/** Format of the backend's keys and values; SnapshotHeader.store_version. */
export const storeVersion = 1;

/** The whole state of one moment as backend entries, in key order. Must be closed. */
export interface SnapshotCursor {
  readonly meta: StoreMeta;
  /** About `maxBytes` of entries; false when that was the last slice. The views are valid only during the call. */
  next(maxBytes: number, visit: (key: Uint8Array, value: Uint8Array) => void): boolean;
  close(): void;
}

/** A hash in slices. Must be stepped to its end or closed. */
export interface StateHasher {
  readonly revision: number;
  readonly compactRevision: number;
  /** True when the hash is there. */
  step(maxBytes: number): boolean;
  /** CRC-32C, after `step` returned true. */
  hash(): number;
  close(): void;
}

/** Fills an empty backend from the entries of a snapshot. */
export interface SnapshotWriter {
  /** Alternating keys and values, in the order of the cursor. @throws Error on an entry that no store writes. */
  write(pairs: readonly Uint8Array[]): void;
  /** Checks that the state is whole, sets the applied index if given, flushes. The backend stays open. */
  finish(
    applied: { index: number; term: number } | undefined,
    cb: (error: Error | null, meta: StoreMeta | null) => void,
  ): void;
}

export function snapshotWriter(_backend: Backend): SnapshotWriter {
  throw new Error('not built yet');
}
