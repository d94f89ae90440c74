import { concatBytes } from '@quoin/base';
import {
  etcdErrors,
  Method,
  otherErrors,
  type RangeRequestView,
  type ResponseHeader,
  type RpcStatus,
  readRangeRequest,
  WireReader,
  WireWriter,
  writeRangeStreamResponse,
} from '@quoin/contracts';
import type { Call } from './call.ts';
import { type Forward, type GatewayCore, readOr } from './core.ts';
import { checkRange } from './kv.ts';
import { keyOf, readHeader } from './peek.ts';
import type { CallContext, ServerStream } from './ports.ts';
import type { StreamHandler } from './tracked-stream.ts';

const page: Forward = { method: Method.range, target: 'home', resend: true, bounded: true };

/** Keys of the first chunk. */
const firstChunkKeys = 10;

/** Greatest number of keys in a chunk: what a member reads in one go stays short. */
const chunkKeysMax = 16_384;

const writer = new WireWriter();

/**
 * KV.RangeStream: pages of the range, all at the revision of the first one, each sent once the client has room.
 * Only one page is in memory at a time.
 *
 *     Range(limit 10) ─▶ chunk ─▶ Range(key after the last, limit 20, revision pinned) ─▶ chunk ─▶ … ─▶ last chunk
 *                                                                        with header, more and count
 */
export class RangeStream implements StreamHandler {
  readonly stopStatus: RpcStatus = etcdErrors.stopped;
  private readonly core: GatewayCore;
  private readonly context: CallContext;
  private readonly stream: ServerStream;
  private request: RangeRequestView | undefined;
  private call: Call | undefined;
  private header: ResponseHeader | undefined;
  private pinned = 0;
  private count = 0;
  private sent = 0;
  private keys = firstChunkKeys;
  private nextKey: Uint8Array | undefined;
  private blocked = false;
  private ended = false;

  constructor(core: GatewayCore, context: CallContext, stream: ServerStream) {
    this.core = core;
    this.context = context;
    this.stream = stream;
    stream.onMessage = (message) => this.onRequest(message);
    stream.onCancel = () => this.release();
    stream.onDrain = () => {
      if (!this.blocked) return;
      this.blocked = false;
      this.readPage();
    };
  }

  end(status: RpcStatus | null): void {
    if (this.ended) return;
    this.release();
    this.stream.end(status);
  }

  private onRequest(message: Uint8Array): void {
    if (this.request !== undefined || this.ended) return;
    const request = readOr(
      () => readRangeRequest(message),
      (status) => this.end(status),
    );
    if (request === undefined) return;
    const problem = checkRange(request) ?? checkRangeStream(request);
    if (problem !== undefined) {
      this.end(problem);
      return;
    }
    this.request = request;
    this.pinned = request.revision;
    this.readPage();
  }

  private readPage(): void {
    const request = this.request!;
    const left = request.limit > 0 ? request.limit - this.sent : Number.POSITIVE_INFINITY;
    const body = encodeRange(request, this.nextKey ?? request.key, Math.min(this.keys, left), this.pinned);
    this.call = this.core.forward(page, body, this.context, (status, pieces) => {
      if (this.ended) return;
      if (status !== null) this.end(status);
      else this.onPage(pieces.length === 1 ? pieces[0]! : concatBytes(pieces));
    });
  }

  private onPage(body: Uint8Array): void {
    const request = this.request!;
    const response = readOr(
      () => readPage(body),
      (status) => this.end(status),
    );
    if (response === undefined) return;
    if (this.header === undefined) {
      this.header = response.header;
      this.count = response.count;
      if (this.pinned <= 0) this.pinned = response.header.revision;
    }
    this.sent += response.kvs.length;
    const limited = request.limit > 0 && this.sent >= request.limit;
    const last = !response.more || limited || response.kvs.length === 0;
    const room = last
      ? this.stream.send(writeRangeStreamResponse(this.header, response.kvs, response.more, this.count))
      : this.stream.send(writeRangeStreamResponse(undefined, response.kvs, false, 0));
    if (last) {
      this.end(null);
      return;
    }
    this.adjust(body.length);
    this.nextKey = keyAfter(response.kvs[response.kvs.length - 1]!);
    if (room) this.readPage();
    else this.blocked = true;
  }

  /** Chunks approach max-request-bytes from below. */
  private adjust(bytes: number): void {
    const target = this.core.config.maxRequestBytes;
    if (bytes < target / 2) this.keys = Math.min(chunkKeysMax, this.keys * 2);
    else if (bytes > target) this.keys = Math.max(1, this.keys >>> 1);
  }

  private release(): void {
    this.ended = true;
    if (this.call !== undefined) this.core.router.cancel(this.call);
  }
}

/** Streams are in key order; what would need the whole range first is refused. */
function checkRangeStream(request: RangeRequestView): RpcStatus | undefined {
  const natural = request.sortOrder === 0 || (request.sortOrder === 1 && request.sortTarget === 0);
  if (!natural) return otherErrors.rangeStreamSort;
  const { minModRevision, maxModRevision, minCreateRevision, maxCreateRevision } = request;
  const filters = [minModRevision, maxModRevision, minCreateRevision, maxCreateRevision];
  return filters.some((revision) => revision !== 0) ? otherErrors.rangeStreamFilter : undefined;
}

function encodeRange(
  request: RangeRequestView,
  key: Uint8Array,
  limit: number,
  revision: number,
): Uint8Array {
  writer.begin(key.length + request.rangeEnd.length + 64);
  writer.bytes(10, key);
  writer.bytes(18, request.rangeEnd);
  writer.int(24, limit);
  writer.int(32, revision);
  writer.bool(56, request.serializable);
  writer.bool(64, request.keysOnly);
  writer.bool(72, request.countOnly);
  return writer.finish();
}

interface Page {
  readonly header: ResponseHeader;
  readonly kvs: Uint8Array[];
  readonly more: boolean;
  readonly count: number;
}

function readPage(body: Uint8Array): Page {
  const reader = new WireReader(body);
  const kvs: Uint8Array[] = [];
  let header: ResponseHeader = { clusterId: 0n, memberId: 0n, revision: 0, raftTerm: 0 };
  let more = false;
  let count = 0;
  while (reader.more()) {
    const tag = reader.tag();
    if (tag === 10) header = readHeader(reader.bytes());
    else if (tag === 18) kvs.push(reader.bytes());
    else if (tag === 24) more = reader.bool();
    else if (tag === 32) count = reader.int53();
    else reader.skip(tag);
  }
  return { header, kvs, more, count };
}

/** The first key behind that of the encoded pair. */
function keyAfter(kv: Uint8Array): Uint8Array {
  const key = keyOf(kv);
  const next = new Uint8Array(key.length + 1);
  next.set(key);
  return next;
}
