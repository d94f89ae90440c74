import { latin1 } from '@quoin/base';
import { DecodedField, FieldKind, fieldBytes, type HeaderField, knownName } from './header-field.ts';
import { HeaderList, HeaderShape } from './header-list.ts';
import { decodeHuffman } from './huffman.ts';

/** HPACK (RFC 7541): a decoder with its dynamic table, and a stateless encoder. */

export type { HeaderField } from './header-field.ts';

/** The peer's header block cannot be decoded: a connection error of type COMPRESSION_ERROR. */
export class HpackError extends Error {
  override readonly name = 'HpackError';
}

/** The header list is longer than allowed; the block was still decoded, so the connection can go on. */
export const headersTooLarge = 'too large';

/** SETTINGS_HEADER_TABLE_SIZE that we never change. */
export const headerTableBytes = 4096;

// RFC 7541 appendix A: "name" or "name value" by index from 1.
const staticFields: readonly DecodedField[] = (
  ':authority|:method GET|:method POST|:path /|:path /index.html|:scheme http|:scheme https|:status 200|:status 204|' +
  ':status 206|:status 304|:status 400|:status 404|:status 500|accept-charset|accept-encoding gzip, deflate|' +
  'accept-language|accept-ranges|accept|access-control-allow-origin|age|allow|authorization|cache-control|' +
  'content-disposition|content-encoding|content-language|content-length|content-location|content-range|content-type|' +
  'cookie|date|etag|expect|expires|from|host|if-match|if-modified-since|if-none-match|if-range|if-unmodified-since|' +
  'last-modified|link|location|max-forwards|proxy-authenticate|proxy-authorization|range|referer|refresh|retry-after|' +
  'server|set-cookie|strict-transport-security|transfer-encoding|user-agent|vary|via|www-authenticate'
)
  .split('|')
  .map((text) => {
    const space = text.indexOf(' ');
    return space < 0
      ? new DecodedField(knownName(text), '')
      : new DecodedField(knownName(text.slice(0, space)), text.slice(space + 1));
  });

/** Blocks that are remembered with their fields, and the length of those that are worth it. */
const knownBlocksMax = 2;
const knownBytesMax = 256;
/** Shapes that are remembered, and the size of lists that are worth it. */
const knownShapesMax = 4;
const shapeBytesMax = 2_048;

interface KnownBlock {
  readonly tableVersion: number;
  readonly block: Uint8Array;
  readonly list: HeaderList;
}

function isAt(known: Uint8Array, block: Uint8Array, from: number, to: number): boolean {
  if (known.length !== to - from) return false;
  for (let i = 0; i < known.length; i++) if (known[i] !== block[from + i]) return false;
  return true;
}

/** Decodes the header blocks of one connection, in their order. */
export class HpackDecoder {
  /** Newest last, so that adding is a push; index 62 is the last item. */
  private table: DecodedField[] = [];
  /** Entries before this one have been evicted. */
  private first = 0;
  private tableBytes = 0;
  private tableBytesMax = headerTableBytes;
  /** Counts the changes of the table. */
  private tableVersion = 0;
  private readonly listBytesMax: number;
  private readonly known: (KnownBlock | undefined)[] = new Array<undefined>(knownBlocksMax).fill(undefined);
  private knownNext = 0;
  /** Of lists that have come, the last one first. */
  private readonly shapes: HeaderShape[] = [];
  private block: Uint8Array = new Uint8Array(0);
  private at = 0;
  private end = 0;

  constructor(listBytesMax: number) {
    this.listBytesMax = listBytesMax;
  }

  /**
   * The fields of a block, or of that part of `block`. A client's calls have the same headers most of the time: the list may
   * be the very one that was given before, and mostly its shape is.
   *
   * @throws HpackError
   */
  decode(block: Uint8Array, from = 0, to: number = block.length): HeaderList | typeof headersTooLarge {
    const { tableVersion, known } = this;
    for (let i = 0; i < known.length; i++) {
      const one = known[i];
      if (one !== undefined && one.tableVersion === tableVersion && isAt(one.block, block, from, to))
        return one.list;
    }
    const list = this.read(block, from, to);
    // What has changed the table means something else the next time.
    if (list !== headersTooLarge && this.tableVersion === tableVersion && to - from <= knownBytesMax) {
      known[this.knownNext] = { tableVersion, block: block.slice(from, to), list };
      this.knownNext = (this.knownNext + 1) % known.length;
    }
    return list;
  }

  private read(block: Uint8Array, from: number, to: number): HeaderList | typeof headersTooLarge {
    this.block = block;
    this.at = from;
    this.end = to;
    const fields: DecodedField[] = [];
    let listBytes = 0;
    let sizeUpdateAllowed = true;
    while (this.at < to) {
      const byte = block[this.at]!;
      if ((byte & 0xe0) === 0x20) {
        if (!sizeUpdateAllowed) throw new HpackError('table size update after a header field');
        this.resize(this.integer(5));
        continue;
      }
      sizeUpdateAllowed = false;
      const field = (byte & 0x80) !== 0 ? this.indexed(this.integer(7)) : this.literal(byte);
      listBytes += field.bytes;
      if (listBytes <= this.listBytesMax) fields.push(field);
    }
    if (listBytes > this.listBytesMax) return headersTooLarge;
    return new HeaderList(fields, this.shapeOf(fields, listBytes));
  }

  private shapeOf(fields: readonly DecodedField[], listBytes: number): HeaderShape {
    const { shapes } = this;
    for (let i = 0; i < shapes.length; i++) {
      const shape = shapes[i]!;
      if (!shape.includes(fields)) continue;
      if (i > 0) {
        shapes.splice(i, 1);
        shapes.unshift(shape);
      }
      return shape;
    }
    const shape = new HeaderShape(fields);
    if (listBytes > shapeBytesMax) return shape;
    if (shapes.length === knownShapesMax) shapes.pop();
    shapes.unshift(shape);
    return shape;
  }

  private literal(byte: number): DecodedField {
    const incremental = (byte & 0xc0) === 0x40;
    const index = this.integer(incremental ? 6 : 4);
    const named = index === 0 ? undefined : this.indexed(index);
    const name = named === undefined ? knownName(this.string()) : named.name;
    const value = this.string();
    const field =
      named?.kind === FieldKind.free
        ? new DecodedField(name, value, FieldKind.free)
        : this.newField(name, value);
    if (incremental) this.add(field);
    return field;
  }

  /** What has come before is the same field again, though the table has dropped it, so that its lists keep their shape. */
  private newField(name: string, value: string): DecodedField {
    let kind: FieldKind = FieldKind.unknown;
    for (let i = 0; i < this.shapes.length; i++) {
      const field = this.shapes[i]!.like(name, value);
      if (field?.value === value) return field;
      if (field !== undefined) kind = field.kind;
    }
    return new DecodedField(name, value, kind);
  }

  private indexed(index: number): DecodedField {
    if (index === 0) throw new HpackError('index 0');
    if (index <= staticFields.length) return staticFields[index - 1]!;
    const at = this.table.length - (index - staticFields.length);
    if (at < this.first) throw new HpackError(`index ${index} is beyond the table`);
    return this.table[at]!;
  }

  private add(field: DecodedField): void {
    this.tableVersion++;
    this.tableBytes += field.bytes;
    this.table.push(field);
    this.evict();
  }

  private resize(bytes: number): void {
    if (bytes > headerTableBytes)
      throw new HpackError(`table size ${bytes} is above the limit of ${headerTableBytes}`);
    this.tableVersion++;
    this.tableBytesMax = bytes;
    this.evict();
  }

  private evict(): void {
    while (this.tableBytes > this.tableBytesMax) {
      const oldest = this.table[this.first++]!;
      this.tableBytes -= oldest.bytes;
    }
    // Dropped entries are cut off now and then rather than shifted one by one.
    if (this.first > 128 && this.first * 2 > this.table.length) {
      this.table = this.table.slice(this.first);
      this.first = 0;
    }
  }

  /** RFC 7541 §5.1, bounded to 28 bits: nothing in a header block is longer. */
  private integer(prefixBits: number): number {
    const mask = (1 << prefixBits) - 1;
    let value = this.next() & mask;
    if (value < mask) return value;
    for (let shift = 0; ; shift += 7) {
      if (shift > 21) throw new HpackError('integer is too long');
      const byte = this.next();
      value += (byte & 0x7f) << shift;
      if ((byte & 0x80) === 0) return value;
    }
  }

  private string(): string {
    if (this.at >= this.end) throw new HpackError('block ends inside a field');
    const huffman = (this.block[this.at]! & 0x80) !== 0;
    const length = this.integer(7);
    const from = this.at;
    const to = from + length;
    if (to > this.end) throw new HpackError('string reaches beyond the block');
    this.at = to;
    if (huffman) {
      const text = decodeHuffman(this.block, from, to);
      if (text === undefined) throw new HpackError('bad Huffman code');
      return text;
    }
    return latin1(this.block, from, to);
  }

  private next(): number {
    if (this.at >= this.end) throw new HpackError('block ends inside a field');
    return this.block[this.at++]!;
  }
}

/**
 * A header block that touches no table: static indexes where they fit, literals without indexing otherwise. So it can
 * be made once and sent on any connection.
 */
export function encodeHeaders(fields: readonly HeaderField[]): Uint8Array {
  const out: number[] = [];
  for (const field of fields) {
    const whole = staticIndex(field);
    if (whole > 0) putInteger(out, whole, 7, 0x80);
    else putLiteral(out, field, 4, 0);
  }
  return Uint8Array.from(out);
}

/** Headers that are sent again and again. */
export class HeaderTemplate {
  readonly fields: readonly HeaderField[];
  /** As of `encodeHeaders`. */
  readonly literal: Uint8Array;

  constructor(fields: readonly HeaderField[]) {
    this.fields = fields;
    this.literal = encodeHeaders(fields);
  }
}

interface EncodedTemplate {
  readonly tableLength: number;
  readonly block: Uint8Array;
}

/**
 * Encodes templates for one connection. What the static table does not have is put into the client's table when it is first
 * sent, and an index of one byte from then on: less to write, and much less for a client to read, which gets its strings
 * from the table. Nothing is ever evicted, so what was encoded stays right until the table grows.
 */
export class TemplateEncoder {
  /** Oldest first; index 62 is the last one. */
  private readonly table: HeaderField[] = [];
  private tableBytes = 0;
  private open = true;
  private readonly encoded = new Map<HeaderTemplate, EncodedTemplate>();

  /** The block must be the next one that the client gets. */
  encode(template: HeaderTemplate): Uint8Array {
    if (!this.open) return template.literal;
    const known = this.encoded.get(template);
    if (known !== undefined && known.tableLength === this.table.length) return known.block;
    const before = this.table.length;
    const block = this.encodeFields(template.fields);
    // What has just been put there is to be referred to the next time.
    if (this.table.length === before) this.encoded.set(template, { tableLength: before, block });
    return block;
  }

  /** The client's table is not used any more. */
  close(): void {
    this.open = false;
    this.encoded.clear();
  }

  private encodeFields(fields: readonly HeaderField[]): Uint8Array {
    const out: number[] = [];
    for (const field of fields) {
      const fixed = staticIndex(field);
      if (fixed > 0) {
        putInteger(out, fixed, 7, 0x80);
        continue;
      }
      const at = this.table.indexOf(field);
      if (at >= 0) putInteger(out, staticFields.length + this.table.length - at, 7, 0x80);
      else if (this.add(field)) putLiteral(out, field, 6, 0x40);
      else putLiteral(out, field, 4, 0);
    }
    return Uint8Array.from(out);
  }

  private add(field: HeaderField): boolean {
    const bytes = fieldBytes(field.name, field.value);
    if (this.tableBytes + bytes > headerTableBytes) return false;
    this.tableBytes += bytes;
    this.table.push(field);
    return true;
  }
}

/** Of name and value; 0: none. */
function staticIndex({ name, value }: HeaderField): number {
  return value === '' ? 0 : staticFields.findIndex((f) => f.name === name && f.value === value) + 1;
}

function putLiteral(out: number[], { name, value }: HeaderField, prefixBits: number, pattern: number): void {
  const named = staticFields.findIndex((f) => f.name === name) + 1;
  putInteger(out, named, prefixBits, pattern);
  if (named === 0) putString(out, name);
  putString(out, value);
}

function putInteger(out: number[], value: number, prefixBits: number, pattern: number): void {
  const mask = (1 << prefixBits) - 1;
  if (value < mask) {
    out.push(pattern | value);
    return;
  }
  out.push(pattern | mask);
  value -= mask;
  while (value > 0x7f) {
    out.push((value & 0x7f) | 0x80);
    value >>>= 7;
  }
  out.push(value);
}

function putString(out: number[], text: string): void {
  putInteger(out, text.length, 7, 0);
  for (let i = 0; i < text.length; i++) out.push(text.charCodeAt(i) & 0xff);
}
