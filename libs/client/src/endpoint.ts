import * as grpc from '@grpc/grpc-js';
import {
  type ClientOptions,
  defaultReceiveBytesMax,
  defaultSendBytesMax,
  type TlsOptions,
} from './options.ts';

/** Where an endpoint's URL leads. */
export interface Target {
  /** In the form that gRPC wants. */
  readonly address: string;
  readonly secure: boolean;
}

/** @throws Error when the text is no endpoint. */
export function parseEndpoint(url: string, tlsGiven: boolean): Target {
  const unix = /^(unixs?):(?:\/\/)?(.+)$/.exec(url);
  if (unix !== null) return { address: `unix:${unix[2]!}`, secure: unix[1] === 'unixs' };
  const match = /^(?:([a-z]+):\/\/)?([^/\s]+?)\/?$/i.exec(url);
  const scheme = match?.[1]?.toLowerCase();
  if (match === null || (scheme !== undefined && scheme !== 'http' && scheme !== 'https')) {
    throw new Error(
      `bad endpoint ${JSON.stringify(url)}: expecting host:port, http://host:port or https://host:port`,
    );
  }
  let host = match[2]!;
  if (!/:\d+$/.test(host)) host += scheme === 'https' ? ':443' : scheme === 'http' ? ':80' : ':2379';
  return { address: host, secure: scheme === undefined ? tlsGiven : scheme === 'https' };
}

export function channelCredentials(secure: boolean, tls: TlsOptions | undefined): grpc.ChannelCredentials {
  if (!secure) return grpc.credentials.createInsecure();
  const buffer = (pem: Uint8Array | undefined) => (pem === undefined ? null : Buffer.from(pem));
  const skip = tls?.insecureSkipVerify === true;
  return grpc.credentials.createSsl(buffer(tls?.ca), buffer(tls?.key), buffer(tls?.cert), {
    rejectUnauthorized: !skip,
    ...(skip ? { checkServerIdentity: () => undefined } : {}),
  });
}

/** grpc-js is told not to share connections between clients and not to retry by itself: both are this client's decisions. */
export function channelOptions(
  options: Pick<
    ClientOptions,
    'tls' | 'keepaliveTimeMs' | 'keepaliveTimeoutMs' | 'sendBytesMax' | 'receiveBytesMax'
  >,
): grpc.ChannelOptions {
  const out: grpc.ChannelOptions = {
    'grpc.max_send_message_length': options.sendBytesMax ?? defaultSendBytesMax,
    'grpc.max_receive_message_length': options.receiveBytesMax ?? defaultReceiveBytesMax,
    'grpc.use_local_subchannel_pool': 1,
    'grpc.enable_retries': 0,
    'grpc.service_config_disable_resolution': 1,
    'grpc.initial_reconnect_backoff_ms': 100,
    'grpc.min_reconnect_backoff_ms': 100,
    'grpc.max_reconnect_backoff_ms': 2000,
    'grpc.enable_http_proxy': 0,
  };
  if (options.keepaliveTimeMs !== undefined && options.keepaliveTimeMs > 0) {
    out['grpc.keepalive_time_ms'] = options.keepaliveTimeMs;
    out['grpc.keepalive_timeout_ms'] = options.keepaliveTimeoutMs ?? 6000;
  }
  if (options.tls?.serverName !== undefined) {
    out['grpc.ssl_target_name_override'] = options.tls.serverName;
    out['grpc.default_authority'] = options.tls.serverName;
  }
  return out;
}

/** One server address and the connection to it. */
export class Endpoint {
  readonly url: string;
  readonly client: grpc.Client;

  constructor(url: string, options: ClientOptions) {
    const { address, secure } = parseEndpoint(url, options.tls !== undefined);
    this.url = url;
    this.client = new grpc.Client(address, channelCredentials(secure, options.tls), channelOptions(options));
  }

  /** Connects when idle; true when a call would be sent now. */
  isReady(): boolean {
    return this.client.getChannel().getConnectivityState(true) === grpc.connectivityState.READY;
  }

  /** Resolves when the connection's state is another one, or after `withinMs`. */
  changed(withinMs: number): Promise<void> {
    const channel = this.client.getChannel();
    return new Promise((resolve) => {
      channel.watchConnectivityState(channel.getConnectivityState(false), Date.now() + withinMs, () =>
        resolve(),
      );
    });
  }

  close(): void {
    this.client.close();
  }
}
