/** What one user may read and write: the union of the granted ranges, sorted and merged, found by bisection. */
import { compareBytes } from '@quoin/base';
import { type AuthPermission, type AuthView, PermissionType } from './view.ts';

export const rootUser = 'root';
export const rootRole = 'root';

/**
 * Half-open ranges of keys that neither overlap nor touch, in order.
 *
 * Where they begin is one run of bytes, and what all beginnings share is compared once: a check touches few cache
 * lines, also with many grants below a long prefix.
 */
export class KeyIntervals {
  readonly size: number;
  private readonly ends: readonly (Uint8Array | undefined)[];
  /** What every beginning starts with. */
  private readonly shared: Uint8Array;
  /** The rests of the beginnings, one after the other: the i-th from `starts[i]` to `starts[i + 1]`. */
  private readonly rests: Uint8Array;
  private readonly starts: Uint32Array;

  constructor(permissions: readonly AuthPermission[]) {
    const { begins, ends } = merged(permissions);
    const shared = sharedLength(begins);
    this.size = begins.length;
    this.ends = ends;
    this.shared = begins.length === 0 ? noBytes : begins[0]!.subarray(0, shared);
    this.starts = new Uint32Array(begins.length + 1);
    for (let i = 0; i < begins.length; i++) this.starts[i + 1] = this.starts[i]! + begins[i]!.length - shared;
    this.rests = new Uint8Array(this.starts[begins.length]!);
    let at = 0;
    // Byte by byte: thousands of views of a few bytes cost more.
    for (const begin of begins) for (let i = shared; i < begin.length; i++) this.rests[at++] = begin[i]!;
  }

  /**
   * True when every key that the request names is covered. `rangeEnd` empty: the single key; `\0`: every key from
   * `key` on. A range that ends before it begins names no key, but still has to begin in what is covered.
   */
  covers(key: Uint8Array, rangeEnd: Uint8Array): boolean {
    const at = this.lastBeginningBy(key);
    if (at < 0) return false;
    const end = this.ends[at];
    if (end === undefined) return true;
    if (compareBytes(key, end) >= 0) return false;
    if (rangeEnd.length === 0) return true;
    return !isOpenEnd(rangeEnd) && compareBytes(rangeEnd, end) <= 0;
  }

  /** The last interval that begins at the key or before it; −1: none does. */
  private lastBeginningBy(key: Uint8Array): number {
    const { shared } = this;
    const prefix = Math.min(shared.length, key.length);
    for (let i = 0; i < prefix; i++) {
      const difference = key[i]! - shared[i]!;
      if (difference !== 0) return difference < 0 ? -1 : this.size - 1;
    }
    if (key.length < shared.length) return -1;
    let low = 0;
    let high = this.size;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.beginsBy(middle, key)) low = middle + 1;
      else high = middle;
    }
    return low - 1;
  }

  /** Of keys that start with what is shared. */
  private beginsBy(at: number, key: Uint8Array): boolean {
    const { rests, starts } = this;
    const end = starts[at + 1]!;
    let k = this.shared.length;
    for (let i = starts[at]!; i < end; i++, k++) {
      if (k === key.length) return false;
      const difference = key[k]! - rests[i]!;
      if (difference !== 0) return difference > 0;
    }
    return true;
  }
}

const noBytes: Uint8Array = new Uint8Array(0);

interface Merged {
  readonly begins: Uint8Array[];
  readonly ends: (Uint8Array | undefined)[];
}

function merged(permissions: readonly AuthPermission[]): Merged {
  const begins: Uint8Array[] = [];
  const ends: (Uint8Array | undefined)[] = [];
  // Those of one role are in order.
  const all = inOrder(permissions) ? permissions : permissions.toSorted((a, b) => compareBytes(a.key, b.key));
  for (const { key: begin, rangeEnd } of all) {
    // A range that etcd would not take as a grant covers nothing.
    if (rangeEnd.length > 0 && !isOpenEnd(rangeEnd) && compareBytes(begin, rangeEnd) >= 0) continue;
    const end = endOf(begin, rangeEnd);
    const last = begins.length - 1;
    const lastEnd = ends[last];
    if (last < 0 || (lastEnd !== undefined && compareBytes(lastEnd, begin) < 0)) {
      begins.push(begin);
      ends.push(end);
    } else if (lastEnd !== undefined && (end === undefined || compareBytes(lastEnd, end) < 0)) {
      ends[last] = end;
    }
  }
  return { begins, ends };
}

/** In order: what the first and the last share, all share. */
function sharedLength(begins: readonly Uint8Array[]): number {
  const first = begins[0];
  const last = begins.at(-1);
  if (first === undefined || last === undefined) return 0;
  let n = 0;
  while (n < first.length && n < last.length && first[n] === last[n]) n++;
  return n;
}

export function isOpenEnd(rangeEnd: Uint8Array): boolean {
  return rangeEnd.length === 1 && rangeEnd[0] === 0;
}

function inOrder(permissions: readonly AuthPermission[]): boolean {
  for (let i = 1; i < permissions.length; i++)
    if (compareBytes(permissions[i - 1]!.key, permissions[i]!.key) > 0) return false;
  return true;
}

/** Exclusive; undefined: unbounded. */
function endOf(key: Uint8Array, rangeEnd: Uint8Array): Uint8Array | undefined {
  if (rangeEnd.length > 0) return isOpenEnd(rangeEnd) ? undefined : rangeEnd;
  const end = new Uint8Array(key.length + 1);
  end.set(key);
  return end;
}

export interface UserPermissions {
  /** Has the role root: everything. */
  readonly root: boolean;
  readonly roles: readonly string[];
  readonly read: KeyIntervals;
  readonly write: KeyIntervals;
}

/**
 * Of one auth state. What a user may is worked out at the first question about it, once for all users of the same roles;
 * what is known of roles that `before` had, too, is taken over: one change does not make everybody's anew.
 */
export class Authority {
  readonly enabled: boolean;
  readonly revision: number;
  readonly version: number;
  private readonly users: ReadonlyMap<string, readonly string[]>;
  private readonly roles: ReadonlyMap<string, readonly AuthPermission[]>;
  private readonly known = new Map<string, UserPermissions>();
  private readonly byRoles = new Map<string, UserPermissions>();

  constructor(view: AuthView, before?: Authority) {
    this.enabled = view.enabled;
    this.revision = view.revision;
    this.version = view.version;
    this.users = new Map(view.users.map(({ name, roles }) => [name, roles]));
    this.roles = new Map(view.roles.map(({ name, permissions }) => [name, permissions]));
    if (before === undefined) return;
    for (const [key, made] of before.byRoles) {
      if (made.roles.every((role) => this.roles.get(role) === before.roles.get(role)))
        this.byRoles.set(key, made);
    }
  }

  /** Undefined: no such user. */
  of(user: string): UserPermissions | undefined {
    const known = this.known.get(user);
    if (known !== undefined) return known;
    const roles = this.users.get(user);
    if (roles === undefined) return undefined;
    const key = roles.map((role) => `${role.length}:${role}`).join();
    const made = this.byRoles.get(key) ?? this.make(roles);
    this.byRoles.set(key, made);
    this.known.set(user, made);
    return made;
  }

  private make(roles: readonly string[]): UserPermissions {
    const root = roles.includes(rootRole);
    const lists = root ? [] : roles.map((role) => this.roles.get(role) ?? []);
    const granted = lists.length === 1 ? lists[0]! : lists.flat();
    const { read: readType, write: writeType, readWrite } = PermissionType;
    if (granted.every(({ type }) => type === readWrite)) {
      const both = new KeyIntervals(granted);
      return { root, roles, read: both, write: both };
    }
    const to = (type: number) =>
      new KeyIntervals(granted.filter((p) => p.type === type || p.type === readWrite));
    return { root, roles, read: to(readType), write: to(writeType) };
  }
}

/** The state of a cluster whose authentication was never touched. */
export const noAuth: Authority = new Authority({
  enabled: false,
  revision: 1,
  version: 0,
  users: [],
  roles: [],
});
