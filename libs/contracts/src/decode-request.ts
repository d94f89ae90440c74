import {
  type DescField,
  type DescMessage,
  fromBinary,
  type MessageShape,
  ScalarType,
} from '@bufbuild/protobuf';
import { isUtf8 } from '@quoin/base';
import { WireError, WireReader, WireType, wireDepthMax } from './wire-reader.ts';
import { WireWriter } from './wire-writer.ts';

/**
 * A client's message of any kind, as Go's decoder takes it. protobuf-es alone goes by the field number: a field with
 * another wire type than its own is misread, where Go passes over it as unknown; a group's end may stand alone.
 *
 * @throws WireError when the bytes are no message of that kind
 */
export function decodeRequest<D extends DescMessage>(desc: D, bytes: Uint8Array): MessageShape<D> {
  const known = knownFields(desc, bytes, 0);
  try {
    return fromBinary(desc, known);
  } catch (error) {
    throw new WireError(error instanceof Error ? error.message : String(error));
  }
}

/** The message without fields that it does not know; the very bytes where there are none. */
function knownFields(desc: DescMessage, bytes: Uint8Array, depth: number): Uint8Array {
  if (depth > wireDepthMax) throw new WireError(`messages nested deeper than ${wireDepthMax}`);
  const reader = new WireReader(bytes);
  const writer = new WireWriter(bytes.length + 16);
  let changed = false;
  while (reader.more()) {
    const begin = reader.pos;
    const tag = reader.tag();
    const field = desc.fields.find((each) => each.number === tag >>> 3);
    if (field === undefined || !fits(field, tag & 7)) {
      reader.skip(tag);
      changed = true;
      continue;
    }
    if ((tag & 7) !== WireType.bytes) reader.skip(tag);
    else {
      const body = reader.bytes();
      if (field.scalar === ScalarType.STRING && !isUtf8(body)) throw new WireError('text that is not UTF-8');
      const part = field.message === undefined ? body : knownFields(field.message, body, depth + 1);
      if (part !== body) {
        writer.bytesItem(tag, part);
        changed = true;
        continue;
      }
    }
    writer.raw(bytes.subarray(begin, reader.pos));
  }
  return changed ? writer.finish() : bytes;
}

/** Lists of numbers may be packed or not. */
function fits(field: DescField, wireType: number): boolean {
  const own = wireTypeOf(field);
  return wireType === own || (field.fieldKind === 'list' && wireType === WireType.bytes);
}

function wireTypeOf(field: DescField): WireType {
  if (field.message !== undefined) return WireType.bytes;
  switch (field.scalar) {
    case ScalarType.STRING:
    case ScalarType.BYTES:
      return WireType.bytes;
    case ScalarType.FIXED32:
    case ScalarType.SFIXED32:
    case ScalarType.FLOAT:
      return WireType.fixed32;
    case ScalarType.FIXED64:
    case ScalarType.SFIXED64:
    case ScalarType.DOUBLE:
      return WireType.fixed64;
    default:
      return WireType.varint;
  }
}
