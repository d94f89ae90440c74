/** An OpenTelemetry collector for tests: takes OTLP over gRPC and keeps the spans. */
import { Server, ServerCredentials } from '@grpc/grpc-js';

export interface CollectedSpan {
  readonly service: string;
  /** service.instance.id: which process. */
  readonly instance: string;
  readonly traceId: string;
  readonly spanId: string;
  /** Empty for a root. */
  readonly parentId: string;
  readonly name: string;
  readonly startNs: bigint;
  readonly endNs: bigint;
}

type Fields = Map<number, (Uint8Array | bigint)[]>;

/** Any protobuf message as field number → values; lengths as bytes, numbers as bigint. */
function parse(bytes: Uint8Array): Fields {
  const fields: Fields = new Map();
  const view = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  let at = 0;
  const varint = (): bigint => {
    let value = 0n;
    for (let shift = 0n; ; shift += 7n) {
      const byte = view[at++]!;
      value |= BigInt(byte & 0x7f) << shift;
      if (byte < 0x80) return value;
    }
  };
  while (at < view.length) {
    const tag = Number(varint());
    let value: Uint8Array | bigint;
    if ((tag & 7) === 0) value = varint();
    else if ((tag & 7) === 1) {
      value = view.readBigUInt64LE(at);
      at += 8;
    } else if ((tag & 7) === 5) {
      value = BigInt(view.readUInt32LE(at));
      at += 4;
    } else {
      const length = Number(varint());
      value = view.subarray(at, at + length);
      at += length;
    }
    const values = fields.get(tag >> 3) ?? [];
    values.push(value);
    fields.set(tag >> 3, values);
  }
  return fields;
}

const messages = (fields: Fields, field: number): Fields[] =>
  (fields.get(field) ?? []).map((v) => parse(v as Uint8Array));
const bytesOf = (fields: Fields, field: number): Buffer =>
  Buffer.from((fields.get(field)?.[0] as Uint8Array | undefined) ?? []);
const numberOf = (fields: Fields, field: number): bigint =>
  (fields.get(field)?.[0] as bigint | undefined) ?? 0n;

/** Field numbers of opentelemetry/proto/{collector/trace,trace,resource,common}/v1. */
function spansOf(request: Uint8Array): CollectedSpan[] {
  return messages(parse(request), 1).flatMap((resourceSpans) => {
    const attributes = new Map<string, string>();
    for (const resource of messages(resourceSpans, 1)) {
      for (const attribute of messages(resource, 1)) {
        const value = messages(attribute, 2)[0];
        if (value !== undefined)
          attributes.set(bytesOf(attribute, 1).toString(), bytesOf(value, 1).toString());
      }
    }
    return messages(resourceSpans, 2).flatMap((scopeSpans) =>
      messages(scopeSpans, 2).map((span) => ({
        service: attributes.get('service.name') ?? '',
        instance: attributes.get('service.instance.id') ?? '',
        traceId: bytesOf(span, 1).toString('hex'),
        spanId: bytesOf(span, 2).toString('hex'),
        parentId: bytesOf(span, 4).toString('hex'),
        name: bytesOf(span, 5).toString(),
        startNs: numberOf(span, 7),
        endNs: numberOf(span, 8),
      })),
    );
  });
}

export class Collector {
  readonly spans: CollectedSpan[] = [];
  address = '';
  private readonly server = new Server();

  async start(): Promise<void> {
    const identity = (b: Buffer): Buffer => b;
    this.server.register(
      '/opentelemetry.proto.collector.trace.v1.TraceService/Export',
      (call: { request: Buffer }, callback: (error: null, response: Buffer) => void) => {
        this.spans.push(...spansOf(call.request));
        callback(null, Buffer.alloc(0));
      },
      identity,
      identity,
      'unary',
    );
    const port = await new Promise<number>((resolve, reject) => {
      this.server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, bound) =>
        error === null ? resolve(bound) : reject(error),
      );
    });
    this.address = `127.0.0.1:${port}`;
  }

  stop(): void {
    this.server.forceShutdown();
  }
}
