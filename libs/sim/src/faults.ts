/** What goes wrong, drawn from the seed, and how all of it is made good again. */
import { Prng } from '@quoin/base';
import type { SimNode } from './cluster.ts';
import type { FaultKind } from './plan.ts';
import { skewPpmMax, type World } from './world.ts';

export class Faults {
  /** How often each kind happened. */
  readonly counts = new Map<string, number>();
  private readonly world: World;
  private readonly prng: Prng;
  /** Members that were made to end themselves: their disk was full, or failed. */
  private readonly excused = new Set<SimNode>();
  /** Elections to come that will be disturbed. */
  private elections = 0;
  /** Leaders to come that will not get far. */
  private leaders = 0;
  /** Each new leader is cut off soon, and the one before comes back. */
  private rotating = false;
  /** Nothing goes wrong any more. */
  private over = false;

  constructor(world: World) {
    this.world = world;
    this.prng = new Prng(world.prng.u32());
    world.witness.onCandidate = () => this.electionBegins();
    world.witness.onLeader = (node) => this.leaderBegins(node);
  }

  /** One more thing happens: a fault, or the end of all. */
  disturb(): void {
    const { plan } = this.world;
    if (plan.faults.length === 0 || this.prng.chance(plan.healChance)) {
      this.heal(false);
      return;
    }
    const kind = this.prng.pick(plan.faults);
    const node = this.prng.pick(this.world.cluster.nodes);
    if (kind === 'bitRot' && !this.mayRot(node)) return;
    this.world.trace.add(() => `fault ${kind} ${node.name}`);
    this.counts.set(kind, (this.counts.get(kind) ?? 0) + 1);
    this.inject(kind, node);
  }

  /** Everything is whole. Unless it is the last time, some members that are down stay down for a while. */
  heal(last: boolean): void {
    const { cluster, fronts, trace } = this.world;
    this.rotating = false;
    if (last) {
      this.over = true;
      this.elections = 0;
      this.leaders = 0;
    }
    trace.add(() => (last ? 'heal for good' : 'heal'));
    cluster.heal();
    for (const a of this.names()) {
      for (const b of this.names()) if (a !== b) cluster.network.setLink(a, b, {});
    }
    for (const node of cluster.nodes) {
      this.judge(node);
      node.host?.resume(this.prng);
      node.disk.slowFactor = 1;
      node.disk.capacityBytes = Number.POSITIVE_INFINITY;
      node.disk.fault = undefined;
    }
    for (const front of fronts) {
      front.host.resume();
      if (front.gateway === undefined) front.start();
    }
    for (const node of cluster.nodes) {
      const stays = !last && this.prng.chance(0.4);
      if (!stays && !node.running && !this.isStarting(node)) this.restart(node);
    }
  }

  /** After the last healing: who still ends itself, because of a disk call that had failed before, is started again. */
  supervise(): void {
    for (const node of this.world.cluster.nodes) {
      if (node.failure === undefined || node.running || this.world.isBroken(node) || isTooEarly(node))
        continue;
      this.restart(node);
    }
  }

  /** Power comes back at once: what was forgotten is asked for while others remember. */
  private bounce(node: SimNode): void {
    this.world.cluster.crash(node);
    this.restart(node);
  }

  private electionBegins(): void {
    if (this.elections === 0) return;
    this.elections--;
    const { cluster } = this.world;
    const delayMs = this.prng.float() * this.prng.pick([2, 10, 50]);
    const node = this.prng.pick(cluster.nodes);
    cluster.scheduler.after(delayMs, () => {
      if (cluster.nodes.includes(node) && !this.world.absent.has(node)) this.bounce(node);
    });
  }

  /** Who has just been elected fails before, or while, it brings its first entries to others (Raft, figure 8). */
  private leaderBegins(node: SimNode): void {
    this.world.trace.add(() => `${node.name} leads`);
    const { cluster, plan } = this.world;
    const delayMs = this.prng.float() * 8 * (plan.network.delayMs ?? 1);
    if (this.rotating) {
      cluster.scheduler.after(delayMs, () => this.rotate(node));
      return;
    }
    if (this.leaders === 0) return;
    this.leaders--;
    const kind = this.prng.below(4);
    cluster.scheduler.after(delayMs, () => {
      if (this.over || !node.running || !cluster.nodes.includes(node)) return;
      if (kind === 0) this.bounce(node);
      else if (kind === 1) cluster.crash(node);
      else cluster.isolate(node);
    });
  }

  private rotate(node: SimNode): void {
    if (!this.rotating || !node.running) return;
    const { cluster } = this.world;
    cluster.heal();
    cluster.isolate(node);
  }

  /** The next sync, or the one after, is cut short by a power failure. */
  private crashAtSync(node: SimNode): void {
    let syncs = this.prng.below(3);
    node.disk.fault = ({ op }) => {
      if (op !== 'sync' || syncs-- !== 0) return undefined;
      const delayMs = this.prng.float() * 3;
      this.world.cluster.scheduler.after(delayMs, () => {
        node.disk.fault = undefined;
        this.bounce(node);
      });
      return undefined;
    };
  }

  /**
   * One of the three or five that the cluster began with, and not a second one before the first has started from its log: what a quorum has
   * lost nobody can bring back. Nor where membership changes: a crash may take the news of one back, and then the votes are
   * needed of machines that are gone.
   */
  private mayRot(node: SimNode): boolean {
    const { absent, cluster, plan, rotten } = this.world;
    const isSound = (other: SimNode): boolean =>
      !other.joins && (!rotten.has(other) || (other.running && other.host !== rotten.get(other)));
    const isWhole =
      cluster.nodes.length === plan.members && absent.size === 0 && cluster.nodes.every(isSound);
    return plan.members >= 3 && !plan.memberChanges && isWhole && segments(node).length > 0;
  }

  /** Bits of its log flip while it runs or is down. If it reads them, at its next start, it must say so and not start. */
  private rot(node: SimNode): void {
    const flips = this.prng.pick([1, 1, 1, 3]);
    const path = this.prng.pick(segments(node));
    for (let i = 0; i < flips; i++) node.disk.rotWritten(path);
    this.world.rotten.set(node, node.host);
    this.world.trace.add(() => `${flips} bits flip in ${path} of ${node.name}`);
  }

  private restart(node: SimNode): void {
    this.judge(node);
    if (this.world.absent.has(node) || (isRemoved(node) && !isTooEarly(node))) return;
    // One that did not open lives on as a process without a member.
    this.world.cluster.kill(node);
    const healthy = node.disk.fault === undefined && node.disk.capacityBytes === Number.POSITIVE_INFINITY;
    if (healthy) this.excused.delete(node);
    this.world.cluster.startNode(node);
  }

  private isStarting(node: SimNode): boolean {
    return node.host?.alive === true && node.failure === undefined;
  }

  /** A member ends itself only when its disk gave it a reason. */
  private judge(node: SimNode): void {
    if (node.failure === undefined || this.excused.has(node)) return;
    if (this.world.isBroken(node)) return;
    if (this.world.hasOperator && (isRemoved(node) || isTooEarly(node))) return;
    this.world.violation(`${node.name} ended itself: ${node.failure}`);
  }

  private inject(kind: FaultKind, node: SimNode): void {
    const { cluster, fronts } = this.world;
    const { network } = cluster;
    const leader = cluster.leader() ?? node;
    const front = this.prng.pick(fronts);
    switch (kind) {
      case 'crash':
        return cluster.crash(node);
      case 'kill':
        return cluster.kill(node);
      case 'crashAll':
        for (const each of cluster.nodes) cluster.crash(each);
        return;
      case 'crashLeader':
        return cluster.crash(leader);
      case 'bounce':
        return this.bounce(node);
      case 'bounceAll':
        for (const each of cluster.nodes) this.bounce(each);
        return;
      case 'crashAtElection':
        this.elections += 1 + this.prng.below(3);
        return;
      case 'newLeaderFails':
        this.leaders += 1 + this.prng.below(3);
        return;
      case 'rotateLeaders':
        this.rotating = true;
        return;
      case 'crashAtSync':
        return this.crashAtSync(node);
      case 'isolate':
        return cluster.isolate(node);
      case 'isolateLeader':
        return cluster.isolate(leader);
      case 'partition':
        return this.partition();
      case 'cutOneWay':
        return network.cut(node.name, this.prng.pick(cluster.nodes).name);
      case 'cutGateway':
        network.cut(front.name, node.name);
        if (this.prng.chance(0.5)) network.cut(node.name, front.name);
        return;
      case 'break':
        return network.breakBetween(node.name, this.prng.pick(this.names()));
      case 'pause':
        return node.host?.pause();
      case 'pauseLeader':
        return leader.host?.pause();
      case 'clockJump':
        return node.clock.jump((this.prng.float() - 0.5) * 20_000_000);
      case 'clockSkew':
        return node.clock.setSkew((this.prng.float() * 2 - 1) * skewPpmMax);
      case 'gatewayRestart':
        return front.gateway === undefined ? front.start() : front.kill();
      case 'gatewayPause':
        return front.host.pause();
      default:
        return this.hurtMachine(kind, node, front.name);
    }
  }

  private hurtMachine(kind: FaultKind, node: SimNode, front: string): void {
    const { network } = this.world.cluster;
    switch (kind) {
      case 'slowDisk':
        node.disk.slowFactor = this.prng.pick([10, 50, 200]);
        return;
      case 'slowLink': {
        const other = this.prng.chance(0.3) ? front : this.prng.pick(this.names());
        const delayMs = this.prng.pick([20, 75, 300]);
        network.setLink(node.name, other, { delayMs });
        if (this.prng.chance(0.5)) network.setLink(other, node.name, { delayMs });
        return;
      }
      case 'diskFull':
        this.excused.add(node);
        node.disk.capacityBytes = node.disk.usedBytes() + this.prng.below(8_000);
        return;
      case 'diskError': {
        this.excused.add(node);
        const op = this.prng.pick(['write', 'sync'] as const);
        node.disk.fault = (call) => (call.op === op ? 'EIO' : undefined);
        return;
      }
      case 'bitRot':
        return this.rot(node);
      default:
        return;
    }
  }

  private partition(): void {
    const groups: [string[], string[]] = [[], []];
    for (const name of this.names()) groups[this.prng.below(2)]!.push(name);
    this.world.cluster.network.partition(groups);
  }

  private names(): string[] {
    return [...this.world.cluster.nodes, ...this.world.fronts].map((each) => each.name);
  }
}

function segments(node: SimNode): string[] {
  return node.disk.files().filter((path) => path.endsWith('.wal'));
}

/** It says itself that it is no member any more. Whoever said so must be right: the rest works without it. */
function isRemoved(node: SimNode): boolean {
  return node.failure?.includes('removed from the cluster') === true;
}

/** It wanted to join, and asked a member that has not heard of it yet. Its supervisor tries again. */
export function isTooEarly(node: SimNode): boolean {
  const { failure } = node;
  if (failure === undefined || !node.joins || node.disk.files().some((path) => path.endsWith('.wal')))
    return false;
  return failure.includes('add it first') || isRemoved(node);
}
