import type { RangeResult, RevisionError } from './read-types.ts';

/** A range read in slices. Must be stepped to its end or closed. */
export interface RangeReader {
  /** Visits about `maxEntries` more; true when the result is there. */
  step(maxEntries: number): boolean;
  /** After `step` returned true. 'compacted' when a compaction overtook a read of an old revision. */
  result(): RangeResult | RevisionError;
  close(): void;
}
