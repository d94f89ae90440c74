import { Method } from '@quoin/contracts';
import { etcd } from '@quoin/sim';
import { expect, test } from 'vitest';
import { expectEqualStates, started } from './cluster-support.ts';

const { putRequest } = etcd;

test('periodic: nothing within the first period, then what is older than a period goes, also under a new leader', () => {
  const { cluster, client } = started(80, 3, {
    autoCompactionMode: 'periodic',
    autoCompactionRetention: 10_000,
  });
  const compactRevision = (): number => cluster.leader()!.member!.status().compactRevision;
  const written: number[] = [];
  const write = (seconds: number): void => {
    for (let i = 0; i < seconds; i++) {
      client.ok(Method.put, putRequest('a', `${i}`));
      written.push(cluster.scheduler.nowMs);
      cluster.run(1_000);
    }
  };
  const revisionOfAge = (ms: number): number =>
    1 + written.filter((atMs) => atMs <= cluster.scheduler.nowMs - ms).length;
  write(6);
  expect(compactRevision()).toBe(-1);
  write(15);
  // The last compaction is at most one period old, and kept one period.
  expect(compactRevision()).toBeGreaterThanOrEqual(revisionOfAge(22_000));
  expect(compactRevision()).toBeLessThanOrEqual(revisionOfAge(10_000));
  const first = compactRevision();
  cluster.crash(cluster.leader()!);
  cluster.waitForLeader();
  write(14);
  expect(compactRevision()).toBeGreaterThan(first);
  expect(compactRevision()).toBeLessThanOrEqual(revisionOfAge(10_000));
  cluster.start();
  expectEqualStates(cluster);
});

test('revision: every five minutes all but the last N', () => {
  const { cluster, client } = started(81, 3, { autoCompactionMode: 'revision', autoCompactionRetention: 4 });
  for (let i = 0; i < 10; i++) client.ok(Method.put, putRequest('a', `${i}`));
  cluster.run(280_000);
  expect(cluster.leader()!.member!.status().compactRevision).toBe(-1);
  cluster.run(40_000);
  for (const node of cluster.nodes) expect(node.member!.status().compactRevision).toBe(11 - 4);
  // Nothing new: nothing to do.
  cluster.run(320_000);
  expect(cluster.leader()!.member!.status().compactRevision).toBe(7);
  expectEqualStates(cluster);
});
