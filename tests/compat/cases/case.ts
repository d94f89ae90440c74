/** A line of etcd's semantics as requests and what they must be answered. */
import { type EtcdErrorName, etcdErrors } from '@quoin/contracts';
import type { Fields, Plain, PlainFields, Value } from '../message.ts';
import type { CallStep, Step } from '../step.ts';
import { firstLease } from '../target.ts';

/**
 * What an answer must have; other fields are not looked at, lists must be whole. Revisions count from the one at which
 * the case begins. Undefined: only compared with etcd's, where there is one.
 */
export type Expected =
  | Plain
  | { readonly [name: string]: Expected | undefined }
  | readonly Expected[]
  | undefined;

export interface Case {
  /** Section of the reference, and the line's subject. */
  readonly name: string;
  /** Points of its closing checklist (section 18). */
  readonly points?: readonly number[];
  readonly steps: readonly (readonly [step: Step, expected?: Expected])[];
  /** Not asked of etcd, which does not survive it. */
  readonly alone?: boolean;
  /** What the watches of the case were told, by stream and id. */
  readonly watches?: Expected;
}

const produced = new Set<EtcdErrorName>();

/** An answer that is this error of the table. */
export function error(name: EtcdErrorName): PlainFields {
  produced.add(name);
  return { code: etcdErrors[name].code, text: etcdErrors[name].message };
}

/** All errors that some case expects. */
export const errorsOfCases: ReadonlySet<EtcdErrorName> = produced;

export const at = (n: number): Value => ({ at: n });
/** The id that goes with a slot, as answers show it. */
export const leaseId = (slot: number): number => firstLease + slot;
export const lease = (n: number): Value => ({ lease: n });

export const call = (rpc: string, request: Fields = {}, more: Partial<CallStep> = {}): CallStep => ({
  rpc,
  request,
  ...more,
});
export const range = (key: string, more: Fields = {}): CallStep => call('Range', { key, ...more });
export const prefix = (key: string, more: Fields = {}): CallStep =>
  range(key, {
    rangeEnd: key.slice(0, -1) + String.fromCharCode(key.charCodeAt(key.length - 1) + 1),
    ...more,
  });
export const put = (key: string, value: string, more: Fields = {}): CallStep =>
  call('Put', { key, value, ...more });
export const del = (key: string, more: Fields = {}): CallStep => call('DeleteRange', { key, ...more });
export const compact = (n: number): CallStep => call('Compact', { revision: at(n) });
export const grant = (slot: number, ttl = 1_000): CallStep =>
  call('LeaseGrant', { ID: { lease: slot }, TTL: ttl });

export const txn = (compare: Fields[], success: Fields[] = [], failure: Fields[] = []): CallStep =>
  call('Txn', { compare, success, failure });
export const opPut = (key: string, value: string, more: Fields = {}): Fields => ({
  requestPut: { key, value, ...more },
});
export const opRange = (key: string, more: Fields = {}): Fields => ({ requestRange: { key, ...more } });
export const opDel = (key: string, more: Fields = {}): Fields => ({ requestDeleteRange: { key, ...more } });
export const opTxn = (compare: Fields[], success: Fields[] = [], failure: Fields[] = []): Fields => ({
  requestTxn: { compare, success, failure },
});

export const watch = (key: string, more: Fields = {}, stream = 0): Step => ({
  watch: stream,
  create: { key, ...more },
});
export const cancel = (id: number, stream = 0): Step => ({ watch: stream, cancel: id });
export const progress = (stream = 0): Step => ({ watch: stream, progress: true });

export const header = (revision: number): PlainFields => ({
  clusterId: 'own',
  memberId: 'own',
  revision,
  raftTerm: 'own',
});

/** A pair as answers have it; lease only where there is one. */
export function kv(
  key: string,
  value: string,
  create: number,
  mod: number,
  version: number,
  of?: Plain,
): PlainFields {
  return {
    key,
    createRevision: create,
    modRevision: mod,
    version,
    ...(value === '' ? {} : { value }),
    ...(of === undefined ? {} : { lease: of }),
  };
}

const revisionFields = new Set([
  'revision',
  'createRevision',
  'modRevision',
  'compactRevision',
  'hashRevision',
  'rev',
  'progress',
  'newest',
]);

/** The same answer with revisions counted from `base`. */
export function relative(value: Plain, base: number): Plain {
  if (Array.isArray(value)) return value.map((each) => relative(each as Plain, base));
  if (typeof value !== 'object') return value;
  return Object.fromEntries(
    Object.entries(value as PlainFields).map(([name, inner]) => [
      name,
      revisionFields.has(name) && typeof inner === 'number' ? inner - base : relative(inner, base),
    ]),
  );
}

/** Where an answer is not as expected; undefined when it is. */
export function mismatch(answer: Plain | undefined, expected: Expected, path = 'answer'): string | undefined {
  if (typeof expected !== 'object' || expected === null)
    return answer === expected ? undefined : `${path} is ${String(answer)}, not ${String(expected)}`;
  if (Array.isArray(expected)) {
    if (!Array.isArray(answer)) return `${path} is no list`;
    if (answer.length !== expected.length)
      return `${path} has ${answer.length} entries, not ${expected.length}`;
    for (const [i, each] of expected.entries()) {
      const problem = mismatch(answer[i] as Plain, each as Expected, `${path}[${i}]`);
      if (problem !== undefined) return problem;
    }
    return undefined;
  }
  if (typeof answer !== 'object' || Array.isArray(answer)) return `${path} is ${String(answer)}, no message`;
  for (const [name, each] of Object.entries(expected as Record<string, Expected>)) {
    const problem = mismatch((answer as PlainFields)[name], each, `${path}.${name}`);
    if (problem !== undefined) return problem;
  }
  return undefined;
}
