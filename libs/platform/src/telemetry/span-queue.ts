/**
 * Finished spans, already in OTLP's bytes, waiting to leave.
 *
 *     record ──► chunk being filled ──full, or a batch──► chunks ──take──► one export
 *       │
 *       └─ over the bounds ──► dropped, counted
 *
 * A span is written once, when it is over, into a buffer that goes out as it is: no object lives until the next export,
 * so that a burst of spans is no work for the garbage collector. Nor are the buffers: what was exported comes back by
 * `release` and is written again, because V8 collects all garbage after so many bytes of new ones. What is written are
 * elements of `opentelemetry.proto.trace.v1.ScopeSpans.spans`.
 */
import { type SpanAttributes, SpanKind, traceContextBytes, utf8 } from '@quoin/base';
import { putUint } from '@quoin/contracts';
import type { IdSource } from './span-ids.ts';

export interface SpanLimits {
  /** Spans that wait, and their bytes; what comes beyond is dropped. */
  readonly queueSpansMax: number;
  readonly queueBytesMax: number;
  /** Spans of one export. */
  readonly batchSpansMax: number;
  /** Attributes and links of one span; UTF-16 units of one text. */
  readonly attributesMax: number;
  readonly linksMax: number;
  readonly textMax: number;
}

/** Spans for one export; its bytes are to be read before it is given back to `release`. */
export interface SpanBatch {
  readonly chunks: readonly SpanChunk[];
  readonly spans: number;
  readonly bytes: number;
}

export interface SpanChunk {
  readonly bytes: Uint8Array;
  readonly spans: number;
  readonly buffer: ChunkBuffer;
}

interface ChunkBuffer {
  readonly bytes: Uint8Array;
  /** That were cut from it and are not released. */
  chunks: number;
}

/** What `SpanQueue.write` is told about one span. */
export interface SpanFields {
  readonly name: string;
  readonly kind: SpanKind;
  /** 25 bytes: the trace, and the parent. `isRoot`: only the trace. */
  readonly parent: Uint8Array;
  readonly isRoot?: boolean;
  /** Its own id is at 16 of this context; absent: drawn. */
  readonly context?: Uint8Array | undefined;
  readonly startMs: number;
  readonly endMs: number;
  readonly traceState?: string;
  readonly attributes?: SpanAttributes | undefined;
  /** More attributes, by `encodeAttributes`. */
  readonly encoded?: Uint8Array | undefined;
  readonly links?: readonly Uint8Array[];
  /** Not undefined: it failed. */
  readonly problem?: string | undefined;
}

const chunkBytes = 128 << 10;
/** So many are kept for what comes next: as many as one export of 8,192 spans has, twice. */
const freeMax = 16;
const noBuffer: ChunkBuffer = { bytes: new Uint8Array(0), chunks: 0 };
/** Ids, times and their tags; the lengths of the whole. */
const fixedBytes = 4 + 18 + 10 + 10 + 9 + 9 + 8;
const linkBytes = 2 + 18 + 10;
/** The length of a span is written behind it, into room for so many bytes of varint: 2 MiB. */
const lengthBytes = 3;
/** Names are few; those that a client can choose are not to fill the memory. */
const prefixesMax = 1_000;

export class SpanQueue {
  /** Spans written since start, and those that found no room. */
  written = 0;
  dropped = 0;
  /** Called, perhaps often, while there are enough spans for an export. */
  onBatch: () => void = () => {};
  private readonly limits: SpanLimits;
  private readonly ids: IdSource;
  /** By kind, then by name. */
  private readonly prefixes = Object.values(SpanKind).map(() => new Map<string, Uint8Array>());
  private readonly keys = new Map<string, Uint8Array>();
  /** Microseconds from the Unix epoch to the origin of monotonic time. */
  private originUs: number;
  private chunks: SpanChunk[] = [];
  private chunkSpans = 0;
  private chunksBytes = 0;
  private filling = noBuffer;
  private readonly free: ChunkBuffer[] = [];
  /** The bytes of `filling`, of which the chunk being filled begins at `cutAt`. */
  private buffer = noBuffer.bytes;
  private cutAt = 0;
  private at = 0;
  /** Where the span being written begins. */
  private from = 0;
  private spans = 0;
  /** The last span: 25 bytes. */
  private readonly last = new Uint8Array(traceContextBytes);

  constructor(limits: SpanLimits, ids: IdSource) {
    this.limits = limits;
    this.ids = ids;
    this.originUs = Math.round(performance.timeOrigin * 1_000);
  }

  /** Spans that wait. */
  get length(): number {
    return this.chunkSpans + this.spans;
  }

  get bytes(): number {
    return this.chunksBytes + this.at - this.cutAt;
  }

  /** Follows a wall clock that was set; small corrections would only make spans of one trace disagree. */
  followClock(wallMs: number, monotonicMs: number, toleranceMs: number): void {
    const driftMs = wallMs - (this.originUs / 1_000 + monotonicMs);
    if (Math.abs(driftMs) > toleranceMs) this.originUs += Math.round(driftMs * 1_000);
  }

  /** False: there was no room for it. */
  write(span: SpanFields): boolean {
    const { parent, attributes, encoded, links, traceState, problem } = span;
    const extra =
      (attributes === undefined ? 0 : this.attributeBytes(attributes)) +
      (encoded === undefined ? 0 : encoded.length) +
      (links === undefined ? 0 : Math.min(links.length, this.limits.linksMax) * linkBytes + 8) +
      (traceState === undefined ? 0 : traceState.length * 3 + 4) +
      (problem === undefined ? 0 : Math.min(problem.length, this.limits.textMax) * 3 + 12);
    if (!this.open(span.name, span.kind, parent, span.isRoot === true, span.context, extra)) return false;
    this.times(span.startMs, span.endMs);
    if (traceState !== undefined) this.textField(0x1a, traceState);
    if (encoded !== undefined) {
      this.buffer.set(encoded, this.at);
      this.at += encoded.length;
    }
    if (attributes !== undefined) this.attributes(attributes);
    if (links !== undefined) this.links(links);
    if (problem !== undefined) this.status(problem);
    this.close();
    return true;
  }

  /** For attributes that many spans have. */
  encodeAttributes(attributes: SpanAttributes): Uint8Array {
    const { buffer, at } = this;
    this.buffer = new Uint8Array(this.attributeBytes(attributes));
    this.at = 0;
    this.attributes(attributes);
    const encoded = this.buffer.subarray(0, this.at);
    this.buffer = buffer;
    this.at = at;
    return encoded;
  }

  /** The usual span, without anything beyond its times: `write` for the hot path. */
  writePlain(name: string, kind: SpanKind, parent: Uint8Array, startMs: number, endMs: number): boolean {
    if (!this.open(name, kind, parent, false, undefined, 0)) return false;
    this.times(startMs, endMs);
    this.close();
    return true;
  }

  /** A child of the last span that was written. */
  writeBelow(name: string, startMs: number, endMs: number): boolean {
    const { last } = this;
    if (!this.open(name, SpanKind.internal, last, false, undefined, 0, true)) return false;
    this.times(startMs, endMs);
    this.close();
    return true;
  }

  /** Up to `spansMax` spans, at least one chunk of them; undefined when there are none. */
  take(spansMax: number): SpanBatch | undefined {
    if (this.spans > 0 && this.chunkSpans < spansMax) this.cut();
    const chunks: SpanChunk[] = [];
    let spans = 0;
    let bytes = 0;
    while (this.chunks.length > 0 && (spans === 0 || spans + this.chunks[0]!.spans <= spansMax)) {
      const chunk = this.chunks.shift()!;
      chunks.push(chunk);
      spans += chunk.spans;
      bytes += chunk.bytes.length;
    }
    this.chunkSpans -= spans;
    this.chunksBytes -= bytes;
    return spans === 0 ? undefined : { chunks, spans, bytes };
  }

  /** The batch has left, or is lost: nobody reads its bytes any more. */
  release(batch: SpanBatch): void {
    for (const { buffer } of batch.chunks) {
      buffer.chunks--;
      if (buffer !== this.filling) this.keep(buffer);
    }
  }

  /** Begins a span; false when there is no room. `keepLast`: the last one stays what it is. */
  private open(
    name: string,
    kind: SpanKind,
    parent: Uint8Array,
    isRoot: boolean,
    context: Uint8Array | undefined,
    extraBytes: number,
    keepLast = false,
  ): boolean {
    const { limits } = this;
    const prefix = this.prefix(name, kind);
    const need = fixedBytes + prefix.length + extraBytes;
    if (this.length >= limits.queueSpansMax || this.bytes + need > limits.queueBytesMax) {
      this.dropped++;
      return false;
    }
    if (this.buffer.length - this.at < need) this.nextBuffer(need);
    const { buffer, last } = this;
    this.from = this.at;
    let at = this.at;
    buffer[at] = 0x12;
    at += 1 + lengthBytes;
    buffer[at++] = 0x0a;
    buffer[at++] = 16;
    for (let i = 0; i < 16; i++) buffer[at + i] = parent[i]!;
    at += 16;
    if (!isRoot) {
      buffer[at++] = 0x22;
      buffer[at++] = 8;
      for (let i = 16; i < 24; i++) buffer[at++] = parent[i]!;
    }
    buffer[at++] = 0x12;
    buffer[at++] = 8;
    if (context === undefined) this.ids.spanId(buffer, at);
    else for (let i = 0; i < 8; i++) buffer[at + i] = context[16 + i]!;
    if (!keepLast) {
      for (let i = 0; i < 16; i++) last[i] = parent[i]!;
      for (let i = 0; i < 8; i++) last[16 + i] = buffer[at + i]!;
    }
    at += 8;
    // A call of `set` costs more than some twenty bytes do.
    for (let i = 0; i < prefix.length; i++) buffer[at + i] = prefix[i]!;
    this.at = at + prefix.length;
    return true;
  }

  private close(): void {
    this.length3(this.from + 1, this.at - this.from - 1 - lengthBytes);
    this.spans++;
    this.written++;
    if (this.spans >= this.limits.batchSpansMax) this.cut();
    if (this.length >= this.limits.batchSpansMax) this.onBatch();
  }

  private cut(): void {
    const bytes = this.buffer.subarray(this.cutAt, this.at);
    this.filling.chunks++;
    this.chunks.push({ bytes, spans: this.spans, buffer: this.filling });
    this.chunkSpans += this.spans;
    this.chunksBytes += bytes.length;
    this.cutAt = this.at;
    this.spans = 0;
  }

  private nextBuffer(need: number): void {
    if (this.spans > 0) this.cut();
    const full = this.filling;
    this.filling =
      need <= chunkBytes && this.free.length > 0
        ? this.free.pop()!
        : { bytes: new Uint8Array(Math.max(chunkBytes, need)), chunks: 0 };
    this.keep(full);
    this.buffer = this.filling.bytes;
    this.cutAt = 0;
    this.at = 0;
  }

  private keep(buffer: ChunkBuffer): void {
    if (buffer.chunks > 0 || buffer.bytes.length !== chunkBytes || this.free.length >= freeMax) return;
    this.free.push(buffer);
  }

  private times(startMs: number, endMs: number): void {
    this.buffer[this.at++] = 0x39;
    this.nanoseconds(startMs);
    this.buffer[this.at++] = 0x41;
    this.nanoseconds(endMs);
  }

  /** Microseconds fit a double exactly, nanoseconds would not. */
  private nanoseconds(monotonicMs: number): void {
    const us = this.originUs + Math.round(monotonicMs * 1_000);
    // Not by `%`: that of doubles is a call out of compiled code.
    const usHigh = Math.floor(us / 0x1_0000_0000);
    const product = (us - usHigh * 0x1_0000_0000) * 1_000;
    const carry = Math.floor(product / 0x1_0000_0000);
    const low = product - carry * 0x1_0000_0000;
    const high = usHigh * 1_000 + carry;
    const { buffer, at } = this;
    buffer[at] = low;
    buffer[at + 1] = low >>> 8;
    buffer[at + 2] = low >>> 16;
    buffer[at + 3] = low >>> 24;
    buffer[at + 4] = high;
    buffer[at + 5] = high >>> 8;
    buffer[at + 6] = high >>> 16;
    buffer[at + 7] = high >>> 24;
    this.at = at + 8;
  }

  private varint(value: number): void {
    this.at = putUint(this.buffer, this.at, value);
  }

  private textField(tag: number, text: string): void {
    const cut = text.length > this.limits.textMax ? text.slice(0, this.limits.textMax) : text;
    this.buffer[this.at++] = tag;
    const before = this.at;
    // Nearly all of them are ASCII and short: the encoder's call costs more than they do.
    this.varint(cut.length);
    for (let i = 0; i < cut.length; i++) {
      const code = cut.charCodeAt(i);
      if (code > 0x7f) {
        this.at = before;
        this.unicode(cut);
        return;
      }
      this.buffer[this.at++] = code;
    }
  }

  private unicode(text: string): void {
    const bytes = utf8(text);
    this.varint(bytes.length);
    this.buffer.set(bytes, this.at);
    this.at += bytes.length;
  }

  /** At most; keys are ours or bounded where they come in. */
  private attributeBytes(attributes: SpanAttributes): number {
    let bytes = 4;
    for (const key in attributes) {
      const value = attributes[key]!;
      const valueBytes = typeof value === 'string' ? Math.min(value.length, this.limits.textMax) * 3 + 4 : 10;
      bytes += key.length * 3 + valueBytes + 16;
    }
    return bytes;
  }

  private attributes(attributes: SpanAttributes): void {
    let count = 0;
    let over = 0;
    for (const key in attributes) {
      if (count++ >= this.limits.attributesMax) over++;
      else this.attribute(key, attributes[key]!);
    }
    if (over > 0) {
      this.buffer[this.at++] = 0x50;
      this.varint(over);
    }
  }

  /** KeyValue{1: key, 2: AnyValue{1: text, 2: bool, 3: int}} */
  private attribute(key: string, value: string | number | boolean): void {
    let encoded = this.keys.get(key);
    if (encoded === undefined) {
      const bytes = utf8(key);
      encoded = new Uint8Array(2 + bytes.length + (bytes.length > 127 ? 1 : 0));
      encoded[0] = 0x0a;
      if (bytes.length > 127) encoded.set([(bytes.length & 0x7f) | 0x80, bytes.length >> 7], 1);
      else encoded[1] = bytes.length;
      encoded.set(bytes, encoded.length - bytes.length);
      if (this.keys.size < prefixesMax) this.keys.set(key, encoded);
    }
    this.buffer[this.at] = 0x4a;
    const lengthAt = this.at + 1;
    this.at += 1 + lengthBytes;
    const bodyAt = this.at;
    this.buffer.set(encoded, this.at);
    this.at += encoded.length;
    this.buffer[this.at] = 0x12;
    const valueLengthAt = this.at + 1;
    this.at += 1 + lengthBytes;
    const valueAt = this.at;
    if (typeof value === 'string') this.textField(0x0a, value);
    else if (typeof value === 'boolean') {
      this.buffer[this.at++] = 0x10;
      this.buffer[this.at++] = value ? 1 : 0;
    } else {
      this.buffer[this.at++] = 0x18;
      this.varint(Math.max(0, Math.floor(value)));
    }
    this.length3(valueLengthAt, this.at - valueAt);
    this.length3(lengthAt, this.at - bodyAt);
  }

  private length3(at: number, length: number): void {
    this.buffer[at] = (length & 0x7f) | 0x80;
    this.buffer[at + 1] = ((length >> 7) & 0x7f) | 0x80;
    this.buffer[at + 2] = length >> 14;
  }

  private links(links: readonly Uint8Array[]): void {
    const count = Math.min(links.length, this.limits.linksMax);
    for (let i = 0; i < count; i++) {
      const link = links[i]!;
      const { buffer } = this;
      let { at } = this;
      buffer[at++] = 0x6a;
      buffer[at++] = 28;
      buffer[at++] = 0x0a;
      buffer[at++] = 16;
      for (let k = 0; k < 16; k++) buffer[at++] = link[k]!;
      buffer[at++] = 0x12;
      buffer[at++] = 8;
      for (let k = 16; k < 24; k++) buffer[at++] = link[k]!;
      this.at = at;
    }
    if (count === links.length) return;
    this.buffer[this.at++] = 0x70;
    this.varint(links.length - count);
  }

  /** Status{2: message, 3: code ERROR} */
  private status(message: string): void {
    this.buffer[this.at] = 0x7a;
    const lengthAt = this.at + 1;
    this.at += 1 + lengthBytes;
    const bodyAt = this.at;
    this.textField(0x12, message);
    this.buffer[this.at++] = 0x18;
    this.buffer[this.at++] = 2;
    this.length3(lengthAt, this.at - bodyAt);
  }

  /** Name and kind as they go out. */
  private prefix(name: string, kind: SpanKind): Uint8Array {
    const prefixes = this.prefixes[kind - 1]!;
    const known = prefixes.get(name);
    if (known !== undefined) return known;
    const bytes = utf8(name.length > 256 ? name.slice(0, 256) : name);
    const long = bytes.length > 127 ? 1 : 0;
    const prefix = new Uint8Array(bytes.length + 4 + long);
    prefix[0] = 0x2a;
    if (long === 1) prefix.set([(bytes.length & 0x7f) | 0x80, bytes.length >> 7], 1);
    else prefix[1] = bytes.length;
    prefix.set(bytes, 2 + long);
    prefix[prefix.length - 2] = 0x30;
    prefix[prefix.length - 1] = kind;
    if (prefixes.size < prefixesMax) prefixes.set(name, prefix);
    return prefix;
  }
}
