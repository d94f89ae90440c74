/** The pages are walked as bbolt does: every entry is found in order, and every page belongs to something. */
import { compareBytes, Prng, utf8 } from '@quoin/base';
import { expect, test } from 'vitest';
import { type BoltTotals, BoltWriter, fnv1a, pageBytes } from '../src/bolt-writer.ts';

type Entries = readonly (readonly [Uint8Array, Uint8Array])[];

function file(buckets: Readonly<Record<string, Entries>>): { bytes: Buffer; totals: BoltTotals } {
  const fill = (writer: BoltWriter): BoltTotals => {
    for (const [name, entries] of Object.entries(buckets)) {
      const bucket = writer.bucket(utf8(name));
      for (const [key, value] of entries) bucket.add(key, value);
      bucket.end();
    }
    return writer.finish();
  };
  const totals = fill(new BoltWriter());
  const pages: Uint8Array[] = [];
  expect(fill(new BoltWriter(totals, (made) => pages.push(made)))).toEqual(totals);
  return { bytes: Buffer.concat(pages), totals };
}

class Walk {
  readonly seen = new Set<number>([0, 1, 2]);
  private readonly bytes: Buffer;

  constructor(bytes: Buffer) {
    this.bytes = bytes;
  }

  entries(page: number): [Buffer, Buffer, number][] {
    const at = page * pageBytes;
    const { bytes } = this;
    expect(Number(bytes.readBigUInt64LE(at))).toBe(page);
    const flags = bytes.readUInt16LE(at + 8);
    const count = bytes.readUInt16LE(at + 10);
    for (let i = 0; i <= bytes.readUInt32LE(at + 12); i++) {
      expect(this.seen.has(page + i)).toBe(false);
      this.seen.add(page + i);
    }
    const found: [Buffer, Buffer, number][] = [];
    for (let i = 0; i < count; i++) {
      const element = at + 16 + 16 * i;
      if (flags === 1) {
        const position = element + bytes.readUInt32LE(element);
        const key = bytes.subarray(position, position + bytes.readUInt32LE(element + 4));
        const below = this.entries(Number(bytes.readBigUInt64LE(element + 8)));
        expect(below[0]![0].equals(key)).toBe(true);
        found.push(...below);
      } else {
        expect(flags).toBe(2);
        const position = element + bytes.readUInt32LE(element + 4);
        const end = position + bytes.readUInt32LE(element + 8);
        const value = bytes.subarray(end, end + bytes.readUInt32LE(element + 12));
        found.push([bytes.subarray(position, end), value, bytes.readUInt32LE(element)]);
      }
    }
    return found;
  }
}

function expectHolds(buckets: Readonly<Record<string, Entries>>): void {
  const { bytes, totals } = file(buckets);
  expect(bytes.length).toBe(totals.pages * pageBytes);
  for (const page of [0, 1]) {
    const meta = bytes.subarray(page * pageBytes + 16);
    expect(meta.readUInt32LE(0)).toBe(0xed0cdaed);
    expect(Number(meta.readBigUInt64LE(16))).toBe(totals.root);
    expect(meta.readBigUInt64LE(56)).toBe(fnv1a(meta.subarray(0, 56)));
  }
  const walk = new Walk(bytes);
  const names = walk.entries(totals.root);
  expect(names.map(([name]) => String(name))).toEqual(Object.keys(buckets).sort());
  for (const [name, value, flags] of names) {
    expect(flags).toBe(1);
    const found = walk.entries(Number(value.readBigUInt64LE(0)));
    expect(found.map(([key, each]) => [key, each])).toEqual(
      buckets[String(name)]!.map(([key, each]) => [Buffer.from(key), Buffer.from(each)]),
    );
  }
  expect(walk.seen.size).toBe(totals.pages);
}

test('FNV-1a of known texts', () => {
  expect(fnv1a(utf8(''))).toBe(0xcbf29ce484222325n);
  expect(fnv1a(utf8('foobar'))).toBe(0x85944171f73967e8n);
});

test.each([0, 1, 2, 50, 300, 3_000, 12_000])('a bucket of %i entries between others', (count) => {
  const prng = new Prng(count);
  const entries = Array.from({ length: count }, (_, i): [Uint8Array, Uint8Array] => {
    const key = Buffer.alloc(prng.chance(0.2) ? 18 : 17, 't');
    key.writeBigUInt64BE(BigInt(i + 1), 0);
    // Now and then larger than a page, and than several.
    const bytes = prng.chance(0.01) ? prng.below(20_000) : prng.below(100);
    return [key, new Uint8Array(bytes).fill(i)];
  }).sort(([a], [b]) => compareBytes(a, b));
  expectHolds({
    lease: [[utf8('b'), utf8('1')]],
    key: entries,
    alarm: [],
    meta: [[utf8('a'), new Uint8Array(9_000)]],
  });
});
