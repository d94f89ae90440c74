import type { BufferPool } from '@quoin/base';

/** What a range read asks for; etcd's RangeRequest with its names. Everything but `key` may be left out. */
export interface RangeOptions {
  readonly key: Uint8Array;
  /** Empty: the single key. `\0`: from key on. */
  readonly rangeEnd?: Uint8Array | undefined;
  /** ≤ 0: the latest. */
  readonly revision?: number | undefined;
  /** ≤ 0: no limit. Cut after filters and sort. */
  readonly limit?: number | undefined;
  readonly countOnly?: boolean | undefined;
  readonly keysOnly?: boolean | undefined;
  /** RangeRequest.SortOrder: 0 none, 1 ascend, 2 descend. */
  readonly sortOrder?: number | undefined;
  /** RangeRequest.SortTarget: 0 key, 1 version, 2 create, 3 mod, 4 value. */
  readonly sortTarget?: number | undefined;
  /** Inclusive; 0 is off. A negative upper bound lets nothing through. */
  readonly minModRevision?: number | undefined;
  readonly maxModRevision?: number | undefined;
  readonly minCreateRevision?: number | undefined;
  readonly maxCreateRevision?: number | undefined;
  /** Of a reader in slices: rows are taken away by `drain` as they are found. Not with a limit or an order. */
  readonly drained?: boolean | undefined;
  /**
   * Of a reader in slices: pairs that take more than this in a message are let go and only measured from then on (see
   * `RangeReader.overflown`). Nothing is let go where an order needs all of them.
   */
  readonly holdBytes?: number | undefined;
  /** Of a reader in slices: is given each pair in its turn, as a view for the moment of the call; the result has none. */
  readonly sink?: ((kv: Uint8Array) => void) | undefined;
  /** Of a reader in slices: where copies of pairs are written, until its `release`. Larger ones get memory of their own. */
  readonly slabs?: BufferPool | undefined;
}

export interface RangeResult {
  /** Encoded mvccpb.KeyValue messages, as stored; without value and lease when only keys were asked for. */
  readonly kvs: Uint8Array[];
  /** Keys in the range at the revision, whatever limit and filters say. */
  readonly count: number;
  readonly more: boolean;
}

/** compacted: below the compact revision. future: above the current one. */
export type RevisionError = 'compacted' | 'future';

/** What is known of a live key without its value. */
export interface KeyMeta {
  createRevision: number;
  modRevision: number;
  version: number;
  /** 0n: none. Signed, as in mvccpb. */
  lease: bigint;
}

export interface HistoryOptions {
  readonly key: Uint8Array;
  readonly rangeEnd: Uint8Array;
  /** First and last revision wanted. */
  readonly from: number;
  readonly to: number;
  readonly prevKv: boolean;
  /** Stops after the revision that reaches it; ≤ 0: 1 MiB. What is read without matching is bounded too. */
  readonly maxBytes: number;
}

export interface HistoryResult {
  readonly revisions: EventRevision[];
  /** Where to go on: `to` + 1 when all was read. */
  readonly nextRevision: number;
  /** Not 0: `from` is below it and nothing was read. */
  readonly compactRevision: number;
}

/** All events of one revision. The shape of a FeedRevision. */
export interface EventRevision {
  readonly revision: number;
  /** Encoded mvccpb.Event, in order of sub revision. Not to be changed: shared by all feeds. */
  readonly events: Uint8Array[];
}
