/**
 * Every flag of etcd 3.7.1 (and those of main that 3.7.1 shares), with what Quoin does about it.
 *
 *   supported  has its effect
 *   notYet     the feature does not exist yet: any value other than the default is refused
 *   noEffect   makes no sense here (bbolt's tuning, say): accepted, and `note` says why nothing happens
 *   legacy     etcd itself accepts and ignores it
 */

import { type Extra, everyRole, on, quoinFlags, type Row, serves, stores } from './quoin-flags.ts';

export type FlagKind =
  | 'string'
  | 'bool'
  | 'int'
  | 'uint'
  | 'float'
  /** Go's syntax: 300ms, 1h30m. In a config file also an integer of nanoseconds. Parsed to milliseconds. */
  | 'duration'
  /** Comma separated; empty text is the empty list. */
  | 'list';

export type FlagStatus = 'supported' | 'notYet' | 'noEffect' | 'legacy';

export type Role = 'quoin' | 'member' | 'gateway';

export interface FlagSpec {
  readonly name: string;
  readonly kind: FlagKind;
  /** As text, as it would be written on the command line. */
  readonly default: string;
  readonly help: string;
  readonly group: string;
  readonly status: FlagStatus;
  /** For `notYet` and `noEffect`: one clause that says why. */
  readonly note: string;
  readonly roles: readonly Role[];
  /** False for Quoin's own flags. */
  readonly etcd: boolean;
}

const later = (note: string): Extra => ({ status: 'notYet', note });
const moot = (note: string, roles: readonly Role[] = everyRole): Extra => ({
  status: 'noEffect',
  note,
  roles,
});

const bbolt = moot('Quoin stores its data in RocksDB, not in bbolt');
const discovery = later('a discovery service is not built yet; use --initial-cluster or --discovery-srv');
const dialsItself = moot('the JSON API reaches the server without a connection', serves);

const memberFlags: readonly Row[] = [
  ['name', 'string', 'default', 'Name of this node, for people and for --initial-cluster.'],
  [
    'data-dir',
    'string',
    '',
    'Directory of all data. Empty: NAME.etcd, with the value of --name.',
    on(stores),
  ],
  ['wal-dir', 'string', '', 'Directory of the write-ahead log. Empty: below the data directory.', on(stores)],
  ['snapshot-count', 'uint', '10000', 'Applied entries between two compactions of the raft log.', on(stores)],
  ['heartbeat-interval', 'uint', '100', 'Time between two heartbeats of the leader, in ms.', on(stores)],
  ['election-timeout', 'uint', '1000', 'Silence of the leader after which a follower campaigns, in ms.'],
  [
    'initial-election-tick-advance',
    'bool',
    'true',
    'Fast-forward the first election timeout.',
    moot('a member waits its first election timeout in full'),
  ],
  ['listen-peer-urls', 'list', 'http://localhost:2380', 'URLs to serve peers and gateways on.', on(stores)],
  ['listen-client-urls', 'list', 'http://localhost:2379', 'URLs to serve clients on.', on(serves)],
  [
    'listen-client-http-urls',
    'list',
    '',
    'URLs to serve HTTP alone on.',
    later('HTTP and gRPC are served on the same URLs; a separate HTTP listener is not built yet'),
  ],
  [
    'max-wals',
    'uint',
    '5',
    'WAL files to keep.',
    moot('a WAL segment is removed as soon as nothing needs it'),
  ],
  [
    'memory-mlock',
    'bool',
    'false',
    'Keep memory from being swapped out.',
    later('locking memory is not built yet'),
  ],
  [
    'quota-backend-bytes',
    'int',
    '0',
    'Size at which the NOSPACE alarm is raised. 0: 2 GiB; negative: none.',
    on(stores),
  ],
  ['backend-bbolt-freelist-type', 'string', 'map', 'Free list of bbolt.', bbolt],
  ['backend-batch-interval', 'duration', '0s', 'Longest time before the backend commits.', bbolt],
  ['backend-batch-limit', 'int', '0', 'Most operations before the backend commits.', bbolt],
  ['max-txn-ops', 'uint', '128', 'Most operations in one transaction.', on(serves)],
  ['max-request-bytes', 'uint', '1572864', 'Largest request of a client, in bytes.'],
  ['max-concurrent-streams', 'uint', '4294967295', 'Most open streams on one client connection.', on(serves)],
  ['grpc-keepalive-min-time', 'duration', '5s', 'Shortest time between two pings of a client.', on(serves)],
  [
    'grpc-keepalive-interval',
    'duration',
    '2h',
    'Idle time after which the server pings a client. 0: never.',
    on(serves),
  ],
  ['grpc-keepalive-timeout', 'duration', '20s', 'Time for the answer to such a ping.', on(serves)],
  ['socket-reuse-port', 'bool', 'false', 'Listen with SO_REUSEPORT.'],
  [
    'socket-reuse-address',
    'bool',
    'false',
    'Listen with SO_REUSEADDR.',
    moot('Node sets SO_REUSEADDR on every listener'),
  ],
  ['enable-grpc-gateway', 'bool', 'true', 'Serve the JSON API on the client URLs.', on(serves)],
  [
    'raft-read-timeout',
    'duration',
    '5s',
    'Read timeout of peer connections.',
    moot('dead peers are found by keepalive pings'),
  ],
  [
    'raft-write-timeout',
    'duration',
    '5s',
    'Write timeout of peer connections.',
    moot('dead peers are found by keepalive pings'),
  ],
  ['feature-gates', 'list', '', 'Feature gates as A=true,B=false.'],
];

const clusteringFlags: readonly Row[] = [
  [
    'initial-advertise-peer-urls',
    'list',
    'http://localhost:2380',
    "This member's URLs for the other members.",
    on(stores),
  ],
  [
    'initial-cluster',
    'string',
    '',
    'All members at the start: name=URL,name=URL. Empty: this member alone.',
    on(stores),
  ],
  ['initial-cluster-state', 'string', 'new', 'new, or existing to join a cluster that runs.', on(stores)],
  ['initial-cluster-token', 'string', 'etcd-cluster', 'Tells clusters with the same URLs apart.', on(stores)],
  [
    'advertise-client-urls',
    'list',
    'http://localhost:2379',
    'URLs that clients are told to use. Of a gateway: what members tell for it.',
  ],
  ['discovery', 'string', '', 'URL of the v2 discovery service.', discovery],
  ['discovery-token', 'string', '', 'Token of v3 discovery.', discovery],
  ['discovery-endpoints', 'list', '', 'Endpoints of v3 discovery.', discovery],
  ['discovery-dial-timeout', 'duration', '2s', 'Dial timeout of v3 discovery.', discovery],
  ['discovery-request-timeout', 'duration', '5s', 'Request timeout of v3 discovery.', discovery],
  ['discovery-keepalive-time', 'duration', '2s', 'Keepalive time of v3 discovery.', discovery],
  ['discovery-keepalive-timeout', 'duration', '6s', 'Keepalive timeout of v3 discovery.', discovery],
  ['discovery-insecure-transport', 'bool', 'true', 'Reach v3 discovery without TLS.', discovery],
  [
    'discovery-insecure-skip-tls-verify',
    'bool',
    'false',
    'Trust any certificate of v3 discovery.',
    discovery,
  ],
  ['discovery-cert', 'string', '', 'Client certificate for v3 discovery.', discovery],
  ['discovery-key', 'string', '', 'Client key for v3 discovery.', discovery],
  ['discovery-cacert', 'string', '', 'CA of v3 discovery.', discovery],
  ['discovery-user', 'string', '', 'User for v3 discovery.', discovery],
  ['discovery-password', 'string', '', 'Password for v3 discovery.', discovery],
  ['discovery-fallback', 'string', 'exit', 'What to do when discovery fails: exit or proxy.', discovery],
  ['discovery-proxy', 'string', '', 'HTTP proxy to reach v2 discovery.', discovery],
  ['discovery-srv', 'string', '', 'DNS domain whose SRV records name the members.'],
  ['discovery-srv-name', 'string', '', 'Suffix of the SRV name.'],
  [
    'strict-reconfig-check',
    'bool',
    'true',
    'Refuse membership changes that would lose the quorum.',
    later('the check cannot be turned off'),
  ],
  [
    'pre-vote',
    'bool',
    'true',
    'Ask before campaigning, so that a cut-off member does not disturb.',
    on(stores),
  ],
  [
    'auto-compaction-retention',
    'string',
    '0',
    'What automatic compaction keeps: 30m, a number of hours, or of revisions. 0: off.',
    on(stores),
  ],
  ['auto-compaction-mode', 'string', 'periodic', 'periodic or revision.', on(stores)],
];

const securityFlags: readonly Row[] = [
  ['cert-file', 'string', '', 'Certificate shown to clients, PEM.'],
  ['key-file', 'string', '', 'Its key, PEM.'],
  ['client-cert-auth', 'bool', 'false', 'Require a certificate of clients.'],
  ['client-cert-file', 'string', '', 'Certificate used as a client.', dialsItself],
  ['client-key-file', 'string', '', 'Key used as a client.', dialsItself],
  ['client-crl-file', 'string', '', 'Revoked certificates of clients, PEM or DER.'],
  [
    'client-cert-allowed-hostname',
    'list',
    '',
    'Names of which the certificate of a client must be valid for one. Empty: any.',
  ],
  ['trusted-ca-file', 'string', '', 'CA of the clients, PEM. Given, certificates are required.'],
  [
    'auto-tls',
    'bool',
    'false',
    'Make a self-signed certificate for https client URLs, in the data directory.',
    on(['quoin']),
  ],
  [
    'peer-cert-file',
    'string',
    '',
    'Certificate shown on the peer port, and to members that are dialled, PEM.',
  ],
  ['peer-key-file', 'string', '', 'Its key, PEM.'],
  ['peer-client-cert-auth', 'bool', 'false', 'Require a certificate of peers and gateways.', on(stores)],
  [
    'peer-client-cert-file',
    'string',
    '',
    'Certificate shown to members that are dialled, if another one, PEM.',
  ],
  ['peer-client-key-file', 'string', '', 'Its key, PEM.'],
  [
    'peer-trusted-ca-file',
    'string',
    '',
    'CA of members and gateways, PEM. Given, members require certificates.',
  ],
  [
    'peer-cert-allowed-cn',
    'list',
    '',
    'Common names of which the certificate of a peer must have one. Empty: any.',
    on(stores),
  ],
  [
    'peer-cert-allowed-hostname',
    'list',
    '',
    'Names of which the certificate of a peer must be valid for one. Empty: any.',
    on(stores),
  ],
  [
    'peer-auto-tls',
    'bool',
    'false',
    'Make a self-signed certificate for https peer URLs, and do not verify those of members.',
  ],
  ['self-signed-cert-validity', 'uint', '1', 'Years that a self-signed certificate is valid.', on(stores)],
  ['peer-crl-file', 'string', '', 'Revoked certificates of peers and gateways, PEM or DER.', on(stores)],
  ['cipher-suites', 'list', '', "Allowed TLS 1.2 cipher suites, by Go's names. Empty: the runtime's choice."],
  [
    'cors',
    'list',
    '*',
    'Origins whose pages may call this server over HTTP, as URLs. Empty or *: all.',
    on(serves),
  ],
  [
    'host-whitelist',
    'list',
    '*',
    'Host names that HTTP requests without TLS may carry. Empty or *: all.',
    on(serves),
  ],
  ['tls-min-version', 'string', 'TLS1.2', 'Lowest TLS version: TLS1.2 or TLS1.3.'],
  ['tls-max-version', 'string', '', 'Highest TLS version. Empty: the highest there is.'],
];

const authFlags: readonly Row[] = [
  [
    'auth-token',
    'string',
    'simple',
    'Kind of token: simple, or jwt,pub-key=FILE,priv-key=FILE,sign-method=METHOD,ttl=10m.',
    on(stores),
  ],
  ['bcrypt-cost', 'uint', '10', 'Cost of hashing a password, 4 to 31.', on(stores)],
  ['auth-token-ttl', 'uint', '300', 'Seconds that a simple token lives after its last use.', on(stores)],
];

const monitoringFlags: readonly Row[] = [
  [
    'enable-pprof',
    'bool',
    'false',
    "Serve Go's profiles.",
    moot('there is no Go runtime to profile; start node with --cpu-prof'),
  ],
  [
    'metrics',
    'string',
    'basic',
    'basic, or extensive: times of each RPC, busiest users and prefixes of keys, the heap in detail.',
  ],
  ['listen-metrics-urls', 'list', '', 'More URLs for /metrics and the health checks.'],
];

const loggingFlags: readonly Row[] = [
  ['logger', 'string', 'zap', "The shape of log lines; only zap's exists."],
  ['log-outputs', 'list', 'default', 'stderr, stdout, systemd/journal, or file names; default is stderr.'],
  ['log-level', 'string', 'info', 'debug, info, warn, error, panic or fatal.'],
  ['log-format', 'string', 'json', 'json or console.'],
  ['enable-log-rotation', 'bool', 'false', 'Begin a new log file when it grows too large.'],
  [
    'log-rotation-config-json',
    'string',
    '{"maxsize": 100, "maxage": 0, "maxbackups": 0, "localtime": false, "compress": false}',
    'When to begin a new one (maxsize in MiB), and which old ones are kept (maxage in days, maxbackups).',
  ],
  [
    'warning-unary-request-duration',
    'duration',
    '300ms',
    'Unary requests that take longer are logged, on their leader with where the time went.',
  ],
];

const tracingFlags: readonly Row[] = [
  ['enable-distributed-tracing', 'bool', 'false', 'Export OpenTelemetry traces over OTLP.'],
  ['distributed-tracing-address', 'string', 'localhost:4317', 'Collector, as host:port.'],
  [
    'distributed-tracing-service-name',
    'string',
    '',
    'service.name of the spans. Empty: quoin-member, quoin-gateway.',
  ],
  [
    'distributed-tracing-instance-id',
    'string',
    '',
    'service.instance.id of the spans. Empty: the name of this node.',
  ],
  [
    'distributed-tracing-sampling-rate',
    'uint',
    '0',
    'Requests per million to trace that do not say themselves.',
  ],
];

const featureFlags: readonly Row[] = [
  [
    'corrupt-check-time',
    'duration',
    '10m',
    'Time between two comparisons of the states of all members. 0s: none.',
    on(stores),
  ],
  [
    'compact-hash-check-time',
    'duration',
    '1m',
    'Time between two checks of compaction hashes.',
    moot('whole states are compared, see --corrupt-check-time'),
  ],
  [
    'compaction-batch-limit',
    'int',
    '1000',
    'Events that one slice of compaction looks at, at most.',
    on(stores),
  ],
  [
    'peer-skip-client-san-verification',
    'bool',
    'false',
    'Do not check that the names in a certificate fit the address it comes from.',
    on(stores),
  ],
  [
    'watch-progress-notify-interval',
    'duration',
    '10m',
    'Time between two progress notifications.',
    on(serves),
  ],
  ['warning-apply-duration', 'duration', '100ms', 'Applies that take longer are logged.', on(stores)],
  [
    'bootstrap-defrag-threshold-megabytes',
    'uint',
    '0',
    'Space to be won that starts a defragmentation at start.',
    moot('RocksDB needs no defragmentation'),
  ],
  ['max-learners', 'int', '1', 'Most learners in the cluster.', on(stores)],
  ['compaction-sleep-interval', 'duration', '10ms', 'Pause between two slices of compaction.', on(stores)],
  [
    'downgrade-check-time',
    'duration',
    '5s',
    'Time between two checks of a downgrade.',
    moot('there is no older version to go back to'),
  ],
  [
    'snapshot-catchup-entries',
    'uint',
    '5000',
    'Entries kept for slow followers when the raft log is compacted.',
    on(stores),
  ],
];

const unsafeFlags: readonly Row[] = [
  [
    'force-new-cluster',
    'bool',
    'false',
    'Start a cluster of one from this data directory.',
    later('forcing a new cluster is not built yet'),
  ],
  [
    'unsafe-no-fsync',
    'bool',
    'false',
    'Never wait for the disk. Data WILL be lost when the machine stops.',
    on(stores),
  ],
];

/** In 3.7.1, gone in main. */
const goneFlags: readonly Row[] = [
  ['max-snapshots', 'uint', '5', 'Snapshot files to keep.', moot('Quoin writes no snapshot files')],
  [
    'v2-deprecation',
    'string',
    'write-only',
    'Phase of removing the v2 store.',
    moot('Quoin never had a v2 store'),
  ],
];

/** etcd takes these names without a word and does nothing. */
const legacyNames = [
  'cluster-active-size',
  'cluster-remove-delay',
  'cluster-sync-interval',
  'config',
  'force',
  'max-result-buffer',
  'max-retry-attempts',
  'peer-heartbeat-interval',
  'peer-election-timeout',
  'retry-interval',
  'snapshot',
  'v',
  'vv',
];

function rows(group: string, list: readonly Row[], etcd = true): FlagSpec[] {
  return list.map(([name, kind, fallback, help, extra]) => ({
    name,
    kind,
    default: fallback,
    help,
    group,
    status: extra?.status ?? 'supported',
    note: extra?.note ?? '',
    roles: extra?.roles ?? everyRole,
    etcd: extra?.etcd ?? etcd,
  }));
}

/** All flags of all roles, in the order of `--help`. */
export const flagTable: readonly FlagSpec[] = [
  ...rows('Member', memberFlags),
  ...rows('Clustering', clusteringFlags),
  ...rows('Security', securityFlags),
  ...rows('Auth', authFlags),
  ...rows('Profiling and Monitoring', monitoringFlags),
  ...rows('Logging', loggingFlags),
  ...rows('Distributed tracing', tracingFlags),
  ...rows('Features', featureFlags),
  ...rows('Unsafe', unsafeFlags),
  ...rows('Only in 3.7', goneFlags),
  ...rows('Quoin', quoinFlags, false),
  ...legacyNames.map(
    (name): FlagSpec => ({
      name,
      kind: 'string',
      default: '',
      help: 'Ignored, as etcd does.',
      group: 'Legacy',
      status: 'legacy',
      note: '',
      roles: everyRole,
      etcd: true,
    }),
  ),
];

export const legacyGroup = 'Legacy';
