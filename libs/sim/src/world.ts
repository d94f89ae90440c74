/** One simulated deployment: members, gateways, clients, and the checkers that see all of it. */
import { Prng } from '@quoin/base';
import { decodeLeaseExpireRequest, Method, type Proposal, readLeaseRevokeRequest } from '@quoin/contracts';
import type { MemberStatus } from '@quoin/member';
import { type Ending, History, type Operation } from './checkers/history.ts';
import { LeaseChecker } from './checkers/lease.ts';
import { withOperation } from './checkers/operation-id.ts';
import { type Identity, RightsChecker } from './checkers/rights.ts';
import type { WatchChecker } from './checkers/watch.ts';
import { type Applied, Witness } from './checkers/witness.ts';
import type { SimHost } from './clock.ts';
import { SimCluster, type SimNode } from './cluster.ts';
import { rangeRequest } from './etcd-messages.ts';
import { FrontClient, SimFront } from './front.ts';
import { makePlan, type Plan } from './plan.ts';
import { Trace } from './trace.ts';
import type { User } from './workloads/user.ts';

/** A promise was broken. */
export class SimViolation extends Error {}

/** How far a clock runs fast or slow, at most. */
export const skewPpmMax = 5_000;

export interface WorldOptions {
  /** Takes the place of what the seed decides. */
  readonly plan?: Partial<Plan>;
  readonly trace?: (line: string) => void;
}

export class World {
  readonly prng: Prng;
  readonly plan: Plan;
  readonly cluster: SimCluster;
  readonly fronts: SimFront[];
  readonly trace: Trace;
  readonly witness: Witness;
  readonly history: History;
  readonly leases: LeaseChecker;
  readonly rights: RightsChecker;
  readonly watchers: WatchChecker[] = [];
  /** Called for each new revision of the model. */
  readonly onRevision: ((revision: number) => void)[] = [];
  /** Machines that are not members yet, and are not to be started. */
  readonly absent = new Set<SimNode>();
  /** Members whose log was damaged behind their back, with the life in which that happened. */
  readonly rotten = new Map<SimNode, SimHost | undefined>();
  /** Workloads begin new things while it holds. */
  working = true;
  inFlight = 0;

  constructor(seed: number, options: WorldOptions) {
    this.prng = new Prng(seed);
    this.plan = { ...makePlan(this.prng, seed), ...options.plan };
    const { plan } = this;
    const violation = (message: string): never => this.violation(message);
    this.witness = new Witness(violation);
    this.cluster = new SimCluster({
      seed: this.prng.u32(),
      members: plan.members,
      limits: plan.memberLimits,
      network: plan.network,
      disk: plan.disk,
      flushMs: plan.flushMs,
      ...(options.trace === undefined
        ? {}
        : { log: (line) => this.trace.add(() => line.slice(line.indexOf(' ') + 1)) }),
      probe: (node) => this.witness.probe(node),
    });
    this.trace = new Trace(() => this.nowMs, options.trace);
    this.history = new History(this.witness, violation);
    this.leases = new LeaseChecker((2.5 * skewPpmMax) / 1_000_000, violation);
    this.rights = new RightsChecker({
      witness: this.witness,
      nowMs: () => this.nowMs,
      tokenMs: tokenMs(plan),
      violation,
    });
    this.witness.onApply = (proposal, number, applied) => {
      if (number !== undefined) this.rights.applied(this.history.applied(number, applied), proposal, applied);
      this.leaseApplied(proposal, applied);
      if (applied.revisionAfter === applied.revisionBefore) return;
      for (const check of this.onRevision) check(applied.revisionAfter);
    };
    this.fronts = Array.from(
      { length: plan.gateways },
      (_, i) => new SimFront(this.cluster, `g${i + 1}`, plan.gatewayLimits),
    );
  }

  /** Somebody looks after the membership: replaces members for fun, or because their log is damaged. */
  get hasOperator(): boolean {
    const { faults, memberChanges, members } = this.plan;
    return memberChanges || (members > 1 && faults.includes('bitRot'));
  }

  /** It has refused to start from a damaged log; nothing but taking its place helps. */
  isBroken(node: SimNode): boolean {
    return this.rotten.has(node) && node.failure?.includes(' is corrupt at offset ') === true;
  }

  /** As the member has it that has applied most; undefined when that one does not run. */
  membership(): MemberStatus['members'] | undefined {
    let found: MemberStatus | undefined;
    for (const node of this.cluster.nodes) {
      const status = node.running ? node.member!.status() : undefined;
      if (status !== undefined && status.appliedIndex > (found?.appliedIndex ?? 0)) found = status;
    }
    // A view that is behind what somebody applied may lack a member, or show one that was removed.
    return found?.appliedIndex === this.witness.appliedIndex ? found.members : undefined;
  }

  get nowMs(): number {
    return this.cluster.scheduler.nowMs;
  }

  violation(message: string): never {
    this.trace.add(() => `VIOLATION ${message}`);
    throw new SimViolation(message);
  }

  private leaseApplied(proposal: Proposal, applied: Applied): void {
    if (applied.outcome.kind === 'refused') return;
    if (proposal.method === Method.leaseRevoke) {
      this.leases.revokes(readLeaseRevokeRequest(proposal.body).id);
    } else if (proposal.method === Method.leaseExpire) {
      for (const id of decodeLeaseExpireRequest(proposal.body).ids) this.leases.expires(id, this.nowMs);
    }
  }
}

/** How long a token is certain to live: it tells whole seconds, and clocks may run fast. */
function tokenMs({ faults, memberLimits }: Plan): number {
  if (faults.includes('clockJump')) return 0;
  return (memberLimits.authTokenTtlSeconds ?? 300) * 1_000 * (1 - (2.5 * skewPpmMax) / 1_000_000) - 1_000;
}

const asRoot: Identity = { user: 'root', session: undefined };

const paths = {
  range: '/etcdserverpb.KV/Range',
  put: '/etcdserverpb.KV/Put',
  delete: '/etcdserverpb.KV/DeleteRange',
  txn: '/etcdserverpb.KV/Txn',
  compact: '/etcdserverpb.KV/Compact',
  grant: '/etcdserverpb.Lease/LeaseGrant',
  revoke: '/etcdserverpb.Lease/LeaseRevoke',
  memberAdd: '/etcdserverpb.Cluster/MemberAdd',
  memberRemove: '/etcdserverpb.Cluster/MemberRemove',
  memberPromote: '/etcdserverpb.Cluster/MemberPromote',
  moveLeader: '/etcdserverpb.Maintenance/MoveLeader',
  authEnable: '/etcdserverpb.Auth/AuthEnable',
  authDisable: '/etcdserverpb.Auth/AuthDisable',
  authenticate: '/etcdserverpb.Auth/Authenticate',
  userAdd: '/etcdserverpb.Auth/UserAdd',
  userDelete: '/etcdserverpb.Auth/UserDelete',
  userChangePassword: '/etcdserverpb.Auth/UserChangePassword',
  userGrantRole: '/etcdserverpb.Auth/UserGrantRole',
  userRevokeRole: '/etcdserverpb.Auth/UserRevokeRole',
  roleAdd: '/etcdserverpb.Auth/RoleAdd',
  roleDelete: '/etcdserverpb.Auth/RoleDelete',
  roleGrantPermission: '/etcdserverpb.Auth/RoleGrantPermission',
  roleRevokePermission: '/etcdserverpb.Auth/RoleRevokePermission',
} as const;
export type CallName = keyof typeof paths;

/** What the log has of these does not tell whose they were, and anybody may log in. */
const unmarked: ReadonlySet<CallName> = new Set(['authEnable', 'authenticate']);

/** A client: one thing after the other, through the gateway it is at until that fails. */
export class SimUser implements User {
  readonly world: World;
  readonly prng: Prng;
  readonly client: FrontClient;
  private readonly name: string;
  private front: SimFront;
  private by: Identity;

  constructor(world: World, name: string) {
    this.world = world;
    this.by = asRoot;
    this.name = name;
    this.prng = new Prng(world.prng.u32());
    this.client = new FrontClient(world.cluster, name);
    this.front = this.prng.pick(world.fronts);
    if (world.plan.auth) this.comeAs(asRoot);
  }

  /** Whose calls the next ones are. Where authentication is in the plan it is root's, by certificate, unless another is named. */
  comeAs(by: Identity): void {
    this.by = by;
    this.client.token = by.session?.token ?? '';
    this.client.certUser = by.session === undefined ? by.user : '';
  }

  /** Runs `fn` after about so many ms. */
  later(meanMs: number, fn: () => void): void {
    this.client.host.enqueue(meanMs * 2 * this.prng.float(), fn);
  }

  goTo(front: SimFront): void {
    this.front = front;
  }

  /** A gateway to begin a stream at. */
  pickFront(): SimFront {
    return this.prng.pick(this.world.fronts);
  }

  /** `build` makes the request from the operation's number. */
  mutate(
    name: CallName,
    build: (number: number) => Uint8Array,
    done: (ending: Ending, operation: Operation) => void,
  ): void {
    const number = this.world.history.nextNumber;
    const request = name === 'grant' ? build(number) : withOperation(build(number), number);
    this.call('mutation', name, request, done);
  }

  read(request: Uint8Array, serializable: boolean, done: (ending: Ending) => void): void {
    this.call(serializable ? 'serializableRead' : 'read', 'range', request, done);
  }

  /** Every key that there is. */
  readAll(done: (ending: Ending) => void): void {
    this.read(rangeRequest('\0', { end: '\0' }), false, done);
  }

  call(
    kind: Operation['kind'],
    name: CallName,
    request: Uint8Array,
    done: (ending: Ending, operation: Operation) => void,
  ): void {
    const { world, front } = this;
    const operation = world.history.begin(kind, name, request);
    if (world.plan.auth && !unmarked.has(name)) world.rights.begins(operation, this.by);
    const deadlineMs = this.prng.pick(world.working ? [300, 2_000, 7_000] : [7_000]);
    world.inFlight++;
    world.trace.add(() => `${this.name} ${name} #${operation.number} at ${front.name}`);
    this.client.unary(front, paths[name], request, deadlineMs, (ending) => {
      world.inFlight--;
      const how = ending.kind === 'error' ? ending.status.message : ending.kind;
      world.trace.add(() => `${this.name} ${name} #${operation.number}: ${how}`);
      world.history.end(operation, ending);
      world.rights.ended(operation, ending);
      if (ending.kind !== 'ok') this.front = this.prng.pick(world.fronts);
      done(ending, operation);
    });
  }
}
