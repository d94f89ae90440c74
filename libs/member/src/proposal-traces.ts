import type { Tracer } from '@quoin/base';
import { SpanKind } from '@quoin/base';
import { decodeProposalBatch, isSampledBatch, type Proposal } from '@quoin/contracts';
import { type Entry, EntryType } from '@quoin/raft';
import type { Proposals } from './proposals.ts';

/** When the log's last group was written and synced. Groups follow each other: one write and one sync at a time. */
export class WalTimes {
  writeStartMs = 0;
  writeEndMs = 0;
  syncStartMs = 0;
  syncEndMs = 0;
  private isNewGroup = true;

  wrote(startMs: number, endMs: number): void {
    // A group may take two writes.
    if (this.isNewGroup) this.writeStartMs = startMs;
    this.isNewGroup = false;
    this.writeEndMs = endMs;
  }

  synced(startMs: number, endMs: number): void {
    this.syncStartMs = startMs;
    this.syncEndMs = endMs;
    this.isNewGroup = true;
  }
}

/** A log entry with a sampled proposal, between log and state. */
interface SampledEntry {
  readonly index: number;
  readonly term: number;
  /** All of it: what was decoded to find out is not decoded again. */
  readonly proposals: readonly Proposal[];
  readonly contexts: readonly Uint8Array[];
  readonly appendMs: number;
  /** 0: not yet. */
  committedMs: number;
}

/** What one append hands to `appended`. */
export interface SampledAppend {
  readonly contexts: readonly Uint8Array[];
  readonly startMs: number;
  readonly entries: number;
  readonly leads: boolean;
}

/** Entries that are never applied (another leader's took their place) would stay: so many are kept. */
const entriesMax = 4_096;

/**
 * The spans of sampled proposals on one member. All of them lie below the leader's `member.<method>`, whose context the
 * log entry carries:
 *
 *     leader    raft.propose ─ raft.append ─────────── raft.commit … member.apply
 *                                ├ wal.write                            └ store.write
 *                                └ wal.fsync
 *     follower                 follower.append (the same below it)   … member.apply
 *
 * What one turn did for many requests is one more span, `raft.batch` or `apply.batch`, linked to each of theirs.
 */
export class ProposalTraces {
  private readonly tracer: Tracer;
  private readonly times: WalTimes;
  private readonly proposals: Proposals;
  private readonly entries = new Map<number, SampledEntry>();
  /** Applied in this slice, and when each began. */
  private applied: Uint8Array[] = [];
  private appliedMs: number[] = [];
  /** Revisions made in this slice by sampled requests, for the feeds of gateways. */
  private readonly revisions = new Map<number, Uint8Array>();

  constructor(tracer: Tracer, times: WalTimes, proposals: Proposals) {
    this.tracer = tracer;
    this.times = times;
    this.proposals = proposals;
  }

  /** Entries are about to be given to the log. Undefined: nothing in them is sampled, and nothing was decoded. */
  appending(entries: readonly Entry[], leads: boolean, nowMs: number): SampledAppend | undefined {
    let contexts: Uint8Array[] | undefined;
    for (let i = 0; i < entries.length; i++) {
      const entry = entries[i]!;
      if (entry.type !== EntryType.normal || !isSampledBatch(entry.data)) continue;
      contexts ??= [];
      this.add(entry, leads, nowMs, contexts);
    }
    if (contexts === undefined) return undefined;
    return { contexts, startMs: nowMs, entries: entries.length, leads };
  }

  /** They are durable. */
  appended(append: SampledAppend, nowMs: number): void {
    const { tracer, times } = this;
    const { contexts, startMs, leads, entries } = append;
    const name = leads ? 'raft.append' : 'follower.append';
    const kind = leads ? SpanKind.internal : SpanKind.consumer;
    // What waits for a group to end may have come while that group was being written.
    const writeMs = Math.max(startMs, times.writeStartMs);
    for (const context of contexts) {
      tracer.record(name, context, startMs, nowMs, kind);
      tracer.recordBelow('wal.write', writeMs, times.writeEndMs);
      tracer.recordBelow('wal.fsync', times.syncStartMs, times.syncEndMs);
    }
    tracer.batch('raft.batch', startMs, nowMs, contexts, {
      'quoin.entries': entries,
      'quoin.sampled': contexts.length,
      'quoin.leader': leads,
    });
  }

  get waiting(): boolean {
    return this.entries.size > 0;
  }

  committed(entries: readonly Entry[], nowMs: number): void {
    for (let i = 0; i < entries.length; i++) {
      const known = this.entries.get(entries[i]!.index);
      if (known !== undefined && known.committedMs === 0) known.committedMs = nowMs;
    }
  }

  /** The entry is about to be applied: its proposals, when it was looked into here. */
  take(entry: Entry, leads: boolean): readonly Proposal[] | undefined {
    const known = this.entries.get(entry.index);
    if (known === undefined) return undefined;
    this.entries.delete(entry.index);
    if (known.term !== entry.term) return undefined;
    if (leads && known.committedMs > 0) {
      for (const context of known.contexts) {
        this.tracer.record('raft.commit', context, known.appendMs, known.committedMs);
      }
    }
    return known.proposals;
  }

  /** `revision`: the one that it made. */
  applies(context: Uint8Array, startMs: number, revision: number | undefined): void {
    this.applied.push(context);
    this.appliedMs.push(startMs);
    if (revision !== undefined) this.revisions.set(revision, context);
  }

  traceOf(revision: number): Uint8Array | undefined {
    return this.revisions.get(revision);
  }

  get hasRevisions(): boolean {
    return this.revisions.size > 0;
  }

  /** What was applied in this slice has been given to the store. */
  stored(commitMs: number, endMs: number, entries: number): void {
    const contexts = this.applied;
    if (contexts.length === 0) return;
    const startsMs = this.appliedMs;
    this.applied = [];
    this.appliedMs = [];
    this.revisions.clear();
    const { tracer } = this;
    for (let i = 0; i < contexts.length; i++) {
      tracer.record('member.apply', contexts[i]!, startsMs[i]!, endMs, SpanKind.consumer);
      tracer.recordBelow('store.write', commitMs, endMs);
    }
    tracer.batch('apply.batch', startsMs[0]!, endMs, contexts, {
      'quoin.entries': entries,
      'quoin.sampled': contexts.length,
    });
  }

  /** The state was replaced: what waited is never applied one by one. */
  clear(): void {
    this.entries.clear();
  }

  private add(entry: Entry, leads: boolean, nowMs: number, into: Uint8Array[]): void {
    const { proposals } = decodeProposalBatch(entry.data);
    const contexts: Uint8Array[] = [];
    for (const { trace, origin, id } of proposals) {
      if (trace.length === 0) continue;
      contexts.push(trace);
      into.push(trace);
      const pending = leads ? this.proposals.peek(origin, id) : undefined;
      if (pending !== undefined) this.tracer.record('raft.propose', trace, pending.startedMs, nowMs);
    }
    if (this.entries.size >= entriesMax) this.entries.clear();
    const { index, term } = entry;
    this.entries.set(index, { index, term, proposals, contexts, appendMs: nowMs, committedMs: 0 });
  }
}
