import {
  type FlagSpec,
  flagsOf,
  flagTable,
  helpText,
  type Role,
  readNodeConfig,
  tracingDefaults,
} from '@quoin/platform';
import { expect, test } from 'vitest';

const noFile = (path: string): string => {
  throw new Error(`ENOENT: no such file or directory, open '${path}'`);
};

function read(args: string[], env: Record<string, string> = {}, role: Role = 'quoin', file?: string) {
  const outcome = readNodeConfig(role, { args, env, readFile: file === undefined ? noFile : () => file });
  if (outcome.kind !== 'run') throw new Error(`expected a configuration, got ${outcome.kind}`);
  return outcome;
}

const config = (args: string[], env: Record<string, string> = {}, role: Role = 'quoin') =>
  read(args, env, role).config;

test('the table has every flag of etcd once', () => {
  const names = flagTable.map((spec) => spec.name);
  expect(new Set(names).size).toBe(names.length);
  const etcd = flagTable.filter((spec) => spec.etcd && spec.status !== 'legacy');
  // 111 of main and the two that only 3.7 has.
  expect(etcd.filter((spec) => spec.group !== 'Only in 3.7')).toHaveLength(111);
  expect(etcd.filter((spec) => spec.group === 'Only in 3.7')).toHaveLength(2);
  for (const spec of flagTable) {
    expect(spec.note === '', spec.name).toBe(spec.status === 'supported' || spec.status === 'legacy');
  }
});

test('defaults are etcd’s', () => {
  const c = config([]);
  expect(c).toMatchObject({
    name: 'default',
    dataDir: 'default.etcd',
    heartbeatIntervalMs: 100,
    electionTimeoutMs: 1000,
    preVote: true,
    leaseReads: false,
    snapshotCount: 10_000,
    snapshotCatchupEntries: 5000,
    maxTxnOps: 128,
    maxRequestBytes: 1_572_864,
    maxConcurrentStreams: 4_294_967_295,
    grpcKeepaliveMinTimeMs: 5000,
    grpcKeepaliveIntervalMs: 7_200_000,
    watchProgressNotifyIntervalMs: 600_000,
    initialClusterToken: 'etcd-cluster',
    initialCluster: [{ name: 'default', peerUrls: ['http://localhost:2380'] }],
    advertiseClientUrls: ['http://localhost:2379'],
    log: { level: 'info', format: 'json', outputs: ['stderr'] },
    tracing: undefined,
  });
  expect(c.listenClientUrls).toEqual([
    { text: 'http://localhost:2379', scheme: 'http', host: 'localhost', port: 2379 },
  ]);
});

test('flags are read in every form that Go reads', () => {
  expect(config(['--name', 'a']).name).toBe('a');
  expect(config(['--name=a=b']).name).toBe('a=b');
  expect(config(['-name', 'a']).name).toBe('a');
  expect(config(['-name=a']).name).toBe('a');
  expect(config(['--pre-vote=false']).preVote).toBe(false);
  expect(config(['--pre-vote', '--name', 'a']).preVote).toBe(true);
  expect(config(['--pre-vote=0']).preVote).toBe(false);
  expect(config(['--lease-reads']).leaseReads).toBe(true);
  expect(config(['--max-txn-ops', '0x10']).maxTxnOps).toBe(16);
  expect(config(['--watch-progress-notify-interval', '1h2m3.5s']).watchProgressNotifyIntervalMs).toBe(
    3_723_500,
  );
  expect(config(['--name', 'a', '--name', 'b']).name).toBe('b');
});

test('the command line wins over QUOIN_*, which wins over ETCD_*', () => {
  const env = { ETCD_NAME: 'etcd', QUOIN_NAME: 'quoin', ETCD_MAX_TXN_OPS: '7' };
  expect(config([], { ETCD_NAME: 'etcd' }).name).toBe('etcd');
  expect(config([], env)).toMatchObject({ name: 'quoin', maxTxnOps: 7 });
  const { config: c, notices } = read(['--name', 'line'], env);
  expect(c.name).toBe('line');
  expect(notices).toEqual([
    'ETCD_NAME has no effect: --name is given on the command line',
    'QUOIN_NAME has no effect: --name is given on the command line',
  ]);
  expect(read([], { ETCD_NAEM: 'x' }).notices).toEqual(['unrecognized environment variable ETCD_NAEM']);
  expect(read([], { ETCD_NAME: '' }).config.name).toBe('default');
});

test.each([
  ['unknown flag', ['--naem', 'x'], 'flag provided but not defined: --naem (did you mean --name?)'],
  [
    'unknown flag far from all',
    ['--zzzzzzzzzzzzzz'],
    'flag provided but not defined: --zzzzzzzzzzzzzz (see --help)',
  ],
  ['no flag at all', ['start'], '"start" is not a valid flag'],
  ['missing value', ['--name'], 'flag needs an argument: --name'],
  ['bad bool', ['--pre-vote=maybe'], 'invalid value "maybe" for flag --pre-vote: must be true or false'],
  [
    'bad number',
    ['--max-txn-ops=-1'],
    'invalid value "-1" for flag --max-txn-ops: must be a whole number from 0',
  ],
  [
    'bad duration',
    ['--grpc-keepalive-timeout=20'],
    'invalid value "20" for flag --grpc-keepalive-timeout: must be a duration such as 300ms, 5s or 1h30m',
  ],
  [
    'name in listen URL',
    ['--listen-peer-urls=http://example.com:2380'],
    'invalid value "http://example.com:2380" for flag --listen-peer-urls: expected IP in URL for binding',
  ],
  [
    'no scheme',
    ['--listen-peer-urls=127.0.0.1:2380'],
    'invalid value "127.0.0.1:2380" for flag --listen-peer-urls: URL must have the form http://host:port',
  ],
  [
    'strange scheme',
    ['--listen-peer-urls=ftp://127.0.0.1:2380'],
    'invalid value "ftp://127.0.0.1:2380" for flag --listen-peer-urls: URL scheme must be http, https, unix, or unixs: ftp://127.0.0.1:2380',
  ],
  [
    'no port',
    ['--listen-peer-urls=http://127.0.0.1'],
    'invalid value "http://127.0.0.1" for flag --listen-peer-urls: URL address does not have the form "host:port"',
  ],
  [
    'a path',
    ['--listen-peer-urls=http://127.0.0.1:2380/x'],
    'invalid value "http://127.0.0.1:2380/x" for flag --listen-peer-urls: URL must not contain a path',
  ],
  [
    'port out of range',
    ['--listen-peer-urls=http://127.0.0.1:70000'],
    'invalid value "http://127.0.0.1:70000" for flag --listen-peer-urls: port 70000 is above 65535',
  ],
  [
    'empty element',
    ['--listen-peer-urls=http://127.0.0.1:2380,'],
    'invalid value "" for flag --listen-peer-urls: URL must have the form http://host:port',
  ],
  [
    'TLS without a certificate',
    ['--listen-peer-urls=https://127.0.0.1:2380'],
    'cannot listen on TLS for https://127.0.0.1:2380 (--listen-peer-urls): --peer-cert-file and its key are not presented',
  ],
  [
    'listening without advertising',
    ['--listen-client-urls=http://127.0.0.1:2379'],
    '--advertise-client-urls is required when --listen-client-urls is set explicitly',
  ],
  ['no heartbeat', ['--heartbeat-interval=0'], '--heartbeat-interval must be greater than 0 (set to 0ms)'],
  [
    'short election',
    ['--election-timeout=400'],
    '--election-timeout[400ms] should be at least as 5 times as --heartbeat-interval[100ms]',
  ],
  [
    'long election',
    ['--election-timeout=50001'],
    '--election-timeout[50001ms] is too long, and should be set less than 50000ms',
  ],
  [
    'cluster without us',
    ['--initial-cluster=a=http://h:2380'],
    'couldn\'t find local name "default" in the initial cluster configuration "a=http://h:2380"',
  ],
  [
    'cluster with other URLs for us',
    ['--initial-cluster=default=http://h:2380'],
    '--initial-cluster has default=http://h:2380 but --initial-advertise-peer-urls is http://localhost:2380: both must name the same URLs',
  ],
  [
    'malformed cluster',
    ['--initial-cluster=http://h:2380'],
    'invalid value "http://h:2380" for flag --initial-cluster: "http://h:2380" is not name=URL',
  ],
  [
    'one URL for two',
    ['--initial-cluster=default=http://localhost:2380,b=http://localhost:2380'],
    '--initial-cluster has http://localhost:2380 twice, for default and for b',
  ],
  [
    'strange state',
    ['--initial-cluster-state=old'],
    'invalid value "old" for flag --initial-cluster-state: must be one of new, existing',
  ],
  ['empty name', ['--name='], '--name must not be empty'],
  [
    'certificate without key',
    ['--cert-file=x'],
    '--cert-file and --key-file must both be present [key: , cert: x]',
  ],
  [
    'TLS versions upside down',
    ['--tls-min-version=TLS1.3', '--tls-max-version=TLS1.2'],
    '--tls-min-version TLS1.3 is above --tls-max-version TLS1.2',
  ],
  [
    'strange TLS version',
    ['--tls-min-version=TLS1.1'],
    'invalid value "TLS1.1" for flag --tls-min-version: must be one of TLS1.2, TLS1.3',
  ],
  ['strange suite', ['--cipher-suites=X'], '--cipher-suites: unexpected TLS cipher suite "X"'],
  [
    'broken suite',
    ['--cipher-suites=TLS_RSA_WITH_3DES_EDE_CBC_SHA'],
    '--cipher-suites: TLS_RSA_WITH_3DES_EDE_CBC_SHA is broken and not offered',
  ],
  [
    'suites that TLS 1.3 does not have',
    ['--tls-min-version=TLS1.3', '--cipher-suites=TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256'],
    '--cipher-suites has no effect on TLS1.3, and --tls-min-version allows nothing else',
  ],
  [
    'names and hostnames of peers',
    ['--peer-cert-allowed-cn=a', '--peer-cert-allowed-hostname=b'],
    '--peer-cert-allowed-cn and --peer-cert-allowed-hostname are mutually exclusive: give one of them',
  ],
  [
    'self-signed for no time',
    ['--self-signed-cert-validity=0'],
    '--self-signed-cert-validity must be greater than 0 (set to 0)',
  ],
  [
    'retention of hours in revisions',
    ['--auto-compaction-mode=revision', '--auto-compaction-retention=1h'],
    'invalid value "1h" for flag --auto-compaction-retention: with --auto-compaction-mode=revision it must be a number of revisions',
  ],
  [
    'unknown compaction mode',
    ['--auto-compaction-mode=daily'],
    'invalid value "daily" for flag --auto-compaction-mode: must be one of periodic, revision',
  ],
  [
    'unknown gate',
    ['--feature-gates=LeaseChekpoint=true'],
    'unrecognized feature gate: LeaseChekpoint (did you mean LeaseCheckpoint?)',
  ],
  [
    'gate not built yet',
    ['--feature-gates=PriorityRequest=true'],
    '--feature-gates PriorityRequest=true is not supported: the feature is not built yet',
  ],
  [
    'gate without the one it needs',
    ['--feature-gates=LeaseCheckpointPersist=true'],
    '--feature-gates LeaseCheckpointPersist=true needs LeaseCheckpoint=true',
  ],
  [
    'strange level',
    ['--log-level=loud'],
    'invalid value "loud" for flag --log-level: must be one of debug, info, warn, error, panic, fatal',
  ],
  [
    'collector without port',
    ['--enable-distributed-tracing', '--distributed-tracing-address=collector'],
    'invalid value "collector" for flag --distributed-tracing-address: must be host:port',
  ],
  [
    'too much sampling',
    ['--enable-distributed-tracing', '--distributed-tracing-sampling-rate=1000001'],
    '--distributed-tracing-sampling-rate must be at most 1000000 (set to 1000001)',
  ],
  [
    'flag of another role',
    ['--members=http://127.0.0.1:2380'],
    '--members is not a flag of the quoin role, but of: gateway',
  ],
  [
    'missing config file',
    ['--config-file=/nowhere'],
    "cannot read config file /nowhere: ENOENT: no such file or directory, open '/nowhere'",
  ],
])('%s is refused with one line', (_what, args, message) => {
  expect(() => read(args)).toThrow(message);
  try {
    read(args);
  } catch (error) {
    expect((error as Error).message).toBe(message);
    expect((error as Error).name).toBe('ConfigError');
  }
});

/** A value other than the default that fits the kind. */
function otherValue(spec: FlagSpec): string {
  if (spec.kind === 'bool') return spec.default === 'true' ? 'false' : 'true';
  if (spec.kind === 'duration') return '77m';
  if (spec.kind === 'string' || spec.kind === 'list') return 'other';
  return spec.name === 'bcrypt-cost' ? '7' : '77';
}

/** Without these such a flag has nothing to act on, which is a notice of its own. */
const companions: Readonly<Record<string, string[]>> = {
  'audit-log-reads': ['--audit-log=x'],
  'enable-log-rotation': ['--log-outputs=/tmp/x.log'],
  'client-cert-auth': ['--cert-file=c', '--key-file=k'],
  'auto-tls': ['--listen-metrics-urls=https://127.0.0.1:1'],
};

test('nothing is parsed and ignored: every flag has an effect, a notice, or is refused', () => {
  const base = config([]);
  for (const spec of flagsOf('quoin')) {
    const flag = `--${spec.name}=${otherValue(spec)}`;
    if (spec.status === 'notYet') {
      expect(() => read([flag]), spec.name).toThrow(`--${spec.name} is not supported: ${spec.note}`);
      expect(() => read([`--${spec.name}=${spec.default}`]), spec.name).not.toThrow();
    } else if (spec.status === 'noEffect') {
      expect(read([flag]).notices, spec.name).toEqual([`--${spec.name} has no effect: ${spec.note}`]);
    } else if (spec.status === 'supported' && ['uint', 'int', 'duration', 'bool'].includes(spec.kind)) {
      // Tracing's own flags need tracing on; the heartbeat bounds the election timeout.
      const more =
        companions[spec.name] ??
        (spec.name.includes('tracing') ? ['--enable-distributed-tracing'] : ['--election-timeout=5000']);
      const without = spec.name === 'auto-tls' ? base : config(more);
      const wanted = spec.name === 'election-timeout' ? '--election-timeout=2000' : flag;
      expect(config([...more, wanted]), spec.name).not.toEqual(
        spec.name === 'enable-distributed-tracing' ? base : without,
      );
    }
  }
});

test('a config file is all there is', () => {
  const yaml = [
    'name: filed',
    'data-dir: /d',
    'election-timeout: 2000',
    'watch-progress-notify-interval: 60000000000',
    'listen-client-urls: http://127.0.0.1:1,http://127.0.0.1:2',
    'advertise-client-urls: http://127.0.0.1:1',
    'log-outputs: [stdout, /tmp/x.log]',
    'max-wals: 5',
    'cors:',
    'client-transport-security:',
    '  auto-tls: false',
  ].join('\n');
  const { config: c, notices } = read(
    ['--config-file', 'f.yml', '--name', 'line'],
    { ETCD_DATA_DIR: '/e' },
    'quoin',
    yaml,
  );
  expect(c).toMatchObject({
    name: 'filed',
    dataDir: '/d',
    electionTimeoutMs: 2000,
    watchProgressNotifyIntervalMs: 60_000,
    log: { outputs: ['stdout', '/tmp/x.log'] },
  });
  expect(c.listenClientUrls.map((url) => url.port)).toEqual([1, 2]);
  expect(notices).toEqual([
    '--name has no effect: --config-file is given and replaces all other flags',
    'max-wals has no effect: a WAL segment is removed as soon as nothing needs it',
  ]);
  const json = JSON.stringify({ name: 'json', 'grpc-keepalive-timeout': 3e9 });
  expect(read([], { ETCD_CONFIG_FILE: 'f' }, 'quoin', json).config).toMatchObject({
    name: 'json',
    grpcKeepaliveTimeoutMs: 3000,
  });
});

test.each([
  ['naem: x', 'config file f: unknown key "naem" (did you mean name?)'],
  [
    'peer-transport-security: {cert-flie: x}',
    'config file f: unknown key "peer-transport-security.cert-flie" (did you mean cert-file?)',
  ],
  [
    'peer-transport-security: {cert-file: x}',
    '--peer-cert-file and --peer-key-file must both be present [key: , cert: x]',
  ],
  ['peer-transport-security: yes', 'config file f: peer-transport-security must be a mapping'],
  ['name: {a: b}', 'invalid value for "name" in config file f: must be text'],
  ['- name', 'config file f: must be a mapping of flag names to values'],
  [
    'name: [a\nx: 1',
    'config file f: Flow sequence in block collection must be sufficiently indented and end with a ] at line 2, column 1',
  ],
  [
    'max-txn-ops: many',
    'invalid value "many" for "max-txn-ops" in config file f: must be a whole number from 0',
  ],
])('the config file %s is refused with one line', (text, message) => {
  expect(() => read(['--config-file=f'], {}, 'quoin', text)).toThrow(message);
});

test('YAML that cannot be read names the place', () => {
  expect(() => read(['--config-file=f'], {}, 'quoin', 'name: "x')).toThrow(/^config file f: .* at line 1/);
});

test('roles have the flags that they need', () => {
  const gateway = config(
    ['--members=http://10.0.0.1:2380,http://10.0.0.2:2380', '--listen-client-urls=http://0.0.0.0:2379'],
    {},
    'gateway',
  );
  expect(gateway.members).toEqual(['http://10.0.0.1:2380', 'http://10.0.0.2:2380']);
  expect(gateway.listenPeerUrls).toEqual([]);
  expect(() => config(['--data-dir=x'], {}, 'gateway')).toThrow(
    '--data-dir is not a flag of the gateway role, but of: quoin, member',
  );
  expect(() => config(['--listen-client-urls=http://127.0.0.1:1'], {}, 'member')).toThrow(
    '--listen-client-urls is not a flag of the member role',
  );
  expect(read([], { ETCD_DATA_DIR: 'x' }, 'gateway').notices).toEqual([
    'ETCD_DATA_DIR has no effect: the gateway role has no --data-dir',
  ]);
  const member = config([], {}, 'member');
  expect(member.listenClientUrls).toEqual([]);
  // A member that serves no clients tells nobody to come.
  expect(member.advertiseClientUrls).toEqual([]);
});

test('tracing takes OpenTelemetry’s own variables where flags are silent', () => {
  const on = ['--enable-distributed-tracing'];
  expect(config(on).tracing).toEqual({
    protocol: 'grpc',
    url: 'http://localhost:4317',
    headers: {},
    compression: 'none',
    caFile: '',
    certFile: '',
    keyFile: '',
    serviceName: '',
    instanceId: 'default',
    attributes: {},
    samplingRatio: 0,
    parentBased: true,
    takesParent: true,
    takesBaggage: true,
    ...tracingDefaults,
  });
  const env = {
    OTEL_EXPORTER_OTLP_ENDPOINT: 'http://c:4317/',
    OTEL_SERVICE_NAME: 's',
    OTEL_TRACES_SAMPLER: 'parentbased_traceidratio',
    OTEL_TRACES_SAMPLER_ARG: '0.25',
  };
  expect(config(on, env).tracing).toMatchObject({
    url: 'http://c:4317/',
    serviceName: 's',
    instanceId: 'default',
    samplingRatio: 0.25,
    parentBased: true,
  });
  expect(
    config([...on, '--distributed-tracing-sampling-rate=1000', '--distributed-tracing-address=d:1'], env)
      .tracing,
  ).toMatchObject({ url: 'http://d:1', samplingRatio: 0.001 });
  expect(config([], env).tracing).toBeUndefined();
});

test.each<[Record<string, string>, object | undefined]>([
  [{ OTEL_SDK_DISABLED: 'true' }, undefined],
  [{ OTEL_TRACES_EXPORTER: 'none' }, undefined],
  [{ OTEL_EXPORTER_OTLP_PROTOCOL: 'http/protobuf' }, { url: 'http://localhost:4318/v1/traces' }],
  [
    { OTEL_EXPORTER_OTLP_PROTOCOL: 'http/protobuf', OTEL_EXPORTER_OTLP_ENDPOINT: 'https://c/base' },
    { url: 'https://c/base/v1/traces' },
  ],
  [
    {
      OTEL_EXPORTER_OTLP_PROTOCOL: 'grpc',
      OTEL_EXPORTER_OTLP_TRACES_PROTOCOL: 'http/protobuf',
      OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: 'https://c/mine',
      OTEL_EXPORTER_OTLP_ENDPOINT: 'http://other:1',
    },
    { protocol: 'http/protobuf', url: 'https://c/mine' },
  ],
  [{ OTEL_EXPORTER_OTLP_ENDPOINT: 'c:4317' }, { url: 'https://c:4317/' }],
  [{ OTEL_EXPORTER_OTLP_ENDPOINT: 'c:4317', OTEL_EXPORTER_OTLP_INSECURE: 'true' }, { url: 'http://c:4317/' }],
  [
    { OTEL_EXPORTER_OTLP_HEADERS: 'a=1,b=2', OTEL_EXPORTER_OTLP_TRACES_HEADERS: 'b=%203' },
    { headers: { a: '1', b: ' 3' } },
  ],
  [
    { OTEL_RESOURCE_ATTRIBUTES: 'a=1,service.name=n,service.instance.id=j' },
    { serviceName: 'n', instanceId: 'j', attributes: { a: '1' } },
  ],
  [{ OTEL_TRACES_SAMPLER: 'always_on' }, { samplingRatio: 1, parentBased: false }],
  [{ OTEL_TRACES_SAMPLER: 'parentbased_always_off' }, { samplingRatio: 0, parentBased: true }],
  [{ OTEL_PROPAGATORS: 'tracecontext' }, { takesParent: true, takesBaggage: false }],
  [{ OTEL_PROPAGATORS: 'none' }, { takesParent: false, takesBaggage: false }],
  [{ OTEL_EXPORTER_OTLP_TIMEOUT: '700' }, { exportTimeoutMs: 700 }],
  [
    { OTEL_BSP_MAX_QUEUE_SIZE: '100', OTEL_BSP_SCHEDULE_DELAY: '5' },
    { queueSpansMax: 100, batchSpansMax: 100, batchDelayMs: 5 },
  ],
  [
    { OTEL_EXPORTER_OTLP_CERTIFICATE: '/ca.pem', OTEL_EXPORTER_OTLP_CLIENT_KEY: '/k' },
    { caFile: '/ca.pem', keyFile: '/k' },
  ],
])('tracing with %j', (env, expected) => {
  const { tracing } = config(['--enable-distributed-tracing'], env);
  if (expected === undefined) expect(tracing).toBeUndefined();
  else expect(tracing).toMatchObject(expected);
});

test.each<[Record<string, string>, string]>([
  [{ OTEL_EXPORTER_OTLP_PROTOCOL: 'http/json' }, 'must be grpc or http/protobuf'],
  [{ OTEL_EXPORTER_OTLP_COMPRESSION: 'br' }, 'must be gzip or none'],
  [{ OTEL_TRACES_EXPORTER: 'zipkin' }, 'must be otlp or none'],
  [{ OTEL_EXPORTER_OTLP_ENDPOINT: 'ftp://c' }, 'is no URL: must be like http://collector:4317'],
  [{ OTEL_PROPAGATORS: 'b3' }, 'b3 is not known here: must be of tracecontext, baggage, none'],
  [{ OTEL_TRACES_SAMPLER: 'traceidratio', OTEL_TRACES_SAMPLER_ARG: '2' }, 'is not a known sampler'],
  [{ OTEL_BSP_MAX_QUEUE_SIZE: '0' }, 'must be a whole number from 1 to'],
  [{ OTEL_RESOURCE_ATTRIBUTES: 'novalue' }, 'must be a list of key=value (found "novalue")'],
  [{ OTEL_EXPORTER_OTLP_HEADERS: 'a=%zz' }, 'the value of a is not percent-encoded as it must be'],
])('tracing with %j is refused', (env, problem) => {
  expect(() => config(['--enable-distributed-tracing'], env)).toThrow(problem);
});

test('help and version are asked for', () => {
  const ask = (...args: string[]) => readNodeConfig('quoin', { args, env: {}, readFile: noFile }).kind;
  expect(ask('--help')).toBe('help');
  expect(ask('-h')).toBe('help');
  expect(ask('--version')).toBe('version');
  const text = helpText('quoin', flagsOf('quoin'));
  for (const spec of flagsOf('quoin')) if (spec.status !== 'legacy') expect(text).toContain(`--${spec.name}`);
  expect(text).toContain('[not supported: ');
});

// It was accepted and did nothing: a limit that a member does not keep.
test.each([['member', 'max-txn-ops', '9', 'quoin, gateway']] as const)(
  'a %s refuses --%s',
  (role, flag, value, roles) => {
    const read = (args: string[], env: Record<string, string>) =>
      readNodeConfig(role, { args, env, readFile: () => '' });
    expect(() => read([`--${flag}=${value}`], {})).toThrow(
      `--${flag} is not a flag of the ${role} role, but of: ${roles}`,
    );
    const variable = `ETCD_${flag.toUpperCase().replaceAll('-', '_')}`;
    expect(read([], { [variable]: value })).toMatchObject({
      notices: [`${variable} has no effect: the ${role} role has no --${flag}`],
    });
  },
);

test('what automatic compaction keeps: a bare number counts hours or revisions, by the mode', () => {
  const retention = (...args: string[]): number => config(args).autoCompactionRetention;
  expect(retention()).toBe(0);
  expect(retention('--auto-compaction-retention=2')).toBe(2 * 3_600_000);
  expect(retention('--auto-compaction-retention=30m')).toBe(30 * 60_000);
  expect(retention('--auto-compaction-retention=1000', '--auto-compaction-mode=revision')).toBe(1_000);
});

test('--fair-use: limits of users and prefixes, or one line that says what is wrong', () => {
  const parsed = (text: string) =>
    readNodeConfig('gateway', { args: ['--fair-use=f.yaml'], env: {}, readFile: () => text });
  const outcome = parsed(
    'users: { "*": { watches: 5, leases: 2 } }\nprefixes: { a/: { keys: 7, requestsPerSecond: 0.5 } }',
  );
  if (outcome.kind !== 'run') throw new Error('it does not run');
  const { fairUse } = outcome.config;
  expect(fairUse?.users.get('*')).toEqual({ watches: 5, leases: 2 });
  expect(fairUse?.prefixes).toEqual([
    { prefix: new TextEncoder().encode('a/'), limits: { keys: 7, requestsPerSecond: 0.5 } },
  ]);
  for (const [text, message] of [
    ['user: {}', 'fair use file f.yaml: unknown key "user", must be users or prefixes'],
    ['[]', 'fair use file f.yaml: it must be a mapping'],
    ['users: { a: 5 }', 'fair use file f.yaml: users "a" must be a mapping'],
    ['users: { a: { keys: 5 } }', 'users "a" has no limit "keys", only requestsPerSecond'],
    ['prefixes: { a: { leases: 5 } }', 'prefixes "a" has no limit "leases", only requestsPerSecond'],
    ['prefixes: { "": { keys: 5 } }', 'a prefix must not be empty'],
    ['users: { a: { watches: 1.5 } }', 'watches of users "a" must be a number from 0'],
    ['users: { a: { watches: many } }', 'watches of users "a" must be a number from 0'],
    ['users: { a: { bytesPerSecond: -1 } }', 'bytesPerSecond of users "a" must be a number from 0'],
    ['users: {', 'fair use file f.yaml: '],
  ] as const) {
    expect(() => parsed(text), text).toThrow(message);
  }
  const absent = () =>
    readNodeConfig('member', {
      args: ['--fair-use=f.yaml'],
      env: {},
      readFile: () => {
        throw new Error('ENOENT');
      },
    });
  expect(absent).toThrow('cannot read fair use file f.yaml: ENOENT');
});
