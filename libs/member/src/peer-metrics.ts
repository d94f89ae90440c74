import { hexId, type LabelledHistogram, type LabelledMetric, type MetricRegistry } from '@quoin/base';

/** etcd's, of snapshots between members. */
const transfer = { start: 0.1, factor: 2, count: 10 };
const roundTrip = { start: 0.0001, factor: 2, count: 16 };

/** What passes between members. Labels `To`, `From`, `Local` and `Remote` are member ids in hex. */
export class PeerMetrics {
  readonly sentBytes: LabelledMetric;
  readonly receivedBytes: LabelledMetric;
  readonly sentFailures: LabelledMetric;
  readonly receivedFailures: LabelledMetric;
  readonly roundTripSeconds: LabelledHistogram;
  readonly snapshotSendSuccess: LabelledMetric;
  readonly snapshotSendFailures: LabelledMetric;
  readonly snapshotSending: LabelledMetric;
  readonly snapshotSendSeconds: LabelledHistogram;
  readonly snapshotReceiveSuccess: LabelledMetric;
  readonly snapshotReceiveFailures: LabelledMetric;
  readonly snapshotReceiving: LabelledMetric;
  readonly snapshotReceiveSeconds: LabelledHistogram;
  private readonly active: LabelledMetric;
  private readonly disconnected: LabelledMetric;
  private readonly known: LabelledMetric;
  private readonly local: string;

  constructor(registry: MetricRegistry, memberId: bigint) {
    const name = (text: string): string => `etcd_network_${text}`;
    const to = (text: string, help: string) => registry.counters(name(text), help, ['To']);
    const from = (text: string, help: string) => registry.counters(name(text), help, ['From']);
    const pair = ['Local', 'Remote'];
    this.local = hexId(memberId);
    this.sentBytes = to('peer_sent_bytes_total', 'Bytes sent to each peer.');
    this.receivedBytes = from('peer_received_bytes_total', 'Bytes received from each peer.');
    this.sentFailures = to('peer_sent_failures_total', 'Messages to a peer that were dropped.');
    this.receivedFailures = from('peer_received_failures_total', 'Streams and messages of a peer refused.');
    this.roundTripSeconds = registry.histograms(
      name('peer_round_trip_time_seconds'),
      "From a leader's heartbeat to the follower's answer.",
      ['To'],
      roundTrip,
    );
    this.active = registry.gauges(name('active_peers'), '1 while the stream to that peer is open.', pair);
    this.disconnected = registry.counters(name('disconnected_peers_total'), 'Streams to a peer lost.', pair);
    this.known = registry.gauges(name('known_peers'), '1 for each other member.', pair);
    this.snapshotSendSuccess = to('snapshot_send_success', 'Snapshots sent to a peer.');
    this.snapshotSendFailures = to('snapshot_send_failures', 'Snapshots that could not be sent.');
    this.snapshotSending = registry.gauges(
      name('snapshot_send_inflights_total'),
      'Snapshots being sent now.',
      ['To'],
    );
    this.snapshotSendSeconds = registry.histograms(
      name('snapshot_send_total_duration_seconds'),
      'How long it took to send a whole snapshot.',
      ['To'],
      transfer,
    );
    this.snapshotReceiveSuccess = from('snapshot_receive_success', 'Snapshots received and in force.');
    this.snapshotReceiveFailures = from('snapshot_receive_failures', 'Snapshots given up on the way.');
    this.snapshotReceiving = registry.gauges(
      name('snapshot_receive_inflights_total'),
      'Snapshots being received now.',
      ['From'],
    );
    this.snapshotReceiveSeconds = registry.histograms(
      name('snapshot_receive_total_duration_seconds'),
      'How long it took to receive a whole snapshot and put it in force.',
      ['From'],
      transfer,
    );
  }

  /** The stream to that peer is open, or no longer. */
  connected(remote: string, open: boolean): void {
    this.active.set([this.local, remote], open ? 1 : 0);
    if (!open) this.disconnected.inc([this.local, remote]);
  }

  /** The other members as they are now. Alerts count lost members by these: a zero is there from the start. */
  members(remotes: readonly string[]): void {
    this.known.clear();
    for (const remote of remotes) {
      this.known.set([this.local, remote], 1);
      this.active.at([this.local, remote]);
      this.disconnected.at([this.local, remote]);
      this.sentFailures.at([remote]);
    }
  }
}
