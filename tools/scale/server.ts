import { execFileSync } from 'node:child_process';
import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { Child, repositoryRoot } from '../../tests/support/child.ts';
import { freePorts } from '../../tests/support/ports.ts';

/** One node, Quoin's or etcd's, that can be stopped and started again on its data. */
export interface ScaleServer {
  readonly name: string;
  /** host:port */
  readonly endpoint: string;
  /** For /metrics. */
  readonly url: string;
  pid(): number;
  start(): Promise<void>;
  stop(): Promise<void>;
  /** Stops it and removes its data. */
  remove(): Promise<void>;
}

const readyTimeoutMs = 120_000;
/** etcd's own limit is far below what is measured here. */
const quotaBytes = 64 * 2 ** 30;

export async function oneNode(kind: 'quoin' | 'etcd', dir: string): Promise<ScaleServer> {
  const [clientPort, peerPort] = await freePorts(2);
  const url = `http://127.0.0.1:${clientPort}`;
  const peer = `http://127.0.0.1:${peerPort}`;
  rmSync(dir, { recursive: true, force: true });
  mkdirSync(dir, { recursive: true });
  const args = [
    '--name=scale',
    `--data-dir=${join(dir, 'data')}`,
    `--listen-client-urls=${url}`,
    `--advertise-client-urls=${url}`,
    `--listen-peer-urls=${peer}`,
    `--initial-advertise-peer-urls=${peer}`,
    `--initial-cluster=scale=${peer}`,
    `--quota-backend-bytes=${quotaBytes}`,
  ];
  const readyText = 'ready to serve client requests';
  const child =
    kind === 'quoin'
      ? new Child({ name: kind, script: 'apps/quoin/src/main.ts', args, readyText })
      : new Child({ name: kind, command: 'etcd', args, readyText });
  return {
    name: kind,
    endpoint: `127.0.0.1:${clientPort}`,
    url,
    pid: () => child.pid!,
    start: async () => {
      child.start();
      await child.ready(readyTimeoutMs);
    },
    stop: async () => {
      await child.stop(60_000);
    },
    remove: async () => {
      await child.stop(60_000);
      rmSync(dir, { recursive: true, force: true });
    },
  };
}

export const scaleDirectory: string = join(repositoryRoot, '.cache', 'scale');

export function etcdVersion(): string | undefined {
  try {
    return execFileSync('etcd', ['--version'], { encoding: 'utf8' }).split('\n')[0];
  } catch {
    return undefined;
  }
}

const tellEveryMs = 5_000;

/** A line on stderr now and then: how far, and how long the rest will take. */
export function progress(what: string, total: number): (done: number) => void {
  const began = performance.now();
  let told = began;
  return (done) => {
    const now = performance.now();
    if (now - told < tellEveryMs && done < total) return;
    told = now;
    const left = done > 0 ? ((now - began) / done) * (total - done) : 0;
    process.stderr.write(`${what}: ${done} of ${total}, ${(left / 1_000).toFixed(0)} s to go\n`);
  };
}
