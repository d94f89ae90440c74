/**
 * SHA-1 and SHA-256 (FIPS 180-4) for the simulated world, where no Node is. Slow and small; the real world has its own.
 */
import type { Digest, IncrementalDigest } from '@quoin/base';
import { concatBytes, copyBytes, writeU32BE } from '@quoin/base';

function padded(data: Uint8Array): Uint8Array {
  const length = ((data.length + 8) >>> 6) * 64 + 64;
  const out = new Uint8Array(length);
  out.set(data);
  out[data.length] = 0x80;
  writeU32BE(out, length - 8, Math.floor((data.length * 8) / 0x1_0000_0000));
  writeU32BE(out, length - 4, (data.length * 8) >>> 0);
  return out;
}

function rotl(x: number, n: number): number {
  return (x << n) | (x >>> (32 - n));
}

function word(bytes: Uint8Array, at: number): number {
  return (bytes[at]! << 24) | (bytes[at + 1]! << 16) | (bytes[at + 2]! << 8) | bytes[at + 3]!;
}

function output(state: Int32Array): Uint8Array {
  const out = new Uint8Array(state.length * 4);
  state.forEach((value, i) => {
    writeU32BE(out, i * 4, value >>> 0);
  });
  return out;
}

export function sha1(data: Uint8Array): Uint8Array {
  const h = new Int32Array([0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0]);
  const w = new Int32Array(80);
  const bytes = padded(data);
  for (let at = 0; at < bytes.length; at += 64) {
    for (let t = 0; t < 16; t++) w[t] = word(bytes, at + t * 4);
    for (let t = 16; t < 80; t++) w[t] = rotl(w[t - 3]! ^ w[t - 8]! ^ w[t - 14]! ^ w[t - 16]!, 1);
    let [a, b, c, d, e] = h as unknown as [number, number, number, number, number];
    for (let t = 0; t < 80; t++) {
      const f = t < 20 ? (b & c) | (~b & d) : t >= 40 && t < 60 ? (b & c) | (b & d) | (c & d) : b ^ c ^ d;
      const k = [0x5a827999, 0x6ed9eba1, 0x8f1bbcdc, 0xca62c1d6][Math.floor(t / 20)]!;
      const next = (rotl(a, 5) + f + e + k + w[t]!) | 0;
      e = d;
      d = c;
      c = rotl(b, 30);
      b = a;
      a = next;
    }
    [a, b, c, d, e].forEach((value, i) => {
      h[i] = (h[i]! + value) | 0;
    });
  }
  return output(h);
}

// The first 32 bits of the fractional parts of square and cube roots of the first primes.
const primes = firstPrimes(64);
const k256 = Int32Array.from(primes, (p) => Math.floor((Math.cbrt(p) % 1) * 0x1_0000_0000));
const initial256 = Int32Array.from(primes.slice(0, 8), (p) => Math.floor((Math.sqrt(p) % 1) * 0x1_0000_0000));

function firstPrimes(count: number): number[] {
  const found: number[] = [];
  for (let n = 2; found.length < count; n++) if (found.every((p) => n % p !== 0)) found.push(n);
  return found;
}

function compress256(h: Int32Array, bytes: Uint8Array, at: number, w: Int32Array): void {
  for (let t = 0; t < 16; t++) w[t] = word(bytes, at + t * 4);
  for (let t = 16; t < 64; t++) {
    const x = w[t - 15]!;
    const y = w[t - 2]!;
    const s0 = rotl(x, 25) ^ rotl(x, 14) ^ (x >>> 3);
    const s1 = rotl(y, 15) ^ rotl(y, 13) ^ (y >>> 10);
    w[t] = (w[t - 16]! + s0 + w[t - 7]! + s1) | 0;
  }
  let a = h[0]!;
  let b = h[1]!;
  let c = h[2]!;
  let d = h[3]!;
  let e = h[4]!;
  let f = h[5]!;
  let g = h[6]!;
  let hh = h[7]!;
  for (let t = 0; t < 64; t++) {
    const s1 = rotl(e, 26) ^ rotl(e, 21) ^ rotl(e, 7);
    const t1 = (hh + s1 + ((e & f) ^ (~e & g)) + k256[t]! + w[t]!) | 0;
    const s0 = rotl(a, 30) ^ rotl(a, 19) ^ rotl(a, 10);
    const t2 = (s0 + ((a & b) ^ (a & c) ^ (b & c))) | 0;
    hh = g;
    g = f;
    f = e;
    e = (d + t1) | 0;
    d = c;
    c = b;
    b = a;
    a = (t1 + t2) | 0;
  }
  [a, b, c, d, e, f, g, hh].forEach((value, i) => {
    h[i] = (h[i]! + value) | 0;
  });
}

class Sha256 implements IncrementalDigest {
  private readonly parts: Uint8Array[] = [];

  update(data: Uint8Array): void {
    this.parts.push(copyBytes(data));
  }

  digest(): Uint8Array {
    const bytes = padded(concatBytes(this.parts));
    const h = initial256.slice();
    const w = new Int32Array(64);
    for (let at = 0; at < bytes.length; at += 64) compress256(h, bytes, at, w);
    return output(h);
  }
}

/** The Digest port. */
export const simDigest: Digest = { sha1, sha256: () => new Sha256() };
