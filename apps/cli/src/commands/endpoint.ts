import { hexId } from '@quoin/base';
import { EtcdError } from '@quoin/client';
import { etcdErrors } from '@quoin/contracts';
import {
  type HashKVResponse,
  HashKVResponseSchema,
  type StatusResponse,
  StatusResponseSchema,
} from '@quoin/contracts/etcd';
import type { Command } from '../command.ts';
import type { Context } from '../context.ts';
import { CommandError, ExitCode, errorText } from '../exit.ts';
import type { FlagSpec } from '../flags.ts';
import { goDuration, goJsonString, goQuote, humanBytes } from '../go-format.ts';
import { messageJson } from '../message-json.ts';
import { printHeaderFields } from '../print-kv.ts';
import { table } from '../table.ts';

export const clusterFlag: FlagSpec = {
  name: 'cluster',
  kind: 'bool',
  help: 'use all endpoints from the cluster member list',
};

/** Those given, or with --cluster those that the members publish. */
export async function chosenEndpoints(context: Context): Promise<string[]> {
  if (!context.flags.bool('cluster')) return context.endpoints();
  const { members } = await context
    .client()
    .cluster.memberList({}, context.call())
    .catch((error: Error) => {
      throw new CommandError(
        ExitCode.error,
        `failed to fetch endpoints from etcd cluster member list: ${errorText(error)}`,
      );
    });
  // Gateways serve for all members: the same URL is listed with each of them.
  return [...new Set(members.flatMap((member) => member.clientURLs))];
}

interface Health {
  readonly endpoint: string;
  readonly health: boolean;
  readonly took: string;
  readonly error: string;
}

async function probe(context: Context, endpoint: string): Promise<Health> {
  const started = process.hrtime.bigint();
  let error = '';
  try {
    await context.client([endpoint]).kv.get('health', {}, context.call());
  } catch (caught) {
    // Being refused is an answer, too.
    if (!(caught instanceof EtcdError) || caught.message !== etcdErrors.permissionDenied.message)
      error = errorText(caught);
  }
  return {
    endpoint,
    health: error === '',
    took: goDuration(Number(process.hrtime.bigint() - started)),
    error,
  };
}

async function health(context: Context): Promise<undefined> {
  context.support('simple', 'json', 'fields', 'table');
  const results: Health[] = [];
  await Promise.all(
    (await chosenEndpoints(context)).map(async (endpoint) => results.push(await probe(context, endpoint))),
  );
  printHealth(context, results);
  if (results.some((each) => !each.health)) throw new CommandError(ExitCode.error, 'unhealthy cluster');
}

function printHealth(context: Context, results: readonly Health[]): void {
  if (context.format === 'json') {
    const each = results.map(({ endpoint, health, took, error }) => {
      const tail = error === '' ? '' : `,"error":${goJsonString(error)}`;
      return `{"endpoint":${goJsonString(endpoint)},"health":${health},"took":"${took}"${tail}}`;
    });
    context.print(`[${each.join(',')}]`);
  } else if (context.format === 'table') {
    context.print(
      table(
        ['ENDPOINT', 'HEALTH', 'TOOK', 'ERROR'],
        results.map((r) => [r.endpoint, String(r.health), r.took, r.error]),
      ),
    );
  } else if (context.format === 'fields') {
    for (const { endpoint, health, took, error } of results) {
      context.print(
        `"Endpoint" : ${goQuote(endpoint)}\n"Health" : ${health}\n"Took" : ${took}\n"Error" : ${error}\n`,
      );
    }
  } else {
    for (const { endpoint, took, error } of results) {
      if (error === '')
        context.print(`${endpoint} is healthy: successfully committed proposal: took = ${took}`);
      else context.warn(`${endpoint} is unhealthy: failed to commit proposal: ${error}`);
    }
  }
}

/** Asks each endpoint; what fails is told on stderr and turns the exit code to 1. */
async function askEach<T>(
  context: Context,
  what: string,
  ask: (endpoint: string) => Promise<T>,
): Promise<{ answers: { endpoint: string; answer: T }[]; failure: Error | undefined }> {
  const answers: { endpoint: string; answer: T }[] = [];
  let failure: Error | undefined;
  for (const endpoint of await chosenEndpoints(context)) {
    try {
      answers.push({ endpoint, answer: await ask(endpoint) });
    } catch (error) {
      failure = error as Error;
      context.warn(`Failed to get the ${what} of endpoint ${endpoint} (${errorText(failure)})`);
    }
  }
  return { answers, failure };
}

function statusRow(endpoint: string, s: StatusResponse): string[] {
  return [
    endpoint,
    hexId(s.header?.memberId ?? 0n),
    s.version,
    humanBytes(s.dbSize),
    String(s.leader !== 0n && s.leader === s.header?.memberId),
    String(s.isLearner),
    String(s.raftTerm),
    String(s.raftIndex),
    String(s.raftAppliedIndex),
    s.errors.join(', '),
  ];
}

const statusHeadings = [
  'ENDPOINT',
  'ID',
  'VERSION',
  'DB SIZE',
  'IS LEADER',
  'IS LEARNER',
  'RAFT TERM',
  'RAFT INDEX',
  'RAFT APPLIED INDEX',
  'ERRORS',
];

async function status(context: Context): Promise<number> {
  context.support('simple', 'json', 'fields', 'table');
  const { answers, failure } = await askEach(context, 'status', (endpoint) =>
    context.client([endpoint]).maintenance.status(context.call()),
  );
  if (context.format === 'json') {
    const each = answers.map(
      ({ endpoint, answer }) =>
        `{"Endpoint":${goJsonString(endpoint)},"Status":${messageJson(StatusResponseSchema, answer)}}`,
    );
    context.print(each.length === 0 ? 'null' : `[${each.join(',')}]`);
  } else if (context.format === 'table') {
    context.print(
      table(
        statusHeadings,
        answers.map(({ endpoint, answer }) => statusRow(endpoint, answer)),
      ),
    );
  } else if (context.format === 'fields') {
    for (const { endpoint, answer } of answers) printStatusFields(context, endpoint, answer);
  } else for (const { endpoint, answer } of answers) context.print(statusRow(endpoint, answer).join(', '));
  return failure === undefined ? ExitCode.ok : ExitCode.error;
}

function printStatusFields(context: Context, endpoint: string, s: StatusResponse): void {
  printHeaderFields(context, s.header);
  context.print(`"Version" : ${goQuote(s.version)}`);
  context.print(`"DBSize" : ${s.dbSize}`);
  context.print(`"Leader" : ${s.leader}`);
  context.print(`"IsLearner" : ${s.isLearner}`);
  context.print(`"RaftIndex" : ${s.raftIndex}`);
  context.print(`"RaftTerm" : ${s.raftTerm}`);
  context.print(`"RaftAppliedIndex" : ${s.raftAppliedIndex}`);
  context.print(`"Errors" : [${s.errors.map((error) => goQuote(error)).join(' ')}]`);
  context.print(`"Endpoint" : ${goQuote(endpoint)}\n`);
}

async function hashKv(context: Context): Promise<undefined> {
  context.support('simple', 'json', 'fields', 'table');
  const revision = context.flags.int('rev');
  const { answers, failure } = await askEach<HashKVResponse>(context, 'hash', (endpoint) =>
    context.client([endpoint]).maintenance.hashKv(revision, context.call()),
  );
  if (context.format === 'json') {
    const each = answers.map(
      ({ endpoint, answer }) =>
        `{"Endpoint":${goJsonString(endpoint)},"HashKV":${messageJson(HashKVResponseSchema, answer)}}`,
    );
    context.print(each.length === 0 ? 'null' : `[${each.join(',')}]`);
  } else if (context.format === 'table') {
    context.print(
      table(
        ['ENDPOINT', 'HASH'],
        answers.map(({ endpoint, answer }) => [endpoint, String(answer.hash)]),
      ),
    );
  } else if (context.format === 'fields') {
    for (const { endpoint, answer } of answers) {
      printHeaderFields(context, answer.header);
      context.print(`"Endpoint" : ${goQuote(endpoint)}`);
      context.print(`"Hash" : ${answer.hash}\n`);
    }
  } else for (const { endpoint, answer } of answers) context.print(`${endpoint}, ${answer.hash}`);
  if (failure !== undefined) throw new CommandError(ExitCode.error, errorText(failure));
}

export const endpointCommands: readonly Command[] = [
  {
    name: 'endpoint health',
    usage: '',
    help: 'Checks the healthiness of endpoints specified in `--endpoints` flag',
    flags: [clusterFlag],
    run: health,
  },
  {
    name: 'endpoint status',
    usage: '',
    help: 'Prints out the status of endpoints specified in `--endpoints` flag',
    flags: [clusterFlag],
    run: status,
  },
  {
    name: 'endpoint hashkv',
    usage: '',
    help: 'Prints the KV history hash for each endpoint in --endpoints',
    flags: [
      clusterFlag,
      { name: 'rev', kind: 'int', default: '0', help: 'maximum revision to hash (default: all revisions)' },
    ],
    run: hashKv,
  },
];
