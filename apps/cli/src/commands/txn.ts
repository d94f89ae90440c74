import { type CompareOperator, type Comparison, compare, type Op, op } from '@quoin/client';
import type { Command } from '../command.ts';
import type { Context } from '../context.ts';
import { badArgs, CommandError, ExitCode } from '../exit.ts';
import { type FlagSpec, Flags, parseArguments } from '../flags.ts';
import { goQuote, parseGoInt } from '../go-format.ts';
import { InputLines, splitWords } from '../input.ts';
import { printTxn } from '../print-kv.ts';
import { deleteArguments, deleteFlags, getArguments, getFlags, putArguments, putFlags } from './kv.ts';

function invalid(message: string): CommandError {
  return new CommandError(ExitCode.invalidInput, message);
}

/** Lines up to a blank one. */
async function block<T>(lines: InputLines, parse: (line: string) => Promise<T> | T): Promise<T[]> {
  const out: T[] = [];
  for (;;) {
    const line = await lines.next();
    if (line === undefined) throw invalid('EOF');
    const trimmed = line.trim();
    if (trimmed === '') return out;
    out.push(await parse(trimmed));
  }
}

const targets: Readonly<Record<string, keyof typeof compare>> = {
  ver: 'version',
  version: 'version',
  c: 'createRevision',
  create: 'createRevision',
  m: 'modRevision',
  mod: 'modRevision',
  val: 'value',
  value: 'value',
  lease: 'lease',
};
const operators: readonly string[] = ['=', '!=', '<', '>'];
const quoted = '"((?:[^"\\\\]|\\\\.)*)"';

/** `target("key") operator "value"`. @throws CommandError */
export function parseComparison(line: string): Comparison {
  const open = line.indexOf('(');
  if (open === -1) throw invalid(`malformed comparison: ${line}`);
  const target = line.slice(0, open);
  const key = new RegExp(`^\\(${quoted}\\)`).exec(line.slice(open));
  const operator = key === null ? null : /^\s+(\S+)/.exec(line.slice(open + key[0].length));
  const value =
    operator === null
      ? null
      : new RegExp(`^\\s+${quoted}`).exec(line.slice(open + key![0].length + operator[0].length));
  if (value === null) {
    throw invalid(
      `malformed comparison: ${line}; got ${target}(${goQuote(key?.[1] ?? '')}) ${operator?.[1] ?? ''} ""`,
    );
  }
  const name = targets[target];
  if (name === undefined) throw invalid(`malformed comparison: ${line} (unknown target ${target})`);
  if (!operators.includes(operator![1]!))
    throw invalid(`malformed comparison: ${line} (unknown operator ${operator![1]})`);
  const by = operator![1] as CompareOperator;
  const [k, v] = [unquote(key![1]!), unquote(value[1]!)];
  if (name === 'value') return compare.value(k, by, v);
  try {
    return compare[name](k, by, parseGoInt(v, name === 'lease' ? { base: 16 } : {}));
  } catch {
    throw invalid(`invalid txn compare request: ${line}`);
  }
}

function unquote(text: string): string {
  return splitWords(`"${text}"`)[0] ?? '';
}

async function parseRequest(line: string): Promise<Op> {
  const [command, ...words] = splitWords(line);
  const specs: Readonly<Record<string, readonly FlagSpec[]>> = {
    get: getFlags,
    put: putFlags,
    del: deleteFlags,
  };
  const known = command === undefined ? undefined : specs[command];
  if (known === undefined) throw invalid(`invalid txn request: ${line}`);
  const flags = new Flags(known);
  let args: readonly string[];
  try {
    args = parseArguments(words, flags).positional;
  } catch {
    throw invalid(`invalid txn request: ${line}`);
  }
  if (command === 'put') {
    const { key, value, options } = await putArguments(flags, args, undefined);
    return op.put(key, value, options);
  }
  if (command === 'get') {
    const { key, options } = getArguments(flags, args);
    return op.get(key, options);
  }
  const { key, options } = deleteArguments(flags, args);
  return op.delete(key, options);
}

async function txn(context: Context, args: readonly string[]): Promise<undefined> {
  if (args.length > 0) throw badArgs('txn command does not accept argument');
  const prompt = (text: string) => {
    if (context.flags.bool('interactive')) context.print(text);
  };
  const lines = new InputLines();
  prompt('compares:');
  const compares = await block(lines, parseComparison);
  prompt('success requests (get, put, del):');
  const success = await block(lines, parseRequest);
  prompt('failure requests (get, put, del):');
  const failure = await block(lines, parseRequest);
  context.support('simple', 'json', 'fields', 'protobuf');
  printTxn(context, await context.client().kv.txn({ compare: compares, success, failure }, context.call()));
}

export const txnCommands: readonly Command[] = [
  {
    name: 'txn',
    usage: '[options]',
    help: 'Txn processes all the requests in one transaction',
    flags: [{ name: 'interactive', short: 'i', kind: 'bool', help: 'Input transaction in interactive mode' }],
    run: txn,
  },
];
