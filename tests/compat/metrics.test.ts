/** The metrics of Quoin's roles against the list of etcd's, and against what a real etcd shows. */
import { Client } from '@quoin/client';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Cluster, startCluster } from '../support/cluster.ts';
import { boundsOf, labelsOf, type Scrape, type ScrapedFamily, scrape } from '../support/scrape.ts';
import { startEtcd, startQuoin } from '../support/test-server.ts';
import { absentHere, type EtcdMetric, etcdMetrics } from './metrics-list.ts';
import { findOracle } from './oracle.ts';

const extensive = ['--metrics=extensive'];
const oracle = findOracle();

/** What a gateway shows; all else of etcd's is a member's. */
const ofGateway =
  /^(etcd_network_client_grpc_|etcd_network_server_stream_|etcd_debugging_server_watch_send_loop_|etcd_debugging_mvcc_(watch|watcher|slow_watcher|pending_events)_|etcd_server_client_requests|grpc_)/;

async function useEverything(endpoint: string): Promise<void> {
  const client = new Client({ endpoints: [endpoint] });
  try {
    await client.kv.put('/registry/pods/a', 'one');
    await client.kv.get('/registry/pods/a');
    await client.kv.delete('/registry/pods/a');
    const lease = await client.lease.grant(60);
    await client.lease.revoke(lease.ID);
  } finally {
    client.close();
  }
}

let cluster: Cluster;
let member: Scrape;
let gateway: Scrape;

beforeAll(async () => {
  cluster = await startCluster({ members: 3, gateways: 1, memberArgs: extensive, gatewayArgs: extensive });
  await useEverything(cluster.endpoints[0]!);
  await Promise.all(cluster.members.map(({ metricsUrl }) => fetch(`${metricsUrl}/readyz`)));
  // The leader's page: only it has round trips.
  const ready = async (): Promise<boolean> => {
    const pages = await Promise.all(cluster.members.map(({ metricsUrl }) => scrape(metricsUrl)));
    const leader = pages.find((page) => page.get('etcd_server_is_leader')?.samples[0]?.value === 1);
    if (leader !== undefined) member = leader;
    return (leader?.get('etcd_network_peer_round_trip_time_seconds')?.samples.length ?? 0) > 0;
  };
  const untilMs = performance.now() + 20_000;
  while (!(await ready())) {
    if (performance.now() > untilMs) throw new Error('no leader has timed a heartbeat');
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
  for (const page of ['health', 'readyz']) await fetch(`${cluster.gateways[0]!.url}/${page}`);
  gateway = await scrape(cluster.gateways[0]!.url);
}, 60_000);

afterAll(() => cluster?.stop());

describe("etcd's list", () => {
  for (const metric of etcdMetrics) test(`${metric[0]} is a ${metric[1]}`, () => held(metric));

  function held([name, type, labels, buckets]: EtcdMetric): void {
    const family = (ofGateway.test(name) ? gateway : member).get(name);
    expect(family?.type).toBe(type);
    const found = labelsOf(family!);
    // Without a sample the text says nothing of labels.
    if (found !== undefined) expect(found).toEqual([...labels].sort());
    if (buckets === undefined || found === undefined) return;
    const [start, factor, count] = buckets;
    const bounds = boundsOf(family!).slice(0, -1).map(Number);
    expect(bounds).toHaveLength(count);
    bounds.forEach((bound, i) => {
      expect(bound).toBeCloseTo(start * factor ** i, 9);
    });
  }

  test('nearly all of them have a sample, so that labels were looked at', () => {
    const silent = etcdMetrics.filter(
      ([name]) => (ofGateway.test(name) ? gateway : member).get(name)?.samples.length === 0,
    );
    expect(silent.map(([name]) => name).sort()).toEqual([
      'etcd_debugging_server_alarms',
      'etcd_network_peer_received_failures_total',
      'etcd_network_server_stream_failures_total',
      'etcd_network_snapshot_receive_failures',
      'etcd_network_snapshot_receive_inflights_total',
      'etcd_network_snapshot_receive_success',
      'etcd_network_snapshot_receive_total_duration_seconds',
      'etcd_network_snapshot_send_failures',
      'etcd_network_snapshot_send_inflights_total',
      'etcd_network_snapshot_send_success',
      'etcd_network_snapshot_send_total_duration_seconds',
      'etcd_server_learner_promote_failures',
    ]);
  });
});

/** Go's runtime, Go's HTTP handler, and figures of the whole machine's network that no process has of its own. */
const ofGo = /^(go_|promhttp_|process_network_|process_virtual_memory_max_bytes$)/;

test.skipIf(oracle === undefined)(
  'a real etcd and one node of Quoin show the same names, types, labels and bounds',
  async () => {
    const [etcd, quoin] = await Promise.all([
      startEtcd(1, [...oracle!.args, ...extensive], oracle!.binary),
      startQuoin(1, extensive),
    ]);
    try {
      const pages: Scrape[] = [];
      for (const { endpoints } of [etcd, quoin]) {
        await useEverything(endpoints[0]!);
        await fetch(`http://${endpoints[0]}/readyz`);
        pages.push(await scrape(`http://${endpoints[0]}`));
      }
      const [theirs, ours] = pages as [Scrape, Scrape];
      const wanted = [...theirs].filter(([name]) => !ofGo.test(name) && !absentHere.test(name));
      expect(wanted.length).toBeGreaterThan(oracle!.version === '3.7' ? 85 : 60);
      const different = wanted.flatMap(([name, family]) => differences(name, family, ours.get(name)));
      // What 3.7 has changed since 3.4 may differ from 3.4, but not what alerts read.
      const exact = oracle!.version === '3.7';
      expect(different.filter((line) => exact || alerting.has(line.split(' ')[0]!))).toEqual([]);
    } finally {
      await Promise.all([etcd.stop(), quoin.stop()]);
    }
  },
  60_000,
);

/** What etcd's published rules read. */
const alerting = new Set([
  'etcd_server_has_leader',
  'etcd_server_leader_changes_seen_total',
  'etcd_server_proposals_failed_total',
  'etcd_network_peer_sent_failures_total',
  'etcd_network_peer_round_trip_time_seconds',
  'etcd_disk_wal_fsync_duration_seconds',
  'etcd_disk_backend_commit_duration_seconds',
  'etcd_mvcc_db_total_size_in_bytes',
  'etcd_mvcc_db_total_size_in_use_in_bytes',
  'etcd_server_quota_backend_bytes',
  'grpc_server_handled_total',
  'grpc_server_handling_seconds',
]);

function differences(name: string, theirs: ScrapedFamily, ours: ScrapedFamily | undefined): string[] {
  if (ours === undefined) return [`${name} is not here`];
  if (ours.type !== theirs.type) return [`${name} is a ${ours.type}, not a ${theirs.type}`];
  const [want, have] = [labelsOf(theirs), labelsOf(ours)];
  if (want !== undefined && have !== undefined && want.join() !== have.join())
    return [`${name} has the labels ${have.join()}, not ${want.join()}`];
  const [wantBounds, haveBounds] = [boundsOf(theirs), boundsOf(ours)];
  if (want !== undefined && have !== undefined && wantBounds.join() !== haveBounds.join())
    return [`${name} has the bounds ${haveBounds.join()}, not ${wantBounds.join()}`];
  return [];
}
