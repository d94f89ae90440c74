/** What a gateway is told, with every limit it keeps. */

/** What must be given; everything in `gatewayDefaults` may be. */
export interface GatewayIdentity {
  /** Names this gateway in members' logs. */
  readonly name: string;
  /** Peer URLs of members to begin with; members that these tell of are added. */
  readonly memberUrls: readonly string[];
  /** Peer URL of the member in this process, preferred for reads while it is healthy. */
  readonly homeUrl?: string;
  /** Times of each RPC, and who makes the load, in metrics. Default false. */
  readonly extensiveMetrics?: boolean;
  /** Where clients reach this gateway: what members tell those who ask for endpoints. Default none. */
  readonly clientUrls?: readonly string[];
  /** Members that say the same are read from first. Default none. */
  readonly zone?: string;
  /** Members' URLs come later, by `setMemberUrls`. Default false. */
  readonly discovers?: boolean;
}

export interface GatewayLimits {
  /** etcd's max-request-bytes; the gRPC layer takes `grpcOverheadBytes` more. */
  readonly maxRequestBytes: number;
  readonly maxTxnOps: number;
  /** What a request may take when its client gave no nearer deadline: 5 s + 2 × election timeout. */
  readonly requestTimeoutMs: number;
  /** A stream that asked for a leader ends when none was known for so long: 3 × election timeout. */
  readonly noLeaderTimeoutMs: number;
  /** Requests that wait, not yet sent, for a leader or a member. */
  readonly maxWaitingRequests: number;
  readonly maxWaitingBytes: number;
  /** A link message is closed once it holds so many bytes of requests. */
  readonly linkMessageBytes: number;
  /** First pause before a member is dialled again; doubles up to `linkRedialMaxMs`, with ± 50 % jitter. */
  readonly linkRedialMs: number;
  readonly linkRedialMaxMs: number;
  /** A link without any message for so long is taken for dead; members send their state each second. */
  readonly linkSilenceMs: number;
  /** A member that has left the cluster is given so long to answer what it was asked before. */
  readonly leaveLingerMs: number;
  /** A member that refused a request is not asked again before this, unless the leader changes. */
  readonly refusedRetryMs: number;
  /** Recent events kept for watchers that are a little behind. */
  readonly ringBytes: number;
  readonly ringRevisions: number;
  /** Bytes queued on one client's watch stream above which its watchers become unsynced. */
  readonly watchQueueBytes: number;
  /** Revisions are put together into one watch response up to about so many bytes. */
  readonly watchResponseBytes: number;
  /** Of one page of history read from a member. */
  readonly watchHistoryBytes: number;
  /** History reads under way at the same time. */
  readonly watchHistoryReads: number;
  /** Events looked at for unsynced watchers in one turn. */
  readonly watchCatchUpEvents: number;
  /** How long the event feed outlives its last watcher, and `prev_kv` in it its last user. */
  readonly feedLingerMs: number;
  readonly watchCatchUpRetryMs: number;
  /** Up to 10 % jitter is added. */
  readonly progressNotifyIntervalMs: number;
  /** Unanswered requests on one LeaseKeepAlive stream from which on its client has to wait. */
  readonly keepAlivesAtOnce: number;
  /** The same where the transport cannot make it wait: more end the stream. */
  readonly maxKeepAlivesPerStream: number;
  /** TTL of the lease that Lock and Campaign make when they are given none. */
  readonly sessionTtlSeconds: number;
  /** How long `stop` waits for answers that are under way. */
  readonly stopDrainMs: number;
  /** Tokens whose user is remembered, and how many may be asked about at the same time. */
  readonly maxIdentities: number;
  readonly maxIdentifying: number;
  /** Entries by which the member that is read from may be behind another before /readyz says no. */
  readonly maxApplyLag: number;
  /** A unary request that takes longer is logged. */
  readonly slowRequestMs: number;
}

export type GatewayConfig = GatewayIdentity & GatewayLimits;
export type GatewayOptions = GatewayIdentity & Partial<GatewayLimits>;

/** What a message may be longer than max-request-bytes. */
export const grpcOverheadBytes = 512 << 10;

/** The least progress-notify interval that etcd takes. */
export const progressNotifyIntervalMinMs = 100;

export const gatewayDefaults: GatewayLimits = {
  maxRequestBytes: 1_572_864,
  maxTxnOps: 128,
  requestTimeoutMs: 7_000,
  noLeaderTimeoutMs: 3_000,
  maxWaitingRequests: 65_536,
  maxWaitingBytes: 64 << 20,
  linkMessageBytes: 1 << 20,
  linkRedialMs: 50,
  linkRedialMaxMs: 2_000,
  linkSilenceMs: 4_000,
  leaveLingerMs: 1_000,
  refusedRetryMs: 50,
  ringBytes: 64 << 20,
  ringRevisions: 65_536,
  watchQueueBytes: 4 << 20,
  watchResponseBytes: 1 << 20,
  watchHistoryBytes: 1 << 20,
  watchHistoryReads: 16,
  watchCatchUpEvents: 20_000,
  feedLingerMs: 1_000,
  watchCatchUpRetryMs: 50,
  progressNotifyIntervalMs: 600_000,
  keepAlivesAtOnce: 1_024,
  maxKeepAlivesPerStream: 4_096,
  sessionTtlSeconds: 60,
  stopDrainMs: 5_000,
  maxIdentities: 65_536,
  maxIdentifying: 4_096,
  maxApplyLag: 5_000,
  slowRequestMs: 300,
};

/** Fills in what was not given. */
export function gatewayConfig(options: GatewayOptions): GatewayConfig {
  return { ...gatewayDefaults, ...options };
}

/** One line for the operator, or undefined when the configuration can be started with. */
export function gatewayConfigError(config: GatewayConfig): string | undefined {
  if (config.name === '') return 'gateway name must not be empty';
  if (config.memberUrls.length === 0 && config.homeUrl === undefined && config.discovers !== true) {
    return 'gateway needs at least one member URL';
  }
  for (const url of config.memberUrls) {
    if (url === '') return 'gateway: a member URL is empty';
    if (config.memberUrls.indexOf(url) !== config.memberUrls.lastIndexOf(url)) {
      return `gateway: member URL ${url} is given twice`;
    }
  }
  if (config.progressNotifyIntervalMs < progressNotifyIntervalMinMs) {
    return `watch-progress-notify-interval must be at least ${progressNotifyIntervalMinMs}ms (set to ${config.progressNotifyIntervalMs}ms)`;
  }
  if (config.linkRedialMaxMs < config.linkRedialMs) return 'linkRedialMaxMs must not be below linkRedialMs';
  for (const name of Object.keys(gatewayDefaults) as (keyof GatewayLimits)[]) {
    const value = config[name];
    if (!Number.isFinite(value) || value < 0 || (value === 0 && name !== 'feedLingerMs')) {
      return `gateway: ${name} must be a positive number (set to ${value})`;
    }
  }
  return undefined;
}
