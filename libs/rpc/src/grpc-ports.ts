import type { Clock } from '@quoin/base';
import type { Connection } from './connection.ts';
import type { ConnectionOptions } from './connection-options.ts';
import type { Gunzip } from './message-reader.ts';
import type { GrpcAnswerRest } from './parted-reply.ts';
import type { PlainCall, PlainHead, PlainReply, PlainRequest, PlainResponse } from './plain.ts';

/** What a gRPC server is given by its owner, and what it gives to those who answer its calls. */

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

/** Where a call is: the same for all calls of a connection. */
export interface CallSite {
  readonly connection: Connection;
  readonly options: GrpcServerOptions;
  readonly ports: GrpcServerPorts;
  readonly peer: string;
  readonly certUser: string;
}
