import { hexId } from '@quoin/base';
import {
  type Member,
  MemberAddResponseSchema,
  type MemberListResponse,
  MemberListResponseSchema,
  MemberPromoteResponseSchema,
  MemberRemoveResponseSchema,
  MemberUpdateResponseSchema,
  type ResponseHeader,
} from '@quoin/contracts/etcd';
import type { Command } from '../command.ts';
import type { Context } from '../context.ts';
import { badArgs, CommandError, ExitCode } from '../exit.ts';
import type { FlagSpec } from '../flags.ts';
import { goJsonString, goQuote, parseGoInt } from '../go-format.ts';
import { printHeaderFields, printMessage } from '../print-kv.ts';
import { table } from '../table.ts';

const peerUrls: FlagSpec = {
  name: 'peer-urls',
  kind: 'strings',
  help: 'comma separated peer URLs for the member',
};

function idArgument(args: readonly string[]): bigint {
  if (args.length !== 1) throw badArgs('member ID is not provided');
  try {
    return parseGoInt(args[0]!, { base: 16, unsigned: true });
  } catch (error) {
    throw badArgs(`bad member ID arg (${(error as Error).message}), expecting ID in Hex`);
  }
}

/** @throws CommandError */
function urlsFlag(context: Context): string[] {
  const urls = context.flags.list('peer-urls').map((url) => url.trim());
  if (urls.length === 0) throw badArgs('member peer urls not provided');
  for (const url of urls) {
    if (!/^(https?|unixs?):\/\//.test(url))
      throw new CommandError(ExitCode.error, `URL scheme must be http, https, unix, or unixs: ${url}`);
  }
  return urls;
}

function padded(id: bigint): string {
  return hexId(id).padStart(16, ' ');
}

function clusterOf(header: ResponseHeader | undefined): string {
  return padded(header?.clusterId ?? 0n);
}

async function add(context: Context, args: readonly string[]): Promise<undefined> {
  if (args.length < 1) throw badArgs('member name not provided');
  if (args.length > 1) throw badArgs('too many arguments');
  const urls = urlsFlag(context);
  context.support('simple', 'json', 'protobuf');
  const name = args[0]!;
  const { cluster } = context.client();
  const response = await cluster.memberAdd(urls, { learner: context.flags.bool('learner') }, context.call());
  if (printMessage(context, MemberAddResponseSchema, response)) return;
  const id = response.member?.ID ?? 0n;
  context.print(`Member ${padded(id)} added to cluster ${clusterOf(response.header)}`);
  // The answering member may not have applied the change: only a list that holds the new member is the whole one.
  let members = response.members;
  for (let tries = 0; tries < 10 && !members.some((member) => member.ID === id); tries++) {
    members = (await cluster.memberList({}, context.call())).members;
  }
  const initial = members.flatMap((member) =>
    member.peerURLs.map((url) => `${member.ID === id ? name : member.name}=${url}`),
  );
  context.print('');
  context.print(`ETCD_NAME=${goQuote(name)}`);
  context.print(`ETCD_INITIAL_CLUSTER=${goQuote(initial.join(','))}`);
  context.print(`ETCD_INITIAL_ADVERTISE_PEER_URLS=${goQuote(urls.join(','))}`);
  context.print('ETCD_INITIAL_CLUSTER_STATE="existing"');
}

async function remove(context: Context, args: readonly string[]): Promise<undefined> {
  const id = idArgument(args);
  context.support('simple', 'json', 'protobuf');
  const response = await context.client().cluster.memberRemove(id, context.call());
  if (printMessage(context, MemberRemoveResponseSchema, response)) return;
  context.print(`Member ${padded(id)} removed from cluster ${clusterOf(response.header)}`);
}

async function update(context: Context, args: readonly string[]): Promise<undefined> {
  const id = idArgument(args);
  const urls = urlsFlag(context);
  context.support('simple', 'json', 'protobuf');
  const response = await context.client().cluster.memberUpdate(id, urls, context.call());
  if (printMessage(context, MemberUpdateResponseSchema, response)) return;
  context.print(`Member ${padded(id)} updated in cluster ${clusterOf(response.header)}`);
}

async function promote(context: Context, args: readonly string[]): Promise<undefined> {
  const id = idArgument(args);
  context.support('simple', 'json', 'protobuf');
  const response = await context.client().cluster.memberPromote(id, context.call());
  if (printMessage(context, MemberPromoteResponseSchema, response)) return;
  context.print(`Member ${padded(id)} promoted in cluster ${clusterOf(response.header)}`);
}

function row(member: Member): string[] {
  const status = member.name === '' ? 'unstarted' : 'started';
  const urls = [member.peerURLs.join(','), member.clientURLs.join(',')];
  return [hexId(member.ID), status, member.name, ...urls, String(member.isLearner)];
}

async function list(context: Context): Promise<undefined> {
  const consistency = context.flags.text('consistency');
  if (consistency !== 'l' && consistency !== 's')
    throw new CommandError(ExitCode.badFeature, `unknown consistency flag "${consistency}"`);
  const response = await context
    .client()
    .cluster.memberList({ serializable: consistency === 's' }, context.call());
  if (context.format === 'json' && context.hex) return void context.print(hexJson(response));
  if (printMessage(context, MemberListResponseSchema, response)) return;
  const { members } = response;
  if (context.format === 'table') {
    context.print(
      table(['ID', 'STATUS', 'NAME', 'PEER ADDRS', 'CLIENT ADDRS', 'IS LEARNER'], members.map(row)),
    );
  } else if (context.format === 'fields') {
    printHeaderFields(context, response.header);
    for (const member of members) printFields(context, member);
  } else for (const member of members) context.print(row(member).join(', '));
}

function printFields(context: Context, member: Member): void {
  context.print(`"ID" : ${member.ID}`);
  context.print(`"Name" : ${goQuote(member.name)}`);
  for (const url of member.peerURLs) context.print(`"PeerURL" : ${goQuote(url)}`);
  for (const url of member.clientURLs) context.print(`"ClientURL" : ${goQuote(url)}`);
  context.print(`"IsLearner" : ${member.isLearner}`);
  context.print('');
}

/** Ids as people know them from every other output; numbers beyond 2^53 are lost on many JSON readers. */
function hexJson({ header, members }: MemberListResponse): string {
  const head = `{"cluster_id":"${hexId(header?.clusterId ?? 0n)}","member_id":"${hexId(header?.memberId ?? 0n)}","raft_term":${header?.raftTerm ?? 0n}}`;
  const each = members.map((member) => {
    const parts = [`"ID":"${hexId(member.ID)}"`];
    if (member.name !== '') parts.push(`"name":${goJsonString(member.name)}`);
    if (member.peerURLs.length > 0) parts.push(`"peerURLs":[${member.peerURLs.map(goJsonString).join(',')}]`);
    if (member.clientURLs.length > 0)
      parts.push(`"clientURLs":[${member.clientURLs.map(goJsonString).join(',')}]`);
    if (member.isLearner) parts.push('"isLearner":true');
    return `{${parts.join(',')}}`;
  });
  return `{"header":${head},"members":[${each.join(',')}]}`;
}

export const memberCommands: readonly Command[] = [
  {
    name: 'member add',
    usage: '<memberName> [options]',
    help: 'Adds a member into the cluster',
    flags: [peerUrls, { name: 'learner', kind: 'bool', help: 'indicates if the new member is raft learner' }],
    run: add,
  },
  { name: 'member remove', usage: '<memberID>', help: 'Removes a member from the cluster', run: remove },
  {
    name: 'member update',
    usage: '<memberID> [options]',
    help: 'Updates a member in the cluster',
    flags: [peerUrls],
    run: update,
  },
  {
    name: 'member list',
    usage: '',
    help: 'Lists all members in the cluster',
    flags: [
      { name: 'consistency', kind: 'string', default: 'l', help: 'Linearizable(l) or Serializable(s)' },
    ],
    run: list,
  },
  {
    name: 'member promote',
    usage: '<memberID>',
    help: 'Promotes a non-voting member in the cluster',
    run: promote,
  },
];
