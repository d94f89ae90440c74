/**
 * One run of the whole deployment, all of it drawn from one seed:
 *
 *   start ──► clients at work while faults happen ──► all healed ──► everything that is asked for succeeds in time
 *                   every answer and every event is checked as it arrives                states are equal
 */

import { etcdErrors } from '@quoin/contracts';
import { putRequest } from './etcd-messages.ts';
import { Faults } from './faults.ts';
import type { FaultKind, Plan } from './plan.ts';
import { Auth } from './workloads/auth.ts';
import { runBank, watchBank } from './workloads/bank.ts';
import { runCompactions } from './workloads/compaction.ts';
import { runKv } from './workloads/kv.ts';
import { runLeases } from './workloads/lease.ts';
import { Operator } from './workloads/membership.ts';
import { runWatcher } from './workloads/watch.ts';
import { SimUser, SimViolation, World } from './world.ts';

export interface SimulateOptions {
  /** Takes the place of what the seed decides. */
  readonly plan?: Partial<Plan>;
  /** Receives each line of what happens. */
  readonly trace?: (line: string) => void;
}

export interface SimReport {
  readonly seed: number;
  /** Undefined: all promises were kept. */
  readonly failure: string | undefined;
  readonly members: number;
  readonly virtualMs: number;
  readonly events: number;
  readonly operations: number;
  readonly acknowledged: number;
  readonly unknown: number;
  readonly revision: number;
  readonly leaders: number;
  readonly snapshots: number;
  readonly watchEvents: number;
  readonly bookmarks: number;
  readonly leaseRenewals: number;
  readonly leaseExpiries: number;
  /** Changes of users, roles, grants and of whether they count; answers to ordinary users; tokens that were given. */
  readonly authChanges: number;
  readonly allowed: number;
  readonly denied: number;
  readonly logins: number;
  readonly faults: Readonly<Record<string, number>>;
}

/** Bounds within which a healed cluster must be well again, in virtual ms. */
const membershipWithinMs = 30_000;
const leaderWithinMs = 15_000;
const silentLinksMs = 6_500;
const answersWithinMs = 15_000;
const evenWithinMs = 20_000;
const watchersWithinMs = 15_000;
const leasesWithinMs = 15_000;

export function simulate(seed: number, options: SimulateOptions = {}): SimReport {
  const world = new World(seed, options);
  const run = new Run(world);
  let failure: string | undefined;
  try {
    run.all();
  } catch (error) {
    const { message, stack } = error as Error;
    failure = error instanceof SimViolation ? message : (stack ?? message);
    world.trace.add(() => `failed: ${message}`);
  }
  return run.report(seed, failure);
}

class Run {
  private readonly world: World;
  private readonly faults: Faults;
  private readonly operator: Operator | undefined;
  private auth: Auth | undefined;
  /** Index and hash of states, by index: equal wherever they are seen. */
  private readonly hashes = new Map<number, { hash: number; by: string }>();

  constructor(world: World) {
    this.world = world;
    this.faults = new Faults(world);
    this.operator = world.hasOperator ? new Operator(world) : undefined;
    this.auth = undefined;
  }

  all(): void {
    const { world } = this;
    const { cluster, plan, prng } = world;
    world.trace.add(() => planLine(plan));
    cluster.start();
    for (const front of world.fronts) front.start();
    this.startWorkloads();
    const untilMs = world.nowMs + plan.faultsMs;
    while (world.nowMs < untilMs) {
      cluster.run(plan.faultEveryMs * 2 * prng.float());
      this.faults.disturb();
      if (prng.chance(0.3)) this.compareStates();
    }
    this.recover();
  }

  private startWorkloads(): void {
    const { world } = this;
    const { plan } = world;
    for (let i = 0; i < plan.clients; i++) runKv(world, `kv${i}`);
    for (let i = 0; i < plan.bankers; i++) runBank(world, `bank${i}`);
    for (let i = 0; i < plan.leaseHolders; i++) runLeases(world, `lease${i}`);
    for (let i = 0; i < plan.watchers; i++) runWatcher(world, `watch${i}`);
    if (plan.compactions) runCompactions(world);
    if (this.operator !== undefined) this.operator.run();
    watchBank(world);
    // Last: all others draw what they would have drawn.
    if (plan.auth) this.auth = new Auth(world);
    this.auth?.run();
  }

  private recover(): void {
    const { world } = this;
    const { cluster } = world;
    this.faults.heal(true);
    world.working = false;
    this.settleMembership();
    this.within(leaderWithinMs, 'a leader that all know', () => this.agreed());
    // A gateway takes a silent link for dead after 4 s, and pauses before it dials again.
    cluster.run(silentLinksMs);
    this.faults.heal(true);
    this.within(answersWithinMs, 'an answer to every call', () => world.inFlight === 0);
    this.writeOnce();
    this.within(
      leasesWithinMs,
      'the end of leases that nobody keeps',
      () => world.witness.model.leases.size === 0,
    );
    this.writeOnce();
    if (this.auth !== undefined) this.useRights(this.auth);
    const { revision } = world.witness.model;
    this.within(evenWithinMs, 'the same index on all members', () => this.even());
    this.compareStates(true);
    for (const node of cluster.nodes) {
      const alarms = node.member!.status().alarms.length;
      if (alarms > 0) world.violation(`${node.name} has ${alarms} alarms, and nothing was wrong`);
    }
    const behind = (): string =>
      world.watchers
        .filter((watcher) => !watcher.isPast(revision))
        .map((watcher) => watcher.missing(revision))
        .join();
    this.within(watchersWithinMs, 'all events at all watchers', () => behind() === '', behind);
    for (const front of world.fronts) this.readAll(front.name);
  }

  private settleMembership(): void {
    const { operator, world } = this;
    if (operator === undefined) return;
    const show = (): string => {
      const names = world.cluster.nodes.map((node) => node.name).join();
      return `(machines ${names}, waiting ${[...world.absent].map((node) => node.name).join()})`;
    };
    this.within(membershipWithinMs, 'end of membership changes', () => operator.isSettled(), show);
  }

  /** Every gateway takes a write and says that it is there. */
  private writeOnce(): void {
    const { world } = this;
    let written = 0;
    for (const front of world.fronts) {
      const user = new SimUser(world, `last-${front.name}`);
      user.goTo(front);
      user.mutate(
        'put',
        (n) => putRequest('z', `v${n}`),
        (ending) => {
          if (ending.kind !== 'ok') world.violation(`a put after healing: ${JSON.stringify(ending)}`);
          written++;
        },
      );
    }
    this.within(answersWithinMs, 'writes after healing', () => written === world.fronts.length);
  }

  /** Who has the rights may at every gateway; once they are taken from him, at none. */
  private useRights(auth: Auth): void {
    const { fronts } = this.world;
    const steps: ((done: () => void) => void)[] = [
      (done) => auth.restore(done),
      ...fronts.map((front) => (done: () => void) => auth.expectPuts(front, '', done)),
      (done) => auth.takeAll(done),
      ...fronts.map(
        (front) => (done: () => void) => auth.expectPuts(front, etcdErrors.permissionDenied.message, done),
      ),
    ];
    for (const step of steps) {
      let over = false;
      step(() => {
        over = true;
      });
      this.within(answersWithinMs, 'answers about rights after healing', () => over);
    }
  }

  private readAll(name: string): void {
    const { world } = this;
    let answered = false;
    const user = new SimUser(world, `reader-${name}`);
    user.goTo(world.fronts.find((front) => front.name === name)!);
    user.readAll((ending) => {
      if (ending.kind !== 'ok') world.violation(`a read after healing: ${JSON.stringify(ending)}`);
      answered = true;
    });
    this.within(answersWithinMs, 'a read after healing', () => answered);
  }

  private within(ms: number, what: string, holds: () => boolean, more: () => string = () => ''): void {
    const { cluster } = this.world;
    const untilMs = this.world.nowMs + ms;
    while (!holds()) {
      if (this.world.nowMs >= untilMs) this.world.violation(`no ${what} within ${ms} ms ${more()}`);
      this.faults.supervise();
      cluster.run(10);
    }
  }

  private agreed(): boolean {
    const { cluster } = this.world;
    const leader = cluster.leader();
    if (leader === undefined) return false;
    const { memberId } = leader.member!;
    return cluster.nodes.every((node) => node.running && node.member!.status().leader === memberId);
  }

  private even(): boolean {
    const statuses = this.world.cluster.nodes.map((node) => node.member?.status());
    const first = statuses[0]?.appliedIndex;
    return statuses.every((s) => s !== undefined && s.appliedIndex === first && s.commitIndex === first);
  }

  /** Members that stand at an index at which another stood have the state that the other had. */
  private compareStates(all = false): void {
    const { world } = this;
    let waiting = 0;
    for (const node of world.cluster.nodes) {
      if (!node.running) continue;
      waiting++;
      node.member!.stateHash((index, hash) => {
        waiting--;
        // Who joins has nothing but the addresses that somebody told it.
        if (index === 0) return;
        const seen = this.hashes.get(index);
        if (seen === undefined) this.hashes.set(index, { hash, by: node.name });
        else if (seen.hash !== hash) {
          world.violation(`at index ${index} the states of ${seen.by} and ${node.name} differ`);
        }
      });
    }
    if (all) this.within(5_000, 'state hashes', () => waiting === 0);
  }

  report(seed: number, failure: string | undefined): SimReport {
    const { world } = this;
    const { history, witness, leases, rights, watchers, cluster } = world;
    return {
      seed,
      failure,
      members: cluster.nodes.length,
      virtualMs: world.nowMs,
      events: cluster.scheduler.events,
      operations: history.begun,
      acknowledged: history.acknowledged,
      unknown: history.unknown,
      revision: witness.model.revision,
      leaders: witness.leaderTerms,
      snapshots: witness.snapshots,
      watchEvents: watchers.reduce((sum, watcher) => sum + watcher.events, 0),
      bookmarks: watchers.reduce((sum, watcher) => sum + watcher.bookmarks, 0),
      leaseRenewals: leases.renewals,
      leaseExpiries: leases.expiries,
      authChanges: witness.auth.states.length - 1,
      allowed: rights.allowed,
      denied: rights.denied,
      logins: rights.logins,
      faults: Object.fromEntries(this.faults.counts) as Record<FaultKind, number>,
    };
  }
}

function planLine(plan: Plan): string {
  return `plan ${JSON.stringify(plan)}`;
}
