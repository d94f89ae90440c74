/**
 * Where two servers may answer differently, each with its reason: the versions of etcd among each other, and Quoin where
 * it does so on purpose. The comparer and docs/compat.md both take the table from here.
 *
 * A row turns etcd's answer into the one that Quoin must give, so that the rest of the answer is compared all the same.
 */

import { etcdErrors } from '@quoin/contracts';
import type { Plain, PlainFields } from './message.ts';
import type { OracleVersion } from './oracle.ts';
import { type Step, signInTexts } from './step.ts';

export interface Difference {
  readonly id: string;
  /** Which etcd answers otherwise. */
  readonly oracles: readonly OracleVersion[];
  readonly request: string;
  readonly etcd: string;
  readonly quoin: string;
  readonly why: string;
  /**
   * What Quoin must answer, given etcd's answer; undefined when the row says nothing about this step. A row without it is
   * about requests that are not generated for that etcd, because what follows could not be compared.
   */
  readonly adapt?: (step: Step, etcd: Plain, quoin: Plain) => Plain | undefined;
}

const followed = 'Quoin follows 3.7.';

export const differences: readonly Difference[] = [
  {
    id: 'progress-after-compacted-watch',
    oracles: ['3.7'],
    request: 'progress_request on a stream where compaction has ended a watch',
    etcd: 'never answers again: the ended watch still counts as one that is behind',
    quoin: 'answers, once all watches that live are synced',
    why: 'The answer is what the API promises, and clients that wait for it (Kubernetes) would wait for ever.',
    adapt: (step, etcd) => {
      if (!('progress' in step) || !isFields(etcd) || etcd['compacted'] !== true || etcd['later'] === true)
        return undefined;
      return { progress: etcd['newest']! };
    },
  },
  {
    id: 'watch-of-lost-permission',
    oracles: ['3.7', '3.4'],
    request:
      'a watch whose user loses the permission for it, or that began before authentication was on and has no valid token',
    etcd: 'goes on: permissions are looked at only when a watch is created',
    quoin: 'is canceled, with the reason that creating it would have had',
    why: 'A permission that is taken away ends what it allowed.',
    adapt: (step, etcd, quoin) => ('rpc' in step ? undefined : withRevokedWatches(etcd, quoin)),
  },
  {
    id: 'member-add-order',
    oracles: ['3.7', '3.4'],
    request: 'MemberAdd with bad URLs by somebody who may not add members',
    etcd: 'names the URLs',
    quoin: 'names the permission',
    why: 'Who may not do it is not told what is wrong with it.',
    adapt: (step, etcd, quoin) =>
      'rpc' in step &&
      step.rpc === 'MemberAdd' &&
      isError(etcd) &&
      isError(quoin) &&
      signInTexts.has(String(quoin['text']))
        ? quoin
        : undefined,
  },
  {
    id: 'txn-of-nothing',
    oracles: ['3.7', '3.4'],
    request: 'a txn without compares and operations, by nobody, while authentication is on',
    etcd: 'succeeds: there is nothing to check',
    quoin: '`etcdserver: user name is empty`',
    why: 'Nobody may ask for anything.',
    adapt: (step, etcd, quoin) => {
      if (!('rpc' in step) || step.rpc !== 'Txn' || !isFields(etcd) || !isFields(quoin)) return undefined;
      const parts = ['compare', 'success', 'failure'].map((name) => step.request[name] ?? []) as unknown[][];
      const empty = parts.every((part) => part.length === 0);
      return empty && quoin['text'] === etcdErrors.userEmpty.message ? quoin : undefined;
    },
  },
  {
    id: 'user-without-name',
    oracles: ['3.7', '3.4'],
    request: 'UserGet of the user without a name, by nobody, while authentication is on',
    etcd: '`etcdserver: user name not found`: nobody asks for himself',
    quoin: '`etcdserver: user name is empty`',
    why: 'Nobody may ask for anything.',
    adapt: (step, etcd, quoin) =>
      'rpc' in step &&
      step.rpc === 'UserGet' &&
      (step.request['name'] ?? '') === '' &&
      isError(etcd) &&
      isError(quoin) &&
      quoin['text'] === etcdErrors.userEmpty.message
        ? quoin
        : undefined,
  },
  {
    id: 'hash-before-compaction',
    oracles: ['3.7', '3.4'],
    request: 'HashKV at one of the last ten revisions that were compacted',
    etcd: 'the number reckoned while it was compacted (3.7), or that the revision is compacted (3.4)',
    quoin: 'the number of what there is; below the compact revision, that it is compacted',
    why: 'etcd keeps those ten in the memory of the member; once restarted it gives Quoin’s answers (`tests/compat/hash.test.ts`).',
    adapt: (step, etcd, quoin) => {
      if (!('rpc' in step) || step.rpc !== 'HashKV' || !isFields(etcd) || !isFields(quoin)) return undefined;
      const atCompacted =
        quoin['hashRevision'] !== undefined && quoin['hashRevision'] === quoin['compactRevision'];
      const below = quoin['code'] === 11 && etcd['hash'] !== undefined;
      return atCompacted || below ? quoin : undefined;
    },
  },
  {
    id: 'hash-fields-3.4',
    oracles: ['3.4'],
    request: 'HashKV',
    etcd: 'has no hash_revision',
    quoin: 'has one',
    why: followed,
    adapt: (step, etcd, quoin) =>
      'rpc' in step &&
      step.rpc === 'HashKV' &&
      isFields(etcd) &&
      isFields(quoin) &&
      quoin['hashRevision'] !== undefined
        ? { ...etcd, hashRevision: quoin['hashRevision'] }
        : undefined,
  },
  {
    id: 'leader-without-lease',
    oracles: ['3.7', '3.4'],
    request: 'Proclaim, Resign with a leader whose lease is 0',
    etcd: 'grants a lease of 60 s that nobody is told of, then answers as for any other',
    quoin: 'answers as for any other',
    why: 'Such a leader key is not one that Campaign gave; the lease would only be litter.',
  },
  {
    id: 'ignore-after-delete',
    oracles: ['3.7', '3.4'],
    request:
      'a txn that deletes a key and then puts it with ignore_value or ignore_lease, past the rule about duplicates',
    etcd: 'panics at apply, and again whenever it starts',
    quoin: '`etcdserver: key not found`, for the whole txn',
    why: 'No client may end the cluster.',
  },
  {
    id: 'member-update-urls',
    oracles: ['3.7', '3.4'],
    request: 'MemberUpdate of a member that exists, with peer URLs that are none',
    etcd: 'stores them, and the member is cut off from its peers',
    quoin: '`etcdserver: given member URLs are invalid`, as both say to MemberAdd',
    why: 'Nobody can want it.',
  },
  {
    id: 'sort-options-3.4',
    oracles: ['3.4'],
    request: 'Range with a sort order or target that does not exist',
    etcd: 'takes such an order for none; such a target crashes the server',
    quoin: '`etcdserver: invalid sort option`',
    why: followed,
  },
  {
    id: 'negative-start-3.4',
    oracles: ['3.4'],
    request: 'a watch with a negative start revision',
    etcd: 'begins at the current revision',
    quoin: 'is created and canceled at once, with the text of a compacted revision',
    why: followed,
  },
  {
    id: 'progress-before-start-3.4',
    oracles: ['3.4'],
    request: 'progress_request while a watch of the stream begins in the future or is behind',
    etcd: 'answers at once',
    quoin: 'does not answer: the revision would claim events that the watch has not been sent',
    why: followed,
    adapt: (step, etcd, quoin) =>
      'progress' in step && isFields(etcd) && isFields(quoin) && quoin['later'] === true ? quoin : undefined,
  },
  {
    id: 'txn-check-order-3.4',
    oracles: ['3.4'],
    request: 'a txn with two operations that cannot be done',
    etcd: 'tells the error of the first put, else of the first range',
    quoin: 'tells the error of the first operation',
    why: followed,
    adapt: (step, etcd, quoin) =>
      'rpc' in step &&
      step.rpc === 'Txn' &&
      isError(etcd) &&
      isError(quoin) &&
      (etcd['code'] === 5 || etcd['code'] === 3)
        ? quoin
        : undefined,
  },
  {
    id: 'status-3.4',
    oracles: ['3.4'],
    request: 'Status',
    etcd: 'has no downgrade_info',
    quoin: 'has one',
    why: followed,
    adapt: (step, etcd) =>
      'rpc' in step && step.rpc === 'Status' && isFields(etcd) ? { ...etcd, downgradeInfo: {} } : undefined,
  },
  {
    id: 'alarm-header-3.4',
    oracles: ['3.4'],
    request: 'Alarm',
    etcd: 'answers without a header',
    quoin: 'has one',
    why: followed,
    adapt: (step, etcd, quoin) =>
      'rpc' in step &&
      step.rpc === 'Alarm' &&
      isFields(etcd) &&
      isFields(quoin) &&
      quoin['header'] !== undefined
        ? { ...etcd, header: quoin['header'] }
        : undefined,
  },
  {
    id: 'auth-3.4',
    oracles: ['3.4'],
    request: 'sequences about users and tokens, and about alarms; HashKV',
    etcd: 'looks at tokens while authentication is off, among others',
    quoin: 'as 3.7',
    why: 'Quoin follows 3.7; `tests/e2e/auth.test.ts` and `tests/compat/hash.test.ts` compare with 3.4 what is the same there.',
  },
  {
    id: 'range-stream-3.4',
    oracles: ['3.4'],
    request: 'RangeStream',
    etcd: 'does not know it',
    quoin: 'serves it',
    why: followed,
  },
];

/** etcd's logs of watches, where those that Quoin has revoked end as Quoin ended them. */
function withRevokedWatches(etcd: Plain, quoin: Plain): Plain | undefined {
  if (!isFields(etcd) || !isFields(quoin)) return undefined;
  const out: Record<string, Plain> = { ...etcd };
  for (const [name, log] of Object.entries(quoin)) {
    const theirs = etcd[name];
    const last = Array.isArray(log) ? (log.at(-1) as Plain | undefined) : undefined;
    if (Array.isArray(log) && last !== undefined && isFields(last) && isRevocation(last)) {
      const before = log.slice(0, -1);
      const begun = ((theirs ?? []) as readonly Plain[]).slice(0, before.length);
      if (same(begun, before)) out[name] = log;
    } else if (isFields(log) && theirs !== undefined) out[name] = withRevokedWatches(theirs, log) ?? theirs;
  }
  return out;
}

const isRevocation = (item: PlainFields): boolean =>
  item['canceled'] === true &&
  /^rpc error: code = (PermissionDenied|Unauthenticated|InvalidArgument) /.test(String(item['cancelReason']));

function isError(value: Plain): value is PlainFields {
  return isFields(value) && typeof value['code'] === 'number' && typeof value['text'] === 'string';
}

function isFields(value: Plain): value is PlainFields {
  return typeof value === 'object' && !Array.isArray(value);
}

export interface Verdict {
  readonly equal: boolean;
  /** Rows that were needed to make them so. */
  readonly explainedBy: readonly string[];
}

export function compare(step: Step, etcd: Plain, quoin: Plain, oracle: OracleVersion): Verdict {
  if (same(etcd, quoin)) return { equal: true, explainedBy: [] };
  const explainedBy: string[] = [];
  let expected = etcd;
  for (const row of differences) {
    if (!row.oracles.includes(oracle)) continue;
    const adapted = row.adapt?.(step, expected, quoin);
    if (adapted === undefined || same(adapted, expected)) continue;
    expected = adapted;
    explainedBy.push(row.id);
  }
  return { equal: same(expected, quoin), explainedBy };
}

export function same(a: Plain, b: Plain): boolean {
  if (typeof a !== 'object' || typeof b !== 'object') return a === b;
  if (Array.isArray(a) || Array.isArray(b))
    return (
      Array.isArray(a) && Array.isArray(b) && a.length === b.length && a.every((each, i) => same(each, b[i]))
    );
  const left = Object.keys(a);
  if (left.length !== Object.keys(b).length) return false;
  const [fields, others] = [a as PlainFields, b as PlainFields];
  return left.every((name) => name in others && same(fields[name]!, others[name]!));
}
