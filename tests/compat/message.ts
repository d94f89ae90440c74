/**
 * Messages as plain values, so that a step of a test can be generated, printed, shrunk and compared: fields by their
 * protobuf-es names (members of a oneof like any other), bytes as latin1 text, enums as numbers, and placeholders for
 * what is known only when it runs.
 */
import { type DescField, type DescMessage, fromBinary, type Message, ScalarType } from '@bufbuild/protobuf';
import { type ReflectList, type ReflectMessage, reflect } from '@bufbuild/protobuf/reflect';
import { BinaryWriter, WireType } from '@bufbuild/protobuf/wire';

/** What a run fills in. */
export type Placeholder =
  /** A revision, counted from the one at which the sequence began. */
  | { readonly at: number }
  /** The id of the lease in this slot. */
  | { readonly lease: number }
  /** A field of an answer that an earlier step kept under this name, as its bytes. */
  | { readonly kept: string };

export type Scalar = string | number | bigint | boolean;

export type Value = Scalar | Placeholder | Fields | readonly Value[];

export interface Fields {
  readonly [name: string]: Value | undefined;
}

/** What the placeholders stand for, in one run. */
export interface Bindings {
  revision(at: number): bigint;
  lease(slot: number): bigint;
  kept(name: string): Uint8Array;
}

/** The bytes of a message, as clients write them: no zero values outside a oneof. Unknown fields are a mistake of the test. */
export function encode(desc: DescMessage, fields: Fields, bindings: Bindings): Uint8Array {
  const writer = new BinaryWriter();
  const known = new Map(desc.fields.map((field) => [field.localName, field]));
  for (const name of Object.keys(fields))
    if (!known.has(name)) throw new Error(`${desc.typeName} has no field ${name}`);
  for (const field of desc.fields) {
    const value = fields[field.localName];
    if (value === undefined) continue;
    const values = field.fieldKind === 'list' ? (value as readonly Value[]) : [value];
    for (const each of values) writeField(writer, field, each, bindings);
  }
  return writer.finish();
}

function writeField(writer: BinaryWriter, field: DescField, value: Value, bindings: Bindings): void {
  const resolved = resolve(value, bindings);
  const inList = field.fieldKind === 'list';
  if (field.fieldKind === 'message' || (inList && field.listKind === 'message')) {
    const bytes =
      resolved instanceof Uint8Array ? resolved : encode(field.message!, resolved as Fields, bindings);
    writer.tag(field.number, WireType.LengthDelimited).bytes(bytes);
    return;
  }
  if (
    field.oneof === undefined &&
    !inList &&
    (resolved === 0 || resolved === '' || resolved === false || resolved === 0n)
  )
    return;
  const isEnum = field.fieldKind === 'enum' || (inList && field.listKind === 'enum');
  writeScalar(
    writer,
    field.number,
    isEnum ? ScalarType.INT32 : field.scalar!,
    resolved as Scalar | Uint8Array,
  );
}

function resolve(value: Value, bindings: Bindings): Value | Uint8Array {
  if (typeof value !== 'object' || Array.isArray(value)) return value;
  if ('at' in value && typeof value.at === 'number') return bindings.revision(value.at);
  // A message may have a field of this name (Compare), whose value is no slot then.
  if ('lease' in value && typeof value.lease === 'number' && Object.keys(value).length === 1)
    return bindings.lease(value.lease);
  if ('kept' in value && typeof value.kept === 'string') return bindings.kept(value.kept);
  return value;
}

function writeScalar(
  writer: BinaryWriter,
  number: number,
  type: ScalarType,
  value: Scalar | Uint8Array,
): void {
  switch (type) {
    case ScalarType.BYTES:
    case ScalarType.STRING: {
      const bytes =
        value instanceof Uint8Array
          ? value
          : Buffer.from(String(value), type === ScalarType.BYTES ? 'latin1' : 'utf8');
      writer.tag(number, WireType.LengthDelimited).bytes(bytes);
      return;
    }
    case ScalarType.BOOL:
      writer.tag(number, WireType.Varint).bool(Boolean(value));
      return;
    case ScalarType.INT32:
      writer.tag(number, WireType.Varint).int32(Number(value));
      return;
    case ScalarType.INT64:
      writer.tag(number, WireType.Varint).int64(BigInt(value as Scalar));
      return;
    case ScalarType.UINT64:
      writer.tag(number, WireType.Varint).uint64(BigInt(value as Scalar));
      return;
    default:
      throw new Error(`no field of etcd's requests has the type ${ScalarType[type]}`);
  }
}

/** A plain value of an answer: only what is set; bytes as latin1 text, 64-bit integers as numbers where they fit. */
export type Plain = Scalar | PlainFields | readonly Plain[];

export interface PlainFields {
  readonly [name: string]: Plain;
}

/** @throws Error when the bytes are no such message. */
export function decode(desc: DescMessage, bytes: Uint8Array): PlainFields {
  return plainMessage(reflect(desc, fromBinary(desc, bytes)));
}

function plainMessage(message: ReflectMessage): PlainFields {
  const out: Record<string, Plain> = {};
  for (const field of message.fields) {
    if (!message.isSet(field)) continue;
    const value: unknown = message.get(field);
    if (field.fieldKind === 'list') out[field.localName] = [...(value as ReflectList)].map(plainValue);
    else out[field.localName] = plainValue(value);
  }
  const unknown = (message.message as Message).$unknown;
  if (unknown !== undefined && unknown.length > 0) out['$unknown'] = unknown.map((each) => each.no);
  return out;
}

function plainValue(value: unknown): Plain {
  if (value instanceof Uint8Array) return Buffer.from(value).toString('latin1');
  if (typeof value === 'bigint')
    return value >= Number.MIN_SAFE_INTEGER && value <= Number.MAX_SAFE_INTEGER ? Number(value) : value;
  if (typeof value === 'object') return plainMessage(value as ReflectMessage);
  return value as Scalar;
}
