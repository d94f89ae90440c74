import { isIP } from 'node:net';
import { connect, createSecureContext, type SecureContext, type TLSSocket } from 'node:tls';
import type { Log } from '@quoin/base';
import { contextOptions } from './tls-acceptor.ts';
import { FromFiles, readAuthorities, readKeyPair } from './tls-files.ts';
import type { TlsConfig } from './tls-options.ts';

/** Connections to members over TLS, with this process' own certificate. Files are read again when they change. */
export class TlsDialer {
  private readonly config: TlsConfig;
  private readonly log: Log;
  private readonly context: FromFiles<SecureContext>;

  /** @throws ConfigError when a file cannot be used */
  constructor(config: TlsConfig, log: Log) {
    this.config = config;
    this.log = log;
    const certFile = config.dialCertFile || config.certFile;
    const keyFile = config.dialKeyFile || config.keyFile;
    const { caFile } = config;
    this.context = new FromFiles(
      [certFile, keyFile, caFile].filter((file) => file !== ''),
      () =>
        createSecureContext({
          ...(certFile === '' ? {} : readKeyPair(certFile, keyFile)),
          ...(caFile === '' ? {} : { ca: readAuthorities(caFile) }),
          ...contextOptions(config.protocol),
        }),
    );
  }

  /** What is written before the handshake is over waits for it. A failure is an `error` of the socket. */
  connect(host: string, port: number): TLSSocket {
    return connect({
      host,
      port,
      secureContext: this.current(),
      // An address is no server name (RFC 6066 §3); the certificate is then checked for the address.
      ...(isIP(host) === 0 ? { servername: host } : {}),
      rejectUnauthorized: !this.config.selfSigned,
    });
  }

  private current(): SecureContext {
    try {
      return this.context.current().value;
    } catch (error) {
      this.log.warn('TLS certificates cannot be read again, the old ones stay in use', {
        error: (error as Error).message,
      });
      return this.context.last;
    }
  }
}
