import { concatBytes } from '@quoin/base';
import { decodeBinaryValue, isBinaryKey } from './binary-metadata.ts';
import { Connection, type ConnectionEvents } from './connection.ts';
import { code, trailersOnly } from './grpc-answer.ts';
import type { CallSite, CallSpan, GrpcServerOptions, GrpcServerPorts, GrpcStatus } from './grpc-ports.ts';
import { parseGrpcTimeoutMs } from './grpc-timeout.ts';
import { type HeaderList, type HeaderShape, positionOf } from './header-list.ts';
import { encodeHeaders } from './hpack.ts';
import { type PlainReply, plainHandler, StreamedResponse } from './plain.ts';
import type { Stream, StreamHandler } from './stream.ts';
import { StreamingCall } from './streaming-call.ts';
import { UnaryCall } from './unary-call.ts';

/** gRPC over HTTP/2 (the protocol document PROTOCOL-HTTP2 of the gRPC project), on the server's side. */

const plainBodyBytesMax = 4 << 20;
/** Kinds of calls that are remembered for each connection. */
const headsMax = 4;

/** Of what is asked once for a shape: `HeaderList.find` is for what is asked of every call. */
function textOf({ fields }: HeaderList, name: string): string | undefined {
  return fields[positionOf(fields, name)]?.value;
}

function isGrpc(contentType: string | undefined): boolean {
  if (contentType === 'application/grpc') return true;
  return contentType !== undefined && /^application\/grpc(?:$|[+;])/.test(contentType);
}

function malformedTimeout(headers: HeaderList): GrpcStatus {
  return { code: code.internal, message: `malformed grpc-timeout: ${headers.find('grpc-timeout')}` };
}

/** What the headers of a call say, and of all that have their shape; but for the deadline. */
interface CallHead {
  readonly shape: HeaderShape;
  readonly path: string;
  readonly isStreaming: boolean;
  /** Where its field is; -1: none. */
  readonly timeoutAt: number;
  readonly refusal: GrpcStatus | undefined;
}

/** One connection of a gRPC server: the HTTP/2 state machine with calls on top. */
export class GrpcServerConnection {
  readonly connection: Connection;
  private readonly site: CallSite;
  private readonly timedStreams = new Set<StreamingCall>();
  /** Of the last calls. */
  private readonly heads: CallHead[] = [];
  private headNext = 0;

  constructor(
    options: GrpcServerOptions,
    ports: GrpcServerPorts,
    peer: string,
    events: Pick<ConnectionEvents, 'onOutput' | 'onClose'>,
    certUser = '',
  ) {
    this.connection = new Connection(
      options,
      {
        onRequest: (stream, headers, end) => this.onRequest(stream, headers, end),
        onOutput: (urgent) => events.onOutput(urgent),
        onClose: (reason) => events.onClose(reason),
      },
      ports.clock,
    );
    this.site = { connection: this.connection, options, ports, peer, certUser };
  }

  /** About ten times a second: deadlines of streams, and the connection's own keepalive. */
  tick(): void {
    this.connection.tick();
    if (this.timedStreams.size === 0) return;
    const now = this.site.ports.clock.monotonicMs();
    for (const call of this.timedStreams) if (call.deadlineMs <= now) call.expire();
  }

  private onRequest(stream: Stream, headers: HeaderList, end: boolean): StreamHandler | undefined {
    const head = this.knownHead(headers.shape) ?? this.readHead(headers);
    if (head === undefined) return this.onPlain(stream, headers, end);
    const { path, timeoutAt } = head;
    const timeoutMs = timeoutAt < 0 ? undefined : parseGrpcTimeoutMs(headers.fields[timeoutAt]!.value);
    const refusal = Number.isNaN(timeoutMs) ? malformedTimeout(headers) : head.refusal;
    if (refusal !== undefined) {
      this.connection.sendHeaders(stream, trailersOnly(refusal), true);
      return undefined;
    }
    const deadlineMs = timeoutMs === undefined ? undefined : this.connection.receivedMs + timeoutMs;
    const span = this.beginSpan(path, headers);
    let call: StreamHandler;
    if (head.isStreaming) {
      const { peer, certUser } = this.site;
      const streaming = new StreamingCall(this.site, stream, deadlineMs, span, this.timedStreams);
      const metadata = (key: string): string | undefined => headers.find(key);
      const context = { deadlineMs, metadata, trace: span?.context, peer, certUser };
      this.site.ports.handler.stream(path, context, streaming);
      call = streaming;
    } else call = new UnaryCall(this.site, stream, path, headers, deadlineMs, span);
    if (end) call.onData(new Uint8Array(0), 0, 0, true);
    return call;
  }

  private knownHead(shape: HeaderShape): CallHead | undefined {
    for (let i = 0; i < this.heads.length; i++) if (this.heads[i]!.shape === shape) return this.heads[i];
    return undefined;
  }

  /** Undefined: it is no call. */
  private readHead(headers: HeaderList): CallHead | undefined {
    if (!isGrpc(textOf(headers, 'content-type')) || textOf(headers, ':method') !== 'POST') return undefined;
    const path = textOf(headers, ':path')!;
    const encoding = textOf(headers, 'grpc-encoding');
    const known = encoding === undefined || encoding === 'identity' || encoding === 'gzip';
    const head = {
      shape: headers.shape,
      path,
      isStreaming: this.site.ports.isStreaming(path),
      timeoutAt: positionOf(headers.fields, 'grpc-timeout'),
      refusal: known
        ? undefined
        : {
            code: code.unimplemented,
            message: `grpc: Decompressor is not installed for grpc-encoding "${encoding}"`,
          },
    };
    this.heads[this.headNext] = head;
    this.headNext = (this.headNext + 1) % headsMax;
    return head;
  }

  private beginSpan(path: string, headers: HeaderList): CallSpan | undefined {
    return this.site.ports.span?.(
      path,
      (key) => {
        const value = headers.find(key);
        return value !== undefined && isBinaryKey(key) ? decodeBinaryValue(value) : value;
      },
      this.site.peer,
    );
  }

  private onPlain(stream: Stream, headers: HeaderList, end: boolean): StreamHandler | undefined {
    const head = { method: headers.find(':method')!, path: headers.find(':path')!, headers: headers.fields };
    const response = new StreamedResponse(this.connection, stream);
    const call = this.site.ports.plainStream?.(head, response, this.site.peer, this.site.certUser);
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
      this.site.ports.plain({ ...head, body: concatBytes(parts) }, answer);
    };
    if (end) {
      finish();
      return undefined;
    }
    return {
      onData: (data, from, to, last) => {
        bytes += to - from;
        this.connection.consumed(stream, to - from);
        if (bytes > plainBodyBytesMax) return answer(413, [], new Uint8Array(0));
        if (to > from) parts.push(data.subarray(from, to));
        if (last) finish();
      },
      onAbort: () => {
        over = true;
      },
      onDrain: () => {},
    };
  }
}
