/** What `backup restore` and `snapshot restore` share: the member whose data directory is made, its keys, and the last line. */
import { hexId } from '@quoin/base';
import type { KeyRing } from '@quoin/platform';
import type { Context } from '../context.ts';
import { badArgs } from '../exit.ts';
import type { FlagSpec } from '../flags.ts';

/** RocksDB and the servers come with it: only loaded by who needs it. */
export const platform = () => import('@quoin/platform');

export const keyFlags: readonly FlagSpec[] = [
  {
    name: 'encryption-key-file',
    kind: 'string',
    help: 'keys of backups and data directories that are encrypted',
  },
  { name: 'encryption-key-command', kind: 'string', help: 'shell command that prints such keys' },
];

/** Undefined when none are given. @throws ConfigError */
export async function keysOf(context: Context): Promise<KeyRing | undefined> {
  const { KeyRing } = await platform();
  return KeyRing.read({
    file: context.flags.text('encryption-key-file'),
    command: context.flags.text('encryption-key-command'),
  });
}

export type InitialCluster = readonly { readonly name: string; readonly peerUrls: readonly string[] }[];

/** `given`: the peer URLs that a flag names; empty: those of the initial cluster. */
export function newMember(
  context: Context,
  name: string,
  initialCluster: InitialCluster,
  given: readonly string[],
) {
  const configured = initialCluster.find((member) => member.name === name)?.peerUrls;
  if (configured === undefined)
    throw badArgs(`couldn't find local name "${name}" in the initial cluster configuration`);
  return {
    name,
    initialCluster,
    clusterToken: context.flags.text('initial-cluster-token'),
    initialClusterState: 'new' as const,
    advertisePeerUrls: given.length > 0 ? given : configured,
    advertiseClientUrls: [],
  };
}

interface Restored {
  readonly memberId: bigint;
  readonly clusterId: bigint;
  readonly revision: number;
  readonly keys: number;
}

export function printRestored(context: Context, name: string, dataDir: string, summary: Restored): void {
  const { memberId, clusterId, revision, keys } = summary;
  context.print(
    `Member ${hexId(memberId)} (${name}) of cluster ${hexId(clusterId)} restored to ${dataDir}: revision ${revision}, ${keys} keys`,
  );
}
