/** The replica's metrics, under etcd's names where etcd has them. */
import { Histogram, LabelledMetric, type MetricRegistry, NumberMetric } from '@quoin/base';

const fast = { start: 0.001, factor: 2, count: 14 };
const transfer = { start: 0.1, factor: 2, count: 10 };

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
}

export class MemberMetrics {
  readonly leaderChanges: NumberMetric;
  readonly proposalsFailed: NumberMetric;
  readonly slowApplies: NumberMetric;
  readonly slowReadIndexes: NumberMetric;
  readonly readIndexesFailed: NumberMetric;
  readonly heartbeatSendFailures: NumberMetric;
  readonly snapshotApplying: NumberMetric;
  readonly alarms: LabelledMetric;
  readonly walFsyncSeconds: Histogram;
  readonly walWriteBytes: NumberMetric;
  readonly flushSeconds: Histogram;
  readonly commitSeconds: Histogram;
  readonly leaseGranted: NumberMetric;
  readonly leaseRevoked: NumberMetric;
  readonly leaseRenewed: NumberMetric;
  readonly leaseExpired: NumberMetric;
  readonly peerSentBytes: LabelledMetric;
  readonly peerReceivedBytes: LabelledMetric;
  readonly peerSentFailures: LabelledMetric;
  readonly disconnectedPeers: LabelledMetric;
  readonly activePeers: LabelledMetric;
  readonly snapshotSendSuccess: LabelledMetric;
  readonly snapshotSendFailures: LabelledMetric;
  readonly snapshotSendSeconds: Histogram;
  readonly snapshotReceiveSuccess: LabelledMetric;
  readonly snapshotReceiveFailures: LabelledMetric;
  readonly snapshotReceiveSeconds: Histogram;

  constructor(registry: MetricRegistry, gauges: MemberGauges, labels: { memberId: string; version: string }) {
    const counter = (name: string, help: string): NumberMetric =>
      registry.add(new NumberMetric('counter', name, help));
    const gauge = (name: string, help: string, read?: () => number): NumberMetric =>
      registry.add(new NumberMetric('gauge', name, help, read));
    const labelled = (
      type: 'counter' | 'gauge',
      name: string,
      help: string,
      names: string[],
    ): LabelledMetric => registry.add(new LabelledMetric(type, name, help, names));
    const histogram = (name: string, help: string, buckets: typeof fast): Histogram =>
      registry.add(new Histogram(name, help, buckets));

    gauge('etcd_server_has_leader', 'Whether a leader is known. 1 is yes, 0 is no.', gauges.hasLeader);
    gauge('etcd_server_is_leader', 'Whether this member is the leader. 1 is yes, 0 is no.', gauges.isLeader);
    gauge('etcd_server_is_learner', 'Whether this member is a learner. 1 is yes, 0 is no.', gauges.isLearner);
    this.leaderChanges = counter(
      'etcd_server_leader_changes_seen_total',
      'Leader changes seen by this member.',
    );
    gauge('etcd_server_proposals_committed_total', 'Index of the last committed entry.', gauges.committed);
    gauge('etcd_server_proposals_applied_total', 'Index of the last applied entry.', gauges.applied);
    gauge('etcd_server_proposals_pending', 'Proposals that wait for their outcome.', gauges.pendingProposals);
    this.proposalsFailed = counter(
      'etcd_server_proposals_failed_total',
      'Proposals without an outcome in time.',
    );
    this.slowApplies = counter('etcd_server_slow_apply_total', 'Applies that took longer than they should.');
    this.slowReadIndexes = counter(
      'etcd_server_slow_read_indexes_total',
      'ReadIndex rounds not confirmed in time.',
    );
    this.readIndexesFailed = counter('etcd_server_read_indexes_failed_total', 'Reads that ReadIndex failed.');
    this.heartbeatSendFailures = counter(
      'etcd_server_heartbeat_send_failures_total',
      'Heartbeats sent late.',
    );
    this.snapshotApplying = gauge(
      'etcd_server_snapshot_apply_in_progress_total',
      '1 while a received snapshot is installed.',
    );
    gauge('etcd_server_quota_backend_bytes', 'Quota of the backend in bytes.', gauges.quotaBytes);
    const size = 'Bytes of all versions and leases that are kept: what the quota bounds.';
    gauge('etcd_mvcc_db_total_size_in_bytes', size, gauges.dbBytes);
    gauge(
      'etcd_mvcc_db_total_size_in_use_in_bytes',
      `${size} Nothing is lost to fragmentation.`,
      gauges.dbBytes,
    );
    this.alarms = labelled('gauge', 'etcd_debugging_server_alarms', 'Alarms that are active.', [
      'server_id',
      'alarm_type',
    ]);
    labelled('gauge', 'etcd_server_id', 'Member id in hex.', ['server_id']).set([labels.memberId], 1);
    labelled('gauge', 'etcd_server_version', 'Version that runs.', ['server_version']).set(
      [labels.version],
      1,
    );

    this.walFsyncSeconds = histogram(
      'etcd_disk_wal_fsync_duration_seconds',
      'Time until a log append is durable.',
      fast,
    );
    this.walWriteBytes = gauge('etcd_disk_wal_write_bytes_total', 'Bytes of entries appended to the log.');
    this.flushSeconds = histogram(
      'etcd_disk_backend_commit_duration_seconds',
      'Time of a flush of the backend.',
      fast,
    );
    this.commitSeconds = histogram(
      'quoin_member_commit_duration_seconds',
      'Time of the batch write of a turn.',
      fast,
    );

    gauge('quoin_member_feeds', 'Feeds of events to gateways.', gauges.feeds);

    this.leaseGranted = counter('etcd_debugging_lease_granted_total', 'Leases granted.');
    this.leaseRevoked = counter('etcd_debugging_lease_revoked_total', 'Leases revoked.');
    this.leaseRenewed = counter('etcd_debugging_lease_renewed_total', 'Lease renewals on the leader.');
    this.leaseExpired = counter('etcd_debugging_server_lease_expired_total', 'Leases expired.');
    gauge('quoin_member_leases', 'Leases that exist.', gauges.leases);
    gauge('etcd_debugging_auth_revision', 'Revision of users, roles and permissions.', gauges.authRevision);

    this.peerSentBytes = labelled('counter', 'etcd_network_peer_sent_bytes_total', 'Bytes sent to peers.', [
      'To',
    ]);
    this.peerReceivedBytes = labelled(
      'counter',
      'etcd_network_peer_received_bytes_total',
      'Bytes received from peers.',
      ['From'],
    );
    this.peerSentFailures = labelled(
      'counter',
      'etcd_network_peer_sent_failures_total',
      'Messages to peers dropped.',
      ['To'],
    );
    this.disconnectedPeers = labelled(
      'counter',
      'etcd_network_disconnected_peers_total',
      'Peer streams lost.',
      ['Local', 'Remote'],
    );
    this.activePeers = labelled('gauge', 'etcd_network_active_peers', 'Peer streams open.', [
      'Local',
      'Remote',
    ]);
    this.snapshotSendSuccess = labelled('counter', 'etcd_network_snapshot_send_success', 'Snapshots sent.', [
      'To',
    ]);
    this.snapshotSendFailures = labelled(
      'counter',
      'etcd_network_snapshot_send_failures',
      'Snapshots not sent.',
      ['To'],
    );
    this.snapshotSendSeconds = histogram(
      'etcd_network_snapshot_send_total_duration_seconds',
      'Time of sending a snapshot.',
      transfer,
    );
    this.snapshotReceiveSuccess = labelled(
      'counter',
      'etcd_network_snapshot_receive_success',
      'Snapshots received.',
      ['From'],
    );
    this.snapshotReceiveFailures = labelled(
      'counter',
      'etcd_network_snapshot_receive_failures',
      'Snapshots not received.',
      ['From'],
    );
    this.snapshotReceiveSeconds = histogram(
      'etcd_network_snapshot_receive_total_duration_seconds',
      'Time of receiving a snapshot.',
      transfer,
    );
  }
}
