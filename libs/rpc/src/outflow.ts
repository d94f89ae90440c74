import { assert, concatBytes, Deque } from '@quoin/base';
import {
  defaultFrameBytesMax,
  defaultWindowBytes,
  Flag,
  FrameType,
  FrameWriter,
  messagePrefixBytes,
} from './frames.ts';
import { type HeaderTemplate, headerTableBytes, TemplateEncoder } from './hpack.ts';
import type { PeerSettings } from './peer-settings.ts';
import type { Stream } from './stream.ts';

/** A dynamic table size update to 0. */
const emptyTable = Uint8Array.of(0x20);

/**
 * What leaves a connection, within the client's windows (RFC 9113 §5.2). Each stream queues for itself; those that only
 * lack the connection's window stand in one line, so that a large answer cannot keep the others out for ever.
 */
export class Outflow {
  readonly out: FrameWriter = new FrameWriter();
  readonly table: TemplateEncoder = new TemplateEncoder();
  /** Room on the connection. May not become negative. */
  window: number = defaultWindowBytes;
  private frameBytesMax: number = defaultFrameBytesMax;
  private resizeDue = false;
  private readonly waiting = new Deque<Stream>();
  private releases: (() => void)[] = [];
  private readonly onEnd: (stream: Stream) => void;
  private readonly onSubstance: () => void;

  /** `onEnd`: our END_STREAM was written. `onSubstance`: headers or a part of a body were, perhaps long after it was queued. */
  constructor(onEnd: (stream: Stream) => void, onSubstance: () => void) {
    this.onEnd = onEnd;
    this.onSubstance = onSubstance;
  }

  /** Of lent pieces that are in what `out` gives next, or has given. */
  takeReleases(): readonly (() => void)[] {
    const { releases } = this;
    if (releases.length > 0) this.releases = [];
    return releases;
  }

  /** A block that `table` has encoded is written at once: it goes by what was written before. */
  headers(stream: Stream, block: Uint8Array, end: boolean): void {
    this.onSubstance();
    if (this.resizeDue) {
      this.resizeDue = false;
      this.out.headers(this.frameBytesMax, stream.id, concatBytes([emptyTable, block]), end);
    } else this.out.headers(this.frameBytesMax, stream.id, block, end);
  }

  /** From now on. A table with less room than at first is not used any more, which the next block says (RFC 7541 §4.2). */
  follow(peer: PeerSettings): void {
    this.frameBytesMax = peer.frameBytesMax;
    if (peer.headerTableBytes >= headerTableBytes) return;
    this.table.close();
    this.resizeDue = true;
  }

  /** `release`: of the last piece. */
  enqueue(stream: Stream, pieces: readonly Uint8Array[], release?: () => void): void {
    if (release !== undefined && pieces.length > 0) {
      stream.loans ??= new Deque(4);
      stream.loans.push({ piece: pieces[pieces.length - 1]!, release });
    }
    for (const piece of pieces) {
      if (piece.length === 0) continue;
      stream.queue ??= new Deque(4);
      stream.queue.push(piece);
      stream.queuedBytes += piece.length;
    }
  }

  /**
   * A gRPC message at once, when nothing of the stream waits and it fits one frame and both windows. Messages of a stream
   * that follow each other share frames: a client looks at each frame, and hands each to whoever reads the stream.
   * `trailers`: it is the last.
   */
  tryMessage(
    stream: Stream,
    pieces: readonly Uint8Array[],
    bytes: number,
    trailers?: HeaderTemplate,
  ): boolean {
    const length = bytes + messagePrefixBytes;
    if (length > stream.sendWindow || length > this.window || length > this.frameBytesMax) return false;
    if (stream.queuedBytes > 0) return false;
    this.onSubstance();
    stream.sendWindow -= length;
    this.window -= length;
    this.out.data(this.frameBytesMax, stream.id, length);
    this.out.prefix(bytes);
    for (let i = 0; i < pieces.length; i++) this.out.raw(pieces[i]!);
    if (trailers === undefined) return true;
    this.headers(stream, this.table.encode(trailers), true);
    this.onEnd(stream);
    return true;
  }

  /** Writes as much of a stream's queue as both windows allow, then what follows it. */
  flush(stream: Stream): void {
    while (stream.queuedBytes > 0) {
      // The stream's own window opens with a frame for it; the connection's opens for all that wait in line.
      if (stream.sendWindow <= 0) return;
      if (this.window <= 0) return this.wait(stream);
      const length = Math.min(stream.queuedBytes, stream.sendWindow, this.window, this.frameBytesMax);
      const last = length === stream.queuedBytes && stream.endAfterQueue && stream.trailers === undefined;
      this.writeData(stream, length, last);
      if (last) return this.onEnd(stream);
    }
    if (stream.endAfterQueue) {
      if (stream.trailers !== undefined) this.headers(stream, stream.trailers, true);
      else this.out.header(0, FrameType.data, Flag.endStream, stream.id);
      this.onEnd(stream);
    } else if (stream.wantsDrain) {
      stream.wantsDrain = false;
      stream.handler?.onDrain();
    }
  }

  /** The connection's window has opened: the line moves; a stream that still has more goes to its end. */
  flushWaiting(): void {
    for (let n = this.waiting.length; n > 0 && this.window > 0; n--) {
      const stream = this.waiting.shift()!;
      stream.waiting = false;
      if (!stream.closed) this.flush(stream);
    }
  }

  private wait(stream: Stream): void {
    if (stream.waiting) return;
    stream.waiting = true;
    this.waiting.push(stream);
  }

  private writeData(stream: Stream, length: number, last: boolean): void {
    this.onSubstance();
    if (last) this.out.header(length, FrameType.data, Flag.endStream, stream.id);
    else this.out.data(this.frameBytesMax, stream.id, length);
    stream.sendWindow -= length;
    this.window -= length;
    stream.queuedBytes -= length;
    let left = length;
    const { queue } = stream;
    while (left > 0) {
      const piece = queue?.at(0);
      assert(queue !== undefined && piece !== undefined, 'queued bytes without a piece');
      const rest = piece.length - stream.queueOffset;
      const take = Math.min(rest, left);
      this.out.raw(piece.subarray(stream.queueOffset, stream.queueOffset + take));
      left -= take;
      if (take === rest) {
        queue.shift();
        stream.queueOffset = 0;
        const loans = stream.loans;
        if (loans !== undefined && loans.at(0)?.piece === piece) this.releases.push(loans.shift()!.release);
      } else stream.queueOffset += take;
    }
  }
}
