/** Slices of a member's state (proto/internal/v1/peer.proto): what a lagging member is sent and backups are made of. */
import { emptyBytes } from '@quoin/base';
import { readPackedFixed64 } from './log.ts';
import { WireReader } from './wire-reader.ts';
import { WireWriter } from './wire-writer.ts';

export interface SnapshotChunk {
  readonly transfer: number;
  /** From 0, without gaps. */
  readonly sequence: number;
  /** In the first chunk only. */
  readonly header: SnapshotHeader | undefined;
  /** Key, value, key, value, … */
  readonly pairs: readonly Uint8Array[];
  readonly crc32c: number;
  /** In the last chunk only. */
  readonly trailer: SnapshotTrailer | undefined;
}

export interface SnapshotHeader {
  readonly meta: SnapshotMeta;
  readonly clusterId: bigint;
  readonly memberId: bigint;
  readonly revision: number;
  readonly compactRevision: number;
  readonly storeVersion: number;
  readonly raftTerm: number;
}

/** Has the form of raft's own `SnapshotMeta`. */
export interface SnapshotMeta {
  readonly index: number;
  readonly term: number;
  readonly confState: ConfState;
}

export interface ConfState {
  readonly voters: readonly bigint[];
  readonly votersOutgoing: readonly bigint[];
  readonly learners: readonly bigint[];
  readonly learnersNext: readonly bigint[];
  readonly autoLeave: boolean;
}

export interface SnapshotTrailer {
  readonly entries: number;
  readonly bytes: number;
  readonly sha256: Uint8Array;
}

const writer = new WireWriter();
const headerExpected = 160;
const metaExpected = 96;

export function encodeSnapshotChunk(chunk: SnapshotChunk): Uint8Array {
  let size = 256;
  for (const item of chunk.pairs) size += item.length + 6;
  writer.begin(size);
  writer.uint(8, chunk.transfer);
  writer.uint(16, chunk.sequence);
  if (chunk.header !== undefined) writeHeader(chunk.header);
  for (let i = 0; i < chunk.pairs.length; i++) writer.bytesItem(34, chunk.pairs[i]!);
  writer.fixed32(45, chunk.crc32c);
  if (chunk.trailer !== undefined) {
    const mark = writer.open(50, 48);
    writer.uint(8, chunk.trailer.entries);
    writer.uint(16, chunk.trailer.bytes);
    writer.bytes(26, chunk.trailer.sha256);
    writer.close(mark, 48);
  }
  return writer.finish();
}

function writeHeader(header: SnapshotHeader): void {
  const mark = writer.open(26, headerExpected);
  const meta = writer.open(10, metaExpected);
  writeSnapshotMeta(writer, header.meta);
  writer.close(meta, metaExpected);
  writer.fixed64(17, header.clusterId);
  writer.fixed64(25, header.memberId);
  writer.int(32, header.revision);
  writer.int(40, header.compactRevision);
  writer.uint(48, header.storeVersion);
  writer.uint(56, header.raftTerm);
  writer.close(mark, headerExpected);
}

/** Fields of a SnapshotMeta into an open message; for codecs of messages that contain one. */
export function writeSnapshotMeta(to: WireWriter, meta: SnapshotMeta): void {
  to.uint(8, meta.index);
  to.uint(16, meta.term);
  const mark = to.open(26, metaExpected);
  writeConfState(to, meta.confState);
  to.close(mark, metaExpected);
}

/** Fields of a ConfState into an open message. */
export function writeConfState(to: WireWriter, state: ConfState): void {
  to.packedFixed64(10, state.voters);
  to.packedFixed64(18, state.votersOutgoing);
  to.packedFixed64(26, state.learners);
  to.packedFixed64(34, state.learnersNext);
  to.bool(40, state.autoLeave);
}

/** @throws WireError */
export function decodeSnapshotChunk(bytes: Uint8Array): SnapshotChunk {
  const reader = new WireReader(bytes);
  let transfer = 0;
  let sequence = 0;
  let header: SnapshotHeader | undefined;
  const pairs: Uint8Array[] = [];
  let crc32c = 0;
  let trailer: SnapshotTrailer | undefined;
  while (reader.more()) {
    const tag = reader.tag();
    if (tag === 8) transfer = reader.uint53();
    else if (tag === 16) sequence = reader.uint53();
    else if (tag === 34) pairs.push(reader.bytes());
    else if (tag === 45) crc32c = reader.fixed32();
    else if (tag === 26 || tag === 50) {
      const outer = reader.enter();
      if (tag === 26) header = readHeader(reader);
      else trailer = readTrailer(reader);
      reader.leave(outer);
    } else reader.skip(tag);
  }
  return { transfer, sequence, header, pairs, crc32c, trailer };
}

function readHeader(reader: WireReader): SnapshotHeader {
  let meta: SnapshotMeta = { index: 0, term: 0, confState: emptyConfState };
  const into = { clusterId: 0n, memberId: 0n, revision: 0, compactRevision: 0, storeVersion: 0, raftTerm: 0 };
  while (reader.more()) {
    const tag = reader.tag();
    if (tag === 10) {
      const outer = reader.enter();
      meta = readSnapshotMeta(reader);
      reader.leave(outer);
    } else if (tag === 17) into.clusterId = reader.fixed64();
    else if (tag === 25) into.memberId = reader.fixed64();
    else if (tag === 32) into.revision = reader.int53();
    else if (tag === 40) into.compactRevision = reader.int53();
    else if (tag === 48) into.storeVersion = reader.uint32();
    else if (tag === 56) into.raftTerm = reader.uint53();
    else reader.skip(tag);
  }
  return { meta, ...into };
}

const emptyConfState: ConfState = Object.freeze({
  voters: Object.freeze([]),
  votersOutgoing: Object.freeze([]),
  learners: Object.freeze([]),
  learnersNext: Object.freeze([]),
  autoLeave: false,
});

/** Reads a SnapshotMeta to the end of the reader's window. An absent conf state is the empty one. @throws WireError */
export function readSnapshotMeta(reader: WireReader): SnapshotMeta {
  const into = { index: 0, term: 0, confState: emptyConfState };
  while (reader.more()) {
    const tag = reader.tag();
    if (tag === 8) into.index = reader.uint53();
    else if (tag === 16) into.term = reader.uint53();
    else if (tag === 26) {
      const outer = reader.enter();
      into.confState = readConfState(reader);
      reader.leave(outer);
    } else reader.skip(tag);
  }
  return into;
}

/** Reads a ConfState to the end of the reader's window. @throws WireError */
export function readConfState(reader: WireReader): ConfState {
  const lists: bigint[][] = [[], [], [], []];
  let autoLeave = false;
  while (reader.more()) {
    const tag = reader.tag();
    const field = tag >>> 3;
    if (tag === 40) autoLeave = reader.bool();
    else if (field >= 1 && field <= 4 && (tag & 7) === 1) lists[field - 1]!.push(reader.fixed64());
    else if (field >= 1 && field <= 4 && (tag & 7) === 2) readPackedFixed64(reader, lists[field - 1]!);
    else reader.skip(tag);
  }
  const [voters, votersOutgoing, learners, learnersNext] = lists as [bigint[], bigint[], bigint[], bigint[]];
  return { voters, votersOutgoing, learners, learnersNext, autoLeave };
}

function readTrailer(reader: WireReader): SnapshotTrailer {
  const into = { entries: 0, bytes: 0, sha256: emptyBytes as Uint8Array };
  while (reader.more()) {
    const tag = reader.tag();
    if (tag === 8) into.entries = reader.uint53();
    else if (tag === 16) into.bytes = reader.uint53();
    else if (tag === 26) into.sha256 = reader.bytes();
    else reader.skip(tag);
  }
  return into;
}
