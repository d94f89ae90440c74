import type { Channel, Prng, Timer } from '@quoin/base';
import { Direction, SimChannel, type Wire } from './channel.ts';
import type { SimHost } from './clock.ts';
import type { Scheduler } from './scheduler.ts';

/** How messages travel from one node to another. */
export interface LinkQuality {
  /** One way; a message takes between half and one and a half of it. */
  readonly delayMs: number;
  /** Bytes per ms on top of the delay. */
  readonly bytesPerMs: number;
  /**
   * Chances per message. A living channel loses, doubles and swaps nothing, as TCP: these break the Channel's promise,
   * for tests of protocols that must not depend on it.
   */
  readonly loss: number;
  readonly duplicate: number;
  readonly reorder: number;
}

export interface SimNetworkOptions extends Partial<LinkQuality> {
  /** How long a channel across a cut lives before both ends are told. Default 1000; Infinity: it waits for ever. */
  readonly silenceMs?: number;
  /** How long a dial across a cut is tried. Default 1000. */
  readonly connectTimeoutMs?: number;
  /** `send` asks to stop above it. Default 1 MiB. */
  readonly highWaterBytes?: number;
  /** A dead node's peers are not told (its machine is gone too) and notice by silence. Default false: reset at once. */
  readonly silentDeaths?: boolean;
}

interface Listener {
  readonly host: SimHost;
  readonly accept: (channel: Channel, from: string) => void;
}

/**
 * Streams between hosts by name, as over TCP: ordered and reliable while they live. Faults are delays, cuts in one or
 * both directions, breaks, deaths; and, for raft's own tests, loss, duplication and reordering of messages.
 */
export class SimNetwork {
  readonly scheduler: Scheduler;
  /** Messages sent, and connections broken, so far. */
  messages = 0;
  breaks = 0;
  private readonly prng: Prng;
  private readonly options: SimNetworkOptions;
  private readonly quality: LinkQuality;
  private readonly listeners = new Map<string, Listener>();
  private readonly links = new Map<string, LinkQuality>();
  private readonly cuts = new Set<string>();
  private readonly connections = new Set<Connection>();
  private readonly watched = new Set<SimHost>();

  constructor(scheduler: Scheduler, prng: Prng, options: SimNetworkOptions = {}) {
    this.scheduler = scheduler;
    this.prng = prng;
    this.options = options;
    this.quality = {
      delayMs: options.delayMs ?? 0.3,
      bytesPerMs: options.bytesPerMs ?? Number.POSITIVE_INFINITY,
      loss: options.loss ?? 0,
      duplicate: options.duplicate ?? 0,
      reorder: options.reorder ?? 0,
    };
  }

  /** Until the host dies. A later listener at the same address takes over. */
  listen(address: string, host: SimHost, accept: (channel: Channel, from: string) => void): void {
    this.listeners.set(address, { host, accept });
    this.watch(host);
    for (const connection of this.connections) connection.hostIsBack(host);
  }

  /** The channel exists at once and queues; failing to connect is `onClose`. */
  dial(host: SimHost, address: string): Channel {
    this.watch(host);
    const connection = new Connection(this, host, address, this.options.highWaterBytes ?? 1 << 20);
    this.connections.add(connection);
    const listener = this.listeners.get(address);
    const delayMs = listener === undefined ? 0 : 2 * this.delayMs(host.name, listener.host.name, 0);
    this.scheduler.after(delayMs, () => connection.connect(this.options.connectTimeoutMs ?? 1000));
    return connection.near;
  }

  /** Nothing arrives from `from` at `to` any more. The other direction is another cut. */
  cut(from: string, to: string): void {
    this.cuts.add(wireName(from, to));
    for (const connection of this.connections) connection.wiresChanged();
  }

  /** Groups reach only themselves; a node in no group reaches everybody. Other cuts stay. */
  partition(groups: readonly (readonly string[])[]): void {
    for (const group of groups) {
      for (const other of groups) {
        if (group !== other)
          for (const from of group) for (const to of other) this.cuts.add(wireName(from, to));
      }
    }
    for (const connection of this.connections) connection.wiresChanged();
  }

  /** One direction is whole again; without arguments all are. */
  heal(from?: string, to?: string): void {
    if (from === undefined || to === undefined) this.cuts.clear();
    else this.cuts.delete(wireName(from, to));
    for (const connection of this.connections) connection.wiresChanged();
  }

  isCut(from: string, to: string): boolean {
    return this.cuts.has(wireName(from, to));
  }

  /** Changes how messages travel from one node to another; what is not given is as for the whole network. */
  setLink(from: string, to: string, quality: Partial<LinkQuality>): void {
    this.links.set(wireName(from, to), { ...this.quality, ...quality });
  }

  /** Breaks every connection between the two, as a proxy that restarts. */
  breakBetween(a: string, b: string): void {
    for (const connection of this.connections) {
      if (connection.joins(a, b)) connection.break('connection reset');
    }
  }

  /** @internal */
  delayMs(from: string, to: string, bytes: number): number {
    const { delayMs, bytesPerMs } = this.qualityOf(from, to);
    return delayMs * (0.5 + this.prng.float()) + bytes / bytesPerMs;
  }

  /** @internal */
  fate(from: string, to: string): { copies: number; overtakes: boolean } {
    this.messages++;
    const { loss, duplicate, reorder } = this.qualityOf(from, to);
    // A network without such faults draws nothing, so that turning them on elsewhere changes no other run.
    if (loss + duplicate + reorder === 0) return { copies: 1, overtakes: false };
    const copies = this.prng.chance(loss) ? 0 : this.prng.chance(duplicate) ? 2 : 1;
    return { copies, overtakes: this.prng.chance(reorder) };
  }

  /** @internal How long a dead connection goes unnoticed. */
  silenceMs(): number {
    return (this.options.silenceMs ?? 1000) * (0.5 + this.prng.float());
  }

  /** @internal */
  listenerAt(address: string): Listener | undefined {
    return this.listeners.get(address);
  }

  /** @internal Whether a machine of that name listens. */
  isUp(name: string): boolean {
    for (const { host } of this.listeners.values()) if (host.name === name && host.alive) return true;
    return false;
  }

  /** @internal */
  forget(connection: Connection): void {
    this.connections.delete(connection);
  }

  private qualityOf(from: string, to: string): LinkQuality {
    return this.links.get(wireName(from, to)) ?? this.quality;
  }

  private watch(host: SimHost): void {
    if (this.watched.has(host)) return;
    this.watched.add(host);
    host.onKill(() => {
      this.watched.delete(host);
      for (const [address, listener] of this.listeners)
        if (listener.host === host) this.listeners.delete(address);
      for (const connection of this.connections)
        connection.hostDied(host, this.options.silentDeaths ?? false);
    });
  }
}

function wireName(from: string, to: string): string {
  return `${from}\u0000${to}`;
}

/**
 * Two ends and the two directions between them.
 *
 *     dialled ──► connected ──► over      close: the other end hears of it after what was sent before
 *        │                       ▲        break: both ends hear of it at once, what was under way is lost
 *        └── refused, timed out ─┘
 */
class Connection {
  readonly near: SimChannel;
  private readonly network: SimNetwork;
  private readonly address: string;
  private readonly highWaterBytes: number;
  private state: 'dialled' | 'accepting' | 'connected' | 'over' = 'dialled';
  private far: SimChannel | undefined;
  private farHost: SimHost | undefined;
  /** Near to far, far to near. */
  private directions: readonly Direction[] = [];
  private silence: Timer | undefined;

  constructor(network: SimNetwork, host: SimHost, address: string, highWaterBytes: number) {
    this.network = network;
    this.address = address;
    this.highWaterBytes = highWaterBytes;
    this.near = new SimChannel(host, highWaterBytes, () => this.closedBy(0));
    this.far = undefined;
    this.farHost = undefined;
    this.silence = undefined;
  }

  /** The dial has had its round trip; across a cut it goes on until the timeout. */
  connect(timeoutMs: number): void {
    if (this.state !== 'dialled') return;
    const listener = this.network.listenerAt(this.address);
    if (listener === undefined) {
      this.fail('connection refused');
      return;
    }
    this.farHost = listener.host;
    if (!this.whole()) {
      this.network.scheduler.after(timeoutMs, () => {
        if (this.state === 'dialled') this.fail('connect timed out');
      });
      return;
    }
    this.state = 'accepting';
    listener.host.enqueue(0, () => this.accept(listener, listener.host));
  }

  joins(a: string, b: string): boolean {
    const names = [this.near.host.name, this.farHost?.name];
    return this.state === 'connected' && names.includes(a) && names.includes(b);
  }

  wiresChanged(): void {
    if (this.state === 'dialled' && this.farHost !== undefined && this.whole()) this.connect(0);
    if (this.state !== 'connected') return;
    for (const direction of this.directions) direction.pump();
    if (!this.whole()) {
      this.breakAfterSilence();
    } else if (!this.hasDeadEnd()) {
      this.silence?.cancel();
      this.silence = undefined;
    } else if (this.deadEndIsBack()) {
      this.break('connection reset');
    } else {
      // A wire that is whole again does not wake the dead.
      this.breakAfterSilence();
    }
  }

  hostDied(host: SimHost, silently: boolean): void {
    const end = host === this.near.host ? 0 : host === this.farHost ? 1 : undefined;
    if (end === undefined) return;
    if (end === 0 && this.state !== 'connected') {
      this.end();
    } else if (this.state !== 'connected') {
      this.fail('connection reset');
    } else if (silently) {
      this.directions[1 - end]!.stop();
      this.breakAfterSilence();
    } else {
      this.finish(end, 'connection reset');
    }
  }

  /** A machine of that name is up again, and knows nothing of this connection: it refuses what comes for it. */
  hostIsBack(host: SimHost): void {
    if (this.state !== 'connected' || !this.hasDeadEnd()) return;
    const isEnd = this.near.host.name === host.name || this.farHost?.name === host.name;
    if (isEnd && this.whole()) this.break('connection reset');
  }

  break(reason: string): void {
    if (this.state === 'over') return;
    this.network.breaks++;
    this.far?.over(reason);
    this.fail(reason);
  }

  private accept(listener: Listener, farHost: SimHost): void {
    if (this.state !== 'accepting') return;
    this.state = 'connected';
    const { near } = this;
    const far = new SimChannel(farHost, this.highWaterBytes, () => this.closedBy(1));
    this.far = far;
    this.directions = [this.direction(near, far), this.direction(far, near)];
    far.attach(this.directions[1]!);
    listener.accept(far, near.host.name);
    near.attach(this.directions[0]!);
    if (near.isClosed) this.closedBy(0);
    this.wiresChanged();
  }

  private direction(from: SimChannel, to: SimChannel): Direction {
    const { network } = this;
    const [a, b] = [from.host.name, to.host.name];
    const wire: Wire = {
      open: () => this.state === 'connected' && !network.isCut(a, b),
      delayMs: (bytes) => network.delayMs(a, b, bytes),
      fate: () => network.fate(a, b),
    };
    return new Direction(wire, to.host, (message) => {
      from.drained();
      to.receive(message);
    });
  }

  private closedBy(end: 0 | 1): void {
    if (this.state !== 'connected') return;
    if (this.near.isClosed && this.far!.isClosed) this.end();
    else this.finish(end, 'closed by the other side');
  }

  /** One end is gone: the other still gets what was sent before, then hears of it. */
  private finish(end: 0 | 1, reason: string): void {
    const other = end === 0 ? this.far! : this.near;
    this.directions[1 - end]!.stop();
    this.directions[end]!.finish(() => {
      this.end();
      other.closeByPeer(reason);
    });
  }

  private breakAfterSilence(): void {
    const silenceMs = this.network.silenceMs();
    if (this.silence !== undefined || silenceMs === Number.POSITIVE_INFINITY) return;
    this.silence = this.network.scheduler.after(silenceMs, () => this.break('connection timed out'));
  }

  private fail(reason: string): void {
    this.end();
    this.near.over(reason);
  }

  private end(): void {
    this.state = 'over';
    this.silence?.cancel();
    for (const direction of this.directions) direction.stop();
    this.network.forget(this);
  }

  private hasDeadEnd(): boolean {
    return !this.near.host.alive || this.farHost?.alive === false;
  }

  /** Whether a machine that died is up again: at the first packet that reaches it, it refuses the connection. */
  private deadEndIsBack(): boolean {
    for (const end of [this.near.host, this.farHost!]) {
      if (!end.alive && this.network.isUp(end.name)) return true;
    }
    return false;
  }

  private whole(): boolean {
    const [a, b] = [this.near.host.name, this.farHost!.name];
    return !this.network.isCut(a, b) && !this.network.isCut(b, a);
  }
}
