import {
  crc32c,
  readCounterBE,
  readU32BE,
  readU64BE,
  writeCounterBE,
  writeU32BE,
  writeU64BE,
} from '@quoin/base';
import type { ConfState, Entry, EntryType, HardState, NodeId, SnapshotMeta } from '@quoin/raft';

/**
 * A record is a frame at an offset that is a multiple of 8. Numbers are big-endian.
 *
 *      0        4        8        12   13      16        20        24            24+length    multiple of 8
 *      ├────────┼────────┼────────┼────┼───────┼─────────┼─────────┼──────────────┼────────────┤
 *      │ magic  │ length │ synced │type│ 0 0 0 │ bodyCrc │ headCrc │ body         │ a5 … a5    │
 *      └────────┴────────┴────────┴────┴───────┴─────────┴─────────┴──────────────┴────────────┘
 *
 *  - `length` of the body, which `bodyCrc` covers.
 *  - `synced`: the segment was durable up to this offset when the record was written. A valid record therefore proves
 *    that everything before its `synced` had been synced: damage there is corruption and never a torn write.
 *  - `headCrc` covers bytes 0–19 after the segment's sequence number and the record's offset, so that a record from
 *    another place is never taken for valid.
 *  - One to eight bytes of padding. They are not zero, so that a frame which ends in zeros was not wholly written:
 *    space is zero before it is written.
 */
export const headerBytes = 24;
export const magic = 0x5157414c;
export const padByte = 0xa5;

export const RecordType = {
  /** Head of each segment: the member's opaque bytes. */
  metadata: 1,
  hardState: 2,
  entries: 3,
  snapshot: 4,
  /** The log goes on in the next segment. Empty body. */
  end: 5,
  /** Nothing but its `synced`: everything before it is durable. Empty body. Written by a clean close. */
  mark: 6,
  /** The body of an entries record, sealed. A log that has these has no others. */
  sealedEntries: 7,
} as const;
export type RecordType = (typeof RecordType)[keyof typeof RecordType];

export const hardStateBytes = 24;
export const entriesHeaderBytes = 12;
export const entryHeaderBytes = 13;

export interface Header {
  readonly type: RecordType;
  readonly length: number;
  readonly synced: number;
  readonly bodyCrc: number;
}

/** Bytes of a record in the segment, padding included. */
export function frameBytes(bodyBytes: number): number {
  const end = headerBytes + bodyBytes;
  return end + 8 - (end % 8);
}

const place = new Uint8Array(16);

/** What the header's checksum starts from. */
function placeSeed(sequence: number, offset: number): number {
  writeCounterBE(place, 0, sequence);
  writeCounterBE(place, 8, offset);
  return crc32c(place);
}

/** Writes a header at `at` of `buffer`, for a record at `offset` of segment `sequence`. */
export function encodeHeader(
  buffer: Uint8Array,
  at: number,
  header: Header,
  sequence: number,
  offset: number,
): void {
  writeU32BE(buffer, at, magic);
  writeU32BE(buffer, at + 4, header.length);
  writeU32BE(buffer, at + 8, header.synced);
  writeU32BE(buffer, at + 12, header.type * 0x100_0000);
  writeU32BE(buffer, at + 16, header.bodyCrc);
  writeU32BE(buffer, at + 20, crc32c(buffer.subarray(at, at + 20), placeSeed(sequence, offset)));
}

/** The header at `at`, or undefined when it is not that of a record at `offset` of segment `sequence`. */
export function decodeHeader(
  bytes: Uint8Array,
  at: number,
  sequence: number,
  offset: number,
): Header | undefined {
  if (readU32BE(bytes, at) !== magic) return undefined;
  const crc = crc32c(bytes.subarray(at, at + 20), placeSeed(sequence, offset));
  if (crc !== readU32BE(bytes, at + 20)) return undefined;
  return {
    type: bytes[at + 12]! as RecordType,
    length: readU32BE(bytes, at + 4),
    synced: readU32BE(bytes, at + 8),
    bodyCrc: readU32BE(bytes, at + 16),
  };
}

/** Term, vote, commit: 8 bytes each. */
export function encodeHardState(buffer: Uint8Array, at: number, state: HardState): void {
  writeCounterBE(buffer, at, state.term);
  writeU64BE(buffer, at + 8, state.vote);
  writeCounterBE(buffer, at + 16, state.commit);
}

export function decodeHardState(body: Uint8Array): HardState {
  return { term: readCounterBE(body, 0), vote: readU64BE(body, 8), commit: readCounterBE(body, 16) };
}

/** Body of an entries record: first index (8), count (4), then for each entry term (8), length (4), type (1), data. */
export function entriesBodyBytes(entries: readonly Entry[]): number {
  let bytes = entriesHeaderBytes + entryHeaderBytes * entries.length;
  for (const entry of entries) bytes += entry.data.length;
  return bytes;
}

/** The body as pieces, for a sealer. */
export function entriesBody(entries: readonly Entry[]): Uint8Array[] {
  const head = new Uint8Array(entriesHeaderBytes);
  writeCounterBE(head, 0, entries[0]!.index);
  writeU32BE(head, 8, entries.length);
  const pieces: Uint8Array[] = [head];
  for (const { term, type, data } of entries) {
    const entryHead = new Uint8Array(entryHeaderBytes);
    writeCounterBE(entryHead, 0, term);
    writeU32BE(entryHead, 8, data.length);
    entryHead[12] = type;
    pieces.push(entryHead, data);
  }
  return pieces;
}

/** `data` of the entries are views of `body`. */
export function decodeEntries(body: Uint8Array): Entry[] {
  const index = readCounterBE(body, 0);
  const count = readU32BE(body, 8);
  const entries = new Array<Entry>(count);
  let at = entriesHeaderBytes;
  for (let i = 0; i < count; i++) {
    const term = readCounterBE(body, at);
    const length = readU32BE(body, at + 8);
    const type = body[at + 12]! as EntryType;
    at += entryHeaderBytes;
    entries[i] = { term, index: index + i, type, data: body.subarray(at, at + length) };
    at += length;
  }
  return entries;
}

/** Index (8), term (8), autoLeave (1), then four lists of node ids: count (4), ids (8 each). */
export function encodeSnapshot(meta: SnapshotMeta): Uint8Array {
  const { voters, votersOutgoing, learners, learnersNext, autoLeave } = meta.confState;
  const lists = [voters, votersOutgoing, learners, learnersNext];
  let bytes = 17;
  for (const list of lists) bytes += 4 + 8 * list.length;
  const body = new Uint8Array(bytes);
  writeCounterBE(body, 0, meta.index);
  writeCounterBE(body, 8, meta.term);
  body[16] = autoLeave ? 1 : 0;
  let at = 17;
  for (const list of lists) {
    writeU32BE(body, at, list.length);
    at += 4;
    for (const id of list) {
      writeU64BE(body, at, id);
      at += 8;
    }
  }
  return body;
}

export function decodeSnapshot(body: Uint8Array): SnapshotMeta {
  let at = 17;
  const list = (): NodeId[] => {
    const count = readU32BE(body, at);
    at += 4;
    const ids: NodeId[] = [];
    for (let i = 0; i < count; i++, at += 8) ids.push(readU64BE(body, at));
    return ids;
  };
  const confState: ConfState = {
    voters: list(),
    votersOutgoing: list(),
    learners: list(),
    learnersNext: list(),
    autoLeave: body[16] === 1,
  };
  return { index: readCounterBE(body, 0), term: readCounterBE(body, 8), confState };
}
