/** mvccpb.KeyValue and mvccpb.Event: encoded once at apply, then stored and spliced into responses as they are. */
import { emptyBytes } from '@quoin/base';
import { WireError, WireReader } from './wire-reader.ts';
import { idSize, intSize, putBytes, putId, putInt, putUint, uintSize, WireWriter } from './wire-writer.ts';

const writer = new WireWriter();

function bytesSize(length: number): number {
  return length === 0 ? 0 : 1 + uintSize(length) + length;
}

/**
 * One mvccpb.KeyValue. Revisions and version are counters; lease 0n is none. A tombstone's pair is
 * `encodeKeyValue(key, 0, modRevision, 0, emptyBytes, 0n)`.
 */
export function encodeKeyValue(
  key: Uint8Array,
  createRevision: number,
  modRevision: number,
  version: number,
  value: Uint8Array,
  lease: bigint,
): Uint8Array<ArrayBuffer> {
  // Tags, three counters, a lease and two lengths take 57 bytes at most.
  writer.begin(key.length + value.length + 57);
  const out = writer.buffer;
  let at = writer.pos;
  if (key.length !== 0) {
    out[at++] = 10;
    at = putBytes(out, putUint(out, at, key.length), key);
  }
  if (createRevision !== 0) {
    out[at++] = 16;
    at = putInt(out, at, createRevision);
  }
  if (modRevision !== 0) {
    out[at++] = 24;
    at = putInt(out, at, modRevision);
  }
  if (version !== 0) {
    out[at++] = 32;
    at = putInt(out, at, version);
  }
  if (value.length !== 0) {
    out[at++] = 42;
    at = putBytes(out, putUint(out, at, value.length), value);
  }
  if (lease !== 0n) {
    out[at++] = 48;
    at = putId(out, at, lease);
  }
  writer.pos = at;
  return writer.finish();
}

/** What `encodeKeyValue` would take, in bytes. */
export function keyValueSize(
  keyBytes: number,
  createRevision: number,
  modRevision: number,
  version: number,
  valueBytes: number,
  lease: bigint,
): number {
  return (
    bytesSize(keyBytes) +
    (createRevision === 0 ? 0 : 1 + intSize(createRevision)) +
    (modRevision === 0 ? 0 : 1 + intSize(modRevision)) +
    (version === 0 ? 0 : 1 + intSize(version)) +
    bytesSize(valueBytes) +
    (lease === 0n ? 0 : 1 + idSize(lease))
  );
}

/**
 * Looks into an encoded mvccpb.KeyValue without copying. Made once and pointed at one pair after the other:
 * key and value are the ranges [keyStart, keyEnd) and [valueStart, valueEnd) of `bytes`.
 */
export class KeyValueView {
  bytes: Uint8Array;
  keyStart: number;
  keyEnd: number;
  createRevision: number;
  modRevision: number;
  version: number;
  valueStart: number;
  valueEnd: number;
  lease: bigint;

  constructor() {
    this.bytes = emptyBytes;
    this.keyStart = 0;
    this.keyEnd = 0;
    this.createRevision = 0;
    this.modRevision = 0;
    this.version = 0;
    this.valueStart = 0;
    this.valueEnd = 0;
    this.lease = 0n;
  }

  /** Points at the pair in `bytes` from `start` to `end`. @throws WireError; the view is then unusable. */
  read(bytes: Uint8Array, start = 0, end = bytes.length): this {
    this.bytes = bytes;
    this.keyStart = this.keyEnd = 0;
    this.createRevision = 0;
    this.modRevision = 0;
    this.version = 0;
    this.valueStart = this.valueEnd = 0;
    this.lease = 0n;
    const reader = new WireReader(bytes, start, end);
    while (reader.more()) {
      const tag = reader.tag();
      switch (tag) {
        case 10:
          this.keyStart = reader.span();
          this.keyEnd = reader.pos;
          break;
        case 16:
          this.createRevision = reader.int53();
          break;
        case 24:
          this.modRevision = reader.int53();
          break;
        case 32:
          this.version = reader.int53();
          break;
        case 42:
          this.valueStart = reader.span();
          this.valueEnd = reader.pos;
          break;
        case 48:
          this.lease = reader.int64();
          break;
        default:
          reader.skip(tag);
      }
    }
    return this;
  }

  /** A view into `bytes`. */
  key(): Uint8Array {
    return this.bytes.subarray(this.keyStart, this.keyEnd);
  }

  /** A view into `bytes`. */
  value(): Uint8Array {
    return this.bytes.subarray(this.valueStart, this.valueEnd);
  }
}

export const EventType = { put: 0, delete: 1 } as const;
export type EventType = (typeof EventType)[keyof typeof EventType];

/** One mvccpb.Event around pairs that are encoded already. */
export function encodeEvent(
  type: EventType,
  kv: Uint8Array,
  prevKv: Uint8Array | undefined,
): Uint8Array<ArrayBuffer> {
  writer.begin(kv.length + (prevKv === undefined ? 0 : prevKv.length) + 24);
  const out = writer.buffer;
  let at = writer.pos;
  if (type !== EventType.put) {
    out[at++] = 8;
    out[at++] = type;
  }
  out[at++] = 18;
  at = putBytes(out, putUint(out, at, kv.length), kv);
  if (prevKv !== undefined) {
    out[at++] = 26;
    at = putBytes(out, putUint(out, at, prevKv.length), prevKv);
  }
  writer.pos = at;
  return writer.finish();
}

/** The parts of an encoded mvccpb.Event, as views. */
export interface EventView {
  type: EventType;
  /** Encoded mvccpb.KeyValue. */
  kv: Uint8Array;
  /** Encoded mvccpb.KeyValue. */
  prevKv: Uint8Array | undefined;
}

/** Reads an event that a member made. @throws WireError */
export function readEvent(bytes: Uint8Array): EventView {
  const reader = new WireReader(bytes);
  const into: EventView = { type: EventType.put, kv: emptyBytes, prevKv: undefined };
  while (reader.more()) {
    const tag = reader.tag();
    if (tag === 8) {
      const type = reader.uint32();
      if (type !== EventType.put && type !== EventType.delete) throw new WireError(`event type ${type}`);
      into.type = type;
    } else if (tag === 18) {
      into.kv = reader.bytes();
    } else if (tag === 26) {
      into.prevKv = reader.bytes();
    } else {
      reader.skip(tag);
    }
  }
  return into;
}
