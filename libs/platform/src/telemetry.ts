/**
 * OpenTelemetry behind base's `Tracer` port, and the decision at the edge which requests are traced.
 *
 * The SDK is loaded only when tracing is on. Finished spans wait in a bounded queue and leave in batches from a timer:
 * a collector that is slow or gone costs dropped spans, never a request.
 */
import { randomFillSync } from 'node:crypto';
import type { Span as OtelSpan, Tracer as OtelTracer, SpanContext } from '@opentelemetry/api';
import { type Span, type SpanAttributes, type Tracer, traceContextBytes } from '@quoin/base';
import type { TracingConfig } from './config/node-config.ts';

const queueSpansMax = 8_192;
const batchSpansMax = 512;
const batchDelayMs = 1_000;
const exportTimeoutMs = 5_000;
const shutdownTimeoutMs = 2_000;

const sampledFlag = 1;

/** A request that is being traced, from the edge's point of view. */
export interface EdgeSpan {
  /** What the handler gives to its own spans as parent. */
  readonly context: Uint8Array;
  /** `code` is the gRPC status. */
  end(code: number, message: string): void;
}

/** Tracing of one role of one process. */
export interface Telemetry {
  readonly tracer: Tracer;
  /**
   * The span of a call that came in, when it is to be traced: its caller says so, or says nothing and the dice do.
   *
   * @param metadata `traceparent` (text) or `grpc-trace-bin` (bytes) of the call
   */
  edge(
    path: string,
    metadata: (key: string) => string | Uint8Array | undefined,
    peer: string,
  ): EdgeSpan | undefined;
  /** Sends what waits, within a bound. */
  shutdown(): Promise<void>;
}

export interface TelemetryOptions {
  /** service.name when none was configured. */
  readonly service: string;
  readonly version: string;
}

/** Loads the SDK and connects to the collector in the background. */
export async function startTelemetry(config: TracingConfig, options: TelemetryOptions): Promise<Telemetry> {
  const [api, sdk, exporter, resources] = await Promise.all([
    import('@opentelemetry/api'),
    import('@opentelemetry/sdk-trace'),
    import('@opentelemetry/exporter-trace-otlp-grpc'),
    import('@opentelemetry/resources'),
  ]);
  const provider = new sdk.TracerProvider({
    resource: resources.resourceFromAttributes({
      'service.name': config.serviceName === '' ? options.service : config.serviceName,
      'service.version': options.version,
      'service.instance.id': config.instanceId,
    }),
    // Whether a request is traced was decided before its first span: at the edge, or by its caller.
    sampler: new sdk.AlwaysOnSampler(),
    spanProcessors: [
      new sdk.BatchSpanProcessor({
        exporter: new exporter.OTLPTraceExporter({
          url: `http://${config.address}`,
          timeoutMillis: exportTimeoutMs,
        }),
        maxQueueSize: queueSpansMax,
        maxExportBatchSize: batchSpansMax,
        scheduledDelayMillis: batchDelayMs,
        exportTimeoutMillis: exportTimeoutMs,
      }),
    ],
  });
  return new OtelTelemetry(api, provider.getTracer('quoin', options.version), config.samplingRatio, () =>
    provider.shutdown(),
  );
}

type OtelApi = typeof import('@opentelemetry/api');

class OtelTelemetry implements Telemetry {
  readonly tracer: Tracer;
  private readonly api: OtelApi;
  private readonly otel: OtelTracer;
  private readonly ratio: number;
  private readonly close: () => Promise<void>;
  private readonly dice = new Uint32Array(1);

  constructor(api: OtelApi, otel: OtelTracer, ratio: number, close: () => Promise<void>) {
    this.api = api;
    this.otel = otel;
    this.ratio = ratio;
    this.close = close;
    this.tracer = { start: this.start.bind(this), record: this.record.bind(this) };
  }

  edge(
    path: string,
    metadata: (key: string) => string | Uint8Array | undefined,
    peer: string,
  ): EdgeSpan | undefined {
    const parent = parseTraceparent(metadata('traceparent')) ?? parseTraceBin(metadata('grpc-trace-bin'));
    if (parent === undefined ? !this.sample() : (parent.traceFlags & sampledFlag) === 0) return undefined;
    const { api } = this;
    const context =
      parent === undefined ? api.ROOT_CONTEXT : api.trace.setSpanContext(api.ROOT_CONTEXT, parent);
    const [service, method] = path.slice(1).split('/');
    const span = this.otel.startSpan(
      path.slice(1),
      {
        kind: api.SpanKind.SERVER,
        attributes: {
          'rpc.system': 'grpc',
          'rpc.service': service ?? '',
          'rpc.method': method ?? '',
          'client.address': peer,
        },
      },
      context,
    );
    return {
      context: contextBytes(span.spanContext()),
      end: (code, message) => {
        span.setAttribute('rpc.grpc.status_code', code);
        if (code !== 0) span.setStatus({ code: api.SpanStatusCode.ERROR, message });
        span.end();
      },
    };
  }

  async shutdown(): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    const bound = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, shutdownTimeoutMs);
    });
    await Promise.race([this.close().catch(() => {}), bound]);
    clearTimeout(timer);
  }

  private sample(): boolean {
    if (this.ratio <= 0) return false;
    if (this.ratio >= 1) return true;
    randomFillSync(this.dice);
    return this.dice[0]! < this.ratio * 0x1_0000_0000;
  }

  private start(name: string, parent: Uint8Array, attributes?: SpanAttributes): Span {
    return new RunningSpan(this.api, this.child(name, parent, attributes));
  }

  private record(
    name: string,
    parent: Uint8Array,
    startWallMs: number,
    endWallMs: number,
    attributes?: SpanAttributes,
  ): void {
    this.child(name, parent, attributes, startWallMs).end(endWallMs);
  }

  private child(
    name: string,
    parent: Uint8Array,
    attributes?: SpanAttributes,
    startWallMs?: number,
  ): OtelSpan {
    const { api } = this;
    const from = parseContextBytes(parent);
    const context = from === undefined ? api.ROOT_CONTEXT : api.trace.setSpanContext(api.ROOT_CONTEXT, from);
    const options = {
      ...(attributes === undefined ? {} : { attributes: { ...attributes } }),
      ...(startWallMs === undefined ? {} : { startTime: startWallMs }),
    };
    return this.otel.startSpan(name, options, context);
  }
}

class RunningSpan implements Span {
  readonly context: Uint8Array;
  private readonly api: OtelApi;
  private readonly span: OtelSpan;

  constructor(api: OtelApi, span: OtelSpan) {
    this.api = api;
    this.span = span;
    this.context = contextBytes(span.spanContext());
  }

  end(attributes?: SpanAttributes): void {
    if (attributes !== undefined) this.span.setAttributes({ ...attributes });
    this.span.end();
  }

  fail(message: string): void {
    this.span.setStatus({ code: this.api.SpanStatusCode.ERROR, message });
    this.span.end();
  }
}

/** trace id (16) ‖ span id (8) ‖ flags (1), as base's `Tracer` has it. */
export function contextBytes(context: SpanContext): Uint8Array {
  const bytes = new Uint8Array(traceContextBytes);
  bytes.set(Buffer.from(context.traceId, 'hex'), 0);
  bytes.set(Buffer.from(context.spanId, 'hex'), 16);
  bytes[24] = context.traceFlags;
  return bytes;
}

/** Undefined for anything but 25 bytes with ids other than zero. */
export function parseContextBytes(bytes: Uint8Array): SpanContext | undefined {
  if (bytes.length !== traceContextBytes) return undefined;
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  const traceId = text.toString('hex', 0, 16);
  const spanId = text.toString('hex', 16, 24);
  if (/^0+$/.test(traceId) || /^0+$/.test(spanId)) return undefined;
  return { traceId, spanId, traceFlags: bytes[24]!, isRemote: true };
}

/** W3C Trace Context §3.2: `00-<32 hex>-<16 hex>-<2 hex>`; later versions may append to it. */
export function parseTraceparent(value: string | Uint8Array | undefined): SpanContext | undefined {
  if (typeof value !== 'string') return undefined;
  const match = /^([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?$/.exec(value.trim());
  if (match === null || match[1] === 'ff' || (match[1] === '00' && match[5] !== undefined)) return undefined;
  const [, , traceId, spanId, flags] = match;
  if (/^0+$/.test(traceId!) || /^0+$/.test(spanId!)) return undefined;
  return { traceId: traceId!, spanId: spanId!, traceFlags: Number.parseInt(flags!, 16), isRemote: true };
}

/** OpenCensus' binary form: version 0, then fields 0 (trace id), 1 (span id), 2 (options), each after its number. */
export function parseTraceBin(value: string | Uint8Array | undefined): SpanContext | undefined {
  if (!(value instanceof Uint8Array) || value.length < 29) return undefined;
  if (value[0] !== 0 || value[1] !== 0 || value[18] !== 1 || value[27] !== 2) return undefined;
  const bytes = new Uint8Array(traceContextBytes);
  bytes.set(value.subarray(2, 18), 0);
  bytes.set(value.subarray(19, 27), 16);
  bytes[24] = value[28]!;
  return parseContextBytes(bytes);
}
