import { hex } from './bytes.ts';

/**
 * Tracing as a port: pure code starts and ends spans of sampled requests; `platform` maps them to OpenTelemetry.
 * An unsampled request carries no context and costs one comparison.
 *
 * Context on the wire is 25 bytes: trace id (16), parent span id (8), flags (1; bit 0 = sampled), the binary form
 * of W3C traceparent without its version.
 */
export const traceContextBytes = 25;

/** The trace id of a context as hex, as it is in logs. */
export function traceIdOf(context: Uint8Array): string {
  return hex(context.subarray(0, 16));
}

export type SpanAttributes = Readonly<Record<string, string | number | boolean>>;

export interface Span {
  /** What children carry: 25 bytes. */
  readonly context: Uint8Array;
  end(attributes?: SpanAttributes): void;
  fail(message: string): void;
}

export interface Tracer {
  /** A child of `parent`. Times are taken from the implementation's clock. */
  start(name: string, parent: Uint8Array, attributes?: SpanAttributes): Span;
  /** A span whose end was only known later: `startWallMs` and `endWallMs` in ms since the epoch. */
  record(
    name: string,
    parent: Uint8Array,
    startWallMs: number,
    endWallMs: number,
    attributes?: SpanAttributes,
  ): void;
}
