/**
 * Simple tokens: signed, so that every member verifies those of every other without having been told of them.
 *
 *   token = hex(claims) . hex(first 16 bytes of HMAC-SHA-256(key, cluster id, claims))
 *   claims = user, auth revision, wall seconds of issue, 8 random bytes
 *
 * The key is part of the replicated state: drawn at each AuthEnable, so that disabling voids all tokens. A token is
 * valid for its TTL from its issue; a gateway that sees it used asks for a fresh one and goes on with that.
 */
import { type Digest, hex, type Random, type TokenClaims, writeU64BE } from '@quoin/base';
import { WireError, WireReader, WireWriter } from '@quoin/contracts';

const macBytes = 16;
const blockBytes = 64;
const writer = new WireWriter(1024);

export interface IssuedToken extends TokenClaims {
  readonly issuedMs: number;
}

function hmac(digest: Digest, key: Uint8Array, parts: readonly Uint8Array[]): Uint8Array {
  const pad = (value: number): Uint8Array => {
    const out = new Uint8Array(blockBytes).fill(value);
    for (let i = 0; i < key.length; i++) out[i]! ^= key[i]!;
    return out;
  };
  const inner = digest.sha256();
  inner.update(pad(0x36));
  for (const part of parts) inner.update(part);
  const outer = digest.sha256();
  outer.update(pad(0x5c));
  outer.update(inner.digest());
  return outer.digest();
}

function macOf(digest: Digest, key: Uint8Array, clusterId: bigint, claims: Uint8Array): Uint8Array {
  const cluster = new Uint8Array(8);
  writeU64BE(cluster, 0, clusterId);
  return hmac(digest, key, [cluster, claims]).subarray(0, macBytes);
}

export interface TokenKey {
  readonly digest: Digest;
  /** At most 64 bytes. */
  readonly key: Uint8Array;
  readonly clusterId: bigint;
}

/** @param nowMs wall time */
export function issueToken(
  by: TokenKey,
  random: Random,
  user: string,
  authRevision: number,
  nowMs: number,
): string {
  writer.begin();
  writer.text(10, user);
  writer.uint(16, authRevision);
  writer.uint(24, Math.floor(nowMs / 1_000));
  writer.fixed64(33, (BigInt(random.u32()) << 32n) | BigInt(random.u32()));
  const claims = writer.finish();
  return `${hex(claims)}.${hex(macOf(by.digest, by.key, by.clusterId, claims))}`;
}

/** Undefined when this cluster's key has not signed it. Whether it is still valid is another question. */
export function readToken(by: TokenKey, token: string, ttlMs: number): IssuedToken | undefined {
  if (by.key.length === 0) return undefined;
  const dot = token.indexOf('.');
  const claims = bytesOf(token.slice(0, Math.max(dot, 0)));
  const mac = bytesOf(token.slice(dot + 1));
  if (dot <= 0 || claims === undefined || mac === undefined || mac.length !== macBytes) return undefined;
  if (!equalInConstantTime(mac, macOf(by.digest, by.key, by.clusterId, claims))) return undefined;
  try {
    return readClaims(claims, ttlMs);
  } catch (error) {
    if (error instanceof WireError) return undefined;
    throw error;
  }
}

function readClaims(claims: Uint8Array, ttlMs: number): IssuedToken {
  const reader = new WireReader(claims);
  let user = '';
  let authRevision = 0;
  let issuedMs = 0;
  while (reader.more()) {
    const tag = reader.tag();
    if (tag === 10) user = reader.text();
    else if (tag === 16) authRevision = reader.uint53();
    else if (tag === 24) issuedMs = reader.uint53() * 1_000;
    else reader.skip(tag);
  }
  return { user, authRevision, issuedMs, expiresMs: issuedMs + ttlMs };
}

/** How long it takes does not tell how much of a forged one was right. */
function equalInConstantTime(a: Uint8Array, b: Uint8Array): boolean {
  let different = a.length ^ b.length;
  for (let i = 0; i < a.length; i++) different |= a[i]! ^ (b[i] ?? 0);
  return different === 0;
}

/** Lower-case hex of whole bytes, as `hex` writes it. */
function bytesOf(text: string): Uint8Array | undefined {
  if (text.length % 2 !== 0 || !/^[0-9a-f]*$/.test(text)) return undefined;
  const out = new Uint8Array(text.length / 2);
  for (let i = 0; i < out.length; i++) out[i] = Number.parseInt(text.slice(2 * i, 2 * i + 2), 16);
  return out;
}
