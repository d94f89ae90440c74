/** Byte strings without Node's Buffer: comparing, joining, text and hex. */

// TextEncoder and TextDecoder are pure computation that every JavaScript world has; they are declared here so
// that pure libs need neither the DOM's nor Node's types.
declare class TextEncoder {
  encode(text: string): Uint8Array<ArrayBuffer>;
}
declare class TextDecoder {
  constructor(label?: string, options?: { fatal?: boolean });
  decode(bytes: Uint8Array): string;
}

const encoder = new TextEncoder();
const decoder = new TextDecoder();
const strictDecoder = new TextDecoder('utf-8', { fatal: true });

export const emptyBytes: Uint8Array<ArrayBuffer> = new Uint8Array(0);

export function utf8(text: string): Uint8Array<ArrayBuffer> {
  return encoder.encode(text);
}

/** Invalid sequences become U+FFFD. */
export function utf8Text(bytes: Uint8Array): string {
  return decoder.decode(bytes);
}

export function isUtf8(bytes: Uint8Array): boolean {
  try {
    strictDecoder.decode(bytes);
    return true;
  } catch {
    return false;
  }
}

/** Unsigned bytewise order, shorter first on a common prefix: etcd's key order. Negative, zero or positive. */
export function compareBytes(a: Uint8Array, b: Uint8Array): number {
  const n = Math.min(a.length, b.length);
  for (let i = 0; i < n; i++) {
    const d = a[i]! - b[i]!;
    if (d !== 0) return d;
  }
  return a.length - b.length;
}

export function equalBytes(a: Uint8Array, b: Uint8Array): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}

export function concatBytes(parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  let length = 0;
  for (const part of parts) length += part.length;
  const out = new Uint8Array(length);
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}

/** A copy that shares no memory with a larger buffer: for bytes kept longer than the message they came in. */
export function copyBytes(bytes: Uint8Array): Uint8Array<ArrayBuffer> {
  return new Uint8Array(bytes);
}

/**
 * Each byte of that part as one character U+0000–U+00FF: a map key for bytes. Eight at a time: each string that is added to
 * another is a new one.
 */
export function latin1(bytes: Uint8Array, from = 0, to: number = bytes.length): string {
  let text = '';
  let i = from;
  for (; to - i >= 8; i += 8) {
    const eight = String.fromCharCode(
      bytes[i]!,
      bytes[i + 1]!,
      bytes[i + 2]!,
      bytes[i + 3]!,
      bytes[i + 4]!,
      bytes[i + 5]!,
      bytes[i + 6]!,
      bytes[i + 7]!,
    );
    text = i === from ? eight : text + eight;
  }
  for (; i < to; i++) text += String.fromCharCode(bytes[i]!);
  return text;
}

export function hex(bytes: Uint8Array): string {
  let text = '';
  for (let i = 0; i < bytes.length; i++) text += (bytes[i]! < 16 ? '0' : '') + bytes[i]!.toString(16);
  return text;
}

/** An id as etcd prints it: hex without leading zeros. */
export function hexId(id: bigint): string {
  return BigInt.asUintN(64, id).toString(16);
}

/** 8 bytes, big-endian, as an unsigned bigint. */
export function readU64BE(bytes: Uint8Array, at: number): bigint {
  return (BigInt(readU32BE(bytes, at)) << 32n) | BigInt(readU32BE(bytes, at + 4));
}

export function writeU64BE(bytes: Uint8Array, at: number, value: bigint): void {
  const v = BigInt.asUintN(64, value);
  writeU32BE(bytes, at, Number(v >> 32n));
  writeU32BE(bytes, at + 4, Number(v & 0xffffffffn));
}

export function readU32BE(bytes: Uint8Array, at: number): number {
  return ((bytes[at]! << 24) | (bytes[at + 1]! << 16) | (bytes[at + 2]! << 8) | bytes[at + 3]!) >>> 0;
}

export function writeU32BE(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value >>> 24;
  bytes[at + 1] = value >>> 16;
  bytes[at + 2] = value >>> 8;
  bytes[at + 3] = value;
}

/** A counter (term, index, revision: below 2^53) as 8 bytes big-endian, so that byte order is number order. */
export function writeCounterBE(bytes: Uint8Array, at: number, value: number): void {
  writeU32BE(bytes, at, Math.floor(value / 0x1_0000_0000));
  writeU32BE(bytes, at + 4, value >>> 0);
}

export function readCounterBE(bytes: Uint8Array, at: number): number {
  return readU32BE(bytes, at) * 0x1_0000_0000 + readU32BE(bytes, at + 4);
}
