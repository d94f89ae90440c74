/** Values written as Go's standard library writes them, because etcdctl's output is made of that. */
import { isPrintable } from './printable.ts';

const decoder = new TextDecoder('utf-8', { fatal: true });

/** The length of the valid UTF-8 sequence at `at`, or 0. */
function sequenceLength(bytes: Uint8Array, at: number): number {
  const first = bytes[at]!;
  const length =
    first < 0x80
      ? 1
      : first >= 0xc2 && first < 0xe0
        ? 2
        : first >= 0xe0 && first < 0xf0
          ? 3
          : first >= 0xf0 && first < 0xf5
            ? 4
            : 0;
  if (length === 0 || at + length > bytes.length) return 0;
  try {
    decoder.decode(bytes.subarray(at, at + length));
    return length;
  } catch {
    return 0;
  }
}

const shortEscapes: Readonly<Record<number, string>> = {
  7: '\\a',
  8: '\\b',
  9: '\\t',
  10: '\\n',
  11: '\\v',
  12: '\\f',
  13: '\\r',
  34: '\\"',
  92: '\\\\',
};

/** %q: a quoted string in which what cannot be printed is escaped and invalid UTF-8 shown byte by byte. */
export function goQuote(value: Uint8Array | string): string {
  const bytes = typeof value === 'string' ? new TextEncoder().encode(value) : value;
  let out = '"';
  for (let i = 0; i < bytes.length; ) {
    const length = sequenceLength(bytes, i);
    if (length === 0) {
      out += `\\x${bytes[i]!.toString(16).padStart(2, '0')}`;
      i++;
      continue;
    }
    const char = decoder.decode(bytes.subarray(i, i + length));
    out += quoteChar(char.codePointAt(0)!, char);
    i += length;
  }
  return `${out}"`;
}

function quoteChar(code: number, char: string): string {
  const short = shortEscapes[code];
  if (short !== undefined) return short;
  if (isPrintable(code, char)) return char;
  if (code < 0x20 || code === 0x7f) return `\\x${code.toString(16).padStart(2, '0')}`;
  if (code < 0x10000) return `\\u${code.toString(16).padStart(4, '0')}`;
  return `\\U${code.toString(16).padStart(8, '0')}`;
}

/** time.Duration: `1.942455ms`, `2.5s`, `1m0s`. */
export function goDuration(nanoseconds: number): string {
  const ns = Math.round(nanoseconds);
  if (ns === 0) return '0s';
  const trimmed = (value: number, digits: number) => value.toFixed(digits).replace(/\.?0+$/, '');
  if (ns < 1e3) return `${ns}ns`;
  if (ns < 1e6) return `${trimmed(ns / 1e3, 3)}µs`;
  if (ns < 1e9) return `${trimmed(ns / 1e6, 6)}ms`;
  const minutes = Math.floor(ns / 60e9);
  const seconds = `${trimmed((ns - minutes * 60e9) / 1e9, 9)}s`;
  if (minutes === 0) return seconds;
  const hours = Math.floor(minutes / 60);
  return hours === 0 ? `${minutes}m${seconds}` : `${hours}h${minutes % 60}m${seconds}`;
}

const units: Readonly<Record<string, number>> = {
  ns: 1e-6,
  us: 1e-3,
  µs: 1e-3,
  μs: 1e-3,
  ms: 1,
  s: 1e3,
  m: 60e3,
  h: 3600e3,
};

/** Milliseconds of `1m30s`, `250ms`, `-1s`; undefined when it is no duration. */
export function parseGoDuration(text: string): number | undefined {
  const match = /^([+-]?)((?:\d+\.?\d*|\.\d+)(?:ns|us|µs|μs|ms|s|m|h))+$/.exec(text);
  if (match === null) return text === '0' ? 0 : undefined;
  let ms = 0;
  for (const [, number, unit] of text.matchAll(/(\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h)/g))
    ms += Number(number) * units[unit!]!;
  return match[1] === '-' ? -ms : ms;
}

/** Bytes as `20 kB`, powers of 1000. */
export function humanBytes(bytes: bigint | number): string {
  const n = Number(bytes);
  if (n < 10) return `${n} B`;
  const exponent = Math.min(Math.floor(Math.log(n) / Math.log(1000) + 1e-12), 6);
  const value = Math.floor((n / 1000 ** exponent) * 10 + 0.5) / 10;
  return `${value < 10 ? value.toFixed(1) : halfToEven(value)} ${['B', 'kB', 'MB', 'GB', 'TB', 'PB', 'EB'][exponent]}`;
}

/** %.0f: 20.5 is 20, 21.5 is 22. */
function halfToEven(value: number): string {
  const floor = Math.floor(value);
  const up = value - floor > 0.5 || (value - floor === 0.5 && floor % 2 === 1);
  return String(up ? floor + 1 : floor);
}

/** @throws Error with strconv's text. Ids are unsigned hex, leases signed. */
export function parseGoInt(text: string, options: { base?: 10 | 16; unsigned?: boolean } = {}): bigint {
  const base = options.base ?? 10;
  const call = options.unsigned === true ? 'ParseUint' : 'ParseInt';
  const pattern = base === 16 ? /^([+-]?)([0-9a-fA-F]+)$/ : /^([+-]?)(\d+)$/;
  const match = pattern.exec(text);
  if (match === null || (options.unsigned === true && match[1] !== '')) {
    throw new Error(`strconv.${call}: parsing ${goQuote(text)}: invalid syntax`);
  }
  const magnitude = BigInt(base === 16 ? `0x${match[2]}` : match[2]!);
  const value = match[1] === '-' ? -magnitude : magnitude;
  const fits = options.unsigned === true ? value < 1n << 64n : value >= -(1n << 63n) && value < 1n << 63n;
  if (!fits) throw new Error(`strconv.${call}: parsing ${goQuote(text)}: value out of range`);
  return value;
}

/** encoding/json's string, which also escapes what is special in HTML. */
export function goJsonString(text: string): string {
  return JSON.stringify(text).replace(
    /[<>&\u2028\u2029]/g,
    (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}
