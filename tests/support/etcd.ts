/** Debian's etcd, the oracle: one node on free ports with a directory of its own. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { freePorts } from './ports.ts';

export const hasEtcd: boolean = spawnSync('etcd', ['--version']).error === undefined;
if (!hasEtcd) process.stderr.write("skipped: comparison with etcd; install Debian's etcd-server for it\n");

const readyTimeoutMs = 20_000;

export interface Etcd {
  /** host:port for clients. */
  readonly endpoint: string;
  stop(): Promise<void>;
}

export async function startEtcd(args: readonly string[] = []): Promise<Etcd> {
  const [clientPort, peerPort] = await freePorts(2);
  const dir = mkdtempSync(join(tmpdir(), 'quoin-oracle-'));
  const client = `http://127.0.0.1:${clientPort}`;
  const peer = `http://127.0.0.1:${peerPort}`;
  const child = spawn(
    'etcd',
    [
      '--name=oracle',
      `--data-dir=${join(dir, 'data')}`,
      `--listen-client-urls=${client}`,
      `--advertise-client-urls=${client}`,
      `--listen-peer-urls=${peer}`,
      `--initial-advertise-peer-urls=${peer}`,
      `--initial-cluster=oracle=${peer}`,
      ...args,
    ],
    { cwd: dir, stdio: ['ignore', 'pipe', 'pipe'] },
  );
  const ended = new Promise<void>((resolve) => child.on('close', () => resolve()));
  const stop = async (): Promise<void> => {
    if (child.exitCode === null && child.signalCode === null) child.kill('SIGKILL');
    await ended;
    rmSync(dir, { recursive: true, force: true });
  };
  try {
    await ready(child);
  } catch (error) {
    await stop();
    throw error;
  }
  return { endpoint: `127.0.0.1:${clientPort}`, stop };
}

function ready(child: ChildProcess): Promise<void> {
  return new Promise((resolve, reject) => {
    let text = '';
    const limit = setTimeout(
      () => reject(new Error(`etcd was not ready:\n${text.slice(-2000)}`)),
      readyTimeoutMs,
    );
    const take = (data: Buffer): void => {
      text += data.toString();
      if (!text.includes('ready to serve client requests')) return;
      clearTimeout(limit);
      text = '';
      resolve();
    };
    child.stdout!.on('data', take);
    child.stderr!.on('data', take);
    child.on('close', () => reject(new Error(`etcd ended:\n${text.slice(-2000)}`)));
  });
}
