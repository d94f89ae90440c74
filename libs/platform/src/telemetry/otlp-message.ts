import { concatBytes, utf8 } from '@quoin/base';
import { putUint, uintSize } from '@quoin/contracts';
import type { SpanBatch } from './span-queue.ts';

/** A larger buffer is not kept. */
const keptBytesMax = 4 << 20;

function varint(value: number): Uint8Array {
  const out = new Uint8Array(uintSize(value));
  putUint(out, 0, value);
  return out;
}

function field(number: number, body: Uint8Array): Uint8Array {
  return Uint8Array.from([...varint((number << 3) | 2), ...varint(body.length), ...body]);
}

/**
 * `ExportTraceServiceRequest` of one resource and one scope: all but the spans is the same each time.
 *
 *     request{1: ResourceSpans{1: Resource{1: KeyValue…}, 2: ScopeSpans{1: Scope{1: name, 2: version}, 2: Span…}}}
 */
export class OtlpMessage {
  private readonly resource: Uint8Array;
  private readonly scope: Uint8Array;
  private buffer = new Uint8Array(0);

  constructor(resource: Readonly<Record<string, string>>, scope: string, version: string) {
    const attributes = Object.entries(resource).map(([key, value]) =>
      field(1, concatBytes([field(1, utf8(key)), field(2, field(1, utf8(value)))])),
    );
    this.resource = field(1, concatBytes(attributes));
    this.scope = field(1, concatBytes([field(1, utf8(scope)), field(2, utf8(version))]));
  }

  /** The message is good until the next one: its buffer is used again. */
  encode(batch: SpanBatch): Uint8Array {
    const scopeBytes = this.scope.length + batch.bytes;
    const scopeHead = Uint8Array.from([0x12, ...varint(scopeBytes)]);
    const resourceBytes = this.resource.length + scopeHead.length + scopeBytes;
    const head = Uint8Array.from([0x0a, ...varint(resourceBytes)]);
    const out = this.room(head.length + resourceBytes);
    let at = 0;
    for (const part of [head, this.resource, scopeHead, this.scope]) {
      out.set(part, at);
      at += part.length;
    }
    for (const { bytes } of batch.chunks) {
      out.set(bytes, at);
      at += bytes.length;
    }
    return out;
  }

  /** Somebody may still read the last one. */
  renew(): void {
    this.buffer = new Uint8Array(0);
  }

  private room(bytes: number): Uint8Array {
    if (bytes > keptBytesMax) return new Uint8Array(bytes);
    if (this.buffer.length < bytes) this.buffer = new Uint8Array(Math.min(keptBytesMax, bytes * 2));
    return this.buffer.subarray(0, bytes);
  }
}
