/**
 * Makes the data directory of a member of a new cluster from etcd's database file, of Quoin or of etcd itself: every version
 * that is in it, leases, users and roles. Members and alarms are the old cluster's and stay behind.
 */
import { fromBinary } from '@bufbuild/protobuf';
import { type IncrementalDigest, readCounterBE, utf8, utf8Text, writeCounterBE } from '@quoin/base';
import { WireReader } from '@quoin/contracts';
import { RoleSchema, UserSchema } from '@quoin/contracts/etcd';
import { Store } from '@quoin/mvcc';
import { AuthStore } from './auth-store.ts';
import { BoltReader, type ReadAt } from './bolt-reader.ts';
import type { MemberOptions } from './config.ts';
import { Table } from './records.ts';
import { adoptStore, openEmpty, type RestorePorts, type RestoreSummary } from './restore.ts';

export interface EtcdRestoreOptions {
  readonly member: MemberOptions;
  /** The file without the digest at its end, which has been checked. */
  readonly read: ReadAt;
  /** Added to the revision, with all before it compacted; 0: the revision stays. */
  readonly bumpRevision: number;
}

/** All in one turn: for a tool, not for a server. The directory is to be removed when it fails. */
export function restoreEtcd(
  options: EtcdRestoreOptions,
  ports: RestorePorts,
  cb: (error: Error | null, summary: RestoreSummary | null) => void,
): void {
  openEmpty(options.member, ports, (error, config, backend) => {
    if (backend === null || config === null) return cb(error, null);
    let store: Store;
    const file = { bytes: 0 };
    try {
      const reader = new BoltReader(options.read);
      file.bytes = reader.sizeBytes;
      const versions = Store.importInto(backend, compactRevisionOf(reader));
      for (const { key, value } of reader.entries('key')) versions.add(key, value);
      store = versions.finish(options.bumpRevision);
      importRecords(reader, store, ports.digest.sha256(), config.clusterToken);
    } catch (failure) {
      backend.close();
      return cb(failure as Error, null);
    }
    const { revision, compactRevision, keysTotal: keys } = store;
    adoptStore(config, ports, store, { revision, compactRevision, keys, bytes: file.bytes }, cb);
  });
}

/** A compaction that was begun counts: its revision was refused to readers already. */
function compactRevisionOf(reader: BoltReader): number {
  let revision = -1;
  for (const { key, value } of reader.entries('meta')) {
    const name = utf8Text(key);
    if (name !== 'scheduledCompactRev' && name !== 'finishedCompactRev') continue;
    if (value.length >= 8) revision = Math.max(revision, readCounterBE(value, 0));
  }
  return revision;
}

/**
 * The key that signs tokens must be the same on all members that restore the file, and no old token may be valid: it is
 * drawn from the password hashes and the new cluster's token.
 */
function importRecords(
  reader: BoltReader,
  store: Store,
  secret: IncrementalDigest,
  clusterToken: string,
): void {
  for (const { key, value } of reader.entries('lease')) {
    const ttl = new Uint8Array(8);
    writeCounterBE(ttl, 0, leaseTtl(value));
    store.putRecord(Table.leases, key.slice(), ttl);
  }
  let enabled = false;
  let revision = 1;
  for (const { key, value } of reader.entries('auth')) {
    if (utf8Text(key) === 'authEnabled') enabled = value[0] === 1;
    else if (utf8Text(key) === 'authRevision' && value.length === 8) revision = readCounterBE(value, 0);
  }
  secret.update(utf8(`quoin restored token key ${clusterToken}`));
  const users = [...reader.entries('authUsers')].map(({ value }) => {
    secret.update(value);
    return fromBinary(UserSchema, value.slice());
  });
  const roles = [...reader.entries('authRoles')].map(({ value }) => fromBinary(RoleSchema, value.slice()));
  AuthStore.restore(store, { enabled, revision, tokenKey: secret.digest(), users, roles });
}

/** leasepb.Lease: id, granted TTL, and what was left of it, which a new leader does not go by. */
function leaseTtl(bytes: Uint8Array): number {
  const reader = new WireReader(bytes);
  let ttl = 0;
  while (reader.more()) {
    const tag = reader.tag();
    if (tag === 16) ttl = reader.int53();
    else reader.skip(tag);
  }
  return Math.max(ttl, 0);
}
