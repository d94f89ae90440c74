/**
 * A Quoin cluster of separate processes on this machine, for end-to-end tests, the bench and `npm run cluster`.
 *
 *     const cluster = await startCluster({ members: 3, gateways: 2 });
 *     await cluster.kill(0);          // SIGKILL to the first member
 *     await cluster.restart(0);       // and back, on the same data and ports
 *     await cluster.stop();
 */
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { Child, repositoryRoot } from './child.ts';
import { freePorts } from './ports.ts';

export interface ClusterOptions {
  /** Default 3. */
  readonly members?: number;
  /** Default 2. */
  readonly gateways?: number;
  /** Starts the backup worker too, when there is one. Default false. */
  readonly backup?: boolean;
  /** Below it each process has its own directory. Default: a temporary one, removed by `stop`. */
  readonly dataDir?: string;
  /**
   * Gateway i listens on basePort + 10000 i, member i on basePort + 1 + 10000 i (metrics + 2); 10 instead of 10000
   * where that would leave the range of ports. Default: free ports.
   */
  readonly basePort?: number;
  readonly token?: string;
  /** Of peer and client URLs; https needs certificates in the flags below. Default http. */
  readonly scheme?: 'http' | 'https';
  /**
   * The port at which peers and gateways reach a member, in place of the one that it listens on: a proxy's, say.
   * Members advertise it.
   */
  readonly peerFront?: (name: string, port: number) => Promise<number>;
  /** Gateways tell where they are, in place of members that are told where gateways are. Default false. */
  readonly gatewaysAdvertise?: boolean;
  /** More flags for every process of a role. */
  readonly memberArgs?: readonly string[];
  readonly gatewayArgs?: readonly string[];
  readonly backupArgs?: readonly string[];
  /** The program of a role in place of its sources: a bundle, say. */
  readonly program?: (role: 'member' | 'gateway' | 'backup') => string;
  readonly env?: Readonly<Record<string, string>>;
  /** Default 30 s. */
  readonly readyTimeoutMs?: number;
  readonly onLine?: (name: string, line: string) => void;
  readonly onDeath?: (name: string, how: string) => void;
}

export interface ClusterMember extends Child {
  /** Where it listens, whatever it advertises. */
  readonly peerUrl: string;
  readonly metricsUrl: string;
  readonly dataDir: string;
}

export interface ClusterBackup extends Child {
  readonly metricsUrl: string;
}

export interface ClusterGateway extends Child {
  /** host:port for clients. */
  readonly endpoint: string;
  /** For HTTP: /health, /metrics. */
  readonly url: string;
}

export interface Cluster {
  readonly dataDir: string;
  readonly members: readonly ClusterMember[];
  readonly gateways: readonly ClusterGateway[];
  readonly backup: ClusterBackup | undefined;
  /** Of all gateways, host:port. */
  readonly endpoints: readonly string[];
  readonly initialCluster: string;
  /** Sends a signal to a member (SIGKILL unless told otherwise) and waits for its end if it ends by it. */
  kill(member: number, signal?: NodeJS.Signals): Promise<void>;
  /** Starts a member again that was killed, and waits until it serves. */
  restart(member: number): Promise<void>;
  /** Everything that all processes wrote, each line with its process' name. */
  logs(): string;
  /** Gateways first, then the backup worker, then members. Safe to call twice. */
  stop(): Promise<void>;
}

const readyText = 'ready to serve client requests';
const readyTimeoutMsDefault = 30_000;
const backupScript = 'apps/backup/src/main.ts';

/** Starts all processes at once and resolves when each one serves. On failure everything is stopped again. */
export async function startCluster(options: ClusterOptions = {}): Promise<Cluster> {
  const plan = await planCluster(options);
  const { members, gateways, backup } = plan;
  const all = [...members, ...gateways, ...(backup === undefined ? [] : [backup])];
  const stop = async (): Promise<void> => {
    await Promise.all(gateways.map((gateway) => gateway.stop()));
    await backup?.stop();
    await Promise.all(members.map((member) => member.stop()));
    if (options.dataDir === undefined) rmSync(plan.dataDir, { recursive: true, force: true });
  };
  const timeoutMs = options.readyTimeoutMs ?? readyTimeoutMsDefault;
  try {
    for (const child of all) child.start();
    await Promise.all(all.map((child) => child.ready(timeoutMs)));
  } catch (error) {
    await stop();
    throw error;
  }
  return {
    ...plan,
    endpoints: gateways.map((gateway) => gateway.endpoint),
    kill: async (member, signal) => {
      await members[member]!.kill(signal);
    },
    restart: async (member) => {
      members[member]!.start();
      await members[member]!.ready(timeoutMs);
    },
    logs: () => all.flatMap((child) => child.logs().map((line) => `${child.name} | ${line}`)).join('\n'),
    stop,
  };
}

type Plan = Pick<Cluster, 'dataDir' | 'members' | 'gateways' | 'backup' | 'initialCluster'>;

async function planCluster(options: ClusterOptions): Promise<Plan> {
  const memberCount = options.members ?? 3;
  const gatewayCount = options.gateways ?? 2;
  const ports = await choosePorts(options.basePort, memberCount, gatewayCount);
  const dataDir =
    options.dataDir === undefined ? mkdtempSync(join(tmpdir(), 'quoin-cluster-')) : resolve(options.dataDir);
  const scheme = options.scheme ?? 'http';
  const peerUrls = ports.peers.map((port) => `${scheme}://127.0.0.1:${port}`);
  const frontPorts = await Promise.all(
    ports.peers.map((port, i) => options.peerFront?.(`m${i + 1}`, port) ?? port),
  );
  const advertisedUrls = frontPorts.map((port) => `${scheme}://127.0.0.1:${port}`);
  const initialCluster = advertisedUrls.map((url, i) => `m${i + 1}=${url}`).join(',');
  const shared = { readyText, env: options.env ?? {}, onLine: options.onLine, onDeath: options.onDeath };
  const program = options.program ?? ((role: string) => `apps/${role}/src/main.ts`);
  const clientUrls = ports.clients.map((port) => `${scheme}://127.0.0.1:${port}`);
  const members = peerUrls.map((peerUrl, i) => {
    const name = `m${i + 1}`;
    const metricsUrl = `http://127.0.0.1:${ports.metrics[i]}`;
    const own = join(dataDir, name);
    const args = [
      `--name=${name}`,
      `--data-dir=${own}`,
      `--listen-peer-urls=${peerUrl}`,
      `--initial-advertise-peer-urls=${advertisedUrls[i]}`,
      // Clients that ask the cluster for its endpoints are sent to the gateways.
      ...(options.gatewaysAdvertise === true ? [] : [`--advertise-client-urls=${clientUrls.join(',')}`]),
      `--initial-cluster=${initialCluster}`,
      `--initial-cluster-token=${options.token ?? 'quoin-cluster'}`,
      `--listen-metrics-urls=${metricsUrl}`,
      ...(options.memberArgs ?? []),
    ];
    const child = new Child({ ...shared, name, script: program('member'), args });
    return Object.assign(child, { peerUrl, metricsUrl, dataDir: own });
  });
  const gateways = clientUrls.map((url, i) => {
    const name = `g${i + 1}`;
    const args = [
      `--name=${name}`,
      `--members=${advertisedUrls.join(',')}`,
      `--listen-client-urls=${url}`,
      ...(options.gatewaysAdvertise === true ? [`--advertise-client-urls=${url}`] : []),
      ...(options.gatewayArgs ?? []),
    ];
    const child = new Child({ ...shared, name, script: program('gateway'), args });
    return Object.assign(child, { endpoint: new URL(url).host, url });
  });
  const backup = planBackup(options, dataDir, advertisedUrls, ports.backup, shared);
  return { dataDir, members, gateways, backup, initialCluster };
}

function planBackup(
  options: ClusterOptions,
  dataDir: string,
  peerUrls: readonly string[],
  port: number,
  shared: Pick<ConstructorParameters<typeof Child>[0], 'readyText' | 'env' | 'onLine' | 'onDeath'>,
): ClusterBackup | undefined {
  if (options.backup !== true || !existsSync(join(repositoryRoot, backupScript))) return undefined;
  const metricsUrl = `http://127.0.0.1:${port}`;
  const args = [
    `--members=${peerUrls.join(',')}`,
    `--dir=${join(dataDir, 'backup')}`,
    `--listen-metrics-urls=${metricsUrl}`,
    ...(options.backupArgs ?? []),
  ];
  const script = options.program?.('backup') ?? backupScript;
  return Object.assign(new Child({ ...shared, name: 'backup', script, args }), { metricsUrl });
}

interface Ports {
  readonly clients: readonly number[];
  readonly peers: readonly number[];
  readonly metrics: readonly number[];
  readonly backup: number;
}

async function choosePorts(base: number | undefined, members: number, gateways: number): Promise<Ports> {
  if (base === undefined) {
    const ports = await freePorts(gateways + 2 * members + 1);
    return {
      clients: ports.slice(0, gateways),
      peers: ports.slice(gateways, gateways + members),
      metrics: ports.slice(gateways + members, gateways + 2 * members),
      backup: ports[gateways + 2 * members]!,
    };
  }
  const most = Math.max(members, gateways);
  const step = base + 4 + 10_000 * (most - 1) <= 65_535 ? 10_000 : 10;
  const row = (count: number, offset: number): number[] =>
    Array.from({ length: count }, (_, i) => base + offset + step * i);
  return { clients: row(gateways, 0), peers: row(members, 1), metrics: row(members, 2), backup: base + 3 };
}
