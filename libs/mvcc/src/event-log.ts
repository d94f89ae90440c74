/**
 * The R entries: every event of the retained past, in order. Events of one commit share entries, since a backend entry
 * costs more than the bytes in it.
 *
 *   R revision sub → record, record, … [state] stateLength(4)   of that revision and sub, then sub + 1 …, then the
 *                                                               next revision …
 *
 * The entry that ends a commit holds its state (layout.ts), so that one write is the commit. Entries of a commit that
 * a crash has cut off have none behind them and go at the next start.
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
import type { Backend } from './backend.ts';
import { deletedSize, type KeyValueReader, keyValueSize, putDeleted, putKeyValue } from './key-value.ts';
import { cellKind, cellTrailerBytes, prefix, revisionKey } from './layout.ts';

const recordHeadBytes = 21;
/** The offset of a record in its chunk has 16 bits (overlay.ts). */
export const eventChunkBytes = 64 * 1024;
/** An entry is closed when it has reached this size. */
const blockBytes = 16 * 1024;

export const recordFlag = { large: 1, shadowed: 2 } as const;

const none: Uint8Array = new Uint8Array(0);

/** Kept free at the end of a chunk, so that the state of a commit finds room behind its records. */
const closingBytes = 96;
/** At the end of every entry: how many bytes before it are the state of a commit. */
const trailerBytes = 4;

/**
 * Appends events and gives them to the engine at the end of a turn: before that a transaction may still shadow one.
 * Views of what it wrote stay valid: chunks are never written twice.
 */
export class EventLogWriter {
  /** Where the record of the last append is. */
  chunk: Uint8Array = none;
  recordStart = 0;
  recordBytes = 0;

  private readonly backend: Backend;
  private at = 0;
  private eventStart = 0;
  private eventEnd = 0;
  private blockStart = -1;
  private blockRevision = 0;
  private blockSub = 0;
  private readonly sealedKeys: Uint8Array[] = [];
  private readonly sealedBlocks: Uint8Array[] = [];

  constructor(backend: Backend) {
    this.backend = backend;
  }

  /** The encoded Event of the last append, as a view. */
  event(): Uint8Array {
    return this.chunk.subarray(this.eventStart, this.eventEnd);
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
    this.eventStart = at;
    chunk[at++] = 0x12;
    at = putUint(chunk, at, kvBytes);
    at = putKeyValue(chunk, at, key, createRevision, revision, version, value, lease);
    this.end(at, sub, large ? cellKind.large : cellKind.complete);
  }

  appendDelete(revision: number, sub: number, prevMod: number, key: Uint8Array): void {
    const kvBytes = deletedSize(key, revision);
    const eventBytes = 3 + uintSize(kvBytes) + kvBytes;
    let at = this.begin(revision, sub, prevMod, 0, eventBytes);
    const { chunk } = this;
    this.eventStart = at;
    chunk[at++] = 0x08;
    chunk[at++] = 0x01;
    chunk[at++] = 0x12;
    at = putUint(chunk, at, kvBytes);
    at = putDeleted(chunk, at, key, revision);
    this.end(at, sub, cellKind.complete);
  }

  /**
   * Ends the turn: its entries go to the engine, the last one with the state of the commit in it. False when there is
   * none, or no room for the state: then the caller has to write it.
   */
  close(state: Uint8Array): boolean {
    if (this.blockStart < 0) return false;
    const fits = this.at + state.length + trailerBytes <= this.chunk.length;
    if (fits) {
      this.chunk.set(state, this.at);
      this.at += state.length;
    }
    this.seal(fits ? state.length : 0);
    const { sealedKeys, sealedBlocks } = this;
    for (let i = 0; i < sealedKeys.length; i++) this.backend.put(sealedKeys[i]!, sealedBlocks[i]!);
    sealedKeys.length = 0;
    sealedBlocks.length = 0;
    return fits;
  }

  private seal(stateLength: number): void {
    if (this.blockStart < 0) return;
    writeU32BE(this.chunk, this.at, stateLength);
    this.at += trailerBytes;
    this.sealedKeys.push(revisionKey(prefix.events, this.blockRevision, this.blockSub));
    this.sealedBlocks.push(this.chunk.subarray(this.blockStart, this.at));
    this.blockStart = -1;
  }

  private begin(revision: number, sub: number, prevMod: number, flags: number, eventBytes: number): number {
    const bytes = recordHeadBytes + eventBytes + cellTrailerBytes;
    if (this.at + bytes + trailerBytes + closingBytes > this.chunk.length) {
      this.seal(0);
      this.chunk = new Uint8Array(Math.max(bytes + trailerBytes + closingBytes, eventChunkBytes));
      this.at = 0;
    } else if (this.blockStart >= 0 && this.at - this.blockStart >= blockBytes) {
      this.seal(0);
    }
    if (this.blockStart < 0) {
      this.blockStart = this.at;
      this.blockRevision = revision;
      this.blockSub = sub;
    }
    const { chunk, at } = this;
    this.recordStart = at;
    this.recordBytes = bytes;
    writeCounterBE(chunk, at, revision);
    writeCounterBE(chunk, at + 8, prevMod);
    chunk[at + 16] = flags;
    writeU32BE(chunk, at + 17, eventBytes);
    return at + recordHeadBytes;
  }

  private end(at: number, sub: number, kind: number): void {
    this.eventEnd = at;
    writeU32BE(this.chunk, at, sub);
    this.chunk[at + 4] = kind;
    this.at = at + cellTrailerBytes;
  }
}

/** The state of the commit that ended with this entry, as a view; undefined when the commit goes on after it. */
export function blockState(block: Uint8Array): Uint8Array | undefined {
  const end = recordsEnd(block);
  return end === block.length - trailerBytes ? undefined : block.subarray(end, block.length - trailerBytes);
}

function recordsEnd(block: Uint8Array): number {
  return block.length - trailerBytes - readU32BE(block, block.length - trailerBytes);
}

/** Walks the records of one entry, or looks at single ones. Fields are of the record that it stands at. */
export class RecordReader {
  revision = 0;
  sub = 0;
  prevMod = 0;
  large = false;
  shadowed = false;
  block: Uint8Array = none;
  recordStart = 0;
  eventStart = 0;
  eventEnd = 0;
  /** After `locateKey`. */
  keyStart = 0;
  keyEnd = 0;
  private at = 0;
  private end = 0;

  start(block: Uint8Array): void {
    this.block = block;
    this.at = 0;
    this.end = recordsEnd(block);
  }

  next(): boolean {
    if (this.at >= this.end) return false;
    this.startAt(this.block, this.at);
    return true;
  }

  /** Stands at the record that begins there. */
  startAt(block: Uint8Array, at: number): void {
    this.block = block;
    this.recordStart = at;
    this.revision = readCounterBE(block, at);
    this.prevMod = readCounterBE(block, at + 8);
    const flags = block[at + 16]!;
    this.large = (flags & recordFlag.large) !== 0;
    this.shadowed = (flags & recordFlag.shadowed) !== 0;
    this.eventStart = at + recordHeadBytes;
    this.eventEnd = this.eventStart + readU32BE(block, at + 17);
    this.sub = readU32BE(block, this.eventEnd);
    this.at = this.eventEnd + cellTrailerBytes;
  }

  get bytes(): number {
    return this.at - this.recordStart;
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

  locateKey(): void {
    const { block } = this;
    let at = this.kvStart() + 1;
    let length = 0;
    for (let scale = 1; ; scale *= 128) {
      const byte = block[at++]!;
      length += (byte & 0x7f) * scale;
      if (byte < 0x80) break;
    }
    this.keyStart = at;
    this.keyEnd = at + length;
  }
}

export function isDeleteRecord(chunk: Uint8Array, recordStart: number): boolean {
  return chunk[recordStart + recordHeadBytes] === 0x08;
}

export function isShadowedRecord(chunk: Uint8Array, recordStart: number): boolean {
  return (chunk[recordStart + 16]! & recordFlag.shadowed) !== 0;
}

/** Marks a record of the running transaction and returns its prevMod. */
export function shadowRecord(chunk: Uint8Array, recordStart: number): number {
  chunk[recordStart + 16]! |= recordFlag.shadowed;
  return readCounterBE(chunk, recordStart + 8);
}

/** The user's key of the record, as a view. */
export function recordUserKey(records: RecordReader): Uint8Array {
  records.locateKey();
  return records.block.subarray(records.keyStart, records.keyEnd);
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
  backend: Backend,
  key: Uint8Array,
  mod: number,
  reader: KeyValueReader,
): Uint8Array | undefined {
  const records = new RecordReader();
  let found: Uint8Array | undefined;
  // From the last entry that may begin with the revision, backwards: a long revision spans several entries.
  backend.scan(prefixStart, revisionKey(prefix.events, mod + 1, 0), true, (entryKey, block) => {
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
function firstEntry(backend: Backend, revision: number): Uint8Array {
  let first = prefixStart;
  backend.scan(prefixStart, revisionKey(prefix.events, revision, 1), true, (entryKey) => {
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
  backend: Backend,
  from: number,
  end: number,
  visit: (records: RecordReader) => boolean,
): void {
  const records = new RecordReader();
  backend.scan(firstEntry(backend, from), revisionKey(prefix.events, end, 0), false, (_key, block) => {
    records.start(block);
    while (records.next()) {
      if (records.revision < from) continue;
      if (records.revision >= end || !visit(records)) return false;
    }
    return true;
  });
}
