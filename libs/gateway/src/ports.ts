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

/** Called exactly once. `response` is the encoded message; a large one may come in several pieces that follow each other. */
export type UnaryReply = (status: RpcStatus | null, response: readonly Uint8Array[]) => void;

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
  unary(path: string, request: Uint8Array, context: CallContext, reply: UnaryReply): CancelCall;
  stream(path: string, context: CallContext, stream: ServerStream): void;
}
