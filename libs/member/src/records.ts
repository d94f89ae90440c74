/**
 * What the replica keeps in the store besides keys: written with the effects of the entry that changed it, carried
 * along by snapshots, and so the same on every member at the same applied index.
 *
 *   table      key                     value
 *   leases     lease id, 8 bytes BE    TTL in seconds, 8 bytes BE, [what a checkpoint says is left, 8 bytes BE]
 *   members    member id, 8 bytes BE   MemberInfo
 *   removed    member id, 8 bytes BE   (empty)         an id that was removed never comes back
 *   started    member id, 8 bytes BE   (empty)         it has taken part: with an empty directory it is refused
 *   alarms     type, 4 bytes BE, member id, 8 bytes BE   (empty)
 *   cluster    'id'                    cluster id, 8 bytes BE
 *              'conf'                  ConfState
 *              'downgrade'             version that the cluster is to go down to, as text
 *   auth       'state'                 enabled, revision, version, token key
 *              'u' user name           auth revision, 8 bytes BE: tokens that are older are void
 *   leaseUsers lease id, 8 bytes BE    the name of who was granted it, while authentication was on
 *   users      user name               authpb.User, password hash included
 *   roles      role name               authpb.Role
 */
import { readU64BE, utf8, writeU64BE } from '@quoin/base';
import { type MemberInfo, WireReader, WireWriter } from '@quoin/contracts';

export const Table = {
  leases: 1,
  members: 2,
  removed: 3,
  cluster: 4,
  started: 5,
  alarms: 6,
  auth: 10,
  users: 11,
  roles: 12,
  leaseUsers: 13,
} as const;

export const clusterIdKey: Uint8Array = utf8('id');
export const confStateKey: Uint8Array = utf8('conf');

export function idKey(id: bigint): Uint8Array {
  const key = new Uint8Array(8);
  writeU64BE(key, 0, id);
  return key;
}

export function keyId(key: Uint8Array): bigint {
  return readU64BE(key, 0);
}

const writer = new WireWriter(4096);

/** The message MemberInfo of link.proto. */
export function encodeMemberRecord(member: MemberInfo): Uint8Array {
  const w = writer;
  w.begin();
  w.fixed64(9, member.id);
  w.text(18, member.name);
  for (const url of member.peerUrls) w.textItem(26, url);
  for (const url of member.clientUrls) w.textItem(34, url);
  w.bool(40, member.learner);
  return w.finish();
}

/** @throws WireError */
export function decodeMemberRecord(bytes: Uint8Array): MemberInfo {
  const r = new WireReader(bytes);
  let id = 0n;
  let name = '';
  const peerUrls: string[] = [];
  const clientUrls: string[] = [];
  let learner = false;
  while (r.more()) {
    const tag = r.tag();
    if (tag === 9) id = r.fixed64();
    else if (tag === 18) name = r.text();
    else if (tag === 26) peerUrls.push(r.text());
    else if (tag === 34) clientUrls.push(r.text());
    else if (tag === 40) learner = r.bool();
    else r.skip(tag);
  }
  return { id, name, peerUrls, clientUrls, learner };
}
