import { crc32c, type Sealer, writeCounterBE, writeU32BE } from '@quoin/base';
import type { Entry, HardState, SnapshotMeta } from '@quoin/raft';
import {
  encodeHardState,
  encodeHeader,
  encodeSnapshot,
  entriesBody,
  entriesBodyBytes,
  entriesHeaderBytes,
  entryHeaderBytes,
  frameBytes,
  hardStateBytes,
  headerBytes,
  padByte,
  RecordType,
} from './record.ts';

/** Data up to this length is copied next to its header; a longer one is handed to the disk as it is. */
const copyMaxBytes = 4096;

const noEntries: readonly Entry[] = [];

/** One record that waits to be written, or (type undefined) a callback that waits for what was appended before it. */
export class Unit {
  readonly type: RecordType | undefined;
  readonly bodyBytes: number;
  /** In the segment; 0 for a callback alone. */
  readonly bytes: number;
  readonly state: HardState | undefined;
  readonly entries: readonly Entry[];
  readonly body: Uint8Array | undefined;
  readonly snapshot: SnapshotMeta | undefined;
  cb: (() => void) | undefined;

  constructor(
    type: RecordType | undefined,
    bodyBytes: number,
    state: HardState | undefined,
    entries: readonly Entry[],
    body: Uint8Array | undefined,
    snapshot: SnapshotMeta | undefined,
  ) {
    this.type = type;
    this.bodyBytes = bodyBytes;
    this.bytes = type === undefined ? 0 : frameBytes(bodyBytes);
    this.state = state;
    this.entries = entries;
    this.body = body;
    this.snapshot = snapshot;
    this.cb = undefined;
  }

  static ofState(state: HardState): Unit {
    return new Unit(RecordType.hardState, hardStateBytes, state, noEntries, undefined, undefined);
  }

  static ofEntries(entries: readonly Entry[]): Unit {
    return new Unit(RecordType.entries, entriesBodyBytes(entries), undefined, entries, undefined, undefined);
  }

  static ofSealed(entries: readonly Entry[], sealer: Sealer): Unit {
    const body = sealer.seal(entriesBody(entries));
    return new Unit(RecordType.sealedEntries, body.length, undefined, entries, body, undefined);
  }

  static ofBody(type: RecordType, body: Uint8Array): Unit {
    return new Unit(type, body.length, undefined, noEntries, body, undefined);
  }

  static ofSnapshot(meta: SnapshotMeta): Unit {
    const body = encodeSnapshot(meta);
    return new Unit(RecordType.snapshot, body.length, undefined, noEntries, body, meta);
  }

  static ofCallback(cb: () => void): Unit {
    const unit = new Unit(undefined, 0, undefined, noEntries, undefined, undefined);
    unit.cb = cb;
    return unit;
  }
}

/**
 * The bytes of the units, one after the other, for a write at `offset` of segment `sequence`, which is durable up to
 * `synced`. All headers and small data lie in one buffer; large data are chunks of their own between its pieces.
 */
export function encodeGroup(
  units: readonly Unit[],
  sequence: number,
  offset: number,
  synced: number,
): Uint8Array[] {
  const encoder = new GroupEncoder(inlineBytes(units), sequence, offset, synced);
  for (const unit of units) if (unit.type !== undefined) encoder.add(unit, unit.type);
  return encoder.finish();
}

function inlineBytes(units: readonly Unit[]): number {
  let bytes = 0;
  for (const unit of units) {
    bytes += unit.bytes;
    if (unit.body !== undefined) continue;
    for (const { data } of unit.entries) if (data.length > copyMaxBytes) bytes -= data.length;
  }
  return bytes;
}

class GroupEncoder {
  private readonly buffer: Uint8Array;
  private readonly sequence: number;
  private readonly synced: number;
  private readonly chunks: Uint8Array[] = [];
  private offset: number;
  private at = 0;
  /** Where the piece of the buffer begins that is not in `chunks` yet. */
  private pieceAt = 0;

  constructor(inline: number, sequence: number, offset: number, synced: number) {
    this.buffer = new Uint8Array(inline);
    this.sequence = sequence;
    this.offset = offset;
    this.synced = synced;
  }

  add(unit: Unit, type: RecordType): void {
    const headerAt = this.at;
    this.at += headerBytes;
    const bodyCrc = this.body(unit);
    const header = { type, length: unit.bodyBytes, synced: this.synced, bodyCrc };
    encodeHeader(this.buffer, headerAt, header, this.sequence, this.offset);
    const padBytes = unit.bytes - headerBytes - unit.bodyBytes;
    this.buffer.fill(padByte, this.at, this.at + padBytes);
    this.at += padBytes;
    this.offset += unit.bytes;
  }

  finish(): Uint8Array[] {
    if (this.at > this.pieceAt) this.chunks.push(this.buffer.subarray(this.pieceAt, this.at));
    return this.chunks;
  }

  /** Returns the body's checksum. */
  private body(unit: Unit): number {
    if (unit.entries.length > 0 && unit.body === undefined) return this.entries(unit.entries);
    const from = this.at;
    if (unit.state !== undefined) encodeHardState(this.buffer, from, unit.state);
    if (unit.body !== undefined) this.buffer.set(unit.body, from);
    this.at += unit.bodyBytes;
    return crc32c(this.buffer.subarray(from, this.at));
  }

  private entries(entries: readonly Entry[]): number {
    const { buffer } = this;
    let crc = 0;
    let from = this.at;
    writeCounterBE(buffer, this.at, entries[0]!.index);
    writeU32BE(buffer, this.at + 8, entries.length);
    this.at += entriesHeaderBytes;
    for (const { term, type, data } of entries) {
      writeCounterBE(buffer, this.at, term);
      writeU32BE(buffer, this.at + 8, data.length);
      buffer[this.at + 12] = type;
      this.at += entryHeaderBytes;
      if (data.length <= copyMaxBytes) {
        buffer.set(data, this.at);
        this.at += data.length;
        continue;
      }
      crc = crc32c(data, crc32c(buffer.subarray(from, this.at), crc));
      this.chunks.push(buffer.subarray(this.pieceAt, this.at), data);
      from = this.at;
      this.pieceAt = this.at;
    }
    return crc32c(buffer.subarray(from, this.at), crc);
  }
}
