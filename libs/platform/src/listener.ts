import {
  createServer as createHttpServer,
  type Server as HttpServer,
  type IncomingMessage,
  type RequestListener,
} from 'node:http';
import { createServer, type Server, type Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { bindHost, hostPort, type NodeUrl } from './config/urls.ts';
import { ConfigError } from './config/values.ts';
import { Http1Ages } from './http1-ages.ts';
import type { TlsAcceptor } from './tls/tls-acceptor.ts';

/** The first bytes that an HTTP/2 client sends (RFC 9113 §3.4). No HTTP/1.1 method begins so. */
const http2Preface = 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n';
/** Enough of it to tell: `PRI` alone could be the start of an unknown HTTP/1.1 method. */
const sniffBytes = 5;
/** A connection that says nothing for so long is closed. */
const sniffTimeoutMs = 10_000;
/** As etcd's ReadHeaderTimeout. */
const headersTimeoutMsDefault = 300_000;
/** How often connections are looked at, as far as the timeout is not shorter. */
const headersCheckIntervalMs = 30_000;

export interface ListenerOptions {
  /** Connections that speak HTTP/2. What they sent so far is put back first. Undefined: closed. */
  readonly onHttp2: ((socket: Socket) => void) | undefined;
  readonly onHttp1: RequestListener;
  /** A request to go on in another protocol. Undefined, or false: refused. */
  readonly onUpgrade?: (request: IncomingMessage, socket: Socket, head: Buffer) => boolean;
  readonly reusePort?: boolean;
  /** For https URLs; they need it. */
  readonly tls?: TlsAcceptor | undefined;
  /** An HTTP/1.1 connection whose request headers take longer is cut. Default 5 min. */
  readonly headersTimeoutMs?: number;
  /** An HTTP/1.1 connection is to move on at this age, give or take a tenth. 0, the default: never. */
  readonly maxConnectionAgeMs?: number;
  /** It is cut so much later if an answer on it has not ended. */
  readonly maxConnectionAgeGraceMs?: number;
}

/**
 * TCP listeners of one role on which HTTP/2 (gRPC) and HTTP/1.1 share a port: the first bytes of each connection,
 * behind TLS on https URLs, decide who gets it.
 *
 *     accept ─► (TLS) ─► first bytes ─┬─ "PRI *…" ─► onHttp2(socket)
 *                                     └─ else ─────► node:http ─┬─► onHttp1(request, response)
 *                                                               └─► onUpgrade(request, socket, head)
 */
export class Listener {
  private readonly options: ListenerOptions;
  private readonly http: HttpServer;
  private readonly servers: Server[] = [];
  private readonly sockets = new Set<Socket>();
  private readonly ages: Http1Ages | undefined;

  constructor(options: ListenerOptions) {
    this.options = options;
    const { headersTimeoutMs = headersTimeoutMsDefault, maxConnectionAgeMs = 0 } = options;
    if (maxConnectionAgeMs > 0) {
      this.ages = new Http1Ages(maxConnectionAgeMs, options.maxConnectionAgeGraceMs ?? 0);
    }
    this.http = createHttpServer(
      {
        headersTimeout: headersTimeoutMs,
        // A body may be a stream of the JSON API.
        requestTimeout: 0,
        connectionsCheckingInterval: Math.min(headersCheckIntervalMs, headersTimeoutMs),
      },
      (request, response) => {
        this.ages?.asked(request, response);
        options.onHttp1(request, response);
      },
    );
    this.http.on('clientError', refuse);
    // This server never listens, but node:http begins to look for overdue headers when it is told that it does.
    this.http.emit('listening');
    if (options.onUpgrade === undefined) return;
    this.http.on('upgrade', (request: IncomingMessage, socket: Socket, head: Buffer) => {
      if (options.onUpgrade?.(request, socket, head) !== true) {
        socket.end('HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: 0\r\n\r\n');
      }
    });
  }

  /**
   * Binds all URLs. Port 0 takes a free one.
   *
   * @returns the ports, in order
   * @throws ConfigError such as `listen tcp 127.0.0.1:2379: bind: address already in use`; nothing stays bound
   */
  async listen(urls: readonly NodeUrl[]): Promise<number[]> {
    try {
      const ports: number[] = [];
      for (const url of urls) ports.push(await this.bind(url));
      return ports;
    } catch (error) {
      this.close();
      throw error;
    }
  }

  /** Takes no more connections; those that are open stay. */
  close(): void {
    for (const server of this.servers) server.close();
    this.servers.length = 0;
    // Closes idle connections, and ends the check of the others.
    this.http.close();
  }

  /** Cuts what is still open. */
  destroy(): void {
    this.close();
    for (const socket of this.sockets) socket.destroy();
  }

  private bind(url: NodeUrl): Promise<number> {
    const host = bindHost(url);
    const { port } = url;
    const { tls } = this.options;
    if (url.scheme === 'https' && tls === undefined) throw new ConfigError(`no certificate for ${url.text}`);
    const server = createServer({ noDelay: true, pauseOnConnect: false }, (socket) => {
      this.sockets.add(socket);
      socket.once('close', () => this.sockets.delete(socket));
      socket.on('error', () => {});
      if (url.scheme === 'http' || tls === undefined) this.sniff(socket);
      else tls.accept(socket, (secure) => this.sniff(secure));
    });
    return new Promise((resolve, reject) => {
      server.once('error', (error: NodeJS.ErrnoException) => {
        reject(new ConfigError(`listen tcp ${hostPort(host, port)}: bind: ${bindProblem(error)}`));
      });
      server.listen({ host, port, reusePort: this.options.reusePort ?? false }, () => {
        server.removeAllListeners('error');
        // Failing to accept one connection (too many files, say) is that connection's loss only.
        server.on('error', () => {});
        this.servers.push(server);
        resolve((server.address() as { port: number }).port);
      });
    });
  }

  private sniff(socket: Socket): void {
    let seen: Buffer = Buffer.alloc(0);
    const timer = setTimeout(() => socket.destroy(), sniffTimeoutMs);
    socket.once('close', () => clearTimeout(timer));
    const onData = (chunk: Buffer): void => {
      seen = seen.length === 0 ? chunk : Buffer.concat([seen, chunk]);
      const looked = seen.subarray(0, sniffBytes).toString('latin1');
      const http2 = http2Preface.startsWith(looked);
      if (http2 && looked.length < sniffBytes) return;
      clearTimeout(timer);
      socket.removeListener('data', onData);
      socket.pause();
      socket.unshift(seen);
      this.handOver(socket, http2);
    };
    socket.on('data', onData);
  }

  private handOver(socket: Socket, http2: boolean): void {
    if (!http2) {
      this.ages?.add(socket);
      this.http.emit('connection', socket);
      // node:http reads when told to; it does not expect a paused socket.
      socket.resume();
    } else if (this.options.onHttp2 === undefined) socket.destroy();
    else this.options.onHttp2(socket);
  }
}

const refusals: Readonly<Record<string, string>> = {
  HPE_HEADER_OVERFLOW: '431 Request Header Fields Too Large',
  ERR_HTTP_REQUEST_TIMEOUT: '408 Request Timeout',
};

/**
 * What cannot be read as HTTP/1.1 is answered so that its client learns why. What does not even begin with a method is
 * no HTTP/1.1, perhaps a broken HTTP/2 preface, and is cut without a word (RFC 9113 §3.4), as etcd does.
 */
function refuse(error: NodeJS.ErrnoException, socket: Duplex): void {
  if (error.code === 'HPE_INVALID_METHOD' || !socket.writable) {
    socket.destroy();
    return;
  }
  const status = refusals[error.code ?? ''] ?? '400 Bad Request';
  socket.end(`HTTP/1.1 ${status}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`, () => socket.destroy());
}

const problems: Readonly<Record<string, string>> = {
  EADDRINUSE: 'address already in use',
  EACCES: 'permission denied',
  EADDRNOTAVAIL: 'cannot assign requested address',
  ENOTSUP: 'operation not supported',
};

function bindProblem(error: NodeJS.ErrnoException): string {
  return problems[error.code ?? ''] ?? error.message;
}
