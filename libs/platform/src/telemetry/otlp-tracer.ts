import { type Span, type SpanAttributes, SpanKind, type Tracer, traceContextBytes } from '@quoin/base';
import type { IdSource } from './span-ids.ts';
import type { SpanQueue } from './span-queue.ts';
import { sampledFlag } from './trace-headers.ts';

/** Base's `Tracer` over a queue. A parent that is not 25 bytes (from a newer peer, say) has no spans. */
export class OtlpTracer implements Tracer {
  private readonly queue: SpanQueue;
  private readonly ids: IdSource;

  constructor(queue: SpanQueue, ids: IdSource) {
    this.queue = queue;
    this.ids = ids;
  }

  /** Of a span below `parent`, or of a new trace. */
  newContext(parent: Uint8Array | undefined): Uint8Array {
    const context = new Uint8Array(traceContextBytes);
    if (parent === undefined) this.ids.traceId(context, 0);
    else for (let i = 0; i < 16; i++) context[i] = parent[i]!;
    this.ids.spanId(context, 16);
    context[24] = sampledFlag;
    return context;
  }

  start(name: string, parent: Uint8Array, kind: SpanKind = SpanKind.internal): Span {
    const from = parent.length === traceContextBytes ? parent : undefined;
    return new RunningSpan(this.queue, name, kind, from, this.newContext(from));
  }

  root(name: string): Span {
    return new RunningSpan(this.queue, name, SpanKind.internal, undefined, this.newContext(undefined));
  }

  record(
    name: string,
    parent: Uint8Array,
    startMs: number,
    endMs: number,
    kind: SpanKind = SpanKind.internal,
    attributes?: SpanAttributes,
  ): void {
    if (parent.length !== traceContextBytes) return;
    if (attributes === undefined) this.queue.writePlain(name, kind, parent, startMs, endMs);
    else this.queue.write({ name, kind, parent, startMs, endMs, attributes });
  }

  recordBelow(name: string, startMs: number, endMs: number): void {
    this.queue.writeBelow(name, startMs, endMs);
  }

  batch(
    name: string,
    startMs: number,
    endMs: number,
    links: readonly Uint8Array[],
    attributes: SpanAttributes,
  ): void {
    const context = this.newContext(undefined);
    this.queue.write({
      name,
      kind: SpanKind.internal,
      parent: context,
      isRoot: true,
      context,
      startMs,
      endMs,
      links,
      attributes,
    });
  }
}

class RunningSpan implements Span {
  readonly context: Uint8Array;
  readonly startMs: number;
  private readonly queue: SpanQueue;
  private readonly name: string;
  private readonly kind: SpanKind;
  private readonly parent: Uint8Array | undefined;
  private over = false;

  constructor(
    queue: SpanQueue,
    name: string,
    kind: SpanKind,
    parent: Uint8Array | undefined,
    context: Uint8Array,
  ) {
    this.queue = queue;
    this.name = name;
    this.kind = kind;
    this.parent = parent;
    this.context = context;
    this.startMs = performance.now();
  }

  end(attributes?: SpanAttributes, atMs: number = performance.now()): void {
    this.finish(attributes, undefined, atMs);
  }

  fail(message: string, attributes?: SpanAttributes): void {
    this.finish(attributes, message, performance.now());
  }

  private finish(attributes: SpanAttributes | undefined, problem: string | undefined, endMs: number): void {
    if (this.over) return;
    this.over = true;
    const { name, kind, parent, context, startMs } = this;
    this.queue.write({
      name,
      kind,
      parent: parent ?? context,
      isRoot: parent === undefined,
      context,
      startMs,
      endMs,
      attributes,
      problem,
    });
  }
}
