/** What one user may read and write: the union of the granted ranges, sorted and merged, found by bisection. */
import { compareBytes } from '@quoin/base';
import { type AuthPermission, type AuthView, PermissionType } from './view.ts';

export const rootUser = 'root';
export const rootRole = 'root';

interface KeyInterval {
  readonly begin: Uint8Array;
  /** Exclusive; undefined: unbounded. */
  readonly end: Uint8Array | undefined;
}

/** Half-open ranges of keys that neither overlap nor touch, in order. */
export class KeyIntervals {
  private readonly begins: Uint8Array[] = [];
  private readonly ends: (Uint8Array | undefined)[] = [];

  constructor(permissions: readonly AuthPermission[]) {
    const all = permissions.map(intervalOf).filter((interval) => interval !== undefined);
    all.sort((a, b) => compareBytes(a.begin, b.begin));
    for (const { begin, end } of all) {
      const last = this.begins.length - 1;
      const lastEnd = this.ends[last];
      if (last < 0 || (lastEnd !== undefined && compareBytes(lastEnd, begin) < 0)) {
        this.begins.push(begin);
        this.ends.push(end);
      } else if (lastEnd !== undefined && (end === undefined || compareBytes(lastEnd, end) < 0)) {
        this.ends[last] = end;
      }
    }
  }

  get size(): number {
    return this.begins.length;
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

  private lastBeginningBy(key: Uint8Array): number {
    let low = 0;
    let high = this.begins.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (compareBytes(this.begins[middle]!, key) <= 0) low = middle + 1;
      else high = middle;
    }
    return low - 1;
  }
}

export function isOpenEnd(rangeEnd: Uint8Array): boolean {
  return rangeEnd.length === 1 && rangeEnd[0] === 0;
}

/** A range that etcd would not take as a grant covers nothing. */
function intervalOf({ key, rangeEnd }: AuthPermission): KeyInterval | undefined {
  if (isOpenEnd(rangeEnd)) return { begin: key, end: undefined };
  if (rangeEnd.length > 0) {
    return compareBytes(key, rangeEnd) < 0 ? { begin: key, end: rangeEnd } : undefined;
  }
  const end = new Uint8Array(key.length + 1);
  end.set(key);
  return { begin: key, end };
}

export interface UserPermissions {
  /** Has the role root: everything. */
  readonly root: boolean;
  readonly roles: readonly string[];
  readonly read: KeyIntervals;
  readonly write: KeyIntervals;
}

/** Of one auth state. What a user may is worked out at the first question about it. */
export class Authority {
  readonly enabled: boolean;
  readonly revision: number;
  readonly version: number;
  private readonly users: ReadonlyMap<string, readonly string[]>;
  private readonly roles: ReadonlyMap<string, readonly AuthPermission[]>;
  private readonly known = new Map<string, UserPermissions>();

  constructor(view: AuthView) {
    this.enabled = view.enabled;
    this.revision = view.revision;
    this.version = view.version;
    this.users = new Map(view.users.map(({ name, roles }) => [name, roles]));
    this.roles = new Map(view.roles.map(({ name, permissions }) => [name, permissions]));
  }

  /** Undefined: no such user. */
  of(user: string): UserPermissions | undefined {
    const known = this.known.get(user);
    if (known !== undefined) return known;
    const roles = this.users.get(user);
    if (roles === undefined) return undefined;
    const root = roles.includes(rootRole);
    const granted = root ? [] : roles.flatMap((role) => this.roles.get(role) ?? []);
    const to = (type: number) =>
      new KeyIntervals(granted.filter((p) => p.type === type || p.type === PermissionType.readWrite));
    const made = { root, roles, read: to(PermissionType.read), write: to(PermissionType.write) };
    this.known.set(user, made);
    return made;
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
