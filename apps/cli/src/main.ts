/** Finds the command in the words given, fills its flags from line and environment, runs it, and turns what happens into an exit code. */
import type { Command } from './command.ts';
import { authCommands } from './commands/auth.ts';
import { backupCommands } from './commands/backup.ts';
import { concurrencyCommands } from './commands/concurrency.ts';
import { endpointCommands } from './commands/endpoint.ts';
import { kvCommands } from './commands/kv.ts';
import { leaseCommands } from './commands/lease.ts';
import { maintenanceCommands } from './commands/maintenance.ts';
import { memberCommands } from './commands/member.ts';
import { snapshotCommands } from './commands/snapshot.ts';
import { txnCommands } from './commands/txn.ts';
import { watchCommands } from './commands/watch.ts';
import { Context, globalFlags } from './context.ts';
import { CommandError, ExitCode, errorText } from './exit.ts';
import { type FlagSpec, Flags, parseArguments } from './flags.ts';
import { commandHelp, groupHelp, mainHelp } from './help.ts';

const apiVersion = '3.7';

/** The platform lib brings RocksDB and gRPC servers along, which costs most commands more time than their own work. */
async function version(): Promise<string> {
  return (await import('@quoin/platform')).releaseVersion;
}

function versionCommand(name: string): Command {
  return {
    name: 'version',
    usage: '',
    help: `Prints the version of ${name}`,
    run: async (context) => {
      context.print(`${name} version: ${await version()}`);
      context.print(`API version: ${apiVersion}`);
      return undefined;
    },
  };
}

export const commands: readonly Command[] = [
  ...kvCommands,
  ...txnCommands,
  ...watchCommands,
  ...leaseCommands,
  ...memberCommands,
  ...endpointCommands,
  ...maintenanceCommands,
  ...concurrencyCommands,
  ...authCommands,
  ...backupCommands,
  versionCommand('quoinctl'),
];

export interface Program {
  readonly name: string;
  readonly about: string;
  readonly commands: readonly Command[];
}

const quoinctl: Program = {
  name: 'quoinctl',
  about: 'A command line client for Quoin and etcd.',
  commands,
};

export const quoinutl: Program = {
  name: 'quoinutl',
  about: 'Works on files, without a server.',
  commands: [...snapshotCommands, versionCommand('quoinutl')],
};

interface Found {
  readonly command: Command;
  readonly rest: string[];
}

/** The command's words may have flags before and between them. */
function find({ commands }: Program, args: readonly string[]): Found | { readonly words: string[] } {
  const words: string[] = [];
  const rest: string[] = [];
  const globals = new Flags(globalFlags);
  for (let i = 0; i < args.length; i++) {
    const arg = args[i]!;
    if (arg === '--') break;
    if (arg.startsWith('-')) {
      rest.push(arg);
      const spec = arg.startsWith('--')
        ? globals.spec(arg.slice(2))
        : arg.length === 2
          ? globals.byShort(arg[1]!)
          : undefined;
      if (spec !== undefined && spec.kind !== 'bool' && i + 1 < args.length) rest.push(args[++i]!);
      continue;
    }
    words.push(arg);
    const command = commands.find((each) => each.name === words.join(' '));
    if (command !== undefined) return { command, rest: [...rest, ...args.slice(i + 1)] };
    if (!commands.some((each) => each.name.startsWith(`${words.join(' ')} `))) break;
  }
  return { words };
}

/** QUOINCTL_X wins over ETCDCTL_X; the command line wins over both. */
function fromEnvironment(flags: Flags, specs: readonly FlagSpec[]): void {
  for (const spec of specs) {
    if (spec.name === 'help') continue;
    const name = spec.name.toUpperCase().replaceAll('-', '_');
    for (const variable of [`QUOINCTL_${name}`, `ETCDCTL_${name}`]) {
      const value = process.env[variable];
      if (value === undefined || value === '') continue;
      flags.setDefault(spec, value, variable);
      break;
    }
  }
}

async function help(program: Program, words: readonly string[]): Promise<number> {
  const { commands, name } = program;
  const group = words[0];
  if (group === undefined || group === 'help') {
    process.stdout.write(mainHelp(program, globalFlags, await version(), apiVersion));
    return ExitCode.ok;
  }
  const members = commands.filter((each) => each.name.startsWith(`${group} `));
  if (members.length === 0) {
    process.stderr.write(
      `Error: unknown command "${group}" for "${name}"\nRun '${name} --help' for usage.\n`,
    );
    return ExitCode.error;
  }
  if (words.length > 1) process.stderr.write(`Error: unknown command "${words.join(' ')}" for "${name}"\n`);
  process.stdout.write(groupHelp(name, group, members, globalFlags));
  return words.length > 1 ? ExitCode.error : ExitCode.ok;
}

export async function main(
  args: readonly string[],
  interrupted: AbortSignal,
  program: Program = quoinctl,
): Promise<number> {
  const found = find(program, args[0] === 'help' ? args.slice(1) : args);
  if ('words' in found) return help(program, found.words);
  const { command, rest } = found;
  const specs = [...(command.flags ?? []), ...globalFlags];
  if (args[0] === 'help') {
    process.stdout.write(commandHelp(program.name, command, globalFlags));
    return ExitCode.ok;
  }
  const flags = new Flags(specs);
  let context: Context | undefined;
  let parsing = true;
  try {
    const parsed = parseArguments(rest, flags);
    fromEnvironment(flags, globalFlags);
    if (flags.bool('help')) {
      process.stdout.write(commandHelp(program.name, command, globalFlags));
      return ExitCode.ok;
    }
    parsing = false;
    context = new Context(flags, interrupted);
    if (program === quoinctl && command.name !== 'version') await context.discover();
    return (await command.run(context, parsed.positional, parsed.dash)) ?? ExitCode.ok;
  } catch (error) {
    return explain(error, `${program.name} ${command.name}`, parsing);
  } finally {
    context?.close();
  }
}

function explain(error: unknown, command: string, whileParsing: boolean): number {
  if (error instanceof CommandError) {
    process.stderr.write(`Error: ${error.message}\n`);
    if (whileParsing) process.stderr.write(`Run '${command} --help' for usage.\n`);
    return error.exitCode;
  }
  process.stderr.write(`Error: ${errorText(error)}\n`);
  return ExitCode.error;
}
