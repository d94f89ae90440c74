import { Method } from '@quoin/contracts';
import { etcd } from '@quoin/sim';
import { expect, test } from 'vitest';
import { started } from './cluster-support.ts';

const { putRequest } = etcd;

// New log segments carried the metadata given to `open` instead of what was found: the next start refused the log.
test('a member restarts after its log went over to a new segment in its second life', () => {
  const { cluster, client } = started(83, 1, { walSegmentBytes: 4_096, snapshotCount: 100_000 });
  const [node] = cluster.nodes;
  const segments = (): number => node!.disk.files().filter((path) => path.endsWith('.wal')).length;
  for (let life = 1; life <= 3; life++) {
    const before = segments();
    for (let i = 0; i < 30; i++) client.ok(Method.put, putRequest(`k${i}`, 'v'.repeat(300)));
    expect(segments()).toBeGreaterThan(before);
    cluster.kill(node!);
    cluster.startNode(node!);
    cluster.waitForLeader();
    cluster.run(1_500);
    expect(node!.failure).toBe(undefined);
  }
});

// The log was released exactly up to the index that the store had durably: contiguous, but taken for a gap.
test('a member restarts when its log begins right after its store', () => {
  const limits = { walSegmentBytes: 4_096, snapshotCount: 1, snapshotCatchupEntries: 0, flushIntervalMs: 20 };
  const { cluster, client } = started(84, 1, limits);
  const [node] = cluster.nodes;
  for (let life = 0; life < 40; life++) {
    for (let i = 0; i < 1 + (life % 9); i++)
      client.ok(Method.put, putRequest(`k${i}`, 'v'.repeat(200 + 37 * life)));
    cluster.run(life % 3 === 0 ? 50 : 1);
    cluster.kill(node!);
    cluster.startNode(node!);
    cluster.waitForLeader();
    cluster.run(1_500);
    expect(node!.failure).toBe(undefined);
  }
});
