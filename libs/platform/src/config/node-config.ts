import type { FairUse } from '@quoin/contracts';
import type { KeySource } from '../encryption/key-ring.ts';
import { type LogRotation, parseLogRotation } from '../log-rotation.ts';
import { bcryptCostMax, bcryptCostMin } from '../passwords.ts';
import { parseFairUse } from './fair-use-file.ts';
import { type FeatureGates, featureGates } from './feature-gates.ts';
import { FlagValues } from './flag-values.ts';
import { type FlagSpec, flagTable, type Role } from './flags.ts';
import { type ParseInput, parseFlags } from './parse.ts';
import { type NodeTls, tlsOf } from './tls-flags.ts';
import { type TracingConfig, tracingOf } from './tracing-config.ts';
import { type InitialMember, type NodeUrl, parseInitialCluster, parseUrls } from './urls.ts';
import { ConfigError, parseDurationMs } from './values.ts';

/** From the least on. */
export const logLevels = ['debug', 'info', 'warn', 'error', 'panic', 'fatal'] as const;

export type LogLevel = (typeof logLevels)[number];

export interface LogConfig {
  readonly level: LogLevel;
  readonly format: 'json' | 'console';
  /** `stderr`, `stdout`, `systemd/journal` or a file name. */
  readonly outputs: readonly string[];
  /** Of the one file among them; undefined: none. */
  readonly rotation?: LogRotation | undefined;
}

/** All that a node of any role was told, checked. What a role does not have is empty. */
export interface NodeConfig {
  readonly role: Role;
  readonly name: string;
  readonly dataDir: string;
  /** Empty: below the data directory. */
  readonly walDir: string;
  readonly listenPeerUrls: readonly NodeUrl[];
  readonly listenClientUrls: readonly NodeUrl[];
  readonly listenMetricsUrls: readonly NodeUrl[];
  readonly initialAdvertisePeerUrls: readonly string[];
  readonly advertiseClientUrls: readonly string[];
  readonly initialCluster: readonly InitialMember[];
  readonly initialClusterState: 'new' | 'existing';
  readonly initialClusterToken: string;
  /** Peer URLs of members; for a gateway. Empty: they come from `discoverySrv`. */
  readonly members: readonly string[];
  /** DNS domain of SRV records, and the suffix of their name. Undefined: members are named by flags. */
  readonly discoverySrv: { readonly domain: string; readonly name: string } | undefined;
  /** Empty: not said. */
  readonly zone: string;
  /** 0: none. */
  readonly maxConnectionAgeMs: number;
  readonly maxConnectionAgeGraceMs: number;
  readonly shutdownDelayMs: number;
  /** 0: not looked at. */
  readonly readyMaxLoopDelayMs: number;
  /** 0: any number. */
  readonly readyMaxConnections: number;
  readonly tls: NodeTls;
  /** Keys for data at rest. */
  readonly encryption: KeySource;
  readonly heartbeatIntervalMs: number;
  readonly electionTimeoutMs: number;
  readonly preVote: boolean;
  /** Not one of etcd's. */
  readonly leaseReads: boolean;
  readonly snapshotCount: number;
  readonly snapshotCatchupEntries: number;
  readonly maxLearners: number;
  readonly maxTxnOps: number;
  readonly maxRequestBytes: number;
  /** 0 = etcd's default of 2 GiB; negative = none. */
  readonly quotaBackendBytes: number;
  readonly autoCompactionMode: 'periodic' | 'revision';
  /** ms or revisions, by the mode; 0: off. */
  readonly autoCompactionRetention: number;
  readonly compactionBatchLimit: number;
  readonly compactionSleepIntervalMs: number;
  /** 0: states are not compared. */
  readonly corruptCheckIntervalMs: number;
  readonly gates: FeatureGates;
  readonly warningApplyDurationMs: number;
  readonly warningUnaryRequestDurationMs: number;
  readonly watchProgressNotifyIntervalMs: number;
  readonly maxConcurrentStreams: number;
  readonly grpcKeepaliveMinTimeMs: number;
  readonly grpcKeepaliveIntervalMs: number;
  readonly grpcKeepaliveTimeoutMs: number;
  readonly socketReusePort: boolean;
  readonly enableGrpcGateway: boolean;
  /** Origins; empty or with `*`: all. */
  readonly cors: readonly string[];
  /** Host names; empty or with `*`: all. */
  readonly hostWhitelist: readonly string[];
  /** A client's certificate names its user where he has no token. */
  readonly clientCertAuth: boolean;
  /** As given: `simple`, or `jwt` with its options. */
  readonly authToken: string;
  readonly authTokenTtlSeconds: number;
  readonly bcryptCost: number;
  /** Undefined: no limits. */
  readonly fairUse: FairUse | undefined;
  /** Undefined: no audit log. */
  readonly audit: { readonly file: string; readonly reads: boolean } | undefined;
  readonly unsafeNoFsync: boolean;
  readonly metrics: 'basic' | 'extensive';
  readonly log: LogConfig;
  readonly tracing: TracingConfig | undefined;
}

export type NodeConfigOutcome =
  | { readonly kind: 'run'; readonly config: NodeConfig; readonly notices: readonly string[] }
  | { readonly kind: 'help' }
  | { readonly kind: 'version' };

/** The flags that a role has. */
export function flagsOf(role: Role): FlagSpec[] {
  return flagTable.filter((spec) => spec.roles.includes(role));
}

/**
 * Reads command line, environment and config file for a role.
 *
 * @throws ConfigError with one line for the operator
 */
export function readNodeConfig(
  role: Role,
  input: Pick<ParseInput, 'args' | 'env' | 'readFile'>,
): NodeConfigOutcome {
  const table = flagsOf(role);
  const others = flagTable.filter((spec) => !spec.roles.includes(role));
  const outcome = parseFlags({ table, others, role, ...input });
  if (outcome.kind !== 'flags') return outcome;
  const notices = [...outcome.flags.notices];
  const config = build(role, new FlagValues(outcome.flags), input, notices);
  return { kind: 'run', config, notices };
}

function build(
  role: Role,
  v: FlagValues,
  { env, readFile }: Pick<ParseInput, 'env' | 'readFile'>,
  notices: string[],
): NodeConfig {
  const name = v.text('name');
  if (name === '') throw new ConfigError('--name must not be empty');
  const gates = featureGates(v.list('feature-gates'), notices);
  v.oneOf('logger', ['zap']);
  const stores = role !== 'gateway';
  const dataDir = stores ? v.text('data-dir') || `${name}.etcd` : '';
  const urls = urlsOf(role, v);
  const { listenClientUrls: clientUrls, listenMetricsUrls: metricsUrls, listenPeerUrls: peerUrls } = urls;
  return {
    role,
    name,
    dataDir,
    walDir: v.text('wal-dir'),
    ...urls,
    encryption: { file: v.text('encryption-key-file'), command: v.text('encryption-key-command') },
    tls: tlsOf(role, v, { dataDir, clientUrls, metricsUrls, peerUrls }, notices),
    ...(stores ? bootstrapOf(v, name) : noBootstrap),
    members: role === 'gateway' ? memberUrls(v) : [],
    discoverySrv: discoveryOf(role, v),
    zone: v.text('zone'),
    ...spreading(v),
    ...raftTiming(v, stores),
    preVote: v.bool('pre-vote'),
    leaseReads: v.bool('lease-reads'),
    snapshotCount: atLeast(v, 'snapshot-count', stores ? 1 : 0),
    snapshotCatchupEntries: v.number('snapshot-catchup-entries'),
    maxLearners: atLeast(v, 'max-learners', stores ? 1 : 0),
    maxTxnOps: v.number('max-txn-ops'),
    maxRequestBytes: requestBytes(v, notices),
    quotaBackendBytes: backendQuota(v, notices),
    ...(stores ? compaction(v) : noCompaction),
    corruptCheckIntervalMs: stores ? v.number('corrupt-check-time') : 0,
    gates,
    warningApplyDurationMs: v.number('warning-apply-duration'),
    warningUnaryRequestDurationMs: positive(v, 'warning-unary-request-duration'),
    ...clientTuning(v),
    socketReusePort: v.bool('socket-reuse-port'),
    enableGrpcGateway: v.bool('enable-grpc-gateway'),
    cors: corsOrigins(v),
    hostWhitelist: v.list('host-whitelist'),
    clientCertAuth: v.bool('client-cert-auth'),
    ...authOf(v, stores, notices),
    fairUse: fairUseOf(v, readFile),
    audit: auditOf(v, notices),
    unsafeNoFsync: v.bool('unsafe-no-fsync'),
    metrics: v.oneOf('metrics', ['basic', 'extensive']),
    log: logConfig(v, notices),
    tracing: tracingOf(v, name, env),
  };
}

type Urls = Pick<
  NodeConfig,
  | 'listenPeerUrls'
  | 'listenClientUrls'
  | 'listenMetricsUrls'
  | 'initialAdvertisePeerUrls'
  | 'advertiseClientUrls'
>;

function urlsOf(role: Role, v: FlagValues): Urls {
  const serves = role !== 'member';
  const stores = role !== 'gateway';
  if (serves && v.isSet('listen-client-urls') && !v.isSet('advertise-client-urls') && role === 'quoin') {
    throw new ConfigError('--advertise-client-urls is required when --listen-client-urls is set explicitly');
  }
  const listen = (flag: string, needed: boolean): NodeUrl[] => {
    const urls = parseUrls(flag, v.list(flag), 'listen');
    if (needed && urls.length === 0) throw new ConfigError(`--${flag} must not be empty`);
    return urls;
  };
  // A member without a client port of its own has nothing to advertise unless told so.
  const advertised =
    role === 'quoin' || v.isSet('advertise-client-urls') ? v.list('advertise-client-urls') : [];
  return {
    listenPeerUrls: stores ? listen('listen-peer-urls', true) : [],
    listenClientUrls: serves ? listen('listen-client-urls', true) : [],
    listenMetricsUrls: listen('listen-metrics-urls', false),
    initialAdvertisePeerUrls: stores
      ? sortedTexts(
          parseUrls('initial-advertise-peer-urls', v.list('initial-advertise-peer-urls'), 'advertise'),
        )
      : [],
    advertiseClientUrls: sortedTexts(parseUrls('advertise-client-urls', advertised, 'advertise')),
  };
}

function sortedTexts(urls: readonly NodeUrl[]): string[] {
  return urls.map((url) => url.text).sort();
}

/** One source of members; etcd's text where there are several. */
function discoveryOf(role: Role, v: FlagValues): NodeConfig['discoverySrv'] {
  const [domain, name] = [v.text('discovery-srv'), v.text('discovery-srv-name')];
  if (domain === '') {
    if (name !== '') throw new ConfigError('--discovery-srv-name needs --discovery-srv');
    return undefined;
  }
  if (role === 'gateway' && v.isSet('members'))
    throw new ConfigError('--members and --discovery-srv are both given: choose one');
  if (role !== 'gateway' && v.text('initial-cluster') !== '') {
    throw new ConfigError(
      'multiple discovery or bootstrap flags are set. Choose one of "initial-cluster", "discovery", "discovery-endpoints" or "discovery-srv"',
    );
  }
  return { domain, name };
}

function spreading(
  v: FlagValues,
): Pick<
  NodeConfig,
  | 'maxConnectionAgeMs'
  | 'maxConnectionAgeGraceMs'
  | 'shutdownDelayMs'
  | 'readyMaxLoopDelayMs'
  | 'readyMaxConnections'
> {
  return {
    maxConnectionAgeMs: atLeast(v, 'max-connection-age', 0),
    maxConnectionAgeGraceMs: atLeast(v, 'max-connection-age-grace', 0),
    shutdownDelayMs: atLeast(v, 'shutdown-delay', 0),
    readyMaxLoopDelayMs: atLeast(v, 'ready-max-loop-delay', 0),
    readyMaxConnections: v.number('ready-max-connections'),
  };
}

function memberUrls(v: FlagValues): string[] {
  if (v.text('discovery-srv') !== '') return [];
  const urls = parseUrls('members', v.list('members'), 'advertise').map((url) => url.text);
  if (urls.length === 0) throw new ConfigError('--members must name at least one peer URL of a member');
  return urls;
}

type Bootstrap = Pick<NodeConfig, 'initialCluster' | 'initialClusterState' | 'initialClusterToken'>;

const noBootstrap: Bootstrap = { initialCluster: [], initialClusterState: 'new', initialClusterToken: '' };

function bootstrapOf(v: FlagValues, name: string): Bootstrap {
  const advertised = sortedTexts(
    parseUrls('initial-advertise-peer-urls', v.list('initial-advertise-peer-urls'), 'advertise'),
  );
  if (advertised.length === 0) throw new ConfigError('--initial-advertise-peer-urls must not be empty');
  const given = v.text('initial-cluster');
  const initialCluster = given === '' ? [{ name, peerUrls: advertised }] : parseInitialCluster(given);
  const own = initialCluster.find((member) => member.name === name);
  if (own === undefined) {
    throw new ConfigError(
      `couldn't find local name "${name}" in the initial cluster configuration "${given}"`,
    );
  }
  if (own.peerUrls.join(',') !== advertised.join(',')) {
    throw new ConfigError(
      `--initial-cluster has ${name}=${own.peerUrls.join(',')} but --initial-advertise-peer-urls is ${advertised.join(',')}: both must name the same URLs`,
    );
  }
  return {
    initialCluster,
    initialClusterState: v.oneOf('initial-cluster-state', ['new', 'existing']),
    initialClusterToken: v.text('initial-cluster-token'),
  };
}

/** Origins as browsers send them, so that comparing is enough. */
function corsOrigins(v: FlagValues): string[] {
  return v.list('cors').map((text) => {
    if (text === '*') return text;
    const url = URL.parse(text);
    if (url === null || !/^https?:$/.test(url.protocol) || url.pathname !== '/' || url.search !== '') {
      throw new ConfigError(
        `invalid value "${text}" for flag --cors: must be * or an origin such as https://example.com:8443`,
      );
    }
    return url.origin;
  });
}

const electionTimeoutMaxMs = 50_000;

function raftTiming(
  v: FlagValues,
  stores: boolean,
): Pick<NodeConfig, 'heartbeatIntervalMs' | 'electionTimeoutMs'> {
  const election = v.number('election-timeout');
  const heartbeat = stores ? v.number('heartbeat-interval') : 0;
  if (stores && heartbeat <= 0) {
    throw new ConfigError(`--heartbeat-interval must be greater than 0 (set to ${heartbeat}ms)`);
  }
  if (election <= 0)
    throw new ConfigError(`--election-timeout must be greater than 0 (set to ${election}ms)`);
  if (election < 5 * heartbeat) {
    throw new ConfigError(
      `--election-timeout[${election}ms] should be at least as 5 times as --heartbeat-interval[${heartbeat}ms]`,
    );
  }
  if (election > electionTimeoutMaxMs) {
    throw new ConfigError(
      `--election-timeout[${election}ms] is too long, and should be set less than ${electionTimeoutMaxMs}ms`,
    );
  }
  return { heartbeatIntervalMs: heartbeat, electionTimeoutMs: election };
}

function positive(v: FlagValues, flag: string): number {
  const value = v.number(flag);
  if (value <= 0) throw new ConfigError(`--${flag} must be more than 0 (set to ${value}ms)`);
  return value;
}

function atLeast(v: FlagValues, flag: string, min: number): number {
  const value = v.number(flag);
  if (value < min) throw new ConfigError(`--${flag} must be at least ${min} (set to ${value})`);
  return value;
}

type CompactionConfig = Pick<
  NodeConfig,
  'autoCompactionMode' | 'autoCompactionRetention' | 'compactionBatchLimit' | 'compactionSleepIntervalMs'
>;

function compaction(v: FlagValues): CompactionConfig {
  const autoCompactionMode = v.oneOf('auto-compaction-mode', ['periodic', 'revision']);
  return {
    autoCompactionMode,
    autoCompactionRetention: retention(v.text('auto-compaction-retention'), autoCompactionMode),
    compactionBatchLimit: v.number('compaction-batch-limit') || 1_000,
    compactionSleepIntervalMs: v.number('compaction-sleep-interval'),
  };
}

const noCompaction: CompactionConfig = {
  autoCompactionMode: 'periodic',
  autoCompactionRetention: 0,
  compactionBatchLimit: 0,
  compactionSleepIntervalMs: 0,
};

const hourMs = 3_600_000;

/** Revisions; or time, where a bare number counts hours. */
function retention(text: string, mode: 'periodic' | 'revision'): number {
  const value = /^\d+$/.test(text)
    ? Number(text) * (mode === 'periodic' ? hourMs : 1)
    : mode === 'periodic'
      ? parseDurationMs(text)
      : undefined;
  if (value === undefined || value < 0 || value > Number.MAX_SAFE_INTEGER) {
    const form = mode === 'periodic' ? 'a duration such as 30m, or hours' : 'a number of revisions';
    throw new ConfigError(
      `invalid value "${text}" for flag --auto-compaction-retention: with --auto-compaction-mode=${mode} it must be ${form}`,
    );
  }
  return value;
}

const recommendedQuotaBytes = 8 * 1024 ** 3;

/** etcd says the same: there because of the time to recover, which is Quoin's concern much later. */
function backendQuota(v: FlagValues, notices: string[]): number {
  const bytes = v.number('quota-backend-bytes');
  if (bytes > recommendedQuotaBytes) {
    notices.push(`--quota-backend-bytes of ${bytes} exceeds etcd's recommended ${recommendedQuotaBytes}`);
  }
  return bytes;
}

const recommendedRequestBytes = 10 * 1024 * 1024;
/** A raft entry, a link message and a client message must each hold one request. */
const maxRequestBytesLimit = 512 * 1024 * 1024;

function requestBytes(v: FlagValues, notices: string[]): number {
  const bytes = v.number('max-request-bytes');
  if (bytes > maxRequestBytesLimit) {
    throw new ConfigError(`--max-request-bytes must be at most ${maxRequestBytesLimit} (set to ${bytes})`);
  }
  if (bytes > recommendedRequestBytes) {
    notices.push(`--max-request-bytes of ${bytes} exceeds the recommended ${recommendedRequestBytes}`);
  }
  return bytes;
}

const bcryptCostDefault = 10;

/** A cost that bcrypt does not know is replaced by the default, as etcd does. */
function authOf(
  v: FlagValues,
  stores: boolean,
  notices: string[],
): Pick<NodeConfig, 'authToken' | 'authTokenTtlSeconds' | 'bcryptCost'> {
  let bcryptCost = v.number('bcrypt-cost');
  if (stores && (bcryptCost < bcryptCostMin || bcryptCost > bcryptCostMax)) {
    notices.push(
      `--bcrypt-cost must be from ${bcryptCostMin} to ${bcryptCostMax} (set to ${bcryptCost}); using ${bcryptCostDefault}`,
    );
    bcryptCost = bcryptCostDefault;
  }
  const authTokenTtlSeconds = atLeast(v, 'auth-token-ttl', stores ? 1 : 0);
  return { authToken: v.text('auth-token'), authTokenTtlSeconds, bcryptCost };
}

function fairUseOf(v: FlagValues, readFile: ParseInput['readFile']): FairUse | undefined {
  const file = v.text('fair-use');
  if (file === '') return undefined;
  let text: string;
  try {
    text = readFile(file);
  } catch (error) {
    throw new ConfigError(`cannot read fair use file ${file}: ${(error as Error).message}`);
  }
  return parseFairUse(file, text);
}

function auditOf(v: FlagValues, notices: string[]): NodeConfig['audit'] {
  const file = v.text('audit-log');
  if (file !== '') return { file, reads: v.bool('audit-log-reads') };
  if (v.isSet('audit-log-reads')) notices.push('--audit-log-reads has no effect: --audit-log is not given');
  return undefined;
}

type ClientTuning = Pick<
  NodeConfig,
  | 'watchProgressNotifyIntervalMs'
  | 'maxConcurrentStreams'
  | 'grpcKeepaliveMinTimeMs'
  | 'grpcKeepaliveIntervalMs'
  | 'grpcKeepaliveTimeoutMs'
>;

function clientTuning(v: FlagValues): ClientTuning {
  const tuning: ClientTuning = {
    watchProgressNotifyIntervalMs: v.number('watch-progress-notify-interval'),
    maxConcurrentStreams: v.number('max-concurrent-streams'),
    grpcKeepaliveMinTimeMs: v.number('grpc-keepalive-min-time'),
    grpcKeepaliveIntervalMs: v.number('grpc-keepalive-interval'),
    grpcKeepaliveTimeoutMs: v.number('grpc-keepalive-timeout'),
  };
  if (tuning.maxConcurrentStreams > 0xffffffff)
    throw new ConfigError('--max-concurrent-streams must be below 2^32');
  for (const name of ['min-time', 'interval', 'timeout']) {
    const flag = `grpc-keepalive-${name}`;
    if (v.number(flag) < 0) throw new ConfigError(`--${flag} must not be negative`);
  }
  return tuning;
}

function logConfig(v: FlagValues, notices: string[]): LogConfig {
  const given = v.list('log-outputs');
  if (given.length === 0) throw new ConfigError('--log-outputs must not be empty');
  if (given.includes('default') && given.length > 1) {
    throw new ConfigError('--log-outputs: default must stand alone');
  }
  const rotates = v.bool('enable-log-rotation');
  if (!rotates && v.isSet('log-rotation-config-json'))
    notices.push('--log-rotation-config-json has no effect: --enable-log-rotation is not given');
  const outputs = [...new Set(given.map((output) => (output === 'default' ? 'stderr' : output)))];
  return {
    rotation: rotates ? logRotation(outputs, v.text('log-rotation-config-json')) : undefined,
    level: v.oneOf('log-level', logLevels),
    format: v.oneOf('log-format', ['json', 'console']),
    outputs,
  };
}

/** As with etcd there must be one file, and no second one. */
export function logRotation(outputs: readonly string[], json: string): LogRotation {
  const files = outputs.filter((output) => !/^(stderr|stdout|systemd\/journal)$/.test(output));
  if (files.length !== 1)
    throw new ConfigError(
      `--enable-log-rotation needs exactly one file in --log-outputs (there are ${files.length})`,
    );
  return parseLogRotation(json);
}

/** Flags first; where they are not set, OpenTelemetry's own variables. */
