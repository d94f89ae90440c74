/** HTTP/2 requests that are not gRPC: what they are to their server, whole or as streams. */
import type { Connection } from './connection.ts';
import { encodeHeaders, type HeaderField } from './hpack.ts';
import type { Stream, StreamHandler } from './stream.ts';

/** A request that is not gRPC: the same routes as over HTTP/1.1. */
export interface PlainRequest {
  readonly method: string;
  readonly path: string;
  readonly headers: readonly HeaderField[];
  readonly body: Uint8Array;
}
export type PlainReply = (status: number, headers: readonly HeaderField[], body: Uint8Array) => void;

/** A request that is not gRPC, before its body. */
export type PlainHead = Omit<PlainRequest, 'body'>;

/** Where the answer goes whose length is not known when it begins. Nothing comes after `end`. */
export interface PlainResponse {
  /** Status and headers; they leave with the first bytes. */
  begin(status: number, headers: readonly HeaderField[]): void;
  /** False: stop until `PlainCall.drained`; what was given is taken all the same. */
  write(bytes: Uint8Array): boolean;
  /** Bytes given to `write` that have not left yet. */
  queuedBytes(): number;
  /** The last part of the body, which may be empty. */
  end(bytes: Uint8Array): void;
}

/** The client's side of such a request. Calls after its answer has ended do nothing. */
export interface PlainCall {
  /** A part of the body. The bytes may be kept. */
  body(bytes: Uint8Array): void;
  endOfBody(): void;
  /** The client has gone. */
  abort(): void;
  /** `write` returned false and there is room again. */
  drained(): void;
}

export class StreamedResponse implements PlainResponse {
  private readonly connection: Connection;
  private readonly stream: Stream;
  /** Not sent yet. */
  private head: HeaderField[] | undefined = undefined;

  constructor(connection: Connection, stream: Stream) {
    this.connection = connection;
    this.stream = stream;
  }

  begin(status: number, headers: readonly HeaderField[]): void {
    this.head = [
      { name: ':status', value: String(status) },
      ...headers.map(({ name, value }) => ({ name: name.toLowerCase(), value })),
    ];
  }

  write(bytes: Uint8Array): boolean {
    this.sendHead(false);
    return this.connection.sendData(this.stream, [bytes], false);
  }

  queuedBytes(): number {
    return this.stream.queuedBytes;
  }

  end(bytes: Uint8Array): void {
    // Without a byte before, this is the whole body.
    this.head?.push({ name: 'content-length', value: String(bytes.length) });
    const empty = this.head !== undefined && bytes.length === 0;
    this.sendHead(empty);
    if (!empty) this.connection.sendData(this.stream, bytes.length === 0 ? [] : [bytes], true);
  }

  private sendHead(end: boolean): void {
    if (this.head === undefined) return;
    this.connection.sendHeaders(this.stream, encodeHeaders(this.head), end);
    this.head = undefined;
  }
}

export function plainHandler(connection: Connection, stream: Stream, call: PlainCall): StreamHandler {
  return {
    onData: (data, from, to, end) => {
      connection.consumed(stream, to - from);
      if (to > from) call.body(data.subarray(from, to));
      if (end) call.endOfBody();
    },
    onAbort: () => call.abort(),
    onDrain: () => call.drained(),
  };
}
