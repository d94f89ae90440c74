/**
 * OpenTelemetry behind base's `Tracer` port, and the decision at the edge which requests are traced.
 *
 *     edge ──sampled──► OtlpTracer ──bytes──► SpanQueue (bounded) ──► SpanExporter ──► collector
 *
 * Spans are recorded by our own light code, because a put has two dozen of them. What exports them is loaded only when
 * tracing is on. A collector that is slow or gone costs dropped spans, never a request.
 */
import { type Log, type MetricRegistry, SpanKind, type Tracer } from '@quoin/base';
import type { TracingConfig } from '../config/tracing-config.ts';
import { ConfigError } from '../config/values.ts';
import { OtlpMessage } from './otlp-message.ts';
import { OtlpTracer } from './otlp-tracer.ts';
import { openTransport } from './otlp-transport.ts';
import { SpanCounts, SpanExporter } from './span-exporter.ts';
import { IdSource } from './span-ids.ts';
import { SpanQueue } from './span-queue.ts';
import {
  parseBaggage,
  parseTraceBin,
  parseTraceparent,
  parseTraceState,
  sampledFlag,
} from './trace-headers.ts';

/** A request that is being traced, from the edge's point of view. */
export interface EdgeSpan {
  /** What the handler gives to its own spans as parent. */
  readonly context: Uint8Array;
  /** The answer has been handed over. `code` is the gRPC status. */
  end(code: number, message: string): void;
}

/** Tracing of one role of one process. */
export interface Telemetry {
  readonly tracer: Tracer;
  /** For the other roles of this process. */
  readonly counts: SpanCounts;
  /**
   * The span of a call that came in, when it is to be traced: its caller says so, or says nothing and the dice do.
   *
   * @param metadata `traceparent`, `tracestate`, `baggage` (text) or `grpc-trace-bin` (bytes) of the call
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
  readonly log: Log;
  /** Where spans are counted; absent when another role of the process does so with `counts`. */
  readonly metrics?: MetricRegistry;
  readonly counts?: SpanCounts | undefined;
}

const cancelled = 1;
/** Whose attributes are kept; a client may call any name. */
const rpcsMax = 256;
const shutdownTimeoutMs = 2_000;
const queueBytesMax = 16 << 20;

/**
 * Loads the exporter and connects to the collector in the background.
 *
 * @throws ConfigError when a certificate cannot be read
 */
export async function startTelemetry(config: TracingConfig, options: TelemetryOptions): Promise<Telemetry> {
  const resource = {
    'service.name': config.serviceName === '' ? options.service : config.serviceName,
    'service.version': options.version,
    'service.instance.id': config.instanceId,
    'telemetry.sdk.language': 'nodejs',
    'telemetry.sdk.name': 'opentelemetry',
    ...config.attributes,
  };
  const message = new OtlpMessage(resource, 'quoin', options.version);
  const transport = await openTransport(config, message, options.log).catch((error: Error) => {
    throw new ConfigError(`traces cannot be exported to ${config.url}: ${error.message}`);
  });
  const ids = new IdSource();
  const queue = new SpanQueue({ ...config, queueBytesMax }, ids);
  const counts = options.counts ?? new SpanCounts();
  counts.queues.push(queue);
  if (options.metrics !== undefined && options.counts === undefined) counts.register(options.metrics);
  const exporter = new SpanExporter(queue, transport, config, counts, options.log, config.url);
  return new OtlpTelemetry(config, queue, ids, counts, exporter);
}

class OtlpTelemetry implements Telemetry {
  readonly tracer: OtlpTracer;
  readonly counts: SpanCounts;
  private readonly config: TracingConfig;
  private readonly queue: SpanQueue;
  private readonly ids: IdSource;
  private readonly exporter: SpanExporter;
  private readonly threshold: number;
  private readonly rpcs = new Map<string, Uint8Array>();
  /** Calls whose answers wait in a socket's turn. */
  private answered: EdgeCall[] = [];

  constructor(
    config: TracingConfig,
    queue: SpanQueue,
    ids: IdSource,
    counts: SpanCounts,
    exporter: SpanExporter,
  ) {
    this.config = config;
    this.queue = queue;
    this.ids = ids;
    this.counts = counts;
    this.exporter = exporter;
    this.tracer = new OtlpTracer(queue, ids);
    this.threshold = config.samplingRatio * 0x1_0000_0000;
  }

  edge(
    path: string,
    metadata: (key: string) => string | Uint8Array | undefined,
    peer: string,
  ): EdgeSpan | undefined {
    const { config } = this;
    const parent = config.takesParent
      ? (parseTraceparent(metadata('traceparent')) ?? parseTraceBin(metadata('grpc-trace-bin')))
      : undefined;
    if (!this.sampled(parent)) return undefined;
    const context = this.tracer.newContext(parent);
    return new EdgeCall(this, path, peer, context, parent, metadata);
  }

  shutdown(): Promise<void> {
    this.written();
    return this.exporter.close(shutdownTimeoutMs);
  }

  /** Ends behind the socket's write of this turn, so that a trace shows it. */
  ended(call: EdgeCall): void {
    if (this.answered.length === 0) setImmediate(() => this.written());
    this.answered.push(call);
  }

  record(call: EdgeCall, endMs: number): void {
    const { queue, config } = this;
    const { parent, context, metadata } = call;
    const traceState = parent === undefined ? undefined : parseTraceState(metadata('tracestate'));
    const baggage = config.takesBaggage ? parseBaggage(metadata('baggage')) : undefined;
    queue.write({
      name: call.name,
      kind: SpanKind.server,
      parent: parent ?? context,
      isRoot: parent === undefined,
      context,
      startMs: call.startMs,
      endMs,
      ...(traceState === undefined ? {} : { traceState }),
      encoded: this.rpcAttributes(call.name),
      attributes:
        baggage === undefined
          ? { 'rpc.grpc.status_code': call.code, 'client.address': call.peer }
          : { 'rpc.grpc.status_code': call.code, 'client.address': call.peer, ...baggage },
      problem: call.code === 0 ? undefined : call.message,
    });
    // A cancelled call has no reply.
    if (call.code !== cancelled)
      queue.writePlain('gateway.reply', SpanKind.internal, context, call.answeredMs, endMs);
  }

  private rpcAttributes(name: string): Uint8Array {
    const known = this.rpcs.get(name);
    if (known !== undefined) return known;
    const [service = '', method = ''] = name.split('/', 2);
    const encoded = this.queue.encodeAttributes({
      'rpc.system': 'grpc',
      'rpc.service': service,
      'rpc.method': method,
    });
    if (this.rpcs.size < rpcsMax) this.rpcs.set(name, encoded);
    return encoded;
  }

  private written(): void {
    const calls = this.answered;
    this.answered = [];
    const nowMs = performance.now();
    for (const call of calls) this.record(call, nowMs);
  }

  private sampled(parent: Uint8Array | undefined): boolean {
    if (parent !== undefined && this.config.parentBased) return (parent[24]! & sampledFlag) !== 0;
    if (this.threshold <= 0) return false;
    // By the caller's id, so that all who sample by ratio choose the same traces.
    const draw =
      parent === undefined
        ? this.ids.u32()
        : (parent[12]! * 0x100_0000 + (parent[13]! << 16) + (parent[14]! << 8) + parent[15]!) >>> 0;
    return draw < this.threshold;
  }
}

/** One sampled call at the edge: becomes a span when it is over. */
class EdgeCall implements EdgeSpan {
  readonly context: Uint8Array;
  /** service/method */
  readonly name: string;
  readonly peer: string;
  readonly parent: Uint8Array | undefined;
  readonly metadata: (key: string) => string | Uint8Array | undefined;
  readonly startMs: number;
  answeredMs = 0;
  code = -1;
  message = '';
  private readonly telemetry: OtlpTelemetry;

  constructor(
    telemetry: OtlpTelemetry,
    path: string,
    peer: string,
    context: Uint8Array,
    parent: Uint8Array | undefined,
    metadata: (key: string) => string | Uint8Array | undefined,
  ) {
    this.telemetry = telemetry;
    this.name = path.slice(1);
    this.peer = peer;
    this.context = context;
    this.parent = parent;
    this.metadata = metadata;
    this.startMs = performance.now();
  }

  end(code: number, message: string): void {
    if (this.code !== -1) return;
    this.code = code;
    this.message = message;
    this.answeredMs = performance.now();
    this.telemetry.ended(this);
  }
}
