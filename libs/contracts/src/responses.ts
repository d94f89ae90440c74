/**
 * Writers of client responses. Pairs and events go in as the bytes they are stored as. Responses that can be large come
 * as pieces that follow each other: values of `spliceBytes` and more are passed on by reference, all else is one run.
 */
import { emptyBytes } from '@quoin/base';
import { replyHeadBytes } from './link-codec.ts';
import type { WatchId } from './stream-requests.ts';
import { idSize, intSize, putId, putInt, putUint, uintSize, WireWriter } from './wire-writer.ts';

/** From this size on a pair or event is a piece of its own instead of being copied. */
export const spliceBytes = 16 * 1024;

/** Fields with 0 are left out on the wire. */
export interface ResponseHeader {
  readonly clusterId: bigint;
  /** The member that answers. */
  readonly memberId: bigint;
  readonly revision: number;
  readonly raftTerm: number;
}

const writer = new WireWriter();

// The ids of a header are nearly always those of the header before: their bytes are kept.
let cachedCluster = 0n;
let cachedMember = 0n;
let cachedIds = new Uint8Array(0);

function headerIds(header: ResponseHeader): Uint8Array {
  if (header.clusterId !== cachedCluster || header.memberId !== cachedMember) {
    const bytes = new Uint8Array(22);
    let at = 0;
    if (header.clusterId !== 0n) {
      bytes[at++] = 8;
      at = putId(bytes, at, header.clusterId);
    }
    if (header.memberId !== 0n) {
      bytes[at++] = 16;
      at = putId(bytes, at, header.memberId);
    }
    cachedIds = bytes.slice(0, at);
    cachedCluster = header.clusterId;
    cachedMember = header.memberId;
  }
  return cachedIds;
}

/** Content of the header, always below 128 bytes. */
function headerSize(header: ResponseHeader): number {
  return (
    headerIds(header).length +
    (header.revision === 0 ? 0 : 1 + intSize(header.revision)) +
    (header.raftTerm === 0 ? 0 : 1 + uintSize(header.raftTerm))
  );
}

/** A header is present even when it is empty, as etcd's are. */
function headerFieldSize(header: ResponseHeader | undefined): number {
  return header === undefined ? 0 : 2 + headerSize(header);
}

/** Field 1 of every response. Room has been made. */
function putHeader(out: Uint8Array, at: number, header: ResponseHeader): number {
  const ids = headerIds(header);
  out[at++] = 10;
  const length = at++;
  for (let i = 0; i < ids.length; i++) out[at++] = ids[i]!;
  if (header.revision !== 0) {
    out[at++] = 24;
    at = putInt(out, at, header.revision);
  }
  if (header.raftTerm !== 0) {
    out[at++] = 32;
    at = putUint(out, at, header.raftTerm);
  }
  out[length] = at - length - 1;
  return at;
}

function beginWithHeader(header: ResponseHeader, moreBytes: number): void {
  writer.begin(48 + moreBytes);
  writer.pos = putHeader(writer.buffer, writer.pos, header);
}

/** Field 1: where a response begins, and all of one that has nothing else (compaction, lease revoke). */
export function writeHeaderField(header: ResponseHeader): Uint8Array {
  beginWithHeader(header, 0);
  return writer.finish();
}

export function writePutResponse(header: ResponseHeader, prevKv: Uint8Array | undefined): Uint8Array {
  beginWithHeader(header, prevKv === undefined ? 0 : prevKv.length + 10);
  if (prevKv !== undefined) writer.bytesItem(18, prevKv);
  return writer.finish();
}

/** What encoded messages take in a repeated field, with the tag and length of each. */
export function itemsSize(items: readonly Uint8Array[]): number {
  let size = 0;
  for (let i = 0; i < items.length; i++) {
    const length = items[i]!.length;
    size += 1 + uintSize(length) + length;
  }
  return size;
}

function spliced(items: readonly Uint8Array[]): number {
  let size = 0;
  for (let i = 0; i < items.length; i++) if (items[i]!.length >= spliceBytes) size += items[i]!.length;
  return size;
}

/** Writes a repeated field, cutting the run before and after each large item. Room has been made. */
function writeItems(tag: number, items: readonly Uint8Array[], pieces: Uint8Array[]): void {
  for (let i = 0; i < items.length; i++) {
    const item = items[i]!;
    if (item.length < spliceBytes) {
      writer.bytesItem(tag, item);
    } else {
      writer.uintItem(tag, item.length);
      pieces.push(writer.cut(), item);
    }
  }
}

function endPieces(pieces: Uint8Array[]): Uint8Array[] {
  if (pieces.length === 0 || writer.length() > 0) pieces.push(writer.finish());
  return pieces;
}

/**
 * Pieces of a RangeResponse. `kvs` are encoded pairs; `count` is the number of keys in the range, whatever was sent.
 * Without a header only inside a RangeStream.
 */
export function writeRangeResponse(
  header: ResponseHeader | undefined,
  kvs: readonly Uint8Array[],
  more: boolean,
  count: number,
): Uint8Array[] {
  const pieces: Uint8Array[] = [];
  // Exact room plus what one field method asks for at most, so that nothing is ever moved.
  writer.begin(rangeSize(header, kvs, more, count) - spliced(kvs) + 16);
  if (header !== undefined) writer.pos = putHeader(writer.buffer, writer.pos, header);
  writeItems(18, kvs, pieces);
  writer.bool(24, more);
  writer.int(32, count);
  return endPieces(pieces);
}

function rangeSize(
  header: ResponseHeader | undefined,
  kvs: readonly Uint8Array[],
  more: boolean,
  count: number,
): number {
  return headerFieldSize(header) + itemsSize(kvs) + (more ? 2 : 0) + (count === 0 ? 0 : 1 + intSize(count));
}

/** Small pairs are written together until a piece has about so many bytes. */
const runBytes = 256 * 1024;
/** From this size on a pair is a piece of its own, and `RangeResponsePieces` gives it away as it is. */
export const ownPieceBytes: number = 128 * 1024;

/**
 * The same RangeResponse made piece by piece, so that a large one is never there twice: each pair is let go once it was
 * written. The array is the response's from now on.
 */
export class RangeResponsePieces {
  private readonly header: ResponseHeader;
  private readonly kvs: Uint8Array[];
  private readonly more: boolean;
  private readonly count: number;
  private at = 0;
  private begun = false;
  private ended = false;
  /** A pair whose tag and length were the end of the last piece. */
  private own: Uint8Array | undefined = undefined;

  constructor(header: ResponseHeader, kvs: Uint8Array[], more: boolean, count: number) {
    this.header = header;
    this.kvs = kvs;
    this.more = more;
    this.count = count;
  }

  /** Undefined at the end. */
  next(): Uint8Array | undefined {
    const { own } = this;
    if (own !== undefined) {
      this.own = undefined;
      return own;
    }
    return this.ended ? undefined : this.writeRun();
  }

  private writeRun(): Uint8Array {
    const { kvs, at } = this;
    let bytes = 0;
    let end = at;
    while (end < kvs.length && bytes < runBytes && kvs[end]!.length < ownPieceBytes) {
      const { length } = kvs[end++]!;
      bytes += 1 + uintSize(length) + length;
    }
    // Room for the header, or for the tag and length of a pair that follows, and for the last fields.
    writer.begin(bytes + 128);
    if (!this.begun) writer.pos = putHeader(writer.buffer, writer.pos, this.header);
    this.begun = true;
    for (let i = at; i < end; i++) {
      writer.bytesItem(18, kvs[i]!);
      kvs[i] = emptyBytes;
    }
    if (end < kvs.length && bytes < runBytes) {
      this.own = kvs[end]!;
      writer.uintItem(18, this.own.length);
      kvs[end++] = emptyBytes;
    }
    this.at = end;
    if (end === kvs.length && this.own === undefined) {
      this.ended = true;
      writer.bool(24, this.more);
      writer.int(32, this.count);
    }
    return writer.finish();
  }
}

/**
 * The same RangeResponse made part by part of pairs that are not there together: each pair given is copied, and may change
 * afterwards. A part has `replyHeadBytes` free before it (see `frameReplyPart`). What all parts will take has to be known
 * before: it is in the way the message begins on the wire.
 */
export class RangeResponseParts {
  readonly totalBytes: number;
  private readonly more: boolean;
  private readonly count: number;
  private readonly newPart: () => Uint8Array<ArrayBuffer>;
  private readonly onPart: (part: Uint8Array<ArrayBuffer>) => void;
  private part: Uint8Array<ArrayBuffer> = new Uint8Array(0);
  private at = 0;
  private begunBytes = 0;

  /**
   * `itemBytes`: of all pairs, with the tag and length of each. `newPart` gives what a part is written to, with
   * `replyHeadBytes` to spare. `onPart` is given each part but the last when it is full.
   */
  constructor(
    header: ResponseHeader,
    more: boolean,
    count: number,
    itemBytes: number,
    newPart: () => Uint8Array<ArrayBuffer>,
    onPart: (part: Uint8Array<ArrayBuffer>) => void,
  ) {
    this.more = more;
    this.count = count;
    this.newPart = newPart;
    this.onPart = onPart;
    this.totalBytes = rangeSize(header, [], more, count) + itemBytes;
    this.begin();
    this.at = putHeader(this.part, this.at, header);
  }

  /** All pairs have been given. */
  get complete(): boolean {
    const rest = (this.more ? 2 : 0) + (this.count === 0 ? 0 : 1 + intSize(this.count));
    return this.writtenBytes + rest === this.totalBytes;
  }

  /** Of the parts so far, with the open one. */
  get writtenBytes(): number {
    return this.begunBytes + this.at - replyHeadBytes;
  }

  add(kv: Uint8Array): void {
    const { length } = kv;
    // Tag and length are never split: a part has room for them, and for what ends the message.
    if (this.part.length - this.at < 32) this.cut();
    this.part[this.at++] = 18;
    this.at = putUint(this.part, this.at, length);
    let from = 0;
    for (;;) {
      const n = Math.min(length - from, this.part.length - this.at);
      this.part.set(n === length ? kv : kv.subarray(from, from + n), this.at);
      this.at += n;
      from += n;
      if (from === length) return;
      this.cut();
    }
  }

  /** The last part. */
  end(): Uint8Array<ArrayBuffer> {
    if (this.part.length - this.at < 32) this.cut();
    if (this.more) {
      this.part[this.at++] = 24;
      this.part[this.at++] = 1;
    }
    if (this.count !== 0) {
      this.part[this.at++] = 32;
      this.at = putInt(this.part, this.at, this.count);
    }
    return this.part.subarray(replyHeadBytes, this.at);
  }

  private cut(): void {
    this.begunBytes += this.at - replyHeadBytes;
    this.onPart(this.part.subarray(replyHeadBytes, this.at));
    this.begin();
  }

  private begin(): void {
    this.part = this.newPart();
    this.at = replyHeadBytes;
  }
}

/** Pieces of one message of a RangeStream. Only the last one has header, more and count. */
export function writeRangeStreamResponse(
  header: ResponseHeader | undefined,
  kvs: readonly Uint8Array[],
  more: boolean,
  count: number,
): Uint8Array[] {
  const pieces = writeRangeResponse(header, kvs, more, count);
  writer.begin(16);
  writer.uintItem(10, rangeSize(header, kvs, more, count));
  pieces.unshift(writer.finish());
  return pieces;
}

/** `prevKvs` are encoded pairs in key order, empty when not asked for. */
export function writeDeleteRangeResponse(
  header: ResponseHeader,
  deleted: number,
  prevKvs: readonly Uint8Array[],
): Uint8Array {
  beginWithHeader(header, itemsSize(prevKvs) + 32);
  writer.int(16, deleted);
  for (let i = 0; i < prevKvs.length; i++) writer.bytesItem(26, prevKvs[i]!);
  return writer.finish();
}

/**
 * The outcome of one operation of a txn. Its header holds `revision` and nothing else (etcd); a nested txn's header is
 * empty in etcd, which is revision 0.
 */
export type TxnResponseOp =
  | {
      readonly kind: 'range';
      readonly revision: number;
      readonly kvs: readonly Uint8Array[];
      readonly more: boolean;
      readonly count: number;
    }
  | { readonly kind: 'put'; readonly revision: number; readonly prevKv: Uint8Array | undefined }
  | {
      readonly kind: 'deleteRange';
      readonly revision: number;
      readonly deleted: number;
      readonly prevKvs: readonly Uint8Array[];
    }
  | {
      readonly kind: 'txn';
      readonly revision: number;
      readonly succeeded: boolean;
      readonly responses: readonly TxnResponseOp[];
    };

export function writeTxnResponse(
  header: ResponseHeader,
  succeeded: boolean,
  responses: readonly TxnResponseOp[],
): Uint8Array {
  beginWithHeader(header, 256);
  writer.bool(16, succeeded);
  for (let i = 0; i < responses.length; i++) writeResponseOp(responses[i]!);
  return writer.finish();
}

/** Field 3 of a TxnResponse: ResponseOp { one of four responses }. */
function writeResponseOp(op: TxnResponseOp): void {
  const expected = opSize(op);
  const outerExpected = expected + 1 + uintSize(expected);
  const outer = writer.open(26, outerExpected);
  const inner = writer.open(opTags[op.kind], expected);
  writeRevisionHeader(op.revision);
  switch (op.kind) {
    case 'range':
      for (let i = 0; i < op.kvs.length; i++) writer.bytesItem(18, op.kvs[i]!);
      writer.bool(24, op.more);
      writer.int(32, op.count);
      break;
    case 'put':
      if (op.prevKv !== undefined) writer.bytesItem(18, op.prevKv);
      break;
    case 'deleteRange':
      writer.int(16, op.deleted);
      for (let i = 0; i < op.prevKvs.length; i++) writer.bytesItem(26, op.prevKvs[i]!);
      break;
    case 'txn':
      writer.bool(16, op.succeeded);
      for (let i = 0; i < op.responses.length; i++) writeResponseOp(op.responses[i]!);
  }
  writer.close(inner, expected);
  writer.close(outer, outerExpected);
}

const opTags = { range: 10, put: 18, deleteRange: 26, txn: 34 } as const;

/** Exact, except for a nested txn, where it is a guess that keeps small ones from being moved. */
function opSize(op: TxnResponseOp): number {
  const header = op.revision === 0 ? 2 : 3 + intSize(op.revision);
  switch (op.kind) {
    case 'range':
      return header + itemsSize(op.kvs) + (op.more ? 2 : 0) + (op.count === 0 ? 0 : 1 + intSize(op.count));
    case 'put':
      return header + (op.prevKv === undefined ? 0 : 1 + uintSize(op.prevKv.length) + op.prevKv.length);
    case 'deleteRange':
      return header + (op.deleted === 0 ? 0 : 1 + intSize(op.deleted)) + itemsSize(op.prevKvs);
    case 'txn':
      return header + 2 + op.responses.length * 32;
  }
}

function writeRevisionHeader(revision: number): void {
  writer.room(16);
  const out = writer.buffer;
  let at = writer.pos;
  out[at++] = 10;
  out[at++] = revision === 0 ? 0 : 1 + intSize(revision);
  if (revision !== 0) {
    out[at++] = 24;
    at = putInt(out, at, revision);
  }
  writer.pos = at;
}

export function writeCompactionResponse(header: ResponseHeader): Uint8Array {
  return writeHeaderField(header);
}

/** `ttl` in seconds, as granted. */
export function writeLeaseGrantResponse(header: ResponseHeader, id: bigint, ttl: number): Uint8Array {
  return writeLease(header, id, ttl);
}

export function writeLeaseRevokeResponse(header: ResponseHeader): Uint8Array {
  return writeHeaderField(header);
}

/** `ttl` in seconds; 0: no such lease. */
export function writeLeaseKeepAliveResponse(header: ResponseHeader, id: bigint, ttl: number): Uint8Array {
  return writeLease(header, id, ttl);
}

function writeLease(header: ResponseHeader, id: bigint, ttl: number): Uint8Array {
  beginWithHeader(header, 32);
  writer.id(16, id);
  writer.int(24, ttl);
  return writer.finish();
}

/** `ttl`: seconds left, −1: no such lease (then `grantedTtl` is 0). `keys`: empty when not asked for. */
export function writeLeaseTimeToLiveResponse(
  header: ResponseHeader,
  id: bigint,
  ttl: number,
  grantedTtl: number,
  keys: readonly Uint8Array[],
): Uint8Array {
  beginWithHeader(header, 48 + itemsSize(keys));
  writer.id(16, id);
  writer.int(24, ttl);
  writer.int(32, grantedTtl);
  for (let i = 0; i < keys.length; i++) writer.bytesItem(42, keys[i]!);
  return writer.finish();
}

export function writeLeaseLeasesResponse(header: ResponseHeader, ids: readonly bigint[]): Uint8Array {
  beginWithHeader(header, ids.length * 13);
  for (const id of ids) {
    const mark = writer.open(18, id === 0n ? 0 : 1 + idSize(id));
    writer.id(8, id);
    writer.close(mark, id === 0n ? 0 : 1 + idSize(id));
  }
  return writer.finish();
}

/** What a WatchResponse says beside events. */
export interface WatchResponseFlags {
  readonly created?: boolean;
  readonly canceled?: boolean;
  /** Not 0: the watch ended because revisions below it are gone. */
  readonly compactRevision?: number;
  readonly cancelReason?: string;
  /** More of the same revision follows. */
  readonly fragment?: boolean;
}

const noFlags: WatchResponseFlags = Object.freeze({});

/** Of most watches: streams count theirs from 0. */
const smallWatchIds = Array.from({ length: 256 }, (_, id) => encodeWatchId(id));

function encodeWatchId(watchId: WatchId): Uint8Array {
  writer.begin(16);
  if (typeof watchId === 'number') writer.int(16, watchId);
  else writer.id(16, watchId);
  // The slab of the writer would live as long as the piece.
  return writer.finish().slice();
}

/** WatchResponse.watch_id, between the header and the events. */
export function writeWatchIdField(watchId: WatchId): Uint8Array {
  return (typeof watchId === 'number' ? smallWatchIds[watchId] : undefined) ?? encodeWatchId(watchId);
}

/** Pieces of a WatchResponse. `events` are encoded mvccpb.Event. `watchId` −1: all watches of the stream (progress). */
export function writeWatchResponse(
  header: ResponseHeader,
  watchId: WatchId,
  events: readonly Uint8Array[],
  flags: WatchResponseFlags = noFlags,
): Uint8Array[] {
  const pieces: Uint8Array[] = [];
  const reason = flags.cancelReason ?? '';
  // UTF-8 takes at most three bytes for each UTF-16 unit.
  beginWithHeader(header, 64 + reason.length * 3 + itemsSize(events) - spliced(events));
  if (typeof watchId === 'number') writer.int(16, watchId);
  else writer.id(16, watchId);
  if (flags !== noFlags) {
    writer.bool(24, flags.created === true);
    writer.bool(32, flags.canceled === true);
    writer.int(40, flags.compactRevision ?? 0);
    writer.text(50, reason);
    writer.bool(56, flags.fragment === true);
  }
  writeItems(90, events, pieces);
  return endPieces(pieces);
}
