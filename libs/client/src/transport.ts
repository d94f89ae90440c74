import {
  create,
  type DescMessage,
  fromBinary,
  type MessageInitShape,
  type MessageShape,
  toBinary,
} from '@bufbuild/protobuf';
import * as grpc from '@grpc/grpc-js';
import { Code, etcdErrors } from '@quoin/contracts';
import { Auth } from '@quoin/contracts/etcd';
import { Endpoint } from './endpoint.ts';
import { canceled, deadlineExceeded, type EtcdError, toEtcdError, wasNotSent } from './error.ts';
import { type CallOptions, type ClientOptions, defaultTimeoutMs } from './options.ts';

/** A method of a generated service. */
export interface RpcMethod<I extends DescMessage, O extends DescMessage> {
  readonly name: string;
  readonly parent: { readonly typeName: string };
  readonly input: I;
  readonly output: O;
}

// Repeating them does no harm, so they are tried again while the server is Unavailable, as etcd's own client does.
const idempotentMethods: ReadonlySet<string> = new Set([
  'Range',
  'RangeStream',
  'LeaseTimeToLive',
  'LeaseLeases',
  'MemberList',
  'Status',
  'Hash',
  'HashKV',
  'Snapshot',
  'AuthStatus',
  'UserGet',
  'UserList',
  'RoleGet',
  'RoleList',
  'Leader',
]);

const retryDelayMs = 25;
const retryDelayMaxMs = 500;
const connectSliceMs = 200;
const clientApiVersion = '3.7';

/**
 * Calls on a set of endpoints: round robin over those that are connected, the others are reconnected meanwhile.
 *
 *     acquire ──► READY endpoint ──► call ──► answer
 *        ▲                            │
 *        └── Unavailable, and (idempotent or provably not sent), until the deadline
 */
export class Transport {
  private readonly options: ClientOptions;
  private endpoints: Endpoint[];
  private nextEndpoint = 0;
  private token: string | undefined;
  private closed = false;
  /** Until the first connection stands: when waiting for it ends. */
  private dialDeadlineMs: number | undefined = undefined;
  private connected = false;

  constructor(options: ClientOptions) {
    if (options.endpoints.length === 0) throw new Error('no endpoint given');
    this.options = options;
    this.endpoints = options.endpoints.map((url) => new Endpoint(url, options));
    this.token = options.token;
  }

  endpointUrls(): string[] {
    return this.endpoints.map((endpoint) => endpoint.url);
  }

  /** Endpoints that stay keep their connection. Calls under way on the others fail. */
  setEndpoints(urls: readonly string[]): void {
    if (urls.length === 0) throw new Error('no endpoint given');
    const old = new Map(this.endpoints.map((endpoint) => [endpoint.url, endpoint]));
    this.endpoints = urls.map((url) => old.get(url) ?? new Endpoint(url, this.options));
    for (const [url, endpoint] of old) if (!urls.includes(url)) endpoint.close();
  }

  close(): void {
    this.closed = true;
    for (const endpoint of this.endpoints) endpoint.close();
  }

  async unary<I extends DescMessage, O extends DescMessage>(
    method: RpcMethod<I, O>,
    init: MessageInitShape<I>,
    options: CallOptions = {},
  ): Promise<MessageShape<O>> {
    const request = toBinary(method.input, create(method.input, init));
    const deadlineMs = this.deadline(options);
    const idempotent = options.idempotent ?? idempotentMethods.has(method.name);
    let reauthenticated = false;
    for (let attempt = 0; ; attempt++) {
      try {
        const token = await this.currentToken(deadlineMs, options);
        const endpoint = await this.acquire(deadlineMs, options);
        const body = await this.callOnce(endpoint, path(method), request, token, deadlineMs, options);
        return fromBinary(method.output, body);
      } catch (caught) {
        const error = toEtcdError(caught);
        if (!reauthenticated && this.options.user !== undefined && isTokenError(error)) {
          reauthenticated = true;
          this.token = undefined;
          continue;
        }
        const again = wasNotSent(error) || (idempotent && error.code === Code.unavailable);
        if (!again || this.closed) throw error;
        await pause(attempt, deadlineMs, options.signal);
      }
    }
  }

  /** A server stream; each message decoded. Failures before the first message are retried for idempotent methods. */
  async *serverStream<I extends DescMessage, O extends DescMessage>(
    method: RpcMethod<I, O>,
    init: MessageInitShape<I>,
    options: CallOptions = {},
  ): AsyncGenerator<MessageShape<O>, void, undefined> {
    const request = toBinary(method.input, create(method.input, init));
    const limit = this.deadline({ ...options, timeoutMs: options.timeoutMs ?? 0 });
    for (let attempt = 0; ; attempt++) {
      let delivered = false;
      let call: grpc.ClientReadableStream<Uint8Array> | undefined;
      try {
        const token = await this.currentToken(limit, options);
        const endpoint = await this.acquire(limit, options);
        call = endpoint.client.makeServerStreamRequest(
          path(method),
          asBuffer,
          asBytes,
          request,
          this.metadata(token, options),
          callOptions(limit),
        );
        call.on('error', () => {}); // the iterator reports it; without a listener a late one would be thrown
        const abort = () => call?.cancel();
        options.signal?.addEventListener('abort', abort, { once: true });
        for await (const body of call) {
          delivered = true;
          yield fromBinary(method.output, body as Uint8Array);
        }
        options.signal?.removeEventListener('abort', abort);
        return;
      } catch (caught) {
        const error = toEtcdError(caught);
        const again = !delivered && idempotentMethods.has(method.name) && error.code === Code.unavailable;
        if (!again || this.closed) throw error;
        await pause(attempt, limit, options.signal);
      } finally {
        call?.cancel();
      }
    }
  }

  /** A bidirectional stream on a connected endpoint. It ends with an 'error' or 'end' event; the caller reopens. */
  async bidi<I extends DescMessage, O extends DescMessage>(
    method: RpcMethod<I, O>,
    options: CallOptions = {},
  ): Promise<grpc.ClientDuplexStream<MessageInitShape<I>, MessageShape<O>>> {
    const deadlineMs = this.deadline({ ...options, timeoutMs: options.timeoutMs ?? 0 });
    const token = await this.currentToken(deadlineMs, options);
    const endpoint = await this.acquire(deadlineMs, options);
    return endpoint.client.makeBidiStreamRequest<MessageInitShape<I>, MessageShape<O>>(
      path(method),
      (message) => Buffer.from(toBinary(method.input, create(method.input, message))),
      (bytes) => fromBinary(method.output, asBytes(bytes)),
      this.metadata(token, options),
      callOptions(deadlineMs),
    );
  }

  /** Forgets a token that the server no longer takes. True when a new one can be had. */
  forgetToken(): boolean {
    if (this.options.user === undefined) return false;
    this.token = undefined;
    return true;
  }

  isClosed(): boolean {
    return this.closed;
  }

  private deadline(options: CallOptions): number {
    const timeoutMs = options.timeoutMs ?? this.options.timeoutMs ?? defaultTimeoutMs;
    return timeoutMs > 0 ? Date.now() + timeoutMs : Number.POSITIVE_INFINITY;
  }

  private metadata(token: string | undefined, options: CallOptions): grpc.Metadata {
    const metadata = new grpc.Metadata();
    metadata.set('client-api-version', clientApiVersion);
    if (token !== undefined) metadata.set('token', token);
    if (options.requireLeader === true) metadata.set('hasleader', 'true');
    return metadata;
  }

  private async acquire(deadlineMs: number, options: CallOptions): Promise<Endpoint> {
    for (;;) {
      if (this.closed) throw canceled();
      if (options.signal?.aborted === true) throw canceled();
      const candidates = this.candidates(options.endpoint);
      const ready = candidates.filter((endpoint) => endpoint.isReady());
      if (ready.length > 0) {
        this.connected = true;
        return ready[0]!;
      }
      const leftMs = Math.min(deadlineMs, this.dialDeadline()) - Date.now();
      if (leftMs <= 0) throw deadlineExceeded();
      await Promise.race(candidates.map((endpoint) => endpoint.changed(Math.min(leftMs, connectSliceMs))));
    }
  }

  private dialDeadline(): number {
    const { dialTimeoutMs } = this.options;
    if (this.connected || dialTimeoutMs === undefined) return Number.POSITIVE_INFINITY;
    this.dialDeadlineMs ??= Date.now() + dialTimeoutMs;
    return this.dialDeadlineMs;
  }

  private candidates(only: string | undefined): Endpoint[] {
    if (only !== undefined) {
      const found = this.endpoints.find((endpoint) => endpoint.url === only);
      if (found === undefined) throw new Error(`endpoint ${only} is not one of this client's`);
      return [found];
    }
    const first = this.nextEndpoint++ % this.endpoints.length;
    return [...this.endpoints.slice(first), ...this.endpoints.slice(0, first)];
  }

  private callOnce(
    endpoint: Endpoint,
    rpcPath: string,
    request: Uint8Array,
    token: string | undefined,
    deadlineMs: number,
    options: CallOptions,
  ): Promise<Uint8Array> {
    const startedMs = performance.now();
    return new Promise((resolve, reject) => {
      const done = (error: grpc.ServiceError | null, body?: Uint8Array) => {
        const outcome = error === null ? 'OK' : error.message;
        this.options.onAttempt?.(
          `${rpcPath} at ${endpoint.url}: ${(performance.now() - startedMs).toFixed(1)} ms, ${outcome}`,
        );
        options.signal?.removeEventListener('abort', abort);
        if (error !== null) reject(toEtcdError(error));
        else resolve(body!);
      };
      const metadata = this.metadata(token, options);
      const call = endpoint.client.makeUnaryRequest(
        rpcPath,
        asBuffer,
        asBytes,
        request,
        metadata,
        callOptions(deadlineMs),
        done,
      );
      const abort = () => call.cancel();
      options.signal?.addEventListener('abort', abort, { once: true });
    });
  }

  /** Undefined: the cluster runs without authentication, or nobody gave a user. */
  private async currentToken(deadlineMs: number, options: CallOptions): Promise<string | undefined> {
    const { user, password } = this.options;
    if (this.token !== undefined || user === undefined) return this.token === '' ? undefined : this.token;
    const method = Auth.method.authenticate;
    const request = toBinary(method.input, create(method.input, { name: user, password: password ?? '' }));
    try {
      const endpoint = await this.acquire(deadlineMs, options);
      const body = await this.callOnce(endpoint, path(method), request, undefined, deadlineMs, options);
      this.token = fromBinary(method.output, body).token;
    } catch (error) {
      if ((error as EtcdError).message !== etcdErrors.authNotEnabled.message) throw error;
      this.token = '';
    }
    return this.token === '' ? undefined : this.token;
  }
}

function isTokenError(error: EtcdError): boolean {
  return (
    error.message === etcdErrors.invalidAuthToken.message ||
    error.message === etcdErrors.authOldRevision.message ||
    // Authentication was switched on after this client had found it off.
    error.message === etcdErrors.userEmpty.message
  );
}

function path(method: RpcMethod<DescMessage, DescMessage>): string {
  return `/${method.parent.typeName}/${method.name}`;
}

function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** A plain Uint8Array: Buffer's `slice` shares memory where one expects a copy. */
function asBytes(buffer: Buffer): Uint8Array {
  return new Uint8Array(buffer.buffer, buffer.byteOffset, buffer.length);
}

function callOptions(deadlineMs: number): grpc.CallOptions {
  return deadlineMs === Number.POSITIVE_INFINITY ? {} : { deadline: deadlineMs };
}

async function pause(attempt: number, deadlineMs: number, signal: AbortSignal | undefined): Promise<void> {
  const delayMs =
    Math.min(retryDelayMs * 2 ** Math.min(attempt, 8), retryDelayMaxMs) * (0.75 + Math.random() / 2);
  if (Date.now() + delayMs >= deadlineMs) throw deadlineExceeded();
  await sleep(delayMs, signal);
}

/** Rejects when aborted. */
export function sleep(delayMs: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted === true) return reject(canceled());
    const abort = () => {
      clearTimeout(timer);
      reject(canceled());
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener('abort', abort);
      resolve();
    }, delayMs);
    signal?.addEventListener('abort', abort, { once: true });
  });
}
