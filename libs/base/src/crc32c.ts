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
