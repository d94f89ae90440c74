/**
 * The log in memory: every entry since the last compaction, and four positions in it.
 *
 *        start        applied    handedOut     commit              last
 *     ─────┼──────────────┼──────────┼────────────┼──────────────────┤
 *      compacted   durable ──────────────────────────┤ written ──┤
 *
 * start ≤ applied ≤ handedOut ≤ min(commit, durable)    nothing is applied that this disk could still lose
 * durable ≤ written ≤ last                              written = handed to the disk, durable = the disk has said so
 *
 * Appending over a suffix moves `written` and `durable` back, and also what the writes under way will make durable:
 * an answer for an overwritten suffix must not count for what replaced it, not even if the very same entry comes
 * back (leaders A, B, A: the disk may still hold B's entry).
 */
import { assert, Deque } from '@quoin/base';
import { type Entry, EntryType, type NodeId, type RaftState, type SnapshotMeta } from './types.ts';

/** What an entry costs beside its data: in memory, in the log file and on the wire, roughly. */
const entryOverheadBytes = 32;

export function entryBytes(entry: Entry): number {
  return entry.data.length + entryOverheadBytes;
}

/** One Ready that the disk works on. */
interface Write {
  readonly number: number;
  /** The log up to here is durable when this write is; moved back when a suffix is replaced. */
  lastIndex: number;
  readonly term: number;
  readonly vote: NodeId;
  readonly snapshotIndex: number;
}

const noEntries: readonly Entry[] = Object.freeze([]);

export class RaftLog {
  private entries: Entry[];
  /** Position of the last entry that is gone. */
  private startIndex: number;
  private startTerm: number;
  private lastIndexNow: number;
  private lastTermNow: number;
  commit: number;
  handedOut: number;
  applied: number;
  /** Bytes handed out and not applied. */
  applyingBytes: number;
  /** Bytes after `commit`. */
  uncommittedBytes: number;
  /** Bytes of all entries in memory. */
  bytes: number;
  written: number;
  durable: number;
  /** A snapshot that replaced the log and is not durable yet. Until then nothing is written or handed out. */
  pendingSnapshot: SnapshotMeta | undefined;
  snapshotTaken: boolean;
  private readonly writes: Deque<Write>;
  private cachedFrom: number;
  private cachedLast: number;
  private cachedMax: number;
  private cachedEntries: readonly Entry[];
  /** Bytes of the entries that the last `slice` returned. */
  sliceBytes: number;

  constructor(state: RaftState) {
    const { start, entries, applied, hardState } = state;
    this.entries = entries.slice();
    this.startIndex = start.index;
    this.startTerm = start.term;
    this.lastIndexNow = start.index;
    this.lastTermNow = start.term;
    this.bytes = 0;
    for (const entry of entries) {
      assert(entry.index === this.lastIndexNow + 1, () => `log has a gap before index ${entry.index}`);
      assert(entry.term >= this.lastTermNow, () => `term goes back at index ${entry.index}`);
      this.lastIndexNow = entry.index;
      this.lastTermNow = entry.term;
      this.bytes += entryBytes(entry);
    }
    const last = this.lastIndexNow;
    assert(applied >= start.index, () => `applied ${applied} is before the log's start ${start.index}`);
    assert(applied <= last, () => `applied ${applied}, but the log ends at ${last}: was it truncated?`);
    assert(
      hardState.commit <= last,
      () => `commit is ${hardState.commit}, but the log ends at ${last}: was it truncated?`,
    );
    // A commit index alone is not synced, so what was applied may be ahead of the one that was found.
    this.commit = Math.max(hardState.commit, applied, provenCommit(entries));
    this.handedOut = applied;
    this.applied = applied;
    this.applyingBytes = 0;
    this.uncommittedBytes = 0;
    this.written = last;
    this.durable = last;
    this.pendingSnapshot = undefined;
    this.snapshotTaken = false;
    this.writes = new Deque<Write>();
    this.cachedFrom = 0;
    this.cachedLast = 0;
    this.cachedMax = 0;
    this.cachedEntries = noEntries;
    this.sliceBytes = 0;
    this.countUncommitted();
  }

  get firstIndex(): number {
    return this.startIndex + 1;
  }

  get lastIndex(): number {
    return this.lastIndexNow;
  }

  get lastTerm(): number {
    return this.lastTermNow;
  }

  /** Of the entry at `index`, or of the log's start; -1 where that is compacted or not there yet. */
  term(index: number): number {
    if (index === this.lastIndexNow) return this.lastTermNow;
    if (index < this.startIndex || index > this.lastIndexNow) return -1;
    return index === this.startIndex ? this.startTerm : this.entries[index - this.startIndex - 1]!.term;
  }

  /** §5.4.1: the later last term wins, then the longer log. */
  isUpToDate(lastIndex: number, lastTerm: number): boolean {
    return lastTerm > this.lastTermNow || (lastTerm === this.lastTermNow && lastIndex >= this.lastIndexNow);
  }

  /**
   * The last index at or before `index` whose term is not above `term`: where a log whose term there is `term` can agree
   * with this one at best. Terms never fall within a log, hence the binary search. Below the start nothing is known.
   */
  findConflict(index: number, term: number): number {
    let high = Math.min(index, this.lastIndexNow);
    if (high < this.startIndex) return high;
    let low = this.startIndex;
    if (this.startTerm > term) return low - 1;
    while (low < high) {
      const middle = Math.ceil((low + high) / 2);
      if (this.term(middle) <= term) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  /** The leader's own append. */
  push(entry: Entry): void {
    this.entries.push(entry);
    this.lastIndexNow = entry.index;
    this.lastTermNow = entry.term;
    const bytes = entryBytes(entry);
    this.bytes += bytes;
    this.uncommittedBytes += bytes;
  }

  /**
   * A leader's append (§5.3): entries that are there already stay, the first that conflicts goes with all behind it.
   * The caller has found the entry before the first one to match.
   */
  append(entries: readonly Entry[]): void {
    let i = 0;
    while (i < entries.length && this.term(entries[i]!.index) === entries[i]!.term) i++;
    if (i === entries.length) return;
    const from = entries[i]!.index;
    if (from <= this.lastIndexNow) this.truncate(from);
    for (; i < entries.length; i++) this.push(entries[i]!);
  }

  private truncate(from: number): void {
    assert(from > this.commit, () => `conflict at ${from}, but everything to ${this.commit} is committed`);
    const at = from - this.startIndex - 1;
    for (let i = at; i < this.entries.length; i++) {
      const bytes = entryBytes(this.entries[i]!);
      this.bytes -= bytes;
      this.uncommittedBytes -= bytes;
    }
    this.entries.length = at;
    this.lastIndexNow = from - 1;
    this.lastTermNow = at === 0 ? this.startTerm : this.entries[at - 1]!.term;
    this.written = Math.min(this.written, from - 1);
    this.durable = Math.min(this.durable, from - 1);
    this.limitWrites(from - 1);
    this.cachedFrom = 0;
  }

  private limitWrites(lastIndex: number): void {
    for (let i = 0; i < this.writes.length; i++) {
      const write = this.writes.at(i)!;
      if (write.lastIndex > lastIndex) write.lastIndex = lastIndex;
    }
  }

  commitTo(index: number): void {
    if (index <= this.commit) return;
    assert(
      index <= this.lastIndexNow,
      () => `commit ${index} is past the log's end ${this.lastIndexNow}: was it lost?`,
    );
    for (let i = this.commit + 1; i <= index; i++) this.uncommittedBytes -= entryBytes(this.at(i));
    this.commit = index;
  }

  /** Bytes after `commit`, counted afresh when leadership begins. */
  countUncommitted(): void {
    this.uncommittedBytes = 0;
    for (let i = this.commit + 1; i <= this.lastIndexNow; i++)
      this.uncommittedBytes += entryBytes(this.at(i));
  }

  at(index: number): Entry {
    return this.entries[index - this.startIndex - 1]!;
  }

  /**
   * Entries from `from` to the end, at most `maxBytes` but at least one. Peers that are level get the same array, so
   * that it can be encoded once.
   */
  slice(from: number, maxBytes: number): readonly Entry[] {
    const last = this.lastIndexNow;
    if (from > last) {
      this.sliceBytes = 0;
      this.cachedFrom = 0;
      return noEntries;
    }
    if (from === this.cachedFrom && last === this.cachedLast && maxBytes === this.cachedMax)
      return this.cachedEntries;
    let to = from;
    let bytes = entryBytes(this.at(from));
    while (to < last) {
      const more = entryBytes(this.at(to + 1));
      if (bytes + more > maxBytes) break;
      bytes += more;
      to++;
    }
    this.cachedFrom = from;
    this.cachedLast = last;
    this.cachedMax = maxBytes;
    this.cachedEntries = this.entries.slice(from - this.startIndex - 1, to - this.startIndex);
    this.sliceBytes = bytes;
    return this.cachedEntries;
  }

  hasUnwritten(): boolean {
    return this.pendingSnapshot === undefined ? this.written < this.lastIndexNow : !this.snapshotTaken;
  }

  takeUnwritten(): readonly Entry[] {
    if (this.pendingSnapshot !== undefined || this.written === this.lastIndexNow) return noEntries;
    const from = this.written + 1;
    this.written = this.lastIndexNow;
    // The common case, one turn's proposals for everybody: share the array with the messages.
    if (from === this.cachedFrom && from + this.cachedEntries.length - 1 === this.lastIndexNow)
      return this.cachedEntries;
    return this.entries.slice(from - this.startIndex - 1);
  }

  hasToHandOut(maxBytes: number): boolean {
    return (
      this.pendingSnapshot === undefined &&
      this.handedOut < this.commit &&
      this.handedOut < this.durable &&
      this.applyingBytes < maxBytes
    );
  }

  /** Committed and durable entries in order: at least one, then as many as keep `applyingBytes` within `maxBytes`. */
  takeCommitted(maxBytes: number): readonly Entry[] {
    if (!this.hasToHandOut(maxBytes)) return noEntries;
    const from = this.handedOut + 1;
    const limit = Math.min(this.commit, this.durable);
    let to = from;
    let bytes = this.applyingBytes + entryBytes(this.at(from));
    while (to < limit) {
      const more = entryBytes(this.at(to + 1));
      if (bytes + more > maxBytes) break;
      bytes += more;
      to++;
    }
    this.applyingBytes = bytes;
    this.handedOut = to;
    return this.entries.slice(from - this.startIndex - 1, to - this.startIndex);
  }

  appliedTo(index: number): void {
    if (index <= this.applied) return;
    assert(index <= this.handedOut, () => `applied ${index}, but only ${this.handedOut} was handed out`);
    for (let i = Math.max(this.applied, this.startIndex) + 1; i <= index; i++)
      this.applyingBytes -= entryBytes(this.at(i));
    this.applied = index;
  }

  beginWrite(number: number, term: number, vote: NodeId): void {
    const snapshot = this.pendingSnapshot;
    const snapshotIndex = snapshot === undefined || this.snapshotTaken ? 0 : snapshot.index;
    this.snapshotTaken = snapshot !== undefined;
    // While a snapshot is pending the old log's writes prove nothing.
    const lastIndex = snapshot !== undefined && snapshotIndex === 0 ? 0 : this.written;
    this.writes.push({ number, lastIndex, term, vote, snapshotIndex });
  }

  hasWrites(): boolean {
    return this.writes.length > 0;
  }

  /** Returns the newest write that is durable by now, undefined if there is no news. */
  endWrites(number: number): Write | undefined {
    let newest: Write | undefined;
    for (;;) {
      const write = this.writes.at(0);
      if (write === undefined || write.number > number) return newest;
      this.writes.shift();
      newest = write;
      if (write.lastIndex > this.durable) this.durable = write.lastIndex;
      if (write.snapshotIndex > 0 && write.snapshotIndex === this.pendingSnapshot?.index) this.installed();
    }
  }

  private installed(): void {
    this.applied = this.startIndex;
    this.handedOut = this.startIndex;
    this.applyingBytes = 0;
    this.pendingSnapshot = undefined;
    this.snapshotTaken = false;
  }

  /** A snapshot replaces everything. */
  restore(meta: SnapshotMeta): void {
    this.entries = [];
    this.bytes = 0;
    this.uncommittedBytes = 0;
    this.startIndex = meta.index;
    this.startTerm = meta.term;
    this.lastIndexNow = meta.index;
    this.lastTermNow = meta.term;
    this.commit = meta.index;
    this.written = meta.index;
    this.durable = 0;
    this.limitWrites(0);
    this.handedOut = meta.index;
    this.applyingBytes = 0;
    this.pendingSnapshot = meta;
    this.snapshotTaken = false;
    this.cachedFrom = 0;
  }

  compact(index: number): void {
    if (index <= this.startIndex) return;
    assert(index <= this.applied, () => `compact ${index}, but only ${this.applied} is applied`);
    const term = this.term(index);
    const count = index - this.startIndex;
    for (let i = 0; i < count; i++) this.bytes -= entryBytes(this.entries[i]!);
    this.entries = this.entries.slice(count);
    this.startIndex = index;
    this.startTerm = term;
    this.cachedFrom = 0;
  }
}

/**
 * What membership changes in a log prove: one is proposed only after the one before it was applied. Whoever has the
 * later must not count votes by a membership of before the earlier, as it would if it had forgotten that commit.
 */
function provenCommit(entries: readonly Entry[]): number {
  let seen = false;
  for (let i = entries.length - 1; i >= 0; i--) {
    if (entries[i]!.type !== EntryType.confChange) continue;
    if (seen) return entries[i]!.index;
    seen = true;
  }
  return 0;
}
