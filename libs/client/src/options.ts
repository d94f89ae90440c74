/** Revisions, ids and limits: a number up to 2^53, or a bigint. */
export type Int64 = number | bigint;

/** Keys and values; a string is taken as UTF-8. */
export type Bytes = Uint8Array | string;

/** PEM. Paths are the caller's business. */
export interface TlsOptions {
  /** Undefined: the system's own roots. */
  readonly ca?: Uint8Array | undefined;
  readonly cert?: Uint8Array | undefined;
  readonly key?: Uint8Array | undefined;
  /** The name to check the server's certificate against, when it is not the endpoint's host. */
  readonly serverName?: string | undefined;
  readonly insecureSkipVerify?: boolean | undefined;
}

export interface ClientOptions {
  /** `host:port`, `http://host:port`, `https://host:port`, `unix:path` or `unixs:path`; at least one. */
  readonly endpoints: readonly string[];
  /** Used by https and unixs endpoints, and by endpoints without a scheme when given. */
  readonly tls?: TlsOptions | undefined;
  readonly user?: string | undefined;
  readonly password?: string | undefined;
  /** A ready token (such as a JWT) instead of user and password. */
  readonly token?: string | undefined;
  /** How long a unary call may take, connecting included. Default 10,000; 0 = no limit. */
  readonly timeoutMs?: number | undefined;
  /** How long the first connection may take, within `timeoutMs`. Undefined: no limit of its own. */
  readonly dialTimeoutMs?: number | undefined;
  /** Told of every unary attempt when it is over: method, endpoint, duration, outcome. */
  readonly onAttempt?: ((line: string) => void) | undefined;
  /** HTTP/2 ping when a connection has been silent for so long; 0 = none (the default). */
  readonly keepaliveTimeMs?: number | undefined;
  readonly keepaliveTimeoutMs?: number | undefined;
  /** Default 2 MiB. */
  readonly sendBytesMax?: number | undefined;
  /** Default 2^31 − 1. */
  readonly receiveBytesMax?: number | undefined;
}

export interface CallOptions {
  /** Overrides the client's; 0 = no limit. */
  readonly timeoutMs?: number | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Fail with `etcdserver: no leader` instead of waiting for one. */
  readonly requireLeader?: boolean | undefined;
  /** Only this endpoint (as given in the options): for calls that are about one member. */
  readonly endpoint?: string | undefined;
  /** Says that repeating the call does no harm, where the method's name does not say so (a read-only Txn). */
  readonly idempotent?: boolean | undefined;
}

export const defaultTimeoutMs = 10_000;
export const defaultSendBytesMax = 2 * 1024 * 1024;
export const defaultReceiveBytesMax = 2 ** 31 - 1;
