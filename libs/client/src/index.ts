/**
 * The TypeScript client of an etcd-compatible cluster: promises and async iterables over grpc-js. Answers are the
 * generated messages of `@quoin/contracts/etcd`; failures are `EtcdError`s with the server's exact text.
 */
export { AuthClient, type PermissionType } from './auth.ts';
export {
  type BackupSource,
  type BackupSourceOptions,
  type FromSomeMemberOptions,
  fromSomeMember,
  openBackupSource,
} from './backup-source.ts';
export { Client } from './client.ts';
export { ClusterClient } from './cluster.ts';
export { defaultSessionTtl, Election, type Hold, Mutex, Session } from './concurrency.ts';
export { parseEndpoint, type Target } from './endpoint.ts';
export { CompactedError, EtcdError, wasNotSent } from './error.ts';
export { type KeyRangeOptions, prefixEnd } from './key-range.ts';
export {
  type CompareOperator,
  type Comparison,
  compare,
  type DeleteOptions,
  KvClient,
  type Op,
  op,
  type PutOptions,
  type RangeOptions,
  type Txn,
} from './kv.ts';
export { LeaseClient, LeaseKeeper } from './lease.ts';
export { defaultWindowBytes, LinkClient, type LinkOptions, LinkParts } from './link-client.ts';
export { MaintenanceClient } from './maintenance.ts';
export {
  type Bytes,
  type CallOptions,
  type ClientOptions,
  defaultReceiveBytesMax,
  defaultSendBytesMax,
  defaultTimeoutMs,
  type Int64,
  type TlsOptions,
} from './options.ts';
export { ElectionClient, LockClient } from './services.ts';
export { type RpcMethod, Transport } from './transport.ts';
export { WatchClient, Watcher, type WatchOptions } from './watch.ts';
