/**
 * From the command line, the environment or a config file to one value per flag, by etcd's rules:
 *
 *     a config file, when given, is all there is: other flags and variables are not looked at
 *     otherwise: command line  >  QUOIN_*  >  ETCD_*  >  default
 *
 * Nothing is read and dropped in silence: each flag has its effect, is refused, or leaves a notice.
 */
import { parseDocument } from 'yaml';
import { nestedFileKeys } from './file-keys.ts';
import type { FlagSpec } from './flags.ts';
import { ConfigError, type FlagValue, kindNames, nearest, parseValue } from './values.ts';

/** Where a value came from, for messages. */
export type FlagSource = 'default' | 'environment' | 'file' | 'command line';

export interface ParsedFlags {
  /** One for each flag of the role, defaults included. */
  readonly values: ReadonlyMap<string, FlagValue>;
  /** Flags that somebody set. */
  readonly set: ReadonlyMap<string, FlagSource>;
  /** One line each, to be logged as warnings. */
  readonly notices: readonly string[];
}

export type ParseOutcome =
  | { readonly kind: 'flags'; readonly flags: ParsedFlags }
  | { readonly kind: 'help' }
  | { readonly kind: 'version' };

export interface ParseInput {
  /** Flags that this program has. */
  readonly table: readonly FlagSpec[];
  /** Flags of other roles: known, but not here. */
  readonly others: readonly FlagSpec[];
  readonly role: string;
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string | undefined>>;
  /** @throws Error with a one-line message. */
  readonly readFile: (path: string) => string;
}

/** Variables with our prefixes that are no flags. */
const otherVariables = new Set([
  'ETCD_CONFIG_FILE',
  'QUOIN_CONFIG_FILE',
  'ETCD_UNSUPPORTED_ARCH',
  'QUOIN_BOOTSTRAP',
]);

/** @throws ConfigError */
export function parseFlags(input: ParseInput): ParseOutcome {
  const line = readCommandLine(input);
  if (line.help) return { kind: 'help' };
  if (line.version) return { kind: 'version' };
  const file = line.configFile ?? input.env['QUOIN_CONFIG_FILE'] ?? input.env['ETCD_CONFIG_FILE'] ?? '';
  const collector = new Collector(input);
  if (file !== '') {
    for (const name of line.given.keys()) {
      collector.notices.push(`--${name} has no effect: --config-file is given and replaces all other flags`);
    }
    collector.fromFile(file, input.readFile);
  } else {
    collector.fromEnvironment(line.given);
    for (const [name, text] of line.given) collector.fromCommandLine(name, text);
  }
  return { kind: 'flags', flags: collector.finish() };
}

interface CommandLine {
  readonly given: Map<string, string>;
  readonly configFile: string | undefined;
  readonly help: boolean;
  readonly version: boolean;
}

/** Go's flag syntax: one or two dashes, `=value` or the next argument; a boolean never takes the next one. */
function readCommandLine(input: ParseInput): CommandLine {
  const specs = new Map(input.table.map((spec) => [spec.name, spec]));
  const given = new Map<string, string>();
  let configFile: string | undefined;
  let help = false;
  let version = false;
  for (let i = 0; i < input.args.length; i++) {
    const arg = input.args[i]!;
    const match = /^--?([^-=][^=]*)(?:=([\s\S]*))?$/.exec(arg);
    if (match === null) throw new ConfigError(`"${arg}" is not a valid flag`);
    const name = match[1]!;
    const own = name === 'help' || name === 'h' || name === 'version';
    const bool = own || specs.get(name)?.kind === 'bool';
    if (name !== 'config-file' && !own && !specs.has(name)) throw unknownFlag(input, name, specs.keys());
    let text = match[2];
    if (text === undefined && bool) text = 'true';
    if (text === undefined) {
      i++;
      text = input.args[i];
      if (text === undefined) throw new ConfigError(`flag needs an argument: --${name}`);
    }
    if (name === 'config-file') configFile = text;
    else if (name === 'version') version = text !== 'false';
    else if (own) help = text !== 'false';
    else given.set(name, text);
  }
  return { given, configFile, help, version };
}

function unknownFlag(input: ParseInput, name: string, known: Iterable<string>): ConfigError {
  const other = input.others.find((spec) => spec.name === name);
  if (other !== undefined) {
    return new ConfigError(
      `--${name} is not a flag of the ${input.role} role, but of: ${other.roles.join(', ')}`,
    );
  }
  const near = nearest(name, [...known, 'config-file', 'version', 'help']);
  const hint = near === undefined ? 'see --help' : `did you mean --${near}?`;
  return new ConfigError(`flag provided but not defined: --${name} (${hint})`);
}

/** Gathers values and applies each flag's status. */
class Collector {
  readonly notices: string[] = [];
  private readonly specs: Map<string, FlagSpec>;
  private readonly input: ParseInput;
  private readonly values = new Map<string, FlagValue>();
  private readonly set = new Map<string, FlagSource>();

  constructor(input: ParseInput) {
    this.input = input;
    this.specs = new Map(input.table.map((spec) => [spec.name, spec]));
    for (const spec of input.table)
      this.values.set(spec.name, flagValue(spec, spec.default, `--${spec.name}`));
  }

  fromCommandLine(name: string, text: string): void {
    const spec = this.specs.get(name)!;
    this.take(spec, flagValue(spec, text, `flag --${name}`), 'command line', `--${name}`);
  }

  fromEnvironment(onCommandLine: ReadonlyMap<string, string>): void {
    const { env } = this.input;
    for (const prefix of ['ETCD_', 'QUOIN_']) {
      for (const variable of Object.keys(env).sort()) {
        if (!variable.startsWith(prefix) || otherVariables.has(variable)) continue;
        const text = env[variable];
        // As etcd: a variable that is set to nothing is not set.
        if (text === undefined || text === '') continue;
        const name = variable.slice(prefix.length).toLowerCase().replaceAll('_', '-');
        const spec = this.specs.get(name);
        if (spec === undefined) this.strangeVariable(variable, name);
        else if (onCommandLine.has(name)) {
          this.notices.push(`${variable} has no effect: --${name} is given on the command line`);
        } else if (prefix === 'ETCD_' && (env[`QUOIN_${variable.slice(5)}`] ?? '') !== '') {
          this.notices.push(`${variable} has no effect: QUOIN_${variable.slice(5)} is set`);
        } else
          this.take(spec, flagValue(spec, text, `environment variable ${variable}`), 'environment', variable);
      }
    }
  }

  private strangeVariable(variable: string, name: string): void {
    if (this.input.others.some((spec) => spec.name === name)) {
      this.notices.push(`${variable} has no effect: the ${this.input.role} role has no --${name}`);
    } else this.notices.push(`unrecognized environment variable ${variable}`);
  }

  fromFile(path: string, readFile: (path: string) => string): void {
    let text: string;
    try {
      text = readFile(path);
    } catch (error) {
      throw new ConfigError(`cannot read config file ${path}: ${(error as Error).message}`);
    }
    const document = parseDocument(text);
    const problem = document.errors[0];
    if (problem !== undefined)
      throw new ConfigError(`config file ${path}: ${problem.message.split('\n')[0]!.replace(/:$/, '')}`);
    const root: unknown = document.toJS() ?? {};
    if (typeof root !== 'object' || root === null || Array.isArray(root)) {
      throw new ConfigError(`config file ${path}: must be a mapping of flag names to values`);
    }
    for (const [key, value] of Object.entries(root)) this.fileEntry(path, key, value);
  }

  private fileEntry(path: string, key: string, value: unknown): void {
    if (value === null) return;
    const nested = nestedFileKeys[key];
    if (nested !== undefined) {
      if (typeof value !== 'object' || Array.isArray(value)) {
        throw new ConfigError(`config file ${path}: ${key} must be a mapping`);
      }
      for (const [inner, innerValue] of Object.entries(value)) {
        const name = nested[inner];
        if (name === undefined) throw this.strangeKey(path, `${key}.${inner}`, inner, Object.keys(nested));
        if (innerValue !== null) this.fileValue(path, `${key}.${inner}`, name, innerValue);
      }
      return;
    }
    if (this.specs.has(key)) this.fileValue(path, key, key, value);
    else if (this.input.others.some((spec) => spec.name === key)) {
      throw new ConfigError(`config file ${path}: the ${this.input.role} role has no ${key}`);
    } else throw this.strangeKey(path, key, key, [...this.specs.keys(), ...Object.keys(nestedFileKeys)]);
  }

  private strangeKey(path: string, shown: string, key: string, known: Iterable<string>): ConfigError {
    const near = nearest(key, known);
    return new ConfigError(
      `config file ${path}: unknown key "${shown}"${near === undefined ? '' : ` (did you mean ${near}?)`}`,
    );
  }

  private fileValue(path: string, key: string, name: string, value: unknown): void {
    const spec = this.specs.get(name);
    if (spec === undefined)
      throw new ConfigError(`config file ${path}: the ${this.input.role} role has no ${key}`);
    const where = `"${key}" in config file ${path}`;
    let parsed: FlagValue;
    // A number for a duration is nanoseconds, as Go's JSON has it.
    if (spec.kind === 'duration' && typeof value === 'number') parsed = value / 1e6;
    else if (Array.isArray(value) && spec.kind === 'list') parsed = value.map(String);
    else if (typeof value === 'object')
      throw new ConfigError(`invalid value for ${where}: must be ${kindNames[spec.kind]}`);
    else parsed = flagValue(spec, String(value), where);
    this.take(spec, parsed, 'file', key);
  }

  private take(spec: FlagSpec, value: FlagValue, source: FlagSource, shown: string): void {
    const fallback = this.values.get(spec.name)!;
    const changed = String(value) !== String(fallback);
    if (spec.status === 'notYet' && changed) {
      throw new ConfigError(`${shown} is not supported: ${spec.note}`);
    }
    if (spec.status === 'noEffect') this.notices.push(`${shown} has no effect: ${spec.note}`);
    this.values.set(spec.name, value);
    this.set.set(spec.name, source);
  }

  finish(): ParsedFlags {
    return { values: this.values, set: this.set, notices: this.notices };
  }
}

function flagValue(spec: FlagSpec, text: string, where: string): FlagValue {
  const value = parseValue(spec.kind, text);
  if (value === undefined)
    throw new ConfigError(`invalid value "${text}" for ${where}: must be ${kindNames[spec.kind]}`);
  return value;
}
