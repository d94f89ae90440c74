import { concatBytes, emptyBytes, type Timer } from '@quoin/base';
import {
  decodeWatchHistoryResponse,
  encodeWatchHistoryRequest,
  Method,
  type RpcStatus,
  type WatchHistoryResponse,
  WireError,
} from '@quoin/contracts';
import type { MemberLink } from './member-link.ts';
import { EventChunk, type WatchRevision, watchRevision } from './watch-event.ts';
import type { WatchHub } from './watch-hub.ts';
import type { Watcher, WatchGroup } from './watcher.ts';

/** `range_end` of "every key from `key` on". */
const openEnd = new Uint8Array(1);

/**
 * Brings unsynced watchers to where the feed is: from pages of history while their next revision is older than the
 * ring, then from the ring. A watcher joins the feed in the turn in which it has read the ring to its end, so nothing
 * can come between.
 *
 *     compacted │          history (member)          │        ring         │ feed
 *     ──────────┼────────────────────────────────────┼─────────────────────┼────▶ revision
 *     cancelled │  read page by page, one reader      │  read from memory,  │ synced
 *               │  for all watchers of the interest   │  in slices          │
 */
export class CatchUp {
  private readonly hub: WatchHub;
  private readonly ready = new Set<WatchGroup>();
  /** Wait for one of the reads under way to end. */
  private readonly readers = new Set<WatchGroup>();
  private reads = 0;
  private scheduled = false;
  private retryTimer: Timer | undefined;
  private readonly retries = new Set<WatchGroup>();
  private stopped = false;

  constructor(hub: WatchHub) {
    this.hub = hub;
  }

  stop(): void {
    this.stopped = true;
    this.retryTimer?.cancel();
  }

  wake(group: WatchGroup): void {
    if (group.unsynced.size === 0) return;
    this.ready.add(group);
    this.schedule(() => this.hub.core.later(() => this.run()));
  }

  wakeAll(groups: Iterable<WatchGroup>): void {
    for (const group of groups) this.wake(group);
  }

  private schedule(start: () => void): void {
    if (this.scheduled || this.stopped) return;
    this.scheduled = true;
    start();
  }

  private run(): void {
    this.scheduled = false;
    if (this.stopped) return;
    let budget = this.hub.core.config.watchCatchUpEvents;
    // Those that are not done yet come again behind the others.
    for (const group of [...this.ready]) {
      if (budget <= 0) break;
      this.ready.delete(group);
      budget = this.advance(group, budget);
    }
    if (this.ready.size > 0) this.schedule(() => this.hub.core.ports.timers.after(0, () => this.run()));
  }

  /** One step for every watcher of the group that can take one. Returns what is left of the budget. */
  private advance(group: WatchGroup, budget: number): number {
    const { compactRevision } = this.hub.core.router;
    const ringFirst = this.hub.ring.firstFor(group.interest.prevKv);
    let historyFrom = Number.POSITIVE_INFINITY;
    for (const watcher of group.unsynced) {
      if (watcher.sink.congested) continue;
      if (watcher.next < compactRevision) this.hub.compactedAway(watcher, compactRevision);
      else if (watcher.next < ringFirst) historyFrom = Math.min(historyFrom, watcher.next);
      else {
        budget = this.fromRing(watcher, budget);
        if (budget <= 0) {
          this.ready.add(group);
          break;
        }
      }
    }
    if (historyFrom !== Number.POSITIVE_INFINITY) this.read(group, historyFrom);
    return budget;
  }

  private fromRing(watcher: Watcher, budget: number): number {
    const { ring } = this.hub;
    for (let i = ring.indexOf(watcher.next); i < ring.length && !watcher.sink.congested; ) {
      const chunk = new EventChunk();
      const { watchResponseBytes } = this.hub.core.config;
      for (; i < ring.length && chunk.bytes < watchResponseBytes && budget > 0; i++) {
        const revision = ring.at(i);
        // What was before the oldest revision that may still be asked for is compacted: etcd reads it and finds nothing.
        addMatching(chunk, revision, watcher.group, revision.revision > this.hub.core.router.compactRevision);
        budget -= revision.events.length;
        watcher.next = revision.revision + 1;
      }
      this.send(watcher, chunk);
      if (budget <= 0) return 0;
    }
    // A sink that became full with the last chunk still has everything.
    if (ring.length === 0 || watcher.next > ring.at(ring.length - 1).revision) {
      watcher.next = this.hub.revision + 1;
      this.hub.join(watcher);
    }
    return budget - 1;
  }

  private read(group: WatchGroup, from: number): void {
    if (group.reading) return;
    if (this.reads >= this.hub.core.config.watchHistoryReads) {
      this.readers.add(group);
      return;
    }
    const home = this.hub.core.router.home;
    const to = home === undefined ? -1 : this.readTo(group, home);
    if (home === undefined || to < from) {
      this.retryLater(group);
      return;
    }
    group.reading = true;
    this.reads++;
    this.hub.metrics.history.inc();
    const { key, end, prevKv } = group.interest;
    this.hub.core.router.request({
      method: Method.watchHistory,
      body: encodeWatchHistoryRequest({
        key,
        rangeEnd: end === undefined ? emptyBytes : end.length === 0 ? openEnd : end,
        fromRevision: from,
        toRevision: to,
        prevKv,
        maxBytes: this.hub.core.config.watchHistoryBytes,
      }),
      target: 'home',
      // A member that is behind would say that there is nothing where events are still to come to it.
      pin: home,
      resend: false,
      deadlineMs: this.hub.core.nowMs() + this.hub.core.config.requestTimeoutMs,
      clientDeadlineMs: Number.POSITIVE_INFINITY,
      trace: undefined,
      token: '',
      done: (status, pieces) => this.onHistory(group, from, status, pieces),
    });
  }

  /** Up to the ring, and no further than the member is known to have applied. */
  private readTo(group: WatchGroup, home: MemberLink): number {
    const { hub } = this;
    const has = Math.min(hub.revision, hub.appliedBy(home));
    return Math.min(has, hub.ring.firstFor(group.interest.prevKv) - 1);
  }

  private onHistory(
    group: WatchGroup,
    from: number,
    status: RpcStatus | null,
    pieces: readonly Uint8Array[],
  ): void {
    group.reading = false;
    this.reads--;
    if (this.stopped) return;
    const page = status === null ? decodePage(pieces) : undefined;
    if (page === undefined) {
      this.hub.core.ports.log.warn('watch history could not be read', {
        from,
        error: status?.message ?? 'malformed',
      });
      this.retryLater(group);
    } else if (page.compactRevision > 0) {
      this.hub.noteCompacted(page.compactRevision);
      this.wake(group);
    } else if (page.nextRevision <= from) this.retryLater(group);
    else {
      this.deliverPage(group, from, page);
      this.wake(group);
    }
    // All of them: the first may not need to read any more.
    const waiting = [...this.readers];
    this.readers.clear();
    this.wakeAll(waiting);
  }

  private deliverPage(group: WatchGroup, from: number, page: WatchHistoryResponse): void {
    const revisions = page.revisions.map(watchRevision);
    for (const watcher of group.unsynced) {
      if (watcher.next < from || watcher.next >= page.nextRevision) continue;
      this.deliverRevisions(watcher, revisions, page.nextRevision);
    }
  }

  private deliverRevisions(
    watcher: Watcher,
    revisions: readonly WatchRevision[],
    nextRevision: number,
  ): void {
    let chunk = new EventChunk();
    for (const revision of revisions) {
      if (revision.revision < watcher.next) continue;
      if (watcher.sink.congested) return;
      addMatching(chunk, revision, watcher.group, true);
      watcher.next = revision.revision + 1;
      if (chunk.bytes < this.hub.core.config.watchResponseBytes) continue;
      this.send(watcher, chunk);
      chunk = new EventChunk();
    }
    this.send(watcher, chunk);
    watcher.next = nextRevision;
  }

  private send(watcher: Watcher, chunk: EventChunk): void {
    if (chunk.wires.length === 0) return;
    watcher.sink.sendEvents(watcher, chunk, this.hub.headerOf(chunk));
    this.hub.metrics.events.inc(chunk.wires.length);
  }

  private retryLater(group: WatchGroup): void {
    this.retries.add(group);
    this.retryTimer ??= this.hub.core.ports.timers.after(this.hub.core.config.watchCatchUpRetryMs, () => {
      this.retryTimer = undefined;
      const groups = [...this.retries];
      this.retries.clear();
      this.wakeAll(groups);
    });
  }
}

function addMatching(chunk: EventChunk, revision: WatchRevision, group: WatchGroup, hasPrev: boolean): void {
  for (const event of revision.events) {
    if (group.matches(event)) chunk.add(revision.revision, event.wireFor(hasPrev && group.interest.prevKv));
  }
}

function decodePage(pieces: readonly Uint8Array[]): WatchHistoryResponse | undefined {
  try {
    return decodeWatchHistoryResponse(pieces.length === 1 ? pieces[0]! : concatBytes(pieces));
  } catch (error) {
    if (error instanceof WireError) return undefined;
    throw error;
  }
}
