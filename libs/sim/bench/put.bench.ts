/**
 * What a put costs three members, without sockets, disks and RocksDB: `node libs/sim/bench/put.bench.ts [TREE]`, where TREE is
 * another checkout to be measured in turns with this one. The simulated world takes its share, the same in both.
 */
import { join, resolve } from 'node:path';

const tree = resolve(process.argv[2] ?? join(import.meta.dirname, '..', '..', '..'));
const { SimCluster, SimClient, etcd } = (await import(
  join(tree, 'libs/sim/src/index.ts')
)) as typeof import('@quoin/sim');
const { Method } = (await import(
  join(tree, 'libs/contracts/src/index.ts')
)) as typeof import('@quoin/contracts');

const burst = 100;
const keys = 1_000;
const value = 'x'.repeat(256);

const cluster = new SimCluster({ seed: 5, members: 3, disk: { spikeEvery: 0 } });
cluster.start();
const client = new SimClient(cluster, 'client');
cluster.waitForLeader();
cluster.run(200);

/** µs of CPU for each of so many puts. */
function run(puts: number): number {
  const before = process.threadCpuUsage();
  for (let i = 0; i < puts; i += burst) {
    let left = burst;
    for (let j = 0; j < burst; j++) {
      client.request(Method.put, etcd.putRequest(`k${(i + j) % keys}`, value), () => left--);
    }
    cluster.runUntil(() => left === 0, 10_000);
  }
  const { user, system } = process.threadCpuUsage(before);
  return (user + system) / puts;
}

run(30_000);
const times = Array.from({ length: 5 }, () => run(20_000));
console.log(`three members, bursts of ${burst} puts: ${Math.min(...times).toFixed(2)} µs of CPU`);
