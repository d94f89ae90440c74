/** The same `Gateway` that the apps run, on a machine of its own before a simulated cluster. */
import { type Log, MetricRegistry, Prng } from '@quoin/base';
import { type CallContext, Gateway, type GatewayLimits, type ServerStream } from '@quoin/gateway';
import { SimClock, SimHost, SimTimers } from './clock.ts';
import { linkAddress, peerUrl, type SimCluster } from './cluster.ts';

/** How a call through a gateway ended. */
export interface Reply {
  /** gRPC code; 0 = OK. */
  readonly code: number;
  readonly message: string;
  readonly body: Uint8Array;
}

/** One streaming call of a simulated client. */
export class SimStream {
  /** Messages of the server, oldest first. */
  readonly received: Uint8Array[] = [];
  /** Undefined until the server has ended the call. */
  ended: { readonly code: number; readonly message: string } | undefined;
  /** The server's side, as the gateway has it. */
  readonly server: ServerStream;

  constructor() {
    this.ended = undefined;
    this.server = {
      send: (pieces) => {
        const message = new Uint8Array(pieces.reduce((sum, piece) => sum + piece.length, 0));
        let at = 0;
        for (const piece of pieces) {
          message.set(piece, at);
          at += piece.length;
        }
        this.received.push(message);
        return true;
      },
      queuedBytes: () => 0,
      end: (status) => {
        this.ended = status ?? { code: 0, message: '' };
      },
      onMessage: () => {},
      onHalfClose: () => {},
      onCancel: () => {},
      onDrain: () => {},
    };
  }
}

/** `homeUrl`: the member that it reads from while that is healthy. */
export type SimGatewayOptions = Partial<GatewayLimits> & {
  readonly homeUrl?: string;
  readonly extensiveMetrics?: boolean;
};

export class SimGateway {
  readonly host: SimHost;
  readonly gateway: Gateway;
  readonly metrics = new MetricRegistry();
  /** What the next calls come with: a token, or the name in a verified certificate. */
  token = '';
  certUser = '';
  private readonly cluster: SimCluster;

  constructor(cluster: SimCluster, name: string, limits: SimGatewayOptions = {}) {
    this.cluster = cluster;
    this.host = new SimHost(cluster.scheduler, name);
    const clock = new SimClock(cluster.scheduler);
    const log: Log = { debug() {}, info() {}, warn() {}, error() {} };
    const addresses = new Map(cluster.nodes.map((node) => [peerUrl(node.name), linkAddress(node.name)]));
    this.gateway = new Gateway(
      { name, memberUrls: [...addresses.keys()], ...limits },
      {
        clock,
        timers: new SimTimers(this.host, clock),
        random: new Prng(cluster.prng.u32()),
        log,
        tracer: undefined,
        metrics: this.metrics,
        dial: (url) => cluster.network.dial(this.host, addresses.get(url) ?? url),
      },
    );
    this.gateway.start();
  }

  /** `path` such as /etcdserverpb.KV/Put. */
  unary(path: string, request: Uint8Array, cb: (reply: Reply) => void): void {
    this.gateway.unary(path, request, this.context(), (status, pieces) => {
      const body = new Uint8Array(pieces.reduce((sum, piece) => sum + piece.length, 0));
      let at = 0;
      for (const piece of pieces) {
        body.set(piece, at);
        at += piece.length;
      }
      cb({ code: status?.code ?? 0, message: status?.message ?? '', body });
    });
  }

  /** Runs the world until the answer is there. */
  call(path: string, request: Uint8Array): Reply {
    let reply: Reply | undefined;
    this.unary(path, request, (r) => {
      reply = r;
    });
    this.cluster.runUntil(() => reply !== undefined, 60_000);
    if (reply === undefined) throw new Error('no answer at all');
    return reply;
  }

  stream(path: string): SimStream {
    const stream = new SimStream();
    this.gateway.stream(path, this.context(), stream.server);
    return stream;
  }

  private context(): CallContext {
    const { token, certUser } = this;
    return {
      deadlineMs: undefined,
      metadata: (key) => (key === 'token' && token !== '' ? token : undefined),
      trace: undefined,
      peer: '127.0.0.1:1',
      certUser,
    };
  }
}
