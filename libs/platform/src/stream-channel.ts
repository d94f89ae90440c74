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
import type { Channel } from '@quoin/base';
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

class StreamChannel implements Channel {
  onMessage: (message: Uint8Array) => void = nothing;
  onDrain: () => void = nothing;
  onClose: (reason: string) => void = nothing;
  private readonly socket: Socket;
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

  constructor(socket: Socket, answered: boolean) {
    this.socket = socket;
    this.answered = answered;
    this.wanted = answered ? headerBytes : 1;
    socket.setNoDelay(true);
    socket.on('data', (chunk: Buffer) => this.receive(chunk));
    socket.on('drain', () => this.drained());
    socket.on('end', () => this.over('closed by the other side'));
    socket.on('error', (error) => this.over(error.message));
    socket.on('close', () => this.over('connection lost'));
    this.timer = setInterval(() => this.tick(), signIntervalMs);
    this.timer.unref();
  }

  send(message: Uint8Array): boolean {
    if (this.closed) return true;
    const { length } = message;
    this.sent = true;
    if (length <= copyBytesMax) {
      const frame = Buffer.allocUnsafe(headerBytes + length);
      frame.writeUInt32BE(length, 0);
      frame.set(message, headerBytes);
      this.socket.write(frame);
    } else {
      const header = Buffer.allocUnsafe(headerBytes);
      header.writeUInt32BE(length, 0);
      this.socket.cork();
      this.socket.write(header);
      this.socket.write(message);
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
      if (rest === undefined) return;
      data = rest;
    }
    const at = this.readFrames(data);
    if (at === data.length) this.parts = [];
    else this.parts = [data.subarray(at)];
    this.bytes = data.length - at;
  }

  /** What follows the answer; undefined when it is not complete, or refused. */
  private readAnswer(data: Buffer): Buffer | undefined {
    const end = data.indexOf('\r\n\r\n');
    if (end < 0 && data.length <= answerBytesMax) {
      this.parts = [data];
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
      this.onMessage(message);
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
  if (protocol !== 'https:') socket = connect(address);
  else if (tls !== undefined) socket = tls.connect(address.host, address.port);
  else throw new Error(`${peerUrl} needs TLS, and there is none`);
  const channel = new StreamChannel(socket, false);
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
