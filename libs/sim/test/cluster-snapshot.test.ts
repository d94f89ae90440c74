import { Method } from '@quoin/contracts';
import { etcd, SimClient, SimCluster } from '@quoin/sim';
import { expect, test } from 'vitest';
import { expectEqualStates } from './cluster-support.ts';

// Simulator, seed 30552: the stream was open again before the sender looked, so it waited for answers to chunks that nobody had,
// until the transfer was given up after 30 s.
test('a member that restarts while it receives a snapshot is sent another one at once', () => {
  let receiving = 0;
  const cluster = new SimCluster({
    seed: 90,
    limits: { snapshotCount: 5, snapshotCatchupEntries: 0, flushIntervalMs: 50, snapshotChunkBytes: 200 },
    log: (line) => {
      if (line.includes('receiving a snapshot')) receiving++;
    },
  });
  cluster.start();
  const client = new SimClient(cluster, 'client');
  const leader = cluster.waitForLeader();
  const away = cluster.nodes.find((node) => node !== leader)!;
  cluster.crash(away);
  for (let i = 0; i < 100; i++) client.ok(Method.put, etcd.putRequest(`k${i}`, 'v'.repeat(100)));
  cluster.run(500);
  cluster.startNode(away);
  expect(cluster.runUntil(() => receiving === 1, 5_000)).toBe(true);
  cluster.crash(away);
  cluster.startNode(away);
  expect(cluster.runUntil(() => (away.member?.status().revision ?? 0) === 101, 3_000)).toBe(true);
  expectEqualStates(cluster);
});
