import type { Channel, Timer } from '@quoin/base';
import type { SimHost } from './clock.ts';

const nothing = (): void => {};

/** What one direction of a channel asks of the network. */
export interface Wire {
  /** False while the wire is cut, or the connection is not made yet. */
  open(): boolean;
  /** How long a message of so many bytes takes. */
  delayMs(bytes: number): number;
  /** How many copies of a message arrive, and whether ahead of the one sent before it. Ordinarily 1 and false. */
  fate(): { readonly copies: number; readonly overtakes: boolean };
}

interface InFlight {
  readonly message: Uint8Array;
  readonly arrivalMs: number;
}

/**
 * One direction of a channel: a queue whose head arrives first, as in TCP.
 *
 *     send ──► queue ──(arrival of the head)──► receiver's host ──► onMessage
 *                 ├── wire cut: stays until it is whole again, or the channel breaks
 *                 └── receiver paused: the head waits at its door, and still counts as queued
 */
export class Direction {
  /** Sent and not taken. */
  bytes = 0;
  private readonly wire: Wire;
  private readonly receiver: SimHost;
  private readonly deliver: (message: Uint8Array) => void;
  private readonly queue: InFlight[] = [];
  private event: Timer | undefined;
  private readonly onArrival = (): void => this.arrive();
  private stopped = false;
  private afterLast: (() => void) | undefined;

  constructor(wire: Wire, receiver: SimHost, deliver: (message: Uint8Array) => void) {
    this.wire = wire;
    this.receiver = receiver;
    this.deliver = deliver;
    this.event = undefined;
    this.afterLast = undefined;
  }

  send(message: Uint8Array): void {
    if (this.stopped) return;
    const { copies, overtakes } = this.wire.fate();
    const arrivalMs = this.receiver.scheduler.nowMs + this.wire.delayMs(message.length);
    for (let i = 0; i < copies; i++) {
      this.bytes += message.length;
      this.queue.push({ message, arrivalMs });
    }
    if (overtakes && copies === 1 && this.queue.length > 1) this.queue.splice(-2, 0, this.queue.pop()!);
    this.pump();
  }

  /** Calls `fn` on the receiver's host once everything sent so far has arrived. Nothing is sent after it. */
  finish(fn: () => void): void {
    this.afterLast = fn;
    this.pump();
  }

  /** Nothing arrives any more. */
  stop(): void {
    this.stopped = true;
    this.event?.cancel();
    this.event = undefined;
    this.queue.length = 0;
    this.bytes = 0;
  }

  /** To be called when the wire may be whole again. */
  pump(): void {
    if (this.stopped || this.event !== undefined || !this.wire.open()) return;
    // The next head is scheduled only when this one has arrived: so nothing overtakes, whatever its own delay was.
    const head = this.queue[0];
    if (head !== undefined) {
      this.event = this.receiver.enqueueAt(head.arrivalMs, this.onArrival);
    } else if (this.afterLast !== undefined) {
      this.event = this.receiver.enqueue(this.wire.delayMs(0), () => this.arriveLast());
    }
  }

  private arrive(): void {
    this.event = undefined;
    // A cut that came while the message was under way holds it back too.
    if (!this.wire.open()) return;
    const { message } = this.queue.shift()!;
    this.bytes -= message.length;
    this.pump();
    // The receiver owns what it gets, whatever the sender does to its own bytes afterwards.
    this.deliver(message.slice());
  }

  private arriveLast(): void {
    this.event = undefined;
    if (!this.wire.open()) return;
    const fn = this.afterLast!;
    this.stop();
    fn();
  }
}

/** One end of a simulated connection. */
export class SimChannel implements Channel {
  onMessage: (message: Uint8Array) => void = nothing;
  onDrain: () => void = nothing;
  onClose: (reason: string) => void = nothing;
  readonly host: SimHost;
  private readonly highWaterBytes: number;
  private readonly onLocalClose: () => void;
  /** Undefined until the connection is made; what is sent before waits in `early`. */
  private out: Direction | undefined;
  private readonly early: Uint8Array[] = [];
  private earlyBytes = 0;
  private blocked = false;
  private closed = false;

  constructor(host: SimHost, highWaterBytes: number, onLocalClose: () => void) {
    this.host = host;
    this.highWaterBytes = highWaterBytes;
    this.onLocalClose = onLocalClose;
    this.out = undefined;
  }

  get isClosed(): boolean {
    return this.closed;
  }

  send(message: Uint8Array): boolean {
    if (this.closed) return true;
    if (this.out !== undefined) {
      this.out.send(message);
    } else {
      this.early.push(message);
      this.earlyBytes += message.length;
    }
    this.blocked ||= this.queuedBytes() > this.highWaterBytes;
    return !this.blocked;
  }

  queuedBytes(): number {
    return this.out === undefined ? this.earlyBytes : this.out.bytes;
  }

  close(): void {
    if (this.closed) return;
    this.closed = true;
    this.onLocalClose();
  }

  /** @internal For the network. */
  attach(out: Direction): void {
    this.out = out;
    for (const message of this.early) out.send(message);
    this.early.length = 0;
  }

  /** @internal A message of the other end has arrived. */
  receive(message: Uint8Array): void {
    if (!this.closed) this.onMessage(message);
  }

  /** @internal The other end has taken a message: half of the mark, so that the sender is not called for each one. */
  drained(): void {
    if (!this.blocked || this.closed || this.queuedBytes() > this.highWaterBytes / 2) return;
    this.blocked = false;
    this.host.enqueue(0, () => {
      if (!this.closed) this.onDrain();
    });
  }

  /** @internal The connection is over; the end hears of it when its host gets to it. */
  over(reason: string): void {
    this.host.enqueue(0, () => this.closeByPeer(reason));
  }

  /** @internal */
  closeByPeer(reason: string): void {
    if (this.closed) return;
    this.closed = true;
    this.onClose(reason);
  }
}
