/**
 * The internal plane for tools: `Channel` over grpc-js bidirectional streams, one gRPC message per channel message.
 * Members and gateways take the cheaper streams of frames (stream-channel.ts) on the same paths.
 *
 *     /quoin.internal.v1.Peer/Stream   member ↔ member, as frames only
 *     /quoin.internal.v1.Link/Stream   gateway → member as frames; backup worker and CLI → member as gRPC
 *
 * Messages are batches that the callers have already encoded, so the serializers hand bytes through.
 */
import type { IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';
import {
  type ChannelOptions,
  Client,
  type ClientDuplexStream,
  credentials,
  type handleBidiStreamingCall,
  Server,
  ServerCredentials,
  type ServerDuplexStream,
  type ServiceError,
} from '@grpc/grpc-js';
import type { Channel } from '@quoin/base';
import { acceptStream, streamProtocol } from './stream-channel.ts';

export const peerPath = '/quoin.internal.v1.Peer/Stream';
export const linkPath = '/quoin.internal.v1.Link/Stream';

/** Bytes that may wait in one channel before `send` asks to stop. */
const highWaterBytes = 4 << 20;
/** HTTP/2's default of 64 KiB would cost a round trip for each batch larger than that. */
const flowControlWindowBytes = 16 << 20;
const keepaliveIntervalMs = 5_000;
const keepaliveTimeoutMs = 5_000;

const commonOptions: ChannelOptions = {
  'grpc.max_send_message_length': -1,
  'grpc.max_receive_message_length': -1,
  'grpc.keepalive_time_ms': keepaliveIntervalMs,
  'grpc.keepalive_timeout_ms': keepaliveTimeoutMs,
  'grpc.enable_channelz': 0,
  'grpc-node.flow_control_window': flowControlWindowBytes,
  'grpc-node.max_session_memory': Number.MAX_SAFE_INTEGER,
};

const clientOptions: ChannelOptions = {
  ...commonOptions,
  'grpc.keepalive_permit_without_calls': 1,
  // One connection per channel with its own back-off: the caller decides when to dial again.
  'grpc.use_local_subchannel_pool': 1,
  'grpc.enable_retries': 0,
  'grpc.service_config_disable_resolution': 1,
  'grpc.enable_http_proxy': 0,
};

const nothing = (): void => {};
const toBuffer = (bytes: Uint8Array): Buffer => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
/** A plain Uint8Array: Buffer's `slice` shares memory where pure code expects a copy. */
const toBytes = (buffer: Buffer): Uint8Array =>
  new Uint8Array(buffer.buffer, buffer.byteOffset, buffer.length);

type Call = ClientDuplexStream<Uint8Array, Uint8Array> | ServerDuplexStream<Uint8Array, Uint8Array>;

class GrpcChannel implements Channel {
  onMessage: (message: Uint8Array) => void = nothing;
  onDrain: () => void = nothing;
  onClose: (reason: string) => void = nothing;
  private readonly call: Call;
  private readonly release: () => void;
  private bytes = 0;
  private blocked = false;
  private closed = false;

  /** `release` is called once when the channel is over, from whichever side. */
  constructor(call: Call, release: () => void) {
    this.call = call;
    this.release = release;
    call.on('data', (message: Uint8Array) => {
      if (!this.closed) this.onMessage(message);
    });
    call.on('end', () => this.over('closed by the other side'));
    call.on('cancelled', () => this.over('connection lost'));
    call.on('error', (error: ServiceError | Error) => {
      this.over(plainReason('details' in error && error.details !== '' ? error.details : error.message));
    });
    call.on('close', () => this.over('connection lost'));
  }

  send(message: Uint8Array): boolean {
    if (this.closed) return true;
    const { length } = message;
    this.bytes += length;
    this.call.write(message, () => this.written(length));
    this.blocked ||= this.bytes > highWaterBytes;
    return !this.blocked;
  }

  queuedBytes(): number {
    return this.bytes;
  }

  close(): void {
    if (this.closed) return;
    this.finish();
  }

  /** Half of the mark, so that a sender that waits is not called back for every message. */
  private written(length: number): void {
    this.bytes -= length;
    if (this.blocked && !this.closed && this.bytes <= highWaterBytes / 2) {
      this.blocked = false;
      this.onDrain();
    }
  }

  private over(reason: string): void {
    if (this.closed) return;
    this.finish();
    this.onClose(reason);
  }

  private finish(): void {
    this.closed = true;
    this.call.end();
    this.release();
  }
}

/** grpc-js wraps what the socket said: `No connection established. Last error: Error: connect …. Resolution note: `. */
function plainReason(details: string): string {
  return /Last error: (?:Error: )?(.+?)\.? Resolution note:/.exec(details)?.[1] ?? details;
}

/** How long a channel that this side closed may take to flush what it holds before its connection is cut. */
const closeGraceMs = 1_000;

/**
 * Opens a channel to a peer URL (`http://host:port`). It exists at once and queues; failing to connect is `onClose`,
 * and never happens within this call.
 */
export function dialChannel(peerUrl: string, path: typeof linkPath): Channel {
  const address = peerUrl.replace(/^https?:\/\//, '').replace(/\/$/, '');
  const client = new Client(address, credentials.createInsecure(), clientOptions);
  const call = client.makeBidiStreamRequest<Uint8Array, Uint8Array>(path, toBuffer, toBytes);
  return new GrpcChannel(call, () => {
    const cut = (): void => {
      clearTimeout(timer);
      client.close();
    };
    const timer = setTimeout(() => {
      call.cancel();
      client.close();
    }, closeGraceMs);
    call.once('status', cut);
  });
}

export interface InternalServerHandlers {
  readonly onPeer: (channel: Channel) => void;
  readonly onLink: (channel: Channel) => void;
  /** Whether the certificate behind a connection allows a stream of that kind. Not given: all do. */
  readonly admits?: ((socket: Socket, kind: 'peer' | 'link') => boolean) | undefined;
}

/** Serves the internal plane on sockets that a listener hands over: streams of frames, and gRPC for tools. */
export class InternalServer {
  private readonly server: Server;
  private readonly handlers: InternalServerHandlers;
  private readonly sockets = new Set<Socket>();
  private readonly inject: (socket: Socket) => void;

  constructor(handlers: InternalServerHandlers) {
    this.handlers = handlers;
    this.server = new Server(commonOptions);
    this.serve(linkPath, handlers.onLink);
    const injector = this.server.createConnectionInjector(ServerCredentials.createInsecure());
    this.inject = (socket) => injector.injectConnection(socket);
  }

  /** Tools speak gRPC, and links are all they open. */
  accept(socket: Socket): void {
    if (this.admits(socket, 'link')) this.inject(socket);
    else socket.destroy();
  }

  /** A request for a stream of frames; false when it asks for something else. */
  upgrade(request: IncomingMessage, socket: Socket, head: Buffer): boolean {
    const kind = request.url === peerPath ? 'peer' : request.url === linkPath ? 'link' : undefined;
    if (kind === undefined || request.headers.upgrade !== streamProtocol) return false;
    if (!this.admits(socket, kind)) return false;
    const onChannel = kind === 'peer' ? this.handlers.onPeer : this.handlers.onLink;
    this.sockets.add(socket);
    socket.once('close', () => this.sockets.delete(socket));
    onChannel(acceptStream(socket, head));
    return true;
  }

  /** Cuts every stream. */
  stop(): void {
    this.server.forceShutdown();
    for (const socket of this.sockets) socket.destroy();
  }

  private admits(socket: Socket, kind: 'peer' | 'link'): boolean {
    return this.handlers.admits?.(socket, kind) ?? true;
  }

  private serve(path: string, onChannel: (channel: Channel) => void): void {
    const handle: handleBidiStreamingCall<Uint8Array, Uint8Array> = (call) => {
      onChannel(new GrpcChannel(call, nothing));
    };
    this.server.register(path, handle, toBuffer, toBytes, 'bidi');
  }
}
