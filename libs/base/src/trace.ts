import { hex } from './bytes.ts';

/**
 * Tracing as a port: pure code records what a sampled request did and when; `platform` makes OpenTelemetry spans of it.
 * An unsampled request carries no context and costs one comparison; where tracing is off there is no tracer.
 *
 * Context on the wire is 25 bytes: trace id (16), parent span id (8), flags (1; bit 0 = sampled), the binary form
 * of W3C traceparent without its version. Times are milliseconds of the clock's `monotonicMs`.
 */
export const traceContextBytes = 25;

/** The trace id of a context as hex, as it is in logs. */
export function traceIdOf(context: Uint8Array): string {
  return hex(context.subarray(0, 16));
}

/** OTLP's numbers. A consumer works on what its parent left behind, and may end after it. */
export const SpanKind = { internal: 1, server: 2, client: 3, producer: 4, consumer: 5 } as const;
export type SpanKind = (typeof SpanKind)[keyof typeof SpanKind];

/** Numbers must be whole ones below 2^53. */
export type SpanAttributes = Readonly<Record<string, string | number | boolean>>;

/** Something under way that has, or may have, spans below it. */
export interface Span {
  /** What children carry: 25 bytes. */
  readonly context: Uint8Array;
  readonly startMs: number;
  /** Only the first of `end` and `fail` counts. `atMs`: when it ended, if not now. */
  end(attributes?: SpanAttributes, atMs?: number): void;
  fail(message: string, attributes?: SpanAttributes): void;
}

export interface Tracer {
  /** Begins a span below `parent` now. */
  start(name: string, parent: Uint8Array, kind?: SpanKind): Span;
  /** Begins a trace of what this node does on its own. There are few of these, so they are always sampled. */
  root(name: string): Span;
  /** A span that is over, below `parent`. Cheaper than `start`: nothing is kept. */
  record(
    name: string,
    parent: Uint8Array,
    startMs: number,
    endMs: number,
    kind?: SpanKind,
    attributes?: SpanAttributes,
  ): void;
  /** The same, below the span that the last `record` made. */
  recordBelow(name: string, startMs: number, endMs: number): void;
  /** What one turn did for many requests at once: a trace of its own, linked to each request's span. */
  batch(
    name: string,
    startMs: number,
    endMs: number,
    links: readonly Uint8Array[],
    attributes: SpanAttributes,
  ): void;
}
