import { createHmac, generateKeyPairSync } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { openSigner } from '../src/signer.ts';

const dir = mkdtempSync(join(tmpdir(), 'quoin-jwt-'));
afterAll(() => rmSync(dir, { recursive: true, force: true }));

let files = 0;
function file(content: string | Buffer): string {
  const path = join(dir, `key${files++}`);
  writeFileSync(path, content);
  return path;
}

type Kind = 'rsa' | 'ed25519' | 'P-256' | 'P-384' | 'P-521';

function pair(kind: Kind): { priv: string; pub: string } {
  const { privateKey, publicKey } = generate(kind);
  const priv = privateKey.export({ type: 'pkcs8', format: 'pem' });
  return { priv: file(priv), pub: file(publicKey.export({ type: 'spki', format: 'pem' })) };
}

function generate(kind: Kind) {
  if (kind === 'rsa') return generateKeyPairSync('rsa', { modulusLength: 2048 });
  return kind === 'ed25519'
    ? generateKeyPairSync('ed25519')
    : generateKeyPairSync('ec', { namedCurve: kind });
}

const rsa = pair('rsa');
const secret = file('a secret of some length, known to members only');
const keysOf: Readonly<Record<string, { priv: string; pub: string }>> = {
  RS256: rsa,
  RS384: rsa,
  RS512: rsa,
  PS256: rsa,
  PS384: rsa,
  PS512: rsa,
  ES256: pair('P-256'),
  ES384: pair('P-384'),
  ES512: pair('P-521'),
  EdDSA: pair('ed25519'),
};

describe.each(Object.keys(keysOf))('%s', (method) => {
  const { priv, pub } = keysOf[method]!;
  const signs = openSigner(`jwt,pub-key=${pub},priv-key=${priv},sign-method=${method},ttl=10m`)!;
  const verifies = openSigner(`jwt,pub-key=${pub},sign-method=${method}`)!;

  test('what the private key signs the public one verifies', () => {
    const token = signs.sign('alice', 7)!;
    const claims = verifies.verify(token)!;
    expect(claims).toMatchObject({ user: 'alice', authRevision: 7 });
    expect(claims.expiresMs - Date.now()).toBeGreaterThan(590_000);
    expect(claims.expiresMs - Date.now()).toBeLessThanOrEqual(600_000);
    expect(verifies.sign('alice', 7)).toBeUndefined();
    const [header, payload, signature] = token.split('.') as [string, string, string];
    expect(JSON.parse(Buffer.from(header, 'base64url').toString())).toEqual({ alg: method, typ: 'JWT' });
    const forged = Buffer.from(JSON.stringify({ username: 'root', revision: 7 })).toString('base64url');
    const bytes = Buffer.from(signature, 'base64url');
    bytes[10]! ^= 1;
    for (const wrong of [
      `${header}.${forged}.${signature}`,
      `${header}.${payload}.${bytes.toString('base64url')}`,
      `${header}.${payload}.`,
      `${header}.${payload}`,
      `${token}.x`,
      `${token}=`,
      '',
      '..',
      'x'.repeat(100_000),
    ]) {
      expect(verifies.verify(wrong), wrong.slice(0, 40)).toBeUndefined();
    }
  });
});

function part(value: unknown): string {
  return Buffer.from(JSON.stringify(value)).toString('base64url');
}

test('the configuration says how tokens are signed, not the token', () => {
  const verifies = openSigner(`jwt,pub-key=${rsa.pub},sign-method=RS256`)!;
  const payload = part({ username: 'root', revision: 1 });
  expect(verifies.verify(`${part({ alg: 'none', typ: 'JWT' })}.${payload}.`)).toBeUndefined();
  // The public key as the secret of an HMAC.
  const header = part({ alg: 'HS256', typ: 'JWT' });
  const mac = createHmac('sha256', rsa.pub).update(`${header}.${payload}`).digest('base64url');
  expect(verifies.verify(`${header}.${payload}.${mac}`)).toBeUndefined();
});

test('claims: who, at which revision, until when', () => {
  const verifies = openSigner(`jwt,priv-key=${secret},sign-method=HS256`)!;
  const content = 'a secret of some length, known to members only';
  const signed = (claims: unknown): ReturnType<typeof verifies.verify> => {
    const text = `${part({ alg: 'HS256' })}.${part(claims)}`;
    return verifies.verify(`${text}.${createHmac('sha256', content).update(text).digest('base64url')}`);
  };
  const now = Date.now() / 1_000;
  expect(signed({ username: 'a', revision: 3 })).toEqual({
    user: 'a',
    authRevision: 3,
    expiresMs: Number.POSITIVE_INFINITY,
  });
  expect(signed({ username: 'a', revision: 3, exp: now + 60, nbf: now - 60 })?.user).toBe('a');
  for (const claims of [
    { username: 'a', revision: 3, exp: now - 1 },
    { username: 'a', revision: 3, nbf: now + 60 },
    { username: 'a', revision: '3' },
    { username: 'a', revision: -1 },
    { username: 'a', revision: null },
    { username: 7, revision: 3 },
    { revision: 3 },
    { username: 'a' },
    { username: 'a', revision: 3, exp: 'tomorrow' },
    [],
    'a',
    null,
  ]) {
    expect(signed(claims), JSON.stringify(claims)).toBeUndefined();
  }
  for (const method of ['HS384', 'HS512']) {
    const signer = openSigner(`jwt,priv-key=${secret},sign-method=${method}`)!;
    expect(signer.verify(signer.sign('b', 1)!)?.user).toBe('b');
    expect(verifies.verify(signer.sign('b', 1)!)).toBeUndefined();
  }
});

test.each([
  ['simpel', 'must be simple or jwt with its options'],
  ['', 'must be simple or jwt with its options'],
  ['jwt', 'sign-method must be one of'],
  ['jwt,sign-method=RS1', 'sign-method must be one of'],
  ['jwt,sign-method=toString', 'sign-method must be one of'],
  ['jwt,sign-method', 'is not an option of its own in the form name=value'],
  ['jwt,ttl=1m,ttl=2m', 'is not an option of its own in the form name=value'],
  [`jwt,sign-method=RS256,priv-key=${rsa.priv},ttl=soon`, 'ttl must be a duration such as 10m'],
  ['jwt,sign-method=RS256', 'pub-key or priv-key must be given'],
  ['jwt,sign-method=HS256', 'priv-key must hold the secret'],
  ['jwt,sign-method=RS256,pub-key=/nowhere', 'cannot read pub-key /nowhere: ENOENT'],
  [`jwt,sign-method=RS256,pub-key=${secret}`, 'pub-key is no key in PEM'],
  [`jwt,sign-method=ES256,pub-key=${rsa.pub}`, 'pub-key is not a key for this sign-method'],
  [`jwt,sign-method=ES384,priv-key=${keysOf['ES256']!.priv}`, 'priv-key is not a key for this sign-method'],
  [
    `jwt,sign-method=RS256,pub-key=${pair('rsa').pub},priv-key=${rsa.priv}`,
    "public and private keys don't match",
  ],
])('%s is one line for the operator', (option, message) => {
  expect(() => openSigner(option)).toThrow(message);
  try {
    openSigner(option);
  } catch (error) {
    expect((error as Error).name).toBe('ConfigError');
    expect((error as Error).message).toContain('for flag --auth-token: ');
  }
});

test('simple tokens need no signer', () => {
  expect(openSigner('simple')).toBeUndefined();
});
