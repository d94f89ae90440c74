import { randomBytes } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Log } from '@quoin/base';
import type { Backend } from '@quoin/mvcc';
import fc from 'fast-check';
import { afterAll, expect, test } from 'vitest';
import { AesSealer } from '../src/encryption/aes-sealer.ts';
import { openDataKey } from '../src/encryption/data-key.ts';
import { KeyRing } from '../src/encryption/key-ring.ts';
import { SealedBackends } from '../src/encryption/sealed-backends.ts';
import { RocksBackends } from '../src/rocks-backend.ts';

const scratch = mkdtempSync(join(tmpdir(), 'quoin-encryption-'));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

const silent: Log = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} };
const newKey = (): string => randomBytes(32).toString('base64');
const a = `a ${newKey()}`;
const b = `b ${newKey()}`;
const ring = (...lines: string[]): KeyRing => KeyRing.parse(lines.join('\n'), 'test');

test('what was sealed is opened, in parts or whole, and never looks the same twice', () => {
  const sealer = new AesSealer(randomBytes(32));
  fc.assert(
    fc.property(fc.array(fc.uint8Array({ maxLength: 200 }), { maxLength: 5 }), (parts) => {
      const whole = new Uint8Array(Buffer.concat(parts));
      const sealed = sealer.seal(parts);
      expect(sealed.length).toBe(whole.length + sealer.overheadBytes);
      expect(sealer.open(sealed)).toEqual(whole);
      expect(sealer.seal(parts)).not.toEqual(sealed);
    }),
    { numRuns: 200 },
  );
});

test('changed, cut or of another key it does not open; another process with the same key opens it', () => {
  const dataKey = randomBytes(32);
  const sealer = new AesSealer(dataKey);
  const sealed = sealer.seal([Buffer.from('secret')]);
  for (let bit = 0; bit < sealed.length * 8; bit++) {
    const changed = sealed.slice();
    changed[bit >> 3]! ^= 1 << (bit & 7);
    expect(sealer.open(changed)).toBeUndefined();
  }
  for (let cut = 0; cut < sealed.length; cut++) expect(sealer.open(sealed.subarray(0, cut))).toBeUndefined();
  expect(new AesSealer(randomBytes(32)).open(sealed)).toBeUndefined();
  expect(Buffer.from(new AesSealer(dataKey).open(sealed)!).toString()).toBe('secret');
});

test.each([
  ['', 'there is no key in it'],
  ['# only a comment', 'there is no key in it'],
  ['a', 'line 1: must be a name and 32 bytes in base64'],
  ['a c2hvcnQ=', 'line 1: must be a name and 32 bytes in base64'],
  [`${a} more`, 'line 1: must be a name and 32 bytes in base64'],
  [`${a}\n\n${a}`, 'line 3: the key a is there twice'],
])('a key file that says %j is refused', (text, message) => {
  expect(() => KeyRing.parse(text, 'key file f')).toThrow(`key file f`);
  expect(() => KeyRing.parse(text, 'key file f')).toThrow(message);
});

test('keys come from a file or from a command, and errors show none', () => {
  const file = join(scratch, 'keys');
  writeFileSync(file, `# of today\n${a}\n${b}\n`);
  expect(KeyRing.read({ file, command: '' })?.primary).toBe('a');
  expect(KeyRing.read({ file: '', command: `cat ${file}` })?.primary).toBe('a');
  expect(KeyRing.read({ file: '', command: '' })).toBeUndefined();
  expect(() => KeyRing.read({ file, command: 'x' })).toThrow('give one of');
  expect(() => KeyRing.read({ file: join(scratch, 'none'), command: '' })).toThrow(
    'cannot read the key file: ENOENT',
  );
  expect(() => KeyRing.read({ file: '', command: 'echo no such vault >&2; exit 3' })).toThrow(
    'the key command ended with 3: no such vault',
  );
  expect(() => KeyRing.read({ file: '', command: `echo ${newKey()}` })).toThrow(
    /^output of the key command, line 1: must be a name and 32 bytes in base64$/,
  );
});

test('a data key outlives changes of the operator’s key, and nothing opens without one of them', () => {
  const dir = join(scratch, 'data');
  const open = (keys: KeyRing | undefined, isBegun = true) => openDataKey(dir, keys, isBegun, silent);
  const first = open(ring(a), false)!;
  const sealed = first.seal([Buffer.from('secret')]);
  const opens = (keys: KeyRing) => Buffer.from(open(keys)!.open(sealed)!).toString();
  expect(opens(ring(a))).toBe('secret');
  expect(() => open(undefined)).toThrow('is encrypted with the key a: give --encryption-key-file');
  expect(() => open(ring(b))).toThrow('needs the key a, which is not among those given (b)');
  expect(() => open(ring(`a ${newKey()}`))).toThrow('the key a is not the one that');
  // The new key first, the old one still there: from then on the old one is not needed.
  expect(opens(ring(b, a))).toBe('secret');
  expect(opens(ring(b))).toBe('secret');
  expect(() => open(ring(a))).toThrow('needs the key b');
  const file = join(dir, 'member', 'encryption.json');
  expect(readFileSync(file, 'utf8')).not.toContain(b.split(' ')[1]);
  writeFileSync(file, '{"format":9}');
  expect(() => open(ring(b))).toThrow('does not hold a data key that this version knows');
  writeFileSync(file, 'nonsense');
  expect(() => open(ring(b))).toThrow(`cannot read ${file}`);
});

test('a directory that was begun in plain text stays so', () => {
  const dir = join(scratch, 'plain');
  expect(openDataKey(dir, undefined, false, silent)).toBeUndefined();
  expect(() => openDataKey(dir, ring(a), true, silent)).toThrow('was begun without encryption');
});

test('an engine whose values are sealed reads as one whose values are not, and refuses what was changed', async () => {
  const plainBackends = new RocksBackends(join(scratch, 'engine'));
  const dataKey = randomBytes(32);
  const open = (sealer: AesSealer): Promise<Backend> =>
    new Promise((resolve, reject) =>
      new SealedBackends(plainBackends, sealer).open('store-1', (error, backend) =>
        backend === null ? reject(error) : resolve(backend),
      ),
    );
  const bytes = (text: string) => new Uint8Array(Buffer.from(text));
  let engine = await open(new AesSealer(dataKey));
  const names = ['k1', 'k2', 'k3'];
  const values = [bytes('one'), bytes(''), bytes('t'.repeat(5_000))];
  names.forEach((name, i) => {
    engine.put(bytes(name), values[i]!);
  });
  const seen = (): [string, number][] => {
    const found: [string, number][] = [];
    engine.scan(bytes('k'), bytes('l'), false, (key, value) => {
      found.push([Buffer.from(key).toString(), value.length]);
      return true;
    });
    return found;
  };
  expect(seen()).toEqual([
    ['k1', 3],
    ['k2', 0],
    ['k3', 5_000],
  ]);
  expect(engine.get(bytes('k1'))).toEqual(bytes('one'));
  expect(engine.get(bytes('k9'))).toBeUndefined();
  const cursor = engine.cursor(bytes('k'), bytes('l'));
  const lengths: number[] = [];
  while (
    cursor.next(1, (_key, value) => {
      lengths.push(value.length);
      return true;
    })
  );
  cursor.close();
  expect(lengths).toEqual([3, 0, 5_000]);
  engine.close();
  engine = await open(new AesSealer(dataKey));
  expect(engine.get(bytes('k3'))).toEqual(values[2]);
  engine.close();
  engine = await open(new AesSealer(randomBytes(32)));
  expect(() => engine.get(bytes('k1'))).toThrow('was not sealed with the key of this data directory');
  engine.close();
});
