import { messagePrefix, messagePrefixBytes } from './frames.ts';
import {
  answerBytesMax,
  answerTooLarge,
  code,
  responseHeaders,
  totalBytes,
  trailersOf,
  trailersOk,
  trailersOnly,
} from './grpc-answer.ts';
import type { CallSite, CallSpan, GrpcCallContext, GrpcStatus } from './grpc-ports.ts';
import type { HeaderList } from './header-list.ts';
import { MessageReader, readLength } from './message-reader.ts';
import { type GrpcAnswerRest, PartedReply } from './parted-reply.ts';
import type { Stream, StreamHandler } from './stream.ts';

/** One unary call, and what came with it. */
export class UnaryCall implements StreamHandler, GrpcCallContext {
  readonly deadlineMs: number | undefined;
  private readonly site: CallSite;
  private readonly stream: Stream;
  private readonly path: string;
  private readonly headers: HeaderList;
  private readonly span: CallSpan | undefined;
  /** Only for a message that does not come whole. */
  private reader: MessageReader | undefined = undefined;
  private request: Uint8Array | undefined = undefined;
  private cancel: (() => void) | undefined = undefined;
  private over = false;
  private parted: PartedReply | undefined = undefined;

  constructor(
    site: CallSite,
    stream: Stream,
    path: string,
    headers: HeaderList,
    deadlineMs: number | undefined,
    span: CallSpan | undefined,
  ) {
    this.site = site;
    this.stream = stream;
    this.path = path;
    this.headers = headers;
    this.deadlineMs = deadlineMs;
    this.span = span;
  }

  metadata(key: string): string | undefined {
    return this.headers.find(key);
  }

  get trace(): Uint8Array | undefined {
    return this.span?.context;
  }

  get peer(): string {
    return this.site.peer;
  }

  get certUser(): string {
    return this.site.certUser;
  }

  onData(bytes: Uint8Array, from: number, to: number, end: boolean): void {
    if (this.over) return;
    if (end && this.reader === undefined && this.isWhole(bytes, from, to)) {
      this.serve(bytes.subarray(from + messagePrefixBytes, to));
      return;
    }
    const data = bytes.subarray(from, to);
    this.reader ??= new MessageReader(this.site.options.maxMessageBytes, this.site.ports.gunzip);
    let extra = false;
    const problem = this.reader.push(data, (message) => {
      extra = this.request !== undefined;
      this.request = message;
    });
    // The message is bounded, so its room is given back as it comes.
    if (!end) this.site.connection.consumed(this.stream, data.length);
    if (problem !== undefined) return this.reply(problem, []);
    if (extra)
      return this.reply({ code: code.internal, message: 'grpc: more than one message in a unary call' }, []);
    if (!end) return;
    if (this.request === undefined || !this.reader.empty) {
      return this.reply({ code: code.internal, message: 'grpc: the request ended before its message' }, []);
    }
    this.serve(this.request);
  }

  onAbort(): void {
    if (this.over) return;
    this.over = true;
    this.span?.end(code.cancelled, 'cancelled');
    this.cancel?.();
  }

  onDrain(): void {
    this.parted?.giveCredit();
  }

  /** One message, not compressed, and nothing else: the usual case. */
  private isWhole(bytes: Uint8Array, from: number, to: number): boolean {
    if (to - from < messagePrefixBytes || bytes[from] !== 0) return false;
    const length = readLength(bytes, from);
    return length === to - from - messagePrefixBytes && length <= this.site.options.maxMessageBytes;
  }

  private serve(request: Uint8Array): void {
    const cancel = this.site.ports.handler.unary(
      this.path,
      request,
      this,
      (status, response, rest) => {
        if (rest === undefined) this.reply(status, response);
        else this.beginReply(response, rest);
      },
      true,
    );
    if (!this.over) this.cancel = cancel;
  }

  private reply(status: GrpcStatus | null, response: readonly Uint8Array[]): void {
    if (this.over) return;
    const bytes = totalBytes(response);
    if (bytes > answerBytesMax) return this.reply(answerTooLarge(bytes), []);
    this.over = true;
    if (status === null)
      this.site.connection.sendMessage(this.stream, responseHeaders, response, bytes, trailersOk);
    else this.site.connection.sendHeaders(this.stream, trailersOnly(status), true);
    // Behind what the connection has just asked to be written.
    if (this.span !== undefined) this.span.end(status?.code ?? 0, status?.message ?? '');
  }

  /** The beginning of a large answer. */
  private beginReply(beginning: readonly Uint8Array[], rest: GrpcAnswerRest): void {
    if (this.over) return;
    const bytes = totalBytes(beginning) + rest.bytes;
    if (bytes > answerBytesMax) {
      this.reply(answerTooLarge(bytes), []);
      this.cancel?.();
      return;
    }
    this.site.connection.sendHeaders(this.stream, responseHeaders.literal, false);
    this.site.connection.sendData(this.stream, [messagePrefix(bytes)], false);
    this.parted = new PartedReply(this.site.connection, this.stream, rest, beginning, (status) => {
      if (this.over) return;
      this.over = true;
      // A message that lacks its end tells a client of the failure whatever it makes of the status.
      this.site.connection.sendTrailers(this.stream, trailersOf(status));
      this.span?.end(status?.code ?? 0, status?.message ?? '');
    });
  }
}
