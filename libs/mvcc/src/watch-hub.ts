import { assert, Deque } from '@quoin/base';
import { eventKv, eventKvStart, KeyValueReader, withPrevKv } from './key-value.ts';
import type { EventRevision, HistoryResult } from './read-types.ts';

/** Where a feed's events go. Called inside `commit` and `pump`, nowhere else. */
export interface FeedSink {
  /** Whole revisions in order, possibly none; every event up to and including `revision` has now been given. */
  events(revisions: EventRevision[], revision: number): void;
  /** The feed has ended: its next revision is below `compactRevision` and gone. */
  compacted(compactRevision: number): void;
}

export interface FeedOptions {
  /** First revision wanted; 0 = the one after the current. May lie in the future. */
  readonly fromRevision: number;
  readonly prevKv: boolean;
  /** Bytes that may be given before the first `credit`. Default 1 MiB. */
  readonly creditBytes?: number;
}

export const feedCreditBytesDefault = 1024 * 1024;

/** What an event costs beside its bytes: its view, its slot, and its share of the revision. */
const eventOverheadBytes = 128;

/** One revision in memory. */
export class RingRevision implements EventRevision {
  readonly revision: number;
  readonly events: Uint8Array[];
  /** What prev_kv of event i is; undefined as a whole when nobody asked for it when the revision was made. */
  readonly prevKvs: (Uint8Array | undefined)[] | undefined;
  readonly bytes: number;
  private combined: EventRevision | undefined;

  constructor(revision: number, events: Uint8Array[], prevKvs: (Uint8Array | undefined)[] | undefined) {
    this.revision = revision;
    this.events = events;
    this.prevKvs = prevKvs;
    let bytes = 0;
    for (const event of events) bytes += event.length + eventOverheadBytes;
    for (const prev of prevKvs ?? []) bytes += prev === undefined ? 0 : prev.length;
    this.bytes = bytes;
    this.combined = undefined;
  }

  /** Spliced once for all feeds that want prev_kv. */
  withPrevKvs(): EventRevision {
    const { prevKvs } = this;
    assert(prevKvs !== undefined, 'prev_kv asked of a revision that has none');
    this.combined ??= {
      revision: this.revision,
      events: this.events.map((event, i) =>
        prevKvs[i] === undefined ? event : withPrevKv(event, prevKvs[i]),
      ),
    };
    return this.combined;
  }
}

/** What the hub needs of the store for revisions that have left the ring. */
export interface EventSource {
  readonly compactRevision: number;
  readEvents(from: number, to: number, prevKv: boolean, maxBytes: number): HistoryResult;
}

/**
 * Gives the events of each commit to feeds.
 *
 *     history (R entries)      ring (memory)                 not committed yet
 *   ──────────────────────┬───────────────────────────────┬───────────────────
 *        feed behind: pump reads ahead           feed synced: given at commit
 *
 * The ring has every revision exactly once and without gaps from `ringFirst` on, so a feed's position is a number and
 * nothing can be lost or given twice when it moves between history and ring. While nobody listens it stays empty.
 */
export class WatchHub {
  private readonly source: EventSource;
  private readonly ringBytesMax: number;
  private readonly ring = new Deque<RingRevision>(1024);
  private ringFirst: number;
  private ringBytes = 0;
  /** Last revision that was made, committed or not. */
  private last: number;
  /** Last revision that feeds may be given. */
  private published: number;
  private readonly open = new Set<EventFeed>();
  private prevFeeds = 0;
  private readonly reader = new KeyValueReader();

  constructor(source: EventSource, revision: number, ringBytesMax: number) {
    this.source = source;
    this.ringBytesMax = ringBytesMax;
    this.ringFirst = revision + 1;
    this.last = revision;
    this.published = revision;
  }

  /** Open feeds. */
  get feeds(): number {
    return this.open.size;
  }

  /** Feeds that have not been given everything. */
  get feedsBehind(): number {
    let n = 0;
    for (const feed of this.open) if (!feed.synced) n++;
    return n;
  }

  get publishedRevision(): number {
    return this.published;
  }

  /** Somebody listens, so transactions should give their events to the ring. */
  get wantsEvents(): boolean {
    return this.open.size > 0;
  }

  /** Some feed wants prev_kv, so transactions should keep what they replace. */
  get wantsPrevKv(): boolean {
    return this.prevFeeds > 0;
  }

  subscribe(options: FeedOptions, sink: FeedSink): EventFeed {
    const from = options.fromRevision > 0 ? options.fromRevision : this.published + 1;
    const feed = new EventFeed(
      this,
      from,
      options.prevKv,
      options.creditBytes ?? feedCreditBytesDefault,
      sink,
    );
    this.open.add(feed);
    if (options.prevKv) this.prevFeeds++;
    return feed;
  }

  /** Pumps every feed that is behind and has credit, about `maxBytes` in all. True when there is more to do. */
  pump(maxBytes: number): boolean {
    let left = maxBytes;
    let more = false;
    for (const feed of [...this.open]) {
      if (!feed.runnable) continue;
      if (left <= 0) return true;
      const before = feed.creditBytes;
      if (feed.pump(left)) more = true;
      left -= before - feed.creditBytes;
    }
    return more;
  }

  /** A transaction has ended; feeds see it after `publish`. */
  append(revision: RingRevision): void {
    assert(
      revision.revision === this.last + 1,
      () => `ring has ${this.last}, was given ${revision.revision}`,
    );
    this.last = revision.revision;
    this.ring.push(revision);
    this.ringBytes += revision.bytes;
    this.trim();
  }

  /** A transaction has ended that nobody was listening to: who wants it later reads it from the history. */
  skip(revision: number): void {
    while (this.ring.length > 0) this.ring.shift();
    this.ringBytes = 0;
    this.last = revision;
    this.ringFirst = revision + 1;
  }

  /** The appended revisions are committed: gives them to every synced feed that has credit. */
  publish(): void {
    const before = this.published;
    if (this.last === before) return;
    this.published = this.last;
    for (const feed of [...this.open]) {
      // A feed that was behind stays behind; `pump` moves it, at the member's pace.
      if (feed.nextRevision > before && feed.runnable) feed.pump(Number.MAX_SAFE_INTEGER);
    }
    this.trim();
  }

  /** Uncommitted revisions stay whatever they cost: synced feeds are given them from here. */
  private trim(): void {
    while (this.ringBytes > this.ringBytesMax && this.ringFirst <= this.published) {
      this.ringBytes -= this.ring.shift()!.bytes;
      this.ringFirst++;
    }
  }

  /** The KeyValue bytes that revision `mod` put for `key`, if the ring still has them. */
  findKeyValue(mod: number, key: Uint8Array): Uint8Array | undefined {
    if (mod < this.ringFirst || mod > this.last) return undefined;
    return findPut(this.ring.at(mod - this.ringFirst)!.events, key, this.reader);
  }

  /** Whole revisions from `next` on, until `maxBytes` are reached; undefined when the ring does not have the first. */
  fromRing(next: number, prevKv: boolean, maxBytes: number): EventRevision[] | undefined {
    if (next < this.ringFirst) return undefined;
    const revisions: EventRevision[] = [];
    let bytes = 0;
    for (let r = next; r <= this.published && bytes < maxBytes; r++) {
      const revision = this.ring.at(r - this.ringFirst)!;
      if (prevKv && revision.prevKvs === undefined) break;
      const given = prevKv ? revision.withPrevKvs() : revision;
      revisions.push(given);
      bytes += eventBytes(given);
    }
    return revisions.length === 0 ? undefined : revisions;
  }

  /** For EventFeed. */
  history(next: number, prevKv: boolean, maxBytes: number): HistoryResult {
    return this.source.readEvents(next, this.published, prevKv, maxBytes);
  }

  /** For EventFeed. */
  closed(feed: EventFeed, prevKv: boolean): void {
    if (this.open.delete(feed) && prevKv) this.prevFeeds--;
  }
}

/** Beyond this many events a revision is not searched: reading the backend is cheaper. */
const searchEventsMax = 16;

/** The kv of the last PUT of `key` among the events. */
export function findPut(
  events: readonly Uint8Array[],
  key: Uint8Array,
  reader: KeyValueReader,
): Uint8Array | undefined {
  if (events.length > searchEventsMax) return undefined;
  for (let i = events.length - 1; i >= 0; i--) {
    const event = events[i]!;
    if (event[0] === 0x08) continue;
    const at = eventKvStart(event);
    reader.readKey(event, at);
    if (reader.keyEnd - reader.keyStart !== key.length) continue;
    let k = 0;
    while (k < key.length && event[reader.keyStart + k] === key[k]) k++;
    if (k === key.length) return eventKv(event);
  }
  return undefined;
}

function eventBytes(revision: EventRevision): number {
  let bytes = 0;
  for (const event of revision.events) bytes += event.length;
  return bytes;
}

/** One subscriber to all events from a revision on. */
export class EventFeed {
  private readonly hub: WatchHub;
  private readonly prevKv: boolean;
  private readonly sink: FeedSink;
  private next: number;
  private credits: number;
  private ended = false;

  constructor(hub: WatchHub, next: number, prevKv: boolean, creditBytes: number, sink: FeedSink) {
    this.hub = hub;
    this.prevKv = prevKv;
    this.sink = sink;
    this.next = next;
    this.credits = creditBytes;
  }

  /** The next revision it will be given. */
  get nextRevision(): number {
    return this.next;
  }

  /** Everything there is has been given. */
  get synced(): boolean {
    return this.next > this.hub.publishedRevision;
  }

  /** Bytes it may still be given; below zero by less than the last revision. */
  get creditBytes(): number {
    return this.credits;
  }

  /** It is open, behind, and has credit: `pump` would give something. */
  get runnable(): boolean {
    return !this.ended && !this.synced && this.credits > 0;
  }

  /** Allows more; call `pump` later in the turn. */
  credit(bytes: number): void {
    this.credits += bytes;
  }

  /** Reads on, about `maxBytes`. True when there is more that the credit allows. */
  pump(maxBytes: number): boolean {
    if (!this.runnable) return false;
    const bytes = Math.min(maxBytes, this.credits);
    let revisions = this.hub.fromRing(this.next, this.prevKv, bytes);
    if (revisions !== undefined) {
      this.next = revisions[revisions.length - 1]!.revision + 1;
    } else {
      const read = this.hub.history(this.next, this.prevKv, bytes);
      if (read.compactRevision !== 0) {
        this.close();
        this.sink.compacted(read.compactRevision);
        return false;
      }
      revisions = read.revisions;
      this.next = read.nextRevision;
    }
    for (const revision of revisions) this.credits -= eventBytes(revision);
    this.sink.events(revisions, this.next - 1);
    return this.runnable;
  }

  close(): void {
    if (this.ended) return;
    this.ended = true;
    this.hub.closed(this, this.prevKv);
  }
}
