/**
 * etcd's promises to one watcher, held against the model as each response arrives:
 *
 *   ordered       revisions only go up
 *   unique        no event comes twice
 *   reliable      no event is left out: neither between two that came, nor below a bookmark
 *   atomic        a revision is not split over responses, unless it was asked for (fragment)
 *   resumable     a watch that begins at a revision brings everything from there on
 *   bookmarkable  a progress notification at r comes after every event up to r
 *
 * and kv and prev_kv of each event are the model's.
 */
import { readEvent } from '@quoin/contracts';
import { field, fields, readHeader, readKv, varint } from '../etcd-messages.ts';
import { inRange, type ModelEvent, type StoreModel } from './model.ts';
import { sameKv, showKv } from './responses.ts';
import type { Violation } from './witness.ts';

export interface WatchSpec {
  readonly key: string;
  readonly end: string;
  readonly noPut: boolean;
  readonly noDelete: boolean;
  readonly prevKv: boolean;
  readonly fragment: boolean;
}

interface Wanted {
  readonly revision: number;
  readonly event: ModelEvent;
}

/** One watcher over all its lives: each begins where the last one had come to. */
export class WatchChecker {
  /** Every wanted event below it has been delivered; 0: not known yet where the watch begins. */
  next = 0;
  events = 0;
  bookmarks = 0;
  readonly spec: WatchSpec;
  private readonly name: string;
  private readonly model: StoreModel;
  private readonly violation: Violation;
  /** Events of the revision `next` that came already, in fragments. */
  private part = 0;

  constructor(name: string, spec: WatchSpec, model: StoreModel, violation: Violation) {
    this.name = name;
    this.spec = spec;
    this.model = model;
    this.violation = violation;
  }

  /** The stream broke: what comes next is asked for from `next` on. */
  broken(): void {
    this.part = 0;
  }

  created(response: Uint8Array, startRevision: number): void {
    const { revision } = readHeader(response);
    if (revision > this.model.revision) this.fail(`was created at revision ${revision}: not there yet`);
    if (this.next === 0) this.next = startRevision > 0 ? startRevision : revision + 1;
  }

  /** A response with `canceled`: the compact revision that it names, where the watch can go on; 0 for another reason. */
  canceled(response: Uint8Array): number {
    const compactRevision = Number(varint(response, 40));
    if (compactRevision === 0) return 0;
    if (compactRevision > this.model.compactRevision) {
      this.fail(`was cancelled for a compaction at ${compactRevision}: there was none`);
    }
    if (this.next >= compactRevision && this.next > 0) {
      this.fail(`at revision ${this.next} was cancelled for a compaction at ${compactRevision}`);
    }
    this.next = compactRevision;
    this.part = 0;
    return compactRevision;
  }

  response(response: Uint8Array): void {
    const { revision } = readHeader(response);
    if (revision > this.model.revision) this.fail(`heard of revision ${revision}: not there yet`);
    const events = fields(response, 90);
    if (events.length === 0) {
      this.bookmark(revision);
      return;
    }
    let wanted = this.wantedFrom(this.next, this.model.revision, this.part + events.length).slice(this.part);
    if (wanted.length < events.length) this.fail(`got ${events.length} events where ${wanted.length} can be`);
    for (let i = 0; i < events.length; i++) this.check(events[i]!, wanted[i]!);
    this.events += events.length;
    const last = wanted[events.length - 1]!.revision;
    if (revision < last) this.fail(`has a header of revision ${revision} on an event of ${last}`);
    wanted = wanted.slice(events.length);
    const rest = wanted.filter((w) => w.revision === last).length;
    if (rest > 0) {
      if (!this.spec.fragment || varint(response, 56) === 0n) this.fail(`got revision ${last} in part`);
      this.part = this.wantedFrom(last, last).length - rest;
      this.next = last;
      return;
    }
    this.part = 0;
    this.next = last + 1;
  }

  /** Everything up to that revision has come. */
  isPast(revision: number): boolean {
    return this.next > 0 && this.wantedFrom(this.next, revision, 1).length === 0;
  }

  /** What has not come, for a message. */
  missing(revision: number): string {
    const first = this.wantedFrom(this.next, revision, 1)[0];
    return first === undefined ? 'nothing' : `${first.revision} ${showKv(first.event.kv)}`;
  }

  private bookmark(revision: number): void {
    const missed = this.wantedFrom(this.next, revision, 1)[0];
    if (missed !== undefined) {
      this.fail(`has a bookmark at ${revision} before event ${missed.revision} ${showKv(missed.event.kv)}`);
    }
    this.bookmarks++;
    if (this.next <= revision) this.next = revision + 1;
  }

  private check(bytes: Uint8Array, wanted: Wanted): void {
    const { type, kv, prevKv } = readEvent(bytes);
    const got = readKv(kv);
    const { event, revision } = wanted;
    if ((type === 0) !== (event.type === 'put') || !sameKv(got, event.kv)) {
      this.fail(`got ${type} ${showKv(got)}, not ${event.type} ${showKv(event.kv)} of revision ${revision}`);
    }
    if (!this.spec.prevKv) {
      if (prevKv !== undefined) this.fail(`got a prev_kv it had not asked for at ${revision}`);
      return;
    }
    if (prevKv === undefined) {
      const kept = revision - 1 >= this.model.compactRevision;
      if (event.prevKv !== undefined && kept) this.fail(`got no prev_kv at ${revision}`);
    } else if (!sameKv(readKv(prevKv), event.prevKv)) {
      this.fail(`got prev_kv ${showKv(readKv(prevKv))} at ${revision}, not ${showKv(event.prevKv)}`);
    }
  }

  /** Whole revisions, and no more of them than it takes to have `count` events. */
  private wantedFrom(from: number, to: number, count = Number.POSITIVE_INFINITY): Wanted[] {
    const { key, end, noPut, noDelete } = this.spec;
    const found: Wanted[] = [];
    for (let revision = Math.max(from, 2); revision <= to && found.length < count; revision++) {
      for (const event of this.model.events[revision]!) {
        if (event.type === 'put' ? noPut : noDelete) continue;
        if (inRange(event.kv.key, key, end)) found.push({ revision, event });
      }
    }
    return found;
  }

  private fail(problem: string): never {
    return this.violation(`watcher ${this.name} on ${this.spec.key} ${problem}`);
  }
}

/** A response's `created`, `canceled` and reason. */
export function watchFlags(response: Uint8Array): { created: boolean; canceled: boolean; reason: string } {
  const reason = field(response, 50);
  return {
    created: varint(response, 24) === 1n,
    canceled: varint(response, 32) === 1n,
    reason: reason === undefined ? '' : String.fromCharCode(...reason),
  };
}
