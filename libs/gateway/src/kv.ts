import { compareBytes, latin1 } from '@quoin/base';
import {
  type DeleteRangeRequestView,
  etcdErrors,
  Method,
  type PutRequestView,
  type RangeRequestView,
  type RequestOpView,
  type RpcStatus,
  readCompactionRequest,
  readDeleteRangeRequest,
  readPutRequest,
  readRangeRequest,
  readTxnRequest,
  type TxnRequestView,
} from '@quoin/contracts';
import type { Target } from './call.ts';

/** What a request's bytes say about where it goes; or the client's mistake. */
export type Verdict = Target | RpcStatus;

/**
 * Checks a KV request in etcd's order, before it costs anybody else anything.
 * The member reads the bytes with the same readers at apply, so both see the same request.
 *
 * @throws WireError when the bytes are no message of that kind.
 */
export function checkKv(method: Method, body: Uint8Array, maxTxnOps: number): Verdict {
  switch (method) {
    case Method.range:
      return checkRange(readRangeRequest(body)) ?? 'home';
    case Method.put:
      return checkPut(readPutRequest(body)) ?? 'leader';
    case Method.deleteRange:
      return checkDeleteRange(readDeleteRangeRequest(body)) ?? 'leader';
    case Method.txn: {
      const txn = readTxnRequest(body);
      return checkTxn(txn, maxTxnOps) ?? (isReadOnly(txn) ? 'home' : 'leader');
    }
    default:
      readCompactionRequest(body);
      return 'leader';
  }
}

const sortOrderMax = 2;
const sortTargetMax = 4;

export function checkRange(request: RangeRequestView): RpcStatus | undefined {
  if (request.key.length === 0) return etcdErrors.emptyKey;
  if (request.sortOrder < 0 || request.sortOrder > sortOrderMax) return etcdErrors.invalidSortOption;
  if (request.sortTarget < 0 || request.sortTarget > sortTargetMax) return etcdErrors.invalidSortOption;
  return undefined;
}

function checkPut(request: PutRequestView): RpcStatus | undefined {
  if (request.key.length === 0) return etcdErrors.emptyKey;
  if (request.ignoreValue && request.value.length !== 0) return etcdErrors.valueProvided;
  if (request.ignoreLease && request.lease !== 0n) return etcdErrors.leaseProvided;
  return undefined;
}

function checkDeleteRange(request: DeleteRangeRequestView): RpcStatus | undefined {
  return request.key.length === 0 ? etcdErrors.emptyKey : undefined;
}

/** Counts and single operations of all levels first, then keys that are written twice. */
function checkTxn(txn: TxnRequestView, maxTxnOps: number): RpcStatus | undefined {
  return checkOps(txn, maxTxnOps) ?? checkDuplicates(txn.success) ?? checkDuplicates(txn.failure);
}

/** A nested txn has what its parent leaves of the budget; siblings do not share. */
function checkOps(txn: TxnRequestView, budget: number): RpcStatus | undefined {
  const count = Math.max(txn.compare.length, txn.success.length, txn.failure.length);
  if (count > budget) return etcdErrors.tooManyOps;
  for (const compare of txn.compare) if (compare.key.length === 0) return etcdErrors.emptyKey;
  for (const branch of [txn.success, txn.failure]) {
    for (const op of branch) {
      const problem = checkOp(op, budget - count);
      if (problem !== undefined) return problem;
    }
  }
  return undefined;
}

function checkOp(op: RequestOpView, budget: number): RpcStatus | undefined {
  switch (op.kind) {
    case 'range':
      return checkRange(op.request);
    case 'put':
      return checkPut(op.request);
    case 'deleteRange':
      return checkDeleteRange(op.request);
    case 'txn':
      return checkOps(op.request, budget);
    case 'none':
      return etcdErrors.keyNotFound;
  }
}

function checkDuplicates(branch: readonly RequestOpView[]): RpcStatus | undefined {
  // One plain operation cannot collide: the usual compare-and-put ends here.
  if (branch.length === 0 || (branch.length === 1 && branch[0]!.kind !== 'txn')) return undefined;
  return writesOf(branch) === undefined ? etcdErrors.duplicateKey : undefined;
}

interface Writes {
  readonly puts: Set<string>;
  readonly deletes: KeyRanges;
}

/**
 * What one branch writes, with the branches nested in it; undefined when a key would be put twice, or put and deleted.
 * Kept as etcd has it, with its two holes: an inverted range (which `\0` as its end makes of "every key from …") covers
 * nothing, and puts of a nested txn are not held against deletes of a nested txn that comes later.
 */
function writesOf(branch: readonly RequestOpView[]): Writes | undefined {
  const puts = new Set<string>();
  const deletes = new KeyRanges();
  for (const op of branch) if (op.kind === 'deleteRange') deletes.add(op.request.key, op.request.rangeEnd);
  for (const op of branch) {
    if (op.kind !== 'txn') continue;
    const then = writesOf(op.request.success);
    if (then === undefined) return undefined;
    const otherwise = writesOf(op.request.failure);
    if (otherwise === undefined) return undefined;
    // The two branches exclude each other: a key may be in both, not in what came before.
    for (const key of then.puts) if (puts.has(key) || deletes.covers(key)) return undefined;
    for (const key of otherwise.puts) if (puts.has(key) || deletes.covers(key)) return undefined;
    for (const key of then.puts) puts.add(key);
    for (const key of otherwise.puts) puts.add(key);
    deletes.addAll(then.deletes);
    deletes.addAll(otherwise.deletes);
  }
  for (const op of branch) {
    if (op.kind !== 'put') continue;
    const key = latin1(op.request.key);
    if (puts.has(key) || deletes.covers(key)) return undefined;
    puts.add(key);
  }
  return { puts, deletes };
}

interface KeyRange {
  readonly begin: string;
  readonly end: string;
}

/** A union of key ranges; keys as latin1 text, whose order is that of the bytes. Sorted and merged when asked. */
class KeyRanges {
  private ranges: KeyRange[] = [];
  private merged = true;

  add(key: Uint8Array, rangeEnd: Uint8Array): void {
    if (rangeEnd.length !== 0 && compareBytes(key, rangeEnd) >= 0) return;
    const begin = latin1(key);
    this.ranges.push({ begin, end: rangeEnd.length === 0 ? `${begin}\0` : latin1(rangeEnd) });
    this.merged = false;
  }

  addAll(other: KeyRanges): void {
    if (other.ranges.length === 0) return;
    for (const range of other.ranges) this.ranges.push(range);
    this.merged = false;
  }

  covers(key: string): boolean {
    if (this.ranges.length === 0) return false;
    if (!this.merged) this.merge();
    let low = 0;
    let high = this.ranges.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.ranges[middle]!.begin <= key) low = middle + 1;
      else high = middle;
    }
    return low > 0 && key < this.ranges[low - 1]!.end;
  }

  private merge(): void {
    const sorted = this.ranges.sort((a, b) => (a.begin < b.begin ? -1 : a.begin > b.begin ? 1 : 0));
    const out: KeyRange[] = [];
    for (const range of sorted) {
      const last = out[out.length - 1];
      if (last === undefined || last.end < range.begin) out.push(range);
      else if (last.end < range.end) out[out.length - 1] = { begin: last.begin, end: range.end };
    }
    this.ranges = out;
    this.merged = true;
  }
}

/** Only ranges at the top level: served like a Range. A nested txn always counts as a write. */
function isReadOnly(txn: TxnRequestView): boolean {
  for (const op of txn.success) if (op.kind !== 'range') return false;
  for (const op of txn.failure) if (op.kind !== 'range') return false;
  return true;
}
