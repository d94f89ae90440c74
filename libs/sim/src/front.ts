/** The client's side of a simulated cluster: gateways that die and come back, and the calls of clients through them. */
import { concatBytes, MetricRegistry, Prng, type Timer } from '@quoin/base';
import {
  type AnswerRest,
  type CallContext,
  Gateway,
  type GatewayLimits,
  type ServerStream,
} from '@quoin/gateway';
import type { Ending } from './checkers/history.ts';
import { SimClock, SimHost, SimTimers } from './clock.ts';
import { linkAddress, peerUrl, type SimCluster } from './cluster.ts';

const nothing = (): void => {};
const silentLog = { debug: nothing, info: nothing, warn: nothing, error: nothing };

/** One gateway over all its lives. */
export class SimFront {
  readonly name: string;
  readonly clock: SimClock;
  host: SimHost;
  /** Undefined while it is down. */
  gateway: Gateway | undefined;
  /** Lives so far. */
  starts = 0;
  private readonly cluster: SimCluster;
  private readonly limits: Partial<GatewayLimits>;

  constructor(cluster: SimCluster, name: string, limits: Partial<GatewayLimits>) {
    this.cluster = cluster;
    this.name = name;
    this.limits = limits;
    this.clock = new SimClock(cluster.scheduler);
    this.host = new SimHost(cluster.scheduler, name);
    this.gateway = undefined;
  }

  start(): void {
    const { cluster } = this;
    this.starts++;
    const host = new SimHost(cluster.scheduler, this.name);
    this.host = host;
    this.gateway = new Gateway(
      { name: this.name, memberUrls: cluster.nodes.map((node) => peerUrl(node.name)), ...this.limits },
      {
        clock: this.clock,
        timers: new SimTimers(host, this.clock),
        random: new Prng(cluster.prng.u32()),
        log: silentLog,
        tracer: undefined,
        metrics: new MetricRegistry(),
        dial: (url) => cluster.network.dial(host, addressOf(url)),
      },
    );
    const { gateway } = this;
    host.enqueue(0, () => gateway.start());
  }

  kill(): void {
    this.host.kill();
    this.gateway = undefined;
  }
}

/** Members' peer URLs tell where their links are. */
function addressOf(url: string): string {
  const name = /^http:\/\/([^:]+):/.exec(url)?.[1];
  return linkAddress(name ?? url);
}

/** One way between a client and its gateway. */
const hopMs = 0.2;

/** A client's process: never dies, and calls whichever gateway it is told. */
export class FrontClient {
  readonly host: SimHost;
  /** What the next calls come with: a token, or the name in a verified certificate. */
  token = '';
  certUser = '';

  constructor(cluster: SimCluster, name: string) {
    this.host = new SimHost(cluster.scheduler, name);
  }

  /** Calls back exactly once. */
  unary(
    front: SimFront,
    path: string,
    request: Uint8Array,
    deadlineMs: number,
    done: (ending: Ending) => void,
  ): void {
    const { host } = front;
    let over = false;
    const end = (ending: Ending): void => {
      if (over) return;
      over = true;
      this.host.enqueue(hopMs, () => done(ending));
    };
    host.onKill(() => end({ kind: 'lost' }));
    if (!host.alive) return end({ kind: 'lost' });
    const { token, certUser } = this;
    host.enqueue(hopMs, () => {
      const context = contextOf(front.clock.monotonicMs() + deadlineMs, token, certUser);
      front.gateway!.unary(
        path,
        request,
        context,
        (status, pieces, rest) => {
          if (status !== null) end({ kind: 'error', status });
          else if (rest === undefined) end({ kind: 'ok', body: concatBytes(pieces).slice() });
          else takeRest(pieces, rest, end);
        },
        true,
      );
    });
  }

  stream(front: SimFront, path: string): FrontStream {
    return new FrontStream(this, front, path);
  }
}

/** As a client that reads as fast as it can: room is given back with each part. */
function takeRest(beginning: readonly Uint8Array[], rest: AnswerRest, end: (ending: Ending) => void): void {
  const parts = beginning.map((piece) => piece.slice());
  rest.start(
    (part, release) => {
      parts.push(part.slice());
      release?.();
      rest.credit(part.length);
    },
    (status) => {
      if (status === null) end({ kind: 'ok', body: concatBytes(parts) });
      else end({ kind: 'error', status });
    },
  );
  for (const piece of beginning) rest.credit(piece.length);
}

function contextOf(deadlineMs: number | undefined, token: string, certUser: string): CallContext {
  const metadata = (key: string): string | undefined => (key === 'token' && token !== '' ? token : undefined);
  return { deadlineMs, metadata, trace: undefined, peer: 'sim', certUser };
}

/**
 * A streaming call. What the gateway sends queues up to a mark while the client does not read, as HTTP/2's windows do.
 *
 *     gateway ──send──► queue ──(hop)──► onMessage         paused: the queue grows, the gateway is told to stop
 */
export class FrontStream {
  onMessage: (message: Uint8Array) => void = nothing;
  /** Once: the server ended it, or the gateway died. */
  onEnd: (reason: string) => void = nothing;
  private readonly client: SimHost;
  private readonly front: SimFront;
  private readonly server: ServerStream;
  private readonly highWaterBytes = 4_096;
  private queue: Uint8Array[] = [];
  private queuedBytes = 0;
  private over = false;
  private reading = true;
  private cancelled = false;
  private taking: Timer | undefined;

  constructor(client: FrontClient, front: SimFront, path: string) {
    const { token, certUser } = client;
    this.client = client.host;
    this.front = front;
    this.taking = undefined;
    this.server = {
      send: (pieces) => this.receive(concatBytes(pieces).slice()),
      queuedBytes: () => this.queuedBytes,
      end: (status) => this.end(status?.message ?? 'end'),
      onMessage: nothing,
      onHalfClose: nothing,
      onCancel: nothing,
      onDrain: nothing,
    };
    front.host.onKill(() => this.end('gateway died'));
    if (!front.host.alive) this.end('gateway is down');
    else {
      front.host.enqueue(hopMs, () => {
        if (!this.over) front.gateway!.stream(path, contextOf(undefined, token, certUser), this.server);
      });
    }
  }

  get isOver(): boolean {
    return this.over;
  }

  send(message: Uint8Array): void {
    this.front.host.enqueue(hopMs, () => {
      if (!this.over) this.server.onMessage(message);
    });
  }

  cancel(): void {
    if (this.over) return;
    this.over = true;
    this.cancelled = true;
    this.front.host.enqueue(hopMs, () => this.server.onCancel());
  }

  /** A client that does not read for a while. */
  pause(): void {
    this.reading = false;
  }

  resume(): void {
    if (this.reading) return;
    this.reading = true;
    this.take();
  }

  private receive(message: Uint8Array): boolean {
    this.queue.push(message);
    this.queuedBytes += message.length;
    this.take();
    return this.queuedBytes < this.highWaterBytes;
  }

  private take(): void {
    if (!this.reading || this.taking !== undefined || this.queue.length === 0) return;
    this.taking = this.client.enqueue(hopMs, () => {
      this.taking = undefined;
      if (!this.reading) return;
      const messages = this.queue;
      const wasFull = this.queuedBytes >= this.highWaterBytes;
      this.queue = [];
      this.queuedBytes = 0;
      for (const message of messages) if (!this.cancelled) this.onMessage(message);
      if (wasFull) this.front.host.enqueue(hopMs, () => this.drained());
    });
  }

  private drained(): void {
    if (!this.over) this.server.onDrain();
  }

  private end(reason: string): void {
    if (this.over) return;
    this.over = true;
    // What was sent before the end comes before it.
    this.client.enqueue(hopMs * 2, () => {
      if (!this.cancelled) this.onEnd(reason);
    });
  }
}
