import { createCipheriv, createDecipheriv, hkdfSync, randomBytes } from 'node:crypto';
import type { Sealer } from '@quoin/base';
import { keyBytes } from './key-ring.ts';

const sessionBytes = 8;
const counterBytes = 8;
const headBytes = sessionBytes + counterBytes;
const tagBytes = 16;
const nonceBytes = 12;
/** Keys derived for earlier sessions that are kept at hand. */
const cachedSessions = 256;

/**
 * AES-256-GCM under a key that each process derives for itself, so that nonces are a plain counter and none is ever used
 * twice, however much is written: random ones would run out after some 2^32 writes.
 *
 *     session 8 │ counter 8 │ ciphertext │ tag 16        key = HKDF-SHA256(data key, session); nonce = 0000 ‖ counter
 */
export class AesSealer implements Sealer {
  readonly overheadBytes = headBytes + tagBytes;
  private readonly dataKey: Uint8Array;
  private readonly session: Buffer;
  private readonly key: Buffer;
  private counter = 0;
  private readonly derived = new Map<string, Buffer>();

  constructor(dataKey: Uint8Array) {
    this.dataKey = dataKey;
    this.session = randomBytes(sessionBytes);
    this.key = this.derive(this.session);
  }

  seal(plain: readonly Uint8Array[]): Uint8Array {
    let length = this.overheadBytes;
    for (const part of plain) length += part.length;
    const sealed = new Uint8Array(length);
    sealed.set(this.session);
    const nonce = Buffer.alloc(nonceBytes);
    nonce.writeBigUInt64BE(BigInt(this.counter++), nonceBytes - counterBytes);
    sealed.set(nonce.subarray(nonceBytes - counterBytes), sessionBytes);
    const cipher = createCipheriv('aes-256-gcm', this.key, nonce);
    let at = headBytes;
    for (const part of plain) {
      sealed.set(cipher.update(part), at);
      at += part.length;
    }
    cipher.final();
    sealed.set(cipher.getAuthTag(), at);
    return sealed;
  }

  open(sealed: Uint8Array): Uint8Array | undefined {
    if (sealed.length < this.overheadBytes) return undefined;
    const nonce = Buffer.alloc(nonceBytes);
    nonce.set(sealed.subarray(sessionBytes, headBytes), nonceBytes - counterBytes);
    const decipher = createDecipheriv('aes-256-gcm', this.keyOf(sealed.subarray(0, sessionBytes)), nonce);
    decipher.setAuthTag(sealed.subarray(-tagBytes));
    const plain = decipher.update(sealed.subarray(headBytes, sealed.length - tagBytes));
    try {
      decipher.final();
    } catch {
      return undefined;
    }
    // A plain Uint8Array: Buffer's `slice` shares memory where pure code expects a copy.
    return new Uint8Array(plain.buffer, plain.byteOffset, plain.length);
  }

  private keyOf(session: Uint8Array): Buffer {
    const name = Buffer.from(session).toString('hex');
    const known = this.derived.get(name);
    if (known !== undefined) return known;
    if (this.derived.size >= cachedSessions) this.derived.clear();
    const key = this.derive(session);
    this.derived.set(name, key);
    return key;
  }

  private derive(session: Uint8Array): Buffer {
    return Buffer.from(hkdfSync('sha256', this.dataKey, session, 'quoin data at rest', keyBytes));
  }
}
