/** Whether a response says what the model says. Everything here returns what is wrong, or undefined. */

import { field, fields, type Kv, readKv, varint } from '../etcd-messages.ts';
import type { ModelOutcome } from './model.ts';

const empty = new Uint8Array(0);

export function showKv(kv: Kv | undefined): string {
  if (kv === undefined) return '(none)';
  const value = kv.value.length > 24 ? `${kv.value.slice(0, 24)}…` : kv.value;
  const lease = kv.lease === 0n ? '' : ` lease ${kv.lease}`;
  return `${kv.key}=${value} [${kv.createRevision}/${kv.modRevision} v${kv.version}${lease}]`;
}

export function sameKv(a: Kv | undefined, b: Kv | undefined): boolean {
  if (a === undefined || b === undefined) return a === b;
  return (
    a.key === b.key &&
    a.value === b.value &&
    a.createRevision === b.createRevision &&
    a.modRevision === b.modRevision &&
    a.version === b.version &&
    a.lease === b.lease
  );
}

function kvsError(what: string, got: readonly Kv[], wanted: readonly Kv[]): string | undefined {
  for (let i = 0; i < Math.max(got.length, wanted.length); i++) {
    if (!sameKv(got[i], wanted[i])) return `${what} has ${showKv(got[i])}, not ${showKv(wanted[i])}`;
  }
  return undefined;
}

/** The body of the response to one request, or of one operation in a txn. */
export function responseError(body: Uint8Array, wanted: ModelOutcome): string | undefined {
  switch (wanted.kind) {
    case 'put': {
      const prev = field(body, 18);
      const got = prev === undefined ? [] : [readKv(prev)];
      return kvsError('prev_kv', got, wanted.prevKv === undefined ? [] : [wanted.prevKv]);
    }
    case 'delete': {
      const deleted = Number(varint(body, 16));
      if (deleted !== wanted.deleted) return `deleted ${deleted}, not ${wanted.deleted}`;
      return kvsError('prev_kvs', fields(body, 26).map(readKv), wanted.prevKvs);
    }
    case 'range': {
      const count = Number(varint(body, 32));
      if (count !== wanted.count) return `count ${count}, not ${wanted.count}`;
      if ((varint(body, 24) === 1n) !== wanted.more) return `more is not ${wanted.more}`;
      return kvsError('the range', fields(body, 18).map(readKv), wanted.kvs);
    }
    case 'txn':
      return txnError(body, wanted);
    case 'done':
      return undefined;
    case 'refused':
      return `success, not ${wanted.status.message}`;
  }
}

const responseTags = { range: 10, put: 18, delete: 26, txn: 34 } as const;

function txnError(body: Uint8Array, wanted: ModelOutcome & { kind: 'txn' }): string | undefined {
  const succeeded = varint(body, 16) === 1n;
  if (succeeded !== wanted.succeeded) return `succeeded is ${succeeded}`;
  const responses = fields(body, 26);
  if (responses.length !== wanted.responses.length) {
    return `${responses.length} responses, not ${wanted.responses.length}`;
  }
  for (let i = 0; i < responses.length; i++) {
    const inner = wanted.responses[i]!;
    if (inner.kind === 'done' || inner.kind === 'refused') continue;
    const problem = responseError(field(responses[i]!, responseTags[inner.kind]) ?? empty, inner);
    if (problem !== undefined) return `operation ${i}: ${problem}`;
  }
  return undefined;
}
