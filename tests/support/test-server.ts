/** A server to test clients against: a real etcd (Debian's), or whatever the environment names. */
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Child } from './child.ts';
import { freePorts } from './ports.ts';

export const etcdBinary: string = process.env['ETCD_BINARY'] ?? '/usr/bin/etcd';
export const etcdctlBinary: string = process.env['ETCDCTL_BINARY'] ?? '/usr/bin/etcdctl';

export const hasEtcd: boolean = existsSync(etcdBinary);

export interface TestServer {
  /** etcd, quoin, or external. */
  readonly kind: string;
  /** host:port of each node. */
  readonly endpoints: readonly string[];
  /** SIGKILLs a node; only where this process started it. */
  kill(node: number): Promise<void>;
  /** Starts a killed node again on its data. */
  restart(node: number): Promise<void>;
  stop(): Promise<void>;
}

/**
 * QUOIN_TEST_ENDPOINTS=host:port,… takes a server that runs already; QUOIN_TEST_SERVER=quoin starts apps/quoin;
 * otherwise etcd. Undefined, with a line that says so, when there is no etcd: the caller skips.
 */
export async function startTestServer(nodes = 1): Promise<TestServer | undefined> {
  const given = process.env['QUOIN_TEST_ENDPOINTS'];
  if (given !== undefined && given !== '') return external(given.split(','));
  if (process.env['QUOIN_TEST_SERVER'] === 'quoin') return startQuoin(nodes);
  if (!hasEtcd) {
    console.log(`skipped: ${etcdBinary} is not installed (set ETCD_BINARY, or QUOIN_TEST_SERVER=quoin)`);
    return undefined;
  }
  return startEtcd(nodes);
}

function external(endpoints: readonly string[]): TestServer {
  const refuse = () => Promise.reject(new Error('the server under test was not started by this test'));
  return { kind: 'external', endpoints, kill: refuse, restart: refuse, stop: () => Promise.resolve() };
}

interface NodePlan {
  readonly name: string;
  readonly dataDir: string;
  readonly args: readonly string[];
  readonly endpoint: string;
}

async function planNodes(
  nodes: number,
  more: readonly string[],
): Promise<{ dir: string; plans: NodePlan[] }> {
  const ports = await freePorts(2 * nodes);
  const dir = mkdtempSync(join(tmpdir(), 'quoin-test-server-'));
  const peers = Array.from({ length: nodes }, (_, i) => `http://127.0.0.1:${ports[nodes + i]}`);
  const initialCluster = peers.map((url, i) => `m${i + 1}=${url}`).join(',');
  const plans = peers.map((peerUrl, i) => {
    const endpoint = `127.0.0.1:${ports[i]}`;
    const dataDir = join(dir, `m${i + 1}`);
    const args = [
      `--name=m${i + 1}`,
      `--data-dir=${dataDir}`,
      `--listen-client-urls=http://${endpoint}`,
      `--advertise-client-urls=http://${endpoint}`,
      `--listen-peer-urls=${peerUrl}`,
      `--initial-advertise-peer-urls=${peerUrl}`,
      `--initial-cluster=${initialCluster}`,
      '--initial-cluster-token=quoin-test',
      ...more,
    ];
    return { name: `m${i + 1}`, dataDir, args, endpoint };
  });
  return { dir, plans };
}

/** `more`: flags beyond those that every node needs; `binary`: another etcd than the one on the PATH. */
export async function startEtcd(
  nodes = 1,
  more: readonly string[] = [],
  binary = etcdBinary,
): Promise<TestServer> {
  const { dir, plans } = await planNodes(nodes, more);
  const running: (ChildProcess | undefined)[] = [];
  const start = (i: number): void => {
    const args = [...plans[i]!.args, '--logger=zap', '--log-outputs=/dev/null'];
    running[i] = spawn(binary, args, {
      stdio: 'ignore',
      env: { PATH: process.env['PATH'] },
    });
  };
  const kill = async (i: number): Promise<void> => {
    const child = running[i];
    running[i] = undefined;
    if (child === undefined || child.exitCode !== null) return;
    const gone = new Promise((resolve) => child.once('exit', resolve));
    child.kill('SIGKILL');
    await gone;
  };
  const server: TestServer = {
    kind: 'etcd',
    endpoints: plans.map((plan) => plan.endpoint),
    kill,
    restart: async (i) => {
      start(i);
      await portOpen(plans[i]!.endpoint, 15_000);
    },
    stop: async () => {
      await Promise.all(plans.map((_, i) => kill(i)));
      rmSync(dir, { recursive: true, force: true });
    },
  };
  for (let i = 0; i < nodes; i++) start(i);
  try {
    await Promise.all(plans.map((plan) => portOpen(plan.endpoint, 15_000)));
  } catch (error) {
    await server.stop();
    throw error;
  }
  return server;
}

export async function startQuoin(nodes: number, more: readonly string[] = []): Promise<TestServer> {
  const { dir, plans } = await planNodes(nodes, more);
  const readyText = 'ready to serve client requests';
  const children = plans.map(
    ({ name, args }) => new Child({ name, script: 'apps/quoin/src/main.ts', args, readyText }),
  );
  const stop = async (): Promise<void> => {
    await Promise.all(children.map((child) => child.stop()));
    rmSync(dir, { recursive: true, force: true });
  };
  try {
    for (const child of children) child.start();
    await Promise.all(children.map((child) => child.ready(30_000)));
  } catch (error) {
    await stop();
    throw error;
  }
  return {
    kind: 'quoin',
    endpoints: plans.map((plan) => plan.endpoint),
    kill: (i) => children[i]!.kill().then(() => undefined),
    restart: async (i) => {
      children[i]!.start();
      await children[i]!.ready(30_000);
    },
    stop,
  };
}

/** etcd listens on the client port only when it serves. */
async function portOpen(endpoint: string, withinMs: number): Promise<void> {
  const [host, port] = endpoint.split(':') as [string, string];
  const until = Date.now() + withinMs;
  for (;;) {
    const open = await new Promise<boolean>((resolve) => {
      const socket = connect({ host, port: Number(port) }, () => {
        socket.destroy();
        resolve(true);
      });
      socket.once('error', () => resolve(false));
    });
    if (open) return;
    if (Date.now() > until) throw new Error(`no server on ${endpoint} after ${withinMs} ms`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}
