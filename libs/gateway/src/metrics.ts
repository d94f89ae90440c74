import {
  type Distribution,
  type Histogram,
  type LabelledHistogram,
  type LabelledMetric,
  type Metric,
  type MetricRegistry,
  NumberMetric,
  type Sample,
  ScrapedMetric,
} from '@quoin/base';
import { codeName, type Rpc } from '@quoin/contracts';

const grpcTypes = {
  unary: 'unary',
  serverStream: 'server_stream',
  clientStream: 'client_stream',
  bidi: 'bidi_stream',
} as const;

const codes = 17;

/** Those of Prometheus' own clients. */
const handlingBounds = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];

/** Client versions that are told apart in metrics; further ones count as `other`. */
const clientVersionsMax = 32;
const clientVersionFormat = /^[\x21-\x7e]{1,32}$/;

interface RequestCounts {
  unary: number;
  stream: number;
}

/** Counts of one RPC, kept as plain numbers: a call touches no string. */
export class RpcCounts {
  readonly rpc: Rpc;
  started = 0;
  received = 0;
  sent = 0;
  /** From the request to its answer; only where these are wanted. */
  times: Distribution | undefined = undefined;
  /** By status code. */
  readonly handled: number[] = new Array<number>(codes).fill(0);

  constructor(rpc: Rpc) {
    this.rpc = rpc;
  }

  end(code: number): void {
    this.handled[code < codes ? code : 2]!++;
  }

  labels(): [string, string][] {
    const { rpc } = this;
    return [
      ['grpc_method', rpc.name],
      ['grpc_service', rpc.service],
      ['grpc_type', grpcTypes[rpc.kind]],
    ];
  }
}

class RpcMetric implements Metric {
  readonly name: string;
  readonly help: string;
  readonly type = 'counter';
  private readonly read: () => Sample[];

  constructor(name: string, help: string, read: () => Sample[]) {
    this.name = name;
    this.help = help;
    this.read = read;
  }

  samples(): Sample[] {
    return this.read();
  }
}

function requestTypes(counts: RequestCounts): (keyof RequestCounts)[] {
  return (['unary', 'stream'] as const).filter((type) => counts[type] > 0);
}

/** Counts per RPC under the names of grpc-prometheus, and etcd's count of client requests. */
export class ApiMetrics {
  private readonly counts = new Map<string, RpcCounts>();
  private readonly clients = new Map<string, RequestCounts>();
  private readonly times: LabelledHistogram | undefined;
  readonly streamFailures: LabelledMetric;
  /** Bytes of messages, as etcd counts them. */
  receivedBytes = 0;
  sentBytes = 0;

  /** `extensive`: the time of each RPC, too. */
  constructor(registry: MetricRegistry, extensive: boolean) {
    registry.counter(
      'etcd_network_client_grpc_received_bytes_total',
      'Bytes of messages from clients.',
      () => this.receivedBytes,
    );
    registry.counter(
      'etcd_network_client_grpc_sent_bytes_total',
      'Bytes of messages to clients.',
      () => this.sentBytes,
    );
    this.streamFailures = registry.counters(
      'etcd_network_server_stream_failures_total',
      'Streams that had to be given up because of what came on them.',
      ['Type', 'API'],
    );
    this.times = extensive
      ? registry.histograms(
          'grpc_server_handling_seconds',
          'Time from a request to its answer.',
          ['grpc_method', 'grpc_service', 'grpc_type'],
          { bounds: handlingBounds },
        )
      : undefined;
    const each = (value: (counts: RpcCounts) => number) => (): Sample[] =>
      [...this.counts.values()].map((counts) => ({
        suffix: '',
        labels: counts.labels(),
        value: value(counts),
      }));
    const add = (name: string, help: string, read: () => Sample[]) =>
      registry.add(new RpcMetric(name, help, read));
    add(
      'grpc_server_started_total',
      'Total number of RPCs started on the server.',
      each((c) => c.started),
    );
    add(
      'grpc_server_handled_total',
      'Total number of RPCs completed on the server, regardless of success or failure.',
      () => this.handled(),
    );
    add(
      'grpc_server_msg_received_total',
      'Total number of RPC stream messages received on the server.',
      each((c) => c.received),
    );
    add(
      'grpc_server_msg_sent_total',
      'Total number of gRPC stream messages sent by the server.',
      each((c) => c.sent),
    );
    add('etcd_server_client_requests_total', 'The total number of client requests per client version.', () =>
      [...this.clients].flatMap(([version, counts]) =>
        requestTypes(counts).map((type) => ({
          suffix: '' as const,
          labels: [['client_api_version', version] as const, ['type', type] as const],
          value: counts[type],
        })),
      ),
    );
  }

  of(rpc: Rpc): RpcCounts {
    let counts = this.counts.get(rpc.path);
    if (counts === undefined) {
      counts = new RpcCounts(rpc);
      counts.times = this.times?.at(counts.labels().map(([, value]) => value));
      this.counts.set(rpc.path, counts);
    }
    return counts;
  }

  /** `version`: the client's metadata `client-api-version`. */
  startUnary(counts: RpcCounts, version: string | undefined, bytes: number): void {
    this.countsOf(version).unary++;
    counts.started++;
    counts.received++;
    this.receivedBytes += bytes;
  }

  /** `response` is looked at only if `code` is 0. */
  endUnary(counts: RpcCounts, code: number, responseBytes: number, durationMs: number): void {
    counts.end(code);
    counts.times?.observe(durationMs / 1_000);
    if (code !== 0) return;
    counts.sent++;
    this.sentBytes += responseBytes;
  }

  startStream(counts: RpcCounts, version: string | undefined): void {
    this.countsOf(version).stream++;
    counts.started++;
  }

  private countsOf(version: string | undefined): RequestCounts {
    const known = version === undefined ? undefined : this.clients.get(version);
    if (known !== undefined) return known;
    let label = 'unknown';
    if (version !== undefined && clientVersionFormat.test(version)) {
      label = this.clients.size < clientVersionsMax ? version : 'other';
    }
    let counts = this.clients.get(label);
    if (counts === undefined) {
      counts = { unary: 0, stream: 0 };
      this.clients.set(label, counts);
    }
    return counts;
  }

  private handled(): Sample[] {
    const samples: Sample[] = [];
    for (const counts of this.counts.values()) {
      counts.handled.forEach((value, code) => {
        if (value === 0) return;
        samples.push({ suffix: '', labels: [['grpc_code', codeName(code)], ...counts.labels()], value });
      });
    }
    return samples;
  }
}

/** One link as it is now, for gauges. */
export interface LinkGauge {
  /** Hex. */
  readonly member: string;
  readonly revisionLag: number;
  readonly silentMs: number;
}

/** Of the links to members. */
export class LinkMetrics {
  readonly batch: Histogram;
  readonly sent: NumberMetric;
  readonly lost: NumberMetric;
  readonly notTaken: NumberMetric;

  constructor(
    registry: MetricRegistry,
    gauges: {
      hasLeader: () => number;
      open: () => number;
      underWay: () => number;
      links: () => LinkGauge[];
    },
  ) {
    const add = (type: 'counter' | 'gauge', name: string, help: string, read?: () => number) =>
      registry.add(new NumberMetric(type, name, help, read));
    const each = (name: string, help: string, read: (link: LinkGauge) => number) =>
      registry.add(
        new ScrapedMetric('gauge', `quoin_gateway_link_${name}`, help, ['member'], () =>
          gauges.links().map((link) => [[link.member], read(link)] as const),
        ),
      );
    each(
      'lag_revisions',
      'By how much the member is behind the newest revision seen in an answer.',
      (link) => link.revisionLag,
    );
    each('silence_seconds', 'Time since the last message of the member.', (link) => link.silentMs / 1_000);
    this.batch = registry.histogram(
      'quoin_gateway_link_batch_requests',
      'Requests that one message to a member carries.',
      { start: 1, factor: 2, count: 14 },
    );
    add(
      'gauge',
      'etcd_server_has_leader',
      'Whether or not a leader exists. 1 is existence, 0 is not.',
      gauges.hasLeader,
    );
    add('gauge', 'quoin_gateway_links_open', 'Members that this gateway has a link to.', gauges.open);
    add('gauge', 'quoin_gateway_requests_pending', 'Requests without an answer yet.', gauges.underWay);
    this.sent = add('counter', 'quoin_gateway_link_requests_total', 'Requests sent to members.');
    this.lost = add('counter', 'quoin_gateway_links_lost_total', 'Links to members that ended.');
    this.notTaken = add(
      'counter',
      'quoin_gateway_link_refused_total',
      'Requests that a member would not take.',
    );
  }
}

const sendLoop = { start: 0.001, factor: 2, count: 14 };

/** Of watches. */
export class WatchMetrics {
  readonly events: NumberMetric;
  readonly controlSeconds: Histogram;
  readonly progressSeconds: Histogram;
  readonly sendSeconds: Histogram;
  readonly sendPerEventSeconds: Histogram;
  readonly history: NumberMetric;
  readonly feeds: NumberMetric;

  constructor(
    registry: MetricRegistry,
    gauges: {
      streams: () => number;
      watchers: () => number;
      slow: () => number;
      pending: () => number;
      lag: () => number;
    },
  ) {
    const add = (type: 'counter' | 'gauge', name: string, help: string, read?: () => number) =>
      registry.add(new NumberMetric(type, name, help, read));
    add('gauge', 'etcd_debugging_mvcc_watch_stream_total', 'Total number of watch streams.', gauges.streams);
    add('gauge', 'etcd_debugging_mvcc_watcher_total', 'Total number of watchers.', gauges.watchers);
    add(
      'gauge',
      'etcd_debugging_mvcc_slow_watcher_total',
      'Total number of unsynced slow watchers.',
      gauges.slow,
    );
    add(
      'gauge',
      'etcd_debugging_mvcc_pending_events_total',
      'Events that have come from a member and are still to be sent.',
      gauges.pending,
    );
    add(
      'gauge',
      'quoin_gateway_watch_lag_revisions',
      'By how much the events sent are behind the newest revision seen in an answer.',
      gauges.lag,
    );
    const loop = (name: string, help: string): Histogram =>
      registry.histogram(`etcd_debugging_server_watch_send_loop_${name}_seconds`, help, sendLoop);
    this.controlSeconds = loop('control_stream_duration', 'Time of answering a request on a watch stream.');
    this.progressSeconds = loop('progress_duration', 'Time of telling watchers how far they are.');
    this.sendSeconds = loop('watch_stream_duration', 'Time of giving events to all who watch the same.');
    this.sendPerEventSeconds = loop('watch_stream_duration_per_event', 'The same for each event.');
    this.events = add('counter', 'quoin_gateway_watch_events_sent_total', 'Events sent to watchers.');
    this.history = add(
      'counter',
      'quoin_gateway_watch_history_reads_total',
      'Pages of past events read from members.',
    );
    this.feeds = add(
      'counter',
      'quoin_gateway_feed_subscriptions_total',
      "Subscriptions to a member's event feed.",
    );
  }
}
