/**
 * Codecs of the gateway link. Decoders accept what any protobuf writer may send of a repeated field (packed or one by
 * one); of a singular message given twice the last counts, which none of our writers sends.
 */
import { emptyBytes } from '@quoin/base';
import type {
  BackupRequest,
  Credit,
  FeedBatch,
  FeedRevision,
  FeedSubscribe,
  LinkDown,
  LinkHello,
  LinkReply,
  LinkRequest,
  LinkUp,
  LinkWelcome,
  MemberInfo,
  MemberState,
  SampledRevision,
  WatchHistoryRequest,
  WatchHistoryResponse,
} from './link.ts';
import { WireReader } from './wire-reader.ts';
import { putUint, uintSize, WireWriter } from './wire-writer.ts';

const writer = new WireWriter();

// Guesses of a nested message's size; a wrong one only costs a move of that message.
const helloExpected = 64;
const stateExpected = 512;
const infoExpected = 96;
const sampledExpected = 32;

const notSampled: readonly SampledRevision[] = Object.freeze([]);
const smallExpected = 16;

export function encodeLinkUp(up: LinkUp): Uint8Array {
  let size = 256;
  for (let i = 0; i < up.requests.length; i++) size += requestExpected(up.requests[i]!) + 16;
  writer.begin(size);
  if (up.hello !== undefined) {
    const mark = writer.open(10, helloExpected);
    writer.uint(8, up.hello.protocol);
    writer.text(18, up.hello.gateway);
    writer.fixed64(25, up.hello.clusterId);
    for (const url of up.hello.clientUrls) writer.textItem(34, url);
    writer.close(mark, helloExpected);
  }
  for (let i = 0; i < up.requests.length; i++) writeRequest(up.requests[i]!);
  for (let i = 0; i < up.subscribes.length; i++) writeSubscribe(up.subscribes[i]!);
  writer.packedUint(34, up.cancels);
  for (let i = 0; i < up.credits.length; i++) writeCredit(up.credits[i]!);
  return writer.finish();
}

function requestExpected(request: LinkRequest): number {
  return request.body.length + request.trace.length + request.token.length + 12;
}

function writeRequest(request: LinkRequest): void {
  const expected = requestExpected(request);
  const mark = writer.open(18, expected);
  writer.uint(8, request.id);
  writer.int(16, request.method);
  writer.bytes(26, request.body);
  writer.uint(32, request.timeoutMs);
  writer.bytes(42, request.trace);
  writer.text(50, request.token);
  writer.text(58, request.certUser);
  writer.bool(64, request.own);
  writer.close(mark, expected);
}

function writeSubscribe(subscribe: FeedSubscribe): void {
  const mark = writer.open(26, smallExpected);
  writer.uint(8, subscribe.feed);
  writer.int(16, subscribe.fromRevision);
  writer.bool(24, subscribe.prevKv);
  writer.bool(32, subscribe.cancel);
  writer.close(mark, smallExpected);
}

function writeCredit(credit: Credit): void {
  const mark = writer.open(42, smallExpected);
  writer.uint(8, credit.id);
  writer.bool(16, credit.feed);
  writer.uint(24, credit.bytes);
  writer.close(mark, smallExpected);
}

/** @throws WireError */
export function decodeLinkUp(bytes: Uint8Array): LinkUp {
  const reader = new WireReader(bytes);
  let hello: LinkHello | undefined;
  const requests: LinkRequest[] = [];
  const subscribes: FeedSubscribe[] = [];
  const cancels: number[] = [];
  const credits: Credit[] = [];
  while (reader.more()) {
    const tag = reader.tag();
    if (tag === 32) {
      cancels.push(reader.uint53());
      continue;
    }
    if (tag !== 10 && tag !== 18 && tag !== 26 && tag !== 34 && tag !== 42) {
      reader.skip(tag);
      continue;
    }
    const outer = reader.enter();
    if (tag === 18) requests.push(readRequest(reader));
    else if (tag === 34) while (reader.more()) cancels.push(reader.uint53());
    else if (tag === 42) credits.push(readCredit(reader));
    else if (tag === 26) subscribes.push(readSubscribe(reader));
    else hello = readHello(reader);
    reader.leave(outer);
  }
  return { hello, requests, subscribes, cancels, credits };
}

function readHello(reader: WireReader): LinkHello {
  const into = { protocol: 0, gateway: '', clusterId: 0n, clientUrls: [] as string[] };
  while (reader.more()) {
    const tag = reader.tag();
    if (tag === 8) into.protocol = reader.uint32();
    else if (tag === 18) into.gateway = reader.text();
    else if (tag === 25) into.clusterId = reader.fixed64();
    else if (tag === 34) into.clientUrls.push(reader.text());
    else reader.skip(tag);
  }
  return into;
}

function readRequest(reader: WireReader): LinkRequest {
  const into = {
    id: 0,
    method: 0,
    body: emptyBytes as Uint8Array,
    timeoutMs: 0,
    trace: emptyBytes as Uint8Array,
    token: '',
    certUser: '',
    own: false,
  };
  while (reader.more()) {
    const tag = reader.tag();
    switch (tag) {
      case 8:
        into.id = reader.uint53();
        break;
      case 16:
        into.method = reader.int32();
        break;
      case 26:
        into.body = reader.bytes();
        break;
      case 32:
        into.timeoutMs = reader.uint53();
        break;
      case 42:
        into.trace = reader.bytes();
        break;
      case 50:
        into.token = reader.text();
        break;
      case 58:
        into.certUser = reader.text();
        break;
      case 64:
        into.own = reader.bool();
        break;
      default:
        reader.skip(tag);
    }
  }
  return into;
}

function readSubscribe(reader: WireReader): FeedSubscribe {
  const into = { feed: 0, fromRevision: 0, prevKv: false, cancel: false };
  while (reader.more()) {
    const tag = reader.tag();
    if (tag === 8) into.feed = reader.uint53();
    else if (tag === 16) into.fromRevision = reader.int53();
    else if (tag === 24) into.prevKv = reader.bool();
    else if (tag === 32) into.cancel = reader.bool();
    else reader.skip(tag);
  }
  return into;
}

function readCredit(reader: WireReader): Credit {
  const into = { id: 0, feed: false, bytes: 0 };
  while (reader.more()) {
    const tag = reader.tag();
    if (tag === 8) into.id = reader.uint53();
    else if (tag === 16) into.feed = reader.bool();
    else if (tag === 24) into.bytes = reader.uint53();
    else reader.skip(tag);
  }
  return into;
}

export function encodeLinkDown(down: LinkDown): Uint8Array {
  let size = 256 + down.auth.length;
  for (let i = 0; i < down.replies.length; i++) size += replyExpected(down.replies[i]!) + 16;
  for (let i = 0; i < down.feeds.length; i++) size += feedExpected(down.feeds[i]!) + 16;
  writer.begin(size);
  if (down.welcome !== undefined) {
    const mark = writer.open(10, helloExpected);
    writer.uint(8, down.welcome.protocol);
    writer.fixed64(17, down.welcome.clusterId);
    writer.fixed64(25, down.welcome.memberId);
    writer.text(34, down.welcome.name);
    writer.text(42, down.welcome.zone);
    writer.close(mark, helloExpected);
  }
  for (let i = 0; i < down.replies.length; i++) writeReply(down.replies[i]!);
  if (down.state !== undefined) writeState(down.state);
  for (let i = 0; i < down.feeds.length; i++) writeFeed(down.feeds[i]!);
  writer.bytes(42, down.auth);
  return writer.finish();
}

function replyExpected(reply: LinkReply): number {
  return reply.body.length + reply.message.length + 8;
}

function writeReply(reply: LinkReply): void {
  const expected = replyExpected(reply);
  const mark = writer.open(18, expected);
  writer.uint(8, reply.id);
  writer.uint(16, reply.code);
  writer.text(26, reply.message);
  writer.bytes(34, reply.body);
  writer.bool(40, reply.more);
  writer.bool(48, reply.notTaken);
  writer.uint(56, reply.totalBytes);
  writer.close(mark, expected);
}

/** Bytes that `frameReplyPart` writes before a body at most. */
export const replyHeadBytes = 64;

/**
 * A LinkDown with one reply, an answer's part, made around the body where that lies: the `replyHeadBytes` before it in
 * its buffer are free, and written over. So a large body is not copied once more.
 */
export function frameReplyPart(
  body: Uint8Array<ArrayBuffer>,
  id: number,
  more: boolean,
  totalBytes: number,
): Uint8Array<ArrayBuffer> {
  const { length } = body;
  const inner =
    1 +
    uintSize(id) +
    (more ? 2 : 0) +
    (totalBytes === 0 ? 0 : 1 + uintSize(totalBytes)) +
    1 +
    uintSize(length);
  const head = 1 + uintSize(inner + length) + inner;
  const out = new Uint8Array(body.buffer, body.byteOffset - head, head + length);
  out[0] = 18;
  let at = putUint(out, 1, inner + length);
  out[at++] = 8;
  at = putUint(out, at, id);
  if (more) {
    out[at++] = 40;
    out[at++] = 1;
  }
  if (totalBytes !== 0) {
    out[at++] = 56;
    at = putUint(out, at, totalBytes);
  }
  out[at++] = 34;
  putUint(out, at, length);
  return out;
}

function writeState(state: MemberState): void {
  const mark = writer.open(26, stateExpected);
  writer.fixed64(9, state.leader);
  writer.uint(16, state.term);
  writer.int(24, state.revision);
  writer.int(32, state.compactRevision);
  writer.uint(40, state.appliedIndex);
  writer.bool(48, state.learner);
  for (const info of state.members) {
    const inner = writer.open(58, infoExpected);
    writer.fixed64(9, info.id);
    writer.text(18, info.name);
    for (const url of info.peerUrls) writer.textItem(26, url);
    for (const url of info.clientUrls) writer.textItem(34, url);
    writer.bool(40, info.learner);
    writer.close(inner, infoExpected);
  }
  writer.close(mark, stateExpected);
}

function feedExpected(feed: FeedBatch): number {
  let expected = 16;
  for (const revision of feed.revisions) expected += revisionExpected(revision) + 4;
  return expected;
}

function writeFeed(feed: FeedBatch): void {
  const expected = feedExpected(feed);
  const mark = writer.open(34, expected);
  writer.uint(8, feed.feed);
  for (let i = 0; i < feed.revisions.length; i++) writeRevision(18, feed.revisions[i]!);
  writer.int(24, feed.revision);
  writer.int(32, feed.compactRevision);
  for (let i = 0; i < feed.sampled.length; i++) {
    const { revision, trace } = feed.sampled[i]!;
    const itemMark = writer.open(42, sampledExpected);
    writer.int(8, revision);
    writer.bytes(18, trace);
    writer.close(itemMark, sampledExpected);
  }
  writer.close(mark, expected);
}

function revisionExpected(revision: FeedRevision): number {
  let expected = 5;
  for (let i = 0; i < revision.events.length; i++) expected += revision.events[i]!.length + 3;
  return expected;
}

function writeRevision(tag: number, revision: FeedRevision): void {
  const expected = revisionExpected(revision);
  const mark = writer.open(tag, expected);
  writer.int(8, revision.revision);
  for (let i = 0; i < revision.events.length; i++) writer.bytesItem(18, revision.events[i]!);
  writer.close(mark, expected);
}

/** @throws WireError */
export function decodeLinkDown(bytes: Uint8Array): LinkDown {
  const reader = new WireReader(bytes);
  let welcome: LinkWelcome | undefined;
  const replies: LinkReply[] = [];
  let state: MemberState | undefined;
  const feeds: FeedBatch[] = [];
  let auth: Uint8Array = emptyBytes;
  while (reader.more()) {
    const tag = reader.tag();
    if (tag === 42) {
      auth = reader.bytes();
      continue;
    }
    if (tag !== 10 && tag !== 18 && tag !== 26 && tag !== 34) {
      reader.skip(tag);
      continue;
    }
    const outer = reader.enter();
    if (tag === 18) replies.push(readReply(reader));
    else if (tag === 34) feeds.push(readFeed(reader));
    else if (tag === 26) state = readState(reader);
    else welcome = readWelcome(reader);
    reader.leave(outer);
  }
  return { welcome, replies, state, feeds, auth };
}

function readWelcome(reader: WireReader): LinkWelcome {
  const into = { protocol: 0, clusterId: 0n, memberId: 0n, name: '', zone: '' };
  while (reader.more()) {
    const tag = reader.tag();
    if (tag === 8) into.protocol = reader.uint32();
    else if (tag === 17) into.clusterId = reader.fixed64();
    else if (tag === 25) into.memberId = reader.fixed64();
    else if (tag === 34) into.name = reader.text();
    else if (tag === 42) into.zone = reader.text();
    else reader.skip(tag);
  }
  return into;
}

function readReply(reader: WireReader): LinkReply {
  const into = {
    id: 0,
    code: 0,
    message: '',
    body: emptyBytes as Uint8Array,
    more: false,
    notTaken: false,
    totalBytes: 0,
  };
  while (reader.more()) {
    const tag = reader.tag();
    switch (tag) {
      case 8:
        into.id = reader.uint53();
        break;
      case 16:
        into.code = reader.uint32();
        break;
      case 26:
        into.message = reader.text();
        break;
      case 34:
        into.body = reader.bytes();
        break;
      case 40:
        into.more = reader.bool();
        break;
      case 48:
        into.notTaken = reader.bool();
        break;
      case 56:
        into.totalBytes = reader.uint53();
        break;
      default:
        reader.skip(tag);
    }
  }
  return into;
}

function readState(reader: WireReader): MemberState {
  const members: MemberInfo[] = [];
  const into = {
    leader: 0n,
    term: 0,
    revision: 0,
    compactRevision: 0,
    appliedIndex: 0,
    learner: false,
    members,
  };
  while (reader.more()) {
    const tag = reader.tag();
    if (tag === 9) into.leader = reader.fixed64();
    else if (tag === 16) into.term = reader.uint53();
    else if (tag === 24) into.revision = reader.int53();
    else if (tag === 32) into.compactRevision = reader.int53();
    else if (tag === 40) into.appliedIndex = reader.uint53();
    else if (tag === 48) into.learner = reader.bool();
    else if (tag === 58) {
      const outer = reader.enter();
      members.push(readInfo(reader));
      reader.leave(outer);
    } else reader.skip(tag);
  }
  return into;
}

function readInfo(reader: WireReader): MemberInfo {
  const peerUrls: string[] = [];
  const clientUrls: string[] = [];
  const into = { id: 0n, name: '', peerUrls, clientUrls, learner: false };
  while (reader.more()) {
    const tag = reader.tag();
    if (tag === 9) into.id = reader.fixed64();
    else if (tag === 18) into.name = reader.text();
    else if (tag === 26) peerUrls.push(reader.text());
    else if (tag === 34) clientUrls.push(reader.text());
    else if (tag === 40) into.learner = reader.bool();
    else reader.skip(tag);
  }
  return into;
}

function readFeed(reader: WireReader): FeedBatch {
  const revisions: FeedRevision[] = [];
  const into = { feed: 0, revisions, revision: 0, compactRevision: 0, sampled: notSampled };
  while (reader.more()) {
    const tag = reader.tag();
    if (tag === 8) into.feed = reader.uint53();
    else if (tag === 18) readRevisionInto(reader, revisions);
    else if (tag === 24) into.revision = reader.int53();
    else if (tag === 32) into.compactRevision = reader.int53();
    else if (tag === 42) into.sampled = [...into.sampled, readSampled(reader)];
    else reader.skip(tag);
  }
  return into;
}

function readSampled(reader: WireReader): SampledRevision {
  const outer = reader.enter();
  const into = { revision: 0, trace: emptyBytes as Uint8Array };
  while (reader.more()) {
    const tag = reader.tag();
    if (tag === 8) into.revision = reader.int53();
    else if (tag === 18) into.trace = reader.bytes();
    else reader.skip(tag);
  }
  reader.leave(outer);
  return into;
}

function readRevisionInto(reader: WireReader, revisions: FeedRevision[]): void {
  const outer = reader.enter();
  const events: Uint8Array[] = [];
  let revision = 0;
  while (reader.more()) {
    const tag = reader.tag();
    if (tag === 8) revision = reader.int53();
    else if (tag === 18) events.push(reader.bytes());
    else reader.skip(tag);
  }
  reader.leave(outer);
  revisions.push({ revision, events });
}

export function encodeWatchHistoryRequest(request: WatchHistoryRequest): Uint8Array {
  writer.begin();
  writer.bytes(10, request.key);
  writer.bytes(18, request.rangeEnd);
  writer.int(24, request.fromRevision);
  writer.int(32, request.toRevision);
  writer.bool(40, request.prevKv);
  writer.uint(48, request.maxBytes);
  return writer.finish();
}

/** @throws WireError */
export function decodeWatchHistoryRequest(bytes: Uint8Array): WatchHistoryRequest {
  const reader = new WireReader(bytes);
  const into = {
    key: emptyBytes as Uint8Array,
    rangeEnd: emptyBytes as Uint8Array,
    fromRevision: 0,
    toRevision: 0,
    prevKv: false,
    maxBytes: 0,
  };
  while (reader.more()) {
    const tag = reader.tag();
    if (tag === 10) into.key = reader.bytes();
    else if (tag === 18) into.rangeEnd = reader.bytes();
    else if (tag === 24) into.fromRevision = reader.int53();
    else if (tag === 32) into.toRevision = reader.int53();
    else if (tag === 40) into.prevKv = reader.bool();
    else if (tag === 48) into.maxBytes = reader.uint53();
    else reader.skip(tag);
  }
  return into;
}

export function encodeWatchHistoryResponse(response: WatchHistoryResponse): Uint8Array {
  writer.begin();
  for (let i = 0; i < response.revisions.length; i++) writeRevision(10, response.revisions[i]!);
  writer.int(16, response.nextRevision);
  writer.int(24, response.compactRevision);
  return writer.finish();
}

/** @throws WireError */
export function decodeWatchHistoryResponse(bytes: Uint8Array): WatchHistoryResponse {
  const reader = new WireReader(bytes);
  const revisions: FeedRevision[] = [];
  const into = { revisions, nextRevision: 0, compactRevision: 0 };
  while (reader.more()) {
    const tag = reader.tag();
    if (tag === 10) readRevisionInto(reader, revisions);
    else if (tag === 16) into.nextRevision = reader.int53();
    else if (tag === 24) into.compactRevision = reader.int53();
    else reader.skip(tag);
  }
  return into;
}

export function encodeBackupRequest(request: BackupRequest): Uint8Array {
  writer.begin();
  writer.uint(8, request.windowBytes);
  return writer.finish();
}

/** @throws WireError */
export function decodeBackupRequest(bytes: Uint8Array): BackupRequest {
  const reader = new WireReader(bytes);
  const into = { windowBytes: 0 };
  while (reader.more()) {
    const tag = reader.tag();
    if (tag === 8) into.windowBytes = reader.uint53();
    else reader.skip(tag);
  }
  return into;
}
