import type { Connection } from './connection.ts';
import { code, responseHeaders, totalBytes, trailersOf, trailersOk, trailersOnly } from './grpc-answer.ts';
import type { CallSite, CallSpan, GrpcServerStream, GrpcStatus } from './grpc-ports.ts';
import { MessageReader } from './message-reader.ts';
import type { Stream, StreamHandler } from './stream.ts';

/** One streaming call. */
export class StreamingCall implements StreamHandler, GrpcServerStream {
  readonly deadlineMs: number;
  onMessage: (message: Uint8Array) => void = () => {};
  onHalfClose: () => void = () => {};
  onCancel: () => void = () => {};
  onDrain: () => void = () => {};
  private readonly connection: Connection;
  private readonly stream: Stream;
  private readonly reader: MessageReader;
  private readonly span: CallSpan | undefined;
  private readonly timed: Set<StreamingCall>;
  private headersSent = false;
  private over = false;
  private held = false;
  /** What came while held: no more than the stream's window. */
  private readonly waiting: { readonly data: Uint8Array; readonly end: boolean }[] = [];

  constructor(
    site: CallSite,
    stream: Stream,
    deadlineMs: number | undefined,
    span: CallSpan | undefined,
    timed: Set<StreamingCall>,
  ) {
    this.connection = site.connection;
    this.stream = stream;
    this.reader = new MessageReader(site.options.maxMessageBytes, site.ports.gunzip);
    this.span = span;
    this.timed = timed;
    this.deadlineMs = deadlineMs ?? Number.POSITIVE_INFINITY;
    if (deadlineMs !== undefined) timed.add(this);
  }

  onData(bytes: Uint8Array, from: number, to: number, end: boolean): void {
    const data = bytes.subarray(from, to);
    if (this.held || this.waiting.length > 0) this.waiting.push({ data, end });
    else this.deliver(data, end);
  }

  hold(on: boolean): void {
    this.held = on;
    while (!this.held && !this.over && this.waiting.length > 0) {
      const { data, end } = this.waiting.shift()!;
      this.deliver(data, end);
    }
  }

  private deliver(data: Uint8Array, end: boolean): void {
    if (this.over) return;
    const problem = this.reader.push(data, (message) => {
      if (!this.over) this.onMessage(message);
    });
    if (this.over) return;
    if (!end) this.connection.consumed(this.stream, data.length);
    if (problem !== undefined) {
      this.end(problem);
      this.onCancel();
    } else if (end) this.onHalfClose();
  }

  onAbort(): void {
    if (this.over) return;
    this.finish({ code: code.cancelled, message: 'cancelled' });
    this.onCancel();
  }

  expire(): void {
    if (this.over) return;
    this.end({ code: code.deadlineExceeded, message: 'context deadline exceeded' });
    this.onCancel();
  }

  send(message: readonly Uint8Array[]): boolean {
    if (this.over) return true;
    if (!this.headersSent) {
      this.headersSent = true;
      this.connection.sendHeaders(this.stream, responseHeaders.literal, false);
    }
    return this.connection.sendStreamed(this.stream, message, totalBytes(message));
  }

  queuedBytes(): number {
    return this.stream.queuedBytes;
  }

  end(status: GrpcStatus | null): void {
    if (this.over) return;
    this.finish(status);
    if (this.headersSent) this.connection.sendTrailers(this.stream, trailersOf(status));
    else if (status !== null) this.connection.sendHeaders(this.stream, trailersOnly(status), true);
    else {
      this.connection.sendHeaders(this.stream, responseHeaders.literal, false);
      this.connection.sendTrailers(this.stream, trailersOk.literal);
    }
  }

  private finish(status: GrpcStatus | null): void {
    this.over = true;
    this.waiting.length = 0;
    this.span?.end(status?.code ?? 0, status?.message ?? '');
    this.timed.delete(this);
  }
}
