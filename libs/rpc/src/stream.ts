import type { Deque } from '@quoin/base';

/** What a stream tells whoever handles it. */
export interface StreamHandler {
  /** A part of the body, which is that part of `data`; `end`: the last. The bytes may be kept. */
  onData(data: Uint8Array, from: number, to: number, end: boolean): void;
  /** The stream is over before both sides were done: reset, connection lost. Nothing may be sent any more. */
  onAbort(reason: string): void;
  /** `send` returned false and there is room again. */
  onDrain(): void;
}

/** A piece that is its lender's again once it has been written. */
export interface Loan {
  readonly piece: Uint8Array;
  readonly release: () => void;
}

/**
 * One HTTP/2 stream on the server's side (RFC 9113 §5.1):
 *
 *     open ── END_STREAM from the client ──► remoteClosed ── our END_STREAM ──► closed
 *       └──── our END_STREAM ──► localClosed ── END_STREAM from the client ──► closed
 */
export class Stream {
  readonly id: number;
  handler: StreamHandler | undefined = undefined;
  remoteClosed = false;
  localClosed = false;
  aborted = false;
  /** Room that the client has given for our data. May become negative by a changed setting. */
  sendWindow: number;
  /** Data received and not yet given back by WINDOW_UPDATE. */
  unacknowledgedBytes = 0;
  /** Announced by content-length and not yet received; -1 when not announced. */
  expectedBytes = -1;
  /** Pieces that wait for window, the offset into the first, and what follows them. */
  queue: Deque<Uint8Array> | undefined = undefined;
  queueOffset = 0;
  /** Of pieces in the queue that are lent, in their order. */
  loans: Deque<Loan> | undefined = undefined;
  queuedBytes = 0;
  trailers: Uint8Array | undefined = undefined;
  endAfterQueue = false;
  wantsDrain = false;
  /** In the connection's list of streams that wait for its window. */
  waiting = false;

  constructor(id: number, sendWindow: number) {
    this.id = id;
    this.sendWindow = sendWindow;
  }

  get closed(): boolean {
    return this.aborted || (this.localClosed && this.remoteClosed);
  }
}
