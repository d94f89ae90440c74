/** What an OTLP trace export says: a reader of its own, so that what is written by our hand is judged by another. */

export interface CollectedSpan {
  readonly service: string;
  /** service.instance.id: which process. */
  readonly instance: string;
  /** Of the resource. */
  readonly resource: ReadonlyMap<string, string>;
  readonly traceId: string;
  readonly spanId: string;
  /** Empty for a root. */
  readonly parentId: string;
  readonly traceState: string;
  readonly name: string;
  /** opentelemetry.proto.trace.v1.Span.SpanKind */
  readonly kind: number;
  readonly startNs: bigint;
  readonly endNs: bigint;
  readonly attributes: ReadonlyMap<string, string | number | boolean>;
  readonly links: readonly { readonly traceId: string; readonly spanId: string }[];
  readonly droppedLinks: number;
  /** 2: an error. */
  readonly statusCode: number;
  readonly statusMessage: string;
}

type Fields = Map<number, (Uint8Array | bigint)[]>;

/** Any protobuf message as field number → values; lengths as bytes, numbers as bigint. @throws RangeError */
export function parseMessage(bytes: Uint8Array): Fields {
  const fields: Fields = new Map();
  const view = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  let at = 0;
  // Numbers up to 2^53, which all but times are; those are fixed64.
  const varint = (): number => {
    let value = 0;
    for (let scale = 1; ; scale *= 128) {
      if (at >= view.length) throw new RangeError('the message ends within a number');
      const byte = view[at++]!;
      value += (byte & 0x7f) * scale;
      if (byte < 0x80) return value;
    }
  };
  while (at < view.length) {
    const tag = varint();
    const type = tag & 7;
    let value: Uint8Array | bigint;
    if (type === 0) value = BigInt(varint());
    else if (type === 1) {
      value = view.readBigUInt64LE(at);
      at += 8;
    } else if (type === 5) {
      value = BigInt(view.readUInt32LE(at));
      at += 4;
    } else if (type === 2) {
      const length = varint();
      if (at + length > view.length) throw new RangeError('the message ends within a field');
      value = view.subarray(at, at + length);
      at += length;
    } else throw new RangeError(`wire type ${type}`);
    const field = Math.floor(tag / 8);
    const values = fields.get(field);
    if (values === undefined) fields.set(field, [value]);
    else values.push(value);
  }
  return fields;
}

const messages = (fields: Fields, field: number): Fields[] =>
  (fields.get(field) ?? []).map((v) => parseMessage(v as Uint8Array));
const bytesOf = (fields: Fields, field: number): Buffer => {
  const value = fields.get(field)?.[0];
  return value instanceof Uint8Array
    ? Buffer.from(value.buffer, value.byteOffset, value.length)
    : Buffer.alloc(0);
};
const numberOf = (fields: Fields, field: number): bigint =>
  (fields.get(field)?.[0] as bigint | undefined) ?? 0n;
const hexOf = (fields: Fields, field: number): string => bytesOf(fields, field).toString('hex');

function attributesOf(fields: Fields, field: number): Map<string, string | number | boolean> {
  const attributes = new Map<string, string | number | boolean>();
  for (const attribute of messages(fields, field)) {
    const value = messages(attribute, 2)[0] ?? new Map();
    const key = bytesOf(attribute, 1).toString();
    if (value.has(2)) attributes.set(key, numberOf(value, 2) === 1n);
    else if (value.has(3)) attributes.set(key, Number(numberOf(value, 3)));
    else attributes.set(key, bytesOf(value, 1).toString());
  }
  return attributes;
}

/** Field numbers of opentelemetry/proto/{collector/trace,trace,resource,common}/v1. */
export function spansOf(request: Uint8Array): CollectedSpan[] {
  return messages(parseMessage(request), 1).flatMap((resourceSpans) => {
    const resource = new Map<string, string>();
    for (const found of messages(resourceSpans, 1)) {
      for (const [key, value] of attributesOf(found, 1)) resource.set(key, String(value));
    }
    const from = {
      service: resource.get('service.name') ?? '',
      instance: resource.get('service.instance.id') ?? '',
      resource,
    };
    return messages(resourceSpans, 2).flatMap((scopeSpans) =>
      messages(scopeSpans, 2).map((span) => ({ ...from, ...spanOf(span) })),
    );
  });
}

function spanOf(span: Fields): Omit<CollectedSpan, 'service' | 'instance' | 'resource'> {
  const status = messages(span, 15)[0] ?? new Map();
  return {
    traceId: hexOf(span, 1),
    spanId: hexOf(span, 2),
    parentId: hexOf(span, 4),
    traceState: bytesOf(span, 3).toString(),
    name: bytesOf(span, 5).toString(),
    kind: Number(numberOf(span, 6)),
    startNs: numberOf(span, 7),
    endNs: numberOf(span, 8),
    attributes: attributesOf(span, 9),
    links: messages(span, 13).map((link) => ({ traceId: hexOf(link, 1), spanId: hexOf(link, 2) })),
    droppedLinks: Number(numberOf(span, 14)),
    statusCode: Number(numberOf(status, 3)),
    statusMessage: bytesOf(status, 2).toString(),
  };
}
