/** Sections 8, 9 and 15: watches, leases, locks and elections. */
import type { Plain, PlainFields } from '../message.ts';
import {
  at,
  type Case,
  call,
  cancel,
  compact,
  del,
  type Expected,
  error,
  grant,
  header,
  kv,
  lease,
  leaseId,
  opDel,
  opPut,
  progress,
  put,
  range,
  txn,
  watch,
} from './case.ts';

const own = 'set set set';
const created = (revision: number, watchId?: number): Expected => ({
  header: { revision, own },
  watchId,
  created: true,
  canceled: undefined,
});
const refused = (reason: string): Expected => ({
  watchId: -1,
  created: true,
  canceled: true,
  cancelReason: reason,
});
const event = (of: PlainFields, prev?: PlainFields): PlainFields => ({
  kv: of,
  ...(prev === undefined ? {} : { prevKv: prev }),
});
const deleted = (key: string, mod: number, prev?: PlainFields): PlainFields => ({
  type: 1,
  kv: { key, modRevision: mod },
  ...(prev === undefined ? {} : { prevKv: prev }),
});
const at1 = (revision: number, ...events: PlainFields[]): Plain => ({ revision, events });

const watches: Case[] = [
  {
    name: '8.1 an empty key is the smallest; ends as in a range',
    steps: [
      [watch('', { rangeEnd: '\0', filters: [1] }), created(0)],
      [watch('b', {}, 1), created(0)],
      [put('a', '1')],
      [put('b', '1')],
    ],
    watches: {
      'stream 0': { 0: [at1(1, event(kv('a', '1', 1, 1, 1))), at1(2, event(kv('b', '1', 2, 2, 1)))] },
      'stream 1': { 0: [at1(2, event(kv('b', '1', 2, 2, 1)))] },
    },
  },
  {
    name: '8.2 ids: given, chosen, taken; ranges that are empty; negative starts',
    steps: [
      [watch('a'), created(0)],
      [watch('a', { watchId: 1 }), created(0, 1)],
      [watch('a'), created(0, 2)],
      [watch('a', { watchId: 1 }), refused('mvcc: duplicate watch ID provided on the WatchStream')],
      [watch('b', { rangeEnd: 'b' }), refused('mvcc: watcher range is empty')],
      [watch('b', { rangeEnd: 'a' }), refused('mvcc: watcher range is empty')],
      [watch('a', { startRevision: -1 }), refused('etcdserver: mvcc: required revision has been compacted')],
      [watch('a'), created(0, 3)],
    ],
  },
  {
    name: '8.3 created tells the current revision; 0 is from now on; a future start is silent below it',
    points: [1, 7],
    steps: [
      [put('a', '1')],
      [watch('a'), created(1)],
      [watch('a', { startRevision: at(5) }, 1), created(1)],
      [put('a', '2')],
      // The harness has written twice to know that nothing is on its way.
      [progress(1), { progress: 'none', newest: 4 }],
      [put('a', '3')],
      [progress(1), { progress: 5 }],
    ],
    watches: {
      'stream 0': { 0: [at1(2, event(kv('a', '2', 1, 2, 2))), at1(5, event(kv('a', '3', 1, 5, 3)))] },
      'stream 1': { 0: [at1(5, event(kv('a', '3', 1, 5, 3)))] },
    },
  },
  {
    name: '8.4 a compacted start is created, then canceled with the compact revision and no header revision',
    steps: [
      [put('a', '1')],
      [put('a', '2')],
      [compact(2)],
      [watch('a', { startRevision: at(1) }), created(2)],
      [watch('a', { startRevision: at(2) }), created(2, 1)],
    ],
    watches: {
      'stream 0': {
        0: [
          {
            header: { own, revision: undefined as never },
            canceled: true,
            compactRevision: 2,
            cancelReason: undefined as never,
          },
        ],
        1: [at1(2, event(kv('a', '2', 1, 2, 2)))],
      },
    },
  },
  {
    name: '8.4 the id of a watch that compaction ended stays taken until it is canceled too',
    steps: [
      [put('a', '1')],
      [put('a', '2')],
      [compact(2)],
      [watch('a', { startRevision: at(1), watchId: 1 }), created(2, 1)],
      [watch('a'), created(2)],
      [watch('a'), created(2, 2)],
      [watch('a', { watchId: 1 }), refused('mvcc: duplicate watch ID provided on the WatchStream')],
    ],
  },
  {
    name: '8.5 cancel: answered for a known id, silent for another; the id is free again',
    steps: [
      [watch('a', { watchId: 5 }), created(0, 5)],
      [cancel(5), { header: { revision: 0, own }, watchId: 5, canceled: true, cancelReason: undefined }],
      [cancel(5), 'not live'],
      [cancel(77), 'not live'],
      [watch('a', { watchId: 5 }), created(0, 5)],
      [put('a', '1')],
    ],
    watches: { 'stream 0': { 5: [at1(1, event(kv('a', '1', 1, 1, 1)))], ended: undefined } },
  },
  {
    name: '8.6 events of a revision are in order and together; deletes carry key and revision',
    steps: [
      [watch('a', { rangeEnd: 'e', prevKv: true }), created(0)],
      [txn([], [opPut('c', '1'), opPut('a', '1'), opPut('b', '1')])],
      [txn([], [opDel('a', { rangeEnd: 'c' }), opPut('d', '1')])],
    ],
    watches: {
      'stream 0': {
        0: [
          at1(1, event(kv('c', '1', 1, 1, 1)), event(kv('a', '1', 1, 1, 1)), event(kv('b', '1', 1, 1, 1))),
          at1(
            2,
            deleted('a', 2, kv('a', '1', 1, 1, 1)),
            deleted('b', 2, kv('b', '1', 1, 1, 1)),
            event(kv('d', '1', 2, 2, 1)),
          ),
        ],
      },
    },
  },
  {
    name: '8.9 one progress answer, id −1, only when every watch of the stream is synced',
    points: [6],
    steps: [
      [put('a', '1')],
      [watch('a'), created(1)],
      [watch('b', { startRevision: at(1) }), created(1, 1)],
      [progress(), { progress: 1 }],
      [put('x', '1')],
      [progress(), { progress: 2 }],
    ],
  },
  {
    name: '8.10 filters; prev_kv absent for creations and below the compacted revision',
    steps: [
      [put('a', '1')],
      [put('a', '2')],
      [del('a')],
      [put('a', '3')],
      [compact(2)],
      [watch('a', { startRevision: at(2), filters: [0] }), created(4)],
      [watch('a', { startRevision: at(2), filters: [1], prevKv: true }), created(4, 1)],
      [watch('a', { startRevision: at(2), filters: [0, 1] }), created(4, 2)],
      [watch('a', { startRevision: at(3), prevKv: true }), created(4, 3)],
    ],
    watches: {
      'stream 0': {
        0: [at1(3, deleted('a', 3))],
        1: [at1(2, event(kv('a', '2', 1, 2, 2))), at1(4, event(kv('a', '3', 4, 4, 1)))],
        2: undefined,
        3: [at1(3, deleted('a', 3, kv('a', '2', 1, 2, 2))), at1(4, event(kv('a', '3', 4, 4, 1)))],
      },
    } as never,
  },
];

const leases: Case[] = [
  {
    name: '9 grant: a given id, one that exists, TTLs beyond the bounds',
    steps: [
      [grant(1), { header: header(0), ID: leaseId(1), TTL: 1_000 }],
      [grant(1), error('leaseExist')],
      [grant(2, 9_000_000_001), error('leaseTTLTooLarge')],
      [grant(2, 9_000_000_000), { TTL: 9_000_000_000 }],
      [grant(3, 1), { TTL: 2 }],
      [call('LeaseRevoke', { ID: lease(3) })],
      [grant(3, -5), { TTL: 2 }],
      [call('LeaseRevoke', { ID: lease(3) })],
      [call('LeaseGrant', { TTL: 600 }, { slot: 4 }), { ID: 'own lease 0', TTL: 600 }],
    ],
  },
  {
    name: '9 of a lease that there is not: TTL −1, keep-alive 0, revoke is an error',
    points: [5],
    steps: [
      [
        call('LeaseTimeToLive', { ID: 424242, keys: true }),
        { ID: 424242, TTL: -1, grantedTTL: undefined, keys: undefined },
      ],
      [
        call('LeaseKeepAlive', { ID: 424242 }),
        { answers: [{ ID: 424242, TTL: undefined, header: header(0) }] },
      ],
      [call('LeaseRevoke', { ID: 424242 }), error('leaseNotFound')],
      [grant(1)],
      [
        call('LeaseKeepAlive', { ID: lease(1) }, { more: [{ ID: 424242 }] }),
        { answers: [{ TTL: 1_000 }, { TTL: undefined }] },
      ],
    ],
  },
  {
    name: '9 a revoke deletes its keys in order and in one revision',
    points: [21],
    steps: [
      [grant(1)],
      [watch('', { rangeEnd: '\0', prevKv: false }), { created: true }],
      [put('b', '1', { lease: lease(1) })],
      [put('a', '1', { lease: lease(1) })],
      [call('LeaseTimeToLive', { ID: lease(1), keys: true }), { grantedTTL: 1_000, keys: ['a', 'b'] }],
      [call('LeaseLeases'), { leases: [leaseId(1)] }],
      [call('LeaseRevoke', { ID: lease(1) })],
      [call('LeaseLeases'), { leases: undefined }],
      [range('a', { rangeEnd: 'c' }), { count: undefined }],
    ],
  },
];

const election: Case[] = [
  {
    name: '15 a lock is a key below the name, by lease; unlocking deletes it',
    steps: [
      [grant(1)],
      [
        call('Lock', { name: 'l', lease: lease(1) }, { keep: { as: 'L', field: 'key' } }),
        { header: header(1), key: `l/${leaseId(1).toString(16)}` },
      ],
      [call('Lock', { name: 'l', lease: lease(1) }), { key: `l/${leaseId(1).toString(16)}` }],
      [call('Unlock', { key: { kept: 'L' } }), { header: header(2) }],
      [
        call('Lock', { name: 'l', lease: 424242 }),
        { code: 2, text: 'etcdserver: requested lease not found' },
      ],
    ],
  },
  {
    name: '15 an election: leader, proclaim, resign; nobody leads an empty one',
    steps: [
      [call('Leader', { name: 'e' }), { code: 2, text: 'election: no leader' }],
      [grant(1)],
      [
        call('Campaign', { name: 'e', lease: lease(1), value: 'v' }, { keep: { as: 'E', field: 'leader' } }),
        {
          header: header(1),
          leader: { name: 'e', key: `e/${leaseId(1).toString(16)}`, rev: 1, lease: leaseId(1) },
        },
      ],
      [call('Leader', { name: 'e' }), { kv: { value: 'v', createRevision: 1 } }],
      [call('Proclaim', { leader: { kept: 'E' }, value: 'w' }), { header: header(2) }],
      [call('Leader', { name: 'e' }), { kv: { value: 'w', modRevision: 2 } }],
      [call('Resign', { leader: { kept: 'E' } }), { header: header(3) }],
      [call('Proclaim', { leader: { kept: 'E' }, value: 'x' }), { code: 2, text: 'election: not leader' }],
      [call('Leader', { name: 'e' }), { code: 2, text: 'election: no leader' }],
      [
        call('Campaign', { name: 'e', lease: 424242 }),
        { code: 2, text: 'etcdserver: requested lease not found' },
      ],
      [call('Proclaim', {}), { code: 2, text: '"leader" field must be provided' }],
      [call('Resign', {}), { code: 2, text: '"leader" field must be provided' }],
    ],
  },
];

export const watchLeaseCases: readonly Case[] = [...watches, ...leases, ...election];
