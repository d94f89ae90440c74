/**
 * What etcd's published alert rules read, and that it moves when its cause is there. Each cause is provoked on a healthy cluster;
 * the figure is looked at before and after.
 */
import { Method } from '@quoin/contracts';
import { etcd, type SimClient, type SimCluster, SimGateway, type SimNode } from '@quoin/sim';
import { expect, test } from 'vitest';
import { follower, started } from './cluster-support.ts';

const { putRequest } = etcd;

interface World {
  readonly cluster: SimCluster;
  readonly client: SimClient;
  readonly gateway: SimGateway;
  readonly leader: SimNode;
}

/** What is looked at: a figure of some page, for a rule that fires when it grows. */
type Figure = (world: World) => number;

type Registry = SimNode['metrics'];

/** The sum of all samples of that name with these labels. */
function sum(registry: Registry, name: string, labels: Readonly<Record<string, string>> = {}): number {
  const base = name.replace(/_(bucket|count|sum)$/, '');
  const suffix = name.slice(base.length);
  const metric = registry.all().find((each) => each.name === name || each.name === base);
  if (metric === undefined) throw new Error(`there is no metric ${name}`);
  const wanted = Object.entries(labels);
  return metric
    .samples()
    .filter((sample) => metric.name === name || sample.suffix === suffix)
    .filter((sample) =>
      wanted.every(([key, value]) => sample.labels.some(([k, v]) => k === key && v === value)),
    )
    .reduce((total, sample) => total + sample.value, 0);
}

/** Observations above a bound, which must be one of the buckets'. */
function above(registry: Registry, name: string, bound: string): number {
  return sum(registry, `${name}_count`) - sum(registry, `${name}_bucket`, { le: bound });
}

function write(client: SimClient, count: number): void {
  for (let i = 0; i < count; i++) client.call(Method.put, putRequest(`k${i}`, 'x'.repeat(500)));
}

const others = ({ cluster, leader }: World): SimNode[] => cluster.nodes.filter((node) => node !== leader);

interface Case {
  readonly cause: string;
  readonly figures: Readonly<Record<string, Figure>>;
  provoke(world: World): void;
  /** Where it cannot be brought about later. */
  readonly flushMs?: number;
}

const cases: readonly Case[] = [
  {
    cause: 'the leader is lost',
    figures: {
      etcd_server_leader_changes_seen_total: (world) =>
        Math.min(...others(world).map((node) => sum(node.metrics, 'etcd_server_leader_changes_seen_total'))),
      etcd_network_peer_sent_failures_total: (world) =>
        Math.max(...others(world).map((node) => sum(node.metrics, 'etcd_network_peer_sent_failures_total'))),
    },
    provoke: ({ cluster, leader }) => {
      cluster.crash(leader);
      cluster.runUntil(() => cluster.leader() !== undefined, 20_000);
      cluster.run(1_000);
    },
  },
  {
    cause: 'there is no quorum',
    figures: {
      'etcd_server_has_leader is 0': (world) =>
        1 -
        Math.max(
          ...others(world)
            .slice(1)
            .map((node) => sum(node.metrics, 'etcd_server_has_leader')),
        ),
    },
    provoke: (world) => {
      world.cluster.crash(world.leader);
      world.cluster.crash(others(world)[0]!);
      world.cluster.run(5_000);
    },
  },
  {
    cause: 'a member is down',
    figures: {
      etcd_network_peer_sent_failures_total: ({ leader }) =>
        sum(leader.metrics, 'etcd_network_peer_sent_failures_total'),
      'etcd_network_active_peers falls': ({ leader }) => -sum(leader.metrics, 'etcd_network_active_peers'),
      etcd_network_disconnected_peers_total: ({ leader }) =>
        sum(leader.metrics, 'etcd_network_disconnected_peers_total'),
    },
    provoke: ({ cluster }) => {
      cluster.crash(follower(cluster));
      cluster.run(2_000);
    },
  },
  {
    cause: 'the disk of the log is slow',
    figures: {
      'etcd_disk_wal_fsync_duration_seconds over 0.5 s': ({ leader }) =>
        above(leader.metrics, 'etcd_disk_wal_fsync_duration_seconds', '0.512'),
      'etcd_disk_wal_write_duration_seconds over 64 ms': ({ leader }) =>
        above(leader.metrics, 'etcd_disk_wal_write_duration_seconds', '0.064'),
    },
    provoke: ({ cluster, client, leader }) => {
      leader.disk.slowFactor = 4_000;
      write(client, 5);
      cluster.run(5_000);
    },
  },
  {
    cause: 'the disk of the data is slow',
    figures: {
      'etcd_disk_backend_commit_duration_seconds over 0.25 s': ({ leader }) =>
        above(leader.metrics, 'etcd_disk_backend_commit_duration_seconds', '0.256'),
    },
    flushMs: 400,
    provoke: ({ cluster, client }) => {
      write(client, 20);
      cluster.run(40_000);
    },
  },
  {
    cause: 'proposals get no outcome',
    figures: {
      etcd_server_proposals_failed_total: ({ leader }) =>
        sum(leader.metrics, 'etcd_server_proposals_failed_total'),
      'etcd_server_request_duration_seconds of failures': ({ leader }) =>
        sum(leader.metrics, 'etcd_server_request_duration_seconds_count', { type: 'Put', success: 'false' }),
    },
    provoke: ({ cluster, client, leader }) => {
      cluster.isolate(leader);
      for (let i = 0; i < 20; i++) client.request(Method.put, putRequest('lost', '1'), () => {}, leader);
      cluster.run(15_000);
    },
  },
  {
    cause: 'members answer each other late',
    figures: {
      'etcd_network_peer_round_trip_time_seconds over 0.15 s': ({ leader }) =>
        above(leader.metrics, 'etcd_network_peer_round_trip_time_seconds', '0.2048'),
    },
    provoke: ({ cluster, leader }) => {
      for (const node of cluster.nodes) {
        if (node === leader) continue;
        cluster.network.setLink(leader.name, node.name, { delayMs: 200 });
        cluster.network.setLink(node.name, leader.name, { delayMs: 200 });
      }
      cluster.run(3_000);
    },
  },
  {
    cause: 'requests fail',
    figures: {
      'grpc_server_handled_total of Unavailable': ({ gateway }) =>
        sum(gateway.metrics, 'grpc_server_handled_total', { grpc_code: 'Unavailable' }),
    },
    provoke: (world) => {
      const { cluster, gateway, leader } = world;
      for (const node of others(world)) cluster.crash(node);
      cluster.run(3_000);
      cluster.crash(leader);
      gateway.unary('/etcdserverpb.KV/Put', putRequest('a', '1'), () => {});
      cluster.run(20_000);
    },
  },
  {
    cause: 'requests are slow',
    figures: {
      'grpc_server_handling_seconds over 0.15 s': ({ gateway }) =>
        above(gateway.metrics, 'grpc_server_handling_seconds', '0.25'),
    },
    provoke: (world) => {
      for (const node of others(world)) {
        world.cluster.network.setLink(world.leader.name, node.name, { delayMs: 300 });
      }
      expect(world.gateway.call('/etcdserverpb.KV/Put', putRequest('a', '1')).code).toBe(0);
    },
  },
  {
    cause: 'the quota is nearly full',
    figures: {
      'etcd_mvcc_db_total_size_in_bytes / etcd_server_quota_backend_bytes over 95 %': ({ leader }) => {
        const size = sum(leader.metrics, 'etcd_mvcc_db_total_size_in_bytes');
        const share = size / sum(leader.metrics, 'etcd_server_quota_backend_bytes');
        expect(sum(leader.metrics, 'etcd_mvcc_db_total_size_in_use_in_bytes')).toBe(size);
        return share > 0.95 ? 1 : 0;
      },
      'etcd_debugging_server_alarms, once it is over': ({ leader }) =>
        sum(leader.metrics, 'etcd_debugging_server_alarms', { alarm_type: 'NOSPACE' }),
    },
    provoke: ({ cluster, client }) => {
      write(client, 100);
      cluster.run(1_000);
    },
  },
  {
    cause: 'the leader’s machine stands still',
    figures: {
      etcd_server_heartbeat_send_failures_total: ({ leader }) =>
        sum(leader.metrics, 'etcd_server_heartbeat_send_failures_total'),
    },
    provoke: ({ cluster, leader }) => {
      leader.host!.pause();
      cluster.run(400);
      leader.host!.resume();
      cluster.run(100);
    },
  },
];

test.each(cases)('$cause', ({ figures, provoke, flushMs = 1 }) => {
  const limits = { quotaBackendBytes: 40_000, flushIntervalMs: 2_000 };
  const { cluster, client } = started(77, 3, limits, { flushMs });
  const gateway = new SimGateway(cluster, 'g1', { extensiveMetrics: true });
  const world: World = { cluster, client, gateway, leader: cluster.waitForLeader() };
  client.ok(Method.put, putRequest('before', '1'));
  expect(gateway.call('/etcdserverpb.KV/Put', putRequest('before', '2')).code).toBe(0);
  cluster.run(3_000);
  const before = Object.entries(figures).map(([name, figure]) => [name, figure(world)] as const);
  provoke(world);
  for (const [name, value] of before) expect(figures[name]!(world), name).toBeGreaterThan(value);
});

test('on a healthy cluster none of the figures move, so that a rule does not fire', () => {
  const { cluster, client } = started(78, 3, { quotaBackendBytes: 1 << 20, flushIntervalMs: 2_000 });
  const gateway = new SimGateway(cluster, 'g1', { extensiveMetrics: true });
  const world: World = { cluster, client, gateway, leader: cluster.waitForLeader() };
  cluster.run(2_000);
  const all = cases.flatMap(({ figures }) => Object.entries(figures));
  const before = all.map(([, figure]) => figure(world));
  write(client, 200);
  for (let i = 0; i < 20; i++) gateway.call('/etcdserverpb.KV/Put', putRequest(`g${i}`, '1'));
  cluster.run(10_000);
  expect(all.map(([name, figure]) => [name, figure(world)])).toEqual(
    all.map(([name], i) => [name, before[i]]),
  );
});
