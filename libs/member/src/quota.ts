/**
 * The quota of the backend, as etcd reckons it: a change that may add to the data is let through while size and cost are
 * below the quota. The size is that of all versions kept (`Store.storedBytes`) and of the leases, the same on every
 * member that has finished its compactions: what is deleted and compacted is given back at once, without defragmenting.
 */
import {
  Method,
  type PutRequestView,
  type RequestOpView,
  readPutRequest,
  readTxnRequest,
  type TxnRequestView,
} from '@quoin/contracts';

/** etcd's estimate of what a key takes beside its bytes. */
const keyOverheadBytes = 256;
export const leaseCostBytes = 64;

export function putCost(put: PutRequestView): number {
  return keyOverheadBytes + put.key.length + put.value.length;
}

/** Of the dearer branch; 0 when there is no put in it. */
export function txnCost(txn: TxnRequestView): number {
  return Math.max(branchCost(txn.success), branchCost(txn.failure));
}

function branchCost(branch: readonly RequestOpView[]): number {
  let cost = 0;
  for (const op of branch) {
    if (op.kind === 'put') cost += putCost(op.request);
    else if (op.kind === 'txn') cost += txnCost(op.request);
  }
  return cost;
}

/** The least bytes that one put takes in an encoded txn: its cost cannot be more than this times the txn's length. */
const costPerByteMax = 1 + keyOverheadBytes / 4;

/** What a request that has not been read yet may cost. 0: it adds nothing. @throws WireError */
export function requestCost(method: Method, body: Uint8Array, room: number): number {
  switch (method) {
    case Method.put:
      return body.length + keyOverheadBytes < room
        ? body.length + keyOverheadBytes
        : putCost(readPutRequest(body));
    case Method.txn:
      return body.length * costPerByteMax < room
        ? body.length * costPerByteMax
        : txnCost(readTxnRequest(body));
    case Method.leaseGrant:
      return leaseCostBytes;
    default:
      return 0;
  }
}
