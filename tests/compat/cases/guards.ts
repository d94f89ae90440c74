/** Sections 2, 10, 11, 12 and 13, as far as one server shows them: limits, users, alarms, hashes, members. */

import type { CallStep, Step } from '../step.ts';
import { rootPasswords } from '../target.ts';
import {
  at,
  type Case,
  call,
  compact,
  del,
  error,
  grant,
  header,
  lease,
  opDel,
  opPut,
  opRange,
  opTxn,
  put,
  range,
  txn,
  watch,
} from './case.ts';

const as = (user: string, step: CallStep): CallStep => ({ ...step, user });
const root = (rpc: string, request: CallStep['request'] = {}): CallStep => as('root', call(rpc, request));

/** root, and u1 who may read [a, c) and write [b, d). */
const opening: readonly (readonly [Step])[] = [
  [call('UserAdd', { name: 'root', password: rootPasswords[0]! })],
  [call('UserGrantRole', { user: 'root', role: 'root' })],
  [call('UserAdd', { name: 'u1', password: 'pw' })],
  [call('RoleAdd', { name: 'r1' })],
  [call('UserGrantRole', { user: 'u1', role: 'r1' })],
  [call('RoleGrantPermission', { name: 'r1', perm: { permType: 0, key: 'a', rangeEnd: 'c' } })],
  [call('RoleGrantPermission', { name: 'r1', perm: { permType: 1, key: 'b', rangeEnd: 'd' } })],
  [call('AuthEnable')],
  [call('Authenticate', { name: 'root', password: rootPasswords[0]! })],
  [call('Authenticate', { name: 'u1', password: 'pw' })],
];

const limits: Case[] = [
  {
    name: '2 a request beyond 1.5 MiB; a message beyond that and 512 KiB',
    steps: [
      [put('a', 'x'.repeat(1_572_864)), error('requestTooLarge')],
      [put('a', 'x'.repeat(1_500_000)), { header: header(1) }],
      [put('a', 'x'.repeat(2_200_000)), { code: 8 }],
    ],
  },
];

const users: Case[] = [
  {
    name: '10 users and roles: what exists, what does not, empty names',
    steps: [
      [call('AuthEnable'), error('rootUserNotExist')],
      [call('UserAdd', { name: '', password: 'x' }), error('userEmpty')],
      [call('UserAdd', { name: 'root', password: rootPasswords[0]! }), { header: header(0) }],
      [call('UserAdd', { name: 'root', password: 'x' }), error('userAlreadyExist')],
      [call('AuthEnable'), error('rootRoleNotExist')],
      [call('UserGet', { name: 'none' }), error('userNotFound')],
      [call('UserDelete', { name: 'none' }), error('userNotFound')],
      [call('UserChangePassword', { name: 'none', password: 'x' }), error('userNotFound')],
      [call('RoleAdd', { name: '' }), error('roleEmpty')],
      [call('RoleAdd', { name: 'r1' })],
      [call('RoleAdd', { name: 'r1' }), error('roleAlreadyExist')],
      [call('RoleGet', { role: 'none' }), error('roleNotFound')],
      [call('RoleDelete', { role: 'none' }), error('roleNotFound')],
      [call('UserGrantRole', { user: 'root', role: 'none' }), error('roleNotFound')],
      [call('UserRevokeRole', { name: 'root', role: 'r1' }), error('roleNotGranted')],
      [call('RoleGrantPermission', { name: 'r1' }), error('permissionNotGiven')],
      [
        call('RoleGrantPermission', { name: 'r1', perm: { permType: 2, key: 'b', rangeEnd: 'a' } }),
        error('invalidAuthMgmt'),
      ],
      [call('RoleGrantPermission', { name: 'r1', perm: { permType: 2 } }), error('invalidAuthMgmt')],
      [call('RoleRevokePermission', { role: 'r1', key: 'a' }), error('permissionNotGranted')],
      [call('Authenticate', { name: 'root', password: rootPasswords[0]! }), error('authNotEnabled')],
      [call('UserGrantRole', { user: 'root', role: 'root' })],
      [call('UserGrantRole', { user: 'root', role: 'root' })],
      [call('RoleGet', { role: 'root' }), error('roleNotFound')],
      [call('RoleAdd', { name: 'root' })],
      [call('RoleGet', { role: 'root' }), { perm: [{ permType: 2, rangeEnd: '\0' }] }],
      [call('AuthStatus')],
    ],
  },
  {
    name: '10 permissions are in the order of their keys, those of one key in the order of granting',
    steps: [
      [call('RoleAdd', { name: 'r1' })],
      [call('RoleGrantPermission', { name: 'r1', perm: { key: 'b', rangeEnd: 'd' } })],
      [call('RoleGrantPermission', { name: 'r1', perm: { key: 'b' } })],
      [call('RoleGrantPermission', { name: 'r1', perm: { key: 'a' } })],
      [call('RoleGrantPermission', { name: 'r1', perm: { permType: 2, key: 'b', rangeEnd: 'd' } })],
      [call('RoleGet', { role: 'r1' }), { perm: [{ key: 'a' }, { key: 'b' }, { key: 'b' }] }],
    ],
  },
  {
    name: '10 who is asked: no token, a bad one, a wrong password; enabling twice; what root must keep',
    steps: [
      ...opening,
      [range('a'), error('userEmpty')],
      [as('bad', range('a')), error('invalidAuthToken')],
      [call('Authenticate', { name: 'u1', password: 'wrong' }), error('authFailed')],
      [call('Authenticate', { name: 'nobody', password: 'wrong' }), error('authFailed')],
      [root('AuthEnable'), { header: header(0) }],
      [root('UserDelete', { name: 'root' }), error('invalidAuthMgmt')],
      [root('UserRevokeRole', { name: 'root', role: 'root' }), error('invalidAuthMgmt')],
      [root('RoleDelete', { role: 'root' }), error('invalidAuthMgmt')],
      [call('AuthStatus'), { enabled: true }],
      [as('u1', call('UserGet', { name: 'u1' })), { roles: ['r1'] }],
      [
        as('u1', call('RoleGet', { role: 'r1' })),
        {
          perm: [
            { key: 'a', rangeEnd: 'c' },
            { permType: 1, key: 'b' },
          ],
        },
      ],
      [as('u1', call('UserList')), error('permissionDenied')],
      [as('u1', call('UserAdd', { name: 'x', password: 'x' })), error('permissionDenied')],
      [root('UserChangePassword', { name: 'u1', password: 'other' })],
      [as('u1', range('a')), error('invalidAuthToken')],
    ],
  },
  {
    name: '10 the matrix of permissions: keys, prev_kv, txns at every level, leases',
    points: [22],
    steps: [
      ...opening,
      [as('u1', range('a')), { header: header(0) }],
      [as('u1', range('a', { rangeEnd: 'c' })), { header: header(0) }],
      [as('u1', range('a', { rangeEnd: 'd' })), error('permissionDenied')],
      [as('u1', put('a', '1')), error('permissionDenied')],
      [as('u1', put('c', '1')), { header: header(1) }],
      [as('u1', put('c', '1', { prevKv: true })), error('permissionDenied')],
      [as('u1', put('b', '1', { prevKv: true })), { header: header(2) }],
      [as('u1', del('c', { prevKv: true })), error('permissionDenied')],
      [as('u1', txn([{ key: 'c', target: 0 }], [opPut('b', '2')])), error('permissionDenied')],
      [as('u1', txn([{ key: 'a', rangeEnd: 'c', target: 0 }], [opPut('b', '2')])), { header: header(2) }],
      [as('u1', txn([], [opPut('b', '2')], [opRange('c')])), error('permissionDenied')],
      [as('u1', txn([], [opTxn([], [opPut('b', '2'), opTxn([{ key: 'x' }])])])), error('permissionDenied')],
      [as('u1', txn([], [opTxn([], [opDel('a')])])), error('permissionDenied')],
      [as('u1', grant(1)), { TTL: 1_000 }],
      [as('root', put('a', '1', { lease: lease(1) })), { header: header(3) }],
      [as('u1', call('LeaseRevoke', { ID: lease(1) })), error('permissionDenied')],
      [as('u1', put('b', '1', { lease: lease(1) })), error('permissionDenied')],
      [as('u1', call('LeaseTimeToLive', { ID: lease(1), keys: true })), { keys: ['a'] }],
      [as('u1', compact(1)), error('permissionDenied')],
      [as('u1', call('MemberList')), { members: 'own' }],
      [as('u1', call('Status')), { header: header(3) }],
      [as('u1', call('Defragment')), error('permissionDenied')],
      [as('u1', call('HashKV')), error('permissionDenied')],
      [as('u1', call('Alarm', { action: 0 })), { header: header(3) }],
      [as('u1', call('Alarm', { action: 1, alarm: 1 })), error('permissionDenied')],
      [as('u1', call('MoveLeader', { targetID: 7 })), error('permissionDenied')],
      [
        { ...watch('c'), user: 'u1' } as Step,
        {
          watchId: -1,
          created: true,
          canceled: true,
          cancelReason: 'rpc error: code = PermissionDenied desc = etcdserver: permission denied',
        },
      ],
      [{ ...watch('a'), user: 'u1' } as Step, { created: true, canceled: undefined }],
    ],
  },
  {
    name: '10 auth revision: one up for each change and for disabling, not for enabling',
    steps: [
      ...opening,
      [call('AuthStatus'), { enabled: true }],
      [root('RoleAdd', { name: 'r2' })],
      [call('AuthStatus')],
      [root('UserGrantRole', { user: 'u1', role: 'r1' })],
      [call('AuthStatus')],
      [root('AuthDisable')],
      [call('AuthStatus'), { enabled: undefined }],
    ],
  },
];

const alarms: Case[] = [
  {
    name: '11 NOSPACE refuses what grows, lets through what shrinks or reads',
    points: [15],
    steps: [
      [put('a', '1')],
      [call('Alarm', { action: 1, memberID: 7, alarm: 1 }), { alarms: [{ memberID: 7, alarm: 1 }] }],
      [put('a', '2'), error('noSpace')],
      [txn([], [opPut('a', '2')]), error('noSpace')],
      [grant(1), error('noSpace')],
      [range('a'), { count: 1 }],
      [txn([], [opDel('a')]), { header: header(2) }],
      [del('none'), { header: header(2) }],
      [compact(1)],
      [call('Alarm', { action: 0 }), { alarms: [{ memberID: 7, alarm: 1 }] }],
      [call('Alarm', { action: 1, memberID: 7 })],
      [call('Alarm', { action: 2, memberID: 7, alarm: 1 }), { alarms: [{ memberID: 7, alarm: 1 }] }],
      [put('a', '3'), { header: header(3) }],
    ],
  },
  {
    name: '11 CORRUPT refuses every write, still reads',
    points: [16],
    steps: [
      [put('a', '1')],
      [grant(1)],
      [call('Alarm', { action: 1, memberID: 7, alarm: 2 })],
      [grant(2, 9_000_000_001), error('corrupt')],
      [put('a', '2'), error('corrupt')],
      [del('a'), error('corrupt')],
      [txn([], [opDel('a')]), error('corrupt')],
      [compact(1), error('corrupt')],
      [grant(2), error('corrupt')],
      [call('LeaseRevoke', { ID: lease(1) }), error('corrupt')],
      [range('a'), { count: 1 }],
      [txn([], [opRange('a')]), { succeeded: true }],
      [call('Alarm', { action: 2, memberID: 7, alarm: 2 })],
    ],
  },
  {
    name: '11 HashKV: now, in the past, compacted, in the future',
    steps: [
      [put('a', '1')],
      [put('b', '2')],
      [del('a')],
      [call('HashKV'), { header: header(3), compactRevision: 0, hashRevision: 3 }],
      [call('HashKV', { revision: at(2) }), { hashRevision: 2 }],
      [call('HashKV', { revision: at(4) }), error('futureRev')],
      [compact(2)],
      [call('HashKV', { revision: at(3) }), { compactRevision: 2, hashRevision: 3 }],
      [call('HashKV', { revision: at(1) }), error('compacted')],
    ],
  },
];

const members: Case[] = [
  {
    name: '12, 13 members and leaders that there are not; URLs that are none',
    steps: [
      [call('MemberAdd', { peerURLs: ['nonsense'] }), error('memberBadURLs')],
      [call('MemberAdd', { peerURLs: [] }), error('memberBadURLs')],
      [call('MemberRemove', { ID: 7 }), error('memberNotFound')],
      [call('MemberUpdate', { ID: 7, peerURLs: ['http://127.0.0.1:1'] }), error('memberNotFound')],
      [call('MemberPromote', { ID: 7 }), error('memberNotFound')],
      [call('MoveLeader', { targetID: 7 }), error('badLeaderTransferee')],
    ],
  },
];

const downgrades: Case[] = [
  {
    name: '14 downgrades: versions that are none or not the next below, one at a time',
    steps: [
      [call('Downgrade', { action: 0, version: 'x' }), error('wrongDowngradeVersionFormat')],
      [call('Downgrade', { action: 0, version: '3.4.0' }), error('invalidDowngradeTargetVersion')],
      [call('Downgrade', { action: 2 }), { header: header(0) }],
      [call('Downgrade', { action: 0, version: '3.6.0' })],
      [call('Downgrade', { action: 1, version: '3.6.0' })],
      [call('Downgrade', { action: 1, version: '3.6.0' }), error('downgradeInProcess')],
      [call('Downgrade', { action: 0, version: '3.6.0' })],
      [call('Downgrade', { action: 2 })],
    ],
  },
];

export const guardCases: readonly Case[] = [...downgrades, ...limits, ...users, ...alarms, ...members];
