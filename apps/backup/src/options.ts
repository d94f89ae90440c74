import { readFileSync } from 'node:fs';
import type { TlsOptions } from '@quoin/client';
import {
  ConfigError,
  type FlagSpec,
  flagTable,
  KeyRing,
  type KeySource,
  type LogConfig,
  type LogLevel,
  logRotation,
  type NodeUrl,
  parseFlags,
  parseUrls,
  type TracingConfig,
  tracingConfig,
} from '@quoin/platform';

/** What the worker was told, checked. */
export interface WorkerOptions {
  readonly name: string;
  /** Peer URLs. */
  readonly members: readonly string[];
  /** Towards members with https URLs. The files are read for each backup, so that they can be replaced. */
  readonly tls: (() => TlsOptions) | undefined;
  readonly dir: string;
  /** Read for each backup. Undefined: backups are not encrypted. */
  readonly keys: (() => KeyRing) | undefined;
  /** 0: only on demand. */
  readonly intervalMs: number;
  readonly keep: number;
  readonly listenMetricsUrls: readonly NodeUrl[];
  readonly log: LogConfig;
  readonly tracing: TracingConfig | undefined;
}

export type OptionsOutcome =
  | { readonly kind: 'run'; readonly options: WorkerOptions; readonly notices: readonly string[] }
  | { readonly kind: 'help' }
  | { readonly kind: 'version' };

function own(name: string, kind: FlagSpec['kind'], fallback: string, help: string): FlagSpec {
  return {
    name,
    kind,
    default: fallback,
    help,
    group: 'Backup',
    status: 'supported',
    note: '',
    roles: [],
    etcd: false,
  };
}

const logFlags = [
  'log-level',
  'log-format',
  'log-outputs',
  'enable-log-rotation',
  'log-rotation-config-json',
];
const keyFlags = ['encryption-key-file', 'encryption-key-command'];
const tracingFlags = flagTable.map(({ name }) => name).filter((name) => name.includes('distributed-tracing'));
const tlsFlags = ['peer-cert-file', 'peer-key-file', 'peer-trusted-ca-file'];

const table: readonly FlagSpec[] = [
  own('name', 'string', 'backup', "Name of this worker, for the members' logs."),
  own('members', 'list', '', 'Peer URLs of members; the others are found through them.'),
  own('dir', 'string', '', 'Directory that backups are written to.'),
  own('interval', 'duration', '1h', 'Time from one backup to the next; 0 takes them only on demand.'),
  own('keep', 'uint', '24', 'How many of the newest backups are kept.'),
  own(
    'listen-metrics-urls',
    'list',
    'http://127.0.0.1:2382',
    'URLs for /metrics, /health and, from this machine only, POST /backup/now.',
  ),
  ...flagTable.filter((spec) => [...tlsFlags, ...keyFlags, ...logFlags, ...tracingFlags].includes(spec.name)),
];

/** @throws ConfigError with one line for the operator */
export function readOptions(
  args: readonly string[],
  env: NodeJS.ProcessEnv,
  readFile: (path: string) => string,
): OptionsOutcome {
  const outcome = parseFlags({ table, others: [], role: 'backup', args, env, readFile });
  if (outcome.kind !== 'flags') return outcome;
  const { values, notices, set } = outcome.flags;
  const text = (name: string): string => values.get(name) as string;
  const list = (name: string): readonly string[] => values.get(name) as readonly string[];
  const members = parseUrls('members', list('members'), 'advertise').map((url) => url.text);
  if (members.length === 0)
    throw new ConfigError('--members must be given: peer URLs such as http://10.0.0.1:2380');
  if (text('dir') === '')
    throw new ConfigError('--dir must be given: the directory that backups are written to');
  const intervalMs = values.get('interval') as number;
  if (intervalMs < 0 || (intervalMs > 0 && intervalMs < 1000))
    throw new ConfigError('--interval must be 0 or at least 1s');
  const keep = values.get('keep') as number;
  if (keep < 1) throw new ConfigError('--keep must be at least 1');
  const options: WorkerOptions = {
    name: text('name'),
    members,
    tls: tlsOptions(text),
    dir: text('dir'),
    keys: keySource({ file: text('encryption-key-file'), command: text('encryption-key-command') }),
    intervalMs,
    keep,
    listenMetricsUrls: parseUrls('listen-metrics-urls', list('listen-metrics-urls'), 'listen'),
    log: logConfig(text, list, values.get('enable-log-rotation') === true),
    tracing:
      values.get('enable-distributed-tracing') === true
        ? tracingConfig(tracingOf(values, set), text('name'), env)
        : undefined,
  };
  return { kind: 'run', options, notices };
}

/** A backup is traced whenever tracing is on; the rate only counts for requests that come in, and none do here. */
function tracingOf(
  values: ReadonlyMap<string, unknown>,
  set: ReadonlyMap<string, unknown>,
): Parameters<typeof tracingConfig>[0] {
  const given = <T>(name: string): T | undefined => (set.has(name) ? (values.get(name) as T) : undefined);
  return {
    address: given<string>('distributed-tracing-address'),
    defaultAddress: values.get('distributed-tracing-address') as string,
    serviceName: values.get('distributed-tracing-service-name') as string,
    instanceId: values.get('distributed-tracing-instance-id') as string,
    samplingRate: given<number>('distributed-tracing-sampling-rate'),
  };
}

function logConfig(
  text: (name: string) => string,
  list: (name: string) => readonly string[],
  rotates: boolean,
): LogConfig {
  const oneOf = <T extends string>(name: string, allowed: readonly T[]): T => {
    const found = allowed.find((value) => value === text(name));
    if (found === undefined)
      throw new ConfigError(
        `invalid value "${text(name)}" for flag --${name}: must be one of ${allowed.join(', ')}`,
      );
    return found;
  };
  const outputs = [
    ...new Set(list('log-outputs').map((output) => (output === 'default' ? 'stderr' : output))),
  ];
  return {
    level: oneOf<LogLevel>('log-level', ['debug', 'info', 'warn', 'error', 'panic', 'fatal']),
    format: oneOf('log-format', ['json', 'console']),
    outputs,
    rotation: rotates ? logRotation(outputs, text('log-rotation-config-json')) : undefined,
  };
}

/** @throws ConfigError when the keys cannot be read now */
function keySource(source: KeySource): WorkerOptions['keys'] {
  return KeyRing.read(source) === undefined ? undefined : () => KeyRing.read(source)!;
}

/** @throws ConfigError when a file is missing, or one of a pair is not given */
function tlsOptions(text: (name: string) => string): WorkerOptions['tls'] {
  const [cert, key, ca] = tlsFlags.map((flag) => text(flag));
  if ((cert === '') !== (key === ''))
    throw new ConfigError(
      `--peer-cert-file and --peer-key-file must both be present [key: ${key}, cert: ${cert}]`,
    );
  if (cert === '' && ca === '') return undefined;
  const file = (path: string | undefined): Uint8Array | undefined =>
    path === undefined || path === '' ? undefined : readFileSync(path);
  const read = (): TlsOptions => ({ cert: file(cert), key: file(key), ca: file(ca) });
  try {
    read();
  } catch (error) {
    throw new ConfigError(`cannot read a TLS file: ${(error as Error).message}`);
  }
  return read;
}

export function help(): string {
  const lines = [
    'quoin-backup: takes verified backups of a cluster, on a schedule and on demand.',
    '',
    'Usage:',
    '  quoin-backup --members URLS --dir DIR [flags]',
    '',
  ];
  for (const spec of table) {
    lines.push(
      `  --${spec.name} <${spec.kind}>`,
      `      ${spec.help}${spec.default === '' ? '' : ` (default ${spec.default})`}`,
    );
  }
  return `${lines.join('\n')}\n`;
}
