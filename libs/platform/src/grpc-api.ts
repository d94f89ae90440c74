/**
 * The client plane on grpc-js: every RPC of the service table behind one `ApiHandler`, bytes in and bytes out.
 *
 * Only `Http2Edge` is known to the rest, so that another HTTP/2 server can take this one's place.
 */
import type { Socket } from 'node:net';
import {
  type handleBidiStreamingCall,
  type handleUnaryCall,
  type Metadata,
  Server,
  ServerCredentials,
  type ServerDuplexStream,
  type ServerUnaryCall,
  status as Status,
} from '@grpc/grpc-js';
import { type RpcStatus, services } from '@quoin/contracts';
import { type ApiHandler, type CallContext, grpcOverheadBytes, type ServerStream } from '@quoin/gateway';
import type { EdgeSpan, Telemetry } from './telemetry.ts';

/** Serves client connections that speak HTTP/2. */
export interface Http2Edge {
  accept(socket: Socket): void;
  /** Lets calls that are under way end for up to `graceMs`, then cuts. */
  stop(graceMs: number, cb: () => void): void;
}

export interface GrpcApiOptions {
  readonly maxRequestBytes: number;
  readonly maxConcurrentStreams: number;
  readonly keepaliveIntervalMs: number;
  readonly keepaliveTimeoutMs: number;
  readonly telemetry: Telemetry | undefined;
}

/** Bytes that may wait in one stream before `send` asks to stop. */
const highWaterBytes = 1 << 20;
const flowControlWindowBytes = 1 << 20;
/** grpc-js counts in 32 bits of signed milliseconds. */
const longestMs = 0x7fff_ffff;

const nothing = (): void => {};
const toBuffer = (bytes: Uint8Array): Buffer => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
const toBytes = (buffer: Buffer): Uint8Array =>
  new Uint8Array(buffer.buffer, buffer.byteOffset, buffer.length);
const join = (pieces: readonly Uint8Array[]): Buffer =>
  pieces.length === 1 ? toBuffer(pieces[0]!) : Buffer.concat(pieces);

export class GrpcApi implements Http2Edge {
  private readonly handler: ApiHandler;
  private readonly telemetry: Telemetry | undefined;
  private readonly server: Server;
  private readonly inject: (socket: Socket) => void;

  constructor(handler: ApiHandler, options: GrpcApiOptions) {
    this.handler = handler;
    this.telemetry = options.telemetry;
    this.server = new Server({
      'grpc.max_receive_message_length': options.maxRequestBytes + grpcOverheadBytes,
      'grpc.max_send_message_length': -1,
      'grpc.max_concurrent_streams': options.maxConcurrentStreams,
      ...(options.keepaliveIntervalMs > 0
        ? {
            'grpc.keepalive_time_ms': Math.min(options.keepaliveIntervalMs, longestMs),
            'grpc.keepalive_timeout_ms': Math.min(options.keepaliveTimeoutMs, longestMs),
          }
        : {}),
      'grpc.enable_channelz': 0,
      'grpc-node.flow_control_window': flowControlWindowBytes,
      'grpc-node.max_session_memory': Number.MAX_SAFE_INTEGER,
    });
    for (const rpc of services.flatMap((service) => service.rpcs)) {
      if (rpc.kind === 'unary')
        this.server.register(rpc.path, this.unary(rpc.path), toBuffer, toBytes, 'unary');
      else this.server.register(rpc.path, this.stream(rpc.path), toBuffer, toBytes, 'bidi');
    }
    const injector = this.server.createConnectionInjector(ServerCredentials.createInsecure());
    this.inject = (socket) => injector.injectConnection(socket);
  }

  accept(socket: Socket): void {
    this.inject(socket);
  }

  stop(graceMs: number, cb: () => void): void {
    const timer = setTimeout(() => this.server.forceShutdown(), graceMs);
    this.server.tryShutdown(() => {
      clearTimeout(timer);
      cb();
    });
  }

  private unary(path: string): handleUnaryCall<Uint8Array, Uint8Array> {
    return (call, callback) => {
      const span = this.telemetry?.edge(path, metadataReader(call.metadata), call.getPeer());
      const cancel = this.handler.unary(path, call.request, contextOf(call, span), (status, response) => {
        span?.end(status?.code ?? 0, status?.message ?? '');
        if (status === null) callback(null, join(response));
        else callback({ code: status.code, details: status.message });
      });
      call.on('cancelled', cancel);
    };
  }

  private stream(path: string): handleBidiStreamingCall<Uint8Array, Uint8Array> {
    return (call) => {
      const span = this.telemetry?.edge(path, metadataReader(call.metadata), call.getPeer());
      const stream = new GrpcServerStream(call, span);
      this.handler.stream(path, contextOf(call, span), stream);
    };
  }
}

type Call = ServerUnaryCall<Uint8Array, Uint8Array> | ServerDuplexStream<Uint8Array, Uint8Array>;

function contextOf(call: Call, span: EdgeSpan | undefined): CallContext {
  return {
    deadlineMs: deadlineOf(call),
    metadata: (key) => {
      const value = call.metadata.get(key)[0];
      return value === undefined ? undefined : String(value);
    },
    trace: span?.context,
    peer: call.getPeer(),
  };
}

/** grpc-js has the deadline on the wall clock, the handler wants the monotonic one. */
function deadlineOf(call: Call): number | undefined {
  const deadline = call.getDeadline();
  const wallMs = deadline instanceof Date ? deadline.getTime() : deadline;
  return Number.isFinite(wallMs) ? performance.now() + (wallMs - Date.now()) : undefined;
}

function metadataReader(metadata: Metadata): (key: string) => string | Uint8Array | undefined {
  return (key) => metadata.get(key)[0];
}

class GrpcServerStream implements ServerStream {
  onMessage: (message: Uint8Array) => void = nothing;
  onHalfClose: () => void = nothing;
  onCancel: () => void = nothing;
  onDrain: () => void = nothing;
  private readonly call: ServerDuplexStream<Uint8Array, Uint8Array>;
  private readonly span: EdgeSpan | undefined;
  private bytes = 0;
  private blocked = false;
  private over = false;

  constructor(call: ServerDuplexStream<Uint8Array, Uint8Array>, span: EdgeSpan | undefined) {
    this.call = call;
    this.span = span;
    call.on('data', (message: Uint8Array) => {
      if (!this.over) this.onMessage(message);
    });
    call.on('end', () => {
      if (!this.over) this.onHalfClose();
    });
    call.on('cancelled', () => {
      if (this.over) return;
      this.finish(Status.CANCELLED, 'cancelled');
      this.onCancel();
    });
  }

  send(message: readonly Uint8Array[]): boolean {
    if (this.over) return true;
    const buffer = join(message);
    this.bytes += buffer.length;
    this.call.write(buffer, () => this.written(buffer.length));
    this.blocked ||= this.bytes > highWaterBytes;
    return !this.blocked;
  }

  queuedBytes(): number {
    return this.bytes;
  }

  end(status: RpcStatus | null): void {
    if (this.over) return;
    this.finish(status?.code ?? 0, status?.message ?? '');
    if (status === null) this.call.end();
    // grpc-js takes a stream's final status as an error event; what was written before still leaves first.
    else this.call.emit('error', { code: status.code, details: status.message });
  }

  private written(length: number): void {
    this.bytes -= length;
    if (this.blocked && !this.over && this.bytes <= highWaterBytes / 2) {
      this.blocked = false;
      this.onDrain();
    }
  }

  private finish(code: number, message: string): void {
    this.over = true;
    this.span?.end(code, message);
  }
}
