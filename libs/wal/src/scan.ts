import { assert, crc32c, type DiskError, type DiskFile, readU32BE } from '@quoin/base';
import { decodeHeader, frameBytes, headerBytes, magic, padByte, RecordType } from './record.ts';

/** How reading a segment ended. */
export interface ScanEnd {
  /** Where the valid records end. */
  readonly offset: number;
  /** The last one was an `end` record: the log goes on in the next segment. */
  readonly ended: boolean;
  /** What is wrong at `offset`; undefined when nothing was ever written there, or after an `end` record. */
  readonly broken: string | undefined;
  /** The record at `offset` is whole, but makes no sense there: no torn write. */
  readonly senseless: boolean;
  /** The last record was a mark: everything is known to be durable, and to have been closed. */
  readonly marked: boolean;
  /** Everything below it was durable when the last record was written. */
  readonly synced: number;
}

/** Where to read, and how much at a time. */
export interface ScanTarget {
  readonly file: DiskFile;
  readonly sequence: number;
  /** Length of the file. */
  readonly bytes: number;
  readonly chunkBytes: number;
}

/**
 * Reads a segment from its head, chunk by chunk; each chunk is parsed in one turn. `onRecord` is given views of the
 * chunk, and returns a text when the record makes no sense where it stands: then the scan ends there.
 */
export function scanSegment(
  target: ScanTarget,
  onRecord: (type: RecordType, body: Uint8Array) => string | undefined,
  cb: (error: DiskError | null, end: ScanEnd | null) => void,
): void {
  new SegmentScan(target, onRecord, cb).readAt(0, target.chunkBytes);
}

class SegmentScan {
  private readonly target: ScanTarget;
  private readonly onRecord: (type: RecordType, body: Uint8Array) => string | undefined;
  private readonly cb: (error: DiskError | null, end: ScanEnd | null) => void;
  private last: RecordType | undefined;
  private synced = 0;

  constructor(
    target: ScanTarget,
    onRecord: (type: RecordType, body: Uint8Array) => string | undefined,
    cb: (error: DiskError | null, end: ScanEnd | null) => void,
  ) {
    this.target = target;
    this.onRecord = onRecord;
    this.cb = cb;
    this.last = undefined;
  }

  readAt(offset: number, wantBytes: number): void {
    const { file, bytes } = this.target;
    if (offset === bytes) return this.end(offset, undefined);
    const length = Math.min(Math.max(wantBytes, headerBytes), bytes - offset);
    return file.read(offset, length, (error, data) => {
      if (error !== null) this.cb(error, null);
      else if (data.length < length) this.end(offset, 'the file is shorter than it says');
      else this.parse(offset, data);
    });
  }

  // Records are taken from the chunk as long as they are whole; the next read begins at the first that is not.
  private parse(offset: number, data: Uint8Array): void {
    const { sequence, bytes, chunkBytes } = this.target;
    let at = 0;
    while (at + headerBytes <= data.length) {
      const header = decodeHeader(data, at, sequence, offset + at);
      if (header === undefined)
        return this.end(offset + at, whatIsThere(data.subarray(at, at + headerBytes)));
      const frame = frameBytes(header.length);
      if (offset + at + frame > bytes)
        return this.end(offset + at, 'a record is cut off by the end of the file');
      if (at + frame > data.length) return this.readAt(offset + at, Math.max(frame, chunkBytes));
      const body = data.subarray(at + headerBytes, at + headerBytes + header.length);
      if (crc32c(body) !== header.bodyCrc) return this.end(offset + at, 'checksum mismatch');
      if (!isPadding(data, at + headerBytes + header.length, at + frame)) {
        return this.end(offset + at, 'the padding of a record is not what is written there');
      }
      const wrong = this.onRecord(header.type, body);
      if (wrong !== undefined) return this.end(offset + at, wrong, true);
      this.last = header.type;
      this.synced = header.synced;
      at += frame;
      if (header.type === RecordType.end) return this.end(offset + at, undefined);
    }
    if (offset + data.length < bytes) return this.readAt(offset + at, chunkBytes);
    const rest = data.subarray(at);
    return this.end(offset + at, isZero(rest) ? undefined : 'a record is cut off by the end of the file');
  }

  private end(offset: number, broken: string | undefined, senseless = false): void {
    const ended = broken === undefined && this.last === RecordType.end;
    const marked = broken === undefined && this.last === RecordType.mark;
    this.cb(null, { offset, ended, broken, senseless, marked, synced: Math.min(this.synced, offset) });
  }
}

/** Words for 24 bytes that are not a valid header; undefined when they are zeros. */
function whatIsThere(bytes: Uint8Array): string | undefined {
  if (isZero(bytes)) return undefined;
  return readU32BE(bytes, 0) === magic ? 'checksum mismatch in a record header' : 'no record begins here';
}

export interface Tail {
  /** A valid record further on that proves that the broken place had been durable; undefined when there is none. */
  readonly proofAt: number | undefined;
  /** End of the last byte that is not zero; `offset` when all are. */
  readonly dirtyEnd: number;
}

/**
 * Looks at everything from `offset`, where the valid records of the last segment end. Whatever a crash leaves there
 * was written by groups that began at or before `offset` was durable; a record whose `synced` lies beyond `offset`
 * was written later, when the bytes at `offset` were durable, and proves that they have changed since.
 */
export function inspectTail(
  target: ScanTarget,
  offset: number,
  cb: (error: DiskError | null, tail: Tail | null) => void,
): void {
  let dirtyEnd = offset;
  const readAt = (at: number): void => {
    if (at >= target.bytes) return cb(null, { proofAt: undefined, dirtyEnd });
    // A header may lie across two chunks: each read takes in the beginning of the next.
    const length = Math.min(target.chunkBytes + headerBytes, target.bytes - at);
    return target.file.read(at, length, (error, data) => {
      if (error !== null) return cb(error, null);
      const dirty = lastNonZero(data);
      if (dirty > 0) {
        dirtyEnd = Math.max(dirtyEnd, at + dirty);
        const proofAt = findProof(data, at, target.sequence, offset);
        if (proofAt !== undefined) return cb(null, { proofAt, dirtyEnd });
      }
      return readAt(at + target.chunkBytes);
    });
  };
  assert(target.chunkBytes % 8 === 0, 'readChunkBytes is a multiple of 8');
  readAt(offset);
}

function findProof(data: Uint8Array, at: number, sequence: number, offset: number): number | undefined {
  for (let i = 0; i + headerBytes <= data.length; i += 8) {
    const header = decodeHeader(data, i, sequence, at + i);
    if (header !== undefined && header.synced > offset) return at + i;
  }
  return undefined;
}

/** The frame at `offset` as far as its header tells and the file goes. */
export function readFrame(
  target: ScanTarget,
  offset: number,
  cb: (error: DiskError | null, data: Uint8Array) => void,
): void {
  const { file, sequence, bytes } = target;
  file.read(offset, Math.min(headerBytes, bytes - offset), (error, head) => {
    if (error !== null || head.length < headerBytes) return cb(error, head);
    const header = decodeHeader(head, 0, sequence, offset);
    if (header === undefined) return cb(null, head);
    return file.read(offset, Math.min(frameBytes(header.length), bytes - offset), cb);
  });
}

/** What a disk writes at once, or not at all. */
const sectorBytes = 512;

/**
 * Whether a broken record of the last group looks like a write that a crash cut short. Space is zero before it is
 * written and a frame ends in bytes that are not, so a torn record ends in zeros, or has a sector (or its part of one)
 * that is all zeros; damage leaves neither. `data` is what `readFrame` gives; `dirtyEnd` is where the file's zeros begin.
 */
export function looksTorn(data: Uint8Array, sequence: number, offset: number, dirtyEnd: number): boolean {
  // A bit flip leaves three bytes of the magic number; space that was never written, or lost, has none of them.
  let matching = 0;
  for (let i = 0; i < 4; i++) if (data[i] === ((magic >>> (24 - 8 * i)) & 0xff)) matching++;
  if (matching < 3 || data.length < headerBytes) return true;
  const header = decodeHeader(data, 0, sequence, offset);
  const end = header === undefined ? headerBytes : frameBytes(header.length);
  const least = header === undefined ? frameBytes(0) : end;
  if (offset + least > dirtyEnd) return true;
  for (let at = 0; at < end; ) {
    const next = Math.min(at + sectorBytes - ((offset + at) % sectorBytes), end);
    if (isZero(data.subarray(at, next))) return true;
    at = next;
  }
  return false;
}

function isPadding(data: Uint8Array, from: number, to: number): boolean {
  for (let i = from; i < to; i++) if (data[i] !== padByte) return false;
  return true;
}

export function isZero(bytes: Uint8Array): boolean {
  return lastNonZero(bytes) === 0;
}

/** Index after the last byte that is not zero. */
function lastNonZero(bytes: Uint8Array): number {
  let end = bytes.length;
  // Four bytes at a time where the memory is aligned for it.
  if (bytes.byteOffset % 4 === 0) {
    while (end % 4 !== 0) if (bytes[--end] !== 0) return end + 1;
    const words = new Int32Array(bytes.buffer, bytes.byteOffset, end / 4);
    let i = words.length;
    while (i > 0 && words[i - 1] === 0) i--;
    end = i * 4;
  }
  while (end > 0 && bytes[end - 1] === 0) end--;
  return end;
}
