import { assert, type Disk, type DiskError, type DiskFile } from '@quoin/base';
import { encodeGroup, Unit } from './group.ts';
import { frameBytes, RecordType } from './record.ts';

/** The segment that is being prepared; it gets its name when it becomes part of the log. */
export const nextName = 'next.tmp';

export interface SegmentName {
  readonly name: string;
  /** 1 for the first segment of a log, and one more for each that follows. */
  readonly sequence: number;
  /**
   * One above the highest index in any earlier segment. The first entry here may be lower, when it replaces some of
   * theirs; but it may also have been lost in a crash, so nothing is concluded from that.
   */
  readonly firstIndex: number;
}

export function segmentName(sequence: number, firstIndex: number): SegmentName {
  return { name: `${hex16(sequence)}-${hex16(firstIndex)}.wal`, sequence, firstIndex };
}

/** Undefined when it is not a segment's name. */
export function parseSegmentName(name: string): SegmentName | undefined {
  const match = /^([0-9a-f]{16})-([0-9a-f]{16})\.wal$/.exec(name);
  if (match === null) return undefined;
  const sequence = Number.parseInt(match[1]!, 16);
  const firstIndex = Number.parseInt(match[2]!, 16);
  if (!Number.isSafeInteger(sequence) || !Number.isSafeInteger(firstIndex)) return undefined;
  return { name, sequence, firstIndex };
}

function hex16(n: number): string {
  return n.toString(16).padStart(16, '0');
}

/** A segment ready to be written to. */
export interface OpenSegment {
  readonly name: SegmentName;
  readonly file: DiskFile;
  readonly bytes: number;
  /** Where the first record after the metadata goes; everything before is durable. */
  readonly offset: number;
}

/**
 * Makes the next segment ahead of need: reserved on disk, its metadata written, all of it synced. So rotation costs a
 * rename, and a file with a segment's name always has a whole header: a broken one is never a crash of ours.
 *
 *     idle ──prepare──► preparing ──► ready ──take──► idle       (next.tmp)   ──rename──►   (<sequence>-<index>.wal)
 */
export class SegmentMaker {
  private readonly disk: Disk;
  private readonly dir: string;
  private readonly metadata: Uint8Array;
  private readonly segmentBytes: number;
  private readonly stepBytes: number;
  private readonly onError: (what: string, error: DiskError) => void;
  private state: 'idle' | 'preparing' | 'ready' = 'idle';
  private sequence = 0;
  private file: DiskFile | undefined;
  private bytes = 0;
  private waiter: (() => void) | undefined;
  private stopped: (() => void) | undefined;

  /** After `onError` nothing more is called. */
  constructor(
    disk: Disk,
    dir: string,
    metadata: Uint8Array,
    limits: { readonly segmentBytes: number; readonly allocateStepBytes: number },
    onError: (what: string, error: DiskError) => void,
  ) {
    this.disk = disk;
    this.dir = dir;
    this.metadata = metadata;
    this.segmentBytes = limits.segmentBytes;
    this.stepBytes = limits.allocateStepBytes;
    this.onError = onError;
  }

  prepare(sequence: number): void {
    assert(this.state === 'idle', 'a segment is being prepared already');
    this.state = 'preparing';
    this.sequence = sequence;
    this.disk.open(`${this.dir}/${nextName}`, 'create', (error, file) => {
      if (file === null) return this.onError(`cannot create ${this.dir}/${nextName}`, error!);
      this.file = file;
      return this.extend(file, 0, Math.max(this.segmentBytes, this.headBytes()), () => this.writeHead(file));
    });
  }

  /** Hands over the prepared segment under its name, with room for `minBytes` after the head; waits until it is ready. */
  take(firstIndex: number, minBytes: number, cb: (segment: OpenSegment) => void): void {
    assert(this.state !== 'idle' && this.waiter === undefined, 'no segment is being prepared');
    const take = (): void => {
      const file = this.file!;
      const bytes = Math.max(this.bytes, this.headBytes() + minBytes);
      this.extend(file, this.bytes, bytes, () =>
        this.rename(file, segmentName(this.sequence, firstIndex), bytes, cb),
      );
    };
    if (this.state === 'ready') take();
    else this.waiter = take;
  }

  /** Leaves what was being prepared behind, for the next open to remove. */
  stop(cb: () => void): void {
    this.stopped = cb;
    if (this.state === 'idle') cb();
    else if (this.state === 'ready') this.file!.close(() => cb());
  }

  private headBytes(): number {
    return frameBytes(this.metadata.length);
  }

  // In steps with a sync each: one sync of a whole segment could hold up a group's sync on the same disk for long.
  private extend(file: DiskFile, from: number, to: number, cb: () => void): void {
    if (this.stopped !== undefined && this.state === 'preparing') return file.close(this.stopped);
    if (from >= to) return cb();
    const step = Math.min(from + this.stepBytes, to);
    return file.allocate(step, (allocateError) => {
      if (allocateError !== null)
        return this.onError(`cannot reserve ${to} bytes for the next segment`, allocateError);
      return file.sync((syncError) => {
        if (syncError !== null) return this.onError('cannot sync the next segment', syncError);
        this.bytes = step;
        return this.extend(file, step, to, cb);
      });
    });
  }

  private writeHead(file: DiskFile): void {
    const head = encodeGroup([Unit.ofBody(RecordType.metadata, this.metadata)], this.sequence, 0, 0);
    file.write(0, head, (writeError) => {
      if (writeError !== null) return this.onError('cannot write the next segment', writeError);
      return file.sync((syncError) => {
        if (syncError !== null) return this.onError('cannot sync the next segment', syncError);
        this.state = 'ready';
        if (this.stopped !== undefined) return file.close(this.stopped);
        const waiter = this.waiter;
        this.waiter = undefined;
        return waiter?.();
      });
    });
  }

  private rename(file: DiskFile, name: SegmentName, bytes: number, cb: (segment: OpenSegment) => void): void {
    const path = `${this.dir}/${name.name}`;
    this.disk.rename(`${this.dir}/${nextName}`, path, (renameError) => {
      if (renameError !== null) return this.onError(`cannot rename a segment to ${path}`, renameError);
      return this.disk.syncDir(this.dir, (syncError) => {
        if (syncError !== null) return this.onError(`cannot sync the directory ${this.dir}`, syncError);
        this.state = 'idle';
        this.file = undefined;
        this.bytes = 0;
        return cb({ name, file, bytes, offset: this.headBytes() });
      });
    });
  }
}
