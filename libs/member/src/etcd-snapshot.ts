/**
 * The state in etcd's own file format, in slices and bounded memory:
 *
 *   old ──► count ──► write ──► digest
 *
 * Keys stand in the file in order of revision. What happened after the compact revision C is kept in that order; what was
 * alive at C is kept by key, so it goes through an engine of its own first, which is removed in the end. All of it is read
 * twice, since the first page of the file names the last.
 */
import { type IncrementalDigest, utf8 } from '@quoin/base';
import { type Backend, type BackendCursor, RevisionKey, type VersionWalk } from '@quoin/mvcc';
import { type BoltTotals, BoltWriter, type BucketWriter, pageBytes } from './bolt-writer.ts';
import type { EtcdBucket } from './etcd-buckets.ts';

/** First byte of the scratch engine's keys; bbolt's key follows. */
const scratchPrefix = 0x6b;
const scratchEnd: Uint8Array = Uint8Array.of(scratchPrefix + 1);
const scratchStart: Uint8Array = Uint8Array.of(scratchPrefix);
const cursorBytes = 64 * 1024;

export interface EtcdSnapshotParts {
  readonly walk: VersionWalk;
  readonly buckets: readonly EtcdBucket[];
  /** Empty; needed when the walk has a compact revision. */
  readonly scratch: Backend | undefined;
  readonly sha256: IncrementalDigest;
}

export class EtcdSnapshot {
  private readonly parts: EtcdSnapshotParts;
  private phase: 'old' | 'count' | 'write' | 'done';
  private pass: KeyPass | undefined;
  private totals: BoltTotals | undefined;
  /** Pages that were made and not taken yet. */
  private made: Uint8Array[];

  constructor(parts: EtcdSnapshotParts) {
    this.parts = parts;
    this.phase = parts.scratch === undefined ? 'count' : 'old';
    this.pass = undefined;
    this.totals = undefined;
    this.made = [];
  }

  /** Bytes of the file without its digest; 0 before that is known. */
  get totalBytes(): number {
    return this.totals === undefined ? 0 : this.totals.pages * pageBytes;
  }

  get done(): boolean {
    return this.phase === 'done';
  }

  /** One slice of work, a millisecond or two. Returns what is to be written next: whole pages, or nothing yet. */
  step(): readonly Uint8Array[] {
    this.made = [];
    if (this.phase === 'old') this.stepOld();
    else if (this.phase === 'count' || this.phase === 'write') this.stepPass();
    for (const pages of this.made) this.parts.sha256.update(pages);
    return this.made;
  }

  /** After all pages. */
  digest(): Uint8Array {
    return this.parts.sha256.digest();
  }

  close(): void {
    this.pass?.close();
    this.parts.walk.close();
  }

  private stepOld(): void {
    const { walk, scratch } = this.parts;
    const key = new RevisionKey();
    const put = (bolt: Uint8Array, value: Uint8Array): void => {
      const entry = new Uint8Array(1 + bolt.length);
      entry[0] = scratchPrefix;
      entry.set(bolt, 1);
      scratch!.put(entry, value);
    };
    const ended = walk.stepOld((kv, sub, mod) => put(key.put(mod, sub), kv));
    if (ended) walk.tombstones((user, sub) => put(key.tombstone(walk.compactRevision, sub), bareKey(user)));
    if (ended) this.phase = 'count';
  }

  private stepPass(): void {
    this.pass ??= new KeyPass(this.parts, this.totals, (pages) => this.made.push(pages));
    const totals = this.pass.step();
    if (totals === undefined) return;
    this.pass = undefined;
    this.phase = this.totals === undefined ? 'write' : 'done';
    this.totals = totals;
  }
}

/** mvccpb.KeyValue with nothing but the key. */
function bareKey(key: Uint8Array): Uint8Array {
  let length = key.length;
  const head = [0x0a];
  for (; length >= 0x80; length = Math.floor(length / 128)) head.push((length & 0x7f) | 0x80);
  head.push(length);
  const out = new Uint8Array(head.length + key.length);
  out.set(head, 0);
  out.set(key, head.length);
  return out;
}

/** All entries of the file once. */
class KeyPass {
  private readonly walk: VersionWalk;
  private readonly file: BoltWriter;
  private readonly bucket: BucketWriter;
  private readonly key = new RevisionKey();
  private cursor: BackendCursor | undefined;
  private nextRevision: number;

  constructor(
    { walk, buckets, scratch }: EtcdSnapshotParts,
    totals: BoltTotals | undefined,
    emit: (pages: Uint8Array) => void,
  ) {
    this.walk = walk;
    this.file = totals === undefined ? new BoltWriter() : new BoltWriter(totals, emit);
    for (const { name, entries } of buckets) {
      const bucket = this.file.bucket(utf8(name));
      for (const [key, value] of entries) bucket.add(key, value);
      bucket.end();
    }
    this.bucket = this.file.bucket(utf8('key'));
    this.cursor = scratch?.cursor(scratchStart, scratchEnd);
    this.nextRevision = walk.firstEventRevision;
  }

  /** The totals once all entries are through. */
  step(): BoltTotals | undefined {
    if (this.cursor !== undefined) this.stepOld(this.cursor);
    else if (this.nextRevision <= this.walk.revision) this.stepEvents();
    else {
      this.bucket.end();
      return this.file.finish();
    }
    return undefined;
  }

  close(): void {
    this.cursor?.close();
  }

  private stepOld(cursor: BackendCursor): void {
    const more = cursor.next(cursorBytes, (key, value) => {
      this.bucket.add(key.slice(1), value.slice());
      return true;
    });
    if (more) return;
    cursor.close();
    this.cursor = undefined;
  }

  private stepEvents(): void {
    this.nextRevision = this.walk.stepEvents(this.nextRevision, (revision, sub, kv, isDelete) => {
      const key = isDelete ? this.key.tombstone(revision, sub) : this.key.put(revision, sub);
      this.bucket.add(key.slice(), kv);
    });
  }
}
