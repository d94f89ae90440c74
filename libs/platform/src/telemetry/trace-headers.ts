/**
 * What callers say of their trace: W3C Trace Context and Baggage, and OpenCensus' binary form. Whatever is malformed is as
 * if it were not there, and whatever is long is cut: a header never fails a request.
 */
import { type SpanAttributes, traceContextBytes } from '@quoin/base';

export const sampledFlag = 1;

const zero = 0x30;
const baggageEntriesMax = 16;
const baggageTextMax = 256;
const baggageHeaderMax = 8_192;
const traceStateMax = 512;
const traceStateEntriesMax = 32;
/** version ‖ - ‖ trace id ‖ - ‖ parent id ‖ - ‖ flags */
const traceparentLength = 55;

function hexDigit(code: number): number {
  if (code >= zero && code <= 0x39) return code - zero;
  // Capitals are not allowed.
  if (code >= 0x61 && code <= 0x66) return code - 0x57;
  return -1;
}

function hexByte(text: string, at: number): number {
  const high = hexDigit(text.charCodeAt(at));
  const low = hexDigit(text.charCodeAt(at + 1));
  return high < 0 || low < 0 ? -1 : high * 16 + low;
}

/** Fills from hex digits; false when one is none, or all are zero. */
function hexBytes(text: string, at: number, into: Uint8Array, from: number, to: number): boolean {
  let any = 0;
  for (let i = from; i < to; i++) {
    const byte = hexByte(text, at + 2 * (i - from));
    if (byte < 0) return false;
    into[i] = byte;
    any |= byte;
  }
  return any !== 0;
}

/** W3C Trace Context §3.2: `00-<32 hex>-<16 hex>-<2 hex>` as 25 bytes; later versions may append to it. */
export function parseTraceparent(value: string | Uint8Array | undefined): Uint8Array | undefined {
  if (typeof value !== 'string') return undefined;
  const text = value.trim();
  if (text.length < traceparentLength || text[2] !== '-' || text[35] !== '-' || text[52] !== '-')
    return undefined;
  const version = hexByte(text, 0);
  if (version < 0 || version === 0xff) return undefined;
  if (text.length > traceparentLength && (version === 0 || text[traceparentLength] !== '-')) return undefined;
  const context = new Uint8Array(traceContextBytes);
  if (!hexBytes(text, 3, context, 0, 16) || !hexBytes(text, 36, context, 16, 24)) return undefined;
  const flags = hexByte(text, 53);
  if (flags < 0) return undefined;
  context[24] = flags;
  return context;
}

/** OpenCensus' binary form: version 0, then fields 0 (trace id), 1 (span id), 2 (options), each after its number. */
export function parseTraceBin(value: string | Uint8Array | undefined): Uint8Array | undefined {
  if (!(value instanceof Uint8Array) || value.length < 29) return undefined;
  if (value[0] !== 0 || value[1] !== 0 || value[18] !== 1 || value[27] !== 2) return undefined;
  const context = new Uint8Array(traceContextBytes);
  context.set(value.subarray(2, 18), 0);
  context.set(value.subarray(19, 27), 16);
  context[24] = value[28]!;
  return isContext(context) ? context : undefined;
}

/** 25 bytes with ids other than zero. */
function isContext(bytes: Uint8Array): boolean {
  if (bytes.length !== traceContextBytes) return false;
  let trace = 0;
  let span = 0;
  for (let i = 0; i < 16; i++) trace |= bytes[i]!;
  for (let i = 16; i < 24; i++) span |= bytes[i]!;
  return trace !== 0 && span !== 0;
}

const stateKey = /^(?:[a-z][a-z0-9_\-*/]{0,255}|[a-z0-9][a-z0-9_\-*/]{0,240}@[a-z][a-z0-9_\-*/]{0,13})$/;
const stateValue = /^[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]$/;

/** W3C Trace Context §3.3: the vendors' list as it came; undefined when it is malformed, empty or longer than 512 letters. */
export function parseTraceState(value: string | Uint8Array | undefined): string | undefined {
  if (typeof value !== 'string' || value.length > traceStateMax) return undefined;
  const entries = value
    .split(',')
    .map((entry) => entry.trim())
    .filter((entry) => entry !== '');
  if (entries.length === 0 || entries.length > traceStateEntriesMax) return undefined;
  const keys = new Set<string>();
  for (const entry of entries) {
    const split = entry.indexOf('=');
    const key = entry.slice(0, Math.max(0, split));
    if (!stateKey.test(key) || !stateValue.test(entry.slice(split + 1)) || keys.has(key)) return undefined;
    keys.add(key);
  }
  return entries.join(',');
}

const baggageKey = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,128}$/;

/** W3C Baggage: its first entries as attributes `baggage.<key>`, without their properties. Others are left out. */
export function parseBaggage(value: string | Uint8Array | undefined): SpanAttributes | undefined {
  if (typeof value !== 'string' || value.length > baggageHeaderMax) return undefined;
  const found: Record<string, string> = {};
  let count = 0;
  for (const member of value.split(',', 4 * baggageEntriesMax)) {
    const entry = member.split(';', 1)[0]!;
    const split = entry.indexOf('=');
    const key = entry.slice(0, Math.max(0, split)).trim();
    if (split < 0 || !baggageKey.test(key)) continue;
    const text = decoded(entry.slice(split + 1).trim());
    if (text === undefined) continue;
    found[`baggage.${key}`] = text.slice(0, baggageTextMax);
    if (++count === baggageEntriesMax) break;
  }
  return count === 0 ? undefined : found;
}

function decoded(text: string): string | undefined {
  try {
    return decodeURIComponent(text);
  } catch {
    return undefined;
  }
}
