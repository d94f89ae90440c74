/** A cluster of processes that run bundles, as packages and images do, and what they take when idle. */
import { type Cluster, type ClusterOptions, startCluster } from '../support/cluster.ts';
import { bundled } from './bundles.ts';

/** Resident, after start-up, with nothing to do. */
export const idleLimitMiB = { member: 150, gateway: 90 } as const;

const bundledRoles = ['member', 'gateway', 'backup'] as const;

export async function startBundled(options: ClusterOptions): Promise<Cluster> {
  const dirs = Object.fromEntries(
    await Promise.all(bundledRoles.map(async (role) => [role, (await bundled(role)).dir] as const)),
  );
  // Without a compile cache: what it saves in time it takes in memory.
  const env = { NODE_COMPILE_CACHE: '', ...options.env };
  return startCluster({ ...options, env, program: (role) => `${dirs[role]}/main.mjs` });
}
