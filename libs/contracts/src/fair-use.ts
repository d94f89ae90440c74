import { Code, type RpcStatus } from './status.ts';

/** What one user, or all who use one prefix, may take. Undefined: no limit. */
export interface UseLimits {
  readonly requestsPerSecond?: number;
  /** Of requests and answers. */
  readonly bytesPerSecond?: number;
  /** Open at one gateway. */
  readonly watches?: number;
  /** Alive in the cluster; of users only. */
  readonly leases?: number;
  /** Alive in the cluster; of prefixes only. */
  readonly keys?: number;
}

export interface FairUse {
  /** By name; `*` holds for each user without a row of its own. */
  readonly users: ReadonlyMap<string, UseLimits>;
  readonly prefixes: readonly { readonly prefix: Uint8Array; readonly limits: UseLimits }[];
}

/** The user's own row, or what holds for every user. Who is nobody (authentication is off, say) has a row of his own: ''. */
export function limitsOf(fairUse: FairUse, user: string): UseLimits | undefined {
  return fairUse.users.get(user) ?? (user === '' ? undefined : fairUse.users.get('*'));
}

/** `what` such as `leases of user app`. */
export function limitExceeded(what: string): RpcStatus {
  return { code: Code.resourceExhausted, message: `quoin: limit reached: ${what}` };
}

export function startsWith(key: Uint8Array, prefix: Uint8Array): boolean {
  if (key.length < prefix.length) return false;
  for (let i = 0; i < prefix.length; i++) if (key[i] !== prefix[i]) return false;
  return true;
}

/** The first key above all that begin with `prefix`; empty: there is none. */
export function prefixEndOf(prefix: Uint8Array): Uint8Array {
  let n = prefix.length;
  while (n > 0 && prefix[n - 1] === 0xff) n--;
  const end = prefix.slice(0, n);
  if (n > 0) end[n - 1]!++;
  return end;
}
