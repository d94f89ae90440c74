/**
 * As much of DER (X.690) as certificates and revocation lists need. Lengths are definite; tags have one byte.
 *
 *     node = tag 1 · length 1–5 · content
 */
import { concatBytes } from '@quoin/base';

export const Tag = {
  boolean: 0x01,
  integer: 0x02,
  bitString: 0x03,
  octetString: 0x04,
  null: 0x05,
  oid: 0x06,
  utf8String: 0x0c,
  utcTime: 0x17,
  generalizedTime: 0x18,
  sequence: 0x30,
  set: 0x31,
} as const;

/** Implicit or explicit context tag; `constructed` holds nodes. */
export function contextTag(number: number, constructed: boolean): number {
  return 0x80 | (constructed ? 0x20 : 0) | number;
}

export interface DerNode {
  readonly tag: number;
  readonly content: Uint8Array;
  /** Where the next node begins. */
  readonly end: number;
}

/** @throws RangeError when the bytes are not DER */
export function readNode(bytes: Uint8Array, at = 0): DerNode {
  const tag = bytes[at];
  const first = bytes[at + 1];
  if (tag === undefined || first === undefined) throw new RangeError('truncated DER');
  let length = first;
  let start = at + 2;
  if (first >= 0x80) {
    const count = first & 0x7f;
    if (count === 0 || count > 4) throw new RangeError('DER length out of bounds');
    length = 0;
    for (let i = 0; i < count; i++) {
      const byte = bytes[start++];
      if (byte === undefined) throw new RangeError('truncated DER');
      length = length * 256 + byte;
    }
  }
  if (start + length > bytes.length) throw new RangeError('truncated DER');
  return { tag, content: bytes.subarray(start, start + length), end: start + length };
}

/** The nodes inside a sequence or set. @throws RangeError */
export function readNodes(content: Uint8Array): DerNode[] {
  const nodes: DerNode[] = [];
  for (let at = 0; at < content.length; ) {
    const node = readNode(content, at);
    nodes.push(node);
    at = node.end;
  }
  return nodes;
}

export function node(tag: number, ...parts: readonly Uint8Array[]): Uint8Array {
  const content = concatBytes(parts);
  const { length } = content;
  const header =
    length < 0x80
      ? [tag, length]
      : length < 0x100
        ? [tag, 0x81, length]
        : length < 0x10000
          ? [tag, 0x82, length >> 8, length & 0xff]
          : [tag, 0x83, length >> 16, (length >> 8) & 0xff, length & 0xff];
  return concatBytes([Uint8Array.from(header), content]);
}

/** An unsigned number, big-endian. */
export function integer(bytes: Uint8Array): Uint8Array {
  let at = 0;
  while (at < bytes.length - 1 && bytes[at] === 0) at++;
  const rest = bytes.subarray(at);
  return (rest[0] ?? 0) >= 0x80 ? node(Tag.integer, Uint8Array.of(0), rest) : node(Tag.integer, rest);
}

export function oid(text: string): Uint8Array {
  const [first = 0, second = 0, ...rest] = text.split('.').map(Number);
  const bytes = [first * 40 + second];
  for (const part of rest) {
    const groups = [part & 0x7f];
    for (let left = part >>> 7; left > 0; left >>>= 7) groups.unshift((left & 0x7f) | 0x80);
    bytes.push(...groups);
  }
  return node(Tag.oid, Uint8Array.from(bytes));
}

/** Until 2049 as UTCTime, from then on as GeneralizedTime (RFC 5280 §4.1.2.5). */
export function time(date: Date): Uint8Array {
  const text = date.toISOString().replace(/[-:T]|\.\d+/g, '');
  return date.getUTCFullYear() < 2050
    ? node(Tag.utcTime, Buffer.from(text.slice(2), 'latin1'))
    : node(Tag.generalizedTime, Buffer.from(text, 'latin1'));
}

export function bitString(bytes: Uint8Array, unusedBits = 0): Uint8Array {
  return node(Tag.bitString, Uint8Array.of(unusedBits), bytes);
}

const armor = /-----BEGIN ([A-Z0-9 ]+)-----([\s\S]*?)-----END \1-----/g;

/** The blocks of that label in a PEM file. */
export function pemBlocks(text: string, label: string): Uint8Array[] {
  return [...text.matchAll(armor)]
    .filter((match) => match[1] === label)
    .map((match) => Buffer.from(match[2]!, 'base64'));
}

export function toPem(label: string, der: Uint8Array): string {
  const lines = Buffer.from(der)
    .toString('base64')
    .match(/.{1,64}/g)!;
  return `-----BEGIN ${label}-----\n${lines.join('\n')}\n-----END ${label}-----\n`;
}
