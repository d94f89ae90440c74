import { type HealthReply, hexId, isUtf8 } from '@quoin/base';
import {
  decodeRequest,
  etcdErrors,
  Method,
  malformedRequest,
  type Rpc,
  type RpcStatus,
  readCompactionRequest,
  readLeaseGrantRequest,
  readLeaseKeepAliveRequest,
  readLeaseLeasesRequest,
  readLeaseRevokeRequest,
  readLeaseTimeToLiveRequest,
  rpcByPath,
  services,
  unimplemented,
} from '@quoin/contracts';
import { authRules } from '@quoin/contracts/auth';
import { AuthGuard } from './auth-guard.ts';
import { CallState, type Target } from './call.ts';
import { type GatewayConfig, type GatewayOptions, gatewayConfig, gatewayConfigError } from './config.ts';
import { type Forward, GatewayCore, wantsLeader } from './core.ts';
import { ElectionService } from './election.ts';
import { HealthService } from './health.ts';
import { HttpStatusPages } from './http-status.ts';
import { checkKv } from './kv.ts';
import { KeepAliveStream } from './lease.ts';
import { LockService } from './lock.ts';
import { SnapshotStream } from './maintenance.ts';
import { MemberRouter } from './member-router.ts';
import { ApiMetrics, type LinkGauge, LinkMetrics, type RpcCounts, WatchMetrics } from './metrics.ts';
import type { ApiHandler, CallContext, CancelCall, GatewayPorts, ServerStream, UnaryReply } from './ports.ts';
import { RangeStream } from './range-stream.ts';
import { rangesOf } from './request-ranges.ts';
import { SlowRequests } from './slow-requests.ts';
import { TopTalkers } from './top-talkers.ts';
import { type StreamHandler, TrackedStream } from './tracked-stream.ts';
import { WatchHub } from './watch-hub.ts';
import { WatchStream } from './watch-stream.ts';

export interface GatewayLinkStatus {
  readonly url: string;
  /** Undefined until the member has greeted. */
  readonly memberId: bigint | undefined;
  readonly name: string;
  readonly open: boolean;
}

/** What an operator sees of a gateway at one moment. */
export interface GatewayStatus {
  /** 0n until a member has told. */
  readonly clusterId: bigint;
  /** 0n: none known. */
  readonly leader: bigint;
  readonly term: number;
  /** The member that serves reads; 0n: none. */
  readonly home: bigint;
  /** The highest revision seen in any answer. */
  readonly revision: number;
  readonly links: readonly GatewayLinkStatus[];
  readonly watchStreams: number;
  readonly watchers: number;
}

/** A service that answers by itself. */
export type UnaryHandler = (request: Uint8Array, context: CallContext, reply: UnaryReply) => CancelCall;

interface UnaryRoute {
  readonly counts: RpcCounts;
  /** Undefined: known, but not served. */
  readonly forward: ((request: Uint8Array) => Forward | RpcStatus) | undefined;
  readonly handler: UnaryHandler | undefined;
}

type OpenStream = (context: CallContext, stream: ServerStream) => StreamHandler;

/** Metadata key that etcd's clients send. */
const clientVersionKey = 'client-api-version';

/** From so much of `maxWaitingRequests` or `maxWaitingBytes` on no more clients should be sent here. */
const readyFullRatio = 0.8;

const noCancel: CancelCall = () => undefined;

/** The stateless client API of a cluster. */
export class Gateway implements ApiHandler {
  readonly config: GatewayConfig;
  private readonly ports: GatewayPorts;
  private readonly core: GatewayCore;
  private readonly guard: AuthGuard;
  private readonly router: MemberRouter;
  private readonly hub: WatchHub;
  private readonly health: HealthService;
  private knownVersion: string | undefined;
  private readonly pages: HttpStatusPages;
  private readonly metrics: ApiMetrics;
  private readonly talkers: TopTalkers | undefined;
  private readonly slow: SlowRequests;
  private readonly routes = new Map<string, UnaryRoute>();
  private readonly streams = new Map<string, { readonly counts: RpcCounts; readonly open: OpenStream }>();
  private readonly openStreams = new Set<TrackedStream>();
  private turnBeganMs = 0;
  private turnKnown = false;
  private readonly turnOver = (): void => {
    this.turnKnown = false;
  };
  private unaryUnderWay = 0;
  private onIdle: (() => void) | undefined;
  private stopping = false;
  private draining = false;

  /** @throws Error with one line for the operator when the configuration is wrong. */
  constructor(options: GatewayOptions, ports: GatewayPorts) {
    this.config = gatewayConfig(options);
    this.ports = ports;
    const problem = gatewayConfigError(this.config);
    if (problem !== undefined) throw new Error(problem);
    const extensive = this.config.extensiveMetrics === true;
    this.metrics = new ApiMetrics(ports.metrics, extensive);
    this.talkers = extensive ? new TopTalkers(ports.metrics, ports.clock) : undefined;
    const linkMetrics = new LinkMetrics(ports.metrics, {
      hasLeader: () => (this.router.leader === 0n ? 0 : 1),
      open: () => this.router.allLinks().filter((link) => link.open).length,
      underWay: () => this.router.underWay(),
      links: () => linkGauges(this.router, ports.clock.monotonicMs()),
    });
    this.router = new MemberRouter(this.config, ports, linkMetrics, {
      onView: () => this.onView(),
      onFeed: (link, batch) => this.hub.onFeed(link, batch),
      onAuth: (view) => this.guard.onView(view),
    });
    this.guard = new AuthGuard(
      this.config,
      ports,
      () => this.router,
      () => {
        for (const stream of [...this.openStreams]) stream.handler?.onAuthChange?.();
      },
    );
    this.core = new GatewayCore(this.config, ports, this.router, this.guard);
    this.hub = new WatchHub(
      this.core,
      new WatchMetrics(ports.metrics, {
        streams: () => this.hub.streamCount,
        watchers: () => this.hub.watcherCount,
        slow: () => this.hub.slowCount(),
        pending: () => this.hub.pendingEvents(),
        lag: () => this.hub.lagRevisions(),
      }),
    );
    this.slow = new SlowRequests(ports.clock, ports.log, this.config.slowRequestMs, (context) =>
      this.userOf(context),
    );
    this.health = new HealthService(this.core, () => this.ready());
    this.pages = new HttpStatusPages(this.core, () => {
      if (this.draining || this.stopping) return 'the gateway stops';
      const { full } = this.router;
      if (full >= readyFullRatio)
        return `${Math.round(full * 100)} % of the room for waiting requests is taken`;
      return ports.burden?.();
    });
    this.addRoutes();
  }

  /** Dials the members. Calls are taken from now on. */
  start(): void {
    this.router.start();
  }

  /** Where members are looked for as long as none tells of the others. */
  setMemberUrls(urls: readonly string[]): void {
    this.router.setMemberUrls(urls);
  }

  /** Not ready from now on, so that no more clients are sent here; everything else goes on. */
  drain(): void {
    this.draining = true;
    this.health.onChange();
  }

  /** Refuses new calls, lets unary ones that are under way be answered for a while, ends streams as etcd does. */
  stop(cb: () => void): void {
    this.stopping = true;
    this.health.onChange();
    for (const stream of [...this.openStreams]) stream.handler?.end(stream.handler.stopStatus);
    const finish = (): void => {
      this.onIdle = undefined;
      timer.cancel();
      this.hub.stop();
      this.router.stop(etcdErrors.stopped);
      cb();
    };
    const timer = this.ports.timers.after(this.config.stopDrainMs, finish);
    this.onIdle = finish;
    if (this.unaryUnderWay === 0) this.core.later(() => this.onIdle?.());
  }

  /** A leader is known and a member serves reads. */
  ready(): boolean {
    return !this.stopping && !this.draining && this.router.leader !== 0n && this.router.home !== undefined;
  }

  /** Whether users have to say who they are, as far as this gateway knows. */
  get authEnabled(): boolean {
    return this.guard.enabled;
  }

  /** In whose name a call is, as far as it is known here: for logs and limits. */
  userOf(context: CallContext): string {
    return this.guard.enabled ? this.guard.callerName(context) : '';
  }

  status(): GatewayStatus {
    const { router } = this;
    return {
      clusterId: router.clusterId(),
      leader: router.leader,
      term: router.term,
      home: router.home?.memberId ?? 0n,
      revision: router.revision,
      links: router
        .allLinks()
        .map((link) => ({ url: link.url, memberId: link.memberId, name: link.name, open: link.open })),
      watchStreams: this.hub.streamCount,
      watchers: this.hub.watcherCount,
    };
  }

  unary(
    path: string,
    request: Uint8Array,
    context: CallContext,
    reply: UnaryReply,
    takesParts = false,
  ): CancelCall {
    const route = this.routes.get(path);
    if (route === undefined) return this.refuse(reply, this.unserved(path));
    const { counts } = route;
    const { metrics } = this;
    const startedMs = this.turnMs();
    const version = context.metadata(clientVersionKey);
    metrics.startUnary(counts, version, request.length);
    const isSampled = this.talkers?.sample() === true;
    this.unaryUnderWay++;
    const end: UnaryReply = (status, pieces, rest) => {
      let bytes = rest?.bytes ?? 0;
      for (let i = 0; i < pieces.length; i++) bytes += pieces[i]!.length;
      if (rest !== undefined) {
        reply(status, pieces, rest);
        rest.observe((last) => {
          this.countEnd(counts, last, bytes, startedMs, isSampled, path, request, context);
          this.checkIdle();
        });
        return;
      }
      this.countEnd(counts, status, bytes, startedMs, isSampled, path, request, context);
      reply(status, pieces);
      this.checkIdle();
    };
    if (this.stopping) return this.refuse(end, etcdErrors.stopped);
    if (this.unruled(path)) return this.refuse(end, etcdErrors.permissionDenied);
    if (!this.isText(version)) return this.refuse(end, etcdErrors.invalidClientAPIVersion);
    if (wantsLeader(context) && this.router.leader === 0n) return this.refuse(end, etcdErrors.noLeader);
    if (route.handler !== undefined) return this.handle(route, request, context, end);
    return this.forward(route, request, context, end, takesParts);
  }

  stream(path: string, context: CallContext, stream: ServerStream): void {
    const route = this.streams.get(path);
    if (route === undefined) {
      this.core.later(() => stream.end(this.unserved(path)));
      return;
    }
    this.metrics.startStream(route.counts, context.metadata(clientVersionKey));
    const tracked = new TrackedStream(
      this.core,
      stream,
      this.metrics,
      route.counts,
      wantsLeader(context),
      () => this.openStreams.delete(tracked),
    );
    this.openStreams.add(tracked);
    const refusal = this.stopping
      ? etcdErrors.stopped
      : this.unruled(path)
        ? etcdErrors.permissionDenied
        : !this.isText(context.metadata(clientVersionKey))
          ? etcdErrors.invalidClientAPIVersion
          : wantsLeader(context) && this.router.leader === 0n
            ? etcdErrors.noLeader
            : undefined;
    if (refusal !== undefined) this.core.later(() => tracked.end(refusal));
    else tracked.handler = route.open(context, tracked);
  }

  /**
   * GET of /health, /livez, /readyz (and their checks) and /version; 404 for any other path.
   * `query` maps each parameter to its values.
   */
  http(path: string, query: ReadonlyMap<string, readonly string[]>, cb: HealthReply): void {
    this.pages.get(path, query, cb);
  }

  /** The clock is read once a turn: what times of requests and slow ones need costs nothing for each of them. */
  private turnMs(): number {
    if (!this.turnKnown) {
      this.turnKnown = true;
      this.turnBeganMs = this.ports.clock.monotonicMs();
      this.ports.timers.endOfTurn(this.turnOver);
    }
    return this.turnBeganMs;
  }

  private countEnd(
    counts: RpcCounts,
    status: RpcStatus | null,
    bytes: number,
    startedMs: number,
    isSampled: boolean,
    path: string,
    request: Uint8Array,
    context: CallContext,
  ): void {
    this.unaryUnderWay--;
    const durationMs = this.turnMs() - startedMs;
    this.metrics.endUnary(counts, status === null ? 0 : status.code, bytes, durationMs);
    // Only now: whose a token is may have been asked meanwhile.
    if (isSampled) this.noteTalker(path, request, context);
    if (durationMs > this.config.slowRequestMs) this.slow.log(path, request, context, status, durationMs);
  }

  private noteTalker(path: string, request: Uint8Array, context: CallContext): void {
    this.talkers?.note(rangesOf(path, request)[0]?.key, this.userOf(context), request.length);
  }

  /** An RPC that nobody has made a rule for is for nobody while authentication is on. */
  private unruled(path: string): boolean {
    return this.guard.enabled && !authRules.has(path);
  }

  private unserved(path: string): RpcStatus {
    const rpc = rpcByPath.get(path);
    const status = unimplemented(path);
    if (rpc !== undefined) {
      const counts = this.metrics.of(rpc);
      counts.started++;
      counts.end(status.code);
    }
    return status;
  }

  /** Metadata comes as its bytes; all calls of a client name the same version. */
  private isText(version: string | undefined): boolean {
    if (version === undefined || version === this.knownVersion) return true;
    const bytes = Uint8Array.from(version, (letter) => letter.charCodeAt(0));
    if (!isUtf8(bytes)) return false;
    this.knownVersion = version;
    return true;
  }

  private refuse(reply: UnaryReply, status: RpcStatus): CancelCall {
    this.core.later(() => reply(status, []));
    return noCancel;
  }

  private handle(
    route: UnaryRoute,
    request: Uint8Array,
    context: CallContext,
    reply: UnaryReply,
  ): CancelCall {
    let over = false;
    const cancel = route.handler!(request, context, (status, pieces) => {
      if (over) return;
      over = true;
      reply(status, pieces);
    });
    return () => {
      if (over) return;
      over = true;
      cancel();
      this.abandon(route.counts);
    };
  }

  private forward(
    route: UnaryRoute,
    request: Uint8Array,
    context: CallContext,
    reply: UnaryReply,
    takesParts: boolean,
  ): CancelCall {
    let what: Forward | RpcStatus;
    try {
      what = route.forward!(request);
    } catch (error) {
      // WireError, or a plain Error of the generated reader.
      return this.refuse(reply, malformedRequest(error instanceof Error ? error.message : String(error)));
    }
    if ('code' in what) return this.refuse(reply, what);
    const done: UnaryReply =
      what.method !== Method.compact
        ? reply
        : (status, pieces) => {
            if (status === null) this.hub.onCompacted(request);
            reply(status, pieces);
          };
    const call = this.core.forward(what, request, context, done, undefined, takesParts);
    return () => {
      if (call.state === CallState.done) return;
      this.router.cancel(call);
      this.abandon(route.counts);
    };
  }

  /** The client has gone: its call counts as cancelled. */
  private abandon(counts: RpcCounts): void {
    this.unaryUnderWay--;
    counts.end(1);
    this.checkIdle();
  }

  private checkIdle(): void {
    if (this.unaryUnderWay === 0) this.onIdle?.();
  }

  private onView(): void {
    this.hub.onView();
    this.health.onChange();
    for (const stream of [...this.openStreams]) stream.onView();
  }

  private addRoutes(): void {
    const { maxTxnOps } = this.config;
    for (const rpc of services.flatMap((service) => service.rpcs)) {
      if (rpc.kind !== 'unary' || rpc.method === undefined) continue;
      this.addForward(rpc, rpc.method, maxTxnOps);
    }
    const election = new ElectionService(this.core, this);
    const lock = new LockService(this.core, this);
    for (const [path, handler] of [...this.health.handlers(), ...election.handlers(), ...lock.handlers()]) {
      this.routes.set(path, { counts: this.metrics.of(rpcByPath.get(path)!), forward: undefined, handler });
    }
    const open: [string, OpenStream][] = [
      ['/etcdserverpb.KV/RangeStream', (context, stream) => new RangeStream(this.core, context, stream)],
      [
        '/etcdserverpb.Watch/Watch',
        (context, stream) => new WatchStream(this.core, this.hub, context, stream),
      ],
      [
        '/etcdserverpb.Lease/LeaseKeepAlive',
        (context, stream) => new KeepAliveStream(this.core, context, stream),
      ],
      [
        '/etcdserverpb.Maintenance/Snapshot',
        (context, stream) => new SnapshotStream(this.core, context, stream),
      ],
      ['/grpc.health.v1.Health/Watch', (_, stream) => this.health.watch(stream)],
      ['/v3electionpb.Election/Observe', (context, stream) => election.observe(context, stream)],
    ];
    for (const [path, opener] of open) {
      this.streams.set(path, { counts: this.metrics.of(rpcByPath.get(path)!), open: opener });
    }
  }

  private addForward(rpc: Rpc, method: Method, maxTxnOps: number): void {
    const counts = this.metrics.of(rpc);
    const forward = (request: Uint8Array): Forward | RpcStatus => {
      if (method <= Method.compact) {
        const verdict = checkKv(method, request, maxTxnOps);
        if (typeof verdict !== 'string') return verdict;
        if (verdict === 'home') return reads[method]!;
        const physical = method === Method.compact && readCompactionRequest(request).physical;
        return physical ? physicalCompaction : writes[method]!;
      }
      const read = leaseReaders[method];
      if (read !== undefined) read(request);
      else decodeRequest(rpc.request, request);
      return fixed[method] ?? { method, target: 'leader', resend: false, bounded: true };
    };
    this.routes.set(rpc.path, { counts, forward, handler: undefined });
  }
}

function linkGauges(router: MemberRouter, nowMs: number): LinkGauge[] {
  const { revision } = router;
  return router.allLinks().flatMap((link) => {
    if (link.memberId === undefined || link.state === undefined) return [];
    const revisionLag = Math.max(0, revision - link.state.revision);
    return [{ member: hexId(link.memberId), revisionLag, silentMs: nowMs - link.heardMs }];
  });
}

function route(method: Method, target: Target, resend: boolean, bounded = true): Forward {
  return { method, target, resend, bounded };
}

const reads: Partial<Record<Method, Forward>> = {
  [Method.range]: route(Method.range, 'home', true),
  [Method.txn]: route(Method.txn, 'home', true),
};

const writes: Partial<Record<Method, Forward>> = {
  [Method.put]: route(Method.put, 'leader', false),
  [Method.deleteRange]: route(Method.deleteRange, 'leader', false),
  [Method.txn]: route(Method.txn, 'leader', false),
  [Method.compact]: route(Method.compact, 'leader', false),
};

/** The answer comes when the history has been removed. */
const physicalCompaction = route(Method.compact, 'leader', false, false);

/** All others go to the leader and are never sent again. Defragment and hashes take as long as they take. */
const fixed: Partial<Record<Method, Forward>> = {
  [Method.leaseTimeToLive]: route(Method.leaseTimeToLive, 'leader', true),
  [Method.leaseLeases]: route(Method.leaseLeases, 'home', true),
  [Method.memberList]: route(Method.memberList, 'home', true),
  [Method.status]: route(Method.status, 'home', true),
  // A password is compared by whoever is asked: the work is shared by all members.
  [Method.authenticate]: route(Method.authenticate, 'home', true),
  [Method.authStatus]: route(Method.authStatus, 'home', true),
  [Method.userGet]: route(Method.userGet, 'home', true),
  [Method.userList]: route(Method.userList, 'home', true),
  [Method.roleGet]: route(Method.roleGet, 'home', true),
  [Method.roleList]: route(Method.roleList, 'home', true),
  [Method.defragment]: route(Method.defragment, 'home', false, false),
  [Method.hash]: route(Method.hash, 'home', true, false),
  [Method.hashKV]: route(Method.hashKV, 'home', true, false),
};

const leaseReaders: Partial<Record<Method, (bytes: Uint8Array) => unknown>> = {
  [Method.leaseGrant]: readLeaseGrantRequest,
  [Method.leaseRevoke]: readLeaseRevokeRequest,
  [Method.leaseKeepAlive]: readLeaseKeepAliveRequest,
  [Method.leaseTimeToLive]: readLeaseTimeToLiveRequest,
  [Method.leaseLeases]: readLeaseLeasesRequest,
};
