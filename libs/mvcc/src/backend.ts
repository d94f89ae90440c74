/**
 * The ordered key-value engine below the store: RocksDB in the real world, sorted arrays in the simulated one.
 * One writer. Reads see every write that `put` has returned from. Keys are not empty and sort by unsigned bytes.
 */
export interface Backend {
  /** A copy the caller owns, or undefined. */
  get(key: Uint8Array): Uint8Array | undefined;
  /** The same without a copy: valid until the next call. */
  peek(key: Uint8Array): Uint8Array | undefined;
  /**
   * Visits entries with low ≤ key < high in order (or from the end), until `visit` returns false.
   * The views are valid only during the call, and the backend may not be used inside it.
   */
  scan(low: Uint8Array, high: Uint8Array, reverse: boolean, visit: EntryVisitor): void;
  /**
   * Writes one entry; null deletes. In memory until `flush`; a process crash loses the newest of what was not flushed,
   * as a suffix of single entries: whoever needs several to be one has to order them. Copies: the arrays may be used
   * again afterwards.
   *
   * @throws Error when the engine cannot take it.
   */
  put(key: Uint8Array, value: Uint8Array | null): void;
  /** Everything written before the call becomes durable. A process crash may lose writes after it, only as a suffix. */
  flush(cb: (error: Error | null) => void): void;
  /** A consistent view for long reads (snapshots, hashes) that are cut into slices; other calls may come between them. */
  cursor(low: Uint8Array, high: Uint8Array): BackendCursor;
  /** Gives space of deleted entries back, in the background. */
  compact(low: Uint8Array, high: Uint8Array, cb: (error: Error | null) => void): void;
  /** Bytes on disk, and an estimate of those that live entries need. */
  sizes(): { totalBytes: number; inUseBytes: number };
  /** What the engine says of itself, for metrics; absent where there is nothing to say. */
  figures?(): EngineFigures | undefined;
  close(): void;
}

/** Of an engine of levels that are written and merged in the background. */
export interface EngineFigures {
  /** Files of each level, from the newest on. */
  readonly levelFiles: readonly number[];
  readonly memTableBytes: number;
  /** Full memtables that wait for being written. */
  readonly waitingMemTables: number;
  readonly pendingCompactionBytes: number;
  readonly runningCompactions: number;
  readonly runningFlushes: number;
  readonly blockCacheBytes: number;
  /** Since it was opened: how often writes were slowed down, and stopped, because the background was behind. */
  readonly writeDelays: number;
  readonly writeStops: number;
  /** Writes stand still now. */
  readonly isStopped: boolean;
}

/** False ends the scan. */
export type EntryVisitor = (key: Uint8Array, value: Uint8Array) => boolean;

/** Reads from the state as of its creation, forwards, a slice at a time. Must be closed. */
export interface BackendCursor {
  /**
   * Visits entries until about `maxBytes` of them or until `visit` returns false; the entry it returned false for is
   * consumed. False when the end was reached. The views are valid only during the call.
   */
  next(maxBytes: number, visit: EntryVisitor): boolean;
  close(): void;
}
