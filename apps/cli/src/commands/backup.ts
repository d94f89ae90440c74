import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { type BackupSource, fromSomeMember } from '@quoin/client';
import type { Manifest, StoredBackup } from '@quoin/platform';
import type { Command } from '../command.ts';
import type { Context } from '../context.ts';
import { badArgs, CommandError, ExitCode } from '../exit.ts';
import type { FlagSpec } from '../flags.ts';
import { humanBytes } from '../go-format.ts';
import { table } from '../table.ts';
import { type InitialCluster, keyFlags, keysOf, newMember, platform, printRestored } from './new-member.ts';

const dirFlag: FlagSpec = { name: 'dir', kind: 'string', help: 'directory of the backups' };

function row({ path, manifest }: StoredBackup): string[] {
  const { clusterId, createdAt, revision, entries, fileBytes } = manifest;
  return [path, createdAt, clusterId, String(revision), String(entries), humanBytes(fileBytes)];
}

function printBackups(context: Context, backups: readonly StoredBackup[]): void {
  if (context.format === 'json')
    context.print(JSON.stringify(backups.map(({ path, manifest }) => ({ path, ...manifest }))));
  else if (context.format === 'table')
    context.print(table(['FILE', 'CREATED', 'CLUSTER', 'REVISION', 'ENTRIES', 'SIZE'], backups.map(row)));
  else for (const backup of backups) context.print(row(backup).join(', '));
}

function dirOf(context: Context): string {
  const dir = context.flags.text('dir');
  if (dir === '') throw badArgs('backup directory not provided (--dir)');
  return dir;
}

async function list(context: Context, args: readonly string[]): Promise<undefined> {
  if (args.length > 0) throw badArgs('backup list command accepts no arguments');
  context.support('simple', 'json', 'table');
  const dir = dirOf(context);
  const { listBackups } = await platform();
  printBackups(context, await listBackups(dir));
}

async function now(context: Context, args: readonly string[]): Promise<undefined> {
  if (args.length > 0) throw badArgs('backup now command accepts no arguments');
  context.support('simple', 'json', 'table');
  const worker = context.flags.text('worker');
  const backup = worker === '' ? await takeHere(context) : await askWorker(worker);
  printBackups(context, [backup]);
}

async function askWorker(worker: string): Promise<StoredBackup> {
  const url = URL.parse('/backup/now', /^https?:\/\//.test(worker) ? worker : `http://${worker}`);
  if (url === null) throw badArgs(`bad worker URL ${worker}`);
  const response = await fetch(url, { method: 'POST' }).catch((error: Error) => {
    const cause = error.cause instanceof Error ? error.cause.message : error.message;
    throw new CommandError(ExitCode.badConnection, `cannot reach the backup worker at ${worker}: ${cause}`);
  });
  const answer = (await response
    .json()
    .catch(() => ({ error: `the worker answered with status ${response.status}` }))) as {
    path?: string;
    manifest?: Manifest;
    error?: string;
  };
  if (answer.path === undefined || answer.manifest === undefined)
    throw new CommandError(ExitCode.error, answer.error ?? 'the worker gave no answer');
  return { path: answer.path, manifest: answer.manifest };
}

async function takeHere(context: Context): Promise<StoredBackup> {
  const members = context.flags.list('members');
  if (members.length === 0) throw badArgs('give --worker URL, or --members PEER_URLS and --dir DIR');
  const dir = dirOf(context);
  const { BackupDiskError, writeBackup } = await platform();
  const keys = await keysOf(context);
  const options = {
    members,
    name: 'quoinctl',
    tls: context.tls(),
    signal: context.interrupted,
    isFinal: (error: Error) => error instanceof BackupDiskError,
    onRetry: (source: BackupSource, error: Error) =>
      context.warn(
        `backup from ${source.name} (${source.url}) failed, trying another member: ${error.message}`,
      ),
  };
  try {
    return await fromSomeMember(options, (source) => {
      const onProgress = (bytes: number) => context.warn(`${humanBytes(bytes)} from ${source.name}`);
      return writeBackup(source.chunks, {
        dir,
        clusterId: source.clusterId,
        members: source.members,
        keys,
        onProgress,
      });
    });
  } catch (error) {
    if (context.interrupted.aborted) throw new CommandError(ExitCode.interrupted, 'interrupted');
    if (error instanceof BackupDiskError) throw new CommandError(ExitCode.io, error.message);
    throw new CommandError(ExitCode.error, (error as Error).message);
  }
}

function fileArgument(args: readonly string[], command: string): string {
  if (args.length !== 1) throw badArgs(`backup ${command} requires exactly one file`);
  return args[0]!;
}

async function verify(context: Context, args: readonly string[]): Promise<undefined> {
  const file = fileArgument(args, 'verify');
  const { verifyBackup } = await platform();
  const { facts, manifest } = await verifyBackup(file, await keysOf(context));
  const { header, trailer, fileBytes, sha256 } = facts;
  if (context.format === 'json') {
    context.print(
      JSON.stringify({
        file,
        revision: header.revision,
        entries: trailer.entries,
        fileBytes,
        sha256,
        manifest: manifest !== undefined,
      }),
    );
    return;
  }
  context.print(
    `${file}: good, revision ${header.revision}, ${trailer.entries} entries, ${humanBytes(fileBytes)}, sha256 ${sha256}`,
  );
  if (manifest === undefined)
    context.warn(
      'there is no manifest beside it: the backup is whole, but was not finished by the one who took it',
    );
}

const restoreFlags: readonly FlagSpec[] = [
  { name: 'name', kind: 'string', default: 'default', help: 'human-readable name of the member' },
  {
    name: 'data-dir',
    kind: 'string',
    help: 'path to the data directory of the member (with --all: their parent)',
  },
  {
    name: 'initial-cluster',
    kind: 'string',
    default: 'default=http://localhost:2380',
    help: 'initial cluster configuration',
  },
  { name: 'initial-cluster-token', kind: 'string', default: 'etcd-cluster', help: 'initial cluster token' },
  {
    name: 'initial-advertise-peer-urls',
    kind: 'strings',
    help: "list of this member's peer URLs (default: those of --initial-cluster)",
  },
  {
    name: 'all',
    kind: 'bool',
    help: 'make the directories of all members of the initial cluster, by name below --data-dir',
  },
];

async function restore(context: Context, args: readonly string[]): Promise<undefined> {
  const file = fileArgument(args, 'restore');
  const { flags } = context;
  const { parseInitialCluster } = await platform();
  const cluster = parseInitialCluster(flags.text('initial-cluster'));
  if (!flags.bool('all')) {
    const name = flags.text('name');
    await restoreMember(context, file, name, flags.text('data-dir') || `${name}.etcd`, cluster);
    return;
  }
  const parent = flags.text('data-dir');
  if (parent === '')
    throw badArgs('--all needs --data-dir: the directory below which each member gets its own');
  await mkdir(parent, { recursive: true, mode: 0o700 });
  for (const member of cluster)
    await restoreMember(context, file, member.name, join(parent, member.name), cluster);
}

async function restoreMember(
  context: Context,
  file: string,
  name: string,
  dataDir: string,
  initialCluster: InitialCluster,
): Promise<void> {
  const { Logger, restoreBackup } = await platform();
  const given = context.flags.bool('all') ? [] : context.flags.list('initial-advertise-peer-urls');
  const member = newMember(context, name, initialCluster, given);
  const summary = await restoreBackup({
    file,
    dataDir,
    member,
    keys: await keysOf(context),
    log: Logger.open({ level: 'warn', format: 'console', outputs: ['stderr'] }),
  });
  printRestored(context, name, dataDir, summary);
}

export const backupCommands: readonly Command[] = [
  {
    name: 'backup list',
    usage: '--dir DIR',
    help: 'Lists the backups in a directory',
    flags: [dirFlag],
    run: list,
  },
  {
    name: 'backup now',
    usage: '--worker URL | --members PEER_URLS --dir DIR',
    help: 'Takes a backup, by a worker or from here',
    flags: [
      dirFlag,
      ...keyFlags,
      { name: 'members', kind: 'strings', help: 'peer URLs of members' },
      { name: 'worker', kind: 'string', help: "metrics URL of a backup worker, on the worker's own machine" },
    ],
    run: now,
  },
  {
    name: 'backup verify',
    usage: 'FILE',
    help: 'Reads a backup and checks all of it',
    flags: keyFlags,
    run: verify,
  },
  {
    name: 'backup restore',
    usage: 'FILE [options]',
    help: 'Makes the data directory of a member of a new cluster from a backup',
    flags: [...restoreFlags, ...keyFlags],
    run: restore,
  },
];
