/**
 * Every mutation that a simulated client sends is marked with a number, in a field that no message of etcd has: readers
 * skip it, and since requests travel untouched it is found again in the log. So what became of a request without an
 * answer is known, and so is a request that took effect twice.
 */
import { Method, type Proposal, readLeaseGrantRequest, WireReader, WireWriter } from '@quoin/contracts';

const field = 1_000;
const tag = field << 3;
const writer = new WireWriter(1_024);

/** Ids of leases that simulated clients ask for: the operation's number above this. */
export const leaseIdBase = 1_000_000n;

export function withOperation(request: Uint8Array, operation: number): Uint8Array {
  writer.begin(request.length + 16);
  writer.raw(request);
  writer.uintItem(tag, operation);
  return writer.finish().slice();
}

/** Undefined for what members propose by themselves. */
export function operationOf(proposal: Proposal): number | undefined {
  switch (proposal.method) {
    case Method.leaseGrant: {
      // The leader writes this request anew, with the TTL that holds; the id stays.
      const { id } = readLeaseGrantRequest(proposal.body);
      return id > leaseIdBase ? Number(id - leaseIdBase) : undefined;
    }
    case Method.put:
    case Method.deleteRange:
    case Method.txn:
    case Method.compact:
    case Method.leaseRevoke:
    case Method.authDisable:
    case Method.userDelete:
    case Method.userGrantRole:
    case Method.userRevokeRole:
    case Method.roleAdd:
    case Method.roleDelete:
    case Method.roleGrantPermission:
    case Method.roleRevokePermission:
      return markOf(proposal.body);
    default:
      return undefined;
  }
}

function markOf(body: Uint8Array): number | undefined {
  const reader = new WireReader(body);
  while (reader.more()) {
    const found = reader.tag();
    if (found === tag) return reader.uint53();
    reader.skip(found);
  }
  return undefined;
}
