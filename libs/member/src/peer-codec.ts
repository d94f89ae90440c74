/**
 * Hand-written codec of proto/internal/v1/peer.proto: what members send each other. Equal to the generated messages
 * byte for byte (tested); written by hand because an append with its entries is the hottest message of a follower.
 *
 * A tag is field number × 8 + wire type (0 varint, 1 fixed64, 2 bytes).
 */
import {
  decodeSnapshotChunk,
  encodeSnapshotChunk,
  type MemberInfo,
  readConfState,
  readSnapshotMeta,
  type SnapshotChunk,
  uintSize,
  WireReader,
  WireWriter,
  writeConfState,
  writeSnapshotMeta,
} from '@quoin/contracts';
import type { ConfState, Entry, EntryType, Message, MessageType, SnapshotMeta } from '@quoin/raft';
import { decodeMemberRecord, encodeMemberRecord } from './records.ts';

export interface PeerHello {
  readonly protocol: number;
  readonly clusterId: bigint;
  readonly from: bigint;
  readonly to: bigint;
  /** The sender's wall clock; 0: not said. */
  readonly wallMs: number;
}

export interface SnapshotAck {
  readonly transfer: number;
  readonly nextSequence: number;
  readonly error: string;
}

export interface PeerBatch {
  readonly hello: PeerHello | undefined;
  readonly messages: readonly Message[];
  readonly chunks: readonly SnapshotChunk[];
  readonly ack: SnapshotAck | undefined;
  /** The cluster as the answering member knows it, for one that is about to join. */
  readonly members: readonly MemberInfo[];
  /** With members: the one that asked has taken part in the cluster before. */
  readonly tookPart: boolean;
  /** With members: the index that they are of. */
  readonly appliedIndex: number;
}

const writer = new WireWriter();

/** A batch of the parts that are given. */
export function peerBatch(parts: Partial<PeerBatch>): PeerBatch {
  const { hello, messages = [], chunks = [], ack, members = [], tookPart = false, appliedIndex = 0 } = parts;
  return { hello, messages, chunks, ack, members, tookPart, appliedIndex };
}

export function encodePeerBatch(batch: PeerBatch): Uint8Array {
  // The writer of the chunk is another one, but its message must be whole before ours is begun.
  const chunks = batch.chunks.map(encodeSnapshotChunk);
  let bytes = 128;
  for (const message of batch.messages) bytes += messageBytes(message) + 6;
  for (const chunk of chunks) bytes += chunk.length + 6;
  const w = writer;
  w.begin(bytes);
  if (batch.hello !== undefined) writeHello(w, batch.hello);
  for (const message of batch.messages) {
    const expected = messageBytes(message);
    const mark = w.open(18, expected);
    writeMessage(w, message);
    w.close(mark, expected);
  }
  for (const chunk of chunks) w.bytesItem(26, chunk);
  if (batch.ack !== undefined) {
    const mark = w.open(34, 20);
    w.uint(8, batch.ack.transfer);
    w.uint(16, batch.ack.nextSequence);
    w.text(26, batch.ack.error);
    w.close(mark, 20);
  }
  for (const member of batch.members) w.bytesItem(42, encodeMemberRecord(member));
  w.bool(48, batch.tookPart);
  w.uint(56, batch.appliedIndex);
  return w.finish();
}

/** A good guess of its length. */
const helloExpected = 36;

function writeHello(w: WireWriter, hello: PeerHello): void {
  const mark = w.open(10, helloExpected);
  w.uint(8, hello.protocol);
  w.fixed64(17, hello.clusterId);
  w.fixed64(25, hello.from);
  w.fixed64(33, hello.to);
  w.uint(40, hello.wallMs);
  w.close(mark, helloExpected);
}

function entryBytes(entry: Entry): number {
  const data = entry.data.length;
  let bytes = data === 0 ? 0 : 1 + uintSize(data) + data;
  if (entry.term !== 0) bytes += 1 + uintSize(entry.term);
  if (entry.index !== 0) bytes += 1 + uintSize(entry.index);
  return entry.type === 0 ? bytes : bytes + 2;
}

/** A good guess, exact but for the small fields: decides where the nested length goes. */
function messageBytes(m: Message): number {
  let bytes = 2 + 18 + 1 + uintSize(m.term);
  if (m.index !== 0) bytes += 1 + uintSize(m.index);
  if (m.logTerm !== 0) bytes += 1 + uintSize(m.logTerm);
  if (m.commit !== 0) bytes += 1 + uintSize(m.commit);
  for (const entry of m.entries) {
    const inner = entryBytes(entry);
    bytes += 1 + uintSize(inner) + inner;
  }
  return bytes;
}

function writeMessage(w: WireWriter, m: Message): void {
  w.uint(8, m.type);
  w.fixed64(17, m.from);
  w.fixed64(25, m.to);
  w.uint(32, m.term);
  w.uint(40, m.index);
  w.uint(48, m.logTerm);
  w.uint(56, m.commit);
  for (const entry of m.entries) {
    const bytes = entryBytes(entry);
    const mark = w.open(66, bytes);
    w.uint(8, entry.term);
    w.uint(16, entry.index);
    w.uint(24, entry.type);
    w.bytes(34, entry.data);
    w.close(mark, bytes);
  }
  w.bool(72, m.reject);
  w.uint(80, m.rejectHint);
  w.uint(88, m.context);
  w.bool(96, m.force);
  if (m.snapshot !== undefined) {
    const mark = w.open(106, 64);
    writeSnapshotMeta(w, m.snapshot);
    w.close(mark, 64);
  }
}

/** @throws WireError */
export function decodePeerBatch(bytes: Uint8Array): PeerBatch {
  const r = new WireReader(bytes);
  let hello: PeerHello | undefined;
  let ack: SnapshotAck | undefined;
  const messages: Message[] = [];
  const chunks: SnapshotChunk[] = [];
  const members: MemberInfo[] = [];
  let tookPart = false;
  let appliedIndex = 0;
  while (r.more()) {
    const tag = r.tag();
    if (tag === 18) {
      const outer = r.enter();
      messages.push(readMessage(r));
      r.leave(outer);
    } else if (tag === 26) chunks.push(decodeSnapshotChunk(r.bytes()));
    else if (tag === 10) {
      const outer = r.enter();
      hello = readHello(r);
      r.leave(outer);
    } else if (tag === 34) {
      const outer = r.enter();
      ack = readAck(r);
      r.leave(outer);
    } else if (tag === 42) members.push(decodeMemberRecord(r.bytes()));
    else if (tag === 48) tookPart = r.bool();
    else if (tag === 56) appliedIndex = r.uint53();
    else r.skip(tag);
  }
  return { hello, messages, chunks, ack, members, tookPart, appliedIndex };
}

function readHello(r: WireReader): PeerHello {
  let protocol = 0;
  let clusterId = 0n;
  let from = 0n;
  let to = 0n;
  let wallMs = 0;
  while (r.more()) {
    const tag = r.tag();
    if (tag === 8) protocol = r.uint32();
    else if (tag === 17) clusterId = r.fixed64();
    else if (tag === 25) from = r.fixed64();
    else if (tag === 33) to = r.fixed64();
    else if (tag === 40) wallMs = r.uint53();
    else r.skip(tag);
  }
  return { protocol, clusterId, from, to, wallMs };
}

function readAck(r: WireReader): SnapshotAck {
  let transfer = 0;
  let nextSequence = 0;
  let error = '';
  while (r.more()) {
    const tag = r.tag();
    if (tag === 8) transfer = r.uint53();
    else if (tag === 16) nextSequence = r.uint53();
    else if (tag === 26) error = r.text();
    else r.skip(tag);
  }
  return { transfer, nextSequence, error };
}

const noEntries: readonly Entry[] = [];

function readMessage(r: WireReader): Message {
  let type = 0;
  let from = 0n;
  let to = 0n;
  let term = 0;
  let index = 0;
  let logTerm = 0;
  let commit = 0;
  let entries: Entry[] | undefined;
  let reject = false;
  let rejectHint = 0;
  let context = 0;
  let force = false;
  let snapshot: SnapshotMeta | undefined;
  while (r.more()) {
    const tag = r.tag();
    switch (tag) {
      case 8:
        type = r.uint32();
        break;
      case 17:
        from = r.fixed64();
        break;
      case 25:
        to = r.fixed64();
        break;
      case 32:
        term = r.uint53();
        break;
      case 40:
        index = r.uint53();
        break;
      case 48:
        logTerm = r.uint53();
        break;
      case 56:
        commit = r.uint53();
        break;
      case 66: {
        const outer = r.enter();
        entries ??= [];
        entries.push(readEntry(r));
        r.leave(outer);
        break;
      }
      case 72:
        reject = r.bool();
        break;
      case 80:
        rejectHint = r.uint53();
        break;
      case 88:
        context = r.uint53();
        break;
      case 96:
        force = r.bool();
        break;
      case 106: {
        const outer = r.enter();
        snapshot = readSnapshotMeta(r);
        r.leave(outer);
        break;
      }
      default:
        r.skip(tag);
    }
  }
  return {
    type: type as MessageType,
    from,
    to,
    term,
    index,
    logTerm,
    commit,
    entries: entries ?? noEntries,
    reject,
    rejectHint,
    context,
    force,
    snapshot,
  };
}

function readEntry(r: WireReader): Entry {
  let term = 0;
  let index = 0;
  let type = 0;
  let data: Uint8Array = emptyData;
  while (r.more()) {
    const tag = r.tag();
    if (tag === 8) term = r.uint53();
    else if (tag === 16) index = r.uint53();
    else if (tag === 24) type = r.uint32();
    else if (tag === 34) data = r.bytes();
    else r.skip(tag);
  }
  return { term, index, type: type as EntryType, data };
}

const emptyData = new Uint8Array(0);

/** The membership as bytes for the store's records: the message ConfState. */
export function encodeConfState(conf: ConfState): Uint8Array {
  writer.begin(128);
  writeConfState(writer, conf);
  return writer.finish();
}

/** @throws WireError */
export function decodeConfState(bytes: Uint8Array): ConfState {
  return readConfState(new WireReader(bytes));
}
