import type { Channel, Prng } from '@quoin/base';
import type { SimHost } from './clock.ts';
import type { Scheduler } from './scheduler.ts';

export interface ClusterNetworkOptions {
  /** One way; each message takes between half and one and a half of it. Default 0.3. */
  readonly latencyMs?: number;
  /** How long a stream over a cut stays silent before its ends are told. Default 1000. */
  readonly silenceMs?: number;
}

interface Endpoint {
  readonly host: SimHost;
  readonly accept: (channel: Channel) => void;
}

/**
 * Ordered streams between hosts, as TCP is: nothing is lost inside a living stream; a cut stops it, and after a silence
 * both ends see it close. A stream to a dead host closes; a dial to nobody closes.
 */
export class ClusterNetwork {
  readonly scheduler: Scheduler;
  readonly prng: Prng;
  readonly options: Required<ClusterNetworkOptions>;
  private readonly endpoints = new Map<string, Endpoint>();
  private readonly cuts = new Set<string>();
  private readonly streams = new Set<Stream>();

  constructor(scheduler: Scheduler, prng: Prng, options: ClusterNetworkOptions = {}) {
    this.scheduler = scheduler;
    this.prng = prng;
    this.options = { latencyMs: options.latencyMs ?? 0.3, silenceMs: options.silenceMs ?? 1_000 };
  }

  listen(address: string, host: SimHost, accept: (channel: Channel) => void): void {
    this.endpoints.set(address, { host, accept });
    host.onKill(() => {
      if (this.endpoints.get(address)?.host === host) this.endpoints.delete(address);
      for (const stream of this.streams) stream.hostDied(host);
    });
  }

  /** The stream exists at once and queues. */
  dial(from: SimHost, address: string): Channel {
    const near = new SimChannel();
    from.onKill(() => {
      for (const stream of this.streams) stream.hostDied(from);
    });
    this.scheduler.after(this.delayMs(), () => {
      const endpoint = this.endpoints.get(address);
      if (near.isClosed) return;
      if (endpoint === undefined || this.isCut(from.name, endpoint.host.name) || !endpoint.host.alive) {
        from.enqueue(this.delayMs(), () => near.closeByPeer('could not connect'));
        return;
      }
      const far = new SimChannel();
      this.streams.add(
        new Stream(this, from, near, endpoint.host, far, (stream) => this.streams.delete(stream)),
      );
      endpoint.host.enqueue(0, () => endpoint.accept(far));
    });
    return near;
  }

  /** Nothing passes between the two any more, in either direction. */
  cut(a: string, b: string): void {
    this.cuts.add(pairOf(a, b));
    for (const stream of this.streams) stream.cutOff(a, b);
  }

  heal(): void {
    this.cuts.clear();
  }

  isCut(a: string, b: string): boolean {
    return this.cuts.has(pairOf(a, b));
  }

  delayMs(): number {
    return this.options.latencyMs * (0.5 + this.prng.float());
  }
}

function pairOf(a: string, b: string): string {
  return a < b ? `${a}|${b}` : `${b}|${a}`;
}

class SimChannel implements Channel {
  onMessage: (message: Uint8Array) => void = () => {};
  onDrain: () => void = () => {};
  onClose: (reason: string) => void = () => {};
  isClosed = false;
  transmit: ((message: Uint8Array) => void) | undefined;
  closed: (() => void) | undefined;
  queued = 0;
  private early: Uint8Array[] = [];

  send(message: Uint8Array): boolean {
    if (this.isClosed) return false;
    this.queued += message.length;
    if (this.transmit === undefined) this.early.push(message);
    else this.transmit(message);
    return this.queued < 1 << 20;
  }

  queuedBytes(): number {
    return this.queued;
  }

  close(): void {
    if (this.isClosed) return;
    this.isClosed = true;
    this.closed?.();
  }

  connect(transmit: (message: Uint8Array) => void, closed: () => void): void {
    this.transmit = transmit;
    this.closed = closed;
    for (const message of this.early) transmit(message);
    this.early = [];
  }

  closeByPeer(reason: string): void {
    if (this.isClosed) return;
    this.isClosed = true;
    this.onClose(reason);
  }
}

class Stream {
  private readonly network: ClusterNetwork;
  private readonly hosts: readonly [SimHost, SimHost];
  private readonly ends: readonly [SimChannel, SimChannel];
  private readonly gone: (stream: Stream) => void;
  /** When the last message of each direction arrives: none overtakes another. */
  private readonly arrivalMs: [number, number] = [0, 0];
  private broken = false;

  constructor(
    network: ClusterNetwork,
    near: SimHost,
    nearEnd: SimChannel,
    far: SimHost,
    farEnd: SimChannel,
    gone: (stream: Stream) => void,
  ) {
    this.network = network;
    this.hosts = [near, far];
    this.ends = [nearEnd, farEnd];
    this.gone = gone;
    // The acceptor is called first: its handlers must be there before anything arrives.
    nearEnd.connect(
      (message) => this.send(1, message),
      () => this.endedBy(1),
    );
    farEnd.connect(
      (message) => this.send(0, message),
      () => this.endedBy(0),
    );
  }

  hostDied(host: SimHost): void {
    if (this.broken || !this.hosts.includes(host)) return;
    this.break(host === this.hosts[0] ? 1 : 0, this.network.delayMs(), 'connection reset');
  }

  cutOff(a: string, b: string): void {
    const [near, far] = this.hosts;
    if (this.broken || !((near.name === a && far.name === b) || (near.name === b && far.name === a))) return;
    const silenceMs = this.network.options.silenceMs * (0.5 + this.network.prng.float());
    this.break(0, silenceMs, 'timed out');
    this.notify(1, silenceMs, 'timed out');
  }

  private send(to: 0 | 1, message: Uint8Array): void {
    if (this.broken) return;
    const { scheduler } = this.network;
    const at = Math.max(scheduler.nowMs + this.network.delayMs(), this.arrivalMs[to]);
    this.arrivalMs[to] = at;
    this.hosts[to].enqueueAt(at, () => {
      if (this.broken || this.ends[to].isClosed) return;
      const sender = this.ends[to === 0 ? 1 : 0];
      const wasFull = sender.queued >= 1 << 20;
      sender.queued -= message.length;
      // The receiver owns the bytes: what the sender does to its own buffer later must not be seen.
      this.ends[to].onMessage(message.slice());
      if (wasFull && sender.queued < 1 << 20 && !sender.isClosed) {
        this.hosts[to === 0 ? 1 : 0].enqueue(0, () => sender.onDrain());
      }
    });
  }

  /** The other end hears of it after what was sent before. */
  private endedBy(other: 0 | 1): void {
    const at = Math.max(this.network.scheduler.nowMs + this.network.delayMs(), this.arrivalMs[other]);
    this.hosts[other].enqueueAt(at, () => this.ends[other].closeByPeer('closed by the other side'));
    this.network.scheduler.at(at, () => {
      this.broken = true;
      this.gone(this);
    });
  }

  private break(to: 0 | 1, delayMs: number, reason: string): void {
    this.broken = true;
    this.gone(this);
    this.notify(to, delayMs, reason);
  }

  private notify(to: 0 | 1, delayMs: number, reason: string): void {
    this.hosts[to].enqueue(delayMs, () => this.ends[to].closeByPeer(reason));
  }
}
