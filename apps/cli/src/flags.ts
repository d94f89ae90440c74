/** Command line flags as Go's pflag takes them: anywhere, `--name value`, `--name=value`, `-n value`, `--` ends them. */

import { CommandError, ExitCode } from './exit.ts';
import { parseGoDuration, parseGoInt } from './go-format.ts';

export type FlagKind = 'bool' | 'string' | 'int' | 'duration' | 'strings';

export interface FlagSpec {
  readonly name: string;
  readonly short?: string;
  readonly kind: FlagKind;
  /** As text, in the form the command line takes. */
  readonly default?: string;
  readonly help: string;
}

export class Flags {
  private readonly values = new Map<string, string>();
  private readonly specs: ReadonlyMap<string, FlagSpec>;
  private readonly given = new Set<string>();

  constructor(specs: readonly FlagSpec[]) {
    this.specs = new Map(specs.map((spec) => [spec.name, spec]));
  }

  spec(name: string): FlagSpec | undefined {
    return this.specs.get(name);
  }

  byShort(short: string): FlagSpec | undefined {
    return [...this.specs.values()].find((spec) => spec.short === short);
  }

  /** @throws CommandError with pflag's text when the value is not of the flag's kind. */
  set(spec: FlagSpec, value: string, shown = `--${spec.name}`): void {
    const why = problem(spec.kind, value);
    if (why !== undefined) {
      throw new CommandError(
        ExitCode.error,
        `invalid argument ${JSON.stringify(value)} for ${JSON.stringify(shown)} flag: ${why}`,
      );
    }
    this.values.set(
      spec.name,
      spec.kind === 'strings' && this.given.has(spec.name) ? `${this.values.get(spec.name)},${value}` : value,
    );
    this.given.add(spec.name);
  }

  /** From the environment: the command line still wins. */
  setDefault(spec: FlagSpec, value: string, shown: string): void {
    if (!this.given.has(spec.name)) {
      this.set(spec, value, shown);
      this.given.delete(spec.name);
    }
  }

  isGiven(name: string): boolean {
    return this.given.has(name);
  }

  text(name: string): string {
    return this.values.get(name) ?? this.specs.get(name)?.default ?? '';
  }

  bool(name: string): boolean {
    return boolValue(this.text(name)) ?? false;
  }

  int(name: string): bigint {
    return parseGoInt(this.text(name) || '0');
  }

  durationMs(name: string): number {
    return parseGoDuration(this.text(name)) ?? 0;
  }

  list(name: string): string[] {
    const text = this.text(name);
    return text === '' ? [] : text.split(',');
  }
}

function boolValue(text: string): boolean | undefined {
  if (/^(1|t|T|TRUE|true|True)$/.test(text)) return true;
  if (/^(0|f|F|FALSE|false|False)$/.test(text)) return false;
  return undefined;
}

function problem(kind: FlagKind, value: string): string | undefined {
  if (kind === 'bool' && boolValue(value) === undefined)
    return `strconv.ParseBool: parsing ${JSON.stringify(value)}: invalid syntax`;
  if (kind === 'duration' && parseGoDuration(value) === undefined)
    return `time: invalid duration ${JSON.stringify(value)}`;
  if (kind === 'int') {
    try {
      parseGoInt(value);
    } catch (error) {
      return (error as Error).message;
    }
  }
  return undefined;
}

export interface ParsedArguments {
  readonly positional: string[];
  /** Index in `positional` of the first argument after `--`; −1 without one. */
  readonly dash: number;
}

/** Fills `flags`. @throws CommandError */
export function parseArguments(args: readonly string[], flags: Flags): ParsedArguments {
  const positional: string[] = [];
  const rest = [...args];
  while (rest.length > 0) {
    const arg = rest.shift()!;
    if (arg === '--') {
      const dash = positional.length;
      return { positional: [...positional, ...rest], dash };
    }
    if (arg.startsWith('--')) takeLong(arg, rest, flags);
    else if (arg.startsWith('-') && arg !== '-') takeShort(arg, rest, flags);
    else positional.push(arg);
  }
  return { positional, dash: -1 };
}

function takeLong(arg: string, rest: string[], flags: Flags): void {
  const equals = arg.indexOf('=');
  const name = equals === -1 ? arg.slice(2) : arg.slice(2, equals);
  const spec = flags.spec(name);
  if (spec === undefined) throw new CommandError(ExitCode.error, `unknown flag: --${name}`);
  if (equals !== -1) return flags.set(spec, arg.slice(equals + 1));
  if (spec.kind === 'bool') return flags.set(spec, 'true');
  if (rest.length === 0) throw new CommandError(ExitCode.error, `flag needs an argument: --${name}`);
  flags.set(spec, rest.shift()!);
}

function takeShort(arg: string, rest: string[], flags: Flags): void {
  let letters = arg.slice(1);
  while (letters !== '') {
    const short = letters[0]!;
    const spec = flags.byShort(short);
    if (spec === undefined)
      throw new CommandError(ExitCode.error, `unknown shorthand flag: '${short}' in ${arg}`);
    letters = letters.slice(1);
    const shown = `-${short}, --${spec.name}`;
    if (spec.kind === 'bool' && !letters.startsWith('=')) {
      flags.set(spec, 'true', shown);
      continue;
    }
    if (letters !== '') return flags.set(spec, letters.replace(/^=/, ''), shown);
    if (rest.length === 0)
      throw new CommandError(ExitCode.error, `flag needs an argument: '${short}' in ${arg}`);
    return flags.set(spec, rest.shift()!, shown);
  }
}
