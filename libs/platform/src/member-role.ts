/** The member of this process: ports put together, peer port bound, one call to stop it all. */
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { type Channel, type HealthCheck, HealthPages, MetricRegistry } from '@quoin/base';
import { clusterVersion, Member, type MemberPorts, serverVersion, storageVersion } from '@quoin/member';
import { RealClock } from './clock.ts';
import type { NodeConfig } from './config/node-config.ts';
import { prepare, walPath, withFullPaths } from './data-dir.ts';
import { RealDigest } from './digest.ts';
import { discoverCluster } from './discovery.ts';
import { RealDisk } from './disk.ts';
import { mountDisk, withoutSync } from './disk-options.ts';
import { openDataKey } from './encryption/data-key.ts';
import { KeyRing } from './encryption/key-ring.ts';
import { SealedBackends } from './encryption/sealed-backends.ts';
import { InternalServer, peerPath } from './grpc-channel.ts';
import { httpRoutes, type RouteTable } from './http-routes.ts';
import { Listener } from './listener.ts';
import type { Logger } from './logger.ts';
import { BcryptPasswords } from './passwords.ts';
import { metricsContentType, metricsPage } from './process-metrics.ts';
import { RealRandom } from './random.ts';
import { RocksBackends } from './rocks-backend.ts';
import { endProcess, programOf } from './run.ts';
import { openSigner } from './signer.ts';
import { dialStream } from './stream-channel.ts';
import { startTelemetry, type Telemetry } from './telemetry/telemetry.ts';
import { RealTimers } from './timers.ts';
import type { TlsPlanes } from './tls/node-tls.ts';

export interface MemberRole {
  readonly member: Member;
  readonly metrics: MetricRegistry;
  /** Ports bound for the peer URLs, in order. */
  readonly peerPorts: readonly number[];
  readonly telemetry: Telemetry | undefined;
  /** Resolves once the member has joined its cluster and can serve. */
  ready(): Promise<void>;
  /** Hands over the lead, makes the state durable, closes. */
  stop(): Promise<void>;
}

/**
 * Binds the peer URLs, opens the data directory and starts the member.
 *
 * @param dataDir absolute, locked by the caller
 * @throws Error with one line for the operator
 */
export async function startMember(
  config: NodeConfig,
  dataDir: string,
  log: Logger,
  tls: TlsPlanes,
): Promise<MemberRole> {
  config = await withDiscovered(config, dataDir);
  const metrics = new MetricRegistry();
  const telemetry =
    config.tracing === undefined
      ? undefined
      : await startTelemetry(config.tracing, {
          service: 'quoin-member',
          version: serverVersion,
          log,
          metrics,
        });
  // Streams that arrive before the member is open are refused: their dialler tries again.
  let member: Member | undefined;
  const take = (deliver: (member: Member, channel: Channel) => void) => (channel: Channel) => {
    if (member === undefined) channel.close();
    else deliver(member, channel);
  };
  const internal = new InternalServer({
    onPeer: take((to, channel) => to.acceptPeer(channel)),
    onLink: take((to, channel) => to.acceptLink(channel)),
    admits: tls.admits,
  });
  const listener = new Listener({
    onHttp2: (socket) => internal.accept(socket),
    onHttp1: httpRoutes(peerRoutes()),
    onUpgrade: (request, socket, head) => internal.upgrade(request, socket, head),
    tls: tls.peer,
    reusePort: config.socketReusePort,
  });
  const peerPorts = await listener.listen(config.listenPeerUrls);
  try {
    member = await openMember(config, memberPorts(config, dataDir, log, metrics, telemetry, tls));
  } catch (error) {
    listener.destroy();
    internal.stop();
    throw operatorError(error, config, dataDir);
  }
  const opened = member;
  return {
    member: opened,
    metrics,
    peerPorts,
    telemetry,
    ready: () => new Promise((resolve) => opened.onceReady(resolve)),
    stop: async () => {
      // Peers and gateways stay connected while the lead is handed over.
      await new Promise<void>((resolve) => opened.stop(resolve));
      listener.close();
      internal.stop();
      listener.destroy();
      await telemetry?.shutdown();
    },
  };
}

function operatorError(error: unknown, config: NodeConfig, dataDir: string): unknown {
  if (error instanceof Error) error.message = withFullPaths(error.message, dataDir, config.walDir);
  return error;
}

/** etcd's. */
const leaseCheckpointIntervalMs = 300_000;

const plain = 'text/plain; charset=utf-8';
const json = 'application/json';

const versionBody = JSON.stringify({
  etcdserver: serverVersion,
  etcdcluster: clusterVersion,
  storage: storageVersion,
});

/** What the peer port answers over plain HTTP. */
function peerRoutes(): RouteTable {
  return { exact: { '/version': (_query, reply) => reply(200, json, versionBody) }, fallback: undefined };
}

/** What a member without clients answers on its metrics URLs: probes as a whole etcd would. */
export function memberRoutes(
  role: MemberRole,
  registries: readonly MetricRegistry[],
  log: Logger,
  more: Readonly<Record<string, HealthCheck>>,
): RouteTable {
  const { livez, readyz, health } = role.member.health;
  const pages = new HealthPages({
    livez,
    readyz: { ...readyz, ...more },
    health,
    registry: role.metrics,
    clock: new RealClock(),
    log,
  });
  return {
    exact: { '/metrics': (_query, reply) => reply(200, metricsContentType, metricsPage(registries)) },
    fallback: (query, reply, path) => {
      if (path === '/version') reply(200, json, versionBody);
      else if (!pages.get(path, query, reply)) reply(404, plain, '404 page not found\n');
    },
  };
}

/** The records are asked for the first start alone; from then on the directory knows the cluster. */
async function withDiscovered(config: NodeConfig, dataDir: string): Promise<NodeConfig> {
  if (config.discoverySrv === undefined || isBegun(config, dataDir)) return config;
  return { ...config, initialCluster: await discoverCluster(config.discoverySrv, config) };
}

function isBegun(config: NodeConfig, dataDir: string): boolean {
  return holdsFiles(config.walDir === '' ? join(dataDir, walPath) : config.walDir);
}

function openMember(config: NodeConfig, ports: MemberPorts): Promise<Member> {
  return new Promise((resolve, reject) => {
    Member.open(
      {
        name: config.name,
        initialCluster: config.initialCluster,
        clusterToken: config.initialClusterToken,
        initialClusterState: config.initialClusterState,
        advertisePeerUrls: config.initialAdvertisePeerUrls,
        advertiseClientUrls: config.advertiseClientUrls,
        zone: config.zone,
        heartbeatIntervalMs: config.heartbeatIntervalMs,
        electionTimeoutMs: config.electionTimeoutMs,
        preVote: config.preVote,
        leaseReads: config.leaseReads,
        snapshotCount: config.snapshotCount,
        snapshotCatchupEntries: config.snapshotCatchupEntries,
        maxLearners: config.maxLearners,
        maxRequestBytes: config.maxRequestBytes,
        quotaBackendBytes: config.quotaBackendBytes,
        slowApplyMs: config.warningApplyDurationMs,
        slowRequestMs: config.warningUnaryRequestDurationMs,
        corruptCheckIntervalMs: config.corruptCheckIntervalMs,
        initialCorruptCheck: config.gates.InitialCorruptCheck,
        leaseCheckpointIntervalMs: config.gates.LeaseCheckpoint ? leaseCheckpointIntervalMs : 0,
        autoCompactionMode: config.autoCompactionMode,
        autoCompactionRetention: config.autoCompactionRetention,
        compactionBatchLimit: config.compactionBatchLimit,
        compactionSleepIntervalMs: config.compactionSleepIntervalMs,
        authTokenTtlSeconds: config.authTokenTtlSeconds,
        ...(config.fairUse === undefined ? {} : { fairUse: config.fairUse }),
      },
      ports,
      (error, member) => {
        if (error !== null) reject(error);
        else resolve(member!);
      },
    );
  });
}

function holdsFiles(dir: string): boolean {
  return existsSync(dir) && readdirSync(dir).length > 0;
}

function memberPorts(
  config: NodeConfig,
  dataDir: string,
  log: Logger,
  metrics: MetricRegistry,
  telemetry: Telemetry | undefined,
  tls: TlsPlanes,
): MemberPorts {
  let disk: MemberPorts['disk'] = new RealDisk(dataDir);
  if (config.walDir !== '') {
    prepare(config.walDir, 'WAL directory');
    disk = mountDisk(disk, walPath, new RealDisk(config.walDir));
  }
  if (config.unsafeNoFsync) disk = withoutSync(disk);
  const signer = openSigner(config.authToken);
  const ring = KeyRing.read(config.encryption);
  const sealer = openDataKey(dataDir, ring, isBegun(config, dataDir), log);
  const backends = new RocksBackends(dataDir);
  return {
    clock: new RealClock(),
    timers: new RealTimers(),
    random: new RealRandom(),
    log,
    tracer: telemetry?.tracer,
    metrics,
    digest: new RealDigest(),
    passwords: new BcryptPasswords({ cost: config.bcryptCost }),
    ...(signer === undefined ? {} : { signer }),
    disk,
    backends: sealer === undefined ? backends : new SealedBackends(backends, sealer),
    sealer,
    dialPeer: (url) => dialStream(url, peerPath, tls.dialer),
    fatal: (reason) => endProcess(programOf(config.role), log, withFullPaths(reason, dataDir, config.walDir)),
  };
}
