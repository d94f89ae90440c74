/**
 * Users, roles and grants that change all the time, and ordinary users who read and write by them.
 *
 *     officer (root)   everybody there, granted, authentication on ──► takes away, gives, deletes, adds, off, on …
 *     alice            by the name in her certificate              ┐
 *     bob              by password and token, logs in again         ├ put, get, delete, txn of keys below `u`, now and then of others
 *                      when it is refused, tries old tokens too    ┘
 */
import { utf8Text } from '@quoin/base';
import { etcdErrors } from '@quoin/contracts';
import { grantPermissionRequest, type Permission, textRequest } from '../auth-messages.ts';
import type { AuthState } from '../checkers/auth-model.ts';
import type { Ending, Operation } from '../checkers/history.ts';
import { type Identity, nobody, type Session } from '../checkers/rights.ts';
import {
  deleteOp,
  deleteRequest,
  field,
  type Op,
  putOp,
  putRequest,
  rangeOp,
  rangeRequest,
  readHeader,
  txnRequest,
} from '../etcd-messages.ts';
import type { SimFront } from '../front.ts';
import { simPasswordHash } from '../passwords.ts';
import { type CallName, SimUser, type World } from '../world.ts';

const alice = 'alice';
const bob = 'bob';
const users = [alice, bob];
const roles = ['r1', 'r2'];
const whole: Permission = { type: 2, key: 'u', end: 'v' };
const ranges = [
  ['u', 'v'],
  ['u0', 'u3'],
  ['u2', 'u5'],
  ['u1', ''],
  ['u4', ''],
] as const;

type Done = (ending: Ending, operation: Operation) => void;

/** One change; the password is found out from the operation's number. */
interface Change {
  readonly name: CallName;
  readonly build: (number: number) => Uint8Array;
}

function passwordOf(operation: number): string {
  return `pw${operation}`;
}

/** Everything about authentication in one run. */
export class Auth {
  private readonly world: World;
  private readonly officer: SimUser;
  private readonly people: OrdinaryUser[];

  constructor(world: World) {
    this.world = world;
    this.officer = new SimUser(world, 'officer');
    this.people = users.map((name) => new OrdinaryUser(world, name));
  }

  run(): void {
    this.step();
    for (const person of this.people) person.step();
  }

  /** All have all rights, authentication is on. Called in steps until it is so. */
  restore(done: () => void): void {
    const change = this.missing(this.world.witness.auth.now, true)[0];
    if (change === undefined) done();
    else this.make(change, () => this.restore(done));
  }

  /** Takes everything from everybody, and tells when that is acknowledged. */
  takeAll(done: () => void): void {
    const granted = this.world.witness.auth.now.roles;
    const role = roles.find((each) => (granted.get(each)?.length ?? 0) > 0);
    if (role === undefined) return done();
    this.make(revokePermission(role, granted.get(role)![0]!), (ending) => {
      if (ending.kind !== 'ok') this.world.violation(`a change after healing: ${JSON.stringify(ending)}`);
      this.takeAll(done);
    });
  }

  /** Each ordinary user puts at that gateway; `wanted` is the answer: empty, or why not. */
  expectPuts(front: SimFront, wanted: string, done: () => void): void {
    let open = users.length;
    for (const name of users) {
      const person = new OrdinaryUser(this.world, name, front);
      person.putOnce((answer) => {
        // Of clocks that are hours apart one calls old what another has just issued.
        const isOld = answer === etcdErrors.invalidAuthToken.message && !person.hasCertificate;
        if (answer !== wanted && !(isOld && this.world.plan.faults.includes('clockJump')))
          this.world.violation(
            `a put of ${name} at ${front.name} after healing: "${answer}", not "${wanted}"`,
          );
        if (--open === 0) done();
      });
    }
  }

  private step(): void {
    const { officer, world } = this;
    officer.later(Math.max(60, 3 * world.plan.thinkMs), () => {
      officer.goTo(officer.pickFront());
      if (world.working) this.make(this.next(), (ending) => this.made(ending));
    });
  }

  /** Mostly somebody who has been told of it comes at once, perhaps to a gateway or a member that has not. */
  private made({ kind }: Ending): void {
    for (const person of this.people) if (kind === 'ok' && this.officer.prng.chance(0.6)) person.comeNow();
    this.step();
  }

  private next(): Change {
    const { prng } = this.officer;
    const { now } = this.world.witness.auth;
    const missing = this.missing(now, false);
    // First that there is somebody; then what is taken away comes back about as often.
    const first = missing[0];
    if (first !== undefined && !now.enabled && prng.chance(0.9)) return first;
    if (first !== undefined && prng.chance(0.55)) return prng.pick(missing);
    return this.any();
  }

  /** What there should be, and is not; what comes later in the list needs what comes before. */
  private missing(state: AuthState, everything: boolean): Change[] {
    const changes: Change[] = [];
    for (const name of ['root', ...users]) if (!state.users.has(name)) changes.push(this.addUser(name));
    for (const role of roles) if (!state.roles.has(role)) changes.push(text('roleAdd', role));
    if (!(state.users.get('root')?.roles.includes('root') ?? false))
      changes.push(text('userGrantRole', 'root', 'root'));
    for (const name of users) {
      const has = state.users.get(name)?.roles ?? [];
      const role = everything ? roles[0]! : this.officer.prng.pick(roles);
      if (everything ? !has.includes(role) : has.length === 0)
        changes.push(text('userGrantRole', name, role));
    }
    for (const role of everything ? [roles[0]!] : roles) {
      const has = state.roles.get(role) ?? [];
      const isThere = has.some(({ type, key, end }) => type === 2 && key === whole.key && end === whole.end);
      if (everything ? !isThere : has.length === 0)
        changes.push(grantPermission(role, everything ? whole : this.anyPermission()));
    }
    if (!state.enabled) changes.push(text('authEnable'));
    return changes;
  }

  /** Whether it can be done is another question. */
  private any(): Change {
    const { prng } = this.officer;
    const role = prng.pick(roles);
    const user = prng.pick(users);
    const kind = prng.below(40);
    if (kind < 9) return grantPermission(role, this.anyPermission());
    if (kind < 16) return revokePermission(role, this.grantedOf(role));
    if (kind < 21) return text('userGrantRole', user, role);
    if (kind < 27) return text('userRevokeRole', user, role);
    if (kind < 30) return text('userDelete', user);
    if (kind < 32) return this.addUser(user);
    if (kind < 36) return this.changePassword(user);
    if (kind < 37) return text('roleDelete', role);
    if (kind < 38) return text('roleAdd', role);
    return text(prng.chance(0.6) ? 'authDisable' : 'authEnable');
  }

  private anyPermission(): Permission {
    const { prng } = this.officer;
    const [key, end] = prng.chance(0.4) ? [whole.key, whole.end] : prng.pick(ranges);
    return { type: prng.pick([0, 1, 2, 2]), key, end };
  }

  /** One that the role has, or could have. */
  private grantedOf(role: string): Permission {
    const { prng } = this.officer;
    const granted = this.world.witness.auth.now.roles.get(role) ?? [];
    return granted.length > 0 && prng.chance(0.9) ? prng.pick(granted) : this.anyPermission();
  }

  private addUser(name: string): Change {
    return this.withPassword('userAdd', name);
  }

  private changePassword(name: string): Change {
    return this.withPassword('userChangePassword', name);
  }

  private withPassword(call: CallName, name: string): Change {
    const build = (number: number): Uint8Array => {
      this.world.witness.expectHash(simPasswordHash(passwordOf(number)), number);
      return textRequest(name, passwordOf(number));
    };
    return { name: call, build };
  }

  private make({ name, build }: Change, done: Done): void {
    const { officer } = this;
    if (name !== 'authEnable') return officer.mutate(name, build, done);
    // The proposer puts a key in the place of the request, so nothing tells whose it was.
    officer.call('other', name, build(0), (ending, operation) => {
      if (ending.kind === 'ok') this.enabled(operation);
      done(ending, operation);
    });
  }

  private enabled({ floorPosition }: Operation): void {
    const { history, witness } = this.world;
    const states = witness.auth.between(floorPosition, witness.position);
    const first = states.find(({ enabled }) => enabled);
    if (first === undefined) this.world.violation('authentication is said to be on, and was not');
    else history.reached(first.since);
  }
}

function text(name: CallName, ...fields: string[]): Change {
  return { name, build: () => textRequest(...fields) };
}

function grantPermission(role: string, permission: Permission): Change {
  return { name: 'roleGrantPermission', build: () => grantPermissionRequest(role, permission) };
}

function revokePermission(role: string, { key, end }: Permission): Change {
  return text('roleRevokePermission', role, key, end);
}

const keys = 6;

class OrdinaryUser {
  private readonly world: World;
  private readonly user: SimUser;
  private readonly name: string;
  readonly hasCertificate: boolean;
  private session: Session | undefined;
  private readonly old: Session[] = [];
  private lastRevision = 1;
  /** Begins the next call; undefined while one is under way. */
  private come: (() => void) | undefined;

  constructor(world: World, name: string, front?: SimFront) {
    this.come = undefined;
    this.world = world;
    this.name = name;
    this.user = new SimUser(world, name);
    this.hasCertificate = name === alice;
    this.session = undefined;
    if (front !== undefined) this.user.goTo(front);
  }

  step(): void {
    const come = (): void => {
      if (this.come !== come) return;
      this.come = undefined;
      if (!this.world.working) return;
      const again = (): void => this.step();
      if (!this.hasCertificate && this.session === undefined) return this.login(() => this.act(again));
      this.act(again);
    };
    this.come = come;
    this.user.later(this.world.plan.thinkMs * 1.5, come);
  }

  /** Unless a call is under way. */
  comeNow(): void {
    this.come?.();
  }

  /** The answer of one put: empty, or why not. */
  putOnce(done: (answer: string) => void): void {
    const put = (): void => {
      this.user.comeAs(this.identity());
      this.user.mutate(
        'put',
        (n) => putRequest('u0', `v${n}`),
        (ending) => done(answerOf(ending)),
      );
    };
    if (this.hasCertificate) put();
    else this.login((ending) => (ending.kind === 'ok' ? put() : done(answerOf(ending))));
  }

  private identity(): Identity {
    if (this.hasCertificate) return { user: this.name, session: undefined };
    const { prng } = this.user;
    const isOld = this.world.working && this.old.length > 0 && prng.chance(0.1);
    const session = isOld ? prng.pick(this.old) : this.session;
    return session === undefined ? nobody : { user: this.name, session };
  }

  private login(done: (ending: Ending) => void): void {
    const { name, user, world } = this;
    const password = this.password();
    const begunMs = world.nowMs;
    user.comeAs(nobody);
    user.call('other', 'authenticate', textRequest(name, password), (ending, operation) => {
      world.rights.loginEnded(operation, name, password, ending);
      if (ending.kind === 'ok') {
        this.session = {
          token: utf8Text(field(ending.body, 18)!),
          firstPosition: operation.floorPosition,
          lastPosition: world.witness.position,
          begunMs,
        };
        this.old.push(this.session);
      }
      done(ending);
    });
  }

  /** The one that holds, mostly; or one that may have held before. */
  private password(): string {
    const { prng } = this.user;
    const { auth } = this.world.witness;
    const now = auth.now.users.get(this.name);
    const guess = this.world.working && (now === undefined || prng.chance(0.1));
    const hash = guess ? prng.pick(auth.states).users.get(this.name)?.hash : now?.hash;
    return passwordOf(this.world.witness.operationOfHash(hash ?? '') ?? 0);
  }

  private act(done: () => void): void {
    const { prng } = this.user;
    const by = this.identity();
    this.user.comeAs(by);
    if (prng.chance(0.3)) this.user.goTo(this.user.pickFront());
    const finish = (ending: Ending): void => {
      const answer = answerOf(ending);
      const isOver =
        answer === etcdErrors.invalidAuthToken.message || answer === etcdErrors.userEmpty.message;
      if (isOver && by.session === this.session) this.session = undefined;
      done();
    };
    const kind = prng.below(20);
    if (kind < 6) this.put(finish);
    else if (kind < 8) this.remove(finish);
    else if (kind < 11) this.txn(finish);
    else this.get(finish);
  }

  /** Now and then one that is nobody's but root's. */
  private key(): string {
    const { prng } = this.user;
    return prng.chance(0.05) ? 'k0' : `u${prng.below(keys)}`;
  }

  private put(done: Done): void {
    const key = this.key();
    const prevKv = this.user.prng.chance(0.3);
    this.user.mutate('put', (n) => putRequest(key, `v${n}`, { prevKv }), done);
  }

  private remove(done: Done): void {
    const { prng } = this.user;
    const [key, end] = prng.chance(0.2) ? prng.pick(ranges) : [this.key(), ''];
    const prevKv = prng.chance(0.4);
    this.user.mutate('delete', () => deleteRequest(key, end, prevKv), done);
  }

  private txn(done: Done): void {
    const { prng } = this.user;
    const [read, put, removed] = [this.key(), this.key(), this.key()];
    const operand = prng.below(this.lastRevision + 1);
    const build = (n: number): Uint8Array => {
      const success: Op[] = [putOp(putRequest(put, `t${n}`, { prevKv: prng.chance(0.3) }))];
      if (removed !== put) success.push(deleteOp(deleteRequest(removed)));
      const failure = [rangeOp(rangeRequest(read)), putOp(putRequest(put, `f${n}`))];
      return txnRequest([{ key: read, target: 'mod', result: '<', operand }], success, failure);
    };
    this.user.mutate('txn', build, done);
  }

  private get(done: (ending: Ending) => void): void {
    const { prng } = this.user;
    const serializable = prng.chance(0.3);
    const [key, end] = prng.chance(0.4) ? prng.pick(ranges) : [this.key(), ''];
    const old = prng.chance(0.1);
    const revision = old ? Math.max(1, this.lastRevision - prng.below(20)) : 0;
    this.user.read(rangeRequest(key, { end, serializable, revision }), serializable, (ending) => {
      if (ending.kind === 'ok') this.lastRevision = readHeader(ending.body).revision;
      done(ending);
    });
  }
}

function answerOf(ending: Ending): string {
  if (ending.kind === 'ok') return '';
  return ending.kind === 'lost' ? 'lost' : ending.status.message;
}
