import { SimCluster } from '@quoin/sim';
import { expect, test } from 'vitest';

const electionTimeoutMs = 1_000;
/** The timeout is drawn from one to two times this. */
const latestTimeoutMs = 2 * electionTimeoutMs;

test.each([3, 5])(
  '%d members: the leader dies, another leads within 300 ms after the election timeout',
  (members) => {
    const waits: number[] = [];
    for (let seed = 1; seed <= 20; seed++) {
      const cluster = new SimCluster({ seed, members, network: { delayMs: 1 } });
      cluster.start();
      const leader = cluster.waitForLeader();
      cluster.run(1_000 + seed * 37);
      const diedMs = cluster.scheduler.nowMs;
      cluster.crash(leader);
      expect(cluster.runUntil(() => cluster.leader() !== undefined, 10_000)).toBe(true);
      waits.push(cluster.scheduler.nowMs - diedMs);
    }
    // A split vote costs another round: rare, and never two of them here.
    const inTime = waits.filter((ms) => ms <= latestTimeoutMs + 300);
    expect(inTime.length).toBeGreaterThanOrEqual(19);
    expect(Math.min(...waits)).toBeGreaterThan(electionTimeoutMs / 2);
  },
);
