import { hexId } from '@quoin/base';
import { Method } from '@quoin/contracts';
import { etcd, SimClient, SimCluster, type SimClusterOptions } from '@quoin/sim';
import { expect, test } from 'vitest';
import { expectEqualStates, RecordingTracer } from './cluster-support.ts';

/** A member is down for 100 puts, restarts while it receives a snapshot of them, and catches up within 3 s. */
function restartWhileReceiving(options: Pick<SimClusterOptions, 'seed' | 'tracer'>) {
  let receiving = 0;
  const cluster = new SimCluster({
    ...options,
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
  return { cluster, leader, away };
}

// Simulator, seed 30552: the stream was open again before the sender looked, so it waited for answers to chunks that nobody had,
// until the transfer was given up after 30 s.
test('a member that restarts while it receives a snapshot is sent another one at once', () => {
  const { cluster } = restartWhileReceiving({ seed: 90 });
  expectEqualStates(cluster);
});

// Simulator, seed 118354: it was removed while the record of the snapshot was on its way to the disk, and the log, closed by
// then, was given the hard state.
test('a member may be stopped at any point of installing a snapshot, and comes back', () => {
  let installs = 0;
  for (let waitMs = 0; waitMs < 60; waitMs += 1) {
    let receivedMs = 0;
    const cluster: SimCluster = new SimCluster({
      seed: 91,
      // Stretches the time between the record of the snapshot and the hard state.
      disk: { syncMs: 10, spikeEvery: 0 },
      limits: { snapshotCount: 5, snapshotCatchupEntries: 0, flushIntervalMs: 50 },
      log: (line) => {
        if (line.includes('receiving a snapshot')) receivedMs = cluster.scheduler.nowMs;
      },
    });
    cluster.start();
    const client = new SimClient(cluster, 'client');
    const leader = cluster.waitForLeader();
    const away = cluster.nodes.find((node) => node !== leader)!;
    cluster.crash(away);
    for (let i = 0; i < 12; i++) client.ok(Method.put, etcd.putRequest(`k${i}`, 'v'));
    cluster.run(500);
    cluster.startNode(away);
    expect(cluster.runUntil(() => receivedMs > 0, 5_000)).toBe(true);
    cluster.run(waitMs);
    const before = away.member!.status().revision;
    let stopped = false;
    away.member!.stop(() => {
      stopped = true;
    });
    expect(cluster.runUntil(() => stopped, 5_000)).toBe(true);
    if (before < 13) installs++;
    cluster.crash(away);
    cluster.startNode(away);
    expect(cluster.runUntil(() => (away.member?.status().revision ?? 0) === 13, 5_000)).toBe(true);
  }
  expect(installs).toBeGreaterThan(5);
});

test('a snapshot that is sent, and its installation, are a span each; so is one that could not be sent', () => {
  const tracer = new RecordingTracer();
  const { cluster, leader, away } = restartWhileReceiving({ seed: 92, tracer });
  cluster.run(500);
  const of = (wanted: string) =>
    tracer.batches.filter(({ name }) => name === wanted).map(({ attributes }) => attributes);
  const [broken, sent] = of('snapshot.send');
  const [installed] = of('snapshot.install');
  const to = hexId(away.member!.status().memberId);
  expect(broken).toMatchObject({ 'quoin.to': to });
  expect(broken!['quoin.problem']).not.toBe('');
  expect(sent).toMatchObject({ 'quoin.to': to, 'quoin.problem': '' });
  expect(sent!['quoin.bytes']).toBeGreaterThan(100 * 100);
  expect(installed).toEqual({
    'quoin.from': hexId(leader.member!.status().memberId),
    'quoin.index': sent!['quoin.index'],
    'quoin.bytes': sent!['quoin.bytes'],
  });
  expect(of('snapshot.send')).toHaveLength(2);
  expect(of('snapshot.install')).toHaveLength(1);
});
