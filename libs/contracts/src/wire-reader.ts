import { emptyBytes, utf8Text } from '@quoin/base';
import { joinSigned, joinUnsigned } from './bits64.ts';

/** The bytes are not a message of the expected form. The only error that readers and decoders throw. */
export class WireError extends Error {
  override readonly name = 'WireError';
}

/** Kinds of encoding on the wire. 3 and 4 are the ends of a group, which is passed over; 6 and 7 do not exist. */
export const WireType = { varint: 0, fixed64: 1, bytes: 2, fixed32: 5 } as const;
export type WireType = (typeof WireType)[keyof typeof WireType];

const groupBegin = 3;
const groupEnd = 4;

/**
 * Messages inside messages. A txn may nest as deep as it may have operations (128), each level being two messages;
 * beyond this the input is an attack on the stack.
 */
export const wireDepthMax = 300;

/**
 * Reads one message front to back. A cursor (`pos`) moves inside a window (`end`); entering a nested message narrows
 * the window, leaving restores it, so no object is made per level:
 *
 *     while (reader.more()) {
 *       const tag = reader.tag();
 *       switch (tag) {
 *         case 10: key = reader.bytes(); break;      // field 1, length-delimited: 1 << 3 | 2
 *         default: reader.skip(tag);                 // unknown field, or a known one in a foreign encoding
 *       }
 *     }
 *
 * A tag holds field number and wire type, so a known field with another wire type is skipped as unknown: what Go does.
 * Every method throws WireError on malformed input and never reads outside the window.
 */
export class WireReader {
  readonly buffer: Uint8Array;
  pos: number;
  end: number;
  private depth: number;
  /** Halves of the last `varint64`. */
  private lo: number;
  private hi: number;

  constructor(buffer: Uint8Array, start = 0, end = buffer.length) {
    this.buffer = buffer;
    this.pos = start;
    this.end = end;
    this.depth = 0;
    this.lo = 0;
    this.hi = 0;
  }

  more(): boolean {
    return this.pos < this.end;
  }

  /** Field number × 8 + wire type. */
  tag(): number {
    if (this.pos >= this.end) throw new WireError('message ends inside a tag');
    const first = this.buffer[this.pos]!;
    if (first < 0x80) {
      this.pos++;
      return first;
    }
    this.varint64();
    if (this.hi !== 0) throw new WireError('field number out of range');
    return this.lo;
  }

  /** Low 32 bits, unsigned: for uint32. */
  uint32(): number {
    this.varint64();
    return this.lo;
  }

  /** Low 32 bits, signed: for enums and int32. */
  int32(): number {
    this.varint64();
    return this.lo | 0;
  }

  bool(): boolean {
    this.varint64();
    return (this.lo | this.hi) !== 0;
  }

  /** A uint64 counter. @throws WireError at 2^53 and beyond. */
  uint53(): number {
    if (this.pos < this.end && this.buffer[this.pos]! < 0x80) return this.buffer[this.pos++]!;
    this.varint64();
    if (this.hi >= 0x20_0000) throw new WireError('counter beyond 2^53');
    return this.hi * 0x1_0000_0000 + this.lo;
  }

  /** An int64 counter of ours. @throws WireError beyond ±(2^53 − 1). */
  int53(): number {
    const value = this.int64Rounded();
    if (!Number.isSafeInteger(value)) throw new WireError('counter beyond 2^53');
    return value;
  }

  /**
   * An int64 that a client chose and that is only compared with counters of ours (revision, limit, TTL). What does not
   * fit becomes ±(2^53 − 1), which no counter ever reaches: every comparison comes out as with the true value.
   */
  int53Clamped(): number {
    const value = this.int64Rounded();
    return Math.max(Number.MIN_SAFE_INTEGER, Math.min(Number.MAX_SAFE_INTEGER, value));
  }

  /** An int64 that must come back as it was, and nearly always is small: a bigint only beyond ±(2^53 − 1). */
  int64Exact(): number | bigint {
    const value = this.int64Rounded();
    return Number.isSafeInteger(value) ? value : joinSigned(this.lo, this.hi);
  }

  /** An int64 identity such as a lease. */
  int64(): bigint {
    this.varint64();
    if ((this.lo | this.hi) === 0) return 0n;
    return joinSigned(this.lo, this.hi);
  }

  /** A uint64 identity. */
  uint64(): bigint {
    this.varint64();
    if ((this.lo | this.hi) === 0) return 0n;
    return joinUnsigned(this.lo, this.hi);
  }

  fixed32(): number {
    const at = this.take(4);
    const b = this.buffer;
    return (b[at]! | (b[at + 1]! << 8) | (b[at + 2]! << 16) | (b[at + 3]! << 24)) >>> 0;
  }

  fixed64(): bigint {
    const lo = this.fixed32();
    const hi = this.fixed32();
    if ((lo | hi) === 0) return 0n;
    return joinUnsigned(lo, hi);
  }

  /** A view, not a copy: it keeps the whole buffer alive. */
  bytes(): Uint8Array {
    const length = this.length();
    if (length === 0) return emptyBytes;
    const at = this.pos;
    this.pos = at + length;
    return new Uint8Array(this.buffer.buffer, this.buffer.byteOffset + at, length);
  }

  /** Passes over a bytes field and returns where it began; it ends at `pos`. For readers that keep offsets. */
  span(): number {
    const length = this.length();
    const at = this.pos;
    this.pos = at + length;
    return at;
  }

  /** Invalid UTF-8 becomes U+FFFD. */
  text(): string {
    const length = this.length();
    const b = this.buffer;
    const start = this.pos;
    const end = start + length;
    this.pos = end;
    let text = '';
    // The decoder's call costs more than a short ASCII name.
    if (length > 24) return utf8Text(b.subarray(start, end));
    for (let i = start; i < end; i++) {
      const c = b[i]!;
      if (c >= 0x80) return utf8Text(b.subarray(start, end));
      text += String.fromCharCode(c);
    }
    return text;
  }

  /** Narrows the window to the nested message that begins here and returns the outer end for `leave`. */
  enter(): number {
    const length = this.length();
    if (++this.depth > wireDepthMax) throw new WireError(`messages nested deeper than ${wireDepthMax}`);
    const outer = this.end;
    this.end = this.pos + length;
    return outer;
  }

  leave(outer: number): void {
    this.depth--;
    this.end = outer;
  }

  /** Passes over the value of a field that the reader does not know. */
  skip(tag: number): void {
    if (tag >>> 3 === 0) throw new WireError('field number 0');
    switch (tag & 7) {
      case WireType.varint:
        this.varint64();
        return;
      case WireType.fixed64:
        this.take(8);
        return;
      case WireType.bytes: {
        const length = this.length();
        this.pos += length;
        return;
      }
      case WireType.fixed32:
        this.take(4);
        return;
      case groupBegin:
        this.skipGroup(tag >>> 3);
        return;
      default:
        throw new WireError(`wire type ${tag & 7} is not supported`);
    }
  }

  /** Up to the end of the group that has begun. Nobody sends them today, but they are no reason to refuse a message. */
  private skipGroup(field: number): void {
    if (++this.depth > wireDepthMax) throw new WireError(`messages nested deeper than ${wireDepthMax}`);
    for (;;) {
      const tag = this.tag();
      if ((tag & 7) !== groupEnd) this.skip(tag);
      else if (tag >>> 3 === field) break;
      else throw new WireError('another group ends than has begun');
    }
    this.depth--;
  }

  private int64Rounded(): number {
    if (this.pos < this.end && this.buffer[this.pos]! < 0x80) return this.buffer[this.pos++]!;
    this.varint64();
    return (this.hi | 0) * 0x1_0000_0000 + this.lo;
  }

  /** A length that fits into what is left of the window. */
  private length(): number {
    if (this.pos < this.end && this.buffer[this.pos]! < 0x80) this.lo = this.buffer[this.pos++]!;
    else {
      this.varint64();
      if (this.hi !== 0) throw new WireError('length out of range');
    }
    if (this.lo > this.end - this.pos) throw new WireError('message ends inside a field');
    return this.lo;
  }

  private take(count: number): number {
    const at = this.pos;
    if (count > this.end - at) throw new WireError('message ends inside a field');
    this.pos = at + count;
    return at;
  }

  /** Any varint of up to ten bytes, as two unsigned halves in `lo` and `hi`. */
  private varint64(): void {
    const b = this.buffer;
    const end = this.end;
    let pos = this.pos;
    let lo = 0;
    let hi = 0;
    let shift = 0;
    for (;;) {
      if (pos >= end) throw new WireError('message ends inside a varint');
      const byte = b[pos++]!;
      const bits = byte & 0x7f;
      if (shift < 28) lo |= bits << shift;
      else if (shift === 28) {
        lo |= bits << 28;
        hi = bits >>> 4;
      } else {
        if (shift === 63 && byte > 1) throw new WireError('varint longer than 64 bits');
        hi |= bits << (shift - 32);
      }
      if (byte < 0x80) break;
      shift += 7;
    }
    this.pos = pos;
    this.lo = lo >>> 0;
    this.hi = hi >>> 0;
  }
}
