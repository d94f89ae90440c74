/** Reads /metrics of every role once a second and keeps what the page draws. */
import { bucketsBetween, MetricsPage, quantile, rate } from './metrics.ts';

export interface ObservedRole {
  readonly name: string;
  readonly kind: 'member' | 'gateway' | 'backup';
  readonly metricsUrl: string;
}

/** One second. Values that are not known are absent; times in seconds, sizes in bytes. */
export interface Sample {
  readonly atMs: number;
  readonly leader: string | undefined;
  readonly term: number;
  readonly revision: number;
  readonly watchers: number;
  readonly up: readonly string[];
  /** Requests per second at the gateways, by kind. */
  readonly requests: Readonly<Record<string, number>>;
  readonly latency: Readonly<Record<'p50' | 'p99', number | undefined>>;
  /** By role. */
  readonly fsync: Readonly<Record<string, number | undefined>>;
  readonly applyLag: Readonly<Record<string, number>>;
  readonly watchLag: Readonly<Record<string, number>>;
  readonly dbBytes: Readonly<Record<string, number>>;
  readonly memory: Readonly<Record<string, number>>;
  readonly cpu: Readonly<Record<string, number>>;
  readonly loopDelay: Readonly<Record<string, number>>;
}

const samplesMax = 300;
const scrapeTimeoutMs = 900;
const intervalMs = 1_000;

const kinds: readonly (readonly [string, readonly (readonly [string, string])[]])[] = [
  ['put', [['etcdserverpb.KV', 'Put']]],
  [
    'range',
    [
      ['etcdserverpb.KV', 'Range'],
      ['etcdserverpb.KV', 'RangeStream'],
    ],
  ],
  ['txn', [['etcdserverpb.KV', 'Txn']]],
];

const handled = 'grpc_server_handled_total';

export class Sampler {
  readonly samples: Sample[] = [];
  private readonly roles: readonly ObservedRole[];
  private before = new Map<string, MetricsPage>();
  private timer: NodeJS.Timeout | undefined;

  constructor(roles: readonly ObservedRole[]) {
    this.roles = roles;
  }

  start(): void {
    const next = (): void => {
      const begunMs = performance.now();
      this.sample().then(() => {
        if (this.timer !== undefined)
          this.timer = setTimeout(next, Math.max(0, intervalMs - (performance.now() - begunMs)));
      });
    };
    this.timer = setTimeout(next, 0);
  }

  stop(): void {
    clearTimeout(this.timer);
    this.timer = undefined;
  }

  private async sample(): Promise<void> {
    const pages = new Map<string, MetricsPage>();
    await Promise.all(
      this.roles.map(async ({ name, metricsUrl }) => {
        const page = await scrape(metricsUrl);
        if (page !== undefined) pages.set(name, page);
      }),
    );
    const before = this.before;
    this.before = pages;
    if (before.size === 0) return;
    this.samples.push(this.between(before, pages));
    if (this.samples.length > samplesMax) this.samples.shift();
  }

  private between(before: ReadonlyMap<string, MetricsPage>, after: ReadonlyMap<string, MetricsPage>): Sample {
    const of = (kind?: ObservedRole['kind']): ObservedRole[] =>
      this.roles.filter((role) => after.has(role.name) && (kind === undefined || role.kind === kind));
    const each = <T>(roles: readonly ObservedRole[], read: (page: MetricsPage, old: MetricsPage) => T) =>
      Object.fromEntries(
        roles.map(({ name }): [string, T] => {
          const page = after.get(name)!;
          return [name, read(page, before.get(name) ?? page)];
        }),
      );
    const pair = ({ name }: ObservedRole): [MetricsPage, MetricsPage] => [
      before.get(name) ?? after.get(name)!,
      after.get(name)!,
    ];
    const members = of('member');
    const gateways = of('gateway');
    const latency = bucketsBetween(members.map(pair), 'etcd_server_request_duration_seconds');
    const leading = members.find(({ name }) => after.get(name)!.sum('etcd_server_is_leader') === 1);
    const most = (name: string): number =>
      Math.max(0, ...members.map((role) => after.get(role.name)!.max(name)));
    return {
      atMs: Date.now(),
      leader: leading?.name,
      term: most('quoin_member_term'),
      revision: most('etcd_debugging_mvcc_current_revision'),
      watchers: gateways.reduce(
        (n, { name }) => n + after.get(name)!.sum('etcd_debugging_mvcc_watcher_total'),
        0,
      ),
      up: of().map(({ name }) => name),
      requests: requestsBetween(gateways.map(pair)),
      latency: { p50: quantile(latency, 0.5), p99: quantile(latency, 0.99) },
      fsync: each(members, (page, old) =>
        quantile(bucketsBetween([[old, page]], 'etcd_disk_wal_fsync_duration_seconds'), 0.99),
      ),
      applyLag: each(members, (page) => page.sum('quoin_member_apply_lag_entries')),
      watchLag: each(gateways, (page) => page.max('quoin_gateway_watch_lag_revisions')),
      dbBytes: each(members, (page) => page.sum('etcd_mvcc_db_total_size_in_bytes')),
      memory: each(of(), (page) => page.sum('process_resident_memory_bytes')),
      cpu: each(of(), (page, old) => rate(old, page, 'process_cpu_seconds_total')),
      loopDelay: each(of(), (page) => page.sum('nodejs_eventloop_delay_seconds', { quantile: '0.99' })),
    };
  }
}

function requestsBetween(pairs: readonly (readonly [MetricsPage, MetricsPage])[]): Record<string, number> {
  const requests: Record<string, number> = {};
  let other = 0;
  for (const [before, after] of pairs) other += rate(before, after, handled);
  for (const [kind, methods] of kinds) {
    requests[kind] = 0;
    for (const [grpc_service, grpc_method] of methods) {
      for (const [before, after] of pairs)
        requests[kind] += rate(before, after, handled, { grpc_service, grpc_method });
    }
    other -= requests[kind];
  }
  requests['other'] = Math.max(0, other);
  return requests;
}

async function scrape(url: string): Promise<MetricsPage | undefined> {
  try {
    const response = await fetch(url, { signal: AbortSignal.timeout(scrapeTimeoutMs) });
    return new MetricsPage(await response.text(), performance.now());
  } catch {
    return undefined;
  }
}
