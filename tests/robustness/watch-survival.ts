/**
 * 3 members and 2 gateways, very many watchers whose streams stay open, writers at full rate, and everything that a
 * gateway is to hide from a watcher: the leader dies or hands over, members restart, links to members break.
 */
import { Client } from '@quoin/client';
import { type Cluster, startCluster } from '../support/cluster.ts';
import { longestGapMs } from '../support/load.ts';
import { leaderOf } from '../support/state.ts';
import { ProxyNetwork } from './network.ts';
import { WatchStorm } from './watch-storm.ts';

export interface SurvivalOptions {
  readonly watchers: number;
  /** Of all faults in turn. */
  readonly rounds: number;
  /** Before, between and after faults. */
  readonly pauseMs: number;
  readonly onStep?: (text: string) => void;
}

export interface SurvivalReport {
  /** Gaps, duplicates, split revisions, watches that ended; empty: none. */
  readonly problems: readonly string[];
  readonly faults: readonly string[];
  readonly writes: number;
  readonly failedWrites: number;
  readonly events: number;
  readonly writesPerSecond: number;
  /** Between two acknowledged writes. */
  readonly longestPauseMs: number;
}

const keys = 250;
const writers = 32;
const settleMs = 60_000;
/** Longer than a gateway believes in a link that says nothing. */
const silentMs = 5_000;

export async function surviveWatches(options: SurvivalOptions): Promise<SurvivalReport> {
  const net = new ProxyNetwork(() => 0.5);
  const cluster = await startCluster({
    members: 3,
    gateways: 2,
    peerFront: (name, port) => net.front(name, port),
  });
  const { endpoints, members, gateways } = cluster;
  net.whoIs = () => new Map([...members, ...gateways].map((child) => [child.pid ?? 0, child.name]));
  // Those of the start were made before it was known whose they are.
  net.breakConnections(() => true);
  const { watchers } = options;
  const storm = new WatchStorm({ endpoints, watchers, keys, writers });
  const client = new Client({ endpoints, timeoutMs: 15_000 });
  const done: string[] = [];
  try {
    await storm.start();
    const beganMs = performance.now();
    for (let round = 0; round < options.rounds; round++) {
      for (const fault of faults) {
        await sleep(options.pauseMs);
        done.push(await fault(cluster, net, client));
        options.onStep?.(`${done.at(-1)}: ${storm.totals.writes} writes, ${storm.totals.events} events`);
        if (storm.problems.length > 0) break;
      }
    }
    await sleep(options.pauseMs);
    const seconds = (performance.now() - beganMs) / 1_000;
    const { writes } = storm.totals;
    await storm.settle(settleMs);
    return {
      problems: storm.problems,
      faults: done,
      writes,
      failedWrites: storm.totals.failedWrites,
      events: storm.totals.events,
      writesPerSecond: writes / seconds,
      longestPauseMs: longestGapMs(storm.totals.writesAtMs, 0),
    };
  } finally {
    storm.close();
    client.close();
    await cluster.stop();
    net.close();
  }
}

type Fault = (cluster: Cluster, net: ProxyNetwork, client: Client) => Promise<string>;

const leading = ({ members }: Cluster): Promise<number> => leaderOf(members.map((member) => member.peerUrl));

const killLeader: Fault = async (cluster) => {
  const leader = await leading(cluster);
  const { name } = cluster.members[leader]!;
  await cluster.kill(leader);
  await sleep(500);
  await cluster.restart(leader);
  await leading(cluster);
  return `leader ${name} killed`;
};

const transfer: Fault = async (cluster, _net, client) => {
  const leader = await leading(cluster);
  const to = cluster.members[(leader + 1) % cluster.members.length]!.name;
  const { members } = await client.cluster.memberList();
  await client.maintenance.moveLeader(members.find(({ name }) => name === to)!.ID);
  return `lead handed to ${to}`;
};

/** Politely, as an update does it: the one that leads as well as those that gateways read from. */
const restart: Fault = async (cluster) => {
  const leader = await leading(cluster);
  const other = (leader + 1) % cluster.members.length;
  for (const member of [other, leader]) {
    await cluster.kill(member, 'SIGTERM');
    await cluster.restart(member);
    await leading(cluster);
  }
  return `${cluster.members[other]!.name} and the leader restarted`;
};

const breakLinks: Fault = async (_cluster, net) => {
  let broken = 0;
  for (let times = 0; times < 5; times++) {
    broken += net.breakConnections((opener) => opener.startsWith('g'));
    await sleep(150);
  }
  return `${broken} links of gateways broken`;
};

/** A link that is silent, not closed: the gateway has to notice by itself. */
const holdLinks: Fault = async (cluster, net) => {
  const leader = cluster.members[await leading(cluster)]!.name;
  const [gateway] = cluster.gateways;
  net.set(leader, gateway!.name, { cut: true });
  await sleep(silentMs);
  net.set(leader, gateway!.name, undefined);
  return `nothing from ${leader} to ${gateway!.name} for ${silentMs / 1_000} s`;
};

const faults: readonly Fault[] = [killLeader, transfer, breakLinks, restart, holdLinks];

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
