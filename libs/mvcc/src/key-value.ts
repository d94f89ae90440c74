/**
 * mvccpb.KeyValue and mvccpb.Event as bytes. The fields are always written in number order, so that the bytes up to
 * `version` are a KeyValue of their own: what keys_only answers, and what is kept of a large version beside its value.
 *
 *   KeyValue: 0a key · 10 create_revision · 18 mod_revision · 20 version · 2a value · 30 lease
 *   Event:    [08 01 when DELETE] · 12 kv · 1a prev_kv
 */
import { idSize, putId, putUint, uintSize } from '@quoin/contracts';

/** Bytes of a KeyValue. Value and lease may be empty and 0n. */
export function keyValueSize(
  key: Uint8Array,
  createRevision: number,
  modRevision: number,
  version: number,
  value: Uint8Array,
  lease: bigint,
): number {
  let n = 1 + uintSize(key.length) + key.length;
  n += 3 + uintSize(createRevision) + uintSize(modRevision) + uintSize(version);
  if (value.length !== 0) n += 1 + uintSize(value.length) + value.length;
  if (lease !== 0n) n += 1 + idSize(lease);
  return n;
}

/** Writes a KeyValue and returns the position after it. */
export function putKeyValue(
  out: Uint8Array,
  at: number,
  key: Uint8Array,
  createRevision: number,
  modRevision: number,
  version: number,
  value: Uint8Array,
  lease: bigint,
): number {
  out[at++] = 0x0a;
  at = putUint(out, at, key.length);
  out.set(key, at);
  at += key.length;
  out[at++] = 0x10;
  at = putUint(out, at, createRevision);
  out[at++] = 0x18;
  at = putUint(out, at, modRevision);
  out[at++] = 0x20;
  at = putUint(out, at, version);
  if (value.length !== 0) {
    out[at++] = 0x2a;
    at = putUint(out, at, value.length);
    out.set(value, at);
    at += value.length;
  }
  if (lease !== 0n) {
    out[at++] = 0x30;
    at = putId(out, at, lease);
  }
  return at;
}

/** The kv of a DELETE event: key and mod_revision only. */
export function deletedSize(key: Uint8Array, modRevision: number): number {
  return 2 + uintSize(key.length) + key.length + uintSize(modRevision);
}

export function putDeleted(out: Uint8Array, at: number, key: Uint8Array, modRevision: number): number {
  out[at++] = 0x0a;
  at = putUint(out, at, key.length);
  out.set(key, at);
  at += key.length;
  out[at++] = 0x18;
  return putUint(out, at, modRevision);
}

/** The fields of a stored KeyValue: one reader is reused, so that parsing allocates nothing. */
export class KeyValueReader {
  keyStart = 0;
  keyEnd = 0;
  createRevision = 0;
  modRevision = 0;
  version = 0;
  /** End of `version`: the bytes before are the KeyValue without value and lease. */
  headEnd = 0;
  valueStart = 0;
  valueEnd = 0;
  /** Where the lease varint begins; 0: none. */
  leaseStart = 0;

  private bytes: Uint8Array = new Uint8Array(0);
  private at = 0;

  /** The key only: all that the kv of a DELETE event surely has. */
  readKey(bytes: Uint8Array, start = 0): void {
    this.bytes = bytes;
    this.at = start + 1;
    const keyLength = this.uint();
    this.keyStart = this.at;
    this.keyEnd = this.at + keyLength;
  }

  /** Key and counters only, of bytes that this lib wrote. */
  readHead(bytes: Uint8Array, start = 0): void {
    this.readKey(bytes, start);
    this.at = this.keyEnd + 1;
    this.createRevision = this.uint();
    this.at++;
    this.modRevision = this.uint();
    this.at++;
    this.version = this.uint();
    this.headEnd = this.at;
  }

  /** Everything of a complete KeyValue that ends at `end`. */
  read(bytes: Uint8Array, end = bytes.length): void {
    this.readHead(bytes);
    this.valueStart = this.at;
    this.valueEnd = this.at;
    this.leaseStart = 0;
    if (this.at < end && bytes[this.at] === 0x2a) {
      this.at++;
      const valueLength = this.uint();
      this.valueStart = this.at;
      this.valueEnd = this.at + valueLength;
      this.at = this.valueEnd;
    }
    if (this.at < end && bytes[this.at] === 0x30) this.leaseStart = this.at + 1;
  }

  /** Signed, as in mvccpb; after `read`. */
  lease(): bigint {
    if (this.leaseStart === 0) return 0n;
    let value = 0n;
    let shift = 0n;
    for (let i = this.leaseStart; ; i++) {
      const byte = this.bytes[i]!;
      value |= BigInt(byte & 0x7f) << shift;
      if (byte < 0x80) return BigInt.asIntN(64, value);
      shift += 7n;
    }
  }

  private uint(): number {
    const bytes = this.bytes;
    let at = this.at;
    let byte = bytes[at++]!;
    let value = byte & 0x7f;
    let scale = 128;
    while (byte >= 0x80) {
      byte = bytes[at++]!;
      value += (byte & 0x7f) * scale;
      scale *= 128;
    }
    this.at = at;
    return value;
  }
}

/** Where the kv begins inside an encoded Event that this lib wrote. */
export function eventKvStart(event: Uint8Array): number {
  let at = event[0] === 0x08 ? 3 : 1;
  while (event[at]! >= 0x80) at++;
  return at + 1;
}

/** The kv inside an encoded Event, with or without prev_kv. */
export function eventKv(event: Uint8Array): Uint8Array {
  let at = event[0] === 0x08 ? 3 : 1;
  let length = 0;
  for (let scale = 1; ; scale *= 128) {
    const byte = event[at++]!;
    length += (byte & 0x7f) * scale;
    if (byte < 0x80) return event.subarray(at, at + length);
  }
}

/** An Event with prev_kv added. */
export function withPrevKv(event: Uint8Array, prevKv: Uint8Array): Uint8Array {
  const out = new Uint8Array(event.length + 1 + uintSize(prevKv.length) + prevKv.length);
  out.set(event, 0);
  out[event.length] = 0x1a;
  out.set(prevKv, putUint(out, event.length + 1, prevKv.length));
  return out;
}

/** A PUT event around complete KeyValue bytes. */
export function putEvent(kv: Uint8Array): Uint8Array {
  const out = new Uint8Array(1 + uintSize(kv.length) + kv.length);
  out[0] = 0x12;
  out.set(kv, putUint(out, 1, kv.length));
  return out;
}

/** KeyValue bytes without the value, with the lease. */
export function withoutValue(kv: Uint8Array, reader: KeyValueReader): Uint8Array {
  reader.read(kv);
  const out = new Uint8Array(reader.headEnd + kv.length - reader.valueEnd);
  out.set(kv.subarray(0, reader.headEnd), 0);
  out.set(kv.subarray(reader.valueEnd), reader.headEnd);
  return out;
}
