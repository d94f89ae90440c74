/**
 * OTLP over gRPC on node:http2: one unary call at a time, whose message goes to the socket as it is. grpc-js copies each
 * message twice, and V8 collects all garbage after so many bytes of copies: with every put traced that took more CPU
 * than all else about its spans.
 */
import type { OutgoingHttpHeaders } from 'node:http';
import { type ClientHttp2Session, type ClientHttp2Stream, connect, constants } from 'node:http2';
import { gzip } from 'node:zlib';
import type { TracingConfig } from '../config/tracing-config.ts';

export interface CollectorCertificates {
  readonly ca?: Buffer;
  readonly cert?: Buffer;
  readonly key?: Buffer;
}

type Done = (problem: string | undefined) => void;

const exportPath = '/opentelemetry.proto.collector.trace.v1.TraceService/Export';
const headBytes = 5;

export class OtlpGrpc {
  private readonly config: TracingConfig;
  private readonly certificates: CollectorCertificates;
  private session: ClientHttp2Session | undefined;

  /** Connects with the first message. */
  constructor(config: TracingConfig, certificates: CollectorCertificates) {
    this.config = config;
    this.certificates = certificates;
  }

  /** `cb` gets what went wrong, or undefined, within the configured time; `message` stays as it is until then. */
  send(message: Uint8Array, cb: Done): void {
    if (this.config.compression === 'none') return this.call(message, false, cb);
    gzip(message, (error, zipped) => {
      if (error === null) this.call(zipped, true, cb);
      else cb(error.message);
    });
  }

  close(): void {
    this.session?.destroy();
    this.session = undefined;
  }

  private call(message: Uint8Array, isZipped: boolean, cb: Done): void {
    const session = this.connected();
    let stream: ClientHttp2Stream;
    try {
      stream = session.request(this.requestHeaders(isZipped));
    } catch (error) {
      // A configured header that HTTP/2 cannot carry.
      return cb((error as Error).message);
    }
    const head = new Uint8Array(headBytes);
    head[0] = isZipped ? 1 : 0;
    new DataView(head.buffer).setUint32(1, message.length);
    outcomeOf(stream, this.config.exportTimeoutMs, (problem) => {
      // A connection that has lost its far end without a word says so only by silence.
      if (problem !== undefined && this.session === session) this.close();
      cb(problem);
    });
    stream.write(head);
    stream.end(message);
  }

  private requestHeaders(isZipped: boolean): OutgoingHttpHeaders {
    const { headers, exportTimeoutMs } = this.config;
    return {
      ':method': 'POST',
      ':path': exportPath,
      'content-type': 'application/grpc',
      te: 'trailers',
      'grpc-timeout': `${exportTimeoutMs}m`,
      ...(isZipped ? { 'grpc-encoding': 'gzip' } : {}),
      ...Object.fromEntries(Object.entries(headers).map(([name, value]) => [name.toLowerCase(), value])),
    };
  }

  private connected(): ClientHttp2Session {
    if (this.session !== undefined && !this.session.closed && !this.session.destroyed) return this.session;
    const session = connect(this.config.url, this.certificates);
    this.session = session;
    session.unref();
    const gone = (): void => {
      if (this.session === session) this.session = undefined;
    };
    // The call that is under way hears of it by its own stream.
    session.on('error', gone);
    session.on('goaway', gone);
    session.on('close', gone);
    return session;
  }
}

/** Calls `cb` once. */
function outcomeOf(stream: ClientHttp2Stream, timeoutMs: number, cb: Done): void {
  let status: string | undefined;
  let said = '';
  let problem: string | undefined;
  const timer = setTimeout(() => {
    problem = `no answer within ${timeoutMs} ms`;
    stream.close(constants.NGHTTP2_CANCEL);
  }, timeoutMs);
  timer.unref();
  const read = (headers: Readonly<Record<string, unknown>>): void => {
    if (headers['grpc-status'] === undefined) return;
    status = String(headers['grpc-status']);
    said = decoded(String(headers['grpc-message'] ?? ''));
  };
  stream.on('response', (headers) => {
    if (headers[':status'] !== 200) problem ??= `HTTP status ${headers[':status']}`;
    read(headers);
  });
  stream.on('trailers', read);
  stream.on('error', (error) => {
    problem ??= error.message;
  });
  stream.on('close', () => {
    clearTimeout(timer);
    if (status === '0') return cb(undefined);
    cb(status === undefined ? (problem ?? 'the connection was closed') : `gRPC status ${status}: ${said}`);
  });
  // What a collector has to say of spans that it did not like goes to nobody.
  stream.resume();
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
