import { type Clock, concatBytes, type Timer, type Timers } from '@quoin/base';
import { Code, otherErrors, type Rpc, type RpcStatus, rpcByRoute } from '@quoin/contracts';
import type { CallSpan } from '@quoin/rpc';
import { grpcOverheadBytes } from './config.ts';
import { httpStatusOf, messageJson, requestFromJson, statusJson } from './json-codec.ts';
import { type JsonHeader, JsonOutput, type JsonResponse } from './json-output.ts';
import { JsonScanner } from './json-scanner.ts';
import type { ApiHandler, CallContext, CancelCall, ServerStream } from './ports.ts';

/** The head of one HTTP request. */
export interface JsonRequest {
  readonly method: string;
  /** Without the query, percent-decoded. */
  readonly path: string;
  /** First value of a header, by its name in lower case. */
  header(name: string): string | undefined;
  /** Remote address for logs, such as 127.0.0.1:40123. */
  readonly peer: string;
}

/** The client's side of one request: its body and its life. Calls after the answer has ended do nothing. */
export interface JsonCall {
  /** A part of the body. It must stay as it is. */
  body(bytes: Uint8Array): void;
  endOfBody(): void;
  /** The client has gone. */
  abort(): void;
  /** `write` returned false and there is room again. */
  drained(): void;
}

export interface JsonApiOptions {
  /** etcd's max-request-bytes. An encoded message may have `grpcOverheadBytes` more, as over gRPC. */
  readonly maxRequestBytes: number;
}

export interface JsonApiPorts {
  readonly clock: Clock;
  readonly timers: Timers;
  /** Begins the span of a call; undefined when tracing is off or the call is not sampled. */
  readonly span:
    | ((path: string, metadata: (key: string) => string | undefined, peer: string) => CallSpan | undefined)
    | undefined;
}

/** JSON text of one message, in multiples of the largest message: base64 takes 4/3, names and quotes their share. */
const textFactor = 4;

const jsonHeader: JsonHeader = { name: 'Content-Type', value: 'application/json' };
/** grpc-gateway hands on the headers of its inner gRPC call, of which etcd sends this one. */
const resultHeaders: readonly JsonHeader[] = [
  jsonHeader,
  { name: 'Grpc-Metadata-Content-Type', value: 'application/grpc' },
];

const notFound: RpcStatus = { code: Code.notFound, message: 'Not Found' };
const methodNotAllowed: RpcStatus = { code: Code.unimplemented, message: 'Method Not Allowed' };

const nothing = (): void => undefined;
const answered: JsonCall = { body: nothing, endOfBody: nothing, abort: nothing, drained: nothing };
const noCancel: CancelCall = nothing;

/**
 * etcd's JSON API: HTTP requests become calls of the API handler, with the paths, bodies, error bodies and HTTP codes
 * of grpc-gateway v2 in etcd 3.7.
 *
 *     POST /v3/kv/range  {"key":"Zm9v"}   ──►  /etcdserverpb.KV/Range  RangeRequest
 *     200  {"header":{…},"kvs":[…]}       ◄──  RangeResponse
 *     400  {"code":3,"message":"…"}       ◄──  InvalidArgument
 *
 *     POST /v3/watch  {…}{…}              ──►  one message for each JSON value in the body
 *     200  {"result":{…}}⏎{"result":{…}}⏎ ◄──  one line for each message
 *          {"error":{"code":…}}⏎          ◄──  the stream's status, unless it is OK
 */
export class JsonApi {
  private readonly handler: ApiHandler;
  private readonly ports: JsonApiPorts;
  private readonly maxBytes: number;

  constructor(handler: ApiHandler, options: JsonApiOptions, ports: JsonApiPorts) {
    this.handler = handler;
    this.ports = ports;
    this.maxBytes = options.maxRequestBytes + grpcOverheadBytes;
  }

  /** Whether a path is this API's, known or not. */
  serves(path: string): boolean {
    return path.startsWith('/v3/') || path.startsWith('/v3beta/');
  }

  /** Begins a request. `response` may be used before this returns. */
  open(request: JsonRequest, response: JsonResponse): JsonCall {
    const { clock, timers, span: begin } = this.ports;
    const output = new JsonOutput(clock, timers, response);
    const refuse = (status: RpcStatus): JsonCall => {
      answerError(response, output, status);
      return answered;
    };
    const rpc = rpcByRoute.get(request.path.replace(/^\/v3beta\//, '/v3/'));
    if (rpc === undefined) return refuse(notFound);
    if (request.method !== 'POST') return refuse(methodNotAllowed);
    const timeout = request.header('grpc-timeout') ?? '';
    const timeoutMs = parseTimeoutMs(timeout);
    if (Number.isNaN(timeoutMs)) {
      return refuse({ code: Code.invalidArgument, message: `invalid grpc-timeout: ${timeout}` });
    }
    const metadata = metadataOf(request);
    const span = begin?.(rpc.path, metadata, request.peer);
    const context: CallContext = {
      deadlineMs: timeoutMs === 0 ? undefined : clock.monotonicMs() + timeoutMs,
      metadata,
      trace: span?.context,
      peer: request.peer,
    };
    const call: Call = {
      handler: this.handler,
      clock,
      rpc,
      context,
      span,
      response,
      output,
      maxBytes: this.maxBytes,
    };
    const served = rpc.kind === 'unary' ? new UnaryCall(call) : new StreamCall(call);
    if (timeoutMs !== 0) served.expireAfter(timers, timeoutMs);
    return served;
  }
}

/** What a request is served with. */
interface Call {
  readonly handler: ApiHandler;
  readonly clock: Clock;
  readonly rpc: Rpc;
  readonly context: CallContext;
  readonly span: CallSpan | undefined;
  readonly response: JsonResponse;
  readonly output: JsonOutput;
  /** Longest message, encoded. */
  readonly maxBytes: number;
}

/**
 * Metadata as etcd's server sees it behind grpc-gateway: `authorization` as it is, `Grpc-Metadata-Name: value` as
 * `name`, and headers with a meaning in HTTP under a prefix of their own. Those of a trace are taken without prefix, too.
 */
function metadataOf(request: JsonRequest): (key: string) => string | undefined {
  return (key) => {
    if (key === 'authorization') return request.header(key)?.replace(/^Bearer /, '');
    if (key.startsWith('grpcgateway-')) return request.header(key.slice('grpcgateway-'.length));
    const value = request.header(`grpc-metadata-${key}`);
    return value ?? (traceHeaders.has(key) ? request.header(key) : undefined);
  };
}

const traceHeaders: ReadonlySet<string> = new Set(['traceparent', 'tracestate', 'baggage']);

const unitMs: Readonly<Record<string, number>> = {
  H: 3_600_000,
  M: 60_000,
  S: 1000,
  m: 1,
  u: 1e-3,
  n: 1e-6,
};

/** `Grpc-Timeout` as ms; 0: none, NaN: malformed. */
function parseTimeoutMs(text: string): number {
  if (text === '') return 0;
  const match = /^([+-]?\d{1,19})([HMSmun])$/.exec(text);
  return match === null ? Number.NaN : Number(match[1]) * unitMs[match[2]!]!;
}

function answerError(response: JsonResponse, output: JsonOutput, status: RpcStatus): void {
  const headers = [jsonHeader];
  if (status.code === Code.unauthenticated) {
    headers.push({ name: 'WWW-Authenticate', value: headerText(status.message) });
  }
  response.begin(httpStatusOf(status.code), headers);
  output.end([statusJson(status)].values());
}

/** What may stand in a header. */
function headerText(text: string): string {
  return text.replace(/[^\x20-\x7e]/g, ' ');
}

/** One request and one answer: the first JSON value of the body, the rest of which means nothing. */
class UnaryCall implements JsonCall {
  private readonly call: Call;
  private readonly scanner: JsonScanner;
  private value: Uint8Array | undefined;
  private cancel: CancelCall = noCancel;
  private timer: Timer | undefined;
  private over = false;

  constructor(call: Call) {
    this.call = call;
    this.scanner = new JsonScanner(textFactor * call.maxBytes);
  }

  expireAfter(timers: Timers, timeoutMs: number): void {
    this.timer = timers.after(timeoutMs, () => {
      if (this.over) return;
      this.cancel();
      this.fail(otherErrors.contextDeadlineExceeded);
    });
  }

  body(bytes: Uint8Array): void {
    if (this.over || this.value !== undefined) return;
    const problem = this.scanner.push(bytes, (value) => this.take(value));
    if (problem !== undefined) this.fail(problem);
  }

  endOfBody(): void {
    if (this.over) return;
    const problem = this.value === undefined ? this.scanner.finish((value) => this.take(value)) : undefined;
    if (problem !== undefined) return this.fail(problem);
    const { rpc, handler, clock, context, maxBytes } = this.call;
    // An empty body is an empty message.
    const request =
      this.value === undefined ? new Uint8Array(0) : requestFromJson(rpc.request, this.value, maxBytes);
    if (!(request instanceof Uint8Array)) return this.fail(request);
    // A deadline that has passed must not depend on how fast a timer or an answer is.
    if (context.deadlineMs !== undefined && context.deadlineMs <= clock.monotonicMs()) {
      return this.fail(otherErrors.contextDeadlineExceeded);
    }
    this.cancel = handler.unary(rpc.path, request, context, (status, pieces) => {
      if (this.over) return;
      if (status !== null) return this.fail(status);
      this.finish(Code.ok, '');
      const bytes = pieces.length === 1 ? pieces[0]! : concatBytes(pieces);
      this.call.response.begin(200, resultHeaders);
      this.call.output.end(messageJson(rpc.response, bytes));
    });
  }

  abort(): void {
    this.call.output.abort();
    if (this.over) return;
    this.finish(Code.canceled, 'canceled');
    this.cancel();
  }

  drained(): void {
    this.call.output.drained();
  }

  private take(value: Uint8Array): boolean {
    this.value = value;
    return false;
  }

  private fail(status: RpcStatus): void {
    this.finish(status.code, status.message);
    answerError(this.call.response, this.call.output, status);
  }

  private finish(code: number, message: string): void {
    this.over = true;
    this.timer?.cancel();
    this.call.span?.end(code, message);
  }
}

/** A stream of answers: to each JSON value of the body (watch, keepalive), or to the first one, as of a unary call. */
class StreamCall implements JsonCall, ServerStream {
  onMessage: (message: Uint8Array) => void = nothing;
  onHalfClose: () => void = nothing;
  onCancel: () => void = nothing;
  onDrain: () => void = nothing;
  private readonly call: Call;
  private readonly scanner: JsonScanner;
  /** The body may hold several messages. */
  private readonly bidi: boolean;
  private bodyOver = false;
  private taken = 0;
  private begun = false;
  private timer: Timer | undefined;
  private over = false;

  constructor(call: Call) {
    this.call = call;
    this.scanner = new JsonScanner(textFactor * call.maxBytes);
    this.bidi = call.rpc.kind === 'bidi' || call.rpc.kind === 'clientStream';
    call.output.onDrain = () => {
      if (!this.over) this.onDrain();
    };
    if (this.bidi) call.handler.stream(call.rpc.path, call.context, this);
  }

  expireAfter(timers: Timers, timeoutMs: number): void {
    this.timer = timers.after(timeoutMs, () => this.cancelWith(otherErrors.contextDeadlineExceeded));
  }

  body(bytes: Uint8Array): void {
    if (this.over || this.bodyOver) return;
    const problem = this.scanner.push(bytes, (value) => this.take(value));
    if (problem !== undefined) this.failBody(problem);
  }

  endOfBody(): void {
    if (this.over || this.bodyOver) return;
    const problem = this.scanner.finish((value) => this.take(value));
    if (problem !== undefined) return this.failBody(problem);
    if (this.over || this.bodyOver) return;
    if (!this.bidi && this.taken === 0) this.start(new Uint8Array(0));
    this.closeBody();
  }

  abort(): void {
    this.call.output.abort();
    if (this.over) return;
    this.finish(Code.canceled, 'canceled');
    this.onCancel();
  }

  drained(): void {
    this.call.output.drained();
  }

  send(message: readonly Uint8Array[]): boolean {
    if (this.over) return true;
    if (!this.begun) {
      this.begun = true;
      this.call.response.begin(200, resultHeaders);
    }
    const bytes = message.length === 1 ? message[0]! : concatBytes(message);
    return this.call.output.push(resultLine(this.call.rpc, bytes), bytes.length);
  }

  queuedBytes(): number {
    return this.call.output.queuedBytes();
  }

  end(status: RpcStatus | null): void {
    if (this.over) return;
    this.finish(status?.code ?? Code.ok, status?.message ?? '');
    const { response, output } = this.call;
    if (!this.begun) response.begin(status === null ? 200 : httpStatusOf(status.code), [jsonHeader]);
    output.end(status === null ? undefined : [`{"error":${statusJson(status)}}\n`].values());
  }

  private take(value: Uint8Array): boolean {
    const message = requestFromJson(this.call.rpc.request, value, this.call.maxBytes);
    if (!(message instanceof Uint8Array)) {
      this.failBody(message);
      return false;
    }
    this.taken++;
    if (!this.bidi) {
      this.start(message);
      this.closeBody();
      return false;
    }
    this.onMessage(message);
    return !this.over;
  }

  private start(message: Uint8Array): void {
    const { handler, rpc, context } = this.call;
    handler.stream(rpc.path, context, this);
    this.onMessage(message);
  }

  private closeBody(): void {
    this.bodyOver = true;
    if (!this.over) this.onHalfClose();
  }

  /**
   * The body cannot be read (further). A message that is too long ends the stream, as in gRPC. A malformed first value
   * is answered at once; after a good one it only ends the client's side, as etcd does it.
   */
  private failBody(status: RpcStatus): void {
    this.bodyOver = true;
    if (status.code === Code.resourceExhausted && this.bidi) return this.cancelWith(status);
    if (this.taken > 0 || this.begun) {
      if (!this.over) this.onHalfClose();
      return;
    }
    this.finish(status.code, status.message);
    answerError(this.call.response, this.call.output, status);
    this.onCancel();
  }

  private cancelWith(status: RpcStatus): void {
    if (this.over) return;
    this.end(status);
    this.onCancel();
  }

  private finish(code: number, message: string): void {
    this.over = true;
    this.timer?.cancel();
    this.call.span?.end(code, message);
  }
}

function* resultLine(rpc: Rpc, bytes: Uint8Array): Generator<string, void, undefined> {
  yield '{"result":';
  yield* messageJson(rpc.response, bytes);
  yield '}\n';
}
