import {
  type DescField,
  type DescMessage,
  fromBinary,
  fromJsonString,
  type JsonValue,
  toBinary,
  toJson,
} from '@bufbuild/protobuf';
import { concatBytes, utf8Text } from '@quoin/base';
import { Code, messageTooLarge, type RpcStatus, WireReader, wireDepthMax } from '@quoin/contracts';

// protojson as etcd sets it up: proto field names, zero values left out, unknown fields and enum names ignored.
const reading = { ignoreUnknownFields: true, recursionLimit: wireDepthMax } as const;
const writing = { useProtoFieldName: true } as const;

/** A message up to this size becomes text in one go, far below a millisecond; a larger one is cut. */
const wholeBytesMax = 16 * 1024;
/** What a client hears of a value that does not fit its field. */
const problemCharsMax = 300;

/**
 * Reads a request message from JSON text whose syntax has been checked.
 *
 * @param maxBytes longest message, encoded
 * @returns the encoded message, or InvalidArgument, or ResourceExhausted
 */
export function requestFromJson(
  request: DescMessage,
  text: Uint8Array,
  maxBytes: number,
): Uint8Array | RpcStatus {
  let bytes: Uint8Array;
  try {
    bytes = toBinary(request, fromJsonString(request, exactIntegers(utf8Text(text)), reading));
  } catch (error) {
    const said = error instanceof Error ? error.message : String(error);
    return { code: Code.invalidArgument, message: `proto: ${said}`.slice(0, problemCharsMax) };
  }
  return bytes.length > maxBytes ? messageTooLarge(bytes.length, maxBytes) : bytes;
}

/**
 * The text with each long integer in quotes: ids are 64 bits wide, JSON.parse would round what is beyond 2^53, and
 * protobuf's JSON takes either form.
 */
function exactIntegers(text: string): string {
  if (!/\d{16}/.test(text)) return text;
  return text.replace(/"[^"\\]*(?:\\.[^"\\]*)*"|-?\d[\d.eE+-]*/g, (token) =>
    /^-?\d{16,}$/.test(token) ? `"${token}"` : token,
  );
}

/**
 * The JSON text of an encoded message, in pieces that follow each other. Each piece is little work, so that a caller
 * can pause between any two; only a single long value comes in one piece.
 *
 * @throws Error when the bytes are not such a message
 */
export function* messageJson(message: DescMessage, bytes: Uint8Array): Generator<string, void, undefined> {
  if (bytes.length <= wholeBytesMax) {
    yield JSON.stringify(small(message, bytes));
    return;
  }
  const found = occurrences(message, bytes);
  let separator = '{';
  for (const field of message.fields) {
    const spans = found.get(field.number);
    if (spans === undefined) continue;
    if (field.message !== undefined && field.fieldKind !== 'map') {
      yield `${separator}${JSON.stringify(field.name)}:`;
      yield* field.fieldKind === 'list'
        ? listJson(field.message, bytes, spans)
        : // Parts of one message that come apart are one message (protobuf's rule of merging).
          messageJson(field.message, concatBytes(spans.map((at) => bytes.subarray(at.value, at.end))));
    } else {
      const entry = scalarEntry(message, field, bytes, spans);
      if (entry === undefined) continue;
      yield separator + entry;
    }
    separator = ',';
  }
  yield separator === '{' ? '{}' : '}';
}

function* listJson(
  element: DescMessage,
  bytes: Uint8Array,
  spans: readonly Span[],
): Generator<string, void, undefined> {
  let separator = '[';
  for (const { value, end } of spans) {
    yield separator;
    yield* messageJson(element, bytes.subarray(value, end));
    separator = ',';
  }
  yield ']';
}

/** Undefined: the zero value, which is left out. */
function scalarEntry(
  message: DescMessage,
  field: DescField,
  bytes: Uint8Array,
  spans: readonly Span[],
): string | undefined {
  const alone = concatBytes(spans.map((at) => bytes.subarray(at.tag, at.end)));
  const json = small(message, alone) as { [name: string]: JsonValue };
  const value = json[field.name];
  return value === undefined ? undefined : `${JSON.stringify(field.name)}:${JSON.stringify(value)}`;
}

function small(message: DescMessage, bytes: Uint8Array): JsonValue {
  return toJson(message, fromBinary(message, bytes, { recursionLimit: wireDepthMax }), writing);
}

/** One occurrence of a field: where its tag, its value (of a message: without the length) and the next field begin. */
interface Span {
  readonly tag: number;
  readonly value: number;
  readonly end: number;
}

function occurrences(message: DescMessage, bytes: Uint8Array): Map<number, Span[]> {
  const found = new Map<number, Span[]>();
  const reader = new WireReader(bytes);
  const nested = new Set(message.fields.filter((field) => field.message).map((field) => field.number));
  while (reader.more()) {
    const tag = reader.pos;
    const key = reader.tag();
    const number = key >>> 3;
    let value = reader.pos;
    if (nested.has(number)) value = reader.pos + lengthBytes(bytes, reader.pos);
    reader.skip(key);
    const spans = found.get(number);
    if (spans === undefined) found.set(number, [{ tag, value, end: reader.pos }]);
    else spans.push({ tag, value, end: reader.pos });
  }
  return found;
}

/** Bytes of the varint at `at`; that it is whole, `skip` checks. */
function lengthBytes(bytes: Uint8Array, at: number): number {
  let n = 1;
  while (bytes[at + n - 1]! >= 0x80) n++;
  return n;
}

/** An error as a body: google.rpc.Status in protojson. */
export function statusJson(status: RpcStatus): string {
  const { code, message } = status;
  return JSON.stringify(message === '' ? { code } : { code, message });
}

/** The HTTP status in which a gRPC code goes out: grpc-gateway's table. */
export function httpStatusOf(code: number): number {
  return httpStatuses[code] ?? 500;
}

const httpStatuses: Readonly<Record<number, number>> = {
  [Code.ok]: 200,
  [Code.canceled]: 499,
  [Code.unknown]: 500,
  [Code.invalidArgument]: 400,
  [Code.deadlineExceeded]: 504,
  [Code.notFound]: 404,
  [Code.alreadyExists]: 409,
  [Code.permissionDenied]: 403,
  [Code.resourceExhausted]: 429,
  [Code.failedPrecondition]: 400,
  [Code.aborted]: 409,
  [Code.outOfRange]: 400,
  [Code.unimplemented]: 501,
  [Code.internal]: 500,
  [Code.unavailable]: 503,
  [Code.dataLoss]: 500,
  [Code.unauthenticated]: 401,
};
