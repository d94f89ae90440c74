/**
 * What goes wrong, to whom and for how long: drawn from the seed. Two lanes of faults run side by side, so that they
 * overlap; a process or a disk has one of its kind at a time.
 */
import type { Prng } from '@quoin/base';
import type { Child } from '../support/child.ts';
import type { Cluster } from '../support/cluster.ts';
import type { Disks } from './disks.ts';
import type { ProxyNetwork } from './network.ts';

export const faultKinds = [
  'kill',
  'killAll',
  'killGateway',
  'pause',
  'pauseGateway',
  'isolate',
  'oneWay',
  'gatewayCut',
  'delay',
  'reset',
  'diskFull',
  'diskSlow',
  'diskStall',
] as const;
export type FaultKind = (typeof faultKinds)[number];

export const diskKinds: readonly FaultKind[] = ['diskFull', 'diskSlow', 'diskStall'];

export const linkKinds: readonly FaultKind[] = ['isolate', 'oneWay', 'gatewayCut', 'delay', 'reset'];

/** Names that stand for several kinds, on the command line. */
export const faultGroups: Readonly<Record<string, readonly FaultKind[]>> = {
  kill: ['kill', 'killAll', 'killGateway'],
  pause: ['pause', 'pauseGateway'],
  partition: ['isolate', 'oneWay', 'gatewayCut'],
  network: ['delay', 'reset'],
  disk: diskKinds,
};

export interface FaultWorld {
  readonly cluster: Cluster;
  readonly network: ProxyNetwork;
  readonly disks: Disks | undefined;
  /** The index of the member that was last seen to lead. */
  readonly leader: () => number;
  readonly record: (text: string) => void;
}

const meanGapMs = 700;
const deathWithinMs = 6_000;
const lateDeathMs = 5_000;

const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

export class Faults {
  readonly counts = new Map<FaultKind, number>();
  /** Members whose disk gave them a reason to end themselves, and until when that counts. */
  private readonly excuses = new Map<string, number>();
  private readonly world: FaultWorld;
  private readonly kinds: readonly FaultKind[];
  private readonly prng: Prng;
  private readonly busy = new Set<string>();
  private lanes: Promise<void>[] = [];
  private over = false;
  private failure: unknown = undefined;

  constructor(world: FaultWorld, kinds: readonly FaultKind[], prng: Prng) {
    this.world = world;
    this.kinds = kinds;
    this.prng = prng;
  }

  start(): void {
    if (this.kinds.length === 0) return;
    const failed = (error: unknown): void => {
      this.failure ??= error;
    };
    this.lanes = [this.lane().catch(failed), this.lane().catch(failed)];
  }

  mayEnd(name: string): boolean {
    return (this.excuses.get(name) ?? 0) > performance.now();
  }

  /** Ends all faults: everything runs, nothing is cut, slow or full. */
  async stop(): Promise<void> {
    this.over = true;
    await Promise.all(this.lanes);
    if (this.failure !== undefined) throw this.failure;
    const { cluster, network } = this.world;
    network.heal();
    for (const child of [...cluster.members, ...cluster.gateways]) {
      if (child.running) await child.kill('SIGCONT');
      else child.start();
    }
  }

  private async lane(): Promise<void> {
    while (!this.over) {
      await sleep(meanGapMs * 2 * this.prng.float());
      if (!this.over) await this[this.prng.pick(this.kinds)]();
    }
  }

  /** Waits, but not beyond the end of all faults. */
  private async last(fromMs: number, toMs: number): Promise<void> {
    const untilMs = performance.now() + fromMs + (toMs - fromMs) * this.prng.float();
    while (!this.over && performance.now() < untilMs) await sleep(50);
  }

  /** Runs `fault` unless one of the names has one of that kind already. */
  private async on(
    kind: FaultKind,
    names: readonly string[],
    text: string,
    fault: () => Promise<void>,
  ): Promise<void> {
    if (names.some((name) => this.busy.has(name))) return;
    for (const name of names) this.busy.add(name);
    this.counts.set(kind, (this.counts.get(kind) ?? 0) + 1);
    this.world.record(`${kind} ${text}`);
    try {
      await fault();
      this.world.record(`${kind} ${text}: over`);
    } finally {
      for (const name of names) this.busy.delete(name);
    }
  }

  /** The leader half of the time. */
  private member(): Child {
    const { cluster, leader } = this.world;
    return this.prng.chance(0.5) ? cluster.members[leader()]! : this.prng.pick(cluster.members);
  }

  private async death(of: readonly Child[]): Promise<void> {
    await Promise.all(of.map((child) => child.kill('SIGKILL')));
    await this.last(50, 3_000);
    for (const child of of) if (!child.running) child.start();
  }

  private kill(): Promise<void> {
    const member = this.member();
    return this.on('kill', [member.name], member.name, () => this.death([member]));
  }

  private killAll(): Promise<void> {
    const { members } = this.world.cluster;
    const names = members.map((member) => member.name);
    return this.on('killAll', names, names.join(), () => this.death(members));
  }

  private killGateway(): Promise<void> {
    const gateway = this.prng.pick(this.world.cluster.gateways);
    return this.on('killGateway', [gateway.name], gateway.name, () => this.death([gateway]));
  }

  private async still(child: Child): Promise<void> {
    await child.kill('SIGSTOP');
    await this.last(100, 4_000);
    await child.kill('SIGCONT');
  }

  private pause(): Promise<void> {
    const member = this.member();
    return this.on('pause', [member.name], member.name, () => this.still(member));
  }

  private pauseGateway(): Promise<void> {
    const gateway = this.prng.pick(this.world.cluster.gateways);
    return this.on('pauseGateway', [gateway.name], gateway.name, () => this.still(gateway));
  }

  /** The names that are at the other end of a member's links: its peers, and the gateways unless left out. */
  private othersOf(name: string, withGateways: boolean): string[] {
    const { members, gateways } = this.world.cluster;
    const others = withGateways ? [...members, ...gateways] : members;
    return others.map((child) => child.name).filter((other) => other !== name);
  }

  private async links(
    links: readonly (readonly [string, string])[],
    during: () => Promise<void>,
    of: object,
  ): Promise<void> {
    const { network } = this.world;
    for (const [from, to] of links) network.set(from, to, of);
    await during();
    // What was held goes on, or the connections have died meanwhile.
    if (this.prng.chance(0.5)) {
      const ends = new Set(links.flatMap(([from, to]) => [`${from}>${to}`, `${to}>${from}`]));
      network.breakConnections((opener, member) => ends.has(`${opener}>${member}`));
    }
    for (const [from, to] of links) network.set(from, to, undefined);
  }

  /** Cut off from its peers, and from the gateways or not: then they still believe in it. */
  private isolate(): Promise<void> {
    const { name } = this.member();
    const withGateways = this.prng.chance(0.5);
    const links = this.othersOf(name, withGateways).flatMap((other): [string, string][] => [
      [name, other],
      [other, name],
    ]);
    const text = `${name} from ${withGateways ? 'all' : 'its peers'}`;
    return this.on('isolate', [`link ${name}`], text, () =>
      this.links(links, () => this.last(300, 5_000), { cut: true }),
    );
  }

  private oneWay(): Promise<void> {
    const { name } = this.member();
    const deaf = this.prng.chance(0.5);
    const links = this.othersOf(name, true).map((other): [string, string] =>
      deaf ? [other, name] : [name, other],
    );
    return this.on('oneWay', [`link ${name}`], `${name} ${deaf ? 'hears' : 'is heard by'} nobody`, () =>
      this.links(links, () => this.last(300, 5_000), { cut: true }),
    );
  }

  private gatewayCut(): Promise<void> {
    const { cluster } = this.world;
    const { name } = this.prng.pick(cluster.gateways);
    const members = this.prng.chance(0.3) ? cluster.members : [this.member()];
    const links = members.flatMap((member): [string, string][] => [
      [name, member.name],
      [member.name, name],
    ]);
    return this.on('gatewayCut', [`link ${name}`], `${name} from ${members.map((m) => m.name).join()}`, () =>
      this.links(links, () => this.last(300, 5_000), { cut: true }),
    );
  }

  private delay(): Promise<void> {
    const { name } = this.member();
    const delayMs = this.prng.pick([2, 20, 100, 300]);
    const links = this.othersOf(name, true).flatMap((other): [string, string][] => [
      [name, other],
      [other, name],
    ]);
    return this.on('delay', [`link ${name}`], `${name} by ${delayMs} ms`, () =>
      this.links(links, () => this.last(500, 4_000), { delayMs, jitterMs: delayMs }),
    );
  }

  /** Connections die, again and again, with what they had under way. */
  private reset(): Promise<void> {
    const { name } = this.prng.chance(0.3) ? this.prng.pick(this.world.cluster.gateways) : this.member();
    return this.on('reset', [`reset ${name}`], `connections of ${name}`, async () => {
      for (let left = 1 + this.prng.below(8); left > 0 && !this.over; left--) {
        const chance = this.prng.chance(0.5) ? 1 : 0.4;
        this.world.network.breakConnections(
          (opener, member) => (opener === name || member === name) && this.prng.chance(chance),
        );
        await sleep(400 * this.prng.float());
      }
    });
  }

  private diskFull(): Promise<void> {
    const member = this.member();
    const disk = this.world.disks!.of(member.name);
    return this.on('diskFull', [member.name, `disk ${member.name}`], member.name, async () => {
      this.excuses.set(member.name, Number.POSITIVE_INFINITY);
      await disk.fill();
      const untilMs = performance.now() + deathWithinMs * this.prng.float();
      while (!this.over && member.running && performance.now() < untilMs) await sleep(50);
      if (!member.running) {
        this.world.record(`diskFull ${member.name}: it has ended itself`);
        // Some come back while there is no room yet: they may end again, and must not lose anything by it.
        if (this.prng.chance(0.3)) member.start();
        await this.last(200, 2_000);
      }
      disk.free();
      // It may be about to end by what it has met: from its last line to its end it takes up to a second.
      await sleep(2_000);
      this.excuses.set(member.name, performance.now() + lateDeathMs);
      if (!member.running) member.start();
    });
  }

  private diskSlow(): Promise<void> {
    const member = this.member();
    const disk = this.world.disks!.of(member.name);
    return this.on('diskSlow', [`disk ${member.name}`], member.name, async () => {
      const untilMs = performance.now() + 1_000 + 3_000 * this.prng.float();
      const { pid } = member;
      if (this.world.disks!.slowBy === 'blkio cgroup' && pid !== undefined) {
        disk.slow(pid);
        while (!this.over && performance.now() < untilMs) await sleep(50);
        disk.fast();
        return;
      }
      while (!this.over && performance.now() < untilMs) {
        await disk.stall(60 + 60 * this.prng.float());
        await sleep(40);
      }
    });
  }

  private diskStall(): Promise<void> {
    const member = this.member();
    const disk = this.world.disks!.of(member.name);
    return this.on('diskStall', [`disk ${member.name}`], member.name, () =>
      disk.stall(200 + 2_500 * this.prng.float()),
    );
  }
}
