/**
 * Metadata whose key ends in `-bin`: bytes, on the wire as base64 (RFC 4648 §4). Senders may leave the padding out, and
 * several values under one key may come joined by commas (PROTOCOL-HTTP2 of the gRPC project, "Custom-Metadata").
 */
export function isBinaryKey(key: string): boolean {
  return key.endsWith('-bin');
}

/** The first value; undefined when it is not base64. */
export function decodeBinaryValue(text: string): Uint8Array | undefined {
  const comma = text.indexOf(',');
  let end = comma < 0 ? text.length : comma;
  let start = 0;
  while (start < end && text[start] === ' ') start++;
  while (end > start && text[end - 1] === ' ') end--;
  for (let padding = 0; padding < 2 && end > start && text[end - 1] === '='; padding++) end--;
  if ((end - start) % 4 === 1) return undefined;
  const out = new Uint8Array(Math.floor(((end - start) * 3) / 4));
  let bits = 0;
  let value = 0;
  let at = 0;
  for (let i = start; i < end; i++) {
    const sextet = sextetOf(text.charCodeAt(i));
    if (sextet < 0) return undefined;
    value = ((value << 6) | sextet) & 0xffff;
    bits += 6;
    if (bits < 8) continue;
    bits -= 8;
    out[at++] = value >>> bits;
  }
  return out;
}

function sextetOf(code: number): number {
  if (code >= 0x41 && code <= 0x5a) return code - 0x41;
  if (code >= 0x61 && code <= 0x7a) return code - 0x61 + 26;
  if (code >= 0x30 && code <= 0x39) return code - 0x30 + 52;
  if (code === 0x2b) return 62;
  return code === 0x2f ? 63 : -1;
}
