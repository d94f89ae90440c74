import { type DescField, type DescMessage, type Message, ScalarType } from '@bufbuild/protobuf';
import { BinaryWriter, WireType } from '@bufbuild/protobuf/wire';
import fc from 'fast-check';

/** Which integers the 64-bit counters of a message take: any, or those that our own writers send. */
export type Integers = 'any' | 'safe';

export const anyBytes = fc.uint8Array({ maxLength: 12 });
export const anyText = fc.string({ unit: 'grapheme', maxLength: 8 });
export const anyInt64 = fc.oneof(
  fc.constantFrom(
    0n,
    1n,
    -1n,
    2n ** 63n - 1n,
    -(2n ** 63n),
    2n ** 53n,
    -(2n ** 53n),
    2n ** 53n - 1n,
    1n - 2n ** 53n,
  ),
  fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }),
  fc.bigInt({ min: 0n, max: 300n }),
);
export const anyUint64 = anyInt64.map((value) => BigInt.asUintN(64, value));
export const anyCounter = fc.oneof(fc.nat(300), fc.maxSafeNat(), fc.constant(Number.MAX_SAFE_INTEGER));

type Record = (writer: BinaryWriter) => void;

function scalar(type: ScalarType, integers: Integers): fc.Arbitrary<(writer: BinaryWriter) => void> {
  switch (type) {
    case ScalarType.BYTES:
      return anyBytes.map((value) => (writer) => writer.bytes(value));
    case ScalarType.STRING:
      return anyText.map((value) => (writer) => writer.string(value));
    case ScalarType.BOOL:
      // Any varint that is not 0 is true.
      return fc.constantFrom(0n, 1n, 2n, 2n ** 40n).map((value) => (writer) => writer.uint64(value));
    case ScalarType.INT64:
      return integers === 'any'
        ? anyInt64.map((value) => (writer) => writer.int64(value))
        : fc.maxSafeInteger().map((value) => (writer) => writer.int64(value));
    case ScalarType.UINT64:
      return integers === 'any'
        ? anyUint64.map((value) => (writer) => writer.uint64(value))
        : anyCounter.map((value) => (writer) => writer.uint64(value));
    case ScalarType.UINT32:
      return fc.nat(2 ** 32 - 1).map((value) => (writer) => writer.uint32(value));
    case ScalarType.FIXED32:
      return fc.nat(2 ** 32 - 1).map((value) => (writer) => writer.fixed32(value));
    case ScalarType.FIXED64:
      return anyUint64.map((value) => (writer) => writer.fixed64(value));
    default:
      throw new Error(`scalar type ${type} is not used in hot messages`);
  }
}

const wireTypes: { [type: number]: WireType } = {
  [ScalarType.BYTES]: WireType.LengthDelimited,
  [ScalarType.STRING]: WireType.LengthDelimited,
  [ScalarType.FIXED32]: WireType.Bit32,
  [ScalarType.FIXED64]: WireType.Bit64,
};

const anyEnum = fc
  .oneof(fc.nat(5), fc.integer())
  .map((value) => (writer: BinaryWriter) => writer.int32(value));

/** One occurrence of a field on the wire. Repeated numbers come packed or one by one. */
function record(field: DescField, integers: Integers, depth: number): fc.Arbitrary<Record> {
  if (field.message !== undefined) {
    return wire(field.message, integers, depth - 1).map((bytes) => (writer) => {
      writer.tag(field.number, WireType.LengthDelimited).bytes(bytes);
    });
  }
  const type = field.enum === undefined ? field.scalar! : ScalarType.INT32;
  const wireType = wireTypes[type] ?? WireType.Varint;
  const value = field.enum === undefined ? scalar(type, integers) : anyEnum;
  const single = value.map(
    (write): Record =>
      (writer) =>
        write(writer.tag(field.number, wireType)),
  );
  if (field.fieldKind !== 'list' || wireType === WireType.LengthDelimited) return single;
  const packed = fc.array(value, { maxLength: 4 }).map(
    (writes): Record =>
      (writer) => {
        writer.tag(field.number, WireType.LengthDelimited).fork();
        for (const write of writes) write(writer);
        writer.join();
      },
  );
  return fc.oneof(single, packed);
}

/** A field that no message of ours has, of each wire type that may be skipped. */
const unknownField: fc.Arbitrary<Record> = fc
  .tuple(fc.constantFrom(15, 16, 63, 65, 2000, 2 ** 29 - 1), anyUint64, anyBytes, fc.nat(3))
  .map(([number, value, bytes, kind]): Record => {
    if (kind === 0) return (writer) => writer.tag(number, WireType.Varint).uint64(value);
    if (kind === 1) return (writer) => writer.tag(number, WireType.Bit64).fixed64(value);
    if (kind === 2) return (writer) => writer.tag(number, WireType.LengthDelimited).bytes(bytes);
    return (writer) => writer.tag(number, WireType.Bit32).fixed32(Number(value & 0xffffffffn));
  });

/**
 * Encodings of a message as a hostile but correct writer may send them: fields in any order, singular ones several
 * times, defaults written out, unknown fields between. With `safe` integers a singular message comes at most once.
 */
export function wire(desc: DescMessage, integers: Integers, depth = 4): fc.Arbitrary<Uint8Array> {
  const fields = desc.fields.filter((field) => field.message === undefined || depth > 0);
  const choices = fields.map((field) =>
    record(field, integers, depth).map((write) => ({
      write,
      once: field.fieldKind === 'message' ? field.number : 0,
    })),
  );
  const any = fc.oneof(
    ...choices,
    unknownField.map((write) => ({ write, once: 0 })),
  );
  return fc.array(any, { maxLength: depth < 4 ? 6 : 12 }).map((records) => {
    const writer = new BinaryWriter();
    const seen = new Set<number>();
    for (const { write, once } of records) {
      if (integers === 'safe' && once !== 0 && seen.has(once)) continue;
      seen.add(once);
      write(writer);
    }
    return writer.finish();
  });
}

/** A generated message in the form of the hand-written types: varint counters as numbers, no bookkeeping members. */
export function plain(desc: DescMessage, message: Message): unknown {
  const out: { [name: string]: unknown } = {};
  for (const field of desc.fields) {
    const value = (message as unknown as { [name: string]: unknown })[field.localName];
    const one = (item: unknown): unknown => {
      if (field.message !== undefined) return plain(field.message, item as Message);
      if (field.scalar === ScalarType.INT64 || field.scalar === ScalarType.UINT64) return Number(item);
      return item;
    };
    out[field.localName] = Array.isArray(value)
      ? value.map(one)
      : value === undefined
        ? undefined
        : one(value);
  }
  return out;
}
