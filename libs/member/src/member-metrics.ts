/** The replica's metrics, under etcd's names where etcd has them. */
import type { Histogram, LabelledHistogram, LabelledMetric, MetricRegistry, NumberMetric } from '@quoin/base';
import { hexId } from '@quoin/base';
import { DiskMetrics } from './disk-metrics.ts';
import { OperationTimes } from './operation-times.ts';
import { PeerMetrics } from './peer-metrics.ts';

/** etcd's, of an apply and of a range. */
const apply = { start: 0.0001, factor: 2, count: 20 };
const request = { start: 0.001, factor: 2, count: 14 };
const sizes = { start: 1, factor: 2, count: 14 };

/** What is asked at each scrape instead of being kept. */
export interface MemberGauges {
  hasLeader(): number;
  isLeader(): number;
  isLearner(): number;
  pendingProposals(): number;
  committed(): number;
  applied(): number;
  leases(): number;
  authRevision(): number;
  quotaBytes(): number;
  dbBytes(): number;
  feeds(): number;
  links(): number;
  term(): number;
}

export class MemberMetrics {
  readonly disk: DiskMetrics;
  readonly network: PeerMetrics;
  readonly leaderChanges: NumberMetric;
  readonly proposalsFailed: NumberMetric;
  readonly slowApplies: NumberMetric;
  readonly slowReadIndexes: NumberMetric;
  readonly readIndexesFailed: NumberMetric;
  readonly heartbeatSendFailures: NumberMetric;
  readonly snapshotApplying: NumberMetric;
  readonly alarms: LabelledMetric;
  readonly promoteFailures: LabelledMetric;
  readonly promoteSuccesses: NumberMetric;
  /** One proposal's part of an apply. */
  readonly applySeconds: OperationTimes;
  /** From a request's arrival on this member to its answer. */
  readonly requestSeconds: OperationTimes;
  readonly rangeSeconds: LabelledHistogram;
  readonly leaseGranted: NumberMetric;
  readonly leaseRevoked: NumberMetric;
  readonly leaseRenewed: NumberMetric;
  readonly leaseExpired: NumberMetric;
  readonly leaseTtlSeconds: Histogram;
  readonly turnSeconds: Histogram;
  readonly proposalBatch: Histogram;
  readonly readBatch: Histogram;

  constructor(registry: MetricRegistry, gauges: MemberGauges, of: { memberId: bigint }) {
    this.disk = new DiskMetrics(registry);
    this.network = new PeerMetrics(registry, of.memberId);
    const server = (name: string): string => `etcd_server_${name}`;
    const count = (name: string, help: string): NumberMetric => registry.counter(server(name), help);
    registry.gauge(server('is_leader'), '1 while this member leads.', gauges.isLeader);
    registry.gauge(server('is_learner'), '1 while this member is a learner.', gauges.isLearner);
    registry.gauge(server('has_leader'), '1 while a leader is known.', gauges.hasLeader);
    registry.gauges(server('id'), 'Member id in hex.', ['server_id']).set([hexId(of.memberId)], 1);
    this.leaderChanges = count('leader_changes_seen_total', 'Leader changes seen by this member.');
    registry.gauge(
      server('proposals_committed_total'),
      'Index of the last committed entry.',
      gauges.committed,
    );
    registry.gauge(server('proposals_applied_total'), 'Index of the last applied entry.', gauges.applied);
    registry.gauge(
      server('proposals_pending'),
      'Proposals that wait for their outcome.',
      gauges.pendingProposals,
    );
    this.proposalsFailed = count('proposals_failed_total', 'Proposals without an outcome in time.');
    this.slowApplies = count('slow_apply_total', 'Applies that took longer than --warning-apply-duration.');
    this.slowReadIndexes = count('slow_read_indexes_total', 'Rounds of reads that had to be asked again.');
    this.readIndexesFailed = count('read_indexes_failed_total', 'Reads that were given up.');
    this.heartbeatSendFailures = count(
      'heartbeat_send_failures_total',
      'Heartbeats that this leader sent late.',
    );
    this.snapshotApplying = registry.gauge(
      server('snapshot_apply_in_progress_total'),
      '1 while a received snapshot is put in force.',
    );
    registry.gauge(server('quota_backend_bytes'), 'Quota of the data in bytes.', gauges.quotaBytes);
    this.alarms = registry.gauges('etcd_debugging_server_alarms', 'Alarms that are active.', [
      'server_id',
      'alarm_type',
    ]);
    this.promoteFailures = registry.counters(
      server('learner_promote_failures'),
      'Promotions refused by this leader.',
      ['Reason'],
    );
    this.promoteSuccesses = count('learner_promote_successes', 'Learners that this leader has promoted.');
    this.applySeconds = new OperationTimes(
      registry.histograms(
        server('apply_duration_seconds'),
        'Time of applying one request.',
        ['version', 'op', 'success'],
        apply,
      ),
      ['v3'],
    );
    this.requestSeconds = new OperationTimes(
      registry.histograms(
        server('request_duration_seconds'),
        "From a request's arrival at this member to its answer.",
        ['type', 'success'],
        request,
      ),
      [],
    );
    this.rangeSeconds = registry.histograms(
      server('range_duration_seconds'),
      'From the first step of a read to its result.',
      ['success'],
      apply,
    );
    const size = 'Bytes of all versions and leases that are kept: what the quota bounds.';
    registry.gauge('etcd_mvcc_db_total_size_in_bytes', size, gauges.dbBytes);
    registry.gauge(
      'etcd_mvcc_db_total_size_in_use_in_bytes',
      `${size} Nothing is lost to fragmentation.`,
      gauges.dbBytes,
    );
    registry.gauge(
      'etcd_debugging_auth_revision',
      'Revision of users, roles and permissions.',
      gauges.authRevision,
    );
    const lease = (name: string, help: string): NumberMetric =>
      registry.counter(`etcd_debugging_${name}`, help);
    this.leaseGranted = lease('lease_granted_total', 'Leases granted.');
    this.leaseRevoked = lease('lease_revoked_total', 'Leases ended.');
    this.leaseRenewed = lease('lease_renewed_total', 'Lease renewals on the leader.');
    this.leaseExpired = lease('server_lease_expired_total', 'Leases that ran out.');
    this.leaseTtlSeconds = registry.histogram('etcd_debugging_lease_ttl_total', 'TTLs of granted leases.', {
      start: 1,
      factor: 2,
      count: 24,
    });
    registry.gauge('quoin_member_leases', 'Leases that exist.', gauges.leases);
    registry.gauge('quoin_member_feeds', 'Feeds of events to gateways.', gauges.feeds);
    registry.gauge('quoin_member_links', 'Links of gateways.', gauges.links);
    registry.gauge('quoin_member_term', 'Raft term.', gauges.term);
    registry.gauge(
      'quoin_member_apply_lag_entries',
      'Entries known to be committed and not applied yet.',
      () => gauges.committed() - gauges.applied(),
    );
    this.turnSeconds = registry.histogram(
      'quoin_member_turn_duration_seconds',
      'Time of one turn of the loop.',
      {
        start: 0.00025,
        factor: 2,
        count: 14,
      },
    );
    this.proposalBatch = registry.histogram(
      'quoin_member_proposal_batch_requests',
      'Requests that one entry of the log carries.',
      sizes,
    );
    this.readBatch = registry.histogram(
      'quoin_member_read_batch_requests',
      'Reads that one round of heartbeats serves.',
      sizes,
    );
  }
}
