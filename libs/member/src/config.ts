/** What a replica is told about itself and its cluster, with every limit it keeps. */
import type { FairUse } from '@quoin/contracts';

import { metaCacheBytesDefault, overlayBytesDefault } from '@quoin/mvcc';

/** The etcd release whose API and behaviour this one answers with. */
export const serverVersion = '3.7.1';
export const clusterVersion = '3.7.0';
export const storageVersion = '3.7.0';

export interface InitialMember {
  readonly name: string;
  readonly peerUrls: readonly string[];
}

/** What must be given; everything in `memberDefaults` may be. */
export interface MemberIdentity {
  readonly name: string;
  /** Used when the data directory is empty; must name this member. */
  readonly initialCluster: readonly InitialMember[];
  readonly clusterToken: string;
  readonly initialClusterState: 'new' | 'existing';
  readonly advertisePeerUrls: readonly string[];
  readonly advertiseClientUrls: readonly string[];
  /** Where this member stands, for gateways of the same zone. Undefined or empty: nowhere in particular. */
  readonly zone?: string;
}

export interface MemberLimits {
  /** One raft tick. */
  readonly heartbeatIntervalMs: number;
  readonly electionTimeoutMs: number;
  /** How long a leader's disk may lack what a quorum's have before it hands the lead over; 0 = an election timeout. */
  readonly leaderDiskLagMs: number;
  readonly preVote: boolean;
  /** Linearizable reads without a round while the leader holds a lease. All members or none: `leaseMs` says what it relies on. */
  readonly leaseReads: boolean;
  /** Entries applied since the log was last released before it is released again. */
  readonly snapshotCount: number;
  /** Entries below the flushed state that stay in the log for slow followers. */
  readonly snapshotCatchupEntries: number;
  /** The same bound in bytes: whichever is smaller. */
  readonly snapshotCatchupBytes: number;
  readonly maxRequestBytes: number;
  /** 0 = etcd's default of 2 GiB; negative = no limit. */
  readonly quotaBackendBytes: number;
  /** What `autoCompactionRetention` counts: ms for periodic, revisions for revision. */
  readonly autoCompactionMode: 'periodic' | 'revision';
  /** 0: no automatic compaction. */
  readonly autoCompactionRetention: number;
  /** Events that one slice of removal looks at, and the pause between two slices. */
  readonly compactionBatchLimit: number;
  readonly compactionSleepIntervalMs: number;
  /** Time between two comparisons of the members' states; 0: none. */
  readonly corruptCheckIntervalMs: number;
  /** Ask for a comparison at the start. */
  readonly initialCorruptCheck: boolean;
  /** A member that is named in a CORRUPT alarm takes the leader's state. */
  readonly corruptRepair: boolean;
  readonly maxLearners: number;
  /** One log entry holds at most about so many bytes of proposals. */
  readonly maxProposalBatchBytes: number;
  /** … and so many: an entry is applied within one turn. */
  readonly maxProposalBatchCount: number;
  /** Committed but not yet applied entries above which new proposals are refused. */
  readonly maxApplyGap: number;
  /** Bytes of proposals that wait for their outcome above which new ones are refused. */
  readonly maxPendingBytes: number;
  /** What a request may take when its sender gave no deadline; 0 = 5 s + 2 × election timeout. */
  readonly requestTimeoutMs: number;
  readonly readIndexRetryMs: number;
  /** How long one turn may apply entries. */
  readonly applySliceMs: number;
  /** An apply slower than this is counted and logged. */
  readonly slowApplyMs: number;
  readonly slowFsyncMs: number;
  /** A request that takes longer on its leader is logged, with where the time went. */
  readonly slowRequestMs: number;
  /** The state becomes durable at least so often, or after so many bytes of log. */
  readonly flushIntervalMs: number;
  readonly flushBytes: number;
  /** Memory of the store for what puts must know of keys. */
  readonly metaCacheBytes: number;
  /** Recent events that the store keeps in memory before it puts them in key order on disk; what a restart reads. */
  readonly overlayBytes: number;
  readonly leaseRevokesPerSecond: number;
  /** How often the leader writes down what is left of longer leases; 0: never, so a new leader begins them anew. */
  readonly leaseCheckpointIntervalMs: number;
  readonly walSegmentBytes: number;
  /** Bytes that may wait for one peer; what comes on top is dropped, raft sends it again. */
  readonly maxPeerQueueBytes: number;
  readonly maxLogEntriesPerMessageBytes: number;
  readonly snapshotChunkBytes: number;
  readonly snapshotWindowChunks: number;
  /** A snapshot transfer that made no progress for so long is given up. */
  readonly snapshotStallMs: number;
  /** A snapshot or backup whose reader takes nothing for so long is given up: it holds back the removal of old versions. */
  readonly readerStallMs: number;
  /** Bytes of a feed, backup or history that may be under way to a gateway without credit. */
  readonly streamWindowBytes: number;
  /** Pairs of one range that are held until it is answered; a longer answer is read again while it is sent. */
  readonly rangeHeldBytes: number;
  /** Of such an answer: one part, at least 64, and what may be under way without credit. */
  readonly rangePartBytes: number;
  readonly rangeWindowBytes: number;
  /** How long `stop` waits for another member to take the lead. */
  readonly transferTimeoutMs: number;
  /** What users and prefixes may take: leases and keys, which are counted at apply. Undefined: no limits. */
  readonly fairUse?: FairUse;
  /** How long a simple token lives after its last use. */
  readonly authTokenTtlSeconds: number;
}

export type MemberConfig = MemberIdentity & MemberLimits;
export type MemberOptions = MemberIdentity & Partial<MemberLimits>;

export const memberDefaults: MemberLimits = {
  heartbeatIntervalMs: 100,
  electionTimeoutMs: 1000,
  leaderDiskLagMs: 0,
  preVote: true,
  leaseReads: false,
  snapshotCount: 10_000,
  snapshotCatchupEntries: 5_000,
  snapshotCatchupBytes: 128 << 20,
  maxRequestBytes: 1_572_864,
  quotaBackendBytes: 0,
  autoCompactionMode: 'periodic',
  autoCompactionRetention: 0,
  compactionBatchLimit: 1_000,
  compactionSleepIntervalMs: 10,
  corruptCheckIntervalMs: 600_000,
  initialCorruptCheck: false,
  corruptRepair: true,
  maxLearners: 1,
  maxProposalBatchBytes: 1 << 20,
  maxProposalBatchCount: 500,
  maxApplyGap: 5_000,
  maxPendingBytes: 256 << 20,
  requestTimeoutMs: 0,
  readIndexRetryMs: 500,
  applySliceMs: 8,
  slowApplyMs: 100,
  slowFsyncMs: 1_000,
  slowRequestMs: 300,
  flushIntervalMs: 5_000,
  flushBytes: 64 << 20,
  metaCacheBytes: metaCacheBytesDefault,
  overlayBytes: overlayBytesDefault,
  leaseRevokesPerSecond: 1_000,
  leaseCheckpointIntervalMs: 0,
  walSegmentBytes: 64 << 20,
  maxPeerQueueBytes: 64 << 20,
  maxLogEntriesPerMessageBytes: 1 << 20,
  snapshotChunkBytes: 256 << 10,
  snapshotWindowChunks: 16,
  snapshotStallMs: 30_000,
  readerStallMs: 60_000,
  streamWindowBytes: 4 << 20,
  rangeHeldBytes: 2 << 20,
  rangePartBytes: 128 << 10,
  rangeWindowBytes: 1 << 20,
  transferTimeoutMs: 3_000,
  authTokenTtlSeconds: 300,
};

const electionTimeoutMaxMs = 50_000;
const defaultQuotaBytes = 2 * 1024 ** 3;

/** Fills in what was not given. */
export function memberConfig(options: MemberOptions): MemberConfig {
  const config = { ...memberDefaults, ...options };
  const { electionTimeoutMs, leaderDiskLagMs, requestTimeoutMs } = config;
  return {
    ...config,
    leaderDiskLagMs: leaderDiskLagMs > 0 ? leaderDiskLagMs : electionTimeoutMs,
    requestTimeoutMs: requestTimeoutMs > 0 ? requestTimeoutMs : 5_000 + 2 * electionTimeoutMs,
  };
}

/** The quota in force; negative when there is none. */
export function quotaBytes(config: MemberConfig): number {
  return config.quotaBackendBytes === 0 ? defaultQuotaBytes : config.quotaBackendBytes;
}

/** One line for the operator, or undefined when the configuration can be started with. */
export function memberConfigError(config: MemberConfig): string | undefined {
  if (config.name === '') return 'member name must not be empty';
  if (config.heartbeatIntervalMs <= 0) {
    return `heartbeat-interval must be greater than 0 (set to ${config.heartbeatIntervalMs}ms)`;
  }
  if (config.electionTimeoutMs < 5 * config.heartbeatIntervalMs) {
    return `election-timeout[${config.electionTimeoutMs}ms] should be at least as 5 times as heartbeat-interval[${config.heartbeatIntervalMs}ms]`;
  }
  if (config.electionTimeoutMs > electionTimeoutMaxMs) {
    return `election-timeout[${config.electionTimeoutMs}ms] is too long, and should be set less than ${electionTimeoutMaxMs}ms`;
  }
  for (const member of config.initialCluster) {
    if (member.peerUrls.length === 0) return `initial-cluster: member "${member.name}" has no peer URL`;
  }
  for (const url of [...config.advertisePeerUrls, ...config.initialCluster.flatMap((m) => m.peerUrls)]) {
    const problem = urlError(url);
    if (problem !== undefined) return problem;
  }
  return bootstrapError(config);
}

function bootstrapError(config: MemberConfig): string | undefined {
  const own = config.initialCluster.filter((m) => m.name === config.name);
  if (own.length === 0) {
    return `couldn't find local name "${config.name}" in the initial cluster configuration`;
  }
  const urls = config.initialCluster.flatMap((m) => m.peerUrls);
  const twice = urls.find((url, i) => urls.indexOf(url) !== i);
  if (twice !== undefined) return `initial-cluster: peer URL ${twice} is used twice`;
  const advertised = [...config.advertisePeerUrls].sort();
  const configured = own.flatMap((m) => m.peerUrls).sort();
  if (advertised.join(',') !== configured.join(',')) {
    return `--initial-cluster has ${config.name}=${configured.join(',')} but --initial-advertise-peer-urls is ${advertised.join(',')}: they must be the same`;
  }
  return undefined;
}

const urlForm = /^(https?):\/\/(\[[0-9a-fA-F:.%]+\]|[^\s/:@[\]]+):(\d{1,5})\/?$|^unixs?:\/\/?.+$/;

/** Scheme, host and port, as for `--listen-peer-urls`; one line when it is not that. */
export function urlError(url: string): string | undefined {
  const match = urlForm.exec(url);
  if (match === null || (match[3] !== undefined && Number(match[3]) > 65535)) {
    return `URL must be http, https, unix or unixs with a host and a port: ${url}`;
  }
  return undefined;
}
