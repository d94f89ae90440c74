/** A JSON API on a handler that does as it is told, with requests and answers in memory. */
import { utf8, utf8Text } from '@quoin/base';
import type { RpcStatus } from '@quoin/contracts';
import {
  type ApiHandler,
  type CallContext,
  JsonApi,
  type JsonCall,
  type JsonHeader,
  type JsonResponse,
  type ServerStream,
  type UnaryReply,
} from '@quoin/gateway';
import { World } from './world.ts';

export interface UnarySeen {
  readonly path: string;
  readonly request: Uint8Array;
  readonly context: CallContext;
  readonly reply: UnaryReply;
  cancelled: boolean;
}

export interface StreamSeen {
  readonly path: string;
  readonly context: CallContext;
  readonly stream: ServerStream;
  readonly messages: Uint8Array[];
  halfClosed: boolean;
  cancelled: boolean;
  drains: number;
}

export class Handler implements ApiHandler {
  readonly unaries: UnarySeen[] = [];
  readonly streams: StreamSeen[] = [];

  unary(path: string, request: Uint8Array, context: CallContext, reply: UnaryReply): () => void {
    const seen: UnarySeen = { path, request, context, reply, cancelled: false };
    this.unaries.push(seen);
    return () => {
      seen.cancelled = true;
    };
  }

  stream(path: string, context: CallContext, stream: ServerStream): void {
    const seen: StreamSeen = {
      path,
      context,
      stream,
      messages: [],
      halfClosed: false,
      cancelled: false,
      drains: 0,
    };
    this.streams.push(seen);
    stream.onMessage = (message) => seen.messages.push(message);
    stream.onHalfClose = () => {
      seen.halfClosed = true;
    };
    stream.onCancel = () => {
      seen.cancelled = true;
    };
    stream.onDrain = () => {
      seen.drains++;
    };
  }
}

/** What the client gets. With `room` it takes so many bytes, and then no more until `read`. */
export class Answer implements JsonResponse {
  status = 0;
  headers = new Map<string, string>();
  writes = 0;
  ended = false;
  room = Number.POSITIVE_INFINITY;
  private taken: Uint8Array[] = [];
  private waiting = 0;

  begin(status: number, headers: readonly JsonHeader[]): void {
    if (this.status !== 0) throw new Error('begun twice');
    this.status = status;
    for (const { name, value } of headers) this.headers.set(name, value);
  }

  write(bytes: Uint8Array): boolean {
    if (this.ended || this.status === 0) throw new Error('write outside of the answer');
    if (this.waiting > this.room) throw new Error('write although full');
    this.writes++;
    this.taken.push(bytes);
    this.waiting += bytes.length;
    return this.waiting <= this.room;
  }

  queuedBytes(): number {
    return Math.max(0, this.waiting - this.room);
  }

  end(bytes: Uint8Array): void {
    if (this.ended || this.status === 0) throw new Error('end outside of the answer');
    this.ended = true;
    this.taken.push(bytes);
  }

  read(): void {
    this.waiting = 0;
  }

  get text(): string {
    return this.taken.map((bytes) => utf8Text(bytes)).join('');
  }

  get json(): unknown {
    return JSON.parse(this.text);
  }

  get lines(): unknown[] {
    const lines = this.text.split('\n');
    if (lines.pop() !== '') throw new Error('the last line has no end');
    return lines.map((line) => JSON.parse(line) as unknown);
  }
}

export interface Request {
  readonly method?: string;
  readonly headers?: Readonly<Record<string, string>>;
  /** Sent at once, in these parts; undefined: the body stays open. */
  readonly body?: string | readonly Uint8Array[];
  readonly answer?: Answer;
}

export const maxRequestBytes = 10_000;
/** Plus the 512 KiB that gRPC takes on top. */
export const maxMessageBytes = maxRequestBytes + 512 * 1024;

export class Bench {
  readonly world = new World();
  readonly handler = new Handler();
  readonly spans: { path: string; end: [number, string] | undefined }[] = [];
  readonly api: JsonApi;

  constructor(clock: { monotonicMs(): number; wallMs(): number } | undefined = undefined) {
    const ports = {
      clock: clock ?? this.world.clock,
      timers: this.world.timers,
      span: (path: string) => {
        const span: { path: string; end: [number, string] | undefined } = { path, end: undefined };
        this.spans.push(span);
        return {
          context: new Uint8Array(25),
          end: (code: number, message: string) => {
            if (span.end !== undefined) throw new Error('a span ended twice');
            span.end = [code, message];
          },
        };
      },
    };
    this.api = new JsonApi(this.handler, { maxRequestBytes }, ports);
  }

  send(path: string, request: Request = {}): { call: JsonCall; answer: Answer } {
    const answer = request.answer ?? new Answer();
    const { headers = {}, body } = request;
    const call = this.api.open(
      { method: request.method ?? 'POST', path, header: (name) => headers[name], peer: '127.0.0.1:1' },
      answer,
    );
    if (body !== undefined) {
      for (const part of typeof body === 'string' ? [utf8(body)] : body) call.body(part);
      call.endOfBody();
    }
    return { call, answer };
  }

  /** Sends a unary request and has it answered. */
  ask(path: string, body: string, status: RpcStatus | null, pieces: readonly Uint8Array[] = []): Answer {
    const { answer } = this.send(path, { body });
    this.handler.unaries.at(-1)!.reply(status, pieces);
    this.world.run(0);
    return answer;
  }
}

/** Bytes cut at the given places, taken modulo the length. */
export function cut(bytes: Uint8Array, places: readonly number[]): Uint8Array[] {
  const at = [...new Set(places.map((place) => place % (bytes.length + 1)))].sort((a, b) => a - b);
  return [0, ...at].map((from, i) => bytes.subarray(from, at[i] ?? bytes.length));
}
