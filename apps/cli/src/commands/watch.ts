import { spawn } from 'node:child_process';
import { type Client, CompactedError, EtcdError, type Watcher, type WatchOptions } from '@quoin/client';
import { Code } from '@quoin/contracts';
import { Event_EventType, type WatchResponse } from '@quoin/contracts/etcd';
import type { Command } from '../command.ts';
import type { Context } from '../context.ts';
import { badArgs, CommandError, ExitCode } from '../exit.ts';
import { type FlagSpec, Flags, parseArguments } from '../flags.ts';
import { goQuote } from '../go-format.ts';
import { InputLines, splitWords } from '../input.ts';
import { printWatch } from '../print-kv.ts';

const watchFlags: readonly FlagSpec[] = [
  { name: 'interactive', short: 'i', kind: 'bool', help: 'Interactive mode' },
  { name: 'prefix', kind: 'bool', help: 'Watch on a prefix if prefix is set' },
  { name: 'rev', kind: 'int', default: '0', help: 'Revision to start watching' },
  { name: 'prev-kv', kind: 'bool', help: 'get the previous key-value pair before the event happens' },
  { name: 'progress-notify', kind: 'bool', help: 'get periodic watch progress notification from server' },
];

interface WatchPlan {
  readonly key: string;
  readonly options: WatchOptions;
  readonly exec: readonly string[];
}

function environment(name: string): string {
  return process.env[`QUOINCTL_${name}`] ?? process.env[`ETCDCTL_${name}`] ?? '';
}

/** @throws CommandError */
function plan(flags: Flags, args: readonly string[], dash: number): WatchPlan {
  let keys = dash === -1 ? [...args] : args.slice(0, dash);
  const exec = dash === -1 ? [] : args.slice(dash);
  if (dash !== -1 && exec.length === 0) throw badArgs('no exec command given');
  if (keys.length === 0 && environment('WATCH_KEY') !== '') {
    keys = [environment('WATCH_KEY')];
    if (environment('WATCH_RANGE_END') !== '') keys.push(environment('WATCH_RANGE_END'));
  }
  if (keys.length === 0) throw badArgs('bad number of arguments');
  const prefix = flags.bool('prefix');
  if (prefix && keys.length > 1) throw badArgs('`range_end` and `--prefix` are mutually exclusive');
  const options: WatchOptions = {
    prefix,
    rangeEnd: prefix ? undefined : keys[1],
    startRevision: flags.int('rev'),
    prevKv: flags.bool('prev-kv'),
    progressNotify: flags.bool('progress-notify'),
  };
  return { key: keys[0]!, options, exec };
}

async function follow(context: Context, watcher: Watcher, exec: readonly string[]): Promise<number> {
  try {
    for await (const response of watcher) {
      if (response.events.length === 0) {
        context.print(`progress notify: ${response.header?.revision ?? 0n}`);
        continue;
      }
      printWatch(context, response);
      if (exec.length > 0) for (const event of response.events) await runFor(exec, response, event);
    }
    return ExitCode.ok;
  } catch (error) {
    if (error instanceof CompactedError || (error instanceof EtcdError && error.code === Code.canceled)) {
      context.warn(`watch was canceled (${error.message})`);
      throw new CommandError(ExitCode.interrupted, 'watch is canceled by the server');
    }
    throw error;
  }
}

function runFor(
  exec: readonly string[],
  response: WatchResponse,
  event: WatchResponse['events'][number],
): Promise<void> {
  const env = {
    ...process.env,
    ETCD_WATCH_REVISION: String(response.header?.revision ?? 0n),
    ETCD_WATCH_EVENT_TYPE: event.type === Event_EventType.DELETE ? '"DELETE"' : '"PUT"',
    ETCD_WATCH_KEY: goQuote(event.kv?.key ?? ''),
    ETCD_WATCH_VALUE: goQuote(event.kv?.value ?? ''),
  };
  return new Promise((resolve, reject) => {
    const child = spawn(exec[0]!, exec.slice(1), { env, stdio: ['ignore', 'inherit', 'inherit'] });
    child.on('error', (error) =>
      reject(new CommandError(ExitCode.error, `command ${goQuote(exec[0]!)} failed: ${error.message}`)),
    );
    child.on('close', () => resolve());
  });
}

async function watch(context: Context, args: readonly string[], dash: number): Promise<number> {
  if (context.flags.bool('interactive')) return interactive(context);
  const { key, options, exec } = plan(context.flags, args, dash);
  context.support('simple', 'json', 'fields');
  const watcher = context.client().watch.watch(key, options);
  context.interrupted.addEventListener('abort', () => watcher.cancel(), { once: true });
  return follow(context, watcher, exec);
}

/** Lines `watch [options] key [end] [-- command]` and `progress`, until the input ends. */
async function interactive(context: Context): Promise<number> {
  context.support('simple', 'json', 'fields');
  const client = context.client();
  const lines = new InputLines();
  const interrupt = new Promise<undefined>((resolve) =>
    context.interrupted.addEventListener('abort', () => resolve(undefined), { once: true }),
  );
  for (;;) {
    const line = await Promise.race([lines.next(), interrupt]);
    if (context.interrupted.aborted) return ExitCode.ok;
    if (line === undefined)
      throw new CommandError(ExitCode.invalidInput, 'Error reading watch request line: EOF');
    try {
      interactiveLine(context, client, line.trim());
    } catch (error) {
      if (!(error instanceof CommandError)) throw error;
      context.warn(`Invalid command ${line.trim()} (${error.message})`);
    }
  }
}

function interactiveLine(context: Context, client: Client, line: string): void {
  const [command, ...words] = splitWords(line);
  if (command === 'progress') return client.watch.requestProgress();
  if (command !== 'watch') {
    if (line !== '') context.warn(`Invalid command ${line} (only support watch)`);
    return;
  }
  const flags = new Flags(watchFlags);
  const { positional, dash } = parseArguments(words, flags);
  if (positional.length === 0 && environment('WATCH_KEY') === '')
    throw badArgs('command type or key is not provided');
  const { key, options, exec } = plan(flags, positional, dash);
  follow(context, client.watch.watch(key, options), exec).catch((error: Error) =>
    context.warn(error.message),
  );
}

export const watchCommands: readonly Command[] = [
  {
    name: 'watch',
    usage: '[options] [key or prefix] [range_end] [--] [exec-command arg1 arg2 ...]',
    help: 'Watches events stream on keys or prefixes',
    flags: watchFlags,
    run: watch,
  },
];
