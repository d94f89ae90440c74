/**
 * What one seed decides before the run begins: how large the cluster is, which limits are shrunk, what clients do and what goes
 * wrong. Not every kind of fault happens in every run, so that each also happens undisturbed by the others.
 */
import { Prng } from '@quoin/base';
import type { GatewayLimits } from '@quoin/gateway';
import type { MemberLimits } from '@quoin/member';
import type { SimDiskOptions } from './disk.ts';
import type { SimNetworkOptions } from './network.ts';

export const faultKinds = [
  'crash',
  'kill',
  'crashAll',
  'crashLeader',
  'bounce',
  'bounceAll',
  'crashAtElection',
  'newLeaderFails',
  'rotateLeaders',
  'crashAtSync',
  'isolate',
  'isolateLeader',
  'partition',
  'cutOneWay',
  'cutGateway',
  'break',
  'pause',
  'pauseLeader',
  'slowDisk',
  'slowLink',
  'diskFull',
  'diskError',
  'bitRot',
  'clockJump',
  'clockSkew',
  'gatewayRestart',
  'gatewayPause',
] as const;
export type FaultKind = (typeof faultKinds)[number];

export interface Plan {
  readonly members: number;
  readonly gateways: number;
  readonly clients: number;
  readonly keys: number;
  /** How long faults happen. */
  readonly faultsMs: number;
  /** Mean pause between two faults. */
  readonly faultEveryMs: number;
  /** The chance that the next thing to happen is that all is healed. */
  readonly healChance: number;
  readonly faults: readonly FaultKind[];
  /** Mean pause of a client between two calls. */
  readonly thinkMs: number;
  readonly watchers: number;
  readonly leaseHolders: number;
  readonly bankers: number;
  readonly compactions: boolean;
  readonly memberChanges: boolean;
  /** Authentication is switched on, and users come and go with their rights. */
  readonly auth: boolean;
  readonly memberLimits: Partial<MemberLimits>;
  readonly gatewayLimits: Partial<GatewayLimits>;
  readonly network: SimNetworkOptions;
  readonly disk: SimDiskOptions;
  readonly flushMs: number;
}

/** Drawn so that small values are as likely as large ones. */
function skewedMs(prng: Prng, low: number, high: number): number {
  return low * (high / low) ** prng.float();
}

function skewed(prng: Prng, low: number, high: number): number {
  return Math.round(skewedMs(prng, low, high));
}

/** How many of the runs are with authentication. */
const authShare = 0.3;

export function makePlan(prng: Prng, seed: number): Plan {
  return withAuth(simplePlan(prng), seed);
}

/** Drawn by itself: a run without is the one that it was before there was this, event by event. */
function withAuth(plan: Plan, seed: number): Plan {
  const prng = new Prng(seed ^ 0x61757468);
  if (!prng.chance(authShare)) return plan;
  const authTokenTtlSeconds = prng.pick([5, 300, 300]);
  return { ...plan, auth: true, memberLimits: { ...plan.memberLimits, authTokenTtlSeconds } };
}

function simplePlan(prng: Prng): Plan {
  const plan = ordinaryPlan(prng);
  if (prng.chance(0.25)) return { ...plan, ...storm(prng, plan) };
  return prng.chance(0.15) ? { ...plan, ...lag(prng) } : plan;
}

/** Many calls through all members while some links are slow: an answer is long under way, and what it tells is long over. */
function lag(prng: Prng): Partial<Plan> {
  const more: FaultKind[] = ['pause', 'pauseLeader', 'cutOneWay', 'crashLeader'];
  return {
    members: prng.pick([3, 3, 5]),
    gateways: 3,
    clients: 5,
    thinkMs: skewed(prng, 10, 25),
    faultEveryMs: skewed(prng, 300, 800),
    healChance: 0.2,
    faults: ['slowLink', 'slowLink', ...more.filter(() => prng.chance(0.15))],
  };
}

/** Leaders come and go so fast that some are gone before they have brought an entry of their own to anybody. */
function storm(prng: Prng, plan: Plan): Partial<Plan> {
  const rotates = prng.chance(0.5);
  const all: FaultKind[] = ['crashLeader', 'isolateLeader', 'bounce', 'bounceAll', 'partition', 'cutOneWay'];
  return {
    members: prng.pick([3, 3, 5]),
    faultEveryMs: skewed(prng, 50, 400),
    healChance: rotates ? 0 : 0.3,
    faults: rotates
      ? ['rotateLeaders']
      : [...all.filter(() => prng.chance(0.4)), 'crashAtElection', 'newLeaderFails', 'newLeaderFails'],
    network: { ...plan.network, delayMs: skewedMs(prng, 1, 8) },
    memberLimits: {
      ...plan.memberLimits,
      electionTimeoutMs: 200,
      heartbeatIntervalMs: 40,
      preVote: prng.chance(0.2),
      maxLogEntriesPerMessageBytes: skewed(prng, 50, 400),
      maxProposalBatchBytes: 100,
    },
  };
}

function ordinaryPlan(prng: Prng): Plan {
  const members = prng.pick([3, 3, 3, 3, 3, 5, 5, 1]);
  const calm = prng.chance(0.1);
  const faults = calm ? [] : faultKinds.filter(() => prng.chance(0.4));
  return {
    members,
    gateways: 1 + prng.below(3),
    clients: 2 + prng.below(4),
    keys: skewed(prng, 2, 40),
    faultsMs: 5_000 + prng.below(5_000),
    faultEveryMs: skewed(prng, 150, 1_500),
    healChance: 0.15 + 0.3 * prng.float(),
    faults,
    thinkMs: skewed(prng, 15, 150),
    watchers: prng.below(5),
    leaseHolders: prng.below(4),
    bankers: prng.below(3),
    compactions: prng.chance(0.6),
    memberChanges: members > 1 && prng.chance(0.25),
    auth: false,
    memberLimits: memberLimits(prng),
    gatewayLimits: gatewayLimits(prng),
    network: network(prng),
    disk: { syncMs: skewedMs(prng, 0.1, 5), spikeEvery: prng.pick([0, 50, 200]) },
    flushMs: skewed(prng, 1, 200),
  };
}

function memberLimits(prng: Prng): Partial<MemberLimits> {
  if (prng.chance(0.1)) return {};
  const limits = {
    snapshotCount: skewed(prng, 2, 100),
    snapshotCatchupEntries: prng.below(20),
    flushIntervalMs: skewed(prng, 20, 1_000),
    // Sometimes too little for anything.
    metaCacheBytes: skewed(prng, 40_000, 1_000_000),
    snapshotChunkBytes: skewed(prng, 200, 8_000),
    snapshotWindowChunks: 1 + prng.below(4),
    walSegmentBytes: 8 * skewed(prng, 512, 8_000),
    maxProposalBatchBytes: skewed(prng, 50, 4_000),
    maxLogEntriesPerMessageBytes: skewed(prng, 100, 8_000),
    streamWindowBytes: skewed(prng, 200, 8_000),
    readIndexRetryMs: skewed(prng, 100, 500),
    preVote: prng.chance(0.5),
    leaseReads: prng.chance(0.25),
    corruptCheckIntervalMs: 700,
    ...electionLimits(prng),
  };
  // Its tables alone are 8 KiB: from next to nothing in memory to everything of a run.
  const { streamWindowBytes } = limits;
  return {
    ...limits,
    overlayBytes: 5 * streamWindowBytes,
    // From a few pairs on; some runs hold every answer.
    rangeHeldBytes: streamWindowBytes >> 2,
    rangePartBytes: Math.max(64, streamWindowBytes >> 3),
    rangeWindowBytes: streamWindowBytes >> 2,
  };
}

/** Short timeouts: more elections in a second. */
function electionLimits(prng: Prng): Partial<MemberLimits> {
  const electionTimeoutMs = prng.pick([200, 300, 500, 1_000]);
  return { electionTimeoutMs, heartbeatIntervalMs: electionTimeoutMs / prng.pick([5, 10]) };
}

function gatewayLimits(prng: Prng): Partial<GatewayLimits> {
  if (prng.chance(0.1)) return {};
  return {
    ringBytes: skewed(prng, 500, 100_000),
    ringRevisions: skewed(prng, 2, 500),
    watchQueueBytes: skewed(prng, 500, 20_000),
    watchResponseBytes: skewed(prng, 300, 20_000),
    watchHistoryBytes: skewed(prng, 300, 20_000),
    watchHistoryReads: 1 + prng.below(4),
    linkMessageBytes: skewed(prng, 200, 10_000),
    feedLingerMs: prng.pick([10, 200, 1_000]),
    progressNotifyIntervalMs: skewed(prng, 100, 2_000),
    refusedRetryMs: skewed(prng, 5, 50),
  };
}

function network(prng: Prng): SimNetworkOptions {
  return {
    delayMs: skewedMs(prng, 0.1, 5),
    bytesPerMs: prng.chance(0.2) ? 2_000 : Number.POSITIVE_INFINITY,
    silentDeaths: prng.chance(0.3),
    silenceMs: prng.pick([300, 1_000, 5_000, 10_000]),
    highWaterBytes: skewed(prng, 1_000, 1 << 20),
  };
}
