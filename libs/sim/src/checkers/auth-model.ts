/**
 * Who may do what, as a function of the place in the log: users, roles and grants as the committed requests make them,
 * written from etcd's contract and not from the authoriser. Keeps every state, so that an answer can be judged by those that were
 * in force while it was under way.
 *
 *     position   0 ········ 17 ······· 23 ············ 40 ····
 *     state      untouched │ + alice  │ on            │ − grant        `at(30)` is the one that holds since 23
 */
import { utf8Text } from '@quoin/base';
import {
  type DeleteRangeRequestView,
  etcdErrors,
  Method,
  otherErrors,
  type Proposal,
  type PutRequestView,
  type RequestOpView,
  type RpcStatus,
  readDeleteRangeRequest,
  readLeaseRevokeRequest,
  readPutRequest,
  readRangeRequest,
  readTxnRequest,
  type TxnRequestView,
} from '@quoin/contracts';
import type { Permission } from '../auth-messages.ts';
import { field, varint } from '../etcd-messages.ts';
import type { ModelOutcome } from './model.ts';

export interface AuthUserState {
  readonly hash: string;
  readonly roles: readonly string[];
  /** The position at which that password became the user's: tokens from before it are void. */
  readonly passwordAt: number;
}

export interface AuthState {
  /** The position of the entry that made it. */
  readonly since: number;
  readonly enabled: boolean;
  /** Of the AuthEnable that was last: tokens from before it are void. */
  readonly enabledAt: number;
  readonly revision: number;
  readonly users: ReadonlyMap<string, AuthUserState>;
  readonly roles: ReadonlyMap<string, readonly Permission[]>;
}

type Problem = RpcStatus | undefined;
type Keys = (lease: bigint) => readonly string[];
const empty = new Uint8Array(0);
const root = 'root';

export class AuthModel {
  readonly states: AuthState[] = [
    { since: 0, enabled: false, enabledAt: 0, revision: 1, users: new Map(), roles: new Map() },
  ];

  get now(): AuthState {
    return this.states.at(-1)!;
  }

  /** The state after the entry of that position. */
  at(position: number): AuthState {
    return this.states[this.placeOf(position)]!;
  }

  /** Every state that was in force after one of these positions. */
  between(first: number, last: number): readonly AuthState[] {
    return this.states.slice(this.placeOf(first), this.placeOf(last) + 1);
  }

  /** Why the entry is refused before anybody looks at what it asks for; undefined: it is not. */
  refusal(proposal: Proposal, leaseKeys: Keys): Problem {
    const { now } = this;
    if (!now.enabled || proposal.own) return undefined;
    const { body, method, user } = proposal;
    if (isAuthChange(method) || method === Method.compact) return rootProblem(now, user);
    if (user === '' && byMethod.has(method)) return etcdErrors.userEmpty;
    if (method === Method.leaseGrant) return undefined;
    const isLease = method === Method.leaseRevoke;
    if (isLease && now.users.get(user)?.roles.includes(root) === true) return undefined;
    const keys = isLease ? leaseKeys(readLeaseRevokeRequest(body).id) : [];
    if (isLease && keys.length === 0) return undefined;
    if (!byMethod.has(method)) return undefined;
    if (proposal.authRevision < now.revision) return etcdErrors.authOldRevision;
    const may = (kind: Kind, key: string, end: string): boolean => allows(now, user, kind, key, end);
    const allowed = isLease
      ? keys.every((key) => may('write', key, ''))
      : mayRequest(may, leaseKeys, byMethod.get(method)!, body);
    return allowed ? undefined : etcdErrors.permissionDenied;
  }

  /** A change of users, roles or grants that was not refused. */
  apply({ method, body }: Proposal, position: number): ModelOutcome {
    const problem = this.change(method, body, position);
    return problem === undefined ? { kind: 'done' } : { kind: 'refused', status: problem };
  }

  private placeOf(position: number): number {
    const { states } = this;
    let at = states.length - 1;
    while (states[at]!.since > position) at--;
    return at;
  }

  private change(method: number, body: Uint8Array, position: number): Problem {
    const { now } = this;
    const [first, second] = [text(body, 10), text(body, 18)];
    switch (method) {
      case Method.authEnable:
        return this.enable(position);
      case Method.authDisable:
        if (now.enabled) this.next(position, { enabled: false });
        return undefined;
      case Method.userAdd:
        if (now.users.has(first)) return etcdErrors.userAlreadyExist;
        this.putUser(position, first, { hash: text(body, 34), roles: [], passwordAt: position });
        return undefined;
      case Method.roleAdd:
        if (now.roles.has(first)) return etcdErrors.roleAlreadyExist;
        this.putRole(position, first, []);
        return undefined;
      case Method.roleDelete:
        return this.deleteRole(position, first);
      case Method.roleGrantPermission:
      case Method.roleRevokePermission:
        return this.changeRole(method, first, body, position);
      case Method.userDelete:
      case Method.userChangePassword:
      case Method.userGrantRole:
      case Method.userRevokeRole:
        return this.changeUser(method, first, second, body, position);
      default:
        return otherErrors.unknownMethod;
    }
  }

  private enable(position: number): Problem {
    const { now } = this;
    if (now.enabled) return undefined;
    const found = now.users.get(root);
    if (found === undefined) return etcdErrors.rootUserNotExist;
    if (!found.roles.includes(root)) return etcdErrors.rootRoleNotExist;
    // The one change that leaves the auth revision as it is.
    this.states.push({ ...now, since: position, enabled: true, enabledAt: position });
    return undefined;
  }

  private changeUser(
    method: number,
    name: string,
    role: string,
    body: Uint8Array,
    position: number,
  ): Problem {
    const { enabled, users, roles } = this.now;
    const found = users.get(name);
    const isRoot = enabled && name === root;
    if (isRoot && method === Method.userDelete) return etcdErrors.invalidAuthMgmt;
    if (isRoot && role === root && method === Method.userRevokeRole) return etcdErrors.invalidAuthMgmt;
    if (found === undefined) return etcdErrors.userNotFound;
    if (method === Method.userDelete) {
      const left = new Map(users);
      left.delete(name);
      this.next(position, { users: left });
    } else if (method === Method.userChangePassword) {
      this.putUser(position, name, { ...found, hash: text(body, 26), passwordAt: position });
    } else if (method === Method.userGrantRole) {
      if (role !== root && !roles.has(role)) return etcdErrors.roleNotFound;
      if (found.roles.includes(role)) return undefined;
      this.putUser(position, name, { ...found, roles: [...found.roles, role] });
    } else {
      if (!found.roles.includes(role)) return etcdErrors.roleNotGranted;
      this.putUser(position, name, { ...found, roles: found.roles.filter((each) => each !== role) });
    }
    return undefined;
  }

  private changeRole(method: number, name: string, body: Uint8Array, position: number): Problem {
    const found = this.now.roles.get(name);
    if (found === undefined) return etcdErrors.roleNotFound;
    const isGrant = method === Method.roleGrantPermission;
    const perm = isGrant ? (field(body, 18) ?? empty) : body;
    const permission = { type: Number(varint(perm, 8)), key: text(perm, 18), end: text(perm, 26) };
    const others = found.filter(({ key, end }) => key !== permission.key || end !== permission.end);
    if (!isGrant && others.length === found.length) return etcdErrors.permissionNotGranted;
    this.putRole(position, name, isGrant ? [...others, permission] : others);
    return undefined;
  }

  private deleteRole(position: number, name: string): Problem {
    const roles = new Map(this.now.roles);
    if (!roles.delete(name)) return etcdErrors.roleNotFound;
    const users = new Map(
      [...this.now.users].map(([user, state]): [string, AuthUserState] => [
        user,
        { ...state, roles: state.roles.filter((role) => role !== name) },
      ]),
    );
    this.next(position, { roles, users });
    return undefined;
  }

  private putUser(position: number, name: string, user: AuthUserState): void {
    this.next(position, { users: new Map(this.now.users).set(name, user) });
  }

  private putRole(position: number, name: string, permissions: readonly Permission[]): void {
    this.next(position, { roles: new Map(this.now.roles).set(name, permissions) });
  }

  private next(since: number, changes: Partial<AuthState>): void {
    this.states.push({ ...this.now, ...changes, since, revision: this.now.revision + 1 });
  }
}

export function isAuthChange(method: number): boolean {
  return method >= Method.authEnable && method <= Method.roleRevokePermission;
}

export function rootProblem(state: AuthState, user: string): Problem {
  if (!state.enabled) return undefined;
  if (user === '') return etcdErrors.userEmpty;
  const found = state.users.get(user);
  if (found === undefined) return etcdErrors.userNotFound;
  return found.roles.includes(root) ? undefined : etcdErrors.permissionDenied;
}

/** What a request to read or change keys is answered in the name of that user, who is known to be the one. */
export function keysProblem(state: AuthState, user: string, name: string, request: Uint8Array): Problem {
  if (!state.enabled) return undefined;
  if (user === '') return etcdErrors.userEmpty;
  const may = (kind: Kind, key: string, end: string): boolean => allows(state, user, kind, key, end);
  return mayRequest(may, () => [], name, request) ? undefined : etcdErrors.permissionDenied;
}

type Kind = 'read' | 'write';
type May = (kind: Kind, key: string, end: string) => boolean;

const byMethod: ReadonlyMap<number, string> = new Map([
  [Method.put, 'put'],
  [Method.deleteRange, 'delete'],
  [Method.txn, 'txn'],
  [Method.leaseRevoke, 'revoke'],
  [Method.leaseGrant, 'grant'],
]);

/** Goes along the range from grant to grant: each takes it to where that one ends. */
function allows(state: AuthState, name: string, kind: Kind, key: string, end: string): boolean {
  const user = state.users.get(name);
  if (user === undefined) return false;
  if (user.roles.includes(root)) return true;
  const granted = user.roles
    .flatMap((role) => state.roles.get(role) ?? [])
    .filter(({ type }) => type === 2 || type === (kind === 'read' ? 0 : 1));
  const wanted = end === '' ? `${key}\0` : end === '\0' ? last : end;
  for (let at = key; ; ) {
    const ends = granted
      .map((each) => ({ low: each.key, high: highOf(each) }))
      .filter(({ low, high }) => low <= at && at < high)
      .map(({ high }) => high)
      .sort();
    const furthest = ends.at(-1);
    if (furthest === undefined) return false;
    if (furthest >= wanted) return true;
    at = furthest;
  }
}

/** Behind every key that there is. */
const last = '\u{10ffff}';

function highOf({ key, end }: Permission): string {
  if (end === '') return `${key}\0`;
  return end === '\0' ? last : end;
}

function mayRequest(may: May, leaseKeys: Keys, name: string, body: Uint8Array): boolean {
  switch (name) {
    case 'range': {
      const { key, rangeEnd } = readRangeRequest(body);
      return may('read', utf8Text(key), utf8Text(rangeEnd));
    }
    case 'put':
      return mayPut(may, leaseKeys, readPutRequest(body));
    case 'delete':
      return mayDelete(may, readDeleteRangeRequest(body));
    default:
      return mayTxn(may, leaseKeys, readTxnRequest(body));
  }
}

function mayPut(may: May, leaseKeys: Keys, put: PutRequestView): boolean {
  const key = utf8Text(put.key);
  if (!may('write', key, '') || (put.prevKv && !may('read', key, ''))) return false;
  return put.lease === 0n || leaseKeys(put.lease).every((each) => may('write', each, ''));
}

function mayDelete(may: May, request: DeleteRangeRequestView): boolean {
  const [key, end] = [utf8Text(request.key), utf8Text(request.rangeEnd)];
  return may('write', key, end) && (!request.prevKv || may('read', key, end));
}

/** Both branches count, whichever is taken. */
function mayTxn(may: May, leaseKeys: Keys, txn: TxnRequestView): boolean {
  const mayOp = (op: RequestOpView): boolean => {
    if (op.kind === 'range') return may('read', utf8Text(op.request.key), utf8Text(op.request.rangeEnd));
    if (op.kind === 'put') return mayPut(may, leaseKeys, op.request);
    if (op.kind === 'deleteRange') return mayDelete(may, op.request);
    return op.kind !== 'txn' || mayTxn(may, leaseKeys, op.request);
  };
  const compares = txn.compare.every(({ key, rangeEnd }) => may('read', utf8Text(key), utf8Text(rangeEnd)));
  return compares && txn.success.every(mayOp) && txn.failure.every(mayOp);
}

function text(body: Uint8Array, tag: number): string {
  return utf8Text(field(body, tag) ?? empty);
}
