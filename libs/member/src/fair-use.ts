/**
 * Limits that are counted in the replicated state: leases of a user, keys below a prefix. The proposer's configuration
 * says how many there may be and travels with the proposal; what is counted is the same on every member. So all judge
 * alike, also while they are configured differently.
 */
import { compareBytes, latin1, utf8, utf8Text } from '@quoin/base';
import {
  type FairUse,
  type KeyLimit,
  limitExceeded,
  limitsOf,
  Method,
  type Proposal,
  prefixEndOf,
  type RequestOpView,
  type RpcStatus,
  readPutRequest,
  readTxnRequest,
  startsWith,
} from '@quoin/contracts';
import type { Store } from '@quoin/mvcc';
import { idKey, keyId, Table } from './records.ts';

export type ProposalLimits = Pick<Proposal, 'leaseLimit' | 'keyLimits'>;

const noKeyLimits: readonly KeyLimit[] = Object.freeze([]);
export const noLimits: ProposalLimits = Object.freeze({ leaseLimit: 0, keyLimits: noKeyLimits });

/** What a proposal carries along. @throws WireError */
export function proposalLimits(
  fairUse: FairUse,
  method: Method,
  body: Uint8Array,
  user: string,
): ProposalLimits {
  if (method === Method.leaseGrant) {
    const leases = user === '' ? undefined : limitsOf(fairUse, user)?.leases;
    return leases === undefined ? noLimits : { leaseLimit: leases + 1, keyLimits: noKeyLimits };
  }
  if (method !== Method.put && method !== Method.txn) return noLimits;
  const limited = fairUse.prefixes.filter(({ limits }) => limits.keys !== undefined);
  if (limited.length === 0) return noLimits;
  const keys: Uint8Array[] = [];
  if (method === Method.put) keys.push(readPutRequest(body).key);
  else {
    const txn = readTxnRequest(body);
    for (const op of [...txn.success, ...txn.failure]) collectPuts(op, keys);
  }
  const keyLimits = limited
    .filter(({ prefix }) => keys.some((key) => startsWith(key, prefix)))
    .map(({ prefix, limits }) => ({ prefix, keys: limits.keys! }));
  return keyLimits.length === 0 ? noLimits : { leaseLimit: 0, keyLimits };
}

function collectPuts(op: RequestOpView, into: Uint8Array[]): void {
  if (op.kind === 'put') into.push(op.request.key);
  else if (op.kind === 'txn')
    for (const inner of [...op.request.success, ...op.request.failure]) collectPuts(inner, into);
}

interface PrefixCount {
  readonly prefix: Uint8Array;
  /** Empty: unbounded. */
  readonly end: Uint8Array;
  count: number;
}

/**
 * How many keys there are below the prefixes that were ever limited. The first question about one counts its keys, which
 * takes as long as listing them; from then on what is put and deleted is added and taken away.
 */
export class PrefixCounts {
  private readonly counts = new Map<string, PrefixCount>();

  /** Nothing is counted: there is nothing to keep up to date. */
  get idle(): boolean {
    return this.counts.size === 0;
  }

  /** The state is another one. */
  clear(): void {
    this.counts.clear();
  }

  /** Why keys cannot be put: those of `puts` that are new would be too many somewhere. */
  problem(store: Store, limits: readonly KeyLimit[], puts: readonly Uint8Array[]): RpcStatus | undefined {
    for (const { prefix, keys } of limits) {
      const names = new Set<string>();
      for (const key of puts) {
        if (startsWith(key, prefix) && store.meta(key) === undefined) names.add(latin1(key));
      }
      if (names.size > 0 && this.of(store, prefix) + names.size > keys) {
        return limitExceeded(`keys of prefix ${utf8Text(prefix)}`);
      }
    }
    return undefined;
  }

  created(key: Uint8Array): void {
    for (const each of this.counts.values()) if (startsWith(key, each.prefix)) each.count++;
  }

  deleted(key: Uint8Array, rangeEnd: Uint8Array, deleted: number): void {
    if (deleted === 0) return;
    for (const [name, each] of this.counts) {
      if (rangeEnd.length === 0) {
        if (startsWith(key, each.prefix)) each.count -= deleted;
        continue;
      }
      const open = rangeEnd.length === 1 && rangeEnd[0] === 0;
      const within =
        compareBytes(key, each.prefix) >= 0 &&
        (each.end.length === 0 || (!open && compareBytes(rangeEnd, each.end) <= 0));
      const apart =
        (!open && compareBytes(rangeEnd, each.prefix) <= 0) ||
        (each.end.length > 0 && compareBytes(key, each.end) >= 0);
      if (within) each.count -= deleted;
      // How many of them were below the prefix is not known: counted anew when somebody asks.
      else if (!apart) this.counts.delete(name);
    }
  }

  private of(store: Store, prefix: Uint8Array): number {
    const name = latin1(prefix);
    const known = this.counts.get(name);
    if (known !== undefined) return known.count;
    const end = prefixEndOf(prefix);
    const rangeEnd = end.length === 0 ? Uint8Array.of(0) : end;
    const found = store.range({ key: prefix, rangeEnd, countOnly: true });
    const count = typeof found === 'object' ? found.count : 0;
    this.counts.set(name, { prefix: prefix.slice(), end, count });
    return count;
  }
}

/** Who was granted which lease, as far as he was somebody. */
export class LeaseUsers {
  private readonly users = new Map<bigint, string>();
  private readonly counts = new Map<string, number>();

  load(store: Store): void {
    this.users.clear();
    this.counts.clear();
    store.scanRecords(Table.leaseUsers, (key, value) => {
      this.add(BigInt.asIntN(64, keyId(key)), utf8Text(value));
    });
  }

  /** Why the user cannot have one more. `limit` as in the proposal: one more than he may have, 0 for no limit. */
  problem(user: string, limit: number): RpcStatus | undefined {
    if (limit === 0 || (this.counts.get(user) ?? 0) + 1 < limit) return undefined;
    return limitExceeded(`leases of user ${user}`);
  }

  granted(store: Store, lease: bigint, user: string): void {
    if (user === '') return;
    store.putRecord(Table.leaseUsers, idKey(lease), utf8(user));
    this.add(lease, user);
  }

  ended(store: Store, lease: bigint): void {
    const user = this.users.get(lease);
    if (user === undefined) return;
    store.putRecord(Table.leaseUsers, idKey(lease), null);
    this.users.delete(lease);
    const left = this.counts.get(user)! - 1;
    if (left === 0) this.counts.delete(user);
    else this.counts.set(user, left);
  }

  private add(lease: bigint, user: string): void {
    this.users.set(BigInt.asIntN(64, lease), user);
    this.counts.set(user, (this.counts.get(user) ?? 0) + 1);
  }
}
