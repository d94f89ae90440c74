import type { Disk, DiskCallback, DiskError, DiskFile, Log, Sealer } from '@quoin/base';
import { equalBytes } from '@quoin/base';
import type { Entry, HardState, SnapshotMeta } from '@quoin/raft';
import { corrupt, corruptLog, WalError } from './error.ts';
import { Replay } from './replay.ts';
import { inspectTail, looksTorn, readFrame, type ScanEnd, type ScanTarget, scanSegment } from './scan.ts';
import { nextName, type OpenSegment, parseSegmentName, type SegmentName } from './segment.ts';

/** What a torn tail cost: bytes of a group that had been written but never synced, so nobody was told of it. */
export interface WalRepair {
  readonly file: string;
  readonly offset: number;
  /** From `offset` to the last byte that was not zero. */
  readonly bytes: number;
}

/** The state that the log holds: what raft starts from. */
export interface Recovered {
  /** The log was made by this `open`. */
  readonly created: boolean;
  readonly metadata: Uint8Array;
  /** Last one written; its commit is never beyond the entries or before the snapshot. Undefined in a new log. */
  readonly hardState: HardState | undefined;
  /** Last one given to `saveSnapshot`. */
  readonly snapshot: SnapshotMeta | undefined;
  /**
   * Contiguous, all above `snapshot.index`. The first one may be further above it than 1 when segments were released:
   * the caller's own state then contains everything before it, which it must check.
   */
  readonly entries: Entry[];
  /** Index of the next entry to append: one above the last entry, or where the log goes on when it has none. */
  readonly nextIndex: number;
  readonly repair: WalRepair | undefined;
  readonly segments: number;
  readonly bytesRead: number;
}

/** A log read from disk, its tail clean and durable. */
export interface RecoveredLog {
  readonly recovered: Recovered;
  readonly segments: SegmentName[];
  /** The last segment; undefined when the log goes on in a segment that does not exist yet. */
  readonly last: OpenSegment | undefined;
  /** The last record is a mark. */
  readonly marked: boolean;
  /** The last segment repeats the hard state and the snapshot of earlier ones. */
  readonly headWritten: boolean;
  /** Of all entries ever written, as far as the segments tell. */
  readonly highestIndex: number;
}

export interface RecoveryOptions {
  readonly disk: Disk;
  readonly dir: string;
  readonly log: Log;
  readonly metadata: Uint8Array;
  readonly checkMetadata: ((found: Uint8Array, expected: Uint8Array) => string | undefined) | undefined;
  readonly sealer: Sealer | undefined;
  readonly segmentBytes: number;
  readonly readChunkBytes: number;
}

export type RecoveryCallback = (error: WalError | null, log: RecoveredLog | null) => void;

/** The segments in `dir`, oldest first, without gaps; undefined when there is no log. */
export function listSegments(
  disk: Disk,
  dir: string,
  cb: (error: WalError | null, segments: SegmentName[], leftover: boolean) => void,
): void {
  disk.list(dir, (error, names) => {
    if (error !== null) return cb(diskFailure(`cannot list ${dir}`, error), [], false);
    const segments: SegmentName[] = [];
    for (const name of names) {
      // A dedicated file system for the log has its own lost+found at the root.
      if (name === nextName || name === 'lost+found') continue;
      const segment = parseSegmentName(name);
      if (segment === undefined) {
        const text = `WAL directory ${dir} holds ${name}, which is not part of a log: move it away, or give another directory`;
        return cb(new WalError('foreign', text), [], false);
      }
      segments.push(segment);
    }
    const gap = segments.findIndex(
      (segment, i) => i > 0 && segment.sequence !== segments[i - 1]!.sequence + 1,
    );
    if (gap > 0) {
      const text = `a segment is missing between ${segments[gap - 1]!.name} and ${segments[gap]!.name}`;
      return cb(corruptLog(dir, text), [], false);
    }
    return cb(null, segments, names.includes(nextName));
  });
}

/** Reads and repairs the log that consists of `segments` (at least one). */
export function recover(options: RecoveryOptions, segments: SegmentName[], cb: RecoveryCallback): void {
  new Recovery(options, segments, cb).next(0);
}

class Recovery {
  private readonly options: RecoveryOptions;
  private readonly segments: SegmentName[];
  private readonly cb: RecoveryCallback;
  private readonly replay: Replay;
  private bytesRead = 0;
  private repair: WalRepair | undefined;

  constructor(options: RecoveryOptions, segments: SegmentName[], cb: RecoveryCallback) {
    this.options = options;
    this.segments = segments;
    this.cb = cb;
    this.replay = new Replay(options.sealer);
    this.repair = undefined;
  }

  next(i: number): void {
    const segment = this.segments[i]!;
    const last = i === this.segments.length - 1;
    const path = this.path(segment);
    this.options.disk.open(path, last ? 'write' : 'read', (openError, file) => {
      if (file === null) return this.fail(`cannot open ${path}`, openError!);
      return file.size((sizeError, bytes) => {
        if (sizeError !== null) return this.fail(`cannot read ${path}`, sizeError);
        const target = { file, sequence: segment.sequence, bytes, chunkBytes: this.options.readChunkBytes };
        this.replay.beginSegment(segment.firstIndex);
        const onRecord = this.replay.apply.bind(this.replay);
        return scanSegment(target, onRecord, (scanError, end) => {
          if (end === null) return this.fail(`cannot read ${path}`, scanError!);
          return this.scanned(i, target, end);
        });
      });
    });
  }

  private scanned(i: number, target: ScanTarget, end: ScanEnd): void {
    const path = this.path(this.segments[i]!);
    this.bytesRead += end.offset;
    const refusal = this.refusal(path, end);
    if (refusal !== undefined) return this.cb(refusal, null);
    if (i === this.segments.length - 1)
      return end.ended ? this.lastEnded(target, path, end) : this.lastOpen(target, path, end);
    if (!end.ended)
      return this.cb(corrupt(path, end.offset, end.broken ?? 'the rest of the segment is missing'), null);
    return this.close(target.file, path, () => this.next(i + 1));
  }

  private refusal(path: string, end: ScanEnd): WalError | undefined {
    const { metadata, checkMetadata, dir } = this.options;
    if (this.replay.metadata === undefined || this.replay.records === 0) {
      return corrupt(
        path,
        0,
        `the segment's head is ${end.broken === undefined ? 'missing' : `broken (${end.broken})`}`,
      );
    }
    const found = this.replay.metadata;
    const text =
      checkMetadata !== undefined
        ? checkMetadata(found, metadata)
        : equalBytes(found, metadata)
          ? undefined
          : 'it was written by another member or for another cluster';
    return text === undefined ? undefined : new WalError('metadata', `WAL ${dir} cannot be used: ${text}`);
  }

  // The process died between the end of this segment and the beginning of the next. The end itself may be in the
  // kernel's cache only: it must be durable before another segment follows it.
  private lastEnded(target: ScanTarget, path: string, end: ScanEnd): void {
    this.rewrite(target, path, end.synced, end.offset, () => {
      target.file.sync((error) => {
        if (error !== null) return this.fail(`cannot sync ${path}`, error);
        return this.close(target.file, path, () => this.finish(undefined, false));
      });
    });
  }

  private lastOpen(target: ScanTarget, path: string, end: ScanEnd): void {
    if (end.senseless) return this.cb(corrupt(path, end.offset, end.broken!), null);
    return inspectTail(target, end.offset, (error, tail) => {
      if (tail === null) return this.fail(`cannot read ${path}`, error!);
      if (tail.proofAt !== undefined) {
        const what = `${end.broken ?? 'a record is missing'}, though the record at ${tail.proofAt} was written after it`;
        return this.cb(corrupt(path, end.offset, what), null);
      }
      if (end.broken === undefined) return this.clean(target, path, end, tail.dirtyEnd);
      return readFrame(target, end.offset, (readError, data) => {
        if (readError !== null) return this.fail(`cannot read ${path}`, readError);
        if (!looksTorn(data, target.sequence, end.offset, tail.dirtyEnd)) {
          return this.cb(corrupt(path, end.offset, end.broken ?? 'checksum mismatch'), null);
        }
        return this.clean(target, path, end, tail.dirtyEnd);
      });
    });
  }

  // The tail must be zeros before it is written again: a record of the lost group may be whole, and valid in its place.
  private clean(target: ScanTarget, path: string, end: ScanEnd, dirtyEnd: number): void {
    if (dirtyEnd > end.offset) {
      this.repair = { file: path, offset: end.offset, bytes: dirtyEnd - end.offset };
      this.options.log.warn('WAL repaired: the last write was cut short by a crash before it was synced', {
        file: path,
        offset: end.offset,
        bytes: dirtyEnd - end.offset,
      });
    }
    this.rewrite(target, path, end.synced, end.offset, () =>
      this.zero(target, path, end.offset, dirtyEnd, () => this.reserve(target, path, end)),
    );
  }

  private reserve(target: ScanTarget, path: string, end: ScanEnd): void {
    const bytes = Math.max(target.bytes, this.options.segmentBytes);
    target.file.allocate(bytes, (allocateError) => {
      if (allocateError !== null) return this.fail(`cannot reserve ${path}`, allocateError);
      // What was read may still be in the kernel's cache only, from before the process died.
      return target.file.sync((syncError) => {
        if (syncError !== null) return this.fail(`cannot sync ${path}`, syncError);
        const name = this.segments.at(-1)!;
        return this.finish({ name, file: target.file, bytes, offset: end.offset }, end.marked);
      });
    });
  }

  // The last life may have ended with a failed fsync. Then the kernel shows the bytes, takes them for clean and would not
  // write them at the next sync either: only bytes that are written again become durable.
  private rewrite(target: ScanTarget, path: string, from: number, to: number, cb: () => void): void {
    if (from >= to) return cb();
    return target.file.read(from, Math.min(to - from, this.options.readChunkBytes), (readError, data) => {
      if (readError !== null) return this.fail(`cannot read ${path}`, readError);
      return target.file.write(from, [data], (error) => {
        if (error !== null) return this.fail(`cannot write ${path} again`, error);
        return this.rewrite(target, path, from + data.length, to, cb);
      });
    });
  }

  private zero(target: ScanTarget, path: string, from: number, to: number, cb: () => void): void {
    if (from >= to) return cb();
    const length = Math.min(to - from, this.options.readChunkBytes);
    return target.file.write(from, [new Uint8Array(length)], (error) => {
      if (error !== null) return this.fail(`cannot repair ${path}`, error);
      return this.zero(target, path, from + length, to, cb);
    });
  }

  private finish(last: OpenSegment | undefined, marked: boolean): void {
    const { replay } = this;
    const recovered: Recovered = {
      created: false,
      metadata: replay.metadata!,
      hardState: replay.finalHardState(),
      snapshot: replay.snapshot,
      entries: replay.entries,
      nextIndex: replay.next,
      repair: this.repair,
      segments: this.segments.length,
      bytesRead: this.bytesRead,
    };
    // A rename that was seen may not be durable: the segment must not vanish with what is appended to it from now on.
    const { headWritten, highest: highestIndex } = replay;
    this.syncDir(() =>
      this.cb(null, { recovered, segments: this.segments, last, marked, headWritten, highestIndex }),
    );
  }

  private syncDir(cb: () => void): void {
    this.options.disk.syncDir(this.options.dir, (error) => {
      if (error !== null) this.fail(`cannot sync ${this.options.dir}`, error);
      else cb();
    });
  }

  private close(file: DiskFile, path: string, cb: () => void): void {
    const closed: DiskCallback = (error) =>
      error === null ? cb() : this.fail(`cannot close ${path}`, error);
    file.close(closed);
  }

  private fail(what: string, error: DiskError): void {
    this.cb(diskFailure(what, error), null);
  }

  private path(segment: SegmentName): string {
    return `${this.options.dir}/${segment.name}`;
  }
}

export function diskFailure(what: string, error: DiskError): WalError {
  const hint = error.code === 'ENOSPC' ? ' (the disk is full: free some space and start again)' : '';
  return new WalError('disk', `WAL: ${what}: ${error.message}${hint}`);
}
