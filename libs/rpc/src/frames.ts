/** HTTP/2 frames on the wire (RFC 9113 §4 and §6), and the buffer that collects them for one socket write a turn. */
import { giveBack, lendBlock, noBlock } from './block-pool.ts';

export const FrameType = {
  data: 0,
  headers: 1,
  priority: 2,
  rstStream: 3,
  settings: 4,
  pushPromise: 5,
  ping: 6,
  goAway: 7,
  windowUpdate: 8,
  continuation: 9,
} as const;

export const Flag = { endStream: 0x1, ack: 0x1, endHeaders: 0x4, padded: 0x8, priority: 0x20 } as const;

export const ErrorCode = {
  noError: 0,
  protocolError: 1,
  internalError: 2,
  flowControlError: 3,
  settingsTimeout: 4,
  streamClosed: 5,
  frameSizeError: 6,
  refusedStream: 7,
  cancel: 8,
  compressionError: 9,
  connectError: 10,
  enhanceYourCalm: 11,
  inadequateSecurity: 12,
  http11Required: 13,
} as const;
export type ErrorCode = (typeof ErrorCode)[keyof typeof ErrorCode];

export const Setting = {
  headerTableSize: 1,
  enablePush: 2,
  maxConcurrentStreams: 3,
  initialWindowSize: 4,
  maxFrameSize: 5,
  maxHeaderListSize: 6,
} as const;

export const frameHeaderBytes = 9;
/** Of a gRPC message: a flag and a length. */
export const messagePrefixBytes = 5;
export const defaultFrameBytesMax = 16_384;
export const defaultWindowBytes = 65_535;
export const windowBytesMax = 0x7fff_ffff;

/** What a client sends first (RFC 9113 §3.4). */
export const clientPreface = 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n';

// What was taken is never written again before `reuse`; the rest of the block is filled further unless it is too little.
const blockRestBytesMin = 2_048;
// Full blocks that are held until `reuse`. Whoever never calls it has taken them for good.
const fullBlocksMax = 4;
// Pieces from here on are handed over by reference instead of being copied into the block.
const referenceBytesMin = 8_192;

/** A 31-bit number: a stream id, a window increment. The high bit is reserved. */
export function readU31(bytes: Uint8Array, at: number): number {
  return ((bytes[at]! & 0x7f) << 24) | (bytes[at + 1]! << 16) | (bytes[at + 2]! << 8) | bytes[at + 3]!;
}

/** What stands before a gRPC message that is not compressed. */
export function messagePrefix(bytes: number): Uint8Array {
  return Uint8Array.of(0, bytes >>> 24, bytes >>> 16, bytes >>> 8, bytes);
}

/** Frames of one connection in order, as few chunks as possible. */
export class FrameWriter {
  /** Lent from the first write on, until `reuse`. */
  private block: Uint8Array<ArrayBuffer> = noBlock;
  private full: Uint8Array<ArrayBuffer>[] = [];
  private from = 0;
  private at = 0;
  private chunks: Uint8Array[] = [];
  private bytes = 0;
  /** Whose DATA frame ends where writing goes on, and where that one begins. 0: nobody's. */
  private openId = 0;
  private openBlock: Uint8Array = noBlock;
  private openAt = 0;
  private openBytes = 0;

  /** Bytes written and not taken. */
  get length(): number {
    return this.bytes;
  }

  /** All that was written since the last call. The chunks are the receiver's, until he calls `reuse`. */
  take(): Uint8Array[] {
    this.close();
    this.openId = 0;
    const chunks = this.chunks;
    this.chunks = [];
    this.bytes = 0;
    if (this.at > 0 && this.block.length - this.at < blockRestBytesMin) this.setAside(noBlock);
    return chunks;
  }

  /** Nobody reads any more what was taken: the memory is everybody's again. */
  reuse(): void {
    if (this.bytes > 0) return;
    giveBack(this.block);
    this.block = noBlock;
    this.from = 0;
    this.at = 0;
    if (this.full.length === 0) return;
    for (const block of this.full) giveBack(block);
    this.full = [];
  }

  /**
   * What `length` bytes of a body that goes on stand behind: a frame of their own, or the one before when that is the same
   * stream's and has room for all of them.
   */
  data(frameBytesMax: number, streamId: number, length: number): void {
    if (this.openId !== streamId || this.openBytes + length > frameBytesMax) {
      this.header(length, FrameType.data, 0, streamId);
      this.openId = streamId;
      this.openBlock = this.block;
      this.openAt = this.at - frameHeaderBytes;
      this.openBytes = length;
      return;
    }
    const all = this.openBytes + length;
    this.openBytes = all;
    this.openBlock[this.openAt] = all >>> 16;
    this.openBlock[this.openAt + 1] = all >>> 8;
    this.openBlock[this.openAt + 2] = all;
  }

  header(length: number, type: number, flags: number, streamId: number): void {
    this.openId = 0;
    this.reserve(frameHeaderBytes);
    const b = this.block;
    const o = this.at;
    b[o] = length >>> 16;
    b[o + 1] = length >>> 8;
    b[o + 2] = length;
    b[o + 3] = type;
    b[o + 4] = flags;
    b[o + 5] = streamId >>> 24;
    b[o + 6] = streamId >>> 16;
    b[o + 7] = streamId >>> 8;
    b[o + 8] = streamId;
    this.at = o + frameHeaderBytes;
    this.bytes += frameHeaderBytes;
  }

  /** As `messagePrefix`. */
  prefix(messageBytes: number): void {
    this.reserve(messagePrefixBytes);
    const b = this.block;
    const o = this.at;
    b[o] = 0;
    b[o + 1] = messageBytes >>> 24;
    b[o + 2] = messageBytes >>> 16;
    b[o + 3] = messageBytes >>> 8;
    b[o + 4] = messageBytes;
    this.at = o + messagePrefixBytes;
    this.bytes += messagePrefixBytes;
  }

  u32(value: number): void {
    this.reserve(4);
    const b = this.block;
    const o = this.at;
    b[o] = value >>> 24;
    b[o + 1] = value >>> 16;
    b[o + 2] = value >>> 8;
    b[o + 3] = value;
    this.at = o + 4;
    this.bytes += 4;
  }

  u16(value: number): void {
    this.reserve(2);
    this.block[this.at] = value >>> 8;
    this.block[this.at + 1] = value;
    this.at += 2;
    this.bytes += 2;
  }

  raw(piece: Uint8Array): void {
    if (piece.length >= referenceBytesMin) {
      this.close();
      this.chunks.push(piece);
    } else {
      const n = piece.length;
      this.reserve(n);
      // A loop beats the call of `set` only on the shortest pieces.
      if (n > 12) this.block.set(piece, this.at);
      else for (let i = 0; i < n; i++) this.block[this.at + i] = piece[i]!;
      this.at += n;
    }
    this.bytes += piece.length;
  }

  /** HEADERS, and CONTINUATION where the block is longer than the peer's frames. */
  headers(frameBytesMax: number, id: number, block: Uint8Array, end: boolean): void {
    const flags = end ? Flag.endStream : 0;
    if (block.length <= frameBytesMax) {
      this.header(block.length, FrameType.headers, flags | Flag.endHeaders, id);
      this.raw(block);
      return;
    }
    for (let at = 0; at < block.length; at += frameBytesMax) {
      const part = block.subarray(at, at + frameBytesMax);
      const last = at + part.length === block.length ? Flag.endHeaders : 0;
      if (at === 0) this.header(part.length, FrameType.headers, flags | last, id);
      else this.header(part.length, FrameType.continuation, last, id);
      this.raw(part);
    }
  }

  settings(settings: readonly (readonly [setting: number, value: number])[]): void {
    this.header(settings.length * 6, FrameType.settings, 0, 0);
    for (const [setting, value] of settings) {
      this.u16(setting);
      this.u32(value);
    }
  }

  reset(id: number, code: ErrorCode): void {
    this.header(4, FrameType.rstStream, 0, id);
    this.u32(code);
  }

  windowUpdate(id: number, bytes: number): void {
    this.header(4, FrameType.windowUpdate, 0, id);
    this.u32(bytes);
  }

  /** `mark` is what the answer will carry. */
  ping(mark: number): void {
    this.header(8, FrameType.ping, 0, 0);
    this.u32(0);
    this.u32(mark);
  }

  goAway(lastStreamId: number, code: ErrorCode, message: string): void {
    const text = Uint8Array.from(message.slice(0, 200), (c) => c.charCodeAt(0) & 0x7f);
    this.header(8 + text.length, FrameType.goAway, 0, 0);
    this.u32(lastStreamId);
    this.u32(code);
    this.raw(text);
  }

  private reserve(bytes: number): void {
    if (this.at + bytes <= this.block.length) return;
    this.close();
    this.setAside(lendBlock(this.block));
  }

  /** The block has no room any more: goes on in `next`. */
  private setAside(next: Uint8Array<ArrayBuffer>): void {
    if (this.at > 0 && this.full.length < fullBlocksMax) this.full.push(this.block);
    this.block = next;
    this.from = 0;
    this.at = 0;
  }

  private close(): void {
    if (this.at > this.from) this.chunks.push(this.block.subarray(this.from, this.at));
    this.from = this.at;
  }
}
