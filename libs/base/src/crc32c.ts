/** CRC-32C (Castagnoli, RFC 3720 appendix B.4), eight bytes a step by eight tables ("slicing-by-8"). */

const polynomial = 0x82f63b78;
const tables: Int32Array = makeTables();

function makeTables(): Int32Array {
  const t = new Int32Array(8 * 256);
  for (let i = 0; i < 256; i++) {
    let c = i;
    for (let k = 0; k < 8; k++) c = (c & 1) !== 0 ? (c >>> 1) ^ polynomial : c >>> 1;
    t[i] = c;
  }
  for (let k = 1; k < 8; k++) {
    for (let i = 0; i < 256; i++) {
      const c = t[(k - 1) * 256 + i]!;
      t[k * 256 + i] = (c >>> 8) ^ t[c & 0xff]!;
    }
  }
  return t;
}

/**
 * The checksum of `bytes`, continuing from `seed` (the checksum of what came before; 0 to begin).
 * Result is in [0, 2^32).
 */
export function crc32c(bytes: Uint8Array, seed = 0): number {
  const t = tables;
  let c = ~seed;
  let i = 0;
  const end8 = bytes.length - 7;
  while (i < end8) {
    c ^= bytes[i]! | (bytes[i + 1]! << 8) | (bytes[i + 2]! << 16) | (bytes[i + 3]! << 24);
    c =
      t[1792 + (c & 0xff)]! ^
      t[1536 + ((c >>> 8) & 0xff)]! ^
      t[1280 + ((c >>> 16) & 0xff)]! ^
      t[1024 + (c >>> 24)]! ^
      t[768 + bytes[i + 4]!]! ^
      t[512 + bytes[i + 5]!]! ^
      t[256 + bytes[i + 6]!]! ^
      t[bytes[i + 7]!]!;
    i += 8;
  }
  while (i < bytes.length) c = (c >>> 8) ^ t[(c ^ bytes[i++]!) & 0xff]!;
  return ~c >>> 0;
}

/** operators[k] takes a checksum over 2^k zero bytes: a 32×32 matrix over GF(2), one column a word. Made as needed. */
const operators: Uint32Array[] = [];

function operator(k: number): Uint32Array {
  for (let have = operators.length; have <= k; have++) {
    const matrix = new Uint32Array(32);
    if (have === 0) {
      for (let bit = 0; bit < 32; bit++) {
        let c = 2 ** bit;
        for (let i = 0; i < 8; i++) c = (c & 1) !== 0 ? (c >>> 1) ^ polynomial : c >>> 1;
        matrix[bit] = c;
      }
    } else {
      const half = operators[have - 1]!;
      for (let bit = 0; bit < 32; bit++) matrix[bit] = times(half, half[bit]!);
    }
    operators.push(matrix);
  }
  return operators[k]!;
}

function times(matrix: Uint32Array, crc: number): number {
  let sum = 0;
  for (let bit = 0, left = crc; left !== 0; bit++, left >>>= 1) if ((left & 1) !== 0) sum ^= matrix[bit]!;
  return sum >>> 0;
}

/** The checksum of A followed by B, from those of A and of B alone (`seed` 0) and the length of B. */
export function crc32cCombine(a: number, b: number, lengthB: number): number {
  let crc = a;
  for (let k = 0, left = lengthB; left > 0; k++, left = Math.floor(left / 2)) {
    if (left % 2 === 1) crc = times(operator(k), crc);
  }
  return (crc ^ b) >>> 0;
}
