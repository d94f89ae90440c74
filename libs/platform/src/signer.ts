/** JSON Web Tokens (RFC 7515, 7518, 7519, 8037) as etcd uses them, on Node's crypto. */
import {
  constants,
  createHmac,
  createPrivateKey,
  createPublicKey,
  type KeyObject,
  sign,
  timingSafeEqual,
  verify,
} from 'node:crypto';
import { readFileSync } from 'node:fs';
import type { TokenClaims, TokenSigner } from '@quoin/base';
import { ConfigError, parseDurationMs } from './config/values.ts';

interface Algorithm {
  readonly family: 'hmac' | 'rsa' | 'pss' | 'ecdsa' | 'eddsa';
  readonly digest: string | null;
  /** Of an elliptic curve, as Node names it. */
  readonly curve?: string;
}

const algorithms: Readonly<Record<string, Algorithm>> = {
  HS256: { family: 'hmac', digest: 'sha256' },
  HS384: { family: 'hmac', digest: 'sha384' },
  HS512: { family: 'hmac', digest: 'sha512' },
  RS256: { family: 'rsa', digest: 'sha256' },
  RS384: { family: 'rsa', digest: 'sha384' },
  RS512: { family: 'rsa', digest: 'sha512' },
  PS256: { family: 'pss', digest: 'sha256' },
  PS384: { family: 'pss', digest: 'sha384' },
  PS512: { family: 'pss', digest: 'sha512' },
  ES256: { family: 'ecdsa', digest: 'sha256', curve: 'prime256v1' },
  ES384: { family: 'ecdsa', digest: 'sha384', curve: 'secp384r1' },
  ES512: { family: 'ecdsa', digest: 'sha512', curve: 'secp521r1' },
  EdDSA: { family: 'eddsa', digest: null },
};

const keyTypes = { rsa: 'rsa', pss: 'rsa', ecdsa: 'ec', eddsa: 'ed25519', hmac: '' } as const;
const defaultTtlMs = 300_000;
const knownOptions = ['sign-method', 'pub-key', 'priv-key', 'ttl'];
/** What is longer was not made by us, and is not worth decoding. */
const tokenLengthMax = 16_384;

/**
 * The signer for a value of `--auth-token`; undefined for simple tokens. An option that etcd does not know either is
 * passed over, as etcd does.
 *
 * @throws ConfigError with one line for the operator
 */
export function openSigner(option: string): TokenSigner | undefined {
  const [kind, ...pairs] = option.split(',');
  const options = new Map<string, string>();
  for (const pair of pairs) {
    const [name, value, ...rest] = pair.split('=');
    if (value === undefined || rest.length > 0 || options.has(name!)) {
      throw invalid(option, `"${pair}" is not an option of its own in the form name=value`);
    }
    options.set(name!, value);
  }
  if (kind === 'simple') return undefined;
  if (kind !== 'jwt') throw invalid(option, 'must be simple or jwt with its options');
  const unknown = [...options.keys()].filter((name) => !knownOptions.includes(name));
  if (unknown.length > 0) process.emitWarning(`--auth-token: unknown JWT options ${unknown.join(', ')}`);
  const name = options.get('sign-method') ?? '';
  const algorithm = Object.hasOwn(algorithms, name) ? algorithms[name] : undefined;
  if (algorithm === undefined) {
    throw invalid(option, `sign-method must be one of ${Object.keys(algorithms).join(', ')}`);
  }
  const ttl = options.get('ttl') ?? '';
  const ttlMs = ttl === '' ? defaultTtlMs : parseDurationMs(ttl);
  if (ttlMs === undefined || ttlMs <= 0) throw invalid(option, 'ttl must be a duration such as 10m');
  const keys = readKeys(option, options, algorithm);
  return new JwtSigner(name, algorithm, keys, ttlMs);
}

interface Keys {
  readonly secret: Buffer | undefined;
  readonly privateKey: KeyObject | undefined;
  readonly publicKey: KeyObject | undefined;
}

function invalid(option: string, why: string): ConfigError {
  return new ConfigError(`invalid value "${option}" for flag --auth-token: ${why}`);
}

function readKeys(option: string, options: ReadonlyMap<string, string>, algorithm: Algorithm): Keys {
  const read = (name: string): Buffer | undefined => {
    const file = options.get(name) ?? '';
    if (file === '') return undefined;
    try {
      return readFileSync(file);
    } catch (error) {
      throw invalid(option, `cannot read ${name} ${file}: ${(error as Error).message}`);
    }
  };
  const priv = read('priv-key');
  const pub = read('pub-key');
  if (algorithm.family === 'hmac') {
    if (priv === undefined || priv.length === 0) throw invalid(option, 'priv-key must hold the secret');
    return { secret: priv, privateKey: undefined, publicKey: undefined };
  }
  const parse = (name: string, make: () => KeyObject): KeyObject => {
    let key: KeyObject;
    try {
      key = make();
    } catch (error) {
      throw invalid(option, `${name} is no key in PEM: ${(error as Error).message}`);
    }
    const fits =
      key.asymmetricKeyType === keyTypes[algorithm.family] &&
      (algorithm.curve === undefined || key.asymmetricKeyDetails?.namedCurve === algorithm.curve);
    if (!fits) throw invalid(option, `${name} is not a key for this sign-method`);
    return key;
  };
  const privateKey = priv === undefined ? undefined : parse('priv-key', () => createPrivateKey(priv));
  const given = pub === undefined ? undefined : parse('pub-key', () => createPublicKey(pub));
  const derived = privateKey === undefined ? undefined : createPublicKey(privateKey);
  if (given !== undefined && derived !== undefined && !given.equals(derived)) {
    throw invalid(option, "public and private keys don't match");
  }
  const publicKey = given ?? derived;
  if (publicKey === undefined) throw invalid(option, 'pub-key or priv-key must be given');
  return { secret: undefined, privateKey, publicKey };
}

class JwtSigner implements TokenSigner {
  private readonly algorithmName: string;
  private readonly algorithm: Algorithm;
  private readonly keys: Keys;
  private readonly ttlMs: number;
  private readonly header: string;

  constructor(name: string, algorithm: Algorithm, keys: Keys, ttlMs: number) {
    this.algorithmName = name;
    this.algorithm = algorithm;
    this.keys = keys;
    this.ttlMs = ttlMs;
    this.header = encodePart({ alg: name, typ: 'JWT' });
  }

  sign(user: string, authRevision: number): string | undefined {
    if (this.keys.secret === undefined && this.keys.privateKey === undefined) return undefined;
    const exp = Math.floor((Date.now() + this.ttlMs) / 1_000);
    const signed = `${this.header}.${encodePart({ username: user, revision: authRevision, exp })}`;
    return `${signed}.${this.signatureOf(Buffer.from(signed)).toString('base64url')}`;
  }

  verify(token: string): TokenClaims | undefined {
    if (token.length > tokenLengthMax) return undefined;
    const [header, payload, signature, ...rest] = token.split('.');
    if (header === undefined || payload === undefined || signature === undefined || rest.length > 0) {
      return undefined;
    }
    // The configuration alone says how tokens are signed: what one says of itself must agree.
    if (decodePart(header)?.['alg'] !== this.algorithmName) return undefined;
    if (!isBase64Url(signature)) return undefined;
    const signed = Buffer.from(`${header}.${payload}`);
    if (!this.isSignature(signed, Buffer.from(signature, 'base64url'))) return undefined;
    return claimsOf(decodePart(payload));
  }

  private signatureOf(data: Buffer): Buffer {
    const { secret, privateKey } = this.keys;
    if (secret !== undefined) return createHmac(this.algorithm.digest!, secret).update(data).digest();
    return sign(this.algorithm.digest, data, { key: privateKey!, ...this.padding() });
  }

  private isSignature(data: Buffer, signature: Buffer): boolean {
    if (this.keys.secret !== undefined) {
      const expected = this.signatureOf(data);
      return expected.length === signature.length && timingSafeEqual(expected, signature);
    }
    return verify(this.algorithm.digest, data, { key: this.keys.publicKey!, ...this.padding() }, signature);
  }

  private padding() {
    if (this.algorithm.family === 'pss') {
      // As long as the digest to sign; a longer or shorter one is read all the same (RFC 7518 has it as the digest).
      return { padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: constants.RSA_PSS_SALTLEN_DIGEST };
    }
    return this.algorithm.family === 'ecdsa' ? { dsaEncoding: 'ieee-p1363' as const } : {};
  }
}

function encodePart(value: unknown): string {
  return Buffer.from(JSON.stringify(value)).toString('base64url');
}

function isBase64Url(text: string): boolean {
  return /^[A-Za-z0-9_-]+$/.test(text);
}

function decodePart(text: string): Record<string, unknown> | undefined {
  if (!isBase64Url(text)) return undefined;
  try {
    const value: unknown = JSON.parse(Buffer.from(text, 'base64url').toString());
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : undefined;
  } catch {
    return undefined;
  }
}

/** A token without `exp` does not run out; one that is not valid yet is not valid. */
function claimsOf(claims: Record<string, unknown> | undefined): TokenClaims | undefined {
  if (claims === undefined) return undefined;
  const { username, revision, exp, nbf } = claims;
  if (typeof username !== 'string' || typeof revision !== 'number' || !(revision >= 0)) return undefined;
  if (exp !== undefined && typeof exp !== 'number') return undefined;
  if (nbf !== undefined && (typeof nbf !== 'number' || nbf * 1_000 > Date.now())) return undefined;
  const expiresMs = exp === undefined ? Number.POSITIVE_INFINITY : exp * 1_000;
  if (expiresMs <= Date.now()) return undefined;
  return { user: username, authRevision: Math.floor(revision), expiresMs };
}
