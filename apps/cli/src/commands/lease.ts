import { EtcdError } from '@quoin/client';
import { etcdErrors } from '@quoin/contracts';
import {
  type LeaseKeepAliveResponse,
  LeaseRevokeResponseSchema,
  type ResponseHeader,
  ResponseHeaderSchema,
} from '@quoin/contracts/etcd';
import type { Command } from '../command.ts';
import type { Context } from '../context.ts';
import { badArgs, CommandError, ExitCode, errorText } from '../exit.ts';
import { goJsonString, goQuote, parseGoInt } from '../go-format.ts';
import { messageFields } from '../message-json.ts';
import { printHeaderFields, printMessage } from '../print-kv.ts';

const formats = ['simple', 'json', 'fields'] as const;
const utf8 = new TextDecoder();

function leaseHex(id: bigint): string {
  return BigInt.asUintN(64, id).toString(16).padStart(16, '0');
}

/** @throws CommandError */
function leaseArgument(text: string): bigint {
  try {
    return parseGoInt(text, { base: 16 });
  } catch (error) {
    throw badArgs(`bad lease ID arg (${(error as Error).message}), expecting ID in Hex`);
  }
}

/** clientv3's lease structs embed the header and show all their own members, zero or not. */
function printLeaseJson(context: Context, header: ResponseHeader | undefined, own: readonly string[]): void {
  const head = header === undefined ? [] : messageFields(ResponseHeaderSchema, header);
  context.print(`{${[...head, ...own].join(',')}}`);
}

function printNumbers(
  context: Context,
  header: ResponseHeader | undefined,
  numbers: Readonly<Record<string, bigint>>,
): void {
  printHeaderFields(context, header);
  for (const [name, value] of Object.entries(numbers)) context.print(`"${name}" : ${value}`);
}

async function grant(context: Context, args: readonly string[]): Promise<undefined> {
  if (args.length !== 1) throw badArgs('lease grant command needs TTL argument');
  let ttl: bigint;
  try {
    ttl = parseGoInt(args[0]!);
  } catch (error) {
    throw badArgs(`bad TTL (${(error as Error).message})`);
  }
  context.support(...formats);
  const response = await context
    .client()
    .lease.grant(ttl, 0, context.call())
    .catch((error: Error) => {
      throw new CommandError(ExitCode.error, `failed to grant lease (${errorText(error)})`);
    });
  const { header, ID, TTL, error } = response;
  if (context.format === 'json')
    printLeaseJson(context, header, [`"ID":${ID}`, `"TTL":${TTL}`, `"Error":${goJsonString(error)}`]);
  else if (context.format === 'fields') printNumbers(context, header, { ID, TTL });
  else context.print(`lease ${leaseHex(ID)} granted with TTL(${TTL}s)`);
}

async function revoke(context: Context, args: readonly string[]): Promise<undefined> {
  if (args.length !== 1) throw badArgs('lease revoke command needs 1 argument');
  const id = leaseArgument(args[0]!);
  context.support(...formats, 'protobuf');
  const response = await context
    .client()
    .lease.revoke(id, context.call())
    .catch((error: Error) => {
      throw new CommandError(ExitCode.error, `failed to revoke lease (${errorText(error)})`);
    });
  if (printMessage(context, LeaseRevokeResponseSchema, response)) return;
  if (context.format === 'fields') printHeaderFields(context, response.header);
  else context.print(`lease ${leaseHex(id)} revoked`);
}

async function timeToLive(context: Context, args: readonly string[]): Promise<undefined> {
  if (args.length !== 1) throw badArgs('lease timetolive command needs lease ID as argument');
  const id = leaseArgument(args[0]!);
  context.support(...formats);
  const withKeys = context.flags.bool('keys');
  const { header, ID, TTL, grantedTTL, keys } = await context
    .client()
    .lease.timeToLive(id, { keys: withKeys }, context.call());
  if (context.format === 'json') {
    const shown =
      keys.length === 0
        ? 'null'
        : `[${keys.map((key) => `"${Buffer.from(key).toString('base64')}"`).join(',')}]`;
    printLeaseJson(context, header, [
      `"id":${ID}`,
      `"ttl":${TTL}`,
      `"granted-ttl":${grantedTTL}`,
      `"keys":${shown}`,
    ]);
  } else if (context.format === 'fields') {
    printNumbers(context, header, { ID, TTL, GrantedTTL: grantedTTL });
    for (const key of keys) context.print(`"Key" : ${goQuote(key)}`);
  } else if (TTL === -1n) context.print(`lease ${leaseHex(id)} already expired`);
  else {
    const attached = withKeys ? `, attached keys([${keys.map((key) => utf8.decode(key)).join(' ')}])` : '';
    context.print(`lease ${leaseHex(id)} granted with TTL(${grantedTTL}s), remaining(${TTL}s)${attached}`);
  }
}

async function list(context: Context): Promise<undefined> {
  context.support(...formats);
  const { header, leases } = await context.client().lease.leases(context.call());
  if (context.format === 'json') {
    const own =
      leases.length === 0
        ? '"leases":[]'
        : `"leases":[${leases.map((lease) => `{"id":${lease.ID}}`).join(',')}]`;
    printLeaseJson(context, header, [own]);
  } else if (context.format === 'fields') {
    printHeaderFields(context, header);
    for (const lease of leases) context.print(`"ID" : ${lease.ID}`);
  } else {
    context.print(`found ${leases.length} leases`);
    for (const lease of leases) context.print(leaseHex(lease.ID));
  }
}

function printKeepAlive(context: Context, { header, ID, TTL }: LeaseKeepAliveResponse): void {
  if (context.format === 'json') printLeaseJson(context, header, [`"ID":${ID}`, `"TTL":${TTL}`]);
  else if (context.format === 'fields') printNumbers(context, header, { ID, TTL });
  else context.print(`lease ${leaseHex(ID)} keepalived with TTL(${TTL})`);
}

async function keepAlive(context: Context, args: readonly string[]): Promise<undefined> {
  if (args.length !== 1) throw badArgs('lease keep-alive command needs lease ID as argument');
  const id = leaseArgument(args[0]!);
  context.support(...formats);
  const { lease } = context.client();
  if (context.flags.bool('once')) {
    const response = await lease.keepAliveOnce(id, context.call()).catch((error: Error) => {
      throw new CommandError(ExitCode.badConnection, errorText(error));
    });
    printKeepAlive(context, response);
    return;
  }
  const keeper = lease.keepAlive(id, (response) => printKeepAlive(context, response));
  context.interrupted.addEventListener('abort', () => keeper.stop(), { once: true });
  const lost = await keeper.ended;
  if (lost === undefined) return;
  if (!(lost instanceof EtcdError) || lost.message !== etcdErrors.leaseNotFound.message) throw lost;
  context.print(`lease ${leaseHex(id)} expired or revoked.`);
}

export const leaseCommands: readonly Command[] = [
  { name: 'lease grant', usage: '<ttl>', help: 'Creates leases', run: grant },
  { name: 'lease revoke', usage: '<leaseID>', help: 'Revokes leases', run: revoke },
  {
    name: 'lease timetolive',
    usage: '<leaseID> [options]',
    help: 'Get lease information',
    flags: [{ name: 'keys', kind: 'bool', help: 'Get keys attached to this lease' }],
    run: timeToLive,
  },
  { name: 'lease list', usage: '', help: 'List all active leases', run: list },
  {
    name: 'lease keep-alive',
    usage: '[options] <leaseID>',
    help: 'Keeps leases alive (renew)',
    flags: [
      {
        name: 'once',
        kind: 'bool',
        help: 'Resets the keep-alive time to its original value and exits immediately',
      },
    ],
    run: keepAlive,
  },
];
