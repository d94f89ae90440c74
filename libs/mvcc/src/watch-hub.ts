import type { EventRevision } from './store.ts';

/** Where a feed's events go. Called inside `commit`, `pump` and nowhere else. */
export interface FeedSink {
  /** Whole revisions in order, possibly none; every event up to and including `revision` has now been given. */
  events(revisions: EventRevision[], revision: number): void;
  /** The feed has ended: revisions from its next one up to below `compactRevision` are gone. */
  compacted(compactRevision: number): void;
}

export interface FeedOptions {
  /** First revision wanted; 0 = the one after the current. May lie in the future. */
  readonly fromRevision: number;
  readonly prevKv: boolean;
  /** Bytes that may be given before the first `credit`. Default 1 MiB. */
  readonly creditBytes?: number;
}

/** One subscriber to all events from a revision on. */
export interface EventFeed {
  /** The next revision it will be given. */
  readonly nextRevision: number;
  /** Everything there is has been given. */
  readonly synced: boolean;
  /** Bytes it may still be given; below zero by at most the last revision. */
  readonly creditBytes: number;
  /** Allows more; call `pump` later in the turn. */
  credit(bytes: number): void;
  /** Reads on for a feed that is behind, about `maxBytes`. True when there is more that the credit allows. */
  pump(maxBytes: number): boolean;
  close(): void;
}

/** Gives the events of each commit to feeds; keeps a bounded ring of recent revisions, behind which history is read. */
export interface WatchHub {
  subscribe(options: FeedOptions, sink: FeedSink): EventFeed;
  /** Pumps every feed that is behind and has credit, about `maxBytes` in all. True when there is more to do. */
  pump(maxBytes: number): boolean;
  readonly feeds: number;
}
