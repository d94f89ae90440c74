/** The gateway of this process: ports put together, client port bound, one call to stop it all. */
import type { Socket } from 'node:net';
import { setTimeout } from 'node:timers/promises';
import { TLSSocket } from 'node:tls';
import { type Channel, type HealthCheck, MetricRegistry } from '@quoin/base';
import { type ApiHandler, AuditedApi, FairApi, Gateway, JsonApi } from '@quoin/gateway';
import { AuditFile } from './audit-file.ts';
import { Burden } from './burden.ts';
import { RealClock } from './clock.ts';
import type { NodeConfig } from './config/node-config.ts';
import { followRecords } from './discovery.ts';
import { linkPath } from './grpc-channel.ts';
import { httpRoutes, plainRoutes, type RouteTable } from './http-routes.ts';
import { ClientHttp } from './json-routes.ts';
import { Listener } from './listener.ts';
import { localChannelPair } from './local-channel.ts';
import type { Logger } from './logger.ts';
import type { MemberRole } from './member-role.ts';
import { metricsContentType, metricsPage } from './process-metrics.ts';
import { RealRandom } from './random.ts';
import { RpcEdge } from './rpc-edge.ts';
import { dialStream } from './stream-channel.ts';
import { startTelemetry } from './telemetry/telemetry.ts';
import { RealTimers } from './timers.ts';
import type { TlsPlanes } from './tls/node-tls.ts';
import { commonName, peerCertificate } from './tls/peer-identity.ts';
import { releaseVersion } from './version.ts';

export interface GatewayRole {
  readonly gateway: Gateway;
  readonly metrics: MetricRegistry;
  /** Ports bound for the client URLs, in order. */
  readonly clientPorts: readonly number[];
  /** Resolves once a leader is known and a member serves reads. */
  ready(): Promise<void>;
  /** Says from now on that it is not ready, and serves for `delayMs` whoever has not noticed yet. */
  drain(delayMs: number): Promise<void>;
  /** Refuses new calls, answers those under way within a bound, closes. */
  stop(): Promise<void>;
}

/** What calls under way get after the gateway itself has let go of them. */
const stopGraceMs = 500;
const readyPollMs = 5;

/**
 * Binds the client URLs and starts the gateway.
 *
 * @param home the member in this process, which is then reached without a socket
 * @param checks more of /readyz
 * @param pages registries of other roles of this process for /metrics
 * @throws Error with one line for the operator
 */
export async function startGateway(
  config: NodeConfig,
  log: Logger,
  home: MemberRole | undefined,
  pages: readonly MetricRegistry[],
  tls: TlsPlanes,
  checks: Readonly<Record<string, HealthCheck>> = {},
): Promise<GatewayRole> {
  const metrics = new MetricRegistry();
  const telemetry =
    config.tracing === undefined
      ? undefined
      : await startTelemetry(config.tracing, {
          service: 'quoin-gateway',
          version: releaseVersion,
          log,
          metrics,
          counts: home?.telemetry?.counts,
        });
  const timers = new RealTimers();
  const homeUrl = home === undefined ? undefined : config.initialAdvertisePeerUrls[0];
  const dial = (url: string): Channel => {
    if (home === undefined || url !== homeUrl) return dialStream(url, linkPath, tls.dialer);
    const [here, there] = localChannelPair(timers);
    home.member.acceptLink(there);
    return here;
  };
  const clock = new RealClock();
  const srv = config.role === 'gateway' ? config.discoverySrv : undefined;
  const { readyMaxLoopDelayMs: maxLoopDelayMs, readyMaxConnections: maxConnections } = config;
  const burden = new Burden({ maxLoopDelayMs, maxConnections }, () => edge.size);
  const gateway = new Gateway(
    {
      name: config.name,
      memberUrls: memberUrls(config),
      discovers: srv !== undefined,
      clientUrls: config.role === 'gateway' ? config.advertiseClientUrls : [],
      zone: config.zone,
      ...(homeUrl === undefined ? {} : { homeUrl }),
      maxRequestBytes: config.maxRequestBytes,
      maxTxnOps: config.maxTxnOps,
      requestTimeoutMs: 5_000 + 2 * config.electionTimeoutMs,
      noLeaderTimeoutMs: 3 * config.electionTimeoutMs,
      progressNotifyIntervalMs: config.watchProgressNotifyIntervalMs,
      slowRequestMs: config.warningUnaryRequestDurationMs,
      extensiveMetrics: config.metrics === 'extensive',
    },
    {
      clock,
      timers,
      random: new RealRandom(),
      log,
      tracer: telemetry?.tracer,
      metrics,
      dial,
      checks: {
        livez: home?.member.health.own.livez ?? {},
        readyz: { ...home?.member.health.own.readyz, ...checks },
      },
      burden: () => burden.reason(),
    },
  );
  const auditFile =
    config.audit === undefined ? undefined : new AuditFile(config.audit.file, config.name, log);
  // Outermost what sees the most: a request that is over its limit is in the audit log, too.
  const { fairUse } = config;
  const fair = fairUse === undefined ? gateway : new FairApi(gateway, { clock, timers, fairUse });
  const audited = {
    unary: fair.unary.bind(fair),
    stream: fair.stream.bind(fair),
    userOf: gateway.userOf.bind(gateway),
  };
  const api: ApiHandler =
    auditFile === undefined
      ? fair
      : new AuditedApi(audited, { clock, sink: auditFile, reads: config.audit!.reads });
  const routes = clientRoutes(gateway, [...pages, metrics]);
  const span = telemetry?.edge.bind(telemetry);
  const certUser = config.clientCertAuth ? certificateUser : () => '';
  const http = new ClientHttp({
    certUser,
    refusesCertUsers: () => gateway.authEnabled,
    access: { cors: config.cors, hostWhitelist: config.hostWhitelist },
    json: config.enableGrpcGateway
      ? new JsonApi(api, { maxRequestBytes: config.maxRequestBytes }, { clock, timers, span })
      : undefined,
    onHttp1: httpRoutes(routes),
    plain: plainRoutes(routes),
    onRefusedHost: (host) => log.warn('rejecting HTTP request to prevent DNS rebinding attacks', { host }),
  });
  const edge = new RpcEdge(api, {
    maxRequestBytes: config.maxRequestBytes,
    maxConcurrentStreams: config.maxConcurrentStreams,
    keepaliveMinTimeMs: config.grpcKeepaliveMinTimeMs,
    keepaliveIntervalMs: config.grpcKeepaliveIntervalMs,
    keepaliveTimeoutMs: config.grpcKeepaliveTimeoutMs,
    maxConnectionAgeMs: config.maxConnectionAgeMs,
    maxConnectionAgeGraceMs: config.maxConnectionAgeGraceMs,
    telemetry,
    certUser,
    plain: http.onPlain,
    plainStream: http.onPlainStream,
  });
  const listener = new Listener({
    onHttp2: (socket) => edge.accept(socket),
    onHttp1: http.onHttp1,
    tls: tls.client,
    reusePort: config.socketReusePort,
    maxConnectionAgeMs: config.maxConnectionAgeMs,
    maxConnectionAgeGraceMs: config.maxConnectionAgeGraceMs,
  });
  const clientPorts = await listener.listen(config.listenClientUrls);
  gateway.start();
  const endRecords =
    srv === undefined ? () => {} : followRecords(srv, log, (urls) => gateway.setMemberUrls(urls));
  return {
    gateway,
    metrics,
    clientPorts,
    ready: () =>
      new Promise((resolve) => {
        const poll = setInterval(() => {
          if (!gateway.ready()) return;
          clearInterval(poll);
          resolve();
        }, readyPollMs);
        poll.unref();
      }),
    drain: async (delayMs) => {
      gateway.drain();
      if (delayMs > 0) await setTimeout(delayMs);
    },
    stop: async () => {
      endRecords();
      gateway.drain();
      burden.stop();
      listener.close();
      // Clients go on elsewhere by themselves with what they have not sent yet.
      edge.drain();
      await new Promise<void>((resolve) => gateway.stop(resolve));
      await new Promise<void>((resolve) => edge.stop(stopGraceMs, resolve));
      listener.destroy();
      await auditFile?.close();
      await telemetry?.shutdown();
    },
  };
}

/** The common name of the certificate that a client has shown, when it was found good. */
function certificateUser(socket: Socket): string {
  if (!(socket instanceof TLSSocket) || !socket.authorized) return '';
  const certificate = peerCertificate(socket);
  return certificate === undefined ? '' : commonName(certificate);
}

function memberUrls(config: NodeConfig): string[] {
  if (config.role === 'gateway') return [...new Set(config.members)];
  return config.initialCluster.flatMap((member) => member.peerUrls.slice(0, 1));
}

/** What a client port answers over plain HTTP, beside the JSON API. */
export function clientRoutes(gateway: Gateway, registries: readonly MetricRegistry[]): RouteTable {
  return {
    exact: { '/metrics': (_query, reply) => reply(200, metricsContentType, metricsPage(registries)) },
    fallback: (query, reply, path) => gateway.http(path, query, reply),
  };
}
