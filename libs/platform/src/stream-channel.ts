/**
 * The internal plane between members and gateways: `Channel` as plain frames on a socket that began as HTTP/1.1.
 *
 *     dialler                                            peer port
 *     GET /quoin.internal.v1.Peer/Stream HTTP/1.1  ───►
 *     Upgrade: quoin-stream/1, then frames at once ───►
 *                             ◄─── HTTP/1.1 101 Switching Protocols, then frames
 *
 *     frame = length (u32, big-endian) · message        length 2^32 − 1 and no message: a sign of life
 *
 * A message costs a copy and a write here, and two passes through HTTP/2 on grpc-js (docs/adr/0008).
 */
import { connect, type Socket } from 'node:net';
import { BufferPool, type Channel, readU32BE } from '@quoin/base';
import type { TlsDialer } from './tls/tls-dialer.ts';

export const streamProtocol = 'quoin-stream/1';

/** Bytes that may wait in one channel before `send` asks to stop. */
const highWaterBytes = 4 << 20;
/** A longer message is taken for a broken stream. */
const messageBytesMax = 512 << 20;
/** Shorter ones are copied behind their length, longer ones written beside it. */
const copyBytesMax = 16 << 10;
/** Both sides send a sign of life when they have nothing else to send, and give up on a side that sends nothing. */
const signIntervalMs = 2_000;
const silenceMs = 8_000;
/** How long a channel that this side closed may take to flush what it holds before its connection is cut. */
const closeGraceMs = 1_000;
const answerBytesMax = 8_192;

const headerBytes = 4;
const signOfLife = 0xffff_ffff;
const signFrame = Buffer.from([0xff, 0xff, 0xff, 0xff]);
const accepted = Buffer.from(
  `HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: ${streamProtocol}\r\n\r\n`,
);

const nothing = (): void => {};

/** What URL drops from its text. */
const defaultPorts: Readonly<Record<string, string>> = { 'http:': '80', 'https:': '443' };

/** What a dialler's socket is read into. Longer messages get buffers of their own. */
const blocks = new BufferPool(1 << 20, 8);
/** With less room than this the next read goes into another block. */
const readBytesMin = 64 << 10;

/** A buffer that is read into, and how many messages in it are lent. */
interface Block {
  readonly bytes: Uint8Array<ArrayBuffer>;
  lent: number;
  /** Nothing is read into it any more. */
  retired: boolean;
}

/**
 * Finds messages in what is read into blocks, one behind the other. Long messages are lent where they lie; short ones are
 * copied, because they may be kept for long and would keep a whole block alive.
 *
 *     block  | short · long · long ·· part of a message |   ── the next read goes on here
 *                                    └─ moved to the next block when there is no room left
 */
class BlockReader {
  private block: Block = newBlock(blocks.bytes);
  /** Of the block: what has been delivered, and what has been read. */
  private start = 0;
  private end = 0;

  /** Where the next read goes. */
  room(): Uint8Array {
    if (this.start === this.end && this.block.lent === 0) {
      this.start = 0;
      this.end = 0;
    }
    // A message that has begun: it has to fit as a whole.
    const waiting = this.end - this.start;
    const length = waiting >= headerBytes ? readU32BE(this.block.bytes, this.start) : 0;
    const isLong = length > 0 && length <= messageBytesMax;
    const wanted = Math.max(readBytesMin, isLong ? headerBytes + length - waiting : 0);
    if (this.block.bytes.length - this.end < wanted) this.renew(waiting, wanted);
    return this.block.bytes.subarray(this.end);
  }

  /** So many bytes are there now. `frames` is given all that has not been delivered, and says how much it has. */
  read(bytes: number, frames: (data: Uint8Array) => number): void {
    this.end += bytes;
    this.start += frames(this.block.bytes.subarray(this.start, this.end));
  }

  /** A message that lies in the block is lent: how it is given back. */
  lend(): () => void {
    const { block } = this;
    block.lent++;
    return () => {
      block.lent--;
      if (block.retired && block.lent === 0) giveBack(block);
    };
  }

  private renew(waiting: number, wanted: number): void {
    const old = this.block;
    this.block = newBlock(waiting + wanted);
    this.block.bytes.set(old.bytes.subarray(this.start, this.end));
    this.start = 0;
    this.end = waiting;
    old.retired = true;
    if (old.lent === 0) giveBack(old);
  }
}

function newBlock(bytesMin: number): Block {
  const bytes = bytesMin <= blocks.bytes ? blocks.take() : new Uint8Array(bytesMin);
  return { bytes, lent: 0, retired: false };
}

function giveBack({ bytes }: Block): void {
  if (bytes.length === blocks.bytes) blocks.give(bytes);
}

class StreamChannel implements Channel {
  onMessage: (message: Uint8Array, release?: () => void) => void = nothing;
  onDrain: () => void = nothing;
  onClose: (reason: string) => void = nothing;
  private readonly socket: Socket;
  /** Of a socket whose reads we say where to put. */
  private readonly blocks: BlockReader | undefined;
  private readonly timer: NodeJS.Timeout;
  /** The dialler reads the answer to its request first. */
  private answered: boolean;
  private parts: Buffer[] = [];
  private bytes = 0;
  /** Bytes that `parts` must hold before there is something to do. */
  private wanted = headerBytes;
  private blocked = false;
  private closed = false;
  private receivedMs = performance.now();
  private sent = false;

  constructor(socket: Socket, answered: boolean, reader?: BlockReader) {
    this.socket = socket;
    this.blocks = reader;
    this.answered = answered;
    this.wanted = answered ? headerBytes : 1;
    socket.setNoDelay(true);
    if (reader === undefined) socket.on('data', (chunk: Buffer) => this.receive(chunk));
    socket.on('drain', () => this.drained());
    socket.on('end', () => this.over('closed by the other side'));
    socket.on('error', (error) => this.over(error.message));
    socket.on('close', () => this.over('connection lost'));
    this.timer = setInterval(() => this.tick(), signIntervalMs);
    this.timer.unref();
  }

  send(message: Uint8Array, onSent?: () => void): boolean {
    if (this.closed) return true;
    const { length } = message;
    this.sent = true;
    if (length <= copyBytesMax) {
      const frame = Buffer.allocUnsafe(headerBytes + length);
      frame.writeUInt32BE(length, 0);
      frame.set(message, headerBytes);
      this.socket.write(frame);
      onSent?.();
    } else {
      const header = Buffer.allocUnsafe(headerBytes);
      header.writeUInt32BE(length, 0);
      this.socket.cork();
      this.socket.write(header);
      if (onSent === undefined) this.socket.write(message);
      else
        this.socket.write(message, (error) => {
          if (error == null) onSent();
        });
      this.socket.uncork();
    }
    this.blocked ||= this.socket.writableLength > highWaterBytes;
    return !this.blocked;
  }

  queuedBytes(): number {
    return this.closed ? 0 : this.socket.writableLength;
  }

  close(): void {
    if (this.closed) return;
    this.finish();
    this.socket.end();
    setTimeout(() => this.socket.destroy(), closeGraceMs).unref();
  }

  private drained(): void {
    if (!this.blocked || this.closed) return;
    this.blocked = false;
    this.onDrain();
  }

  private tick(): void {
    if (performance.now() - this.receivedMs > silenceMs) {
      this.over('the other side has fallen silent');
      return;
    }
    if (!this.sent) this.socket.write(signFrame);
    this.sent = false;
  }

  private receive(chunk: Buffer): void {
    this.receivedMs = performance.now();
    this.parts.push(chunk);
    this.bytes += chunk.length;
    if (this.closed || this.bytes < this.wanted) return;
    let data = this.parts.length === 1 ? this.parts[0]! : Buffer.concat(this.parts);
    if (!this.answered) {
      const rest = this.readAnswer(data);
      if (rest === undefined) {
        this.parts = [data];
        return;
      }
      data = rest;
    }
    const at = this.readFrames(data);
    if (at === data.length) this.parts = [];
    else this.parts = [data.subarray(at)];
    this.bytes = data.length - at;
  }

  /** So many bytes were read into the room that the reader gave. */
  readInto(bytes: number): void {
    this.receivedMs = performance.now();
    if (!this.closed) this.blocks!.read(bytes, (data) => this.readBlock(data));
  }

  private readBlock(data: Uint8Array): number {
    let from = 0;
    if (!this.answered) {
      const rest = this.readAnswer(Buffer.from(data.buffer, data.byteOffset, data.length));
      if (rest === undefined) return 0;
      from = data.length - rest.length;
    }
    return from + this.readFrames(Buffer.from(data.buffer, data.byteOffset + from, data.length - from));
  }

  /** What follows the answer; undefined when it is not complete, or refused. */
  private readAnswer(data: Buffer): Buffer | undefined {
    const end = data.indexOf('\r\n\r\n');
    if (end < 0 && data.length <= answerBytesMax) {
      return undefined;
    }
    const status = data.toString('latin1', 0, data.indexOf('\r\n'));
    if (!/^HTTP\/1\.1 101 /.test(status)) {
      this.over(`not a Quoin member: ${status.slice(0, 80)}`);
      return undefined;
    }
    this.answered = true;
    this.wanted = headerBytes;
    return data.subarray(end + 4);
  }

  /** Delivers whole messages; gives where the rest begins. */
  private readFrames(data: Buffer): number {
    let at = 0;
    while (!this.closed) {
      const left = data.length - at;
      if (left < headerBytes) {
        this.wanted = headerBytes;
        return at;
      }
      const length = data.readUInt32BE(at);
      if (length === signOfLife) {
        at += headerBytes;
        continue;
      }
      if (length > messageBytesMax) {
        this.over(`a message of ${length} bytes`);
        return data.length;
      }
      if (left < headerBytes + length) {
        this.wanted = headerBytes + length;
        return at;
      }
      // A plain Uint8Array: Buffer's `slice` shares memory where pure code expects a copy.
      const message = new Uint8Array(data.buffer, data.byteOffset + at + headerBytes, length);
      at += headerBytes + length;
      if (this.blocks === undefined) this.onMessage(message);
      else if (length <= copyBytesMax) this.onMessage(message.slice());
      else this.onMessage(message, this.blocks.lend());
    }
    return data.length;
  }

  private over(reason: string): void {
    if (this.closed) return;
    this.finish();
    this.socket.destroy();
    this.onClose(reason);
  }

  private finish(): void {
    this.closed = true;
    clearInterval(this.timer);
    this.parts = [];
    this.bytes = 0;
  }
}

/**
 * Opens a channel to a peer URL (`http://host:port`, or https). It exists at once and queues; failing to connect is
 * `onClose`, and never happens within this call.
 */
export function dialStream(peerUrl: string, path: string, tls?: TlsDialer): Channel {
  const { protocol, hostname, port, host } = new URL(peerUrl);
  const address = { host: hostname.replace(/^\[|\]$/g, ''), port: Number(port || defaultPorts[protocol]) };
  let socket: Socket;
  let reader: BlockReader | undefined;
  if (protocol !== 'https:') {
    const own = new BlockReader();
    reader = own;
    socket = connect({
      ...address,
      onread: {
        buffer: () => own.room(),
        callback: (bytes) => {
          channel.readInto(bytes);
          return true;
        },
      },
    });
  } else if (tls !== undefined) socket = tls.connect(address.host, address.port);
  else throw new Error(`${peerUrl} needs TLS, and there is none`);
  const channel: StreamChannel = new StreamChannel(socket, false, reader);
  socket.write(
    `GET ${path} HTTP/1.1\r\nHost: ${host}\r\nConnection: Upgrade\r\nUpgrade: ${streamProtocol}\r\n\r\n`,
  );
  return channel;
}

/** The other end of `dialStream`, on a socket whose request was read. `head`: what came behind it. */
export function acceptStream(socket: Socket, head: Buffer): Channel {
  socket.write(accepted);
  if (head.length > 0) socket.unshift(head);
  return new StreamChannel(socket, true);
}
