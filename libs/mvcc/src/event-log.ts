/**
 * The R entries: every event of the retained past, in order. Events of one commit share entries, since a backend entry
 * costs more than the bytes in it.
 *
 *   R revision sub → record, record, …     of that revision and sub, then sub + 1 …, then the next revision …
 *
 *   record = revision(8) prevMod(8) flags(1) eventLength(4) · mvccpb.Event · sub(4) kind(1)
 *                                                             └ kv ┴ cell trailer: for a PUT the kv and what follows
 *                                                               are the very bytes of the L entry
 *
 * prevMod is the version that was alive before the revision; 0: none. A put with createRevision = revision is a creation
 * and shows no prev_kv, even if the same transaction deleted the key before. `large`: the kv is without value and lease, the
 * whole is in V. `shadowed`: the same transaction changed the key again, so no reader ever sees this version.
 */
import { readCounterBE, readU32BE, writeCounterBE, writeU32BE } from '@quoin/base';
import { putUint, uintSize } from '@quoin/contracts';
import { deletedSize, type KeyValueReader, keyValueSize, putDeleted, putKeyValue } from './key-value.ts';
import { cellKind, cellTrailerBytes, prefix, revisionKey } from './layout.ts';
import type { WriteBuffer } from './write-buffer.ts';

const recordHeadBytes = 21;
const chunkBytes = 64 * 1024;
/** An entry is closed when it has reached this size. */
const blockBytes = 16 * 1024;

export const recordFlag = { large: 1, shadowed: 2 } as const;

const none: Uint8Array = new Uint8Array(0);

/** Appends events and leaves views of what it wrote: they stay valid, chunks are never written twice. */
export class EventLogWriter {
  /** The encoded Event of the last append. */
  event: Uint8Array = none;
  /** The L entry's value of the last append, when it was a put. */
  cell: Uint8Array = none;
  /** Where the record of the last append begins, for `shadow`. */
  chunk: Uint8Array = none;
  recordStart = 0;

  private readonly buffer: WriteBuffer;
  private at = 0;
  private blockStart = -1;
  private blockRevision = 0;
  private blockSub = 0;

  constructor(buffer: WriteBuffer) {
    this.buffer = buffer;
  }

  /** `large`: value and lease are given to V by the caller, and left out here. */
  appendPut(
    revision: number,
    sub: number,
    prevMod: number,
    key: Uint8Array,
    createRevision: number,
    version: number,
    value: Uint8Array,
    lease: bigint,
    large: boolean,
  ): void {
    if (large) {
      value = none;
      lease = 0n;
    }
    const kvBytes = keyValueSize(key, createRevision, revision, version, value, lease);
    const eventBytes = 1 + uintSize(kvBytes) + kvBytes;
    let at = this.begin(revision, sub, prevMod, large ? recordFlag.large : 0, eventBytes);
    const { chunk } = this;
    const eventStart = at;
    chunk[at++] = 0x12;
    at = putUint(chunk, at, kvBytes);
    const kvStart = at;
    at = putKeyValue(chunk, at, key, createRevision, revision, version, value, lease);
    this.event = chunk.subarray(eventStart, at);
    this.end(at, sub, large ? cellKind.large : cellKind.complete);
    this.cell = chunk.subarray(kvStart, this.at);
  }

  appendDelete(revision: number, sub: number, prevMod: number, key: Uint8Array): void {
    const kvBytes = deletedSize(key, revision);
    const eventBytes = 3 + uintSize(kvBytes) + kvBytes;
    let at = this.begin(revision, sub, prevMod, 0, eventBytes);
    const { chunk } = this;
    const eventStart = at;
    chunk[at++] = 0x08;
    chunk[at++] = 0x01;
    chunk[at++] = 0x12;
    at = putUint(chunk, at, kvBytes);
    at = putDeleted(chunk, at, key, revision);
    this.event = chunk.subarray(eventStart, at);
    this.end(at, sub, cellKind.complete);
  }

  /** Gives the open entry to the batch. */
  seal(): void {
    if (this.blockStart < 0) return;
    this.buffer.put(
      revisionKey(prefix.events, this.blockRevision, this.blockSub),
      this.chunk.subarray(this.blockStart, this.at),
    );
    this.blockStart = -1;
  }

  private begin(revision: number, sub: number, prevMod: number, flags: number, eventBytes: number): number {
    const bytes = recordHeadBytes + eventBytes + cellTrailerBytes;
    if (this.at + bytes > this.chunk.length) {
      this.seal();
      this.chunk = new Uint8Array(Math.max(bytes, chunkBytes));
      this.at = 0;
    } else if (this.blockStart >= 0 && this.at - this.blockStart >= blockBytes) {
      this.seal();
    }
    if (this.blockStart < 0) {
      this.blockStart = this.at;
      this.blockRevision = revision;
      this.blockSub = sub;
    }
    const { chunk, at } = this;
    this.recordStart = at;
    writeCounterBE(chunk, at, revision);
    writeCounterBE(chunk, at + 8, prevMod);
    chunk[at + 16] = flags;
    writeU32BE(chunk, at + 17, eventBytes);
    return at + recordHeadBytes;
  }

  private end(at: number, sub: number, kind: number): void {
    writeU32BE(this.chunk, at, sub);
    this.chunk[at + 4] = kind;
    this.at = at + cellTrailerBytes;
  }
}

/** Marks a record of the running transaction and returns its prevMod. */
export function shadowRecord(chunk: Uint8Array, recordStart: number): number {
  chunk[recordStart + 16]! |= recordFlag.shadowed;
  return readCounterBE(chunk, recordStart + 8);
}

/** Walks the records of one entry. Fields are of the record that `next` moved to. */
export class RecordReader {
  revision = 0;
  sub = 0;
  prevMod = 0;
  large = false;
  shadowed = false;
  block: Uint8Array = none;
  eventStart = 0;
  eventEnd = 0;
  private at = 0;

  start(block: Uint8Array): void {
    this.block = block;
    this.at = 0;
  }

  next(): boolean {
    const { block, at } = this;
    if (at >= block.length) return false;
    this.revision = readCounterBE(block, at);
    this.prevMod = readCounterBE(block, at + 8);
    const flags = block[at + 16]!;
    this.large = (flags & recordFlag.large) !== 0;
    this.shadowed = (flags & recordFlag.shadowed) !== 0;
    this.eventStart = at + recordHeadBytes;
    this.eventEnd = this.eventStart + readU32BE(block, at + 17);
    this.sub = readU32BE(block, this.eventEnd);
    this.at = this.eventEnd + cellTrailerBytes;
    return true;
  }

  isDelete(): boolean {
    return this.block[this.eventStart] === 0x08;
  }

  /** Where the kv begins. */
  kvStart(): number {
    let at = this.eventStart + (this.isDelete() ? 3 : 1);
    while (this.block[at]! >= 0x80) at++;
    return at + 1;
  }

  /** The L entry's value that a put had. A view. */
  cell(): Uint8Array {
    return this.block.subarray(this.kvStart(), this.at);
  }
}

/** The user's key of the record, as a view. */
export function recordUserKey(records: RecordReader): Uint8Array {
  let at = records.kvStart() + 1;
  const { block } = records;
  let length = 0;
  for (let scale = 1; ; scale *= 128) {
    const byte = block[at++]!;
    length += (byte & 0x7f) * scale;
    if (byte < 0x80) return block.subarray(at, at + length);
  }
}

/** Whether the record is of `key`. */
function isOf(records: RecordReader, key: Uint8Array, reader: KeyValueReader): boolean {
  // The kv of a delete has no counters after the key; only the key is looked at.
  reader.readKey(records.block, records.kvStart());
  if (reader.keyEnd - reader.keyStart !== key.length) return false;
  for (let i = 0; i < key.length; i++) if (records.block[reader.keyStart + i] !== key[i]) return false;
  return true;
}

/** The cell of the version of `key` that revision `mod` put, as a copy; undefined when its record is gone. */
export function findVersion(
  buffer: WriteBuffer,
  key: Uint8Array,
  mod: number,
  reader: KeyValueReader,
): Uint8Array | undefined {
  const records = new RecordReader();
  let found: Uint8Array | undefined;
  // From the last entry that may begin with the revision, backwards: a long revision spans several entries.
  buffer.scan(prefixStart, revisionKey(prefix.events, mod + 1, 0), true, (entryKey, block) => {
    records.start(block);
    while (records.next() && records.revision <= mod) {
      if (records.revision !== mod || records.shadowed || records.isDelete()) continue;
      if (isOf(records, key, reader)) found = records.cell().slice();
    }
    return found === undefined && readCounterBE(entryKey, 1) >= mod;
  });
  return found;
}

const prefixStart: Uint8Array = Uint8Array.of(prefix.events);

/** The key of the entry in which the events from `revision` on begin. */
function firstEntry(buffer: WriteBuffer, revision: number): Uint8Array {
  let first = prefixStart;
  buffer.scan(prefixStart, revisionKey(prefix.events, revision, 1), true, (entryKey) => {
    first = entryKey.slice();
    return false;
  });
  return first;
}

/**
 * Visits the records of from ≤ revision < end in order. The visitor sees one record at a time, may not use the
 * backend, and ends the walk with false.
 */
export function walkRecords(
  buffer: WriteBuffer,
  from: number,
  end: number,
  visit: (records: RecordReader) => boolean,
): void {
  const records = new RecordReader();
  buffer.scan(firstEntry(buffer, from), revisionKey(prefix.events, end, 0), false, (_key, block) => {
    records.start(block);
    while (records.next()) {
      if (records.revision < from) continue;
      if (records.revision >= end || !visit(records)) return false;
    }
    return true;
  });
}
