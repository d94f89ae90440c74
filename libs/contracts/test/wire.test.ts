import { BinaryReader, BinaryWriter } from '@bufbuild/protobuf/wire';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { AuthUserAddRequestSchema } from '../src/etcd.ts';
import {
  decodeRequest,
  idSize,
  intSize,
  putId,
  putInt,
  putUint,
  uintSize,
  WireError,
  WireReader,
  WireWriter,
} from '../src/index.ts';
import { anyBytes, anyCounter, anyInt64, anyText, anyUint64 } from './wire-arbitrary.ts';

/** `put` at an odd place of a buffer, cut out again. */
function written(put: (out: Uint8Array, at: number) => number): Uint8Array {
  const out = new Uint8Array(32);
  return out.slice(3, put(out, 3));
}

test('varints are those of protobuf, at their sizes', () => {
  fc.assert(
    fc.property(anyCounter, (value) => {
      const bytes = written((out, at) => putUint(out, at, value));
      expect(bytes).toEqual(new BinaryWriter().uint64(value).finish());
      expect(uintSize(value)).toBe(bytes.length);
      expect(new WireReader(bytes).uint53()).toBe(value);
    }),
  );
  fc.assert(
    fc.property(fc.maxSafeInteger(), (value) => {
      const bytes = written((out, at) => putInt(out, at, value));
      expect(bytes).toEqual(new BinaryWriter().int64(value).finish());
      expect(intSize(value)).toBe(bytes.length);
      expect(new WireReader(bytes).int53()).toBe(value);
    }),
  );
  fc.assert(
    fc.property(anyInt64, (value) => {
      const bytes = written((out, at) => putId(out, at, value));
      expect(bytes).toEqual(new BinaryWriter().int64(value).finish());
      expect(idSize(value)).toBe(bytes.length);
      expect(new WireReader(bytes).int64()).toBe(value);
      expect(new WireReader(bytes).uint64()).toBe(BigInt.asUintN(64, value));
      expect(new WireReader(bytes).bool()).toBe(value !== 0n);
      expect(new WireReader(bytes).int32()).toBe(new BinaryReader(bytes).int32());
    }),
  );
});

test('sizes are right on both sides of every bound', () => {
  for (let bits = 7; bits <= 49; bits += 7) {
    for (const value of [2 ** bits - 1, 2 ** bits]) {
      expect([value, uintSize(value)]).toEqual([value, written((out, at) => putUint(out, at, value)).length]);
      expect([value, idSize(BigInt(value))]).toEqual([value, uintSize(value)]);
    }
  }
  for (const bits of [56n, 63n])
    expect([idSize(2n ** bits - 1n), idSize(2n ** bits)]).toEqual([Number(bits) / 7, Number(bits) / 7 + 1]);
});

test('a nested message is moved although the buffer is full to the last byte', () => {
  const body = new Uint8Array(200).fill(3);
  const writer = new WireWriter(16);
  writer.begin(202);
  const mark = writer.open(10, 1);
  writer.raw(body);
  writer.close(mark, 1);
  expect(writer.finish()).toEqual(new BinaryWriter().uint32(10).bytes(body).finish());
});

test('a counter beyond 2^53 is refused, clamped or exact, as the reader asks', () => {
  const big = new BinaryWriter().int64(2n ** 60n + 1n).finish();
  const negative = new BinaryWriter().int64(-(2n ** 60n) - 1n).finish();
  for (const bytes of [big, negative]) {
    expect(() => new WireReader(bytes).uint53()).toThrow(WireError);
    expect(() => new WireReader(bytes).int53()).toThrow(WireError);
  }
  expect(new WireReader(big).int53Clamped()).toBe(Number.MAX_SAFE_INTEGER);
  expect(new WireReader(negative).int53Clamped()).toBe(Number.MIN_SAFE_INTEGER);
  expect(new WireReader(big).int64Exact()).toBe(2n ** 60n + 1n);
  expect(new WireReader(new BinaryWriter().int64(-1).finish()).int64Exact()).toBe(-1);
  expect(new WireReader(new BinaryWriter().int64(2n ** 53n).finish()).int53Clamped()).toBe(
    Number.MAX_SAFE_INTEGER,
  );
});

test.each([
  ['a tag that ends early', [0x80]],
  ['field number 0', [0x00]],
  ['field number beyond 2^29', [0x80, 0x80, 0x80, 0x80, 0x10]],
  ['a varint that ends early', [0x08, 0x80]],
  ['a varint of eleven bytes', [0x08, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00]],
  ['a varint beyond 64 bits', [0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02]],
  ['a length beyond the end', [0x0a, 0x02, 0x41]],
  ['a length beyond 2^32', [0x0a, 0x80, 0x80, 0x80, 0x80, 0x10]],
  ['a short fixed64', [0x09, 1, 2, 3, 4, 5, 6, 7]],
  ['a short fixed32', [0x0d, 1, 2, 3]],
  ['a group that does not end', [0x0b, 0x08, 0x01]],
  ['a group with the end of another', [0x0b, 0x14]],
  ['a group with a broken field', [0x0b, 0x0a, 0x05, 0x0c]],
  ['groups nested beyond the limit', new Array(400).fill(0x0b)],
  ['a group end', [0x0c]],
  ['wire type 6', [0x0e]],
])('%s is malformed', (_name, bytes) => {
  const reader = new WireReader(new Uint8Array(bytes));
  expect(() => {
    while (reader.more()) reader.skip(reader.tag());
  }).toThrow(WireError);
});

test('a group is passed over, with what is in it', () => {
  const reader = new WireReader(
    new Uint8Array([0x0b, 0x13, 0x08, 0x05, 0x14, 0x0a, 0x01, 0x41, 0x0c, 0x10, 0x07]),
  );
  reader.skip(reader.tag());
  expect(reader.tag()).toBe(16);
  expect(reader.uint53()).toBe(7);
});

test('a nested message cannot be read past its end', () => {
  // Field 1: two bytes that hold a tag and the first byte of a longer varint; then bytes that would complete it.
  const reader = new WireReader(new Uint8Array([0x0a, 0x02, 0x08, 0x80, 0x01]));
  expect(reader.tag()).toBe(10);
  const outer = reader.enter();
  expect(reader.tag()).toBe(8);
  expect(() => reader.uint53()).toThrow(WireError);
  expect(outer).toBe(5);
});

test('fields of every kind are written as protobuf writes them, whatever the slab', () => {
  const fields = fc.record({
    counter: anyCounter,
    integer: fc.maxSafeInteger(),
    id: anyInt64,
    fixed: anyUint64,
    word: fc.nat(2 ** 32 - 1),
    bytes: fc.oneof(anyBytes, fc.uint8Array({ minLength: 120, maxLength: 300 })),
    text: fc.oneof(anyText, fc.string({ unit: 'grapheme', maxLength: 200 })),
    list: fc.array(anyCounter),
    ids: fc.array(anyUint64),
    expected: fc.nat(300),
  });
  // A tiny slab makes every message grow.
  for (const writer of [new WireWriter(), new WireWriter(16)]) {
    fc.assert(
      fc.property(fields, (f) => {
        writer.begin(1);
        writer.uintItem(8, f.counter);
        const mark = writer.open(18, f.expected);
        writer.int(8, f.integer);
        writer.id(16, f.id);
        writer.fixed64(25, f.fixed);
        writer.fixed32(37, f.word);
        writer.bytesItem(42, f.bytes);
        writer.textItem(50, f.text);
        const inner = writer.open(58, f.expected);
        writer.packedUint(10, f.list);
        writer.close(inner, f.expected);
        writer.close(mark, f.expected);
        writer.packedFixed64(26, f.ids);
        writer.bool(32, true);

        const theirs = new BinaryWriter().uint32(8).uint64(f.counter).uint32(18).fork();
        if (f.integer !== 0) theirs.uint32(8).int64(f.integer);
        if (f.id !== 0n) theirs.uint32(16).int64(f.id);
        if (f.fixed !== 0n) theirs.uint32(25).fixed64(f.fixed);
        if (f.word !== 0) theirs.uint32(37).fixed32(f.word);
        theirs.uint32(42).bytes(f.bytes).uint32(50).string(f.text).uint32(58).fork();
        if (f.list.length > 0) {
          theirs.uint32(10).fork();
          for (const value of f.list) theirs.uint64(value);
          theirs.join();
        }
        theirs.join().join();
        if (f.ids.length > 0) {
          theirs.uint32(26).fork();
          for (const value of f.ids) theirs.fixed64(value);
          theirs.join();
        }
        theirs.uint32(32).bool(true);
        expect(writer.finish()).toEqual(theirs.finish());
      }),
      { numRuns: 300 },
    );
  }
});

test('text is read as it was written', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'grapheme', maxLength: 60 }), (text) => {
      const bytes = new BinaryWriter().string(text).finish();
      expect(new WireReader(bytes).text()).toBe(text);
    }),
  );
});

test('a request is decoded as by Go: unknown fields and other wire types are passed over, at every level', () => {
  const text = (value: string): number[] => [...new TextEncoder().encode(value)];
  const decode = (...bytes: number[]) => decodeRequest(AuthUserAddRequestSchema, new Uint8Array(bytes));
  const name = [0x0a, 3, ...text('abc')];
  expect(decode(...name, 0x10, 5, 0x7a, 1, 9).name).toBe('abc');
  expect(decode(...name, 0x10, 5).password).toBe('');
  // options: no_password with the wire type of bytes, then as it should be.
  expect(decode(...name, 0x1a, 3, 0x0a, 1, 7).options?.noPassword).toBe(false);
  expect(decode(...name, 0x1a, 5, 0x0a, 1, 7, 0x08, 1).options?.noPassword).toBe(true);
  expect(() => decode(0x0a, 2, 0xc3, 0x28)).toThrow(WireError);
  expect(() => decode(...name, 0x0c)).toThrow(WireError);
  expect(() => decode(...name, 0x1a, 2, 0x08)).toThrow(WireError);
});
