/** The servers that are compared: one etcd, one Quoin of a single node, and one of 3 members and 2 gateways. */
import { startCluster } from '../support/cluster.ts';
import { startEtcd, startQuoin } from '../support/test-server.ts';
import type { Oracle } from './oracle.ts';
import { Target } from './target.ts';

const cheapHashes = ['--bcrypt-cost=4'];

export type Shape = 'node' | 'cluster';

export interface Servers {
  readonly etcd: Target | undefined;
  readonly quoins: readonly Target[];
  stop(): Promise<void>;
}

/** Without an oracle there is no `etcd`. All are new and empty. */
export async function startServers(oracle: Oracle | undefined, shapes: readonly Shape[]): Promise<Servers> {
  const stops: (() => Promise<void>)[] = [];
  const targets: Target[] = [];
  const stop = async (): Promise<void> => {
    for (const target of targets) target.close();
    await Promise.all(stops.map((each) => each()));
  };
  const start = async (name: string): Promise<Target> => {
    const server =
      name === 'etcd'
        ? await startEtcd(1, oracle!.args, oracle!.binary)
        : name === 'node'
          ? await startQuoin(1, cheapHashes)
          : await startCluster({ members: 3, gateways: 2, memberArgs: cheapHashes });
    stops.push(() => server.stop());
    const target = new Target({
      name:
        name === 'etcd'
          ? `etcd ${oracle!.fullVersion}`
          : name === 'node'
            ? 'quoin'
            : 'quoin, 3 members + 2 gateways',
      endpoints: server.endpoints,
      spread: name === 'cluster',
      progressTells: oracle?.version !== '3.4',
    });
    targets.push(target);
    return target;
  };
  const names = [...(oracle === undefined ? [] : ['etcd']), ...shapes];
  const started = await Promise.allSettled(names.map(start));
  const failed = started.find((each) => each.status === 'rejected');
  if (failed !== undefined) {
    await stop();
    throw failed.reason;
  }
  const all = started.map((each) => (each as PromiseFulfilledResult<Target>).value);
  return oracle === undefined
    ? { etcd: undefined, quoins: all, stop }
    : { etcd: all[0], quoins: all.slice(1), stop };
}
