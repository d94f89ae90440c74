/**
 * HTTP/1.1 connections that are to move on at some age, as HTTP/2's are by GOAWAY:
 *
 *     young ──age──► old ──next answer: "Connection: close"──► closed
 *                     ├───nothing asked for a second─────────► closed
 *                     └───grace over, an answer still goes on► cut
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';

/** An old connection whose client asks often is closed with an answer: a FIN could cross its next request. */
const idleMs = 1_000;

export class Http1Ages {
  private readonly ageMs: number;
  private readonly graceMs: number;
  private readonly connections = new WeakMap<Socket, Connection>();

  constructor(ageMs: number, graceMs: number) {
    this.ageMs = ageMs;
    this.graceMs = graceMs;
  }

  add(socket: Socket): void {
    // Not all at once.
    const ageMs = this.ageMs * (0.9 + 0.2 * Math.random());
    this.connections.set(socket, new Connection(socket, ageMs, this.graceMs));
  }

  /** Before the request is looked at. */
  asked({ socket }: IncomingMessage, response: ServerResponse): void {
    this.connections.get(socket)?.asked(response);
  }
}

class Connection {
  private readonly socket: Socket;
  private readonly graceMs: number;
  private readonly underWay = new Set<ServerResponse>();
  private isOld = false;
  /** Until it is old, then until it is cut. */
  private timer: NodeJS.Timeout;
  private idle: NodeJS.Timeout | undefined;

  constructor(socket: Socket, ageMs: number, graceMs: number) {
    this.socket = socket;
    this.graceMs = graceMs;
    this.timer = setTimeout(() => this.retire(), ageMs);
    this.timer.unref();
    socket.once('close', () => {
      clearTimeout(this.timer);
      clearTimeout(this.idle);
    });
  }

  asked(response: ServerResponse): void {
    clearTimeout(this.idle);
    this.underWay.add(response);
    response.once('close', () => this.underWay.delete(response));
    if (this.isOld) response.setHeader('Connection', 'close');
  }

  private retire(): void {
    this.isOld = true;
    this.timer = setTimeout(() => this.socket.destroy(), this.graceMs);
    this.timer.unref();
    for (const response of this.underWay) {
      if (!response.headersSent) response.setHeader('Connection', 'close');
    }
    if (this.underWay.size > 0) return;
    this.idle = setTimeout(() => this.socket.end(), idleMs);
    this.idle.unref();
  }
}
