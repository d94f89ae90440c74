import type { Channel, Clock, HealthParts, Log, MetricRegistry, Random, Timers, Tracer } from '@quoin/base';
import type { RpcStatus } from '@quoin/contracts';

/** What a gateway needs of the world. */
export interface GatewayPorts {
  readonly clock: Clock;
  readonly timers: Timers;
  readonly random: Random;
  readonly log: Log;
  readonly tracer: Tracer | undefined;
  readonly metrics: MetricRegistry;
  /**
   * Opens a link to a member's peer URL. The channel exists at once and queues; failing to connect is `onClose`.
   * The all-in-one node answers its own member's URL with a channel that stays in the process.
   */
  readonly dial: (peerUrl: string) => Channel;
  /** More checks for /livez and /readyz, of what else is in this process. */
  readonly checks?: Partial<Pick<HealthParts, 'livez' | 'readyz'>>;
  /** Why this process should not be sent more clients; undefined: it may. */
  readonly burden?: () => string | undefined;
}

/** What came with a call, in whatever protocol. */
export interface CallContext {
  /** Monotonic ms at which the client gives up; undefined: never. */
  readonly deadlineMs: number | undefined;
  /** First value of a metadata key (lower case), or undefined. */
  metadata(key: string): string | undefined;
  /** The 25-byte trace context when the call is sampled. */
  readonly trace: Uint8Array | undefined;
  /** Remote address for logs, such as 127.0.0.1:40123. */
  readonly peer: string;
  /** Common name of the client's certificate, when it was verified and names its user; else undefined or empty. */
  readonly certUser?: string | undefined;
  /** The gateway asks for itself: nobody's permission is needed, and no key is shown. */
  readonly own?: boolean;
}

/**
 * Called exactly once. `response` is the encoded message; a large one may come in several pieces that follow each other.
 * Where the caller takes parts and the answer is large, it is its beginning only, and `rest` gives what follows.
 */
export type UnaryReply = (
  status: RpcStatus | null,
  response: readonly Uint8Array[],
  rest?: AnswerRest,
) => void;

/** With `release` the part is lent: it may be called, once, when nobody looks at the bytes any more. */
export type PartTaker = (part: Uint8Array, release?: () => void) => void;

/** What follows the beginning of a large answer, as it comes. Once begun, it can only fail or be complete. */
export interface AnswerRest {
  /** What is to come. */
  readonly bytes: number;
  /** Of the beginning, as of a part. */
  readonly releaseFirst: (() => void) | undefined;
  /** Neither is called before this has returned. `onEnd` with null: all of it has been given. */
  start(onPart: PartTaker, onEnd: (status: RpcStatus | null) => void): void;
  /** Tells somebody else of the end. Not called when the call is cancelled. */
  observe(onEnd: (status: RpcStatus | null) => void): void;
  /** There is room for so many bytes more, the beginning included. */
  credit(bytes: number): void;
}

/** The server's side of one streaming call. The handler sets the `on…` members before it returns. */
export interface ServerStream {
  /** One encoded message, as pieces that follow each other. False: stop until `onDrain`. */
  send(message: readonly Uint8Array[]): boolean;
  /** Bytes given to `send` that have not left yet. */
  queuedBytes(): number;
  /**
   * True: no more messages, the client has to wait; what has arrived already may still come, one HTTP/2 frame's worth.
   * False: on with it. Absent where the transport cannot make its client wait.
   */
  hold?(on: boolean): void;
  /** Ends the call; null = OK. Nothing is delivered afterwards. */
  end(status: RpcStatus | null): void;
  onMessage: (message: Uint8Array) => void;
  /** The client has sent its last message. */
  onHalfClose: () => void;
  /** The client has gone or the deadline has passed. */
  onCancel: () => void;
  onDrain: () => void;
}

/** One way to cancel a unary call: the client has gone. The reply is then not wanted but still allowed. */
export type CancelCall = () => void;

/**
 * The whole client API behind bytes: grpc-js, our own HTTP/2 codec, the JSON API and the simulator all call this.
 * `path` is the gRPC path, such as /etcdserverpb.KV/Range. An unknown or not yet served one answers Unimplemented.
 */
export interface ApiHandler {
  /** `takesParts`: the caller can do with a `rest`. */
  unary(
    path: string,
    request: Uint8Array,
    context: CallContext,
    reply: UnaryReply,
    takesParts?: boolean,
  ): CancelCall;
  stream(path: string, context: CallContext, stream: ServerStream): void;
}
