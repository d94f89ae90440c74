import type { Clock } from '@quoin/base';
import { concatBytes, utf8 } from '@quoin/base';
import { decodeBinaryValue, isBinaryKey } from './binary-metadata.ts';
import { Connection, type ConnectionEvents } from './connection.ts';
import type { ConnectionOptions } from './connection-options.ts';
import { messagePrefix, messagePrefixBytes } from './frames.ts';
import { parseGrpcTimeoutMs } from './grpc-timeout.ts';
import { encodeHeaders, type HeaderField, HeaderTemplate } from './hpack.ts';
import { type Gunzip, MessageReader, readLength } from './message-reader.ts';
import { type GrpcAnswerRest, PartedReply } from './parted-reply.ts';
import {
  type PlainCall,
  type PlainHead,
  type PlainReply,
  type PlainRequest,
  type PlainResponse,
  plainHandler,
  StreamedResponse,
} from './plain.ts';
import type { Stream, StreamHandler } from './stream.ts';

/** gRPC over HTTP/2 (the protocol document PROTOCOL-HTTP2 of the gRPC project), on the server's side. */

export interface GrpcStatus {
  readonly code: number;
  readonly message: string;
}

export interface GrpcCallContext {
  /** Monotonic ms at which the client gives up; undefined: never. */
  readonly deadlineMs: number | undefined;
  metadata(key: string): string | undefined;
  readonly trace: Uint8Array | undefined;
  readonly peer: string;
  /** The user that the connection's certificate names; empty: none. */
  readonly certUser: string;
}

/** One streaming call. The handler sets the `on…` members before it returns. */
export interface GrpcServerStream {
  send(message: readonly Uint8Array[]): boolean;
  queuedBytes(): number;
  /** True: the client gets no more room, and at most what is left of the frame in hand is delivered. */
  hold(on: boolean): void;
  end(status: GrpcStatus | null): void;
  onMessage: (message: Uint8Array) => void;
  onHalfClose: () => void;
  onCancel: () => void;
  onDrain: () => void;
}

/** Who answers the calls; the same shape as the gateway's ApiHandler. */
export interface GrpcHandler {
  unary(
    path: string,
    request: Uint8Array,
    context: GrpcCallContext,
    reply: (status: GrpcStatus | null, response: readonly Uint8Array[], rest?: GrpcAnswerRest) => void,
    takesParts: boolean,
  ): () => void;
  stream(path: string, context: GrpcCallContext, stream: GrpcServerStream): void;
}

export interface GrpcServerOptions extends ConnectionOptions {
  /** A longer request message is refused with ResourceExhausted. */
  readonly maxMessageBytes: number;
}

/** The span of one call, ended with its status. */
export interface CallSpan {
  /** The 25-byte trace context that goes on with the call. */
  readonly context: Uint8Array | undefined;
  end(code: number, message: string): void;
}

export interface GrpcServerPorts {
  readonly clock: Clock;
  readonly handler: GrpcHandler;
  /** Whether the path takes one request message and gives one answer. Unknown paths count as such. */
  readonly isStreaming: (path: string) => boolean;
  /**
   * Begins the span of a call; undefined when it is not sampled. Absent: tracing is off.
   * `metadata` gives the first value: bytes for keys that end in `-bin`, text for others.
   */
  readonly span:
    | ((
        path: string,
        metadata: (key: string) => string | Uint8Array | undefined,
        peer: string,
      ) => CallSpan | undefined)
    | undefined;
  readonly gunzip: Gunzip;
  readonly plain: (request: PlainRequest, reply: PlainReply) => void;
  /** Asked before `plain`: takes requests whose bodies are streams, in either direction. Undefined: not this one. */
  readonly plainStream?:
    | ((head: PlainHead, response: PlainResponse, peer: string, certUser: string) => PlainCall | undefined)
    | undefined;
}

const code = {
  cancelled: 1,
  deadlineExceeded: 4,
  resourceExhausted: 8,
  unimplemented: 12,
  internal: 13,
} as const;

// No grpc-accept-encoding: grpc-go does not send it either, and all that clients do is to keep it with the metadata.
const responseHeaders = new HeaderTemplate([
  { name: ':status', value: '200' },
  { name: 'content-type', value: 'application/grpc' },
]);
const trailersOk = new HeaderTemplate([{ name: 'grpc-status', value: '0' }]);
const plainBodyBytesMax = 4 << 20;
/** Of one message: grpc-go's greatest, and the length field's four bytes must hold it. */
const answerBytesMax = 0x7fff_ffff;

/** Percent-encoding of grpc-message: printable ASCII but % stays. */
export function encodeGrpcMessage(text: string): string {
  let out = '';
  for (const byte of utf8(text)) {
    if (byte >= 0x20 && byte <= 0x7e && byte !== 0x25) out += String.fromCharCode(byte);
    else out += `%${byte < 16 ? '0' : ''}${byte.toString(16).toUpperCase()}`;
  }
  return out;
}

function statusFields(status: GrpcStatus): HeaderField[] {
  const fields = [{ name: 'grpc-status', value: String(status.code) }];
  if (status.message !== '') fields.push({ name: 'grpc-message', value: encodeGrpcMessage(status.message) });
  return fields;
}

function trailersOf(status: GrpcStatus | null): Uint8Array {
  return status === null ? trailersOk.literal : encodeHeaders(statusFields(status));
}

function trailersOnly(status: GrpcStatus): Uint8Array {
  return encodeHeaders([
    { name: ':status', value: '200' },
    { name: 'content-type', value: 'application/grpc' },
    ...statusFields(status),
  ]);
}

/** The headers of one call. */
class RequestContext implements GrpcCallContext {
  readonly deadlineMs: number | undefined;
  readonly trace: Uint8Array | undefined;
  readonly peer: string;
  readonly certUser: string;
  private readonly headers: readonly HeaderField[];

  constructor(
    headers: readonly HeaderField[],
    deadlineMs: number | undefined,
    trace: Uint8Array | undefined,
    peer: string,
    certUser: string,
  ) {
    this.headers = headers;
    this.deadlineMs = deadlineMs;
    this.trace = trace;
    this.peer = peer;
    this.certUser = certUser;
  }

  metadata(key: string): string | undefined {
    return find(this.headers, key);
  }
}

function find(headers: readonly HeaderField[], name: string): string | undefined {
  for (let i = 0; i < headers.length; i++) if (headers[i]!.name === name) return headers[i]!.value;
  return undefined;
}

function isGrpc(contentType: string | undefined): boolean {
  if (contentType === 'application/grpc') return true;
  return contentType !== undefined && /^application\/grpc(?:$|[+;])/.test(contentType);
}

/** What the headers of a call say. The same list of them says the same, and comes for many calls (`HpackDecoder.decode`). */
interface CallHead {
  readonly headers: readonly HeaderField[];
  readonly path: string;
  readonly isStreaming: boolean;
  readonly timeoutMs: number | undefined;
  /** For calls with neither deadline nor span. */
  readonly context: RequestContext;
}

/** One connection of a gRPC server: the HTTP/2 state machine with calls on top. */
export class GrpcServerConnection {
  readonly connection: Connection;
  private readonly options: GrpcServerOptions;
  private readonly ports: GrpcServerPorts;
  private readonly peer: string;
  private readonly certUser: string;
  private readonly timedStreams = new Set<StreamingCall>();
  /** Of the last call. */
  private head: CallHead | undefined = undefined;

  constructor(
    options: GrpcServerOptions,
    ports: GrpcServerPorts,
    peer: string,
    events: Pick<ConnectionEvents, 'onOutput' | 'onClose'>,
    certUser = '',
  ) {
    this.options = options;
    this.ports = ports;
    this.peer = peer;
    this.certUser = certUser;
    this.connection = new Connection(
      options,
      {
        onRequest: (stream, headers, end) => this.onRequest(stream, headers, end),
        onOutput: (urgent) => events.onOutput(urgent),
        onClose: (reason) => events.onClose(reason),
      },
      ports.clock,
    );
  }

  /** About ten times a second: deadlines of streams, and the connection's own keepalive. */
  tick(): void {
    this.connection.tick();
    if (this.timedStreams.size === 0) return;
    const now = this.ports.clock.monotonicMs();
    for (const call of this.timedStreams) if (call.deadlineMs <= now) call.expire();
  }

  private onRequest(
    stream: Stream,
    headers: readonly HeaderField[],
    end: boolean,
  ): StreamHandler | undefined {
    if (headers !== this.head?.headers) {
      if (!isGrpc(find(headers, 'content-type')) || find(headers, ':method') !== 'POST')
        return this.onPlain(stream, headers, end);
      const head = this.readHead(headers);
      if ('code' in head) {
        this.connection.sendHeaders(stream, trailersOnly(head), true);
        return undefined;
      }
      this.head = head;
    }
    const { path, isStreaming, timeoutMs, context: shared } = this.head;
    const span = this.beginSpan(path, headers);
    let context = shared;
    if (timeoutMs !== undefined || span !== undefined) {
      const deadlineMs = timeoutMs === undefined ? undefined : this.connection.receivedMs + timeoutMs;
      context = new RequestContext(headers, deadlineMs, span?.context, this.peer, this.certUser);
    }
    if (isStreaming) {
      const call = new StreamingCall(
        this.connection,
        stream,
        this.options,
        this.ports,
        context,
        span,
        this.timedStreams,
      );
      this.ports.handler.stream(path, context, call);
      if (end) call.onData(new Uint8Array(0), true);
      return call;
    }
    const call = new UnaryCall(this.connection, stream, this.options, this.ports, path, context, span);
    if (end) call.onData(new Uint8Array(0), true);
    return call;
  }

  private readHead(headers: readonly HeaderField[]): CallHead | GrpcStatus {
    const path = find(headers, ':path')!;
    const timeout = find(headers, 'grpc-timeout');
    const timeoutMs = parseGrpcTimeoutMs(timeout);
    if (Number.isNaN(timeoutMs))
      return { code: code.internal, message: `malformed grpc-timeout: ${timeout}` };
    const encoding = find(headers, 'grpc-encoding');
    if (encoding !== undefined && encoding !== 'identity' && encoding !== 'gzip') {
      return {
        code: code.unimplemented,
        message: `grpc: Decompressor is not installed for grpc-encoding "${encoding}"`,
      };
    }
    const context = new RequestContext(headers, undefined, undefined, this.peer, this.certUser);
    return { headers, path, isStreaming: this.ports.isStreaming(path), timeoutMs, context };
  }

  private beginSpan(path: string, headers: readonly HeaderField[]): CallSpan | undefined {
    return this.ports.span?.(
      path,
      (key) => {
        const value = find(headers, key);
        return value !== undefined && isBinaryKey(key) ? decodeBinaryValue(value) : value;
      },
      this.peer,
    );
  }

  private onPlain(stream: Stream, headers: readonly HeaderField[], end: boolean): StreamHandler | undefined {
    const head = { method: find(headers, ':method')!, path: find(headers, ':path')!, headers };
    const response = new StreamedResponse(this.connection, stream);
    const call = this.ports.plainStream?.(head, response, this.peer, this.certUser);
    if (call !== undefined) {
      if (end) call.endOfBody();
      return plainHandler(this.connection, stream, call);
    }
    const parts: Uint8Array[] = [];
    let bytes = 0;
    let over = false;
    const answer: PlainReply = (status, fields, body) => {
      if (over) return;
      over = true;
      const block = encodeHeaders([
        { name: ':status', value: String(status) },
        ...fields.map(({ name, value }) => ({ name: name.toLowerCase(), value })),
        { name: 'content-length', value: String(body.length) },
      ]);
      this.connection.sendHeaders(stream, block, body.length === 0);
      if (body.length > 0) this.connection.sendData(stream, [body], true);
    };
    const finish = (): void => {
      this.ports.plain({ ...head, body: concatBytes(parts) }, answer);
    };
    if (end) {
      finish();
      return undefined;
    }
    return {
      onData: (data, last) => {
        bytes += data.length;
        this.connection.consumed(stream, data.length);
        if (bytes > plainBodyBytesMax) return answer(413, [], new Uint8Array(0));
        if (data.length > 0) parts.push(data);
        if (last) finish();
      },
      onAbort: () => {
        over = true;
      },
      onDrain: () => {},
    };
  }
}

function totalBytes(pieces: readonly Uint8Array[]): number {
  let bytes = 0;
  for (let i = 0; i < pieces.length; i++) bytes += pieces[i]!.length;
  return bytes;
}

function answerTooLarge(bytes: number): GrpcStatus {
  return {
    code: code.resourceExhausted,
    message: `grpc: trying to send message larger than max (${bytes} vs. ${answerBytesMax})`,
  };
}

class UnaryCall implements StreamHandler {
  private readonly connection: Connection;
  private readonly stream: Stream;
  private readonly options: GrpcServerOptions;
  private readonly ports: GrpcServerPorts;
  private readonly path: string;
  private readonly context: GrpcCallContext;
  private readonly span: CallSpan | undefined;
  /** Only for a message that does not come whole. */
  private reader: MessageReader | undefined = undefined;
  private request: Uint8Array | undefined = undefined;
  private cancel: (() => void) | undefined = undefined;
  private over = false;
  private parted: PartedReply | undefined = undefined;

  constructor(
    connection: Connection,
    stream: Stream,
    options: GrpcServerOptions,
    ports: GrpcServerPorts,
    path: string,
    context: GrpcCallContext,
    span: CallSpan | undefined,
  ) {
    this.connection = connection;
    this.stream = stream;
    this.options = options;
    this.ports = ports;
    this.path = path;
    this.context = context;
    this.span = span;
  }

  onData(data: Uint8Array, end: boolean): void {
    if (this.over) return;
    if (end && this.reader === undefined && this.isWhole(data)) {
      this.serve(data.subarray(messagePrefixBytes));
      return;
    }
    this.reader ??= new MessageReader(this.options.maxMessageBytes, this.ports.gunzip);
    let extra = false;
    const problem = this.reader.push(data, (message) => {
      extra = this.request !== undefined;
      this.request = message;
    });
    // The message is bounded, so its room is given back as it comes.
    if (!end) this.connection.consumed(this.stream, data.length);
    if (problem !== undefined) return this.reply(problem, []);
    if (extra)
      return this.reply({ code: code.internal, message: 'grpc: more than one message in a unary call' }, []);
    if (!end) return;
    if (this.request === undefined || !this.reader.empty) {
      return this.reply({ code: code.internal, message: 'grpc: the request ended before its message' }, []);
    }
    this.serve(this.request);
  }

  onAbort(): void {
    if (this.over) return;
    this.over = true;
    this.span?.end(code.cancelled, 'cancelled');
    this.cancel?.();
  }

  onDrain(): void {
    this.parted?.giveCredit();
  }

  /** One message, not compressed, and nothing else: the usual case. */
  private isWhole(data: Uint8Array): boolean {
    if (data.length < messagePrefixBytes || data[0] !== 0) return false;
    const length = readLength(data);
    return length === data.length - messagePrefixBytes && length <= this.options.maxMessageBytes;
  }

  private serve(request: Uint8Array): void {
    const cancel = this.ports.handler.unary(
      this.path,
      request,
      this.context,
      (status, response, rest) => {
        if (rest === undefined) this.reply(status, response);
        else this.beginReply(response, rest);
      },
      true,
    );
    if (!this.over) this.cancel = cancel;
  }

  private reply(status: GrpcStatus | null, response: readonly Uint8Array[]): void {
    if (this.over) return;
    const bytes = totalBytes(response);
    if (bytes > answerBytesMax) return this.reply(answerTooLarge(bytes), []);
    this.over = true;
    if (status === null)
      this.connection.sendMessage(this.stream, responseHeaders, response, bytes, trailersOk);
    else this.connection.sendHeaders(this.stream, trailersOnly(status), true);
    // Behind what the connection has just asked to be written.
    if (this.span !== undefined) this.span.end(status?.code ?? 0, status?.message ?? '');
  }

  /** The beginning of a large answer. */
  private beginReply(beginning: readonly Uint8Array[], rest: GrpcAnswerRest): void {
    if (this.over) return;
    const bytes = totalBytes(beginning) + rest.bytes;
    if (bytes > answerBytesMax) {
      this.reply(answerTooLarge(bytes), []);
      this.cancel?.();
      return;
    }
    this.connection.sendHeaders(this.stream, responseHeaders.literal, false);
    this.connection.sendData(this.stream, [messagePrefix(bytes)], false);
    this.parted = new PartedReply(this.connection, this.stream, rest, beginning, (status) => {
      if (this.over) return;
      this.over = true;
      // A message that lacks its end tells a client of the failure whatever it makes of the status.
      this.connection.sendTrailers(this.stream, trailersOf(status));
      this.span?.end(status?.code ?? 0, status?.message ?? '');
    });
  }
}

class StreamingCall implements StreamHandler, GrpcServerStream {
  readonly deadlineMs: number;
  onMessage: (message: Uint8Array) => void = () => {};
  onHalfClose: () => void = () => {};
  onCancel: () => void = () => {};
  onDrain: () => void = () => {};
  private readonly connection: Connection;
  private readonly stream: Stream;
  private readonly reader: MessageReader;
  private readonly span: CallSpan | undefined;
  private readonly timed: Set<StreamingCall>;
  private headersSent = false;
  private over = false;
  private held = false;
  /** What came while held: no more than the stream's window. */
  private readonly waiting: { readonly data: Uint8Array; readonly end: boolean }[] = [];

  constructor(
    connection: Connection,
    stream: Stream,
    options: GrpcServerOptions,
    ports: GrpcServerPorts,
    context: GrpcCallContext,
    span: CallSpan | undefined,
    timed: Set<StreamingCall>,
  ) {
    this.connection = connection;
    this.stream = stream;
    this.reader = new MessageReader(options.maxMessageBytes, ports.gunzip);
    this.span = span;
    this.timed = timed;
    this.deadlineMs = context.deadlineMs ?? Number.POSITIVE_INFINITY;
    if (context.deadlineMs !== undefined) timed.add(this);
  }

  onData(data: Uint8Array, end: boolean): void {
    if (this.held || this.waiting.length > 0) this.waiting.push({ data, end });
    else this.deliver(data, end);
  }

  hold(on: boolean): void {
    this.held = on;
    while (!this.held && !this.over && this.waiting.length > 0) {
      const { data, end } = this.waiting.shift()!;
      this.deliver(data, end);
    }
  }

  private deliver(data: Uint8Array, end: boolean): void {
    if (this.over) return;
    const problem = this.reader.push(data, (message) => {
      if (!this.over) this.onMessage(message);
    });
    if (this.over) return;
    if (!end) this.connection.consumed(this.stream, data.length);
    if (problem !== undefined) {
      this.end(problem);
      this.onCancel();
    } else if (end) this.onHalfClose();
  }

  onAbort(): void {
    if (this.over) return;
    this.finish({ code: code.cancelled, message: 'cancelled' });
    this.onCancel();
  }

  expire(): void {
    if (this.over) return;
    this.end({ code: code.deadlineExceeded, message: 'context deadline exceeded' });
    this.onCancel();
  }

  send(message: readonly Uint8Array[]): boolean {
    if (this.over) return true;
    if (!this.headersSent) {
      this.headersSent = true;
      this.connection.sendHeaders(this.stream, responseHeaders.literal, false);
    }
    return this.connection.sendStreamed(this.stream, message, totalBytes(message));
  }

  queuedBytes(): number {
    return this.stream.queuedBytes;
  }

  end(status: GrpcStatus | null): void {
    if (this.over) return;
    this.finish(status);
    if (this.headersSent) this.connection.sendTrailers(this.stream, trailersOf(status));
    else if (status !== null) this.connection.sendHeaders(this.stream, trailersOnly(status), true);
    else {
      this.connection.sendHeaders(this.stream, responseHeaders.literal, false);
      this.connection.sendTrailers(this.stream, trailersOk.literal);
    }
  }

  private finish(status: GrpcStatus | null): void {
    this.over = true;
    this.waiting.length = 0;
    this.span?.end(status?.code ?? 0, status?.message ?? '');
    this.timed.delete(this);
  }
}
