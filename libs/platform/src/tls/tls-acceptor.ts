/**
 * TLS on connections that a listener has accepted, for one plane (clients, or peers and gateways).
 *
 *     socket ─► handshake, ≤ handshakeTimeoutMs ─► chain ─► revoked? ─► name allowed? ─► address fits? ─► take
 *                       │ failed, too slow           └──────────┴─────────────┴──────────────┴─► one line, cut
 *
 * Certificate, key, CA and revocation list are looked at before each handshake and read again when they have changed.
 * Nothing is handed over before all checks have passed.
 */
import { constants } from 'node:crypto';
import type { Socket } from 'node:net';
import { createServer, type SecureContextOptions, type Server, type TLSSocket } from 'node:tls';
import { type Log, type LogFields, RateLimit } from '@quoin/base';
import {
  addressProblem,
  alternativeNames,
  isAllowed,
  peerCertificate,
  revokedInChain,
} from './peer-identity.ts';
import { FromFiles, readAuthorities, readKeyPair, readRevoked } from './tls-files.ts';
import type { TlsConfig } from './tls-options.ts';

/** From the connection to the end of its handshake. */
const handshakeTimeoutMs = 10_000;
/** Connections in their handshake; beyond it the oldest is cut, which is an idle one unless there is a flood. */
const maxHandshakes = 1_000;
const rejectedLogIntervalMs = 1_000;

/* No renegotiation (a client could ask for it for ever), and no resumption: a certificate may have been revoked. */
const secureOptions =
  constants.SSL_OP_NO_RENEGOTIATION | constants.SSL_OP_NO_TICKET | constants.SSL_OP_CIPHER_SERVER_PREFERENCE;

export interface TlsAcceptorOptions {
  readonly config: TlsConfig;
  readonly log: Log;
  /** In log lines: `client` or `peer`. */
  readonly endpoint: 'client' | 'peer';
  /** Who may connect at all, when that is more than `config.allowed`. */
  readonly admits?: (certificate: ReturnType<typeof peerCertificate>) => boolean;
}

/** A connection from its accept to the end of its checks. */
interface Handshake {
  readonly raw: Socket;
  readonly address: string;
  readonly take: (socket: TLSSocket) => void;
}

export class TlsAcceptor {
  private readonly options: TlsAcceptorOptions;
  private readonly server: Server;
  private readonly context: FromFiles<SecureContextOptions>;
  private readonly revoked: FromFiles<ReadonlySet<string>> | undefined;
  private readonly limit = new RateLimit(rejectedLogIntervalMs);
  /** By both ends' addresses, which the socket that decrypts shares with the accepted one. Oldest first. */
  private readonly handshakes = new Map<string, Handshake>();

  /** @throws ConfigError when a file cannot be used */
  constructor(options: TlsAcceptorOptions) {
    const { config } = options;
    const { certFile, keyFile, caFile, crlFile, protocol } = config;
    this.options = options;
    this.context = new FromFiles([certFile, keyFile, ...(caFile === '' ? [] : [caFile])], () => ({
      ...readKeyPair(certFile, keyFile),
      ...(caFile === '' ? {} : { ca: readAuthorities(caFile) }),
      ...contextOptions(protocol),
    }));
    this.revoked = crlFile === '' ? undefined : new FromFiles([crlFile], () => readRevoked(crlFile));
    // It never listens: connections are given to it.
    this.server = createServer({
      ...this.context.last,
      requestCert: config.requireCertificate,
      // Looked at below, so that the log can say why.
      rejectUnauthorized: false,
      ALPNProtocols: ['h2', 'http/1.1'],
      handshakeTimeout: handshakeTimeoutMs,
    });
    this.server.on('secureConnection', (socket) => this.opened(socket));
    this.server.on('tlsClientError', (error, socket) => this.failed(error, socket));
  }

  /** `take` is called with the connection once it may be used; otherwise it is cut. */
  accept(raw: Socket, take: (socket: TLSSocket) => void): void {
    this.refresh();
    const key = keyOf(raw);
    this.handshakes.set(key, { raw, take, address: `${raw.remoteAddress}:${raw.remotePort}` });
    raw.once('close', () => this.handshakes.delete(key));
    if (this.handshakes.size > maxHandshakes) {
      const [oldest, handshake] = this.handshakes.entries().next().value!;
      this.reject(oldest, handshake, `more than ${maxHandshakes} connections in their TLS handshake`);
    }
    this.server.emit('connection', raw);
  }

  private refresh(): void {
    try {
      const { value, changed } = this.context.current();
      if (!changed) return;
      this.server.setSecureContext(value);
      this.options.log.info('TLS certificates were read again', { endpoint: this.options.endpoint });
    } catch (error) {
      // The old ones go on: files that are being replaced may not fit together for a moment.
      this.complain('refresh', 'TLS certificates cannot be read again, the old ones stay in use', {
        error: (error as Error).message,
      });
    }
  }

  private opened(socket: TLSSocket): void {
    const key = keyOf(socket);
    const handshake = this.handshakes.get(key);
    if (handshake === undefined) {
      socket.destroy();
      return;
    }
    socket.on('error', () => {});
    this.check(socket, (problem) => {
      if (this.handshakes.get(key) !== handshake) socket.destroy();
      else if (problem !== undefined) this.reject(key, handshake, problem, socket);
      else {
        this.handshakes.delete(key);
        handshake.take(socket);
      }
    });
  }

  private check(socket: TLSSocket, cb: (problem: string | undefined) => void): void {
    const problem = this.problem(socket);
    const certificate = peerCertificate(socket);
    if (problem !== undefined || certificate === undefined || !this.options.config.checkAddress) {
      cb(problem);
      return;
    }
    addressProblem(certificate, socket.remoteAddress ?? '').then(cb, (error: Error) => cb(error.message));
  }

  /** Why a connection whose handshake is over may not be used. */
  private problem(socket: TLSSocket): string | undefined {
    const { config, admits } = this.options;
    if (!config.requireCertificate) return undefined;
    const certificate = peerCertificate(socket);
    if (certificate === undefined) return "client didn't provide a certificate";
    if (!socket.authorized) return `certificate is not trusted: ${String(socket.authorizationError)}`;
    if (this.revoked !== undefined) {
      let revoked: ReadonlySet<string>;
      try {
        revoked = this.revoked.current().value;
      } catch (error) {
        // Without the list nobody can be told from those on it.
        return (error as Error).message;
      }
      const serial = revokedInChain(certificate, revoked);
      if (serial !== undefined) return `certificate serial ${serial} revoked`;
    }
    const allowed = admits?.(certificate) ?? isAllowed(certificate, config.allowed);
    return allowed ? undefined : 'client certificate authentication failed: its name is not allowed';
  }

  private failed(error: Error, socket: TLSSocket): void {
    const key = keyOf(socket);
    const handshake = this.handshakes.get(key);
    // One that its client left is nobody's loss.
    if (handshake === undefined) socket.destroy();
    else this.reject(key, handshake, error.message.split('\n')[0]!, socket);
  }

  private reject(key: string, handshake: Handshake, error: string, socket?: TLSSocket): void {
    this.handshakes.delete(key);
    const certificate = socket === undefined ? undefined : peerCertificate(socket);
    const names = certificate === undefined ? { ips: [], names: [] } : alternativeNames(certificate);
    this.complain('rejected', `rejected connection on ${this.options.endpoint} endpoint`, {
      'remote-addr': handshake.address,
      'ip-addresses': names.ips,
      'dns-names': names.names,
      error,
    });
    socket?.destroy();
    handshake.raw.destroy();
  }

  private complain(kind: string, message: string, fields: LogFields): void {
    const repeated = this.limit.pass(kind, performance.now());
    if (repeated === undefined) return;
    this.options.log.warn(message, repeated === 0 ? fields : { ...fields, 'not-logged-before': repeated });
  }
}

/** Options for `createSecureContext` that do not come from files. */
export function contextOptions(protocol: TlsConfig['protocol']): SecureContextOptions {
  const { minVersion, maxVersion, ciphers } = protocol;
  return { minVersion, maxVersion, secureOptions, ...(ciphers === undefined ? {} : { ciphers }) };
}

/** Tells a connection from all others that are open. */
function keyOf(socket: Socket): string {
  return `${socket.remoteAddress} ${socket.remotePort} ${socket.localAddress} ${socket.localPort}`;
}
