import type { Cluster } from '../../tests/support/cluster.ts';
import type { ObservedRole } from './sampler.ts';

/** Where each process of a cluster of this machine shows its metrics. */
export function rolesOf({ members, gateways, backup }: Cluster): ObservedRole[] {
  return [
    ...members.map(({ name, metricsUrl }) => ({
      name,
      kind: 'member' as const,
      metricsUrl: `${metricsUrl}/metrics`,
    })),
    ...gateways.map(({ name, url }) => ({ name, kind: 'gateway' as const, metricsUrl: `${url}/metrics` })),
    ...(backup === undefined
      ? []
      : [{ name: backup.name, kind: 'backup' as const, metricsUrl: `${backup.metricsUrl}/metrics` }]),
  ];
}
