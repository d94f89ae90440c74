import { SimCluster, type SimNode } from '@quoin/sim';
import { expect, test } from 'vitest';

const electionTimeoutMs = 1_000;
const boundMs = 300;
const seeds = 250;
/** One way; from one rack to one region. */
const delaysMs = [0.2, 0.5, 1, 2, 5];

/** Kills the leader; returns how long it took until the first timeout fired, and from there until all knew a new leader. */
function reelect(seed: number, members: number): { firedMs: number; electedMs: number } {
  const delayMs = delaysMs[seed % delaysMs.length]!;
  const cluster = new SimCluster({ seed, members, network: { delayMs } });
  cluster.start();
  const leader = cluster.waitForLeader();
  // Another moment between two heartbeats for each.
  cluster.run(500 + seed * 3.7);
  const diedMs = cluster.scheduler.nowMs;
  cluster.crash(leader);
  const others = cluster.nodes.filter((node) => node !== leader);
  const status = (node: SimNode) => node.member!.status();
  const campaigns = (): boolean => others.some((node) => status(node).role !== 'follower');
  expect(cluster.runUntil(campaigns, 10_000)).toBe(true);
  const firedAtMs = cluster.scheduler.nowMs;
  const known = (): boolean => {
    const next = cluster.leader();
    return next !== undefined && others.every((node) => status(node).leader === status(next).memberId);
  };
  expect(cluster.runUntil(known, 60_000)).toBe(true);
  return { firedMs: firedAtMs - diedMs, electedMs: cluster.scheduler.nowMs - firedAtMs };
}

test.each([3, 5])(
  '%d members: the leader dies; 300 ms after the first election timeout all know the next',
  (members) => {
    const late: string[] = [];
    let latestMs = 0;
    for (let seed = 1; seed <= seeds; seed++) {
      const { firedMs, electedMs } = reelect(seed, members);
      latestMs = Math.max(latestMs, electedMs);
      if (electedMs > boundMs) late.push(`seed ${seed}: ${electedMs.toFixed(0)} ms`);
      // Up to a heartbeat before its death nobody had reason to doubt it.
      expect(firedMs).toBeGreaterThan(electionTimeoutMs - 150);
      expect(firedMs).toBeLessThan(2 * electionTimeoutMs + 150);
    }
    expect(late).toEqual([]);
    // The measure sees elections that needed a second try: it is not always the first that wins.
    expect(latestMs).toBeGreaterThan(50);
  },
);
