/** Which keys a request names, at every level of it: for the audit log and for limits. */
import { emptyBytes } from '@quoin/base';
import {
  type RequestOpView,
  readDeleteRangeRequest,
  readPutRequest,
  readRangeRequest,
  readTxnRequest,
  readWatchRequest,
  type TxnRequestView,
} from '@quoin/contracts';

export interface KeyRange {
  readonly key: Uint8Array;
  /** Empty: the key alone. */
  readonly rangeEnd: Uint8Array;
}

/** Empty for requests without keys, and for bytes that are no such request. Views of `request`. */
export function rangesOf(path: string, request: Uint8Array): KeyRange[] {
  try {
    switch (path) {
      case '/etcdserverpb.KV/Range':
      case '/etcdserverpb.KV/RangeStream':
        return [rangeOf(readRangeRequest(request))];
      case '/etcdserverpb.KV/Put':
        return [{ key: readPutRequest(request).key, rangeEnd: emptyBytes }];
      case '/etcdserverpb.KV/DeleteRange':
        return [rangeOf(readDeleteRangeRequest(request))];
      case '/etcdserverpb.KV/Txn': {
        const found: KeyRange[] = [];
        collect(readTxnRequest(request), found);
        return found;
      }
      case '/etcdserverpb.Watch/Watch': {
        const watch = readWatchRequest(request);
        return watch.kind === 'create' ? [rangeOf(watch.request)] : [];
      }
      default:
        return [];
    }
  } catch {
    return [];
  }
}

/** A WatchRequest that begins a watch. */
export function createsWatch(message: Uint8Array): boolean {
  try {
    return readWatchRequest(message).kind === 'create';
  } catch {
    return false;
  }
}

function rangeOf({ key, rangeEnd }: KeyRange): KeyRange {
  return { key, rangeEnd };
}

function collect(txn: TxnRequestView, into: KeyRange[]): void {
  for (const compare of txn.compare) into.push(rangeOf(compare));
  for (const op of txn.success) collectOp(op, into);
  for (const op of txn.failure) collectOp(op, into);
}

function collectOp(op: RequestOpView, into: KeyRange[]): void {
  if (op.kind === 'txn') collect(op.request, into);
  else if (op.kind === 'put') into.push({ key: op.request.key, rangeEnd: emptyBytes });
  else if (op.kind !== 'none') into.push(rangeOf(op.request));
}
