import { assert, Deque, type Disk, type DiskError, type DiskFile } from '@quoin/base';
import type { Entry, HardState, SnapshotMeta } from '@quoin/raft';
import type { WalError } from './error.ts';
import { encodeGroup, Unit } from './group.ts';
import { type WalOptions, walDefaults } from './options.ts';
import { entryHeaderBytes, frameBytes, hardStateBytes, RecordType } from './record.ts';
import { diskFailure, listSegments, type Recovered, type RecoveredLog, recover } from './recovery.ts';
import { nextName, type OpenSegment, SegmentMaker, type SegmentName } from './segment.ts';

/** Room that a segment keeps for its last record. */
const endBytes = frameBytes(0);

/**
 * The next segment is prepared when this part of the last one is used: long before it is needed, but not at the start of
 * every process, and a small log takes one segment's space.
 */
const prepareAt = 0.25;

interface Limits {
  readonly segmentBytes: number;
  readonly readChunkBytes: number;
  readonly recordBytes: number;
  readonly groupBytes: number;
  readonly allocateStepBytes: number;
}

/** What `open` was called with. */
interface Opening {
  readonly disk: Disk;
  readonly dir: string;
  readonly options: WalOptions;
  readonly limits: Limits;
  readonly metadata: Uint8Array;
  readonly cb: (error: WalError | null, wal: Wal | null, recovered: Recovered | null) => void;
}

/** What a log starts from. */
type Start = Pick<RecoveredLog, 'recovered' | 'marked' | 'headWritten' | 'highestIndex'>;

/**
 * The durable log of one member. Every callback comes in the order of the calls, never before the call has returned.
 *
 *     append ──► pending ──write──► group in flight ──sync──► callbacks
 *                   └── what arrives during the write ──write──┘    what arrives during the sync: the next group
 */
export class Wal {
  /** Bytes given to the disk since open. */
  bytesWritten = 0;
  /** Syncs of groups since open (not those of preparing segments). */
  syncs = 0;
  private readonly disk: Disk;
  private readonly dir: string;
  private readonly options: WalOptions;
  private readonly limits: Limits;
  private readonly maker: SegmentMaker;
  /** Oldest first; the last one is being written to. */
  private readonly segments: SegmentName[];
  private file: DiskFile;
  private capacity: number;
  /** End of what was given to the disk in the last segment, and of what it has synced. */
  private offset: number;
  private synced: number;
  private readonly pending = new Deque<Unit>();
  /** Callbacks of the group in flight, and of appends that had nothing to wait for. */
  private groupCallbacks: (() => void)[] = [];
  private turnCallbacks: (() => void)[] = [];
  private busy = false;
  private failed = false;
  /** The next segment is being prepared, or ready. */
  private nextAsked = false;
  private closed: (() => void) | undefined;
  /** The last record is a mark. */
  private marked: boolean;
  /** Last ones written: each segment repeats them, so that released segments take nothing with them. */
  private hardState: HardState | undefined;
  private snapshot: SnapshotMeta | undefined;
  /** A new commit index that no group has taken along yet. */
  private lazyState: HardState | undefined;
  /** Highest index that an append may follow. */
  private lastIndex: number;
  /** Highest index of an entry ever written, replaced ones included: what the next segment's name is made of. */
  private highestIndex: number;
  private releaseIndex = 0;
  private releasing = false;
  /** What the last segment repeats of earlier ones is durable. */
  private headDurable = true;

  private constructor(
    opening: Opening,
    maker: SegmentMaker,
    segments: SegmentName[],
    last: OpenSegment,
    log: Start,
  ) {
    this.disk = opening.disk;
    this.dir = opening.dir;
    this.options = opening.options;
    this.limits = opening.limits;
    this.maker = maker;
    this.segments = segments;
    this.file = last.file;
    this.capacity = last.bytes;
    this.offset = last.offset;
    this.synced = last.offset;
    this.closed = undefined;
    this.marked = log.marked;
    this.hardState = log.recovered.hardState;
    this.snapshot = log.recovered.snapshot;
    this.lazyState = undefined;
    this.lastIndex = log.recovered.nextIndex - 1;
    this.highestIndex = log.highestIndex;
  }

  /** Whether `dir` holds a log: at least one segment. A missing directory holds none. */
  static exists(disk: Disk, dir: string, cb: (error: WalError | null, exists: boolean) => void): void {
    disk.list(dir, (listError) => {
      if (listError?.code === 'ENOENT') return cb(null, false);
      return listSegments(disk, dir, (error, segments) => cb(error, segments.length > 0));
    });
  }

  /**
   * Opens the log in `dir`, repairs a torn tail, or makes a new log when there is none. `metadata` is opaque and is
   * written at the head of each segment. The error's message names file, offset and remedy.
   */
  static open(
    disk: Disk,
    dir: string,
    options: WalOptions,
    metadata: Uint8Array,
    cb: (error: WalError | null, wal: Wal | null, recovered: Recovered | null) => void,
  ): void {
    const opening: Opening = { disk, dir, options, limits: limitsOf(options), metadata, cb };
    makeDirs(opening, () => {
      listSegments(disk, dir, (error, segments, leftover) => {
        if (error !== null) return cb(error, null, null);
        return removeLeftover(opening, leftover, () => {
          if (segments.length === 0) Wal.start(opening, [], undefined, newLog(metadata));
          else Wal.recover(opening, segments);
        });
      });
    });
  }

  private static recover(opening: Opening, segments: SegmentName[]): void {
    const { disk, dir, options, limits, metadata } = opening;
    const { log, checkMetadata, sealer } = options;
    recover({ disk, dir, log, metadata, checkMetadata, sealer, ...limits }, segments, (error, found) => {
      if (found === null) opening.cb(error, null, null);
      else Wal.start(opening, segments, found.last, found);
    });
  }

  // Without a last segment to go on with, the next one is made first. A last segment may lack what each repeats: a
  // crash came before it was synced.
  private static start(
    opening: Opening,
    segments: SegmentName[],
    last: OpenSegment | undefined,
    log: Start,
  ): void {
    const { disk, dir, limits, cb } = opening;
    // Accepted as they were found, so new segments repeat them: every segment of a log says the same.
    const { metadata } = log.recovered;
    let fail = (what: string, error: DiskError): void => cb(diskFailure(what, error), null, null);
    const maker = new SegmentMaker(disk, dir, metadata, limits, (what, error) => fail(what, error));
    const begin = (segment: OpenSegment): void => {
      const wal = new Wal(opening, maker, segments, segment, log);
      fail = (what, error) => wal.fail(what, error);
      if (last === undefined || !log.headWritten) wal.writeHead();
      cb(null, wal, log.recovered);
    };
    if (last !== undefined) return begin(last);
    maker.prepare((segments.at(-1)?.sequence ?? 0) + 1);
    return maker.take(log.highestIndex + 1, headBytes(log.recovered), (segment) => {
      segments.push(segment.name);
      begin(segment);
    });
  }

  /**
   * Appends a hard state, entries (contiguous; a first index at or below the last one replaces the suffix), or both.
   * `cb` comes when all of it is durable. Appends of one turn, and those that arrive while a write or sync is in
   * flight, share one sync. `mustSync` false (a new commit index alone): kept in memory and written with the next
   * group; `cb` waits only for what was appended before it.
   */
  append(
    hardState: HardState | undefined,
    entries: readonly Entry[],
    mustSync: boolean,
    cb: () => void,
  ): void {
    if (this.failed) return;
    assert(this.closed === undefined, 'append to a closed WAL');
    if (!mustSync) {
      assert(entries.length === 0, 'entries must be synced');
      if (hardState !== undefined) this.lazyState = hardState;
      this.afterPending(cb);
      return;
    }
    if (hardState !== undefined) {
      // It contains whatever commit index was waiting.
      this.lazyState = undefined;
      this.pending.push(Unit.ofState(hardState));
    }
    if (entries.length > 0) this.pushEntries(entries);
    if (hardState === undefined && entries.length === 0) this.afterPending(cb);
    else this.pending.at(this.pending.length - 1)!.cb = cb;
    this.pump();
  }

  /**
   * Records that state up to `meta.index` exists elsewhere, durably. If the log has no entry of that index and term,
   * the whole log is replaced by it and continues at `meta.index + 1`; otherwise later entries stay.
   */
  saveSnapshot(meta: SnapshotMeta, cb: () => void): void {
    if (this.failed) return;
    assert(this.closed === undefined, 'snapshot in a closed WAL');
    const unit = Unit.ofSnapshot(meta);
    unit.cb = cb;
    this.lastIndex = Math.max(this.lastIndex, meta.index);
    this.pending.push(unit);
    this.pump();
  }

  /** Removes whole segments, never the last, whose entries are all at or below `index`; in the background. */
  release(index: number): void {
    this.releaseIndex = Math.max(this.releaseIndex, index);
    this.releaseNext();
  }

  /** Writes and syncs what is waiting, marks the log as cleanly closed, closes the files. No append may follow. */
  close(cb: () => void): void {
    if (this.failed) return;
    assert(this.closed === undefined, 'WAL closed twice');
    this.closed = cb;
    this.pump();
  }

  private pushEntries(entries: readonly Entry[]): void {
    assert(
      entries[0]!.index <= this.lastIndex + 1,
      () => `entry ${entries[0]!.index} follows entry ${this.lastIndex}`,
    );
    const { sealer } = this.options;
    let from = 0;
    let bytes = 0;
    for (let i = 0; i < entries.length; i++) {
      assert(entries[i]!.index === entries[0]!.index + i, 'entries of an append are contiguous');
      bytes += entryHeaderBytes + entries[i]!.data.length;
      if (bytes < this.limits.recordBytes && i + 1 < entries.length) continue;
      const whole = from === 0 && i + 1 === entries.length;
      const part = whole ? entries : entries.slice(from, i + 1);
      this.pending.push(sealer === undefined ? Unit.ofEntries(part) : Unit.ofSealed(part, sealer));
      from = i + 1;
      bytes = 0;
    }
    this.lastIndex = entries[entries.length - 1]!.index;
  }

  // Callbacks of appends without bytes of their own keep their place in the order.
  private afterPending(cb: () => void): void {
    if (this.busy || this.pending.length > 0) {
      this.pending.push(Unit.ofCallback(cb));
      return;
    }
    this.turnCallbacks.push(cb);
    if (this.turnCallbacks.length === 1) this.options.timers.endOfTurn(() => this.runTurnCallbacks());
  }

  private runTurnCallbacks(): void {
    if (this.failed) return;
    const callbacks = this.turnCallbacks;
    this.turnCallbacks = [];
    for (const cb of callbacks) cb();
  }

  private pump(): void {
    if (this.busy || this.failed) return;
    if (this.pending.length > 0) this.writeGroup([], false);
    else if (this.closed !== undefined) this.closeNext(this.closed);
  }

  /** Takes what fits from `pending` and writes it; `head` goes first. `topUp`: the group has had one write already. */
  private writeGroup(head: readonly Unit[], topUp: boolean): void {
    this.busy = true;
    const units = [...head];
    let bytes = 0;
    for (const unit of head) bytes += unit.bytes;
    let full = false;
    for (let unit = this.pending.at(0); unit !== undefined; unit = this.pending.at(0)) {
      full = this.offset + bytes + unit.bytes + endBytes > this.capacity;
      if (full || (bytes > 0 && bytes + unit.bytes > this.limits.groupBytes)) break;
      bytes += unit.bytes;
      units.push(unit);
      this.pending.shift();
    }
    bytes += this.takeLazy(units, bytes);
    for (const { cb } of units) if (cb !== undefined) this.groupCallbacks.push(cb);
    if (bytes > 0) this.write(units, bytes, topUp);
    else if (topUp) this.sync(() => this.groupDone());
    else if (full) this.rotate();
    else this.groupDone();
  }

  // A commit index is newer than everything pending, so it is written last, and only when nothing is left behind.
  private takeLazy(units: Unit[], bytes: number): number {
    if (this.lazyState === undefined || bytes === 0 || this.pending.length > 0) return 0;
    const unit = Unit.ofState(this.lazyState);
    if (this.offset + bytes + unit.bytes + endBytes > this.capacity) return 0;
    this.lazyState = undefined;
    units.push(unit);
    return unit.bytes;
  }

  private write(units: readonly Unit[], bytes: number, topUp: boolean): void {
    for (const { state, snapshot, entries } of units) {
      if (state !== undefined) this.hardState = state;
      if (snapshot !== undefined) this.snapshot = snapshot;
      if (entries.length > 0)
        this.highestIndex = Math.max(this.highestIndex, entries[entries.length - 1]!.index);
    }
    this.marked = units[units.length - 1]!.type === RecordType.mark;
    this.writeChunks(encodeGroup(units, this.segment.sequence, this.offset, this.synced), bytes, () => {
      // One more write for what arrived during this one saves it a sync of its own: all appends of a turn share one.
      if (!topUp && this.pending.length > 0) this.writeGroup([], true);
      else this.sync(() => this.groupDone());
    });
  }

  private writeChunks(chunks: readonly Uint8Array[], bytes: number, cb: () => void): void {
    const { clock, onWrite } = this.options;
    const beganMs = clock.monotonicMs();
    this.file.write(this.offset, chunks, (error) => {
      if (this.failed) return;
      if (error !== null) return this.fail('write failed', error);
      onWrite?.(clock.monotonicMs() - beganMs, bytes);
      return cb();
    });
    this.offset += bytes;
    this.bytesWritten += bytes;
    if (this.offset > this.capacity * prepareAt) this.prepareNext();
  }

  private prepareNext(): void {
    if (this.nextAsked) return;
    this.nextAsked = true;
    this.maker.prepare(this.segment.sequence + 1);
  }

  private sync(cb: () => void): void {
    const { clock, onSync } = this.options;
    const beganMs = clock.monotonicMs();
    const covered = this.offset;
    this.syncs++;
    this.file.sync((error) => {
      if (this.failed) return;
      // After a failed fsync the kernel has dropped the pages and a second one would succeed: never try again.
      if (error !== null) return this.fail('fsync failed', error);
      this.synced = covered;
      this.headDurable = true;
      onSync?.(clock.monotonicMs() - beganMs);
      return cb();
    });
  }

  // Callbacks run before the next group is taken: what they append belongs to it.
  private groupDone(): void {
    this.runTurnCallbacks();
    const callbacks = this.groupCallbacks;
    this.groupCallbacks = [];
    for (const cb of callbacks) cb();
    this.busy = false;
    this.releaseNext();
    this.pump();
  }

  // The old segment is whole and durable before the new one gets its name: a segment that is not the last has no tail
  // that a crash could have torn.
  private rotate(): void {
    const end = Unit.ofBody(RecordType.end, new Uint8Array(0));
    const chunks = encodeGroup([end], this.segment.sequence, this.offset, this.synced);
    this.writeChunks(chunks, end.bytes, () => this.sync(() => this.nextSegment()));
  }

  private nextSegment(): void {
    const head = this.head();
    let minBytes = endBytes + this.pending.at(0)!.bytes;
    for (const unit of head) minBytes += unit.bytes;
    this.prepareNext();
    this.maker.take(this.highestIndex + 1, minBytes, (segment) => {
      assert(segment.bytes < 0x1_0000_0000, 'offsets in a segment are 32 bits');
      const old = this.file;
      this.segments.push(segment.name);
      this.file = segment.file;
      this.capacity = segment.bytes;
      this.offset = segment.offset;
      this.synced = segment.offset;
      this.headDurable = false;
      this.nextAsked = false;
      old.close((error) => {
        if (error !== null)
          this.options.log.warn('WAL: a finished segment does not close', { error: error.message });
      });
      this.writeGroup(head, false);
    });
  }

  /** What each segment repeats. */
  private head(): Unit[] {
    const head: Unit[] = [];
    if (this.hardState !== undefined) head.push(Unit.ofState(this.hardState));
    if (this.snapshot !== undefined) head.push(Unit.ofSnapshot(this.snapshot));
    return head;
  }

  private writeHead(): void {
    const head = this.head();
    this.headDurable = head.length === 0;
    if (head.length > 0) this.writeGroup(head, false);
  }

  // One at a time with a sync of the directory each, oldest first: a crash can only bring back a suffix without gaps.
  private releaseNext(): void {
    const [oldest, second] = this.segments;
    if (this.releasing || this.failed || this.closed !== undefined) return;
    if (oldest === undefined || second === undefined || second.firstIndex - 1 > this.releaseIndex) return;
    // Its successor must have made what it repeats durable.
    if (second === this.segment && !this.headDurable) return;
    this.releasing = true;
    const path = `${this.dir}/${oldest.name}`;
    this.disk.remove(path, (removeError) => {
      if (this.failed) return;
      if (removeError !== null && removeError.code !== 'ENOENT') return this.releaseFailed(path, removeError);
      this.segments.shift();
      return this.disk.syncDir(this.dir, (syncError) => {
        if (this.failed) return;
        if (syncError !== null) return this.fail(`cannot sync the directory ${this.dir}`, syncError);
        this.releasing = false;
        this.releaseNext();
        return this.pump();
      });
    });
  }

  // Space is not given back, but nothing is lost: tried again at the next release.
  private releaseFailed(path: string, error: DiskError): void {
    this.releasing = false;
    this.options.log.warn('WAL: a released segment cannot be removed', { file: path, error: error.message });
    this.pump();
  }

  private closeNext(cb: () => void): void {
    if (this.releasing) return;
    if (this.lazyState !== undefined) {
      const unit = Unit.ofState(this.lazyState);
      this.lazyState = undefined;
      this.pending.push(unit);
      this.writeGroup([], false);
      return;
    }
    // Written after everything else is durable, the mark says so: later damage is told from a torn write.
    if (!this.marked) {
      this.pending.push(Unit.ofBody(RecordType.mark, new Uint8Array(0)));
      this.writeGroup([], false);
      return;
    }
    this.busy = true;
    this.maker.stop(() => {
      this.file.close((error) => {
        if (this.failed) return;
        if (error !== null) this.fail('close failed', error);
        else cb();
      });
    });
  }

  private get segment(): SegmentName {
    return this.segments[this.segments.length - 1]!;
  }

  private fail(what: string, error: DiskError): void {
    if (this.failed) return;
    this.failed = true;
    this.options.onFatal(diskFailure(`${this.dir}/${this.segment.name}: ${what}`, error).message);
  }
}

function limitsOf(options: WalOptions): Limits {
  const limits: Limits = {
    segmentBytes: options.segmentBytes ?? walDefaults.segmentBytes,
    readChunkBytes: options.readChunkBytes ?? walDefaults.readChunkBytes,
    recordBytes: options.recordBytes ?? walDefaults.recordBytes,
    groupBytes: options.groupBytes ?? walDefaults.groupBytes,
    allocateStepBytes: options.allocateStepBytes ?? walDefaults.allocateStepBytes,
  };
  for (const [name, bytes] of Object.entries(limits)) {
    assert(
      bytes >= 512 && bytes <= 0x4000_0000 && bytes % 8 === 0,
      `${name} must be a multiple of 8 from 512 to 2^30`,
    );
  }
  return limits;
}

function newLog(metadata: Uint8Array): Start {
  const recovered: Recovered = {
    created: true,
    metadata,
    hardState: undefined,
    snapshot: undefined,
    entries: [],
    nextIndex: 1,
    repair: undefined,
    segments: 1,
    bytesRead: 0,
  };
  return { recovered, marked: false, headWritten: true, highestIndex: 0 };
}

/** Room for what the new segment repeats. */
function headBytes(recovered: Recovered): number {
  const snapshot = recovered.snapshot === undefined ? 0 : Unit.ofSnapshot(recovered.snapshot).bytes;
  return frameBytes(hardStateBytes) + snapshot + endBytes;
}

/** The directory and its parents, their names durable. */
function makeDirs(opening: Opening, cb: () => void): void {
  const { disk, dir } = opening;
  const fail = (error: DiskError): void => opening.cb(diskFailure(`cannot make ${dir}`, error), null, null);
  const syncParents = (path: string): void => {
    if (path === '.') return cb();
    const slash = path.lastIndexOf('/');
    const parent = slash < 0 ? '.' : path.slice(0, slash);
    return disk.syncDir(parent, (error) => (error === null ? syncParents(parent) : fail(error)));
  };
  disk.mkdir(dir, (error) => (error === null ? syncParents(dir) : fail(error)));
}

function removeLeftover(opening: Opening, leftover: boolean, cb: () => void): void {
  if (!leftover) return cb();
  const path = `${opening.dir}/${nextName}`;
  return opening.disk.remove(path, (error) => {
    if (error === null) cb();
    else opening.cb(diskFailure(`cannot remove ${path}`, error), null, null);
  });
}
