import { createHash } from 'node:crypto';
import { open, rename, rm } from 'node:fs/promises';
import { hexId } from '@quoin/base';
import { type Client, EtcdError } from '@quoin/client';
import { Code } from '@quoin/contracts';
import {
  type AlarmResponse,
  AlarmResponseSchema,
  AlarmType,
  DowngradeResponseSchema,
} from '@quoin/contracts/etcd';
import type { Command } from '../command.ts';
import type { Context } from '../context.ts';
import { badArgs, CommandError, ExitCode, errorText } from '../exit.ts';
import { parseGoInt } from '../go-format.ts';
import { printHeaderFields, printMessage } from '../print-kv.ts';
import { chosenEndpoints, clusterFlag } from './endpoint.ts';

const alarmNames: Readonly<Record<number, string>> = { 0: 'NONE', 1: 'NOSPACE', 2: 'CORRUPT' };

function printAlarms(context: Context, response: AlarmResponse): void {
  context.support('simple', 'json', 'fields', 'protobuf');
  if (printMessage(context, AlarmResponseSchema, response)) return;
  if (context.format === 'fields') printHeaderFields(context, response.header);
  for (const { memberID, alarm } of response.alarms) {
    if (context.format === 'fields')
      context.print(`"MemberID" : ${memberID}\n"AlarmType" : ${alarmNames[alarm] ?? alarm}\n`);
    else context.print(`memberID:${memberID} alarm:${alarmNames[alarm] ?? alarm} `);
  }
}

async function alarmList(context: Context, args: readonly string[]): Promise<undefined> {
  if (args.length > 0) throw badArgs('alarm list command accepts no arguments');
  printAlarms(context, await context.client().maintenance.alarms(context.call()));
}

async function alarmDisarm(context: Context, args: readonly string[]): Promise<undefined> {
  if (args.length > 0) throw badArgs('alarm disarm command accepts no arguments');
  printAlarms(context, await disarmAll(context, context.client()));
}

async function disarmAll(context: Context, client: Client): Promise<AlarmResponse> {
  const response = await client.maintenance.alarms(context.call());
  const disarmed: AlarmResponse['alarms'] = [];
  for (const { memberID, alarm } of response.alarms) {
    if (alarm === AlarmType.NONE) continue;
    const answer = await client.maintenance.alarmDisarm(memberID, alarm, context.call());
    disarmed.push(...answer.alarms);
    response.header = answer.header ?? response.header!;
  }
  response.alarms = disarmed;
  return response;
}

async function defrag(context: Context): Promise<number> {
  let failed = false;
  for (const endpoint of await chosenEndpoints(context)) {
    try {
      await context.client([endpoint]).maintenance.defragment(context.call());
      context.print(`Finished defragmenting etcd member[${endpoint}]`);
    } catch (error) {
      failed = true;
      context.warn(`Failed to defragment etcd member[${endpoint}] (${errorText(error)})`);
    }
  }
  return failed ? ExitCode.error : ExitCode.ok;
}

async function moveLeader(context: Context, args: readonly string[]): Promise<undefined> {
  if (args.length !== 1) throw badArgs('move-leader command needs 1 argument');
  let target: bigint;
  try {
    target = parseGoInt(args[0]!, { base: 16, unsigned: true });
  } catch (error) {
    throw badArgs((error as Error).message);
  }
  const { client, leader } = await leaderClient(context);
  await client.maintenance.moveLeader(target, context.call());
  context.print(`Leadership transferred from ${hexId(leader)} to ${hexId(target)}`);
}

/** The endpoint that leads; a gateway, which passes the request on to the leader, will do as well. */
async function leaderClient(context: Context): Promise<{ client: Client; leader: bigint }> {
  let any: { client: Client; leader: bigint } | undefined;
  for (const endpoint of context.endpoints()) {
    const client = context.client([endpoint]);
    const status = await client.maintenance.status(context.call());
    if (status.leader === status.header?.memberId) return { client, leader: status.leader };
    if (status.leader !== 0n) any = { client, leader: status.leader };
  }
  if (any === undefined) throw badArgs(`no leader endpoint given at [${context.endpoints().join(' ')}]`);
  return any;
}

async function downgrade(
  context: Context,
  action: 'validate' | 'enable' | 'cancel',
  args: readonly string[],
): Promise<undefined> {
  context.support('simple', 'json', 'protobuf');
  if (action === 'cancel' && args.length > 0) throw badArgs('too many arguments');
  if (action !== 'cancel' && args.length < 1) throw badArgs('TARGET_VERSION not provided');
  if (action !== 'cancel' && args.length > 1) throw badArgs('too many arguments');
  if (args[0] === '') throw badArgs('target version not provided');
  const response = await context.client().maintenance.downgrade(action, args[0], context.call());
  if (printMessage(context, DowngradeResponseSchema, response)) return;
  context.print(`Downgrade ${action} success, cluster version ${response.version}`);
}

const hashBytes = 32;
const pageBytes = 512;

async function snapshotSave(context: Context, args: readonly string[]): Promise<undefined> {
  if (args.length !== 1) throw badArgs('snapshot save expects one argument');
  if (context.endpoints().length !== 1)
    throw badArgs(
      `snapshot must be requested to one selected node, not multiple [${context.endpoints().join(' ')}]`,
    );
  const path = args[0]!;
  const part = `${path}.part`;
  const file = await open(part, 'w', 0o600).catch((error: NodeJS.ErrnoException) => {
    const why =
      error.code === 'ENOENT'
        ? 'no such file or directory'
        : error.code === 'EACCES'
          ? 'permission denied'
          : error.message;
    throw new CommandError(ExitCode.interrupted, `could not open ${part} (open ${part}: ${why})`);
  });
  try {
    let tail = Buffer.alloc(0);
    let bytes = 0;
    const hash = createHash('sha256');
    for await (const { blob } of context
      .client()
      .maintenance.snapshot({ timeoutMs: 0, signal: context.interrupted })) {
      await file.write(blob);
      bytes += blob.length;
      // The last 32 bytes are the digest of all before them.
      tail = Buffer.concat([tail, blob]);
      const body = tail.subarray(0, Math.max(tail.length - hashBytes, 0));
      hash.update(body);
      tail = tail.subarray(body.length);
    }
    if (bytes % pageBytes !== hashBytes)
      throw new EtcdError(Code.dataLoss, `sha256 checksum not found [bytes: ${bytes}]`);
    if (!hash.digest().equals(tail))
      throw new EtcdError(Code.dataLoss, 'snapshot does not have its sha256: the transfer was damaged');
    await file.sync();
    await file.close();
    await rename(part, path);
  } catch (error) {
    await file.close().catch(() => {});
    await rm(part, { force: true });
    throw new CommandError(ExitCode.interrupted, errorText(error));
  }
  context.print(`Snapshot saved at ${path}`);
}

export const maintenanceCommands: readonly Command[] = [
  { name: 'alarm list', usage: '', help: 'Lists all alarms', run: alarmList },
  { name: 'alarm disarm', usage: '', help: 'Disarms all alarms', run: alarmDisarm },
  {
    name: 'defrag',
    usage: '',
    help: 'Defragments the storage of the etcd members with given endpoints',
    flags: [clusterFlag],
    run: defrag,
  },
  {
    name: 'move-leader',
    usage: '<transferee-member-id>',
    help: 'Transfers leadership to another etcd cluster member.',
    run: moveLeader,
  },
  {
    name: 'downgrade validate',
    usage: '<TARGET_VERSION>',
    help: 'Validate downgrade capability before starting downgrade',
    run: (context, args) => downgrade(context, 'validate', args),
  },
  {
    name: 'downgrade enable',
    usage: '<TARGET_VERSION>',
    help: 'Start a downgrade action to cluster',
    run: (context, args) => downgrade(context, 'enable', args),
  },
  {
    name: 'downgrade cancel',
    usage: '',
    help: 'Cancel the ongoing downgrade action to cluster',
    run: (context, args) => downgrade(context, 'cancel', args),
  },
  {
    name: 'snapshot save',
    usage: '<filename>',
    help: 'Stores an etcd node backend snapshot to a given file',
    run: snapshotSave,
  },
];
