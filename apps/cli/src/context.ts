/** What a command runs with: its flags, the client they describe, and where its output goes. */
import { readFileSync } from 'node:fs';
import { type CallOptions, Client, type ClientOptions, type TlsOptions } from '@quoin/client';
import { discoverEndpoints } from './discovery.ts';
import { badArgs, CommandError, ExitCode } from './exit.ts';
import type { FlagSpec, Flags } from './flags.ts';

export type Format = 'simple' | 'json' | 'fields' | 'table' | 'protobuf';

export const globalFlags: readonly FlagSpec[] = [
  {
    name: 'auth-jwt-token',
    kind: 'string',
    help: 'JWT token used for authentication (if this option is used, --user and --password should not be set)',
  },
  {
    name: 'cacert',
    kind: 'string',
    help: 'verify certificates of TLS-enabled secure servers using this CA bundle',
  },
  { name: 'cert', kind: 'string', help: 'identify secure client using this TLS certificate file' },
  {
    name: 'command-timeout',
    kind: 'duration',
    default: '5s',
    help: 'timeout for short running command (excluding dial timeout)',
  },
  {
    name: 'debug',
    kind: 'bool',
    help: 'print each call to standard error: method, endpoint, duration, outcome',
  },
  { name: 'dial-timeout', kind: 'duration', default: '2s', help: 'dial timeout for client connections' },
  {
    name: 'discovery-srv',
    short: 'd',
    kind: 'string',
    help: 'domain name to query for SRV records describing cluster endpoints',
  },
  {
    name: 'discovery-srv-name',
    kind: 'string',
    help: 'service name to query when using DNS discovery',
  },
  { name: 'endpoints', kind: 'strings', default: '127.0.0.1:2379', help: 'gRPC endpoints' },
  { name: 'help', short: 'h', kind: 'bool', help: 'help for this command' },
  { name: 'hex', kind: 'bool', help: 'print byte strings as hex encoded strings' },
  {
    name: 'insecure-discovery',
    kind: 'bool',
    default: 'true',
    help: 'accept insecure SRV records describing cluster endpoints',
  },
  {
    name: 'insecure-skip-tls-verify',
    kind: 'bool',
    help: 'skip server certificate verification (CAUTION: this option should be enabled only for testing purposes)',
  },
  {
    name: 'insecure-transport',
    kind: 'bool',
    default: 'true',
    help: 'disable transport security for client connections',
  },
  { name: 'keepalive-time', kind: 'duration', default: '2s', help: 'keepalive time for client connections' },
  {
    name: 'keepalive-timeout',
    kind: 'duration',
    default: '6s',
    help: 'keepalive timeout for client connections',
  },
  { name: 'key', kind: 'string', help: 'identify secure client using this TLS key file' },
  {
    name: 'max-recv-bytes',
    kind: 'int',
    default: '0',
    help: 'client-side response receive limit in bytes (0 = the largest)',
  },
  {
    name: 'max-request-bytes',
    kind: 'int',
    default: '0',
    help: 'client-side request send limit in bytes (0 = 2 MiB)',
  },
  {
    name: 'password',
    kind: 'string',
    help: "password for authentication (if this option is used, --user option shouldn't include password)",
  },
  { name: 'user', kind: 'string', help: 'username[:password] for authentication' },
  {
    name: 'write-out',
    short: 'w',
    kind: 'string',
    default: 'simple',
    help: 'set the output format (fields, json, protobuf, simple, table)',
  },
];

const formats: readonly string[] = ['simple', 'json', 'fields', 'table', 'protobuf'];

export class Context {
  readonly flags: Flags;
  readonly format: Format;
  readonly hex: boolean;
  /** Aborted by SIGINT or SIGTERM; a command that holds something gives it back then. */
  readonly interrupted: AbortSignal;
  private opened: Client[] = [];
  private discovered: readonly string[] = [];

  /** @throws CommandError for an unknown output format. */
  constructor(flags: Flags, interrupted: AbortSignal) {
    const format = flags.text('write-out');
    if (!formats.includes(format)) throw new CommandError(ExitCode.badFeature, 'unsupported output format');
    this.flags = flags;
    this.format = format as Format;
    this.hex = flags.bool('hex');
    this.interrupted = interrupted;
  }

  /** Of all endpoints, or of one. Closed when the command ends. */
  client(endpoints: readonly string[] = this.endpoints()): Client {
    const client = new Client({ ...this.clientOptions(), endpoints });
    this.opened.push(client);
    return client;
  }

  /**
   * Looks for the endpoints that --discovery-srv names, before anything is dialled.
   *
   * @throws CommandError when there are no records
   */
  async discover(): Promise<void> {
    const { flags } = this;
    const domain = flags.text('discovery-srv');
    if (domain === '') return;
    const found = await discoverEndpoints(domain, flags.text('discovery-srv-name'));
    if (flags.bool('insecure-discovery')) {
      this.discovered = found;
      return;
    }
    for (const endpoint of found.filter(isPlain)) {
      this.warn(`ignoring discovered insecure endpoint ${JSON.stringify(endpoint)}`);
    }
    this.discovered = found.filter((endpoint) => !isPlain(endpoint));
  }

  /** Endpoints were found, and are taken only with a certificate for their domain. */
  private get isVouchedFor(): boolean {
    return this.discovered.length > 0 && !this.flags.bool('insecure-discovery');
  }

  /** Those that were discovered; without any, as with etcdctl, those of the flag. */
  endpoints(): string[] {
    if (this.discovered.length > 0) return [...this.discovered];
    const endpoints = this.flags.list('endpoints').map((endpoint) => endpoint.trim());
    if (endpoints.length === 0) throw badArgs('no endpoint given');
    return endpoints;
  }

  call(options: CallOptions = {}): CallOptions {
    return { timeoutMs: this.flags.durationMs('command-timeout'), signal: this.interrupted, ...options };
  }

  print(text: string): void {
    process.stdout.write(`${text}\n`);
  }

  warn(text: string): void {
    process.stderr.write(`${text}\n`);
  }

  /** Fails before anything is done when the command cannot be shown in the format asked for. */
  support(...supported: Format[]): void {
    if (!supported.includes(this.format))
      throw new CommandError(ExitCode.badFeature, `${this.format} not supported as output format`);
  }

  close(): void {
    for (const client of this.opened.splice(0)) client.close();
  }

  private clientOptions(): Omit<ClientOptions, 'endpoints'> {
    const { flags } = this;
    const [user, password] = splitUser(flags.text('user'), flags.text('password'));
    const limit = (name: string) => (flags.int(name) > 0n ? Number(flags.int(name)) : undefined);
    return {
      tls: this.tls(),
      user,
      password,
      token: flags.text('auth-jwt-token') || undefined,
      timeoutMs: flags.durationMs('command-timeout'),
      dialTimeoutMs: flags.durationMs('dial-timeout'),
      onAttempt: flags.bool('debug') ? (line) => this.warn(line) : undefined,
      keepaliveTimeMs: flags.durationMs('keepalive-time'),
      keepaliveTimeoutMs: flags.durationMs('keepalive-timeout'),
      sendBytesMax: limit('max-request-bytes'),
      receiveBytesMax: limit('max-recv-bytes'),
    };
  }

  /** Undefined: endpoints without a scheme are plain text. */
  tls(): TlsOptions | undefined {
    const { flags } = this;
    const file = (name: string): Uint8Array | undefined =>
      flags.text(name) === '' ? undefined : readPem(flags.text(name));
    const [ca, cert, key] = [file('cacert'), file('cert'), file('key')];
    if ((cert === undefined) !== (key === undefined)) {
      throw badArgs(
        cert === undefined
          ? 'empty cert file argument given with --key'
          : 'empty key file argument given with --cert',
      );
    }
    const insecureSkipVerify = flags.bool('insecure-skip-tls-verify');
    const wanted =
      ca !== undefined ||
      cert !== undefined ||
      insecureSkipVerify ||
      this.isVouchedFor ||
      !flags.bool('insecure-transport');
    if (!wanted) return undefined;
    // Nobody signs the records: what they lead to must prove to be the domain's.
    const serverName = this.isVouchedFor ? flags.text('discovery-srv') : '';
    return { ca, cert, key, insecureSkipVerify, ...(serverName === '' ? {} : { serverName }) };
  }
}

function isPlain(endpoint: string): boolean {
  return endpoint.startsWith('http://');
}

function readPem(path: string): Uint8Array {
  try {
    return readFileSync(path);
  } catch {
    throw new CommandError(ExitCode.badArgs, `open ${path}: no such file or directory`);
  }
}

function splitUser(user: string, password: string): [string | undefined, string | undefined] {
  if (user === '') return [undefined, undefined];
  if (password !== '') return [user, password];
  const colon = user.indexOf(':');
  if (colon === -1) throw badArgs('no password: give --user name:password or --password');
  return [user.slice(0, colon), user.slice(colon + 1)];
}
