/**
 * What Quoin's pieces say to each other and to clients: wire primitives, hand-written codecs of the hot messages, the
 * error table and the service table. All other messages are the generated ones of `@quoin/contracts/etcd`.
 */

export { decodeRequest } from './decode-request.ts';
export {
  type EtcdErrorName,
  etcdErrors,
  malformedRequest,
  messageTooLarge,
  otherErrors,
  watchCancelReasons,
} from './errors.ts';
export {
  type FairUse,
  limitExceeded,
  limitsOf,
  prefixEndOf,
  startsWith,
  type UseLimits,
} from './fair-use.ts';
export {
  EventType,
  type EventView,
  encodeEvent,
  encodeKeyValue,
  KeyValueView,
  keyValueSize,
  readEvent,
} from './key-value.ts';
export type {
  BackupRequest,
  Credit,
  FeedBatch,
  FeedRevision,
  FeedSubscribe,
  LinkDown,
  LinkHello,
  LinkReply,
  LinkRequest,
  LinkUp,
  LinkWelcome,
  MemberInfo,
  MemberState,
  SampledRevision,
  WatchHistoryRequest,
  WatchHistoryResponse,
} from './link.ts';
export {
  decodeBackupRequest,
  decodeLinkDown,
  decodeLinkUp,
  decodeWatchHistoryRequest,
  decodeWatchHistoryResponse,
  encodeBackupRequest,
  encodeLinkDown,
  encodeLinkUp,
  encodeWatchHistoryRequest,
  encodeWatchHistoryResponse,
} from './link-codec.ts';
export {
  type AttributesRequest,
  decodeAttributesRequest,
  decodeHashReport,
  decodeLeaseExpireRequest,
  decodeMemberChange,
  decodeMemberIdRequest,
  decodeProposalBatch,
  encodeAttributesRequest,
  encodeHashReport,
  encodeLeaseExpireRequest,
  encodeMemberChange,
  encodeMemberIdRequest,
  encodeProposalBatch,
  type HashReport,
  isSampledBatch,
  type KeyLimit,
  type LeaseExpireRequest,
  type MemberChange,
  type Proposal,
  type ProposalBatch,
} from './log.ts';
export { isUrgent, Method, methodName } from './method.ts';
export {
  type CompactionRequestView,
  type CompareView,
  type DeleteRangeRequestView,
  type PutRequestView,
  type RangeRequestView,
  type RequestOpView,
  readCompactionRequest,
  readDeleteRangeRequest,
  readPutRequest,
  readRangeRequest,
  readTxnRequest,
  type TxnRequestView,
} from './requests.ts';
export {
  RangeResponsePieces,
  type ResponseHeader,
  spliceBytes,
  type TxnResponseOp,
  type WatchResponseFlags,
  writeCompactionResponse,
  writeDeleteRangeResponse,
  writeLeaseGrantResponse,
  writeLeaseKeepAliveResponse,
  writeLeaseLeasesResponse,
  writeLeaseRevokeResponse,
  writeLeaseTimeToLiveResponse,
  writePutResponse,
  writeRangeResponse,
  writeRangeStreamResponse,
  writeTxnResponse,
  writeWatchResponse,
} from './responses.ts';
export {
  type Rpc,
  type RpcKind,
  rpcByPath,
  rpcByRoute,
  type Service,
  services,
  unimplemented,
} from './services.ts';
export {
  type ConfState,
  decodeSnapshotChunk,
  encodeSnapshotChunk,
  readConfState,
  readSnapshotMeta,
  type SnapshotChunk,
  type SnapshotHeader,
  type SnapshotMeta,
  type SnapshotTrailer,
  writeConfState,
  writeSnapshotMeta,
} from './snapshot.ts';
export { Code, codeName, type RpcStatus, statusText } from './status.ts';
export {
  type LeaseGrantRequestView,
  type LeaseKeepAliveRequestView,
  type LeaseRevokeRequestView,
  type LeaseTimeToLiveRequestView,
  readLeaseGrantRequest,
  readLeaseKeepAliveRequest,
  readLeaseLeasesRequest,
  readLeaseRevokeRequest,
  readLeaseTimeToLiveRequest,
  readWatchRequest,
  type WatchCancelRequestView,
  type WatchCreateRequestView,
  type WatchId,
  type WatchRequestView,
} from './stream-requests.ts';
export { WireError, WireReader, WireType, wireDepthMax } from './wire-reader.ts';
export {
  idSize,
  intSize,
  putBytes,
  putId,
  putInt,
  putUint,
  uintSize,
  WireWriter,
  wireTag,
} from './wire-writer.ts';
