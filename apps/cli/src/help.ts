import type { Command } from './command.ts';
import type { FlagSpec } from './flags.ts';

function columns(rows: readonly (readonly [string, string])[]): string {
  const width = Math.max(0, ...rows.map(([left]) => left.length)) + 2;
  return rows.map(([left, right]) => `${left.padEnd(width)}${right}\n`).join('');
}

function flagRows(flags: readonly FlagSpec[]): [string, string][] {
  return [...flags]
    .sort((a, b) => (a.name < b.name ? -1 : 1))
    .map((flag) => {
      const short = flag.short === undefined ? '    ' : `-${flag.short}, `;
      const value =
        flag.kind === 'bool'
          ? `[=${flag.default ?? 'false'}]`
          : flag.kind === 'string'
            ? `="${flag.default ?? ''}"`
            : `=${flag.default ?? ''}`;
      return [`  ${short}--${flag.name}${value}`, flag.help];
    });
}

function commandRows(commands: readonly Command[], strip = 0): [string, string][] {
  return [...commands]
    .sort((a, b) => (a.name < b.name ? -1 : 1))
    .map((each) => [`\t${each.name.slice(strip)}`, each.help]);
}

export function commandHelp(program: string, command: Command, globals: readonly FlagSpec[]): string {
  const own = command.flags === undefined ? '' : `OPTIONS:\n${columns(flagRows(command.flags))}\n`;
  return `NAME:\n\t${command.name} - ${command.help}\n\nUSAGE:\n\t${program} ${command.name} ${command.usage}\n\n${own}GLOBAL OPTIONS:\n${columns(flagRows(globals))}\n`;
}

export function groupHelp(
  program: string,
  group: string,
  commands: readonly Command[],
  globals: readonly FlagSpec[],
): string {
  return `NAME:\n\t${group} - commands about it\n\nUSAGE:\n\t${program} ${group} <subcommand> [flags]\n\nCOMMANDS:\n${columns(commandRows(commands, group.length + 1))}\nGLOBAL OPTIONS:\n${columns(flagRows(globals))}\n`;
}

export function mainHelp(
  program: { readonly name: string; readonly about: string; readonly commands: readonly Command[] },
  globals: readonly FlagSpec[],
  version: string,
  api: string,
): string {
  return `NAME:\n\t${program.name} - ${program.about}\n\nUSAGE:\n\t${program.name} [flags] <command>\n\nVERSION:\n\t${version}\n\nAPI VERSION:\n\t${api}\n\nCOMMANDS:\n${columns(commandRows(program.commands))}\nOPTIONS:\n${columns(flagRows(globals))}\n`;
}
