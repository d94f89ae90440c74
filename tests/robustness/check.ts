/**
 * Holds a recording to etcd's promises, with the simulator's checkers: the order of all mutations is found first
 * (order.ts), then everything that clients saw is gone through again in the order in which they saw it.
 *
 * A revision counts as made when the first client hears of it. So an answer from the future shows as an operation that
 * took effect before it was sent, and a stale one as one below what somebody knew when it began.
 */
import { EventType, readEvent } from '@quoin/contracts';
import { etcd, History, LeaseChecker, type Violation, WatchChecker } from '@quoin/sim';
import { type FoundOrder, findOrder, leaseOf, type Past, type PastEvent } from './order.ts';
import type { Entry, Recording } from './recorder.ts';

export interface CheckReport {
  readonly operations: number;
  readonly acknowledged: number;
  readonly unknown: number;
  readonly revisions: number;
  readonly watchEvents: number;
  readonly bookmarks: number;
  readonly leaseRenewals: number;
  readonly leaseExpiries: number;
  readonly order: FoundOrder;
}

/** A promise was broken. */
export class BrokenPromise extends Error {}

/** Watchers of everything from the first revision on, with what was there before. */
export const collectorPrefix = 'all-';

/** @throws BrokenPromise */
export function check(recording: Recording): CheckReport {
  const violation: Violation = (message) => {
    throw new BrokenPromise(message);
  };
  const past = collect(recording, violation);
  const order = findOrder(recording, past, violation);
  const replay = new Replay(recording, order, violation);
  replay.run();
  return replay.report();
}

export function readPastEvent(bytes: Uint8Array): PastEvent {
  const { type, kv, prevKv } = readEvent(bytes);
  return {
    type: type === EventType.put ? 'put' : 'delete',
    kv: etcd.readKv(kv),
    prevKv: prevKv === undefined ? undefined : etcd.readKv(prevKv),
  };
}

/** The watch history as the collectors were told it. Each is held to the order like any watcher later on. */
function collect(recording: Recording, violation: Violation): Past {
  const past = new Map<number, PastEvent[]>();
  /** Who told of a revision first: the events of one revision are taken from one watcher. */
  const tellers = new Map<number, string>();
  const lives = new Map<string, number>();
  for (const entry of recording.entries) {
    if (entry.what !== 'watch' && entry.what !== 'watchOpen') continue;
    if (!entry.watcher.startsWith(collectorPrefix)) continue;
    if (entry.what === 'watchOpen') {
      lives.set(entry.watcher, (lives.get(entry.watcher) ?? 0) + 1);
      // A revision that broke off in the middle is told anew.
      const whole = entry.start;
      for (const [revision, teller] of tellers) {
        if (revision < whole || !teller.startsWith(`${entry.watcher}/`)) continue;
        past.delete(revision);
        tellers.delete(revision);
      }
      continue;
    }
    const teller = `${entry.watcher}/${lives.get(entry.watcher)}`;
    for (const bytes of etcd.fields(entry.response, 90)) {
      const event = readPastEvent(bytes);
      const revision = event.kv.modRevision;
      if ((tellers.get(revision) ?? teller) !== teller) continue;
      tellers.set(revision, teller);
      const events = past.get(revision);
      if (events === undefined) past.set(revision, [event]);
      else events.push(event);
    }
  }
  if (recording.watchers.size === 0) violation('nobody has watched');
  return past;
}

type WatchEntry = Extract<Entry, { readonly watcher: string }>;

class Replay {
  private readonly recording: Recording;
  private readonly order: FoundOrder;
  private readonly violation: Violation;
  private readonly history: History;
  private readonly leases: LeaseChecker;
  private readonly watchers = new Map<string, WatchChecker>();
  private readonly names = new Map<number, { readonly name: string; readonly request: Uint8Array }>();
  private readonly operations = new Map<number, ReturnType<History['begin']>>();
  private known = 1;

  constructor(recording: Recording, order: FoundOrder, violation: Violation) {
    this.recording = recording;
    this.order = order;
    this.violation = violation;
    this.history = new History(order, violation);
    // All processes run by the same clock of the same machine, and none is ahead of it.
    this.leases = new LeaseChecker(0, violation);
    for (const [name, spec] of recording.watchers) {
      this.watchers.set(name, new WatchChecker(name, spec, order.model, violation));
    }
  }

  run(): void {
    for (const entry of this.recording.entries) {
      try {
        this.take(entry);
      } catch (error) {
        if (error instanceof BrokenPromise) error.message += ` [at ${entry.atMs.toFixed(1)} ms]`;
        throw error;
      }
    }
    const { revision } = this.order.model;
    for (const [name, watcher] of this.watchers) {
      if (!watcher.isPast(revision)) {
        this.violation(`watcher ${name} was never told of ${watcher.missing(revision)}`);
      }
    }
  }

  report(): CheckReport {
    const { history, leases, order } = this;
    const watchers = [...this.watchers.values()];
    return {
      operations: history.begun,
      acknowledged: history.acknowledged,
      unknown: history.unknown,
      revisions: order.model.revision,
      watchEvents: watchers.reduce((sum, watcher) => sum + watcher.events, 0),
      bookmarks: watchers.reduce((sum, watcher) => sum + watcher.bookmarks, 0),
      leaseRenewals: leases.renewals,
      leaseExpiries: leases.expiries,
      order,
    };
  }

  private take(entry: Entry): void {
    const { history, leases, order } = this;
    switch (entry.what) {
      case 'begin':
        this.names.set(entry.operation, entry);
        this.operations.set(entry.operation, history.begin(entry.kind, entry.name, entry.request));
        break;
      case 'end':
        this.end(entry);
        break;
      case 'leaseLives':
        leases.renewed(entry.lease, entry.ttlSeconds, entry.sentMs);
        break;
      case 'leaseGone':
        leases.expires(entry.lease, entry.atMs);
        break;
      case 'leaseGivenUp':
        leases.revokes(entry.lease);
        break;
      case 'compact':
        order.model.compactRevision = Math.max(order.model.compactRevision, entry.revision);
        break;
      case 'fault':
        break;
      default:
        this.watched(entry);
    }
  }

  private end({ operation: number, ending, atMs }: Extract<Entry, { readonly what: 'end' }>): void {
    const operation = this.operations.get(number)!;
    this.operations.delete(number);
    if (ending.kind === 'ok') {
      const { revision } = etcd.readHeader(ending.body);
      this.reach(revision, atMs);
      const applied = this.order.applied.get(number);
      // What made no revision has its place where its answer says, at the latest when that is there.
      if (applied !== undefined && this.order.makers[applied.revisionAfter] !== number) {
        this.history.applied(number, applied);
      }
    } else if (ending.kind === 'error' && this.order.applied.get(number)?.outcome.kind === 'refused') {
      const { name, request } = this.names.get(number)!;
      this.leases.expires(leaseOf(name, request), atMs);
    }
    this.history.end(operation, ending);
  }

  private watched(entry: WatchEntry): void {
    const watcher = this.watchers.get(entry.watcher)!;
    if (entry.what === 'watchOpen') {
      watcher.broken();
      if (entry.start > 0) watcher.next = entry.start;
      return;
    }
    if (entry.what === 'watchCanceled') {
      watcher.canceled(entry.response);
      return;
    }
    const { revision } = etcd.readHeader(entry.response);
    this.reach(revision, entry.atMs);
    this.history.seen(revision);
    if (entry.what === 'watchCreated') watcher.created(entry.response, entry.start);
    else watcher.response(entry.response);
  }

  /** Somebody has heard of that revision: whoever made it, and those before it, has begun. */
  private reach(revision: number, atMs: number): void {
    const { order } = this;
    if (revision > order.model.revision) {
      this.violation(`revision ${revision} was heard of; the watch history ends at ${order.model.revision}`);
    }
    while (this.known < revision) {
      this.known++;
      const maker = order.makers[this.known];
      const lease = order.ends.get(this.known);
      if (maker !== undefined) this.history.applied(maker, order.applied.get(maker)!);
      else if (lease !== undefined) this.leases.expires(lease, atMs);
    }
  }
}
