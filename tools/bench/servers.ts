/**
 * The servers under load: real etcd and Quoin in the same shapes, as processes on loopback with their data side by
 * side on one file system. Quoin's all-in-one node takes etcd's flags, so both are started by the same words.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { createWriteStream, mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import type { CertificateSet } from '../../deploy/tls/make-certificates.ts';
import { freePorts } from '../../tests/support/ports.ts';
import type { Role } from './results.ts';

export interface ServerProcess {
  readonly name: string;
  readonly role: Role;
  readonly pid: number;
}

export interface Shape {
  readonly endpoints: readonly string[];
  readonly processes: readonly ServerProcess[];
  stop(): Promise<void>;
}

/** Where a side comes from: the binary of etcd, or a work tree of Quoin. */
export type Software =
  | { readonly kind: 'etcd'; readonly binary: string }
  | {
      readonly kind: 'quoin';
      readonly tree: string;
      /** More flags for every process. */
      readonly flags?: readonly string[];
      /** Each process leaves its CPU profile here when it ends, as PREFIX-NAME.cpuprofile. */
      readonly profile?: { readonly dir: string; readonly prefix: string };
    };

/** What a shape is given for its safety: certificates on every port, a key for data directories (Quoin's only). */
export interface Secrets {
  readonly certificates?: CertificateSet | undefined;
  readonly keyFile?: string | undefined;
}

type Quoin = Extract<Software, { kind: 'quoin' }>;

function node(quoin: Quoin, role: Role, name: string, app: string, flags: readonly string[]): Command {
  const { profile, tree } = quoin;
  const profiling =
    profile === undefined
      ? []
      : [
          '--cpu-prof',
          `--cpu-prof-dir=${profile.dir}`,
          `--cpu-prof-name=${profile.prefix}-${name}.cpuprofile`,
        ];
  const script = join(tree, 'apps', app, 'src', 'main.ts');
  return {
    name,
    role,
    file: process.execPath,
    args: [...profiling, script, ...flags, ...(quoin.flags ?? [])],
  };
}

const readyLimitMs = 30_000;
const stopLimitMs = 15_000;

interface Command {
  readonly name: string;
  readonly role: Role;
  readonly file: string;
  readonly args: readonly string[];
}

/** Starts one process and waits for etcd's line of readiness (or `ready` in its log). */
async function start(command: Command, dir: string): Promise<ChildProcess> {
  mkdirSync(dir, { recursive: true });
  const child = spawn(command.file, [...command.args], { cwd: dir, stdio: ['ignore', 'pipe', 'pipe'] });
  const log = createWriteStream(join(dir, `${command.name}.log`));
  await new Promise<void>((resolve, reject) => {
    let text = '';
    const limit = setTimeout(() => {
      // Left alone it would keep this process alive.
      child.kill('SIGKILL');
      reject(new Error(`${command.name} is not ready after ${readyLimitMs} ms:\n${text.slice(-2000)}`));
    }, readyLimitMs);
    const onData = (data: Buffer): void => {
      log.write(data);
      if (text === '\0') return;
      text += data.toString();
      // Debian's 3.4 says "ready to serve client requests", newer ones the same as JSON.
      if (text.includes('ready to serve client requests')) {
        text = '\0';
        clearTimeout(limit);
        resolve();
      }
    };
    child.stdout.on('data', onData);
    child.stderr.on('data', onData);
    child.on('error', reject);
    child.on('exit', (code, signal) => {
      clearTimeout(limit);
      if (text !== '\0')
        reject(new Error(`${command.name} ended (${code ?? signal}):\n${text.slice(-2000)}`));
    });
  });
  return child;
}

async function stop(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  await new Promise<void>((resolve) => {
    const limit = setTimeout(() => child.kill('SIGKILL'), stopLimitMs);
    child.on('exit', () => {
      clearTimeout(limit);
      resolve();
    });
    child.kill('SIGTERM');
  });
}

async function startAll(commands: readonly Command[], dir: string, endpoints: string[]): Promise<Shape> {
  rmSync(dir, { recursive: true, force: true });
  const started = await Promise.allSettled(commands.map((command) => start(command, dir)));
  const children = started.flatMap((s) => (s.status === 'fulfilled' ? [s.value] : []));
  const stopAll = async (): Promise<void> => {
    await Promise.all(children.map(stop));
    rmSync(dir, { recursive: true, force: true });
  };
  const failed = started.find((s) => s.status === 'rejected');
  if (failed !== undefined) {
    await stopAll();
    throw failed.reason;
  }
  const processes = children.map((child, i) => ({ ...commands[i]!, pid: child.pid! }));
  return { endpoints, processes, stop: stopAll };
}

/** Flags for the certificates that a process needs: all of them are asked for one, clients included. */
function tlsFlags(
  certificates: CertificateSet | undefined,
  planes: readonly ('client' | 'peer')[],
): string[] {
  if (certificates === undefined) return [];
  const { file } = certificates;
  const client = [
    `--cert-file=${file('server')}`,
    `--key-file=${file('server', 'key')}`,
    `--trusted-ca-file=${file('ca')}`,
    '--client-cert-auth',
  ];
  const peer = [
    `--peer-cert-file=${file('peer')}`,
    `--peer-key-file=${file('peer', 'key')}`,
    `--peer-trusted-ca-file=${file('peer-ca')}`,
  ];
  return planes.flatMap((plane) => (plane === 'client' ? client : peer));
}

function keyFlags(keyFile: string | undefined): string[] {
  return keyFile === undefined ? [] : [`--encryption-key-file=${keyFile}`];
}

/** `nodes` nodes that each are a member and serve clients: etcd itself, or Quoin's all-in-one. */
export async function startNodes(
  software: Software,
  nodes: number,
  dir: string,
  { certificates, keyFile }: Secrets = {},
): Promise<Shape> {
  const ports = await freePorts(nodes * 2);
  const scheme = certificates === undefined ? 'http' : 'https';
  const client = (i: number): string => `${scheme}://127.0.0.1:${ports[i * 2]}`;
  const peer = (i: number): string => `${scheme}://127.0.0.1:${ports[i * 2 + 1]}`;
  const cluster = Array.from({ length: nodes }, (_, i) => `n${i}=${peer(i)}`).join(',');
  const commands = Array.from({ length: nodes }, (_, i): Command => {
    const flags = [
      `--name=n${i}`,
      `--data-dir=${join(dir, `n${i}`)}`,
      `--listen-client-urls=${client(i)}`,
      `--advertise-client-urls=${client(i)}`,
      `--listen-peer-urls=${peer(i)}`,
      `--initial-advertise-peer-urls=${peer(i)}`,
      `--initial-cluster=${cluster}`,
      '--initial-cluster-token=bench',
      '--initial-cluster-state=new',
      ...tlsFlags(certificates, ['client', 'peer']),
      ...(certificates === undefined ? [] : ['--peer-client-cert-auth']),
    ];
    return software.kind === 'etcd'
      ? { name: `etcd${i}`, role: 'node', file: software.binary, args: flags }
      : node(software, 'node', `quoin${i}`, 'quoin', [...flags, ...keyFlags(keyFile)]);
  });
  const endpoints = Array.from({ length: nodes }, (_, i) => new URL(client(i)).host);
  return startAll(commands, dir, endpoints);
}

/** Members and gateways as processes of their own. */
export async function startRoles(
  quoin: Quoin,
  members: number,
  gateways: number,
  dir: string,
  { certificates, keyFile }: Secrets = {},
): Promise<Shape> {
  const ports = await freePorts(members + gateways);
  const scheme = certificates === undefined ? 'http' : 'https';
  const peer = (i: number): string => `${scheme}://127.0.0.1:${ports[i]}`;
  const peers = Array.from({ length: members }, (_, i) => peer(i));
  const client = (i: number): string => `127.0.0.1:${ports[members + i]}`;
  const commands = peers.map((url, i) =>
    node(quoin, 'member', `member${i}`, 'member', [
      `--name=m${i}`,
      `--data-dir=${join(dir, `m${i}`)}`,
      `--listen-peer-urls=${url}`,
      `--initial-advertise-peer-urls=${url}`,
      `--initial-cluster=${peers.map((p, k) => `m${k}=${p}`).join(',')}`,
      '--initial-cluster-token=bench',
      ...keyFlags(keyFile),
      ...tlsFlags(certificates, ['peer']),
      ...(certificates === undefined ? [] : ['--peer-client-cert-auth']),
    ]),
  );
  for (let i = 0; i < gateways; i++) {
    const flags = [
      `--name=g${i}`,
      `--members=${peers.join(',')}`,
      `--listen-client-urls=${scheme}://${client(i)}`,
      ...tlsFlags(certificates, ['client', 'peer']),
    ];
    commands.push(node(quoin, 'gateway', `gateway${i}`, 'gateway', flags));
  }
  const endpoints = Array.from({ length: gateways }, (_, i) => client(i));
  return startAll(commands, dir, endpoints);
}
