import { compareBytes, equalBytes, latin1 } from '@quoin/base';
import type { WatchId } from '@quoin/contracts';
import type { Interval } from './interval-tree.ts';
import type { EventChunk, WatchEvent } from './watch-event.ts';

/** Where a watcher's events go. */
export interface WatchSink {
  /** More is queued than may be: its watchers wait until it drains. */
  readonly congested: boolean;
  /** `header` as `writeHeaderField` gives it. */
  sendEvents(watcher: Watcher, chunk: EventChunk, header: Uint8Array): void;
  /** Ends the watcher: revisions below `compactRevision` are gone. */
  sendCompacted(watcher: Watcher, compactRevision: number): void;
}

/**
 *              feed reaches start          sink congested
 *     future ─────────────────▶ synced ◀──────────────────▶ unsynced        any ──▶ closed (cancel, compaction, end)
 *                                          caught up
 */
export const WatcherState = { future: 0, synced: 1, unsynced: 2, closed: 3 } as const;
export type WatcherState = (typeof WatcherState)[keyof typeof WatcherState];

export class Watcher {
  readonly sink: WatchSink;
  readonly id: WatchId;
  readonly group: WatchGroup;
  /** As the client asked; 0: from now on. */
  readonly startRevision: number;
  readonly progressNotify: boolean;
  readonly fragment: boolean;
  state: WatcherState;
  /** Every wanted event below it has been sent. A synced watcher may have got more. */
  next: number;
  /** Events were sent since the last progress tick. */
  busy: boolean;

  constructor(
    sink: WatchSink,
    id: WatchId,
    group: WatchGroup,
    options: { startRevision: number; next: number; progressNotify: boolean; fragment: boolean },
  ) {
    this.sink = sink;
    this.id = id;
    this.group = group;
    this.startRevision = options.startRevision;
    this.progressNotify = options.progressNotify;
    this.fragment = options.fragment;
    this.state = WatcherState.future;
    this.next = options.next;
    this.busy = false;
  }
}

/** What is watched: watchers of the same interest share matching and encoding. */
export interface Interest {
  readonly key: Uint8Array;
  /** Undefined: the key alone; empty: every key from `key` on. */
  readonly end: Uint8Array | undefined;
  readonly noPut: boolean;
  readonly noDelete: boolean;
  readonly prevKv: boolean;
}

export function interestName(interest: Interest): string {
  const { key, end, noPut, noDelete, prevKv } = interest;
  const flags = (noPut ? 1 : 0) + (noDelete ? 2 : 0) + (prevKv ? 4 : 0) + (end === undefined ? 8 : 0);
  return `${flags}:${key.length}:${latin1(key)}${end === undefined ? '' : latin1(end)}`;
}

export class WatchGroup {
  readonly name: string;
  readonly interest: Interest;
  readonly synced = new Set<Watcher>();
  readonly unsynced = new Set<Watcher>();
  members = 0;
  interval: Interval<WatchGroup> | undefined;
  /** Events of the feed message that is being taken in. */
  pending: EventChunk | undefined;
  /** A page of history is being read. */
  reading = false;

  constructor(name: string, interest: Interest) {
    this.name = name;
    this.interest = interest;
  }

  /** By kind of event only: the key is known to match. */
  wants(event: WatchEvent): boolean {
    return event.put ? !this.interest.noPut : !this.interest.noDelete;
  }

  matches(event: WatchEvent): boolean {
    if (!this.wants(event)) return false;
    const { key, end } = this.interest;
    if (end === undefined) return equalBytes(key, event.key);
    if (compareBytes(event.key, key) < 0) return false;
    return end.length === 0 || compareBytes(event.key, end) < 0;
  }
}
