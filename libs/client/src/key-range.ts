import { concatBytes, utf8 } from '@quoin/base';
import type { Bytes } from './options.ts';

export function toBytes(value: Bytes): Uint8Array {
  return typeof value === 'string' ? utf8(value) : value;
}

/** Which keys, beside the first. At most one of the three. */
export interface KeyRangeOptions {
  /** Keys below this one. */
  readonly rangeEnd?: Bytes | undefined;
  /** All keys that begin with the key; with an empty key, all. */
  readonly prefix?: boolean | undefined;
  /** All keys from this one on. */
  readonly fromKey?: boolean | undefined;
}

const zero = new Uint8Array(1);

/** The first key after all those that begin with `prefix`; one zero byte ("no end") when there is none. */
export function prefixEnd(prefix: Uint8Array): Uint8Array {
  let length = prefix.length;
  while (length > 0 && prefix[length - 1] === 0xff) length--;
  if (length === 0) return zero;
  // A copy in any case: Buffer's `slice` would share the caller's bytes.
  const end = new Uint8Array(prefix.subarray(0, length));
  end[length - 1]!++;
  return end;
}

/** `key` and `range_end` of a request. An empty key stands for the lowest one where a range is meant. */
export function keyRange(key: Bytes, options: KeyRangeOptions): { key: Uint8Array; rangeEnd: Uint8Array } {
  const first = toBytes(key);
  if (options.prefix === true) {
    return first.length === 0 ? { key: zero, rangeEnd: zero } : { key: first, rangeEnd: prefixEnd(first) };
  }
  if (options.fromKey === true) return { key: first.length === 0 ? zero : first, rangeEnd: zero };
  return {
    key: first,
    rangeEnd: options.rangeEnd === undefined ? concatBytes([]) : toBytes(options.rangeEnd),
  };
}
