/** The three processes that serve: which roles each holds, in which order they start and stop. */
import { hexId, MetricRegistry } from '@quoin/base';
import { clusterVersion, serverVersion } from '@quoin/member';
import { gateStates } from './config/feature-gates.ts';
import type { NodeConfig } from './config/node-config.ts';
import { hostPort, type NodeUrl } from './config/urls.ts';
import { DataDir } from './data-dir.ts';
import { clientRoutes, type GatewayRole, startGateway } from './gateway-role.ts';
import type { RouteTable } from './http-routes.ts';
import type { Logger } from './logger.ts';
import { LoopWatch } from './loop-watch.ts';
import { type MemberRole, memberRoutes, startMember } from './member-role.ts';
import { startMetrics } from './metrics-http.ts';
import { addLogMetrics, addProcessMetrics } from './process-metrics.ts';
import type { Running } from './run.ts';
import { openTls, type TlsPlanes } from './tls/node-tls.ts';

/** etcd's words, which supervisors and test frameworks wait for. */
export const readyMessage = 'ready to serve client requests';

/** A started node, for apps that print where it listens. */
export interface Node extends Running {
  /** URLs with the ports that were really bound. */
  readonly clientUrls: readonly string[];
  readonly peerUrls: readonly string[];
  /** Resolves when requests are served. */
  readonly ready: Promise<void>;
}

/** A replica alone: peers and gateways on the peer port. */
export async function startMemberNode(config: NodeConfig, log: Logger): Promise<Node> {
  const registry = processRegistry(config, log);
  const { dir, tls, member } = await openMember(config, log);
  const watch = new LoopWatch();
  const routes = memberRoutes(member, [member.metrics, registry], log, { event_loop: watch.check });
  const stopMetrics = await serveMetrics(config, routes, member, tls, log);
  const peerUrls = boundUrls(config.listenPeerUrls, member.peerPorts);
  log.info('serving peers and gateways', { name: config.name, 'peer-urls': peerUrls, 'data-dir': dir.path });
  return {
    clientUrls: [],
    peerUrls,
    ready: member.ready().then(() => log.info(readyMessage, { name: config.name, role: 'member' })),
    describe: () => memberLine(member),
    stop: async () => {
      watch.stop();
      stopMetrics();
      await member.stop();
      dir.release();
    },
  };
}

/** A stateless server of the client API. */
export async function startGatewayNode(config: NodeConfig, log: Logger): Promise<Node> {
  const registry = processRegistry(config, log);
  const tls = openTls(config, log);
  const watch = new LoopWatch();
  const checks = { event_loop: watch.check };
  const gateway = await startGateway(config, log, undefined, [registry], tls, checks);
  const routes = clientRoutes(gateway.gateway, [gateway.metrics, registry]);
  const stopMetrics = await serveMetrics(config, routes, gateway, tls, log);
  const clientUrls = boundUrls(config.listenClientUrls, gateway.clientPorts);
  log.info('serving clients', { name: config.name, 'client-urls': clientUrls, members: config.members });
  return {
    clientUrls,
    peerUrls: [],
    ready: gateway.ready().then(() => log.info(readyMessage, { name: config.name, role: 'gateway' })),
    describe: () => gatewayLine(gateway),
    stopDelayMs: config.shutdownDelayMs,
    stop: async () => {
      watch.stop();
      // Metrics last: what asks whether it is ready is to hear that it is not.
      await gateway.drain(config.shutdownDelayMs);
      await gateway.stop();
      stopMetrics();
    },
  };
}

/** Every role in one process, as etcd is. The gateway leaves first and needs the member to answer what is under way. */
export async function startQuoinNode(config: NodeConfig, log: Logger): Promise<Node> {
  const registry = processRegistry(config, log);
  const { dir, tls, member } = await openMember(config, log);
  const watch = new LoopWatch();
  let gateway: GatewayRole;
  let stopMetrics: () => void;
  try {
    const checks = { event_loop: watch.check };
    gateway = await startGateway(config, log, member, [member.metrics, registry], tls, checks);
    const routes = clientRoutes(gateway.gateway, [gateway.metrics, member.metrics, registry]);
    stopMetrics = await serveMetrics(config, routes, gateway, tls, log);
  } catch (error) {
    await member.stop();
    dir.release();
    throw error;
  }
  const clientUrls = boundUrls(config.listenClientUrls, gateway.clientPorts);
  const peerUrls = boundUrls(config.listenPeerUrls, member.peerPorts);
  log.info('serving', {
    name: config.name,
    'client-urls': clientUrls,
    'peer-urls': peerUrls,
    'data-dir': dir.path,
  });
  return {
    clientUrls,
    peerUrls,
    ready: Promise.all([member.ready(), gateway.ready()]).then(() =>
      log.info(readyMessage, { name: config.name }),
    ),
    describe: () => memberLine(member),
    stopDelayMs: config.shutdownDelayMs,
    stop: async () => {
      watch.stop();
      await gateway.drain(config.shutdownDelayMs);
      await gateway.stop();
      stopMetrics();
      await member.stop();
      dir.release();
    },
  };
}

/** Certificates are read before anything is bound; the ones that are made are kept in the data directory. */
async function openMember(
  config: NodeConfig,
  log: Logger,
): Promise<{ dir: DataDir; tls: TlsPlanes; member: MemberRole }> {
  const dir = DataDir.open(config.dataDir);
  try {
    const tls = openTls(config, log);
    return { dir, tls, member: await startMember(config, dir.path, log, tls) };
  } catch (error) {
    dir.release();
    throw error;
  }
}

/** For `systemctl status`: what one looks for first. */
function memberLine({ member }: MemberRole): string {
  const { role, leader, members, learner, errors } = member.status();
  const leads = members.find(({ id }) => id === leader);
  const following =
    leads === undefined ? 'no leader' : `follows ${leads.name || hexId(leads.id)}, the leader`;
  const what = role === 'leader' ? 'leader' : learner ? `learner, ${following}` : following;
  return [
    what,
    `${members.length} ${members.length === 1 ? 'member' : 'members'}`,
    ...errors.slice(0, 1),
  ].join(', ');
}

function gatewayLine({ gateway }: GatewayRole): string {
  const { home, leader, links } = gateway.status();
  const named = (id: bigint): string => links.find(({ memberId }) => memberId === id)?.name ?? hexId(id);
  const reads = home === 0n ? 'no member that serves reads' : `reads from ${named(home)}`;
  return `${reads}, ${leader === 0n ? 'no leader' : `leader ${named(leader)}`}`;
}

function processRegistry(config: NodeConfig, log: Logger): MetricRegistry {
  const registry = new MetricRegistry();
  addProcessMetrics(registry, config.metrics === 'extensive');
  addServerMetrics(registry, config);
  addLogMetrics(registry, log);
  return registry;
}

/** Which software runs, by etcd's names. */
function addServerMetrics(registry: MetricRegistry, config: NodeConfig): void {
  const one = (name: string, help: string, label: string, value: string): void => {
    registry.gauges(name, help, [label]).set([value], 1);
  };
  one('etcd_server_version', 'Release of etcd whose API is served.', 'server_version', serverVersion);
  const minor = clusterVersion.split('.').slice(0, 2).join('.');
  one('etcd_cluster_version', 'Version of the cluster.', 'cluster_version', minor);
  one('etcd_server_go_version', 'No Go: the version of Node.', 'server_go_version', `node${process.version}`);
  const features = registry.gauges('etcd_server_feature_enabled', '1 for a feature gate that is on.', [
    'name',
    'stage',
  ]);
  for (const { name, stage, on } of gateStates(config.gates)) features.set([name, stage], on ? 1 : 0);
}

async function serveMetrics(
  config: NodeConfig,
  routes: RouteTable,
  role: MemberRole | GatewayRole,
  tls: TlsPlanes,
  log: Logger,
): Promise<() => void> {
  if (config.listenMetricsUrls.length === 0) return () => {};
  try {
    const server = await startMetrics(config.listenMetricsUrls, routes, tls.client, log);
    return () => server.stop();
  } catch (error) {
    await role.stop();
    throw error;
  }
}

/** As configured, with the port that was really bound in place of 0. */
function boundUrls(urls: readonly NodeUrl[], ports: readonly number[]): string[] {
  return urls.map((url, i) => `${url.scheme}://${hostPort(url.host, ports[i] ?? url.port)}`);
}
