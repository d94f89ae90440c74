import type { Client, DeleteOptions, PutOptions, RangeOptions } from '@quoin/client';
import { KV } from '@quoin/contracts/etcd';
import type { Command } from '../command.ts';
import type { Context } from '../context.ts';
import { badArgs, CommandError, ExitCode } from '../exit.ts';
import type { FlagSpec, Flags } from '../flags.ts';
import { parseGoInt } from '../go-format.ts';
import { readInput } from '../input.ts';
import { printDelete, printPut, printRange } from '../print-kv.ts';

const rangeFlags: readonly FlagSpec[] = [
  { name: 'prefix', kind: 'bool', help: 'Get keys with matching prefix' },
  {
    name: 'from-key',
    kind: 'bool',
    help: 'Get keys that are greater than or equal to the given key using byte compare',
  },
];

export const getFlags: readonly FlagSpec[] = [
  ...rangeFlags,
  { name: 'consistency', kind: 'string', default: 'l', help: 'Linearizable(l) or Serializable(s)' },
  { name: 'order', kind: 'string', help: 'Order of results; ASCEND or DESCEND (ASCEND by default)' },
  { name: 'sort-by', kind: 'string', help: 'Sort target; CREATE, KEY, MODIFY, VALUE, or VERSION' },
  { name: 'limit', kind: 'int', default: '0', help: 'Maximum number of results' },
  { name: 'rev', kind: 'int', default: '0', help: 'Specify the kv revision' },
  { name: 'keys-only', kind: 'bool', help: 'Get only the keys' },
  { name: 'count-only', kind: 'bool', help: 'Get only the count' },
  { name: 'print-value-only', kind: 'bool', help: 'Only write values when using the "simple" output format' },
  { name: 'min-create-rev', kind: 'int', default: '0', help: 'Minimum create revision' },
  { name: 'max-create-rev', kind: 'int', default: '0', help: 'Maximum create revision' },
  { name: 'min-mod-rev', kind: 'int', default: '0', help: 'Minimum modification revision' },
  { name: 'max-mod-rev', kind: 'int', default: '0', help: 'Maximum modification revision' },
  { name: 'stream', kind: 'bool', help: 'Receive the result in parts' },
];

const sortTargets: Readonly<Record<string, RangeOptions['sortBy']>> = {
  CREATE: 'create',
  KEY: 'key',
  MODIFY: 'mod',
  VALUE: 'value',
  VERSION: 'version',
};

/** Range of `get` and `del`. @throws CommandError */
function keyRange(
  flags: Flags,
  args: readonly string[],
  command: string,
): { key: string; range: DeleteOptions } {
  if (args.length === 0)
    throw badArgs(`${command} command needs one argument as key and an optional argument as range_end`);
  const [prefix, fromKey] = [flags.bool('prefix'), flags.bool('from-key')];
  if (prefix && fromKey)
    throw badArgs('`--prefix` and `--from-key` cannot be set at the same time, choose one');
  if (args.length > 1 && (prefix || fromKey)) {
    throw badArgs('too many arguments, only accept one argument when `--prefix` or `--from-key` is set');
  }
  return { key: args[0]!, range: { prefix, fromKey, rangeEnd: args[1] } };
}

export function getArguments(flags: Flags, args: readonly string[]): { key: string; options: RangeOptions } {
  const { key, range } = keyRange(flags, args, 'get');
  const consistency = flags.text('consistency');
  if (consistency !== 'l' && consistency !== 's')
    throw new CommandError(ExitCode.badFeature, `unknown consistency flag "${consistency}"`);
  const order = flags.text('order').toUpperCase();
  if (!['', 'ASCEND', 'DESCEND'].includes(order))
    throw new CommandError(ExitCode.badFeature, `bad sort order ${flags.text('order')}`);
  const sortBy = flags.text('sort-by').toUpperCase();
  if (sortBy !== '' && sortTargets[sortBy] === undefined)
    throw new CommandError(ExitCode.badFeature, `bad sort target ${flags.text('sort-by')}`);
  const options: RangeOptions = {
    ...range,
    serializable: consistency === 's',
    order: order === 'DESCEND' ? 'descend' : order === 'ASCEND' ? 'ascend' : 'none',
    sortBy: sortTargets[sortBy],
    limit: flags.int('limit'),
    revision: flags.int('rev'),
    keysOnly: flags.bool('keys-only'),
    countOnly: flags.bool('count-only'),
    minCreateRevision: flags.int('min-create-rev'),
    maxCreateRevision: flags.int('max-create-rev'),
    minModRevision: flags.int('min-mod-rev'),
    maxModRevision: flags.int('max-mod-rev'),
  };
  return { key, options };
}

async function get(context: Context, args: readonly string[]): Promise<undefined> {
  const { flags } = context;
  const { key, options } = getArguments(flags, args);
  context.support('simple', 'json', 'fields', 'protobuf');
  const shape = { valueOnly: flags.bool('print-value-only'), countOnly: options.countOnly ?? false };
  if (shape.valueOnly && context.format !== 'simple')
    throw badArgs('print-value-only is only for `--write-out=simple`');
  const client = context.client();
  if (flags.bool('stream')) await stream(context, client, key, options, shape);
  else printRange(context, await client.kv.get(key, options, context.call()), shape);
}

async function stream(
  context: Context,
  client: Client,
  key: string,
  options: RangeOptions,
  shape: { valueOnly: boolean; countOnly: boolean },
): Promise<void> {
  for await (const part of client.kv.rangeStream(key, options, context.call()))
    printRange(context, part, shape);
}

export const putFlags: readonly FlagSpec[] = [
  { name: 'lease', kind: 'string', default: '0', help: 'lease ID (in hexadecimal) to attach to the key' },
  { name: 'prev-kv', kind: 'bool', help: 'return the previous key-value pair before modification' },
  { name: 'ignore-value', kind: 'bool', help: 'updates the key using its current value' },
  { name: 'ignore-lease', kind: 'bool', help: 'updates the key using its current lease' },
];

/** `readStdin`: where the value comes from when the line does not give it. */
export async function putArguments(
  flags: Flags,
  args: readonly string[],
  readStdin: (() => Promise<Uint8Array>) | undefined,
): Promise<{ key: string; value: Uint8Array | string; options: PutOptions }> {
  const needs = () => badArgs('put command needs 1 argument and input from stdin or 2 arguments');
  if (args.length === 0) throw needs();
  const ignoreValue = flags.bool('ignore-value');
  if (ignoreValue && args.length > 1)
    throw badArgs("put command needs only 1 argument when 'ignore-value' is set");
  let lease: bigint;
  try {
    lease = parseGoInt(flags.text('lease'), { base: 16 });
  } catch (error) {
    throw badArgs(`bad lease ID (${(error as Error).message}), expecting ID in Hex`);
  }
  const options = {
    lease,
    prevKv: flags.bool('prev-kv'),
    ignoreValue,
    ignoreLease: flags.bool('ignore-lease'),
  };
  if (ignoreValue) return { key: args[0]!, value: '', options };
  if (args.length > 1) return { key: args[0]!, value: args[1]!, options };
  const value = await readStdin?.();
  if (value === undefined || value.length === 0) throw needs();
  return { key: args[0]!, value, options };
}

async function put(context: Context, args: readonly string[]): Promise<undefined> {
  const { key, value, options } = await putArguments(context.flags, args, readInput);
  context.support('simple', 'json', 'fields', 'protobuf');
  printPut(context, await context.client().kv.put(key, value, options, context.call()));
}

export const deleteFlags: readonly FlagSpec[] = [
  { name: 'prefix', kind: 'bool', help: 'delete keys with matching prefix' },
  {
    name: 'from-key',
    kind: 'bool',
    help: 'delete keys that are greater than or equal to the given key using byte compare',
  },
  { name: 'prev-kv', kind: 'bool', help: 'return deleted key-value pairs' },
  { name: 'range', kind: 'bool', help: 'delete range of keys' },
];

export function deleteArguments(
  flags: Flags,
  args: readonly string[],
): { key: string; options: DeleteOptions } {
  const { key, range } = keyRange(flags, args, 'del');
  return { key, options: { ...range, prevKv: flags.bool('prev-kv') } };
}

async function del(context: Context, args: readonly string[]): Promise<undefined> {
  const { key, options } = deleteArguments(context.flags, args);
  context.support('simple', 'json', 'fields', 'protobuf');
  printDelete(context, await context.client().kv.delete(key, options, context.call()));
}

async function compaction(context: Context, args: readonly string[]): Promise<undefined> {
  if (args.length !== 1) throw badArgs('compaction command needs 1 argument');
  let revision: bigint;
  try {
    revision = parseGoInt(args[0]!);
  } catch (error) {
    throw new CommandError(ExitCode.error, (error as Error).message);
  }
  const physical = context.flags.bool('physical');
  // Waiting for the removal may take long: no limit then.
  await context
    .client()
    .transport.unary(
      KV.method.compact,
      { revision, physical },
      context.call(physical ? { timeoutMs: 0 } : {}),
    );
  context.print(`compacted revision ${revision}`);
}

export const kvCommands: readonly Command[] = [
  {
    name: 'get',
    usage: '[options] <key> [range_end]',
    help: 'Gets the key or a range of keys',
    flags: getFlags,
    run: get,
  },
  {
    name: 'put',
    usage: '[options] <key> <value> (<value> can also be given from stdin)',
    help: 'Puts the given key into the store',
    flags: putFlags,
    run: put,
  },
  {
    name: 'del',
    usage: '[options] <key> [range_end]',
    help: 'Removes the specified key or range of keys [key, range_end)',
    flags: deleteFlags,
    run: del,
  },
  {
    name: 'compaction',
    usage: '[options] <revision>',
    help: 'Compacts the event history in etcd',
    flags: [{ name: 'physical', kind: 'bool', help: 'wait for the removal of all old revisions' }],
    run: compaction,
  },
];
