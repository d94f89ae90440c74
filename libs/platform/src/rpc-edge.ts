/** The client plane: HTTP/2 connections on our own state machine, one socket write a turn. */
import type { Socket } from 'node:net';
import { gunzipSync } from 'node:zlib';
import { services } from '@quoin/contracts';
import { type ApiHandler, grpcOverheadBytes } from '@quoin/gateway';
import {
  defaultConnectionOptions,
  GrpcServerConnection,
  type GrpcServerOptions,
  type GrpcServerPorts,
  type PlainReply,
  type PlainRequest,
} from '@quoin/rpc';
import { RealClock } from './clock.ts';
import type { Telemetry } from './telemetry/telemetry.ts';

/** Serves client connections that speak HTTP/2. */
export interface Http2Edge {
  accept(socket: Socket): void;
  /** Asks every client to go on elsewhere; calls under way, and those on their way here, are served. */
  drain(): void;
  /** Lets calls that are under way end for up to `graceMs`, then cuts. */
  stop(graceMs: number, cb: () => void): void;
}

export interface RpcEdgeOptions {
  readonly maxRequestBytes: number;
  readonly maxConcurrentStreams: number;
  readonly keepaliveMinTimeMs: number;
  /** 0: never. */
  readonly keepaliveIntervalMs: number;
  readonly keepaliveTimeoutMs: number;
  /** A connection is asked to move on at this age, give or take a tenth. 0: never. */
  readonly maxConnectionAgeMs?: number;
  /** It is closed so much later if calls on it have not ended. */
  readonly maxConnectionAgeGraceMs?: number;
  readonly telemetry: Telemetry | undefined;
  /** The user that a connection's certificate names; empty: none. */
  readonly certUser?: (socket: Socket) => string;
  /** Requests that are not gRPC: the routes of HTTP/1.1. */
  readonly plain: (request: PlainRequest, reply: PlainReply) => void;
  /** Asked first: requests whose bodies are streams. */
  readonly plainStream?: GrpcServerPorts['plainStream'];
}

const tickIntervalMs = 100;
const stopPollMs = 10;
// How long the answer to a ping may wait for answers to calls. Clients estimate bandwidth by it, and see whether we live.
const patienceMs = 20;
// A client that does not read its answers is not read either, until it has taken what waits in its socket.
const socketHighWaterBytes = 4 << 20;

const streamingPaths: ReadonlySet<string> = new Set(
  services.flatMap((service) => service.rpcs.filter((rpc) => rpc.kind !== 'unary').map((rpc) => rpc.path)),
);

export class RpcEdge implements Http2Edge {
  private readonly options: GrpcServerOptions;
  private readonly ports: GrpcServerPorts;
  private readonly certUser: (socket: Socket) => string;
  private readonly connections = new Set<EdgeConnection>();
  private readonly timer: NodeJS.Timeout;
  private readonly ageMs: number;
  private readonly graceMs: number;
  /** Connections with output: one setImmediate writes for all of them. */
  private dirty: EdgeConnection[] = [];
  private readonly flushDirty = (): void => {
    const connections = this.dirty;
    this.dirty = [];
    for (const connection of connections) connection.write();
  };
  /** Connections whose output may wait for more; what has been written meanwhile was taken with it. */
  private patient: EdgeConnection[] = [];
  private readonly flushPatient = (): void => {
    const connections = this.patient;
    this.patient = [];
    for (const connection of connections) connection.write();
  };

  constructor(handler: ApiHandler, options: RpcEdgeOptions) {
    this.options = {
      ...defaultConnectionOptions,
      maxConcurrentStreams: options.maxConcurrentStreams,
      maxMessageBytes: options.maxRequestBytes + grpcOverheadBytes,
      keepaliveMinTimeMs: options.keepaliveMinTimeMs,
      keepaliveIntervalMs:
        options.keepaliveIntervalMs > 0 ? options.keepaliveIntervalMs : Number.POSITIVE_INFINITY,
      keepaliveTimeoutMs: options.keepaliveTimeoutMs,
    };
    const { telemetry } = options;
    this.certUser = options.certUser ?? (() => '');
    this.ports = {
      clock: new RealClock(),
      handler,
      isStreaming: (path) => streamingPaths.has(path),
      span:
        telemetry === undefined ? undefined : (path, metadata, peer) => telemetry.edge(path, metadata, peer),
      gunzip,
      plain: options.plain,
      plainStream: options.plainStream,
    };
    this.ageMs = options.maxConnectionAgeMs ?? 0;
    this.graceMs = options.maxConnectionAgeGraceMs ?? 0;
    this.timer = setInterval(() => {
      const nowMs = performance.now();
      for (const connection of this.connections) {
        connection.server.tick();
        connection.tidy();
        if (nowMs >= connection.oldAtMs) this.retire(connection, nowMs);
      }
    }, tickIntervalMs);
    this.timer.unref();
  }

  accept(socket: Socket): void {
    const connection = new EdgeConnection(
      socket,
      this.options,
      this.ports,
      (c, urgent) => this.enqueue(c, urgent),
      this.certUser(socket),
    );
    if (this.ageMs > 0) connection.oldAtMs = performance.now() + this.ageMs * (0.9 + 0.2 * Math.random());
    this.connections.add(connection);
    socket.once('close', () => this.connections.delete(connection));
    connection.begin();
  }

  /** Open connections. */
  get size(): number {
    return this.connections.size;
  }

  drain(): void {
    for (const { server } of this.connections) server.connection.shutdown();
  }

  /** First asked, then, when the grace is over, cut: long streams would else stay where they are for ever. */
  private retire(connection: EdgeConnection, nowMs: number): void {
    if (connection.isRetiring) return connection.destroy();
    connection.isRetiring = true;
    connection.oldAtMs = nowMs + this.graceMs;
    connection.server.connection.shutdown();
  }

  stop(graceMs: number, cb: () => void): void {
    const deadline = performance.now() + graceMs;
    this.drain();
    const poll = setInterval(() => {
      if (this.connections.size > 0 && performance.now() < deadline) return;
      clearInterval(poll);
      clearInterval(this.timer);
      for (const connection of this.connections) connection.destroy();
      cb();
    }, stopPollMs);
  }

  private enqueue(connection: EdgeConnection, urgent: boolean): void {
    if (!urgent) {
      if (this.patient.length === 0) setTimeout(this.flushPatient, patienceMs).unref();
      this.patient.push(connection);
      return;
    }
    if (this.dirty.length === 0) setImmediate(this.flushDirty);
    this.dirty.push(connection);
  }
}

class EdgeConnection {
  /** Monotonic ms at which it is asked to move on; then at which it is cut. */
  oldAtMs = Number.POSITIVE_INFINITY;
  isRetiring = false;
  readonly server: GrpcServerConnection;
  private readonly socket: Socket;
  private closing = false;
  /** The kernel had not taken all of the last write. */
  private isSlow = false;

  constructor(
    socket: Socket,
    options: GrpcServerOptions,
    ports: GrpcServerPorts,
    onOutput: (connection: EdgeConnection, urgent: boolean) => void,
    certUser: string,
  ) {
    this.socket = socket;
    const events = {
      onOutput: (urgent: boolean) => onOutput(this, urgent),
      onClose: () => {
        this.closing = true;
        this.write();
      },
    };
    const peer = `${socket.remoteAddress}:${socket.remotePort}`;
    this.server = new GrpcServerConnection(options, ports, peer, events, certUser);
  }

  begin(): void {
    const { socket, server } = this;
    this.write();
    socket.on('data', (data) => {
      // A plain Uint8Array: Buffer's `slice` shares memory where pure code expects a copy.
      server.connection.receive(new Uint8Array(data.buffer, data.byteOffset, data.length));
      if (socket.writableLength > socketHighWaterBytes) socket.pause();
    });
    socket.on('drain', () => socket.resume());
    socket.on('end', () => socket.end());
    socket.on('close', () => server.connection.abort('the connection was closed'));
    socket.on('error', () => {});
    socket.resume();
  }

  write(): void {
    const { socket } = this;
    const { connection } = this.server;
    const chunks = connection.takeOutput();
    const releases = connection.takeReleases();
    if (!socket.writable) return;
    const last = chunks.length - 1;
    if (last > 0) socket.cork();
    for (let i = 0; i < last; i++) socket.write(chunks[i]!);
    if (releases.length > 0) {
      socket.write(chunks[last]!, (error) => {
        if (error == null) for (const release of releases) release();
      });
    } else if (last >= 0) socket.write(chunks[last]!);
    if (last > 0) socket.uncork();
    // The kernel has all of it already, unless the client is slow to read.
    this.isSlow = socket.writableLength > 0;
    if (!this.isSlow) connection.reuseOutput();
    if (this.closing) socket.end();
  }

  /** Who has nothing more to say should not keep the memory of what he said last. */
  tidy(): void {
    if (!this.isSlow || this.socket.writableLength > 0 || !this.socket.writable) return;
    this.isSlow = false;
    this.server.connection.reuseOutput();
  }

  destroy(): void {
    this.socket.destroy();
  }
}

function gunzip(bytes: Uint8Array, maxBytes: number): Uint8Array | undefined {
  try {
    return gunzipSync(bytes, { maxOutputLength: maxBytes });
  } catch {
    return undefined;
  }
}
