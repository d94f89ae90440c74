/**
 * The 64-bit identities of members and clusters, derived as etcd derives them, so that the same flags give the
 * same ids:
 *
 *     member id  = first 8 bytes of SHA-1( peer URLs sorted and joined ‖ token [‖ unix seconds, decimal] )
 *     cluster id = first 8 bytes of SHA-1( member ids sorted, 8 bytes big-endian each )
 */
import { type Digest, readU64BE, utf8, writeU64BE } from '@quoin/base';

/** `addedAtUnixSeconds` only for a member added to a running cluster: an id that was removed must not come back. */
export function memberIdOf(
  digest: Digest,
  peerUrls: readonly string[],
  clusterToken: string,
  addedAtUnixSeconds?: number,
): bigint {
  const time = addedAtUnixSeconds === undefined ? '' : String(addedAtUnixSeconds);
  return readU64BE(digest.sha1(utf8([...peerUrls].sort().join('') + clusterToken + time)), 0);
}

/** Fixed at bootstrap, from the members the cluster begins with. */
export function clusterIdOf(digest: Digest, memberIds: readonly bigint[]): bigint {
  const sorted = [...memberIds].sort((a, b) => (a < b ? -1 : a > b ? 1 : 0));
  const bytes = new Uint8Array(sorted.length * 8);
  sorted.forEach((id, i) => {
    writeU64BE(bytes, i * 8, id);
  });
  return readU64BE(digest.sha1(bytes), 0);
}
