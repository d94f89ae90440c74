import { encodeLeaseExpireRequest, encodeProposalBatch, Method } from '@quoin/contracts';
import { EntryType } from '@quoin/raft';
import { etcd } from '@quoin/sim';
import { expect, test } from 'vitest';
import { Witness } from '../src/checkers/witness.ts';
import type { SimNode } from '../src/cluster.ts';

const { leaseGrantRequest, putRequest } = etcd;
const broken: string[] = [];
function setup() {
  broken.length = 0;
  const witness = new Witness((message) => {
    broken.push(message);
    throw new Error(message);
  });
  const probe = (name: string) => witness.probe({ name } as SimNode);
  const [a, b] = [probe('a'), probe('b')] as const;
  a.begins(1);
  b.begins(1);
  const apply = (index: number, term: number) =>
    a.applies({ index, term, type: EntryType.normal, data: new Uint8Array(0) });
  /** b comes to lead with a log of these terms, from index 2 on. */
  const leads = (term: number, log: readonly number[]) =>
    b.became({ leader: 2n, role: 'leader', term }, log.length + 1, (index) => log[index - 2] ?? -1);
  return { apply, leads };
}

// Seed 111144 on 5cccf8a: a member was paused with its votes in the post; a later term went on without it, and when it came
// back it led its own term for a moment, as Raft allows.
test('who comes to lead late, in a term that others have left behind, need not have what they did since', () => {
  const { apply, leads } = setup();
  apply(2, 3);
  apply(3, 5);
  apply(4, 5);
  leads(4, [3]);
  expect(broken).toEqual([]);
  // Entries of its own that will be replaced are allowed, too.
  const again = setup();
  again.apply(2, 3);
  again.apply(3, 5);
  again.leads(4, [3, 3]);
  expect(broken).toEqual([]);
});

test('who leads without something that was applied in an earlier term is noticed', () => {
  const short = setup();
  short.apply(2, 3);
  short.apply(3, 3);
  expect(() => short.leads(4, [3])).toThrow('leads with a log up to 2; 3 was applied');
  const other = setup();
  other.apply(2, 3);
  expect(() => other.leads(4, [2])).toThrow('leads with term 2 at 2; term 3 was applied');
});

// Seed 900426 on 667ab1f: a watcher was told of the first of two revisions, and what was put after that was called too early.
test('every revision of an entry that makes several has its place', () => {
  const witness = new Witness((message) => {
    throw new Error(message);
  });
  const probe = witness.probe({ name: 'a' } as SimNode);
  probe.begins(1);
  const steps: [number, Uint8Array][] = [
    [Method.leaseGrant, leaseGrantRequest(10, 1n)],
    [Method.leaseGrant, leaseGrantRequest(10, 2n)],
    [Method.put, putRequest('a', '1', { lease: 1n })],
    [Method.put, putRequest('b', '1', { lease: 2n })],
    [Method.leaseExpire, encodeLeaseExpireRequest({ ids: [1n, 2n] }).slice()],
  ];
  const none = {
    trace: new Uint8Array(0),
    user: '',
    authRevision: 0,
    own: true,
    leaseLimit: 0,
    keyLimits: [],
  };
  steps.forEach(([method, body], i) => {
    const proposal = { origin: 1n, id: BigInt(i + 1), method, body, ...none };
    const data = encodeProposalBatch({ proposals: [proposal] }).slice();
    probe.applies({ index: i + 2, term: 1, type: EntryType.normal, data });
  });
  expect([2, 3, 4, 5, 6].map((revision) => witness.positionOf(revision))).toEqual([3, 4, 5, 5, 6]);
});
