/**
 * Transactions: all compares of all levels on the path taken, then all checks, then the writes.
 *
 *   plan:  compares ──► branch ──► nested compares ──► branch …      nothing written yet
 *   check: leases, ignore_…, revisions of ranges                     nothing written yet, may refuse the whole
 *   run:   operations in order, in one revision                      cannot fail
 */
import { assert, compareBytes, emptyBytes } from '@quoin/base';
import {
  type CompareView,
  etcdErrors,
  KeyValueView,
  type PutRequestView,
  type RangeRequestView,
  type RequestOpView,
  type RpcStatus,
  type TxnRequestView,
  type TxnResponseOp,
} from '@quoin/contracts';
import type { KeyMeta, RangeOptions, RangeResult, RevisionError, Store, WriteTxn } from '@quoin/mvcc';

/** The outcome of a txn, ready to be written. */
export interface TxnResult {
  readonly succeeded: boolean;
  readonly responses: readonly TxnResponseOp[];
}

/** What compares and ranges read from: the store for a read-only txn, else the open write transaction. */
export interface TxnReader {
  get(key: Uint8Array): Uint8Array | undefined;
  meta(key: Uint8Array): KeyMeta | undefined;
  range(options: RangeOptions): RangeResult | RevisionError;
}

export interface TxnPlan {
  readonly succeeded: boolean;
  readonly ops: readonly RequestOpView[];
  /** One for each op of kind txn, in order. */
  readonly nested: readonly TxnPlan[];
}

/** Ranges only, in both branches: served without the log. A nested txn counts as a write, as with etcd. */
export function isReadOnly(txn: TxnRequestView): boolean {
  return txn.success.every((op) => op.kind === 'range') && txn.failure.every((op) => op.kind === 'range');
}

/**
 * Served from local state without a quorum. Unlike with etcd a txn of compares alone is not: its answer would be
 * stale without anybody having asked for that.
 */
export function isSerializable(txn: TxnRequestView): boolean {
  const ops = [...txn.success, ...txn.failure];
  return ops.length > 0 && ops.every((op) => op.kind === 'range' && op.request.serializable);
}

export function planTxn(reader: TxnReader, txn: TxnRequestView): TxnPlan {
  const succeeded = txn.compare.every((compare) => compareHolds(reader, compare));
  const ops = succeeded ? txn.success : txn.failure;
  const nested: TxnPlan[] = [];
  for (const op of ops) if (op.kind === 'txn') nested.push(planTxn(reader, op.request));
  return { succeeded, ops, nested };
}

// Pointed at one pair after the other; never kept beyond the compare that it is used in.
const view = new KeyValueView();
/** What a missing key compares as. */
const zero = new KeyValueView();

function compareHolds(reader: TxnReader, compare: CompareView): boolean {
  if (compare.rangeEnd.length > 0) {
    const found = reader.range({ key: compare.key, rangeEnd: compare.rangeEnd });
    assert(typeof found === 'object', 'the latest revision can be read');
    if (found.kvs.length === 0) return holds(compare, undefined);
    return found.kvs.every((kv) => holds(compare, view.read(kv)));
  }
  if (compare.target === 3) {
    const kv = reader.get(compare.key);
    return holds(compare, kv === undefined ? undefined : view.read(kv));
  }
  return holds(compare, reader.meta(compare.key));
}

function holds(compare: CompareView, found: KeyMeta | KeyValueView | undefined): boolean {
  // A missing key has no value, not an empty one: neither equal nor unequal.
  if (found === undefined && compare.target === 3) return false;
  const order = orderOf(compare, found ?? zero);
  switch (compare.result) {
    case 0:
      return order === 0;
    case 1:
      return order > 0;
    case 2:
      return order < 0;
    case 3:
      return order !== 0;
    default:
      return true;
  }
}

function orderOf(compare: CompareView, kv: KeyMeta | KeyValueView): number {
  switch (compare.target) {
    case 0:
      return kv.version - compare.version;
    case 1:
      return kv.createRevision - compare.createRevision;
    case 2:
      return kv.modRevision - compare.modRevision;
    case 3:
      return compareBytes(kv instanceof KeyValueView ? kv.value() : emptyBytes, compare.value);
    case 4:
      return kv.lease < compare.lease ? -1 : kv.lease > compare.lease ? 1 : 0;
    default:
      return 0;
  }
}

/** Why a put cannot be: the same answer before and at apply, on every member. */
export function putError(
  reader: TxnReader,
  put: PutRequestView,
  leaseExists: (id: bigint) => boolean,
): RpcStatus | undefined {
  if (put.key.length === 0) return etcdErrors.emptyKey;
  if (put.ignoreValue && put.value.length > 0) return etcdErrors.valueProvided;
  if (put.ignoreLease && put.lease !== 0n) return etcdErrors.leaseProvided;
  if (put.lease !== 0n && !leaseExists(put.lease)) return etcdErrors.leaseNotFound;
  if ((put.ignoreValue || put.ignoreLease) && reader.meta(put.key) === undefined)
    return etcdErrors.keyNotFound;
  return undefined;
}

export interface RevisionBounds {
  readonly revision: number;
  readonly compactRevision: number;
}

/** `inTxn`: only there a negative revision is a compacted one; a Range of its own takes it for the current one. */
export function rangeError(
  range: RangeRequestView,
  bounds: RevisionBounds,
  inTxn: boolean,
): RpcStatus | undefined {
  if (range.key.length === 0) return etcdErrors.emptyKey;
  if (range.sortOrder < 0 || range.sortOrder > 2 || range.sortTarget < 0 || range.sortTarget > 4) {
    return etcdErrors.invalidSortOption;
  }
  if (range.revision > bounds.revision) return etcdErrors.futureRev;
  if (range.revision < 0 && inTxn) return etcdErrors.compacted;
  if (range.revision > 0 && range.revision < bounds.compactRevision) return etcdErrors.compacted;
  return undefined;
}

/** The first reason why the path taken cannot be run as a whole. `before`: the writes that come before it. */
export function planError(
  reader: TxnReader,
  plan: TxnPlan,
  bounds: RevisionBounds,
  leaseExists: (id: bigint) => boolean,
  before: RequestOpView[] = [],
): RpcStatus | undefined {
  let nestedAt = 0;
  for (const op of plan.ops) {
    let problem: RpcStatus | undefined;
    if (op.kind === 'put')
      problem = putError(reader, op.request, leaseExists) ?? ignoredError(op.request, before);
    else if (op.kind === 'range') problem = rangeError(op.request, bounds, true);
    else if (op.kind === 'deleteRange')
      problem = op.request.key.length === 0 ? etcdErrors.emptyKey : undefined;
    else if (op.kind === 'txn')
      problem = planError(reader, plan.nested[nestedAt++]!, bounds, leaseExists, before);
    else problem = etcdErrors.keyNotFound;
    if (problem !== undefined) return problem;
    if (op.kind === 'put' || op.kind === 'deleteRange') before.push(op);
  }
  return undefined;
}

/** What a put is to keep may be deleted by the same txn before it comes to it, where the rule about duplicates has its gaps. */
function ignoredError(put: PutRequestView, before: readonly RequestOpView[]): RpcStatus | undefined {
  if (!put.ignoreValue && !put.ignoreLease) return undefined;
  const last = before.findLast((op) => touches(op, put.key));
  return last?.kind === 'deleteRange' ? etcdErrors.keyNotFound : undefined;
}

function touches(op: RequestOpView, key: Uint8Array): boolean {
  if (op.kind === 'put') return compareBytes(op.request.key, key) === 0;
  if (op.kind !== 'deleteRange') return false;
  const { key: from, rangeEnd } = op.request;
  if (rangeEnd.length === 0) return compareBytes(from, key) === 0;
  const fromKey = rangeEnd.length === 1 && rangeEnd[0] === 0;
  return compareBytes(from, key) <= 0 && (fromKey || compareBytes(key, rangeEnd) < 0);
}

/** The lease that this put attaches to and the value that it writes; `key` exists when `ignore…` is set. */
export function runPut(write: WriteTxn, put: PutRequestView): Uint8Array | undefined {
  let { value, lease } = put;
  if (put.ignoreLease) lease = write.meta(put.key)?.lease ?? 0n;
  if (put.ignoreValue) {
    const kv = write.get(put.key);
    if (kv !== undefined) value = view.read(kv).value();
  }
  return write.put(put.key, value, lease, put.prevKv);
}

/** Told of keys that come and go. */
export interface KeyChanges {
  created(key: Uint8Array): void;
  deleted(key: Uint8Array, rangeEnd: Uint8Array, deleted: number): void;
}

/** The keys that the path taken puts, in order. */
export function planPuts(plan: TxnPlan): Uint8Array[] {
  let nestedAt = 0;
  return plan.ops.flatMap((op) => {
    if (op.kind === 'put') return [op.request.key];
    return op.kind === 'txn' ? planPuts(plan.nested[nestedAt++]!) : [];
  });
}

/** Runs the path taken. `changed` tells the revision that sub headers name. */
export class TxnRunner {
  private readonly write: WriteTxn;
  private readonly changes: KeyChanges | undefined;
  private changed: boolean;

  constructor(write: WriteTxn, changes?: KeyChanges) {
    this.write = write;
    this.changes = changes;
    this.changed = false;
  }

  run(plan: TxnPlan): TxnResult {
    let nestedAt = 0;
    const responses = plan.ops.map((op): TxnResponseOp => {
      // Its header stays empty, as etcd's does.
      if (op.kind === 'txn') return { kind: 'txn', revision: 0, ...this.run(plan.nested[nestedAt++]!) };
      return this.runOp(op);
    });
    return { succeeded: plan.succeeded, responses };
  }

  private runOp(op: RequestOpView): TxnResponseOp {
    switch (op.kind) {
      case 'put': {
        const { changes } = this;
        if (changes !== undefined && this.write.meta(op.request.key) === undefined)
          changes.created(op.request.key);
        const prevKv = runPut(this.write, op.request);
        this.changed = true;
        return { kind: 'put', revision: this.revision, prevKv: op.request.prevKv ? prevKv : undefined };
      }
      case 'deleteRange': {
        const { deleted, prevKvs } = this.write.deleteRange(
          op.request.key,
          op.request.rangeEnd,
          op.request.prevKv,
        );
        this.changes?.deleted(op.request.key, op.request.rangeEnd, deleted);
        if (deleted > 0) this.changed = true;
        return { kind: 'deleteRange', revision: this.revision, deleted, prevKvs };
      }
      case 'range': {
        const range = this.write.range(op.request);
        assert(typeof range === 'object', 'revisions were checked before the first write');
        return { kind: 'range', revision: this.revision, ...range };
      }
      default:
        throw new Error('operations were checked before the first write');
    }
  }

  private get revision(): number {
    return this.changed ? this.write.revision : this.write.revision - 1;
  }
}

/** The same for a txn of ranges alone, from the store as it is. */
export function runReadOnly(store: Store, plan: TxnPlan): TxnResult {
  const revision = store.revision;
  const responses = plan.ops.map((op): TxnResponseOp => {
    assert(op.kind === 'range', 'a read-only txn has ranges only');
    const range = store.range(op.request);
    assert(typeof range === 'object', 'revisions were checked before');
    return { kind: 'range', revision, ...range };
  });
  return { succeeded: plan.succeeded, responses };
}
