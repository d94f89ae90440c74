import type { Channel, Timers } from '@quoin/base';

/** Bytes that may wait for the end of the turn before `send` asks to stop. */
const highWaterBytes = 4 << 20;

const nothing = (): void => {};

/**
 * Two ends of one channel inside a process: what one sends, the other is given at the end of the turn, so that a
 * batch is closed there just as on a socket, and no call into the other side happens within `send`.
 */
export function localChannelPair(timers: Timers): [Channel, Channel] {
  const a = new LocalChannel(timers);
  const b = new LocalChannel(timers);
  a.join(b);
  b.join(a);
  return [a, b];
}

interface Sent {
  readonly message: object;
  readonly onSent: (() => void) | undefined;
}

class LocalChannel implements Channel {
  onMessage: (message: Uint8Array, release?: () => void) => void = nothing;
  onDrain: () => void = nothing;
  onClose: (reason: string) => void = nothing;
  onPassed: (message: object) => void = nothing;
  private readonly timers: Timers;
  private peer: LocalChannel | undefined;
  private queue: Sent[] = [];
  private bytes = 0;
  private scheduled = false;
  private blocked = false;
  /** This end closed: the peer still gets what was sent before. */
  private ended = false;
  /** Nothing is delivered to this end any more. */
  private dead = false;

  constructor(timers: Timers) {
    this.timers = timers;
  }

  join(peer: LocalChannel): void {
    this.peer = peer;
  }

  send(message: Uint8Array, onSent?: () => void): boolean {
    return this.take({ message, onSent }, message.length);
  }

  pass(message: object, bytes: number): boolean {
    return this.take({ message, onSent: undefined }, bytes);
  }

  private take(sent: Sent, bytes: number): boolean {
    if (this.ended || this.dead) return true;
    this.queue.push(sent);
    this.bytes += bytes;
    this.schedule();
    this.blocked ||= this.bytes > highWaterBytes;
    return !this.blocked;
  }

  queuedBytes(): number {
    return this.bytes;
  }

  close(): void {
    if (this.ended || this.dead) return;
    this.ended = true;
    this.dead = true;
    this.schedule();
  }

  private schedule(): void {
    if (this.scheduled) return;
    this.scheduled = true;
    this.timers.endOfTurn(() => {
      this.scheduled = false;
      this.deliver();
    });
  }

  private deliver(): void {
    const peer = this.peer!;
    const messages = this.queue;
    this.queue = [];
    this.bytes = 0;
    for (const { message, onSent } of messages) {
      if (peer.dead) break;
      if (message instanceof Uint8Array) peer.onMessage(message, onSent);
      else peer.onPassed(message);
    }
    if (this.ended && !peer.dead) {
      peer.dead = true;
      peer.onClose('closed by the other side');
    } else if (this.blocked && !this.dead) {
      this.blocked = false;
      this.onDrain();
    }
  }
}
