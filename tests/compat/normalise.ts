/**
 * What of an answer is compared. The two servers have identities, clocks and disks of their own: the list says which
 * fields those are and what is still held against each other; everything else must be equal to the last bit.
 */
import type { Plain, PlainFields } from './message.ts';
import type { CallStep } from './step.ts';

/** The rows of docs/compat.md, section "What is not compared". */
export const notCompared: readonly { readonly field: string; readonly instead: string }[] = [
  { field: 'header: cluster_id, member_id, raft_term', instead: 'that they are set, or not' },
  { field: 'lease ids that the server chose', instead: 'that later answers name the same lease' },
  { field: 'LeaseTimeToLive: TTL (what is left)', instead: 'at most 60 s below the granted one; −1 exactly' },
  { field: 'LeaseTimeToLive: keys; LeaseLeases: leases: their order', instead: 'the set' },
  { field: 'Alarm: alarms: their order', instead: 'the set' },
  { field: 'members of Member* answers', instead: 'that there are some; the error, if any' },
  {
    field: 'Status: version, sizes, quota, leader, raft term and indexes, storage version',
    instead: 'errors, is_learner',
  },
  { field: 'Hash: hash', instead: 'that there is one' },
  {
    field: 'how a RangeStream is cut into messages',
    instead: 'the whole, and that only the last has a header',
  },
  {
    field: 'how revisions are grouped into watch responses, and their headers',
    instead:
      'events and their order by watch; no revision in two responses unless a fragment; header not below the events',
  },
  { field: 'texts of gRPC’s own about bytes that are no message', instead: 'the code' },
];

const ttlSlackSeconds = 60;

/** `leaseName` gives generated ids a name that both servers share. */
export function normalise(step: CallStep, answer: PlainFields, leaseName: (id: Plain) => Plain): PlainFields {
  const out: Record<string, Plain> = { ...answer };
  switch (step.rpc) {
    case 'LeaseTimeToLive': {
      const left = Number(answer['TTL'] ?? 0);
      const granted = Number(answer['grantedTTL'] ?? 0);
      if (granted > 0 && left <= granted && left > granted - ttlSlackSeconds) out['TTL'] = 'as granted';
      if (answer['keys'] !== undefined) out['keys'] = sorted(answer['keys']);
      break;
    }
    case 'LeaseLeases':
      if (answer['leases'] !== undefined)
        out['leases'] = sorted((answer['leases'] as PlainFields[]).map((each) => leaseName(each['ID']!)));
      break;
    case 'Alarm':
      if (answer['alarms'] !== undefined)
        out['alarms'] = [...(answer['alarms'] as PlainFields[])].sort(
          (a, b) => alarmOrder(a) - alarmOrder(b),
        );
      break;
    case 'Status':
      for (const name of Object.keys(out))
        if (!['header', 'errors', 'isLearner', 'downgradeInfo'].includes(name)) delete out[name];
      break;
    case 'Hash':
      if (out['hash'] !== undefined) out['hash'] = 'own';
      break;
    case 'Authenticate':
      if (out['token'] !== undefined) out['token'] = 'own';
      break;
    default:
  }
  for (const name of ['members', 'member']) if (answer[name] !== undefined) out[name] = 'own';
  return nameLeases(out, leaseName) as PlainFields;
}

const own = new Set(['clusterId', 'memberId', 'raftTerm']);

/** Any answer or part of one, without identities. */
export function nameLeases(value: Plain, leaseName: (id: Plain) => Plain): Plain {
  if (Array.isArray(value)) return value.map((each) => nameLeases(each, leaseName));
  // Keys of locks and elections end with the lease.
  if (typeof value === 'string') return leaseName(value);
  if (typeof value !== 'object') return value;
  return Object.fromEntries(
    Object.entries(value as PlainFields).map(([name, inner]) => {
      if (own.has(name)) return [name, 'own'];
      if (name === 'lease' || name === 'ID') return [name, leaseName(inner)];
      return [name, nameLeases(inner, leaseName)];
    }),
  );
}

/** Members of alarms are few and small here. */
function alarmOrder({ alarm, memberID }: PlainFields): number {
  return Number(alarm ?? 0) * 1_000 + Number(memberID ?? 0);
}

function sorted(values: Plain): Plain {
  return [...(values as Plain[])].sort((a, b) =>
    String(a) < String(b) ? -1 : String(a) > String(b) ? 1 : 0,
  );
}

/** One answer of the parts of a RangeStream, as Range would give it; `headersBefore` counts those that are too many. */
export function joinRangeStream(parts: readonly PlainFields[]): PlainFields {
  const responses = parts.map((part) => (part['rangeResponse'] ?? {}) as PlainFields);
  const last = responses.at(-1) ?? {};
  const kvs = responses.flatMap((each) => (each['kvs'] ?? []) as Plain[]);
  const early = responses.slice(0, -1).filter((each) => Object.keys(each).some((name) => name !== 'kvs'));
  return { ...last, kvs, fieldsBeforeTheLast: early.length };
}
