/** The way to a collector, for messages that are encoded already: over gRPC our own, over HTTP opentelemetry-js'. */
import { readFileSync } from 'node:fs';
import { DiagLogLevel, diag } from '@opentelemetry/api';
import type { Log } from '@quoin/base';
import type { TracingConfig } from '../config/tracing-config.ts';
import { type CollectorCertificates, OtlpGrpc } from './otlp-grpc.ts';
import type { OtlpMessage } from './otlp-message.ts';
import type { SpanBatch } from './span-queue.ts';

export interface OtlpTransport {
  /** One at a time. `cb` gets what went wrong, or undefined; within the configured time. */
  send(batch: SpanBatch, cb: (problem: string | undefined) => void): void;
  close(): void;
}

/** The exporter sends one message after the other. */
const concurrencyLimit = 2;

/** @throws Error when a certificate cannot be read */
export async function openTransport(
  config: TracingConfig,
  message: OtlpMessage,
  log: Log,
): Promise<OtlpTransport> {
  if (config.protocol === 'grpc') {
    const grpc = new OtlpGrpc(config, certificates(config));
    return {
      send: (batch, cb) => grpc.send(message.encode(batch), renewing(message, cb)),
      close: () => grpc.close(),
    };
  }
  listen(log);
  const serializer = {
    serializeRequest: (batch: SpanBatch) => message.encode(batch),
    // What a collector has to say of spans that it did not like goes to nobody.
    deserializeResponse: () => undefined,
  };
  const counter = { name: 'span' as const, countItems: (batch: SpanBatch) => batch.spans };
  const delegate = await httpDelegate(config, serializer, counter);
  return {
    send: (batch, cb) => {
      const done = renewing(message, cb);
      delegate.export(batch, ({ code, error }) =>
        done(code === 0 ? undefined : (error?.message ?? 'unknown error')),
      );
    },
    close: () => {
      delegate.shutdown().catch(() => {});
    },
  };
}

/** What failed, by its time perhaps, may be on its way yet: its buffer is not written again. */
function renewing(message: OtlpMessage, cb: (problem: string | undefined) => void) {
  return (problem: string | undefined): void => {
    if (problem !== undefined) message.renew();
    cb(problem);
  };
}

/** What opentelemetry-js has to say, for those who look closely: what matters is told by the exporter, once. */
function listen(log: Log): void {
  const say = (message: string): void => log.debug(`opentelemetry: ${message}`);
  const logger = { error: say, warn: say, info: say, debug: say, verbose: say };
  diag.setLogger(logger, { logLevel: DiagLogLevel.WARN, suppressOverrideMessage: true });
}

interface Serializer {
  serializeRequest(batch: SpanBatch): Uint8Array;
  deserializeResponse(data: Uint8Array): undefined;
}

interface Counter {
  readonly name: 'span';
  countItems(batch: SpanBatch): number;
}

async function httpDelegate(config: TracingConfig, serializer: Serializer, counter: Counter) {
  const { createOtlpHttpExportDelegate, httpAgentFactoryFromOptions } = await import(
    '@opentelemetry/otlp-exporter-base/node-http'
  );
  const { ca, cert, key } = certificates(config);
  const options = {
    url: config.url,
    timeoutMillis: config.exportTimeoutMs,
    concurrencyLimit,
    compression: config.compression,
    headers: () => Promise.resolve({ 'Content-Type': 'application/x-protobuf', ...config.headers }),
    agentFactory: httpAgentFactoryFromOptions({
      keepAlive: true,
      ...(ca === undefined ? {} : { ca }),
      ...(cert === undefined ? {} : { cert }),
      ...(key === undefined ? {} : { key }),
    }),
  };
  return createOtlpHttpExportDelegate(options, serializer, 'otlp_http_span_exporter', counter, undefined);
}

function certificates(config: TracingConfig): CollectorCertificates {
  const read = (file: string): Buffer | undefined => (file === '' ? undefined : readFileSync(file));
  const { caFile, certFile, keyFile } = config;
  const found = { ca: read(caFile), cert: read(certFile), key: read(keyFile) };
  return Object.fromEntries(Object.entries(found).filter(([, value]) => value !== undefined));
}
