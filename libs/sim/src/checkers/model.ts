/**
 * What the store must be: the committed requests, applied one after the other to maps. Written from etcd's contract and
 * not from mvcc, so that a mistake in the one is not a mistake in the other. Keeps everything: every revision can be
 * asked again, whatever was compacted.
 */
import { utf8Text } from '@quoin/base';
import {
  type CompareView,
  type DeleteRangeRequestView,
  decodeLeaseExpireRequest,
  etcdErrors,
  Method,
  type Proposal,
  type PutRequestView,
  type RangeRequestView,
  type RequestOpView,
  type RpcStatus,
  readCompactionRequest,
  readDeleteRangeRequest,
  readLeaseGrantRequest,
  readLeaseRevokeRequest,
  readPutRequest,
  readTxnRequest,
  type TxnRequestView,
} from '@quoin/contracts';
import type { Kv } from '../etcd-messages.ts';

export interface ModelEvent {
  readonly type: 'put' | 'delete';
  /** Of a delete: key and mod revision alone. */
  readonly kv: Kv;
  /** What was there before the transaction; absent for a creation. */
  readonly prevKv: Kv | undefined;
}

/** What a request answers. */
export type ModelOutcome =
  | { readonly kind: 'put'; readonly prevKv: Kv | undefined }
  | { readonly kind: 'delete'; readonly deleted: number; readonly prevKvs: readonly Kv[] }
  | { readonly kind: 'range'; readonly kvs: readonly Kv[]; readonly more: boolean; readonly count: number }
  | { readonly kind: 'txn'; readonly succeeded: boolean; readonly responses: readonly ModelOutcome[] }
  | { readonly kind: 'done' }
  | { readonly kind: 'refused'; readonly status: RpcStatus };

/** One version of a key; a deleted one has version 0. */
type Version = Kv;

const done: ModelOutcome = { kind: 'done' };

function refused(status: RpcStatus): ModelOutcome {
  return { kind: 'refused', status };
}

/** A bound of '\0' means: no bound. */
export function inRange(key: string, low: string, end: string): boolean {
  if (end === '') return key === low;
  return key >= low && (end === '\0' || key < end);
}

export class StoreModel {
  revision = 1;
  compactRevision = 0;
  readonly leases = new Map<bigint, { readonly ttlSeconds: number }>();
  /** Changes by revision. */
  readonly events: (readonly ModelEvent[])[] = [];
  private readonly versions = new Map<string, Version[]>();
  /** Every key that ever was, sorted. */
  private readonly keys: string[] = [];
  private pending: ModelEvent[] = [];

  apply(proposal: Proposal): ModelOutcome {
    const { body, method } = proposal;
    switch (method) {
      case Method.put: {
        const put = readPutRequest(body);
        return this.putError(put) ?? this.write(() => this.put(put));
      }
      case Method.deleteRange:
        return this.write(() => this.deleteRange(readDeleteRangeRequest(body)));
      case Method.txn:
        return this.txn(readTxnRequest(body));
      case Method.compact:
        return this.compact(readCompactionRequest(body).revision);
      case Method.leaseGrant:
        return this.grant(body);
      case Method.leaseRevoke:
        return this.revoke(readLeaseRevokeRequest(body).id);
      case Method.leaseExpire:
        for (const id of decodeLeaseExpireRequest(body).ids) this.revoke(id);
        return done;
      default:
        return done;
    }
  }

  /** The version of a key as of a revision; undefined when it was not there. */
  get(key: string, revision = this.revision): Kv | undefined {
    const versions = this.versions.get(key);
    if (versions === undefined) return undefined;
    // Versions below `low` are not newer than the revision, those from `high` on are.
    let low = 0;
    let high = versions.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (versions[middle]!.modRevision <= revision) low = middle + 1;
      else high = middle;
    }
    const found = versions[low - 1];
    return found === undefined || found.version === 0 ? undefined : found;
  }

  range(low: string, end: string, revision = this.revision): Kv[] {
    if (end === '') {
      const kv = this.get(low, revision);
      return kv === undefined ? [] : [kv];
    }
    const found: Kv[] = [];
    for (const key of this.keys) {
      if (!inRange(key, low, end)) continue;
      const kv = this.get(key, revision);
      if (kv !== undefined) found.push(kv);
    }
    return found;
  }

  /** Keys that hold that lease now, sorted. */
  leaseKeys(id: bigint): string[] {
    return this.keys.filter((key) => this.get(key)?.lease === id);
  }

  private write(change: () => ModelOutcome): ModelOutcome {
    this.pending = [];
    const outcome = change();
    if (this.pending.length > 0) this.events[++this.revision] = this.pending;
    this.pending = [];
    return outcome;
  }

  private putError(put: PutRequestView): ModelOutcome | undefined {
    if (put.lease !== 0n && !this.leases.has(put.lease)) return refused(etcdErrors.leaseNotFound);
    if ((put.ignoreValue || put.ignoreLease) && this.get(utf8Text(put.key)) === undefined) {
      return refused(etcdErrors.keyNotFound);
    }
    return undefined;
  }

  /** The present state, changes of the open transaction included. */
  private live(key: string): Kv | undefined {
    return this.get(key, this.revision + 1);
  }

  private put(put: PutRequestView): ModelOutcome {
    const key = utf8Text(put.key);
    const before = this.live(key);
    const modRevision = this.revision + 1;
    const kv: Kv = {
      key,
      value: put.ignoreValue ? (before?.value ?? '') : utf8Text(put.value),
      createRevision: before?.createRevision ?? modRevision,
      modRevision,
      version: (before?.version ?? 0) + 1,
      lease: put.ignoreLease ? (before?.lease ?? 0n) : put.lease,
    };
    this.change('put', kv, before);
    return { kind: 'put', prevKv: put.prevKv ? before : undefined };
  }

  private deleteRange(request: DeleteRangeRequestView): ModelOutcome {
    const found = this.rangeLive(utf8Text(request.key), utf8Text(request.rangeEnd));
    for (const kv of found) this.remove(kv);
    return { kind: 'delete', deleted: found.length, prevKvs: request.prevKv ? found : [] };
  }

  private rangeLive(low: string, end: string): Kv[] {
    return this.range(low, end, this.revision + 1);
  }

  private remove(before: Kv): void {
    const modRevision = this.revision + 1;
    const kv = { key: before.key, value: '', createRevision: 0, modRevision, version: 0, lease: 0n };
    this.change('delete', kv, before);
  }

  private change(type: ModelEvent['type'], kv: Kv, before: Kv | undefined): void {
    const versions = this.versions.get(kv.key);
    if (versions === undefined) {
      this.versions.set(kv.key, [kv]);
      this.keys.push(kv.key);
      this.keys.sort();
    } else if (versions.at(-1)!.modRevision === kv.modRevision) {
      versions[versions.length - 1] = kv;
    } else {
      versions.push(kv);
    }
    this.pending.push({ type, kv, prevKv: before });
  }

  private txn(txn: TxnRequestView): ModelOutcome {
    const path = this.pathOf(txn);
    const problem = this.pathError(path.ops, path.nested);
    return problem ?? this.write(() => this.runPath(path));
  }

  private pathOf(txn: TxnRequestView): Path {
    const succeeded = txn.compare.every((compare) => this.holds(compare));
    const ops = succeeded ? txn.success : txn.failure;
    const nested = ops.flatMap((op) => (op.kind === 'txn' ? [this.pathOf(op.request)] : []));
    return { succeeded, ops, nested };
  }

  private pathError(ops: readonly RequestOpView[], nested: readonly Path[]): ModelOutcome | undefined {
    const inner = [...nested];
    for (const op of ops) {
      let problem: ModelOutcome | undefined;
      if (op.kind === 'put') problem = this.putError(op.request);
      else if (op.kind === 'range') problem = this.rangeError(op.request);
      else if (op.kind === 'txn') {
        const path = inner.shift()!;
        problem = this.pathError(path.ops, path.nested);
      }
      if (problem !== undefined) return problem;
    }
    return undefined;
  }

  private runPath(path: Path): ModelOutcome {
    const nested = [...path.nested];
    const responses = path.ops.map((op): ModelOutcome => {
      switch (op.kind) {
        case 'put':
          return this.put(op.request);
        case 'deleteRange':
          return this.deleteRange(op.request);
        case 'range':
          return this.rangeOutcome(op.request);
        case 'txn':
          return this.runPath(nested.shift()!);
        default:
          return done;
      }
    });
    return { kind: 'txn', succeeded: path.succeeded, responses };
  }

  rangeError(request: RangeRequestView): ModelOutcome | undefined {
    if (request.revision > this.revision) return refused(etcdErrors.futureRev);
    if (request.revision > 0 && request.revision < this.compactRevision) return refused(etcdErrors.compacted);
    return undefined;
  }

  private rangeOutcome(request: RangeRequestView): ModelOutcome {
    const low = utf8Text(request.key);
    const end = utf8Text(request.rangeEnd);
    const kvs = request.revision > 0 ? this.range(low, end, request.revision) : this.rangeLive(low, end);
    const shown = request.limit > 0 ? kvs.slice(0, request.limit) : kvs;
    return { kind: 'range', kvs: shown, more: shown.length < kvs.length, count: kvs.length };
  }

  private holds(compare: CompareView): boolean {
    const key = utf8Text(compare.key);
    const end = utf8Text(compare.rangeEnd);
    const found: (Kv | undefined)[] = end === '' ? [this.get(key)] : this.range(key, end);
    if (found.length === 0) found.push(undefined);
    return found.every((kv) => compareHolds(compare, kv));
  }

  private compact(revision: number): ModelOutcome {
    if (revision <= this.compactRevision) return refused(etcdErrors.compacted);
    if (revision > this.revision) return refused(etcdErrors.futureRev);
    this.compactRevision = revision;
    return done;
  }

  private grant(body: Uint8Array): ModelOutcome {
    const { id, ttl } = readLeaseGrantRequest(body);
    if (this.leases.has(id)) return refused(etcdErrors.leaseExist);
    this.leases.set(id, { ttlSeconds: ttl });
    return done;
  }

  private revoke(id: bigint): ModelOutcome {
    if (!this.leases.has(id)) return refused(etcdErrors.leaseNotFound);
    this.leases.delete(id);
    const keys = this.leaseKeys(id);
    return this.write(() => {
      for (const key of keys) this.remove(this.get(key)!);
      return done;
    });
  }
}

interface Path {
  readonly succeeded: boolean;
  readonly ops: readonly RequestOpView[];
  readonly nested: readonly Path[];
}

function compareHolds(compare: CompareView, kv: Kv | undefined): boolean {
  const order = orderOf(compare, kv);
  if (order === undefined) return false;
  return [order === 0, order > 0, order < 0, order !== 0][compare.result]!;
}

function orderOf(compare: CompareView, kv: Kv | undefined): number | undefined {
  switch (compare.target) {
    case 0:
      return (kv?.version ?? 0) - compare.version;
    case 1:
      return (kv?.createRevision ?? 0) - compare.createRevision;
    case 2:
      return (kv?.modRevision ?? 0) - compare.modRevision;
    case 3: {
      // A missing key has no value, not even an empty one.
      if (kv === undefined) return undefined;
      const wanted = utf8Text(compare.value);
      return kv.value < wanted ? -1 : kv.value > wanted ? 1 : 0;
    }
    default: {
      const lease = kv?.lease ?? 0n;
      return lease < compare.lease ? -1 : lease > compare.lease ? 1 : 0;
    }
  }
}
