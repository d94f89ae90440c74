import { Deque, Heap, type Timer } from '@quoin/base';
import {
  type FeedBatch,
  type FeedRevision,
  Method,
  readCompactionRequest,
  WireWriter,
  writeHeaderField,
} from '@quoin/contracts';
import type { GatewayCore } from './core.ts';
import { EventRing } from './event-ring.ts';
import { IntervalTree } from './interval-tree.ts';
import type { MemberLink } from './member-link.ts';
import type { WatchMetrics } from './metrics.ts';
import { headerRevision } from './peek.ts';
import { CatchUp } from './watch-catch-up.ts';
import { EventChunk, watchRevision } from './watch-event.ts';
import { WatchTraces } from './watch-traces.ts';
import { type Interest, interestName, type Watcher, WatcherState, WatchGroup } from './watcher.ts';

/** How long one turn may send events. */
const fanOutSliceMs = 3;

/** Sends between two looks at the clock. */
const fanOutStride = 64;

interface Feed {
  readonly link: MemberLink;
  readonly stream: number;
  readonly id: number;
  readonly prevKv: boolean;
  /** The member is known to have applied so much, because it has sent it. */
  reached: number;
}

/** A chunk on its way to the watchers of a group. */
interface Delivery {
  readonly group: WatchGroup;
  readonly chunk: EventChunk;
  /** Encoded. */
  readonly header: Uint8Array;
  readonly watchers: Iterator<Watcher>;
}

/**
 * One event feed from the home member, fanned out to all watchers of all clients.
 *
 *     off ──first watcher──▶ probing ──revision known──▶ live ◀──▶ lost (no home)          last watcher gone ──▶ off
 *
 *     feed message ─▶ inbox ─▶ ring ─▶ interval tree ─▶ one chunk per group ─▶ deliveries ─▶ each watcher's stream
 *
 * `revision` is the watermark: all events up to it are in the ring (as far as it reaches), and have been sent to every
 * synced watcher once there are no deliveries left. A lost feed goes on elsewhere from `revision + 1`, so synced
 * watchers see neither a gap nor a duplicate, whichever members serve the pieces.
 */
export class WatchHub {
  readonly ring: EventRing;
  streamCount = 0;
  watcherCount = 0;
  /** −1 while not known. */
  revision = -1;
  readonly core: GatewayCore;
  readonly metrics: WatchMetrics;
  private readonly catchUp: CatchUp;
  /** Absent: tracing is off. */
  private readonly traces: WatchTraces | undefined;
  private readonly tree = new IntervalTree<WatchGroup>();
  private readonly groups = new Map<string, WatchGroup>();
  private readonly future = new Heap<Watcher>((a, b) => a.next - b.next);
  private readonly inbox = new Deque<FeedBatch>();
  private readonly deliveries = new Deque<Delivery>();
  private found: WatchGroup[] = [];
  private touched: WatchGroup[] = [];
  private feed: Feed | undefined;
  private nextFeed = 1;
  private prevKvCount = 0;
  private probing = false;
  private waitingBase: (() => void)[] = [];
  private afterFanOut: (() => void)[] = [];
  private reviewTimer: Timer | undefined;
  private pumping = false;
  private stopped = false;

  constructor(core: GatewayCore, metrics: WatchMetrics) {
    this.core = core;
    this.metrics = metrics;
    this.ring = new EventRing(core.config.ringBytes, core.config.ringRevisions);
    this.catchUp = new CatchUp(this);
    const { tracer } = core.ports;
    this.traces = tracer === undefined ? undefined : new WatchTraces(tracer);
  }

  stop(): void {
    this.stopped = true;
    this.reviewTimer?.cancel();
    this.catchUp.stop();
    this.closeFeed();
  }

  slowCount(): number {
    let count = 0;
    for (const group of this.groups.values()) count += group.unsynced.size;
    return count;
  }

  /** Events that have come and are still to be sent to somebody. */
  pendingEvents(): number {
    let count = 0;
    for (let i = 0; i < this.inbox.length; i++)
      for (const revision of this.inbox.at(i)!.revisions) count += revision.events.length;
    for (let i = 0; i < this.deliveries.length; i++) count += this.deliveries.at(i)!.chunk.wires.length;
    return count;
  }

  /** How far the watermark is behind; 0 while nobody watches. */
  lagRevisions(): number {
    return this.watcherCount === 0 ? 0 : Math.max(0, this.core.router.revision - this.revision);
  }

  /** What etcd calls the current revision: nothing that this gateway has acknowledged lies above it. */
  currentRevision(): number {
    return Math.max(this.revision, this.core.router.revision);
  }

  /** Calls back, perhaps at once, when the revision that new watchers start from is known. */
  whenBased(fn: () => void): void {
    if (this.revision >= 0) fn();
    else {
      this.waitingBase.push(fn);
      this.follow();
    }
  }

  /** Calls back, perhaps at once, when all that has come on the feed has been sent. */
  whenSettled(fn: () => void): void {
    if (this.deliveries.length + this.inbox.length === 0) fn();
    else this.afterFanOut.push(fn);
  }

  group(interest: Interest): WatchGroup {
    const name = interestName(interest);
    let group = this.groups.get(name);
    if (group === undefined) {
      group = new WatchGroup(name, interest);
      group.interval = this.tree.insert(interest.key, interest.end, group);
      this.groups.set(name, group);
    }
    return group;
  }

  /** Its next revision says where it begins. The revision must be known. */
  add(watcher: Watcher): void {
    const { group } = watcher;
    this.watcherCount++;
    group.members++;
    if (group.interest.prevKv) this.prevKvCount++;
    // The feed may be behind what members have told: what is compacted is so even where it has not come by yet.
    const compacted = watcher.next < this.core.router.compactRevision;
    if (watcher.next > this.revision + 1 && !compacted) this.future.push(watcher);
    else if (watcher.next === this.revision + 1 && !compacted) this.join(watcher);
    else {
      watcher.state = WatcherState.unsynced;
      group.unsynced.add(watcher);
      this.catchUp.wake(group);
    }
    this.follow();
  }

  remove(watcher: Watcher): void {
    if (watcher.state === WatcherState.closed) return;
    const { group } = watcher;
    // One that waits in the heap is passed over when its turn comes.
    watcher.state = WatcherState.closed;
    group.synced.delete(watcher);
    group.unsynced.delete(watcher);
    this.watcherCount--;
    if (group.interest.prevKv) this.prevKvCount--;
    if (--group.members === 0) {
      this.groups.delete(group.name);
      this.tree.remove(group.interval!);
    }
    if (this.watcherCount === 0 || (this.prevKvCount === 0 && this.feed?.prevKv === true))
      this.scheduleReview();
  }

  /** Has got every event up to `revision`, once deliveries are done. */
  isSynced(watcher: Watcher): boolean {
    return watcher.state === WatcherState.synced && this.revision >= watcher.startRevision;
  }

  /** A sink has room again. */
  wake(watchers: Iterable<Watcher>): void {
    for (const watcher of watchers) {
      if (watcher.state === WatcherState.unsynced) this.catchUp.wake(watcher.group);
    }
  }

  /** A compaction was acknowledged through this gateway. */
  onCompacted(request: Uint8Array): void {
    this.noteCompacted(readCompactionRequest(request).revision);
  }

  noteCompacted(revision: number): void {
    const { router } = this.core;
    if (revision > router.compactRevision) router.compactRevision = revision;
  }

  /** The home member or a link has changed. */
  onView(): void {
    this.follow();
    this.catchUp.wakeAll(this.groups.values());
  }

  onFeed(link: MemberLink, batch: FeedBatch): void {
    const feed = this.feed;
    // Of a feed that was replaced: what it brings is sent again by its successor.
    if (feed === undefined || feed.link !== link || feed.stream !== link.stream || feed.id !== batch.feed)
      return;
    let bytes = 0;
    for (const revision of batch.revisions) for (const event of revision.events) bytes += event.length;
    link.credit(feed.id, true, bytes);
    feed.reached = Math.max(feed.reached, batch.revision, batch.revisions.at(-1)?.revision ?? 0);
    this.inbox.push(batch);
    if (batch.sampled.length > 0) this.traces?.received(batch, this.core.nowMs());
    if (!this.pumping) this.pump();
  }

  /** Caught up with the feed: from now on it gets what comes. */
  join(watcher: Watcher): void {
    watcher.state = WatcherState.synced;
    watcher.group.unsynced.delete(watcher);
    watcher.group.synced.add(watcher);
  }

  /** The revision that the member has applied for sure. It may be behind the feed, which began elsewhere. */
  appliedBy(link: MemberLink): number {
    return Math.max(link.state?.revision ?? 0, this.feed?.link === link ? this.feed.reached : 0);
  }

  /** What the responses with these events begin with, made once for all watchers. */
  headerOf(chunk: EventChunk): Uint8Array {
    return writeHeaderField(this.core.header(Math.max(this.revision, chunk.to)));
  }

  compactedAway(watcher: Watcher, compactRevision: number): void {
    if (watcher.state === WatcherState.closed) return;
    this.remove(watcher);
    watcher.sink.sendCompacted(watcher, compactRevision);
  }

  // The feed.

  /** Makes the feed what the watchers need, as far as there is a member to give it. */
  private follow(): void {
    if (this.stopped || (this.watcherCount === 0 && this.waitingBase.length === 0)) return;
    const home = this.core.router.home;
    if (this.feed !== undefined && (!this.feed.link.open || this.feed.stream !== this.feed.link.stream)) {
      this.feed = undefined;
    }
    if (home === undefined) return;
    if (this.revision < 0) {
      this.probe();
      return;
    }
    if (this.feed?.link === home && (this.feed.prevKv || this.prevKvCount === 0)) return;
    this.subscribe(home);
  }

  private subscribe(home: MemberLink): void {
    const prevKv = this.prevKvCount > 0;
    this.closeFeed();
    this.feed = { link: home, stream: home.stream, id: this.nextFeed++, prevKv, reached: 0 };
    this.ring.setPrev(this.revision + 1, prevKv);
    home.subscribe(this.feed.id, this.revision + 1, prevKv);
    this.metrics.feeds.inc();
  }

  private closeFeed(): void {
    const feed = this.feed;
    if (feed?.link.open && feed.stream === feed.link.stream) feed.link.unsubscribe(feed.id);
    this.feed = undefined;
    // Not taken in yet: the next feed begins with it.
    while (this.inbox.length > 0) this.inbox.shift();
    this.traces?.forget();
  }

  /** Asks a member for its current revision: what "from now on" means for the first watchers. */
  private probe(): void {
    if (this.probing) return;
    this.probing = true;
    this.core.router.request({
      method: Method.range,
      body: probeRequest(),
      target: 'home',
      resend: true,
      deadlineMs: this.core.nowMs() + this.core.config.requestTimeoutMs,
      clientDeadlineMs: Number.POSITIVE_INFINITY,
      trace: undefined,
      token: '',
      own: true,
      done: (_, pieces) => {
        this.probing = false;
        // A member that would not answer (auth) has told its revision in its state.
        const revision = pieces.length > 0 ? headerRevision(pieces[0]!) : 0;
        this.onBase(revision > 0 ? revision : (this.core.router.home?.state?.revision ?? 0));
      },
    });
  }

  private onBase(revision: number): void {
    if (this.stopped) return;
    if (revision <= 0) {
      this.core.ports.timers.after(this.core.config.watchCatchUpRetryMs, () => this.follow());
      return;
    }
    this.revision = revision;
    this.ring.reset(revision + 1);
    const waiting = this.waitingBase;
    this.waitingBase = [];
    for (const fn of waiting) fn();
    this.follow();
    if (this.watcherCount === 0) this.scheduleReview();
  }

  /** A feed that nobody needs, or prev_kv in it, goes after a while and not with its last watcher. */
  private scheduleReview(): void {
    if (this.stopped) return;
    this.reviewTimer ??= this.core.ports.timers.after(this.core.config.feedLingerMs, () => {
      this.reviewTimer = undefined;
      if (this.watcherCount === 0) {
        this.closeFeed();
        // Clients have been told of it: it must not become less because nobody watches.
        const { router } = this.core;
        router.revision = Math.max(router.revision, this.revision);
        this.revision = -1;
        this.ring.reset(0);
        this.ring.setPrev(0, false);
      } else if (this.prevKvCount === 0 && this.feed?.prevKv === true) this.subscribe(this.feed.link);
    });
  }

  // Fan-out.

  private pump(): void {
    this.pumping = false;
    if (this.stopped) return;
    const untilMs = this.core.nowMs() + fanOutSliceMs;
    for (;;) {
      const delivery = this.deliveries.at(0);
      if (delivery !== undefined) {
        const beganMs = this.core.nowMs();
        const sent = this.run(delivery, untilMs);
        const seconds = (this.core.nowMs() - beganMs) / 1_000;
        this.metrics.sendSeconds.observe(seconds);
        this.metrics.sendPerEventSeconds.observe(seconds / delivery.chunk.wires.length);
        if (!sent) return this.pumpLater();
        this.deliveries.shift();
        continue;
      }
      const batch = this.inbox.shift();
      if (batch === undefined) break;
      this.take(batch);
      if (this.core.nowMs() > untilMs) return this.pumpLater();
    }
    if (this.traces?.pending === true)
      this.traces.delivered(this.core.nowMs(), (revision) => this.watchersOf(revision));
    const settled = this.afterFanOut;
    this.afterFanOut = [];
    for (const fn of settled) fn();
  }

  /** How many watchers the events of a revision are for. */
  private watchersOf(from: FeedRevision): number {
    let watchers = 0;
    const found: WatchGroup[] = [];
    for (const event of watchRevision(from).events) {
      found.length = 0;
      this.tree.stab(event.key, found);
      for (const group of found) if (group.wants(event)) watchers += group.synced.size;
    }
    return watchers;
  }

  private pumpLater(): void {
    this.pumping = true;
    this.core.later(() => this.pump());
  }

  private take(batch: FeedBatch): void {
    for (const from of batch.revisions) {
      if (from.revision <= this.revision) continue;
      const revision = watchRevision(from);
      this.ring.push(revision);
      this.promote(from.revision);
      for (const event of revision.events) {
        this.found.length = 0;
        this.tree.stab(event.key, this.found);
        for (const group of this.found) {
          if (group.synced.size === 0 || !group.wants(event)) continue;
          const chunk = this.pendingChunk(group, from.revision);
          chunk.add(from.revision, event.wireFor(group.interest.prevKv));
        }
      }
      this.revision = from.revision;
    }
    if (batch.revision > this.revision) this.revision = batch.revision;
    const touched = this.touched;
    this.touched = [];
    for (const group of touched) this.cut(group);
    this.promote(this.revision + 1);
    if (batch.compactRevision > 0) this.onFeedCompacted(batch.compactRevision);
  }

  /** The chunk that takes the group's next event. Chunks end between revisions only. */
  private pendingChunk(group: WatchGroup, revision: number): EventChunk {
    const pending = group.pending;
    if (pending !== undefined) {
      if (pending.to === revision || pending.bytes < this.core.config.watchResponseBytes) return pending;
      this.cut(group);
    }
    group.pending = new EventChunk();
    this.touched.push(group);
    return group.pending;
  }

  private cut(group: WatchGroup): void {
    const chunk = group.pending;
    if (chunk === undefined) return;
    group.pending = undefined;
    this.deliveries.push({ group, chunk, header: this.headerOf(chunk), watchers: group.synced.values() });
  }

  /** True: all have it. */
  private run(delivery: Delivery, untilMs: number): boolean {
    const { chunk, header, watchers } = delivery;
    for (let n = 1; ; n++) {
      const step = watchers.next();
      if (step.done === true) return true;
      this.deliver(step.value, chunk, header);
      if (n % fanOutStride === 0 && this.core.nowMs() > untilMs) return false;
    }
  }

  private deliver(watcher: Watcher, chunk: EventChunk, header: Uint8Array): void {
    // Joined after this chunk was made.
    if (watcher.next > chunk.to) return;
    if (watcher.sink.congested) {
      watcher.state = WatcherState.unsynced;
      watcher.next = Math.max(watcher.next, chunk.from);
      watcher.group.synced.delete(watcher);
      watcher.group.unsynced.add(watcher);
      return;
    }
    watcher.next = chunk.to + 1;
    watcher.sink.sendEvents(watcher, chunk, header);
    this.metrics.events.inc(chunk.wires.length);
  }

  /** Lets in the watchers that start at or below `revision`. */
  private promote(revision: number): void {
    for (;;) {
      const watcher = this.future.peek();
      if (watcher === undefined || watcher.next > revision) return;
      this.future.pop();
      if (watcher.state !== WatcherState.future) continue;
      // What the group has so far is older than the watcher.
      this.cut(watcher.group);
      this.join(watcher);
    }
  }

  /** The feed ended because what comes next is gone: who has not got it cannot be served any more. */
  private onFeedCompacted(compactRevision: number): void {
    this.noteCompacted(compactRevision);
    const lost: Watcher[] = [];
    if (this.revision + 1 < compactRevision) {
      for (const group of this.groups.values()) lost.push(...group.synced);
      for (let w = this.future.peek(); w !== undefined && w.next < compactRevision; w = this.future.peek()) {
        this.future.pop();
        if (w.state === WatcherState.future) lost.push(w);
      }
      this.revision = compactRevision - 1;
      this.ring.reset(compactRevision);
    }
    this.feed = undefined;
    // Chunks made before are still theirs: the cancellation comes behind them.
    this.afterFanOut.push(() => {
      for (const watcher of lost) this.compactedAway(watcher, compactRevision);
      this.promote(this.revision + 1);
      this.catchUp.wakeAll(this.groups.values());
      this.follow();
    });
  }
}

const writer = new WireWriter(256);

/** A serializable count of one key that hardly exists: only the header of its answer matters. */
function probeRequest(): Uint8Array {
  writer.begin();
  writer.bytesItem(10, new Uint8Array(1));
  writer.bool(56, true);
  writer.bool(72, true);
  return writer.finish();
}
