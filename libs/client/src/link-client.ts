import * as grpc from '@grpc/grpc-js';
import { emptyBytes } from '@quoin/base';
import {
  Code,
  type Credit,
  decodeLinkDown,
  encodeLinkUp,
  type LinkReply,
  type LinkRequest,
  type LinkUp,
  type LinkWelcome,
  type MemberState,
} from '@quoin/contracts';
import { channelCredentials, channelOptions, parseEndpoint } from './endpoint.ts';
import { canceled, deadlineExceeded, EtcdError } from './error.ts';
import type { TlsOptions } from './options.ts';

export interface LinkOptions {
  /** A member's peer URL, such as http://127.0.0.1:2380. */
  readonly url: string;
  /** What the member's log calls this end. */
  readonly name: string;
  /** 0n (the default) when not known: then any cluster will do. */
  readonly clusterId?: bigint | undefined;
  readonly tls?: TlsOptions | undefined;
}

const linkPath = '/quoin.internal.v1.Link/Stream';
const linkProtocol = 1;
const receiveBytesMax = 2 ** 31 - 1;
/** Room for an answer that comes in parts, given back as they are read. */
export const defaultWindowBytes = 4 * 1024 * 1024;

/** Of grpc-js' text for a failed connection, what the system said. */
function causeOf(details: string): string {
  return /Last error: (?:Error: )?(.*?)\. Resolution note/.exec(details)?.[1] ?? details;
}

interface Pending {
  readonly parts: Uint8Array[];
  onReply(reply: LinkReply): void;
  onLost(error: EtcdError): void;
}

export interface LinkStreamOptions {
  readonly timeoutMs?: number | undefined;
  readonly token?: string | undefined;
  /** 25 bytes: the span that the member's is to be below. */
  readonly trace?: Uint8Array | undefined;
}

/** The gateway link to one member, at its lowest: bytes of internal requests, answered or streamed. Not reopened. */
export class LinkClient {
  readonly url: string;
  /** What the member said of itself; rejects when it cannot be reached or is of another cluster. */
  readonly welcome: Promise<LinkWelcome>;
  /** The member's view of the cluster, as last told. */
  state: MemberState | undefined = undefined;
  private readonly client: grpc.Client;
  private readonly call: grpc.ClientDuplexStream<Uint8Array, Uint8Array>;
  private readonly pending = new Map<number, Pending>();
  private readonly stateWaiters: ((state: MemberState | EtcdError) => void)[] = [];
  private lastId = 0;
  private failure: EtcdError | undefined;
  private settle!: { resolve: (welcome: LinkWelcome) => void; reject: (error: EtcdError) => void };

  constructor(options: LinkOptions) {
    this.url = options.url;
    const { address, secure } = parseEndpoint(options.url, false);
    const channel = channelOptions({ tls: options.tls, sendBytesMax: receiveBytesMax, receiveBytesMax });
    this.client = new grpc.Client(address, channelCredentials(secure, options.tls), channel);
    this.welcome = new Promise((resolve, reject) => {
      this.settle = { resolve, reject };
    });
    this.welcome.catch(() => {}); // requests report it too
    const plain = (bytes: Uint8Array) => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    // A plain Uint8Array: Buffer's `slice` shares memory where decoders expect a copy.
    const view = (buffer: Buffer) => new Uint8Array(buffer.buffer, buffer.byteOffset, buffer.length);
    this.call = this.client.makeBidiStreamRequest(linkPath, plain, view);
    this.call.on('data', (bytes: Uint8Array) => this.receive(bytes));
    this.call.on('error', (error: grpc.ServiceError) =>
      this.lost(new EtcdError(error.code ?? Code.unavailable, causeOf(error.details ?? error.message))),
    );
    this.call.on('end', () =>
      this.lost(new EtcdError(Code.unavailable, `member ${options.url} ended the link`)),
    );
    this.send({
      hello: {
        protocol: linkProtocol,
        gateway: options.name,
        clusterId: options.clusterId ?? 0n,
        clientUrls: [],
      },
    });
  }

  /** The next state that the member tells, or the one it has told. */
  async firstState(timeoutMs: number): Promise<MemberState> {
    if (this.state !== undefined) return this.state;
    if (this.failure !== undefined) throw this.failure;
    const told = await new Promise<MemberState | EtcdError>((resolve) => {
      const timer = setTimeout(() => resolve(deadlineExceeded()), timeoutMs);
      this.stateWaiters.push((state) => {
        clearTimeout(timer);
        resolve(state);
      });
    });
    if (told instanceof EtcdError) throw told;
    return told;
  }

  /** One request with one answer; an answer in parts is joined. @throws EtcdError */
  async request(
    method: number,
    body: Uint8Array,
    options: { timeoutMs?: number | undefined; token?: string | undefined } = {},
  ): Promise<Uint8Array> {
    const parts: Uint8Array[] = [];
    const stream = this.stream(method, body, options);
    const { timeoutMs } = options;
    const timer =
      timeoutMs === undefined || timeoutMs === 0
        ? undefined
        : setTimeout(() => void stream.return(deadlineExceeded()), timeoutMs);
    try {
      for await (const part of stream) parts.push(part);
    } finally {
      clearTimeout(timer);
    }
    return parts.length === 1 ? parts[0]! : Buffer.concat(parts);
  }

  /**
   * The parts of an answer, each as it comes; room for more is given back only when a part is read, so that a slow reader
   * holds the member's sending back.
   */
  stream(method: number, body: Uint8Array, options: LinkStreamOptions = {}): LinkParts {
    const id = ++this.lastId;
    const parts = new LinkParts(
      (bytes) => this.send({ credits: [{ id, feed: false, bytes }] }),
      () => {
        if (this.pending.delete(id)) this.send({ cancels: [id] });
      },
    );
    if (this.failure !== undefined) {
      parts.onLost(this.failure);
      return parts;
    }
    this.pending.set(id, parts);
    const request: LinkRequest = {
      id,
      method,
      body,
      timeoutMs: options.timeoutMs ?? 0,
      trace: options.trace ?? emptyBytes,
      token: options.token ?? '',
      certUser: '',
      own: false,
    };
    this.send({ requests: [request] });
    return parts;
  }

  close(): void {
    this.lost(canceled());
    this.call.end();
    this.client.close();
  }

  private send(up: {
    hello?: LinkUp['hello'];
    requests?: LinkRequest[];
    cancels?: number[];
    credits?: Credit[];
  }): void {
    if (this.failure !== undefined) return;
    this.call.write(
      encodeLinkUp({
        hello: up.hello,
        requests: up.requests ?? [],
        subscribes: [],
        cancels: up.cancels ?? [],
        credits: up.credits ?? [],
      }),
    );
  }

  private receive(bytes: Uint8Array): void {
    const down = decodeLinkDown(bytes);
    if (down.welcome !== undefined) this.settle.resolve(down.welcome);
    if (down.state !== undefined) {
      this.state = down.state;
      for (const waiter of this.stateWaiters.splice(0)) waiter(down.state);
    }
    for (const reply of down.replies) {
      const pending = this.pending.get(reply.id);
      if (pending === undefined) continue;
      if (!reply.more) this.pending.delete(reply.id);
      pending.onReply(reply);
    }
  }

  private lost(error: EtcdError): void {
    if (this.failure !== undefined) return;
    this.failure = error;
    this.settle.reject(error);
    for (const waiter of this.stateWaiters.splice(0)) waiter(error);
    const all = [...this.pending.values()];
    this.pending.clear();
    for (const pending of all) pending.onLost(error);
  }
}

/** An answer under way. Read once, with `for await`. */
export class LinkParts implements AsyncIterable<Uint8Array>, Pending {
  readonly parts: Uint8Array[] = [];
  private readonly giveCredit: (bytes: number) => void;
  private readonly cancel: () => void;
  private over = false;
  private failure: EtcdError | undefined;
  private wake: (() => void) | undefined;

  constructor(giveCredit: (bytes: number) => void, cancel: () => void) {
    this.giveCredit = giveCredit;
    this.cancel = cancel;
  }

  onReply(reply: LinkReply): void {
    if (reply.code !== Code.ok) this.failure = new EtcdError(reply.code, reply.message);
    else if (reply.body.length > 0 || !reply.more) this.parts.push(reply.body);
    this.over = !reply.more || reply.code !== Code.ok;
    this.notify();
  }

  onLost(error: EtcdError): void {
    this.failure ??= error;
    this.over = true;
    this.notify();
  }

  /** Gives the rest up; with an error, the reader gets that. */
  return(error?: EtcdError): Promise<IteratorResult<Uint8Array>> {
    if (!this.over) {
      this.cancel();
      this.onLost(error ?? canceled());
    }
    return Promise.resolve({ done: true, value: undefined });
  }

  [Symbol.asyncIterator](): AsyncIterator<Uint8Array> {
    return { next: () => this.next(), return: () => this.return() };
  }

  async next(): Promise<IteratorResult<Uint8Array>> {
    for (;;) {
      const part = this.parts.shift();
      if (part !== undefined) {
        if (!this.over) this.giveCredit(part.length);
        return { done: false, value: part };
      }
      if (this.failure !== undefined) throw this.failure;
      if (this.over) return { done: true, value: undefined };
      await new Promise<void>((resolve) => {
        this.wake = resolve;
      });
    }
  }

  private notify(): void {
    const wake = this.wake;
    this.wake = undefined;
    wake?.();
  }
}
