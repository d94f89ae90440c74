import { assert, latin1 } from '@quoin/base';
import { readHistory } from './history.ts';
import { eventKv, KeyValueReader } from './key-value.ts';
import { RangeReader } from './range-reader.ts';
import type { HistoryResult } from './read-types.ts';
import type { StoreState } from './state.ts';
import type { WatchHub } from './watch-hub.ts';

const everyKey = { key: new Uint8Array(1), rangeEnd: new Uint8Array(1) };
const sliceEntries = 200;
const sliceBytes = 128 * 1024;

/**
 * Every version that is kept as of now, in slices: first those up to the compact revision C that are alive there, in
 * key order, then the events after C, in order of revision; the latter as often as wanted. Must be closed.
 */
export class VersionWalk {
  readonly revision: number;
  /** −1: never compacted. */
  readonly compactRevision: number;
  private readonly state: StoreState;
  private readonly hub: WatchHub;
  private readonly reader = new KeyValueReader();
  private old: RangeReader | undefined;
  private open: boolean;

  /** Only right after a commit. */
  constructor(state: StoreState, hub: WatchHub) {
    assert(!state.uncommitted, 'the versions were asked for between apply and commit');
    this.state = state;
    this.hub = hub;
    this.revision = state.revision;
    this.compactRevision = state.compactRevision;
    this.open = true;
    // Removal waits, so what is read below is there whatever is compacted meanwhile.
    state.pins++;
    const { compactRevision } = this;
    this.old =
      compactRevision > 0
        ? new RangeReader(state, { ...everyKey, revision: compactRevision, drained: true })
        : undefined;
  }

  /** One slice of the versions up to C; true when that was the last. */
  stepOld(visit: (kv: Uint8Array, sub: number, modRevision: number) => void): boolean {
    assert(this.open, 'the walk is closed');
    const { old } = this;
    if (old === undefined) return true;
    const ended = old.step(sliceEntries);
    old.drain((kv, sub) => {
      this.reader.readHead(kv);
      visit(kv, sub, this.reader.modRevision);
    });
    if (!ended) return false;
    old.close();
    this.old = undefined;
    return true;
  }

  /** The keys that the revision C itself deleted: etcd keeps their tombstones. */
  tombstones(visit: (key: Uint8Array, sub: number) => void): void {
    const { compactRevision: revision } = this;
    if (revision <= 0) return;
    const { reader } = this;
    const seen = new Set<string>();
    for (const { events } of this.read(revision, revision).revisions) {
      for (let sub = events.length - 1; sub >= 0; sub--) {
        const kv = eventKv(events[sub]!);
        reader.readKey(kv);
        const key = kv.subarray(reader.keyStart, reader.keyEnd);
        const name = latin1(key);
        if (events[sub]![0] === 0x08 && !seen.has(name)) visit(key, sub);
        seen.add(name);
      }
    }
  }

  get firstEventRevision(): number {
    return Math.max(this.compactRevision, 0) + 1;
  }

  /**
   * One slice of events from a revision on, as etcd stores them: a tombstone has its key alone. Returns where to go on:
   * beyond `revision` when that was the last.
   */
  stepEvents(
    from: number,
    visit: (revision: number, sub: number, kv: Uint8Array, isDelete: boolean) => void,
  ): number {
    assert(this.open, 'the walk is closed');
    if (from > this.revision) return from;
    const found = this.read(from, this.revision);
    for (const { revision, events } of found.revisions) {
      for (let sub = 0; sub < events.length; sub++) {
        const kv = eventKv(events[sub]!);
        const isDelete = events[sub]![0] === 0x08;
        if (isDelete) this.reader.readKey(kv);
        visit(revision, sub, isDelete ? kv.subarray(0, this.reader.keyEnd) : kv, isDelete);
      }
    }
    return found.nextRevision;
  }

  close(): void {
    if (!this.open) return;
    this.open = false;
    this.old?.close();
    this.state.pins--;
  }

  private read(from: number, to: number): HistoryResult {
    return readHistory(this.state, this.hub, {
      bounds: undefined,
      from,
      to,
      prevKv: false,
      maxBytes: sliceBytes,
      compactRevision: Math.min(from, Math.max(this.compactRevision, 0)),
    });
  }
}
