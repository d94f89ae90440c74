import type { MemberLimits } from '@quoin/member';
import { SimClient, SimCluster, type SimClusterOptions } from '@quoin/sim';
import { expect } from 'vitest';

export interface Started {
  readonly cluster: SimCluster;
  readonly client: SimClient;
}

/** A cluster with a leader and a client. SIM_LOG=1 prints what members say. */
export function started(
  seed: number,
  members = 3,
  limits: Partial<MemberLimits> = {},
  more: Partial<SimClusterOptions> = {},
): Started {
  const log = process.env['SIM_LOG'] === undefined ? {} : { log: (line: string) => console.log(line) };
  const cluster = new SimCluster({ seed, members, limits, ...log, ...more });
  cluster.start();
  const client = new SimClient(cluster, 'client');
  cluster.waitForLeader();
  cluster.run(200);
  return { cluster, client };
}

/** All running members are at the same index with the same state. */
export function expectEqualStates(cluster: SimCluster): void {
  cluster.settle();
  const hashes = cluster.stateHashes();
  expect(new Set(hashes.map((h) => `${h.index} ${h.hash}`)).size).toBe(1);
}
