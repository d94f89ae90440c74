import { readFileSync } from 'node:fs';
import type { TlsOptions } from '@quoin/client';
import {
  ConfigError,
  type FlagSpec,
  FlagValues,
  flagTable,
  KeyRing,
  type KeySource,
  type LogConfig,
  logLevels,
  logRotation,
  type NodeUrl,
  parseFlags,
  parseUrls,
  type TracingConfig,
  tracingOf,
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
  const v = new FlagValues(outcome.flags);
  const text = (name: string): string => v.text(name);
  const members = parseUrls('members', v.list('members'), 'advertise').map((url) => url.text);
  if (members.length === 0)
    throw new ConfigError('--members must be given: peer URLs such as http://10.0.0.1:2380');
  if (text('dir') === '')
    throw new ConfigError('--dir must be given: the directory that backups are written to');
  const intervalMs = v.number('interval');
  if (intervalMs < 0 || (intervalMs > 0 && intervalMs < 1000))
    throw new ConfigError('--interval must be 0 or at least 1s');
  const keep = v.number('keep');
  if (keep < 1) throw new ConfigError('--keep must be at least 1');
  const options: WorkerOptions = {
    name: text('name'),
    members,
    tls: tlsOptions(text),
    dir: text('dir'),
    keys: keySource({ file: text('encryption-key-file'), command: text('encryption-key-command') }),
    intervalMs,
    keep,
    listenMetricsUrls: parseUrls('listen-metrics-urls', v.list('listen-metrics-urls'), 'listen'),
    log: logConfig(v),
    // Every backup: the rate only counts for requests that come in, and none do here.
    tracing: tracingOf(v, text('name'), env),
  };
  return { kind: 'run', options, notices: outcome.flags.notices };
}

function logConfig(v: FlagValues): LogConfig {
  const outputs = [
    ...new Set(v.list('log-outputs').map((output) => (output === 'default' ? 'stderr' : output))),
  ];
  return {
    level: v.oneOf('log-level', logLevels),
    format: v.oneOf('log-format', ['json', 'console']),
    outputs,
    rotation: v.bool('enable-log-rotation')
      ? logRotation(outputs, v.text('log-rotation-config-json'))
      : undefined,
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
