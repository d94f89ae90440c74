import { utf8 } from '@quoin/base';
import { split, splitHigh, splitLow } from './bits64.ts';
import type { WireType } from './wire-reader.ts';

/** A message takes its bytes from a slab of this size; larger ones get a buffer of their own. */
export const slabBytesDefault = 64 * 1024;

/** Bytes of a varint for a non-negative safe integer. */
export function uintSize(value: number): number {
  if (value < 0x80) return 1;
  if (value < 0x4000) return 2;
  if (value < 0x20_0000) return 3;
  if (value < 0x1000_0000) return 4;
  if (value < 0x8_0000_0000) return 5;
  if (value < 0x400_0000_0000) return 6;
  if (value < 0x2_0000_0000_0000) return 7;
  return 8;
}

/** Bytes of an int64 varint: a negative number takes ten. */
export function intSize(value: number): number {
  return value < 0 ? 10 : uintSize(value);
}

/** Bytes of the varint of a 64-bit identity, signed or not. */
export function idSize(value: bigint): number {
  split(value);
  return splitHigh === 0 ? uintSize(splitLow) : Math.floor((64 - Math.clz32(splitHigh) + 6) / 7);
}

/** Writes a varint of a non-negative safe integer at `at` and returns the position after it. */
export function putUint(out: Uint8Array, at: number, value: number): number {
  // Above 2^31 bit operations would wrap; `value & 0x7f` is right for any safe integer.
  while (value >= 0x8000_0000) {
    out[at++] = (value & 0x7f) | 0x80;
    value = Math.floor(value / 128);
  }
  while (value >= 0x80) {
    out[at++] = (value & 0x7f) | 0x80;
    value >>>= 7;
  }
  out[at++] = value;
  return at;
}

export function putInt(out: Uint8Array, at: number, value: number): number {
  if (value >= 0) return putUint(out, at, value);
  return putHalves(out, at, value >>> 0, Math.floor(value / 0x1_0000_0000) >>> 0);
}

export function putId(out: Uint8Array, at: number, value: bigint): number {
  split(value);
  return putHalves(out, at, splitLow, splitHigh);
}

function putHalves(out: Uint8Array, at: number, low: number, high: number): number {
  while (high !== 0) {
    out[at++] = (low & 0x7f) | 0x80;
    low = ((low >>> 7) | (high << 25)) >>> 0;
    high >>>= 7;
  }
  return putUint(out, at, low);
}

/** Copies `bytes` to `at` and returns the position after it. */
export function putBytes(out: Uint8Array, at: number, bytes: Uint8Array): number {
  const n = bytes.length;
  // A loop beats the call of `set` only on the shortest pieces.
  if (n <= 12) for (let i = 0; i < n; i++) out[at + i] = bytes[i]!;
  else out.set(bytes, at);
  return at + n;
}

/** The tag of a field: its number and how it is encoded. */
export function wireTag(field: number, type: WireType): number {
  return field * 8 + type;
}

/**
 * Writes one message after the other: `begin`, fields in order of their numbers, `finish`. Messages are cut from a
 * shared slab, because a typed array of its own costs seven times as much as a message of 300 bytes. So a message kept
 * for long keeps its slab (64 KiB) alive: copy it.
 *
 * Fields with their default value (0, false, empty) are left out, as proto3 demands; the `…Item` methods write always,
 * for the items of a repeated field. `tag` is field number × 8 + wire type.
 *
 *     slab  |— finished messages, never touched again —|— the open one —|………|
 *                                                    start             pos
 *
 * Not re-entrant: between `begin` and `finish` only this message may be written.
 */
export class WireWriter {
  /** Where the open message is being written; replaced when it grows. */
  buffer: Uint8Array<ArrayBuffer>;
  pos: number;
  private start: number;
  private readonly slabBytes: number;

  constructor(slabBytes = slabBytesDefault) {
    this.buffer = new Uint8Array(0);
    this.pos = 0;
    this.start = 0;
    this.slabBytes = slabBytes;
  }

  /** Starts a message. With its exact or greatest size in `bytes`, nothing is moved later. */
  begin(bytes = 256): void {
    if (bytes > this.buffer.length - this.pos) {
      this.buffer = new Uint8Array(bytes * 2 > this.slabBytes ? bytes : this.slabBytes);
      this.pos = 0;
    }
    this.start = this.pos;
  }

  finish(): Uint8Array<ArrayBuffer> {
    return new Uint8Array(this.buffer.buffer, this.start, this.pos - this.start);
  }

  /** Finishes what was written so far as one piece and goes on with the next in the room that `begin` made. */
  cut(): Uint8Array<ArrayBuffer> {
    const piece = this.finish();
    this.start = this.pos;
    return piece;
  }

  /** Length of the open message so far. */
  length(): number {
    return this.pos - this.start;
  }

  /** Makes room for `bytes` more at `pos`. */
  room(bytes: number): void {
    if (bytes <= this.buffer.length - this.pos) return;
    const length = this.pos - this.start;
    const needed = (length + bytes) * 2;
    const grown = new Uint8Array(Math.max(needed, this.slabBytes));
    grown.set(this.buffer.subarray(this.start, this.pos));
    this.buffer = grown;
    this.start = 0;
    this.pos = length;
  }

  /** A uint32 or uint64 counter, non-negative. */
  uint(tag: number, value: number): void {
    if (value !== 0) this.uintItem(tag, value);
  }

  uintItem(tag: number, value: number): void {
    this.room(13);
    this.pos = putUint(this.buffer, putUint(this.buffer, this.pos, tag), value);
  }

  /** An int64 counter, or an enum. */
  int(tag: number, value: number): void {
    if (value === 0) return;
    this.room(15);
    this.pos = putInt(this.buffer, putUint(this.buffer, this.pos, tag), value);
  }

  /** A varint identity, signed or unsigned. */
  id(tag: number, value: bigint): void {
    if (value === 0n) return;
    this.room(15);
    this.pos = putId(this.buffer, putUint(this.buffer, this.pos, tag), value);
  }

  bool(tag: number, value: boolean): void {
    if (value) this.uintItem(tag, 1);
  }

  fixed32(tag: number, value: number): void {
    if (value === 0) return;
    this.room(9);
    const at = putUint(this.buffer, this.pos, tag);
    this.putWord(at, value);
    this.pos = at + 4;
  }

  fixed64(tag: number, value: bigint): void {
    if (value === 0n) return;
    this.room(13);
    this.pos = putUint(this.buffer, this.pos, tag);
    this.putFixed64(value);
  }

  bytes(tag: number, value: Uint8Array): void {
    if (value.length !== 0) this.bytesItem(tag, value);
  }

  bytesItem(tag: number, value: Uint8Array): void {
    this.room(10 + value.length);
    const at = putUint(this.buffer, putUint(this.buffer, this.pos, tag), value.length);
    this.pos = putBytes(this.buffer, at, value);
  }

  text(tag: number, value: string): void {
    if (value.length !== 0) this.textItem(tag, value);
  }

  textItem(tag: number, value: string): void {
    const n = value.length;
    this.room(10 + n);
    const out = this.buffer;
    let at = putUint(out, putUint(out, this.pos, tag), n);
    for (let i = 0; i < n; i++) {
      const c = value.charCodeAt(i);
      // Not ASCII after all: `pos` has not moved, so what was written is simply written over.
      if (c >= 0x80) return this.bytesItem(tag, utf8(value));
      out[at++] = c;
    }
    this.pos = at;
  }

  /** Bytes as they are: fields that were encoded elsewhere. */
  raw(value: Uint8Array): void {
    this.room(value.length);
    this.pos = putBytes(this.buffer, this.pos, value);
  }

  /** Packed list of counters. */
  packedUint(tag: number, values: readonly number[]): void {
    if (values.length === 0) return;
    let length = 0;
    for (const value of values) length += uintSize(value);
    this.room(10 + length);
    let at = putUint(this.buffer, putUint(this.buffer, this.pos, tag), length);
    for (const value of values) at = putUint(this.buffer, at, value);
    this.pos = at;
  }

  /** Packed list of fixed 64-bit identities. */
  packedFixed64(tag: number, values: readonly bigint[]): void {
    if (values.length === 0) return;
    const length = values.length * 8;
    this.room(10 + length);
    this.pos = putUint(this.buffer, putUint(this.buffer, this.pos, tag), length);
    for (const value of values) this.putFixed64(value);
  }

  /**
   * Begins a nested message whose length is not known yet. Room for the length is left as for `expected` bytes; a
   * wrong guess costs one move of the message, never a wrong encoding. Returns the mark that `close` wants.
   */
  open(tag: number, expected: number): number {
    this.room(10 + expected);
    const at = putUint(this.buffer, this.pos, tag);
    this.pos = at + uintSize(expected);
    return at - this.start;
  }

  /** Ends the nested message of that mark. `expected` as given to `open`. */
  close(mark: number, expected: number): void {
    const reserved = uintSize(expected);
    const length = this.pos - this.start - mark - reserved;
    const shift = uintSize(length) - reserved;
    if (shift !== 0) {
      if (shift > 0) this.room(shift);
      const body = this.start + mark + reserved;
      this.buffer.copyWithin(body + shift, body, body + length);
      this.pos += shift;
    }
    putUint(this.buffer, this.start + mark, length);
  }

  private putWord(at: number, value: number): void {
    const out = this.buffer;
    out[at] = value;
    out[at + 1] = value >>> 8;
    out[at + 2] = value >>> 16;
    out[at + 3] = value >>> 24;
  }

  /** Room has been made. */
  private putFixed64(value: bigint): void {
    split(value);
    this.putWord(this.pos, splitLow);
    this.putWord(this.pos + 4, splitHigh);
    this.pos += 8;
  }
}
