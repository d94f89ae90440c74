/** Mutations of valid messages, for every RPC: what a broken or hostile client may send. */
import type { Prng } from '@quoin/base';
import { type Rpc, services } from '@quoin/contracts';
import { type Bindings, encode, type Fields } from './message.ts';

const none: Bindings = {
  revision: BigInt,
  lease: BigInt,
  kept: () => new Uint8Array(0),
};

/**
 * A valid message for each RPC that takes more than an empty one. Where a mutation that is still valid would change the
 * cluster itself, the message is one that fails: URLs that are none, members that there are not.
 */
const seeds: Readonly<Record<string, Fields>> = {
  Range: {
    key: 'a',
    rangeEnd: 'c',
    limit: 3,
    revision: 0,
    sortOrder: 1,
    sortTarget: 2,
    serializable: true,
    keysOnly: true,
    minModRevision: 2,
    maxCreateRevision: 900,
  },
  RangeStream: { key: 'a', rangeEnd: 'c', limit: 3, serializable: true },
  Put: { key: 'a', value: 'fuzz', lease: 0, prevKv: true, ignoreLease: true },
  DeleteRange: { key: 'b', rangeEnd: 'c', prevKv: true },
  Txn: {
    compare: [
      { key: 'a', result: 1, target: 2, modRevision: 1 },
      { key: 'b', target: 3, value: 'x', rangeEnd: 'c' },
    ],
    success: [{ requestPut: { key: 'c', value: '1' } }, { requestRange: { key: 'a', rangeEnd: 'd' } }],
    failure: [
      { requestDeleteRange: { key: 'a' } },
      { requestTxn: { compare: [{ key: 'c' }], success: [{ requestPut: { key: 'd', value: '2' } }] } },
    ],
  },
  Compact: { revision: 2, physical: true },
  LeaseGrant: { TTL: 100_000, ID: 77_777 },
  LeaseRevoke: { ID: 77_777 },
  LeaseKeepAlive: { ID: 77_777 },
  LeaseTimeToLive: { ID: 77_777, keys: true },
  MemberAdd: { peerURLs: ['no url'], isLearner: true },
  MemberRemove: { ID: 77 },
  MemberUpdate: { ID: 77, peerURLs: ['no url'] },
  MemberList: { linearizable: true },
  MemberPromote: { ID: 77 },
  Alarm: { action: 0, memberID: 5, alarm: 1 },
  HashKV: { revision: 3 },
  MoveLeader: { targetID: 77 },
  Authenticate: { name: 'nobody', password: 'secret' },
  UserAdd: { name: 'fuzz', password: 'secret', options: { noPassword: true } },
  UserGet: { name: 'nobody' },
  UserDelete: { name: 'nobody' },
  UserChangePassword: { name: 'nobody', password: 'secret' },
  UserGrantRole: { user: 'nobody', role: 'none' },
  UserRevokeRole: { name: 'nobody', role: 'none' },
  RoleAdd: { name: 'fuzz' },
  RoleGet: { role: 'none' },
  RoleDelete: { role: 'none' },
  RoleGrantPermission: { name: 'none', perm: { permType: 2, key: 'a', rangeEnd: 'b' } },
  RoleRevokePermission: { role: 'none', key: 'a', rangeEnd: 'b' },
  Campaign: { name: 'election', lease: 7_777, value: 'v' },
  Proclaim: { leader: { name: 'e', key: 'e/1', rev: 1, lease: 7_777 }, value: 'v' },
  Leader: { name: 'election' },
  Observe: { name: 'election' },
  Resign: { leader: { name: 'e', key: 'e/1', rev: 1, lease: 7_777 } },
  Lock: { name: 'lock', lease: 7_777 },
  Unlock: { key: 'lock/1' },
  Watch: {
    createRequest: { key: 'a', rangeEnd: 'c', startRevision: 0, filters: [0, 1], prevKv: true, watchId: 5 },
  },
  Check: { service: '' },
};

/** Not sent at all: a mutation may be valid, and it would turn authentication on, or the version back. */
const spared: ReadonlySet<string> = new Set(['AuthEnable', 'Downgrade', 'Defragment']);

/** Last, in this order: what they leave behind differs between servers (ids, ends of leases, hashes kept) and would show. */
const last = ['Compact', 'LeaseGrant', 'Alarm', 'Lock', 'Campaign'];

export const fuzzedRpcs: readonly Rpc[] = services
  .flatMap((service) => service.rpcs)
  .filter((rpc) => !spared.has(rpc.name) && rpc.path !== '/grpc.health.v1.Health/Watch')
  .sort((a, b) => last.indexOf(a.name) - last.indexOf(b.name));

export function validRequest(rpc: Rpc): Uint8Array {
  return encode(rpc.request, seeds[rpc.name] ?? {}, none);
}

/** One to three changes; what comes out may be valid, too. */
export function mutate(bytes: Uint8Array, random: Prng): Uint8Array {
  let out: Uint8Array = bytes;
  for (let changes = 1 + random.below(3); changes > 0; changes--) out = change(out, random);
  return out;
}

function change(from: Uint8Array, random: Prng): Uint8Array {
  const bytes = Buffer.from(from);
  const at = random.below(bytes.length + 1);
  const rest = (begin: number): Buffer => bytes.subarray(Math.min(begin, bytes.length));
  switch (random.below(8)) {
    case 0:
      return bytes.subarray(0, at);
    case 1:
      return Buffer.concat([bytes.subarray(0, at), rest(at + 1)]);
    case 2:
      return Buffer.concat([bytes.subarray(0, at), Buffer.from([random.below(256)]), rest(at)]);
    case 3:
      return Buffer.concat([bytes.subarray(0, at), Buffer.from([random.below(256)]), rest(at + 1)]);
    case 4:
      return Buffer.concat([
        bytes.subarray(0, at),
        Buffer.from([(bytes[at] ?? 0) ^ (1 << random.below(8))]),
        rest(at + 1),
      ]);
    case 5:
      return Buffer.concat([bytes, bytes.subarray(0, at)]);
    case 6:
      return Buffer.concat([bytes.subarray(0, at), oddPieces[random.below(oddPieces.length)]!, rest(at)]);
    default:
      return Buffer.concat([rest(at), bytes.subarray(0, at)]);
  }
}

/** Ends of protobuf's grammar: long varints, groups, wrong wire types, lengths beyond the end, text that is not UTF-8. */
const oddPieces: readonly Buffer[] = [
  'ffffffffffffffffff01',
  'ffffffffffffffffffff01',
  '80808080808080808000',
  '0b0c',
  '0b',
  '0c',
  '0e',
  '0f',
  '00',
  '0d01020304',
  '0901020304050607',
  '0affffffff0f',
  '0a05616263',
  '0a02fffe',
  '0a02c328',
  'f8ffffff0f01',
  'f8ffffffff0f01',
  '6a00',
].map((hex) => Buffer.from(hex, 'hex'));
