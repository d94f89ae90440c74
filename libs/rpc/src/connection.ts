import { type Clock, IdMap } from '@quoin/base';
import { ConnectionError, expectBytes, prefaceBytes, unpad } from './connection-error.ts';
import { type ConnectionOptions, ownSettings } from './connection-options.ts';
import { FloodGuard } from './flood-guard.ts';
import {
  defaultFrameBytesMax,
  defaultWindowBytes,
  ErrorCode,
  Flag,
  FrameType,
  frameHeaderBytes,
  messagePrefix,
  readU31,
  windowBytesMax,
} from './frames.ts';
import { HeaderBlock } from './header-block.ts';
import type { HeaderList } from './header-list.ts';
import { type HeaderTemplate, HpackDecoder, HpackError, headersTooLarge } from './hpack.ts';
import { Outflow } from './outflow.ts';
import { PeerSettings } from './peer-settings.ts';
import { RecentIds } from './recent-ids.ts';
import { verdictOf } from './request-headers.ts';
import { Stream, type StreamHandler } from './stream.ts';

/** What a connection tells its owner. */
export interface ConnectionEvents {
  /** A request has begun. The handler returned gets its body; undefined: it was answered and its body is not wanted. */
  onRequest(stream: Stream, headers: HeaderList, end: boolean): StreamHandler | undefined;
  /**
   * There is output: call `takeOutput` before the turn ends, or, when it is not `urgent`, within some milliseconds. Called
   * once until then, or twice when urgent output comes second.
   */
  onOutput(urgent: boolean): void;
  /** Nothing more will come or go: write what is left, then close the socket. */
  onClose(reason: string): void;
}

const pingMark = { keepalive: 1, goodbye: 2 } as const;

/**
 * The server's side of one HTTP/2 connection as a state machine: bytes in by `receive`, bytes out by `takeOutput`,
 * time by `tick`. Knows no socket; RFC 9113 sections are cited where they decide.
 */
export class Connection {
  private readonly options: ConnectionOptions;
  private readonly events: ConnectionEvents;
  private readonly clock: Clock;
  private readonly outflow = new Outflow(
    (stream) => this.endLocal(stream),
    () => this.guard.sentSubstance(),
  );
  /** What may be called once all that `takeOutput` has given so far has left for good. */
  readonly takeReleases = (): readonly (() => void)[] => this.outflow.takeReleases();
  private readonly out = this.outflow.out;
  /** Nobody reads any more what `takeOutput` has given: the memory is used again. */
  readonly reuseOutput = (): void => this.out.reuse();
  private readonly decoder: HpackDecoder;
  private readonly streams = new IdMap<Stream>();
  private readonly recentlyReset = new RecentIds();
  private input: Uint8Array | undefined = undefined;
  private prefaceDone = false;
  private settingsSeen = false;
  private closed = false;
  private outputAnnounced = false;
  private patientAnnounced = false;
  /** By the bytes that are being taken in. */
  private pingAnswered = false;
  private draining = false;
  private finalGoAwaySent = false;
  private lastStreamId = 0;
  private readonly peer = new PeerSettings();
  private unacknowledgedBytes = 0;
  private readonly headerBlock: HeaderBlock;
  private readonly guard: FloodGuard;
  /** Monotonic ms at which the last bytes came in. */
  receivedMs: number;
  private pingSentMs = 0;

  constructor(options: ConnectionOptions, events: ConnectionEvents, clock: Clock) {
    this.options = options;
    this.events = events;
    this.clock = clock;
    this.headerBlock = new HeaderBlock(options.maxHeaderListBytes * 2);
    this.decoder = new HpackDecoder(options.maxHeaderListBytes);
    this.guard = new FloodGuard(options.maxIdleFramesPerSecond, options.keepaliveMinTimeMs);
    this.receivedMs = clock.monotonicMs();
    this.sendSettings();
  }

  /** Streams that are not over. */
  get streamCount(): number {
    return this.streams.size;
  }

  takeOutput(): Uint8Array[] {
    this.outputAnnounced = false;
    this.patientAnnounced = false;
    return this.out.take();
  }

  /** Bytes from the socket, in any cut. They are kept by reference where a body is. */
  receive(chunk: Uint8Array): void {
    if (this.closed) return;
    this.receivedMs = this.clock.monotonicMs();
    let data = chunk;
    if (this.input !== undefined) {
      data = new Uint8Array(this.input.length + chunk.length);
      data.set(this.input);
      data.set(chunk, this.input.length);
      this.input = undefined;
    }
    try {
      const rest = this.readFrames(data);
      if (this.pingAnswered) this.announcePingAnswer();
      if (rest < data.length && !this.closed) this.input = rest === 0 ? data : data.subarray(rest);
    } catch (error) {
      if (error instanceof ConnectionError) this.fail(error.code, error.message);
      else if (error instanceof HpackError) this.fail(ErrorCode.compressionError, error.message);
      else throw error;
    }
  }

  /** About once a second: keepalive, and budgets that refill. */
  tick(): void {
    if (this.closed) return;
    const now = this.clock.monotonicMs();
    if (this.pingSentMs > 0) {
      if (now - this.pingSentMs > this.options.keepaliveTimeoutMs) this.close('keepalive timeout');
    } else if (now - this.receivedMs >= this.options.keepaliveIntervalMs) {
      this.pingSentMs = now;
      this.out.ping(pingMark.keepalive);
      this.announce();
    }
  }

  /** The socket has gone. */
  abort(reason: string): void {
    if (!this.closed) this.close(reason);
  }

  /** Takes no new streams, lets those under way finish, then closes (RFC 9113 §6.8). */
  shutdown(): void {
    if (this.closed || this.draining) return;
    this.draining = true;
    // First a GOAWAY that refuses nothing: requests already on their way here are still served.
    this.out.goAway(windowBytesMax, ErrorCode.noError, '');
    this.out.ping(pingMark.goodbye);
    this.announce();
    if (this.streams.size === 0 && !this.settingsSeen) this.close('shutdown');
  }

  // ---- sending

  /** A header block, made by `encodeHeaders`. */
  sendHeaders(stream: Stream, block: Uint8Array, end: boolean): void {
    if (stream.closed || stream.localClosed) return;
    this.outflow.headers(stream, block, end);
    if (end) this.endLocal(stream);
    this.announce();
  }

  /**
   * Body pieces that follow each other. False: more than the high-water mark waits, stop until `onDrain`.
   * All is taken either way. With `release` the last piece is lent until that is called, if ever.
   */
  sendData(stream: Stream, pieces: readonly Uint8Array[], end: boolean, release?: () => void): boolean {
    if (stream.closed || stream.localClosed || stream.endAfterQueue) return true;
    this.outflow.enqueue(stream, pieces, release);
    stream.endAfterQueue = end;
    this.outflow.flush(stream);
    this.announce();
    if (stream.queuedBytes <= this.options.streamHighWaterBytes) return true;
    stream.wantsDrain = true;
    return false;
  }

  /** One gRPC message of a stream that goes on; as `sendData`. */
  sendStreamed(stream: Stream, message: readonly Uint8Array[], messageBytes: number): boolean {
    if (stream.closed || stream.localClosed || stream.endAfterQueue) return true;
    if (!this.outflow.tryMessage(stream, message, messageBytes))
      return this.sendData(stream, [messagePrefix(messageBytes), ...message], false);
    this.announce();
    return true;
  }

  /** The last header block, after all data. */
  sendTrailers(stream: Stream, block: Uint8Array): void {
    if (stream.closed || stream.localClosed || stream.endAfterQueue) return;
    stream.trailers = block;
    stream.endAfterQueue = true;
    this.outflow.flush(stream);
    this.announce();
  }

  /** Headers, one gRPC message and trailers at once: the answer to a unary call. */
  sendMessage(
    stream: Stream,
    headers: HeaderTemplate,
    message: readonly Uint8Array[],
    messageBytes: number,
    trailers: HeaderTemplate,
  ): void {
    if (stream.closed || stream.localClosed) return;
    this.outflow.headers(stream, this.outflow.table.encode(headers), false);
    if (this.outflow.tryMessage(stream, message, messageBytes, trailers)) return this.announce();
    this.sendData(stream, [messagePrefix(messageBytes), ...message], false);
    // Others may be written before these, and the table goes by what is written.
    this.sendTrailers(stream, trailers.literal);
  }

  /** RST_STREAM; the handler is not told. */
  reset(stream: Stream, code: ErrorCode): void {
    if (stream.closed) return;
    this.writeReset(stream.id, code);
    stream.aborted = true;
    this.forget(stream);
  }

  /** Gives the client room for `bytes` more on a stream that `onData` was called for. */
  consumed(stream: Stream, bytes: number): void {
    if (this.closed || stream.closed || stream.remoteClosed) return;
    stream.unacknowledgedBytes += bytes;
    if (stream.unacknowledgedBytes * 2 < this.options.streamWindowBytes) return;
    this.out.windowUpdate(stream.id, stream.unacknowledgedBytes);
    stream.unacknowledgedBytes = 0;
    this.announce();
  }

  // ---- receiving

  private readFrames(data: Uint8Array): number {
    let at = 0;
    if (!this.prefaceDone) {
      at = prefaceBytes(data);
      if (at === 0) return 0;
      this.prefaceDone = true;
    }
    while (data.length - at >= frameHeaderBytes && !this.closed) {
      const length = (data[at]! << 16) | (data[at + 1]! << 8) | data[at + 2]!;
      if (length > defaultFrameBytesMax)
        throw new ConnectionError(ErrorCode.frameSizeError, `frame of ${length} bytes`);
      const body = at + frameHeaderBytes;
      if (data.length - body < length) break;
      const streamId =
        ((data[at + 5]! & 0x7f) << 24) | (data[at + 6]! << 16) | (data[at + 7]! << 8) | data[at + 8]!;
      this.onFrame(data[at + 3]!, data[at + 4]!, streamId, data, body, body + length);
      at = body + length;
    }
    return at;
  }

  private onFrame(type: number, flags: number, id: number, data: Uint8Array, from: number, to: number): void {
    if (!this.settingsSeen && type !== FrameType.settings) {
      throw new ConnectionError(ErrorCode.protocolError, 'the first frame is not SETTINGS');
    }
    if (
      this.headerBlock.streamId !== 0 &&
      (type !== FrameType.continuation || id !== this.headerBlock.streamId)
    ) {
      throw new ConnectionError(ErrorCode.protocolError, 'a header block is not finished');
    }
    switch (type) {
      case FrameType.data:
        return this.onData(flags, id, data, from, to);
      case FrameType.headers:
        return this.onHeaders(flags, id, data, from, to);
      case FrameType.priority:
        return this.onPriority(id, data, from, to);
      case FrameType.rstStream:
        return this.onReset(id, data, from, to);
      case FrameType.settings:
        return this.onSettings(flags, id, data, from, to);
      case FrameType.pushPromise:
        throw new ConnectionError(ErrorCode.protocolError, 'PUSH_PROMISE from a client');
      case FrameType.ping:
        return this.onPing(flags, id, data, from, to);
      case FrameType.goAway:
        return this.onGoAway(id, from, to);
      case FrameType.windowUpdate:
        return this.onWindowUpdate(id, data, from, to);
      case FrameType.continuation:
        return this.onContinuation(flags, id, data, from, to);
      default:
        // Unknown types are ignored (§5.5), but they are not free.
        this.spendIdleFrame();
    }
  }

  private onData(flags: number, id: number, data: Uint8Array, from: number, to: number): void {
    if (id === 0) throw new ConnectionError(ErrorCode.protocolError, 'DATA on stream 0');
    // Padding counts against the window too, so the whole frame is given back.
    this.giveBackConnectionWindow(to - from);
    let start = from;
    let end = to;
    if ((flags & Flag.padded) !== 0) [start, end] = unpad(flags, data, from, to);
    const stream = this.streams.get(id);
    if (stream === undefined || stream.remoteClosed) {
      if (stream === undefined && this.recentlyReset.has(id)) return;
      if (id > this.lastStreamId || id % 2 === 0)
        throw new ConnectionError(ErrorCode.protocolError, `DATA on idle stream ${id}`);
      throw new ConnectionError(ErrorCode.streamClosed, `DATA on closed stream ${id}`);
    }
    const last = (flags & Flag.endStream) !== 0;
    if (end === start && !last) this.spendIdleFrame();
    if (stream.expectedBytes >= 0) {
      stream.expectedBytes -= end - start;
      if (stream.expectedBytes < 0 || (last && stream.expectedBytes !== 0)) {
        return this.abortStream(stream, ErrorCode.protocolError, 'the body differs from content-length');
      }
    }
    // What padding took of the stream's window is given back here; the rest when the handler has consumed it.
    if (to - from > end - start) this.consumed(stream, to - from - (end - start));
    if (last) this.endRemote(stream);
    stream.handler?.onData(data, start, end, last);
    if (stream.handler === undefined && !last) this.consumed(stream, end - start);
  }

  private onHeaders(flags: number, id: number, data: Uint8Array, from: number, to: number): void {
    if (id === 0 || id % 2 === 0)
      throw new ConnectionError(ErrorCode.protocolError, `HEADERS on stream ${id}`);
    let start = from;
    let end = to;
    if ((flags & Flag.padded) !== 0) [start, end] = unpad(flags, data, from, to);
    let malformed = false;
    if ((flags & Flag.priority) !== 0) {
      if (end - start < 5)
        throw new ConnectionError(ErrorCode.frameSizeError, 'HEADERS is too short for its priority');
      // A stream may not depend on itself (RFC 7540 §5.3.1).
      malformed = readU31(data, start) === id;
      start += 5;
    }
    const last = (flags & Flag.endStream) !== 0;
    if ((flags & Flag.endHeaders) !== 0)
      return this.onHeaderList(id, this.decoder.decode(data, start, end), last, malformed);
    this.headerBlock.begin(id, last, malformed);
    this.addHeaderBlock(data.subarray(start, end), false);
  }

  private onContinuation(flags: number, id: number, data: Uint8Array, from: number, to: number): void {
    if (this.headerBlock.streamId === 0)
      throw new ConnectionError(ErrorCode.protocolError, `CONTINUATION on stream ${id} without HEADERS`);
    this.addHeaderBlock(data.subarray(from, to), (flags & Flag.endHeaders) !== 0);
  }

  private addHeaderBlock(part: Uint8Array, complete: boolean): void {
    if (!this.headerBlock.add(part))
      throw new ConnectionError(ErrorCode.enhanceYourCalm, 'a header block that is too long');
    if (!complete) return;
    const { streamId, endStream, malformed } = this.headerBlock;
    // Decoded in any case: the dynamic table is the connection's.
    const headers = this.decoder.decode(this.headerBlock.finish());
    this.onHeaderList(streamId, headers, endStream, malformed);
  }

  private onHeaderList(
    id: number,
    headers: HeaderList | typeof headersTooLarge,
    end: boolean,
    malformed: boolean,
  ): void {
    const known = this.streams.get(id);
    if (known !== undefined) return this.onTrailers(known, headers, end);
    if (id <= this.lastStreamId) {
      if (this.recentlyReset.has(id)) return;
      throw new ConnectionError(ErrorCode.streamClosed, `HEADERS on closed stream ${id}`);
    }
    this.lastStreamId = id;
    if (this.finalGoAwaySent) return;
    if (this.streams.size >= this.options.maxConcurrentStreams)
      return this.refuse(id, ErrorCode.refusedStream);
    if (headers === headersTooLarge) return this.refuse(id, ErrorCode.enhanceYourCalm);
    const problem = verdictOf(headers);
    if (typeof problem === 'string' || malformed) return this.refuse(id, ErrorCode.protocolError);
    const stream = new Stream(id, this.peer.initialWindowBytes);
    stream.expectedBytes = problem;
    if (end && stream.expectedBytes > 0) return this.refuse(id, ErrorCode.protocolError);
    this.streams.set(id, stream);
    if (end) this.endRemote(stream);
    stream.handler = this.events.onRequest(stream, headers, end);
  }

  private onTrailers(stream: Stream, headers: HeaderList | typeof headersTooLarge, end: boolean): void {
    if (stream.remoteClosed)
      throw new ConnectionError(ErrorCode.streamClosed, `HEADERS on half-closed stream ${stream.id}`);
    const bad =
      headers === headersTooLarge ||
      !end ||
      headers.fields.some(({ name }) => name.startsWith(':') || name !== name.toLowerCase());
    if (bad) return this.abortStream(stream, ErrorCode.protocolError, 'bad trailers');
    if (stream.expectedBytes > 0)
      return this.abortStream(stream, ErrorCode.protocolError, 'the body differs from content-length');
    this.endRemote(stream);
    stream.handler?.onData(new Uint8Array(0), 0, 0, true);
  }

  private onPriority(id: number, data: Uint8Array, from: number, to: number): void {
    if (id === 0) throw new ConnectionError(ErrorCode.protocolError, 'PRIORITY on stream 0');
    const itself = to - from === 5 && readU31(data, from) === id;
    const problem = to - from !== 5 ? ErrorCode.frameSizeError : itself ? ErrorCode.protocolError : undefined;
    if (problem === undefined) return this.spendIdleFrame();
    const stream = this.streams.get(id);
    if (stream !== undefined) this.abortStream(stream, problem, 'bad PRIORITY');
    else this.writeReset(id, problem);
  }

  private onReset(id: number, _data: Uint8Array, from: number, to: number): void {
    expectBytes(to - from, 4, 'RST_STREAM');
    if (id === 0 || id > this.lastStreamId)
      throw new ConnectionError(ErrorCode.protocolError, `RST_STREAM on idle stream ${id}`);
    this.spendIdleFrame();
    const stream = this.streams.get(id);
    if (stream === undefined) return;
    stream.aborted = true;
    this.forget(stream);
    stream.handler?.onAbort('reset by the client');
  }

  private onSettings(flags: number, id: number, data: Uint8Array, from: number, to: number): void {
    if (id !== 0) throw new ConnectionError(ErrorCode.protocolError, 'SETTINGS on a stream');
    if ((flags & Flag.ack) !== 0) {
      if (to !== from)
        throw new ConnectionError(ErrorCode.frameSizeError, 'SETTINGS acknowledgement with a body');
      return;
    }
    if (this.settingsSeen) this.spendIdleFrame();
    this.settingsSeen = true;
    const { peer, outflow } = this;
    const before = peer.initialWindowBytes;
    peer.read(data, from, to);
    outflow.follow(peer);
    this.moveWindows(peer.initialWindowBytes - before);
    this.out.header(0, FrameType.settings, Flag.ack, 0);
    // Windows that became wider are used behind the acknowledgement.
    for (const stream of this.streams.values()) if (stream.queuedBytes > 0) outflow.flush(stream);
    this.announce();
  }

  private moveWindows(delta: number): void {
    for (const stream of delta === 0 ? [] : this.streams.values()) {
      stream.sendWindow += delta;
      if (stream.sendWindow > windowBytesMax)
        throw new ConnectionError(ErrorCode.flowControlError, 'window overflow');
    }
  }

  private onPing(flags: number, id: number, data: Uint8Array, from: number, to: number): void {
    if (id !== 0) throw new ConnectionError(ErrorCode.protocolError, 'PING on a stream');
    expectBytes(to - from, 8, 'PING');
    if ((flags & Flag.ack) !== 0) return this.onPingAnswer(data[to - 1]!);
    this.spendIdleFrame();
    this.out.header(8, FrameType.ping, Flag.ack, 0);
    this.out.raw(data.slice(from, to));
    this.pingAnswered = true;
    if (!this.guard.ping(this.clock.monotonicMs(), this.streams.size > 0)) {
      throw new ConnectionError(ErrorCode.enhanceYourCalm, 'too_many_pings');
    }
  }

  private onPingAnswer(mark: number): void {
    this.pingSentMs = 0;
    if (mark !== pingMark.goodbye || !this.draining || this.finalGoAwaySent) return;
    this.finalGoAwaySent = true;
    this.out.goAway(this.lastStreamId, ErrorCode.noError, '');
    this.announce();
    if (this.streams.size === 0) this.close('shutdown');
  }

  private onGoAway(id: number, from: number, to: number): void {
    if (id !== 0) throw new ConnectionError(ErrorCode.protocolError, 'GOAWAY on a stream');
    if (to - from < 8) throw new ConnectionError(ErrorCode.frameSizeError, 'GOAWAY is too short');
    // The client opens no more streams; those under way go on.
    this.draining = true;
    this.finalGoAwaySent = true;
    if (this.streams.size === 0) this.close('the client said goodbye');
  }

  private onWindowUpdate(id: number, data: Uint8Array, from: number, to: number): void {
    expectBytes(to - from, 4, 'WINDOW_UPDATE');
    const increment = readU31(data, from);
    if (id === 0) {
      if (increment === 0) throw new ConnectionError(ErrorCode.protocolError, 'WINDOW_UPDATE of 0');
      this.outflow.window += increment;
      if (this.outflow.window > windowBytesMax)
        throw new ConnectionError(ErrorCode.flowControlError, 'window overflow');
      this.outflow.flushWaiting();
      if (this.out.length > 0) this.announce();
      return;
    }
    if (id > this.lastStreamId)
      throw new ConnectionError(ErrorCode.protocolError, `WINDOW_UPDATE on idle stream ${id}`);
    const stream = this.streams.get(id);
    if (stream === undefined) return;
    if (increment === 0) return this.abortStream(stream, ErrorCode.protocolError, 'WINDOW_UPDATE of 0');
    stream.sendWindow += increment;
    if (stream.sendWindow > windowBytesMax)
      return this.abortStream(stream, ErrorCode.flowControlError, 'window overflow');
    this.outflow.flush(stream);
    if (this.out.length > 0) this.announce();
  }

  // ---- flow

  private giveBackConnectionWindow(bytes: number): void {
    this.unacknowledgedBytes += bytes;
    if (this.unacknowledgedBytes * 2 < this.options.connectionWindowBytes) return;
    this.out.windowUpdate(0, this.unacknowledgedBytes);
    this.unacknowledgedBytes = 0;
    this.announce();
  }

  // ---- ends

  private endLocal(stream: Stream): void {
    stream.localClosed = true;
    if (!stream.remoteClosed) {
      // An answer before the end of the request makes the rest of it unwanted (RFC 9113 §8.1).
      this.writeReset(stream.id, ErrorCode.noError);
      stream.aborted = true;
    }
    this.forget(stream);
  }

  private endRemote(stream: Stream): void {
    stream.remoteClosed = true;
    if (stream.localClosed) this.forget(stream);
  }

  private forget(stream: Stream): void {
    this.streams.delete(stream.id);
    if (this.streams.size === 0 && this.finalGoAwaySent) this.close('shutdown');
  }

  private abortStream(stream: Stream, code: ErrorCode, reason: string): void {
    this.reset(stream, code);
    stream.handler?.onAbort(reason);
  }

  private refuse(id: number, code: ErrorCode): void {
    this.spendIdleFrame();
    this.writeReset(id, code);
  }

  private spendIdleFrame(): void {
    if (!this.guard.idleFrame(this.clock.monotonicMs())) {
      throw new ConnectionError(ErrorCode.enhanceYourCalm, 'too many frames that carry nothing');
    }
  }

  private fail(code: ErrorCode, message: string): void {
    this.out.goAway(this.lastStreamId, code, message);
    this.close(message);
  }

  private close(reason: string): void {
    if (this.closed) return;
    this.closed = true;
    const streams = this.streams.values();
    this.streams.clear();
    for (const stream of streams) {
      stream.aborted = true;
      stream.handler?.onAbort(reason);
    }
    this.events.onClose(reason);
  }

  private sendSettings(): void {
    this.out.settings(ownSettings(this.options));
    this.out.windowUpdate(0, this.options.connectionWindowBytes - defaultWindowBytes);
    this.outputAnnounced = false;
  }

  private writeReset(id: number, code: ErrorCode): void {
    this.out.reset(id, code);
    this.recentlyReset.add(id);
    this.announce();
  }

  private announce(): void {
    if (this.outputAnnounced) return;
    this.outputAnnounced = true;
    this.events.onOutput(true);
  }

  /** Whoever has calls under way soon gets an answer to them, and this with it (DESIGN.md). */
  private announcePingAnswer(): void {
    this.pingAnswered = false;
    if (this.streams.size === 0) return this.announce();
    if (this.outputAnnounced || this.patientAnnounced) return;
    this.patientAnnounced = true;
    this.events.onOutput(false);
  }
}
