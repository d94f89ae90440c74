import type { SpanBatch } from './span-queue.ts';

const utf8 = new TextEncoder();

function varint(value: number): number[] {
  const out: number[] = [];
  let left = value;
  while (left >= 0x80) {
    out.push((left % 0x80) | 0x80);
    left = Math.floor(left / 0x80);
  }
  out.push(left);
  return out;
}

function field(number: number, body: Uint8Array): Uint8Array {
  return Uint8Array.from([...varint((number << 3) | 2), ...varint(body.length), ...body]);
}

function join(...parts: readonly Uint8Array[]): Uint8Array {
  const bytes = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}

/**
 * `ExportTraceServiceRequest` of one resource and one scope: all but the spans is the same each time.
 *
 *     request{1: ResourceSpans{1: Resource{1: KeyValue…}, 2: ScopeSpans{1: Scope{1: name, 2: version}, 2: Span…}}}
 */
export class OtlpMessage {
  private readonly resource: Uint8Array;
  private readonly scope: Uint8Array;

  constructor(resource: Readonly<Record<string, string>>, scope: string, version: string) {
    const attributes = Object.entries(resource).map(([key, value]) =>
      field(1, join(field(1, utf8.encode(key)), field(2, field(1, utf8.encode(value))))),
    );
    this.resource = field(1, join(...attributes));
    this.scope = field(1, join(field(1, utf8.encode(scope)), field(2, utf8.encode(version))));
  }

  encode(batch: SpanBatch): Uint8Array {
    const scopeBytes = this.scope.length + batch.bytes;
    const scopeHead = Uint8Array.from([0x12, ...varint(scopeBytes)]);
    const resourceBytes = this.resource.length + scopeHead.length + scopeBytes;
    const head = Uint8Array.from([0x0a, ...varint(resourceBytes)]);
    return join(head, this.resource, scopeHead, this.scope, ...batch.chunks);
  }
}
