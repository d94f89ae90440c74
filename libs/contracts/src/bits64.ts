/** The one place where 64 bits become a bigint or the other way round: a store and a load, no bigint arithmetic. */

const words = new Uint32Array(2);
const unsigned = new BigUint64Array(words.buffer);
const signed = new BigInt64Array(words.buffer);
words[0] = 1;
const lowWord = unsigned[0] === 1n ? 0 : 1;
const highWord = 1 - lowWord;

/** Halves of the bigint last given to `split`, as unsigned 32-bit numbers. */
export let splitLow = 0;
export let splitHigh = 0;

/** Takes the value modulo 2^64 apart into `splitLow` and `splitHigh`. */
export function split(value: bigint): void {
  unsigned[0] = value;
  splitLow = words[lowWord]!;
  splitHigh = words[highWord]!;
}

export function joinUnsigned(low: number, high: number): bigint {
  words[lowWord] = low;
  words[highWord] = high;
  return unsigned[0]!;
}

export function joinSigned(low: number, high: number): bigint {
  words[lowWord] = low;
  words[highWord] = high;
  return signed[0]!;
}
