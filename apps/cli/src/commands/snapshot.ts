/** quoinutl: what can be done with a snapshot in etcd's format without a server. */
import type { SnapshotStatus } from '@quoin/platform';
import type { Command } from '../command.ts';
import type { Context } from '../context.ts';
import { badArgs } from '../exit.ts';
import type { FlagSpec } from '../flags.ts';
import { goJsonString, humanBytes } from '../go-format.ts';
import { table } from '../table.ts';
import { keyFlags, keysOf, newMember, platform, printRestored } from './new-member.ts';

async function status(context: Context, args: readonly string[]): Promise<undefined> {
  if (args.length !== 1) throw badArgs('snapshot status requires exactly one argument');
  context.support('simple', 'json', 'fields', 'table');
  const { snapshotStatus } = await platform();
  printStatus(context, snapshotStatus(args[0]!));
}

function printStatus(context: Context, found: SnapshotStatus): void {
  const { hash, revision, totalKey, totalSize, version } = found;
  const row = [hash.toString(16), String(revision), String(totalKey), humanBytes(BigInt(totalSize)), version];
  if (context.format === 'json') {
    const numbers = `"hash":${hash},"revision":${revision},"totalKey":${totalKey},"totalSize":${totalSize}`;
    context.print(`{${numbers},"version":${goJsonString(version)}}`);
  } else if (context.format === 'table') {
    context.print(table(['HASH', 'REVISION', 'TOTAL KEYS', 'TOTAL SIZE', 'VERSION'], [row]));
  } else if (context.format === 'fields') {
    context.print(`"Hash" : ${hash}\n"Revision" : ${revision}\n"Keys" : ${totalKey}\n"Size" : ${totalSize}`);
    context.print(`"Version" : ${version}`);
  } else context.print(row.join(', '));
}

const restoreFlags: readonly FlagSpec[] = [
  { name: 'name', kind: 'string', default: 'default', help: 'human-readable name for this member' },
  { name: 'data-dir', kind: 'string', help: 'path to the output data directory (default: NAME.etcd)' },
  {
    name: 'initial-cluster',
    kind: 'string',
    default: 'default=http://localhost:2380',
    help: 'initial cluster configuration for restore bootstrap',
  },
  { name: 'initial-cluster-token', kind: 'string', default: 'etcd-cluster', help: 'initial cluster token' },
  {
    name: 'initial-advertise-peer-urls',
    kind: 'strings',
    help: "list of this member's peer URLs (default: those of --initial-cluster)",
  },
  {
    name: 'skip-hash-check',
    kind: 'bool',
    help: 'ignore the integrity hash value (required if copied from a data directory)',
  },
  {
    name: 'bump-revision',
    kind: 'int',
    default: '0',
    help: 'how much to increase the latest revision after restore',
  },
  {
    name: 'mark-compacted',
    kind: 'bool',
    help: 'mark the latest revision after restore as compacted (required with --bump-revision, not without)',
  },
  ...keyFlags,
];

async function restore(context: Context, args: readonly string[]): Promise<undefined> {
  if (args.length !== 1) throw badArgs('snapshot restore requires exactly one argument');
  const { flags } = context;
  const bump = flags.int('bump-revision');
  if (bump < 0n || bump > BigInt(Number.MAX_SAFE_INTEGER)) throw badArgs('--bump-revision is out of range');
  if (bump > 0n !== flags.bool('mark-compacted'))
    throw badArgs('--mark-compacted required if --bump-revision > 0, and not allowed otherwise');
  const { Logger, parseInitialCluster, restoreSnapshot } = await platform();
  const name = flags.text('name');
  const initialCluster = parseInitialCluster(flags.text('initial-cluster'));
  const member = newMember(context, name, initialCluster, flags.list('initial-advertise-peer-urls'));
  const dataDir = flags.text('data-dir') || `${name}.etcd`;
  const summary = await restoreSnapshot({
    file: args[0]!,
    dataDir,
    skipHashCheck: flags.bool('skip-hash-check'),
    bumpRevision: Number(bump),
    member,
    keys: await keysOf(context),
    log: Logger.open({ level: 'warn', format: 'console', outputs: ['stderr'] }),
  });
  printRestored(context, name, dataDir, summary);
}

export const snapshotCommands: readonly Command[] = [
  {
    name: 'snapshot status',
    usage: '<filename>',
    help: 'Gets backend snapshot status of a given file',
    run: status,
  },
  {
    name: 'snapshot restore',
    usage: '<filename> --data-dir {output dir} [options]',
    help: 'Restores a snapshot of etcd or Quoin to the data directory of a new member',
    flags: restoreFlags,
    run: restore,
  },
];
