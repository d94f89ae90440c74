/** An OpenTelemetry collector in this process, for tests and the dev cluster: takes OTLP over gRPC and over HTTP. */
import { createServer, type Server as HttpServer, type IncomingHttpHeaders } from 'node:http';
import type { AddressInfo } from 'node:net';
import { gunzipSync } from 'node:zlib';
import { type Metadata, Server, ServerCredentials, status } from '@grpc/grpc-js';
import { type CollectedSpan, spansOf } from './otlp.ts';

export type { CollectedSpan } from './otlp.ts';

export interface CollectorOptions {
  /** Takes what comes, in place of keeping it in `spans`. */
  readonly onSpans?: (spans: CollectedSpan[]) => void;
  /** For gRPC: its certificate and key, in PEM. */
  readonly tls?: { readonly cert: string; readonly key: string };
}

interface ExportCall {
  readonly request: Buffer;
  readonly metadata: Metadata;
}

type Reply = (error: { code: number; details: string } | null, response?: Buffer) => void;

/** For a process that is to send its spans there; `rate`: requests per million that are traced. */
export function tracingFlags(address: string, rate: number): string[] {
  return [
    '--enable-distributed-tracing',
    `--distributed-tracing-address=${address}`,
    `--distributed-tracing-sampling-rate=${rate}`,
  ];
}

const exportPath = '/opentelemetry.proto.collector.trace.v1.TraceService/Export';

export class Collector {
  readonly spans: CollectedSpan[] = [];
  /** host:port of gRPC. */
  address = '';
  /** Base URL of HTTP; traces are taken below it. */
  httpUrl = '';
  /** Of each export, in order. */
  readonly headers: Record<string, string>[] = [];
  exports = 0;
  bytes = 0;
  /** Each answer waits so long. */
  delayMs = 0;
  /** Exports are refused. */
  refusing = false;
  private readonly options: CollectorOptions;
  private readonly server = new Server({ 'grpc.max_receive_message_length': 64 << 20 });
  private http: HttpServer | undefined;

  constructor(options: CollectorOptions = {}) {
    this.options = options;
  }

  /** `port` of gRPC; 0: any. */
  async start(port = 0): Promise<void> {
    const identity = (b: Buffer): Buffer => b;
    this.server.register(
      exportPath,
      (call: ExportCall, reply: Reply) => {
        const taken = this.take(call.request, plain(call.metadata.getMap()));
        setTimeout(() => {
          if (taken) reply(null, Buffer.alloc(0));
          else reply({ code: status.UNAVAILABLE, details: 'refused by the test' });
        }, this.delayMs);
      },
      identity,
      identity,
      'unary',
    );
    const bound = await new Promise<number>((resolve, reject) => {
      this.server.bindAsync(`127.0.0.1:${port}`, credentialsOf(this.options.tls), (error, at) =>
        error === null ? resolve(at) : reject(error),
      );
    });
    this.address = `127.0.0.1:${bound}`;
    await this.startHttp();
  }

  stop(): void {
    this.server.forceShutdown();
    this.http?.closeAllConnections();
    this.http?.close();
  }

  /** Of one trace, in order of their starts. */
  trace(traceId: string): CollectedSpan[] {
    return this.spans
      .filter((span) => span.traceId === traceId)
      .sort((a, b) => (a.startNs < b.startNs ? -1 : a.startNs > b.startNs ? 1 : 0));
  }

  private async startHttp(): Promise<void> {
    const http = createServer((request, response) => {
      const chunks: Buffer[] = [];
      request.on('data', (chunk: Buffer) => chunks.push(chunk));
      request.on('end', () => {
        const known = request.method === 'POST' && request.url === '/v1/traces';
        const body = Buffer.concat(chunks);
        const zipped = request.headers['content-encoding'] === 'gzip';
        const taken = known && this.take(zipped ? gunzipSync(body) : body, plain(request.headers));
        setTimeout(() => {
          response.writeHead(known ? (taken ? 200 : 400) : 404, { 'content-type': 'application/x-protobuf' });
          response.end();
        }, this.delayMs);
      });
    });
    this.http = http;
    await new Promise<void>((resolve) => http.listen(0, '127.0.0.1', resolve));
    this.httpUrl = `http://127.0.0.1:${(http.address() as AddressInfo).port}`;
  }

  private take(request: Buffer, headers: Record<string, string>): boolean {
    this.exports++;
    this.bytes += request.length;
    if (this.refusing) return false;
    this.headers.push(headers);
    const spans = spansOf(request);
    if (this.options.onSpans !== undefined) this.options.onSpans(spans);
    else this.spans.push(...spans);
    return true;
  }
}

function credentialsOf(tls: CollectorOptions['tls']): ServerCredentials {
  if (tls === undefined) return ServerCredentials.createInsecure();
  const pair = { cert_chain: Buffer.from(tls.cert), private_key: Buffer.from(tls.key) };
  return ServerCredentials.createSsl(null, [pair]);
}

function plain(headers: IncomingHttpHeaders | Record<string, string | Buffer>): Record<string, string> {
  return Object.fromEntries(Object.entries(headers).map(([key, value]) => [key, String(value)]));
}
