/** Sections 3 to 7: revisions and headers, ranges, puts and deletes, transactions, compaction. */

import type { Fields } from '../message.ts';
import {
  at,
  type Case,
  call,
  compact,
  del,
  error,
  grant,
  header,
  kv,
  lease,
  leaseId,
  opDel,
  opPut,
  opRange,
  opTxn,
  prefix,
  put,
  range,
  txn,
} from './case.ts';

const everyKey = { key: 'a', rangeEnd: 'e' };
const abc = [
  [put('a', '3'), { header: header(1) }],
  [put('b', '1'), { header: header(2) }],
  [put('c', '2'), { header: header(3) }],
  [put('b', '1+'), { header: header(4) }],
] as const;
const a = kv('a', '3', 1, 1, 1);
const b = kv('b', '1+', 2, 4, 2);
const c = kv('c', '2', 3, 3, 1);
const many = (count: number): Fields[] => Array.from({ length: count }, (_, i) => opRange(`k${i}`));

const revisions: Case[] = [
  {
    name: '3.2 a txn is one revision; no-op deletes and txns move nothing',
    points: [20],
    steps: [
      [txn([], [opPut('a', '1'), opPut('b', '1'), opDel('x')]), { header: header(1), succeeded: true }],
      [range('b'), { kvs: [kv('b', '1', 1, 1, 1)] }],
      [del('nothing'), { header: header(1) }],
      [txn([], [opDel('nothing'), opRange('a')]), { header: header(1) }],
      [txn([{ key: 'a', target: 0, version: 9 }], [opPut('a', '2')]), { header: header(1) }],
      [put('a', '1'), { header: header(2) }],
    ],
  },
  {
    name: '3.3 the header of a range is the present; inside a txn headers have the revision alone',
    points: [2, 8],
    steps: [
      [put('a', '1')],
      [put('a', '2')],
      [range('a', { revision: at(1) }), { header: header(2), kvs: [kv('a', '1', 1, 1, 1)], count: 1 }],
      [txn([], [opPut('b', '1'), opRange('a'), opDel('b', { prevKv: true })]), error('duplicateKey')],
      [
        txn([], [opPut('b', '1'), opRange('a'), opDel('c')]),
        {
          header: header(3),
          succeeded: true,
          responses: [
            { responsePut: { header: { revision: 3 } } },
            { responseRange: { header: { revision: 3 }, kvs: [kv('a', '2', 1, 2, 2)], count: 1 } },
            { responseDeleteRange: { header: { revision: 3 } } },
          ],
        },
      ],
    ],
  },
  {
    name: '3.4 no header in Defragment; leases do not move the revision',
    points: [9],
    steps: [
      [call('Defragment'), {}],
      [grant(1), { header: header(0) }],
      [call('LeaseKeepAlive', { ID: lease(1) }), { answers: [{ header: header(0) }] }],
      [
        call('MemberList'),
        { header: { clusterId: 'own', memberId: 'own', raftTerm: 'own' }, members: 'own' },
      ],
      [put('a', '1'), { header: header(1) }],
    ],
  },
  {
    name: '3.5 version and create revision begin anew after a delete',
    steps: [
      [put('a', '1')],
      [put('a', '2')],
      [del('a'), { header: header(3), deleted: 1 }],
      [put('a', '3')],
      [range('a'), { kvs: [kv('a', '3', 4, 4, 1)] }],
    ],
  },
  {
    name: '3.2 deletes of one request are in key order, one revision',
    steps: [
      ...abc,
      [
        call('DeleteRange', { ...everyKey, prevKv: true }),
        { header: header(5), deleted: 3, prevKvs: [a, b, c] },
      ],
    ],
  },
];

const ranges: Case[] = [
  {
    name: '4 keys and ends: single, all from, everything, inverted',
    steps: [
      ...abc,
      [range(''), error('emptyKey')],
      [range('b'), { kvs: [b], count: 1 }],
      [range('b', { rangeEnd: '\0' })],
      [prefix('b'), { kvs: [b], count: 1 }],
      [range('\0', { rangeEnd: '\0', countOnly: true }), { count: 4 }],
      [range('c', { rangeEnd: 'a' }), { header: header(4) }],
      [range('b', { rangeEnd: 'b' }), { header: header(4) }],
    ],
  },
  {
    name: '4 sort orders and targets; those that there are not',
    steps: [
      ...abc,
      [call('Range', { ...everyKey, sortOrder: 2 }), { kvs: [c, b, a], count: 3 }],
      [call('Range', { ...everyKey, sortTarget: 1, sortOrder: 2 }), { kvs: [b, a, c] }],
      [call('Range', { ...everyKey, sortTarget: 4 }), { kvs: [b, c, a] }],
      [call('Range', { ...everyKey, sortTarget: 3, sortOrder: 2 }), { kvs: [b, c, a] }],
      [call('Range', { ...everyKey, sortTarget: 2, sortOrder: 1 }), { kvs: [a, b, c] }],
      [range('a', { sortOrder: 3 }), error('invalidSortOption')],
      [range('a', { sortTarget: 5 }), error('invalidSortOption')],
      [range('a', { sortTarget: -1 }), error('invalidSortOption')],
    ],
  },
  {
    name: '4 revisions: past, compacted, future, none',
    points: [14],
    steps: [
      ...abc,
      [range('b', { revision: at(2) }), { header: header(4), kvs: [kv('b', '1', 2, 2, 1)] }],
      [range('b', { revision: -5 }), { kvs: [b] }],
      [range('b', { revision: at(5) }), error('futureRev')],
      [compact(3), { header: header(4) }],
      [range('b', { revision: at(2) }), error('compacted')],
      [range('b', { revision: at(3) }), { kvs: [kv('b', '1', 2, 2, 1)] }],
    ],
  },
  {
    name: '4 limit is cut after sorting; count ignores limit and filters',
    points: [10, 23],
    steps: [
      ...abc,
      [call('Range', { ...everyKey, limit: 2 }), { kvs: [a, b], more: true, count: 3 }],
      [call('Range', { ...everyKey, limit: 3 }), { kvs: [a, b, c], more: undefined, count: 3 }],
      [
        call('Range', { ...everyKey, limit: 1, sortTarget: 4, sortOrder: 2 }),
        { kvs: [a], more: true, count: 3 },
      ],
      [call('Range', { ...everyKey, limit: -1 }), { kvs: [a, b, c], more: undefined }],
      [call('Range', { ...everyKey, minModRevision: at(3) }), { kvs: [b, c], count: 3, more: undefined }],
      [
        call('Range', { ...everyKey, maxCreateRevision: at(2), limit: 1 }),
        { kvs: [a], count: 3, more: true },
      ],
      [
        call('Range', { ...everyKey, minCreateRevision: at(2), maxModRevision: at(3) }),
        { kvs: [c], count: 3 },
      ],
      [call('Range', { ...everyKey, maxModRevision: -1 }), { kvs: undefined, count: 3 }],
      [
        call('Range', { ...everyKey, countOnly: true, limit: 1 }),
        { kvs: undefined, count: 3, more: undefined },
      ],
    ],
  },
  {
    name: '4 keys_only: no value, and no lease unless sorted by value',
    steps: [
      [grant(1)],
      [put('a', 'x', { lease: lease(1) })],
      [range('a', { keysOnly: true }), { kvs: [kv('a', '', 1, 1, 1)] }],
      [range('a', { keysOnly: true, sortTarget: 4, sortOrder: 1 })],
      [range('a'), { kvs: [{ lease: leaseId(1) }] }],
    ],
  },
  {
    name: '4 RangeStream: the unary answer; no sort, no filters',
    steps: [
      ...abc,
      [
        call('RangeStream', { ...everyKey, limit: 2 }),
        { header: header(4), kvs: [a, b], more: true, count: 3, fieldsBeforeTheLast: 0 },
      ],
      [call('RangeStream', { ...everyKey, countOnly: true }), { kvs: [], count: 3 }],
      [call('RangeStream', { ...everyKey, revision: at(2) }), { kvs: [a, kv('b', '1', 2, 2, 1)], count: 2 }],
      [
        call('RangeStream', { ...everyKey, sortOrder: 2 }),
        { code: 12, text: 'RangeStream does not support custom sort orders' },
      ],
      [
        call('RangeStream', { ...everyKey, minModRevision: 1 }),
        { code: 12, text: 'RangeStream does not support revision filters' },
      ],
      [call('RangeStream', { ...everyKey, revision: at(9) }), error('futureRev')],
    ],
  },
];

const writes: Case[] = [
  {
    name: '5 ignore_value and ignore_lease; unknown leases; empty keys and values',
    steps: [
      [put('', 'x'), error('emptyKey')],
      [del(''), error('emptyKey')],
      [put('a', ''), { header: header(1) }],
      [put('a', 'x', { ignoreValue: true }), error('valueProvided')],
      [put('a', 'x', { ignoreLease: true, lease: 7 }), error('leaseProvided')],
      [put('none', '', { ignoreValue: true }), error('keyNotFound')],
      [put('none', 'x', { ignoreLease: true }), error('keyNotFound')],
      [put('a', 'x', { lease: 424242 }), error('leaseNotFound')],
      [grant(1)],
      [put('a', 'x', { lease: lease(1) })],
      [put('a', 'y', { ignoreLease: true })],
      [range('a'), { kvs: [kv('a', 'y', 1, 3, 3, leaseId(1))] }],
      [
        call('Put', { key: 'a', ignoreValue: true, prevKv: true }),
        { prevKv: kv('a', 'y', 1, 3, 3, leaseId(1)) },
      ],
      [range('a'), { kvs: [kv('a', 'y', 1, 4, 4)] }],
    ],
  },
  {
    name: '5 a put without lease detaches, one with another re-attaches; a delete detaches',
    points: [4],
    steps: [
      [grant(1)],
      [grant(2)],
      [put('a', '1', { lease: lease(1) })],
      [put('b', '1', { lease: lease(1) })],
      [put('c', '1', { lease: lease(1) })],
      [put('a', '2')],
      [put('b', '2', { lease: lease(2) })],
      [del('c'), { deleted: 1 }],
      [call('LeaseTimeToLive', { ID: lease(1), keys: true }), { keys: undefined }],
      [call('LeaseTimeToLive', { ID: lease(2), keys: true }), { keys: ['b'] }],
      [call('LeaseRevoke', { ID: lease(1) }), { header: header(6) }],
      [range('a'), { count: 1 }],
    ],
  },
  {
    name: '5 prev_kv only where there was one',
    steps: [
      [put('a', '1', { prevKv: true }), { prevKv: undefined }],
      [put('a', '2', { prevKv: true }), { prevKv: kv('a', '1', 1, 1, 1) }],
      [del('x', { prevKv: true }), { deleted: undefined, prevKvs: undefined }],
    ],
  },
];

const transactions: Case[] = [
  {
    name: '6 counts, keys and operations are checked, then duplicates',
    points: [12],
    steps: [
      [txn([], many(129)), error('tooManyOps')],
      [txn([], [opTxn([], many(128))]), error('tooManyOps')],
      [txn([], many(128)), { succeeded: true }],
      [txn([{ key: '' }]), error('emptyKey')],
      [txn([], [opPut('', 'x')]), error('emptyKey')],
      [txn([], [{}]), error('keyNotFound')],
      [txn([], [opPut('a', '1'), opPut('a', '2')]), error('duplicateKey')],
      [txn([], [opPut('b', '1'), opDel('a', { rangeEnd: 'c' })]), error('duplicateKey')],
      [txn([], [opDel('a', { rangeEnd: 'c' }), opPut('b', '1')]), error('duplicateKey')],
      [txn([], [opPut('a', '1'), opTxn([], [opPut('a', '2')])]), error('duplicateKey')],
      [txn([], [opTxn([], [opPut('a', '1')]), opTxn([], [opPut('a', '2')])]), error('duplicateKey')],
      [txn([], [opTxn([], [opPut('a', '1')], [opPut('a', '2')])]), { succeeded: true }],
      [txn([], [opDel('a'), opDel('a', { rangeEnd: 'c' })]), { succeeded: true }],
      [txn([], [opPut('a', '1')], [opPut('a', '2')]), { succeeded: true }],
    ],
  },
  {
    name: '6 the two holes of the check for duplicates',
    steps: [
      [txn([], [opPut('b', '1'), opDel('a', { rangeEnd: '\0' })]), { succeeded: true }],
      [txn([], [opTxn([], [opPut('a', '1')]), opTxn([], [opDel('a')])]), { succeeded: true }],
      [range('a'), { kvs: undefined }],
    ],
  },
  {
    name: '6 compares: ranges, missing keys, values that do not fit, results that there are not',
    points: [3],
    steps: [
      ...abc,
      [txn([{ key: 'a', rangeEnd: 'd', target: 0, result: 1, version: 0 }]), { succeeded: true }],
      [txn([{ key: 'a', rangeEnd: 'd', target: 0, version: 1 }]), { succeeded: undefined }],
      [txn([{ key: 'none', target: 0, version: 0 }]), { succeeded: true }],
      [txn([{ key: 'none', target: 2, modRevision: 0 }]), { succeeded: true }],
      [txn([{ key: 'none', target: 3, value: '' }]), { succeeded: undefined }],
      [txn([{ key: 'none', target: 3, result: 3, value: 'x' }]), { succeeded: undefined }],
      [txn([{ key: 'x', rangeEnd: 'z', target: 1, createRevision: 0 }]), { succeeded: true }],
      [txn([{ key: 'a', target: 3, version: 7 }]), { succeeded: undefined }],
      [txn([{ key: 'a', target: 0, result: 9, version: 77 }]), { succeeded: true }],
      [txn([{ key: 'a', target: 3, value: '3' }]), { succeeded: true }],
      [txn([{ key: 'b', target: 2, modRevision: at(4) }]), { succeeded: true }],
      [txn([{ key: 'a', target: 4, lease: 0 }]), { succeeded: true }],
    ],
  },
  {
    name: '6 all compares come before any write; ranges see earlier writes',
    steps: [
      [
        txn(
          [],
          [
            opPut('a', '1'),
            opTxn([{ key: 'a', target: 0, version: 1 }], [opPut('seen', '')], [opPut('unseen', '')]),
            opRange('a'),
          ],
        ),
        {
          succeeded: true,
          responses: [
            {},
            { responseTxn: { succeeded: undefined } },
            { responseRange: { kvs: [kv('a', '1', 1, 1, 1)], count: 1 } },
          ],
        },
      ],
      [range('unseen'), { count: 1 }],
    ],
  },
  {
    name: '6 a range of a wrong revision, a lease or a key that there is not fail the whole',
    steps: [
      [put('a', '1')],
      [txn([], [opPut('b', '1'), opRange('a', { revision: at(9) })]), error('futureRev')],
      [txn([], [opPut('b', '1'), opRange('a', { revision: at(-1) })]), error('compacted')],
      [txn([], [opPut('b', '1'), opRange('a', { revision: -1 })]), error('compacted')],
      [txn([], [opPut('b', '1'), opPut('c', '1', { lease: 424242 })]), error('leaseNotFound')],
      [txn([], [opPut('b', '1'), opPut('c', '', { ignoreValue: true })]), error('keyNotFound')],
      [txn([], [opRange('a', { sortTarget: 9 })]), error('invalidSortOption')],
      [range('b'), { header: header(1), count: undefined }],
    ],
  },
  {
    name: '6 what a put is to keep must be there when the txn comes to it',
    // etcd panics at apply, and again at every start.
    alone: true,
    steps: [
      [put('a', '1')],
      [
        txn([], [opDel('A', { rangeEnd: '\0' }), opPut('a', '', { ignoreValue: true })]),
        error('keyNotFound'),
      ],
      [
        txn([], [opDel('a', { rangeEnd: '\0' }), opPut('a', '2', { ignoreLease: true })]),
        error('keyNotFound'),
      ],
      [
        txn([], [opTxn([], [opDel('a', { rangeEnd: '\0' }), opPut('a', '2')]), opPut('b', '1')]),
        { header: header(2), succeeded: true },
      ],
      [
        txn([], [opDel('b', { rangeEnd: '\0' }), opPut('a', '', { ignoreValue: true })]),
        { header: header(3), succeeded: true },
      ],
      [range('a'), { kvs: [kv('a', '2', 2, 3, 2)] }],
    ],
  },
  {
    name: '6 prev_kv of a put; compares alone',
    steps: [
      [put('a', '1')],
      [
        txn([], [opPut('a', '2', { prevKv: true })]),
        { responses: [{ responsePut: { prevKv: kv('a', '1', 1, 1, 1) } }] },
      ],
      [txn([{ key: 'a', target: 0, version: 2 }]), { header: header(2), succeeded: true }],
    ],
  },
  {
    name: '17 what Kubernetes asks: optimistic put and delete',
    steps: [
      [
        txn([{ key: 'a', target: 2, modRevision: 0 }], [opPut('a', '1')], [opRange('a')]),
        { succeeded: true },
      ],
      [
        txn([{ key: 'a', target: 2, modRevision: 0 }], [opPut('a', '2')], [opRange('a')]),
        { succeeded: undefined, responses: [{ responseRange: { kvs: [kv('a', '1', 1, 1, 1)] } }] },
      ],
      [
        txn([{ key: 'a', target: 2, modRevision: at(1) }], [opDel('a')], [opRange('a')]),
        { header: header(2), succeeded: true },
      ],
    ],
  },
];

const compactions: Case[] = [
  {
    name: '7 revisions that can be compacted; what stays',
    steps: [
      ...abc,
      [del('a')],
      [compact(0), error('compacted')],
      [compact(6), error('futureRev')],
      [compact(4), { header: header(5) }],
      [compact(4), error('compacted')],
      [compact(3), error('compacted')],
      [call('Compact', { revision: 0 }), error('compacted')],
      [range('a', { revision: at(4) }), { kvs: [a] }],
      [range('a', { revision: at(3) }), error('compacted')],
      [call('Compact', { revision: at(5), physical: true }), { header: header(5) }],
      [range('a', { revision: at(5) }), { kvs: undefined }],
      [range('b', { revision: at(5) }), { kvs: [b] }],
    ],
  },
  {
    name: '7 the tombstone at the compacted revision is kept',
    points: [13],
    steps: [
      [put('a', '1')],
      [del('a')],
      [call('Compact', { revision: at(2), physical: true })],
      [{ watch: 0, create: { key: 'a', startRevision: at(2) } }, { created: true }],
    ],
    watches: {
      'stream 0': { 0: [{ revision: 2, events: [{ type: 1, kv: { key: 'a', modRevision: 2 } }] }] },
    },
  },
];

export const kvCases: readonly Case[] = [...revisions, ...ranges, ...writes, ...transactions, ...compactions];
