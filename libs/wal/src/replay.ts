import { equalBytes, type Sealer } from '@quoin/base';
import type { Entry, HardState, SnapshotMeta } from '@quoin/raft';
import { decodeEntries, decodeHardState, decodeSnapshot, RecordType } from './record.ts';

/** The state of the log as its records are read in order: the last writer wins. */
export class Replay {
  /** What the segments say; undefined before the first. */
  metadata: Uint8Array | undefined;
  hardState: HardState | undefined;
  snapshot: SnapshotMeta | undefined;
  entries: Entry[];
  /** Index that an append would continue at. */
  next: number;
  /** Highest index of any entry, replaced and released ones included. */
  highest: number;
  private inSegment: number;
  private stateInSegment: boolean;
  private snapshotInSegment: boolean;
  private readonly sealer: Sealer | undefined;

  constructor(sealer: Sealer | undefined) {
    this.sealer = sealer;
    this.metadata = undefined;
    this.hardState = undefined;
    this.snapshot = undefined;
    this.entries = [];
    this.next = 1;
    this.highest = 0;
    this.inSegment = 0;
    this.stateInSegment = false;
    this.snapshotInSegment = false;
  }

  /** Entries below `firstIndex` of the oldest segment have been released; it may begin by replacing some of them. */
  beginSegment(firstIndex: number): void {
    if (this.metadata === undefined) this.next = firstIndex;
    this.highest = Math.max(this.highest, firstIndex - 1);
    this.inSegment = 0;
    this.stateInSegment = false;
    this.snapshotInSegment = false;
  }

  /** Whether the current segment alone tells hard state and snapshot. */
  get headWritten(): boolean {
    return (
      this.stateInSegment === (this.hardState !== undefined) &&
      this.snapshotInSegment === (this.snapshot !== undefined)
    );
  }

  /** Records of the current segment so far. */
  get records(): number {
    return this.inSegment;
  }

  /** Returns what is wrong, if anything. */
  apply(type: RecordType, body: Uint8Array): string | undefined {
    const head = this.inSegment++ === 0;
    if (head !== (type === RecordType.metadata)) {
      return head ? 'the segment does not begin with metadata' : 'metadata in the middle of a segment';
    }
    switch (type) {
      case RecordType.metadata:
        return this.applyMetadata(body);
      case RecordType.hardState:
        this.hardState = decodeHardState(body);
        this.stateInSegment = true;
        return undefined;
      case RecordType.entries:
        return this.sealer === undefined
          ? this.applyEntries(decodeEntries(body))
          : 'entries that are not encrypted, in a log that is';
      case RecordType.sealedEntries:
        return this.applySealed(body);
      case RecordType.snapshot:
        this.applySnapshot(decodeSnapshot(body));
        return undefined;
      case RecordType.end:
      case RecordType.mark:
        return undefined;
      default:
        return `unknown record type ${type satisfies never}: was it written by a newer version?`;
    }
  }

  /** The hard state to start from. The last write may have been torn between it and the entries that it counts. */
  finalHardState(): HardState | undefined {
    if (this.hardState === undefined) return undefined;
    const commit = Math.max(Math.min(this.hardState.commit, this.next - 1), this.snapshot?.index ?? 0);
    return { term: this.hardState.term, vote: this.hardState.vote, commit };
  }

  private applyMetadata(body: Uint8Array): string | undefined {
    if (this.metadata === undefined) this.metadata = body.slice();
    else if (!equalBytes(this.metadata, body)) return 'the segment belongs to another log';
    return undefined;
  }

  private applySealed(body: Uint8Array): string | undefined {
    if (this.sealer === undefined) return 'the entries are encrypted, and there is no key';
    const plain = this.sealer.open(body);
    return plain === undefined
      ? 'entries encrypted with another key'
      : this.applyEntries(decodeEntries(plain));
  }

  private applyEntries(entries: Entry[]): string | undefined {
    const first = entries[0]!.index;
    if (first > this.next) return `entry ${first} follows entry ${this.next - 1}`;
    const keep = this.entries.length - (this.next - first);
    this.entries.length = Math.max(keep, 0);
    this.next = first;
    const covered = this.snapshot?.index ?? 0;
    for (const entry of entries) {
      if (entry.index > covered) this.entries.push(entry);
      this.next = entry.index + 1;
    }
    this.highest = Math.max(this.highest, this.next - 1);
    return undefined;
  }

  // Raft's rule for an installed snapshot (Raft paper, figure 13, steps 6 and 7): a log that has the snapshot's last
  // entry keeps what follows it, any other log is replaced. A snapshot of the member's own state always matches.
  private applySnapshot(meta: SnapshotMeta): void {
    this.snapshotInSegment = true;
    // Each segment repeats the last one.
    if (this.snapshot !== undefined && meta.index <= this.snapshot.index) return;
    this.snapshot = meta;
    const first = this.next - this.entries.length;
    if (meta.index < first) return;
    if (meta.index < this.next && this.entries[meta.index - first]!.term === meta.term) {
      this.entries.splice(0, meta.index - first + 1);
      return;
    }
    this.entries = [];
    this.next = meta.index + 1;
  }
}
