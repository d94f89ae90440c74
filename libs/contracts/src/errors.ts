import { Code, type RpcStatus } from './status.ts';

function error(code: Code, text: string): RpcStatus {
  return Object.freeze({ code, message: `etcdserver: ${text}` });
}

function status(code: Code, message: string): RpcStatus {
  return Object.freeze({ code, message });
}

/**
 * Every error of etcd's table, by the Go name without `ErrGRPC`. Codes are those that etcd really sends; clients match
 * the text, so not a letter may differ.
 */
export const etcdErrors = Object.freeze({
  emptyKey: error(Code.invalidArgument, 'key is not provided'),
  keyNotFound: error(Code.invalidArgument, 'key not found'),
  valueProvided: error(Code.invalidArgument, 'value is provided'),
  leaseProvided: error(Code.invalidArgument, 'lease is provided'),
  tooManyOps: error(Code.invalidArgument, 'too many operations in txn request'),
  duplicateKey: error(Code.invalidArgument, 'duplicate key given in txn request'),
  invalidClientAPIVersion: error(Code.invalidArgument, 'invalid client api version'),
  invalidSortOption: error(Code.invalidArgument, 'invalid sort option'),
  compacted: error(Code.outOfRange, 'mvcc: required revision has been compacted'),
  futureRev: error(Code.outOfRange, 'mvcc: required revision is a future revision'),
  noSpace: error(Code.resourceExhausted, 'mvcc: database space exceeded'),
  leaseNotFound: error(Code.notFound, 'requested lease not found'),
  leaseExist: error(Code.failedPrecondition, 'lease already exists'),
  leaseTTLTooLarge: error(Code.outOfRange, 'too large lease TTL'),
  watchCanceled: error(Code.canceled, 'watch canceled'),
  memberExist: error(Code.failedPrecondition, 'member ID already exist'),
  peerURLExist: error(Code.failedPrecondition, 'Peer URLs already exists'),
  // etcd declares FailedPrecondition and sends Unknown.
  memberNotEnoughStarted: error(Code.unknown, 're-configuration failed due to not enough started members'),
  memberBadURLs: error(Code.invalidArgument, 'given member URLs are invalid'),
  memberNotFound: error(Code.notFound, 'member not found'),
  memberNotLearner: error(Code.failedPrecondition, 'can only promote a learner member'),
  learnerNotReady: error(
    Code.failedPrecondition,
    'can only promote a learner member which is in sync with leader',
  ),
  tooManyLearners: error(Code.failedPrecondition, 'too many learner members in cluster'),
  clusterIDMismatch: error(Code.failedPrecondition, 'cluster ID mismatch'),
  requestTooLarge: error(Code.invalidArgument, 'request is too large'),
  // etcd declares ResourceExhausted and sends Unknown.
  requestTooManyRequests: error(Code.unknown, 'too many requests'),
  rootUserNotExist: error(Code.failedPrecondition, 'root user does not exist'),
  rootRoleNotExist: error(Code.failedPrecondition, 'root user does not have root role'),
  userAlreadyExist: error(Code.failedPrecondition, 'user name already exists'),
  userEmpty: error(Code.invalidArgument, 'user name is empty'),
  userNotFound: error(Code.failedPrecondition, 'user name not found'),
  roleAlreadyExist: error(Code.failedPrecondition, 'role name already exists'),
  roleNotFound: error(Code.failedPrecondition, 'role name not found'),
  roleEmpty: error(Code.invalidArgument, 'role name is empty'),
  authFailed: error(Code.invalidArgument, 'authentication failed, invalid user ID or password'),
  permissionNotGiven: error(Code.invalidArgument, 'permission not given'),
  permissionDenied: error(Code.permissionDenied, 'permission denied'),
  roleNotGranted: error(Code.failedPrecondition, 'role is not granted to the user'),
  permissionNotGranted: error(Code.failedPrecondition, 'permission is not granted to the role'),
  authNotEnabled: error(Code.failedPrecondition, 'authentication is not enabled'),
  invalidAuthToken: error(Code.unauthenticated, 'invalid auth token'),
  invalidAuthMgmt: error(Code.invalidArgument, 'invalid auth management'),
  authOldRevision: error(Code.invalidArgument, 'revision of auth store is old'),
  noLeader: error(Code.unavailable, 'no leader'),
  notLeader: error(Code.failedPrecondition, 'not leader'),
  leaderChanged: error(Code.unavailable, 'leader changed'),
  notCapable: error(Code.failedPrecondition, 'not capable'),
  stopped: error(Code.unavailable, 'server stopped'),
  timeout: error(Code.unavailable, 'request timed out'),
  timeoutDueToLeaderFail: error(
    Code.unavailable,
    'request timed out, possibly due to previous leader failure',
  ),
  timeoutDueToConnectionLost: error(Code.unavailable, 'request timed out, possibly due to connection lost'),
  timeoutWaitAppliedIndex: error(
    Code.unavailable,
    'request timed out, waiting for the applied index took too long',
  ),
  unhealthy: error(Code.unavailable, 'unhealthy cluster'),
  corrupt: error(Code.dataLoss, 'corrupt cluster'),
  notSupportedForLearner: error(Code.failedPrecondition, 'rpc not supported for learner'),
  badLeaderTransferee: error(Code.failedPrecondition, 'bad leader transferee'),
  wrongDowngradeVersionFormat: error(Code.invalidArgument, 'wrong downgrade target version format'),
  invalidDowngradeTargetVersion: error(Code.invalidArgument, 'invalid downgrade target version'),
  clusterVersionUnavailable: error(Code.failedPrecondition, 'cluster version not found during downgrade'),
  downgradeInProcess: error(Code.failedPrecondition, 'cluster has a downgrade job in progress'),
  noInflightDowngrade: error(Code.failedPrecondition, 'no inflight downgrade job'),
  canceled: error(Code.canceled, 'request canceled'),
  deadlineExceeded: error(Code.deadlineExceeded, 'context deadline exceeded'),
}) satisfies Readonly<Record<string, RpcStatus>>;

export type EtcdErrorName = keyof typeof etcdErrors;

/** What etcd says outside its table. Errors it does not map go out as Unknown with their raw text. */
export const otherErrors = Object.freeze({
  noPasswordUser: status(
    Code.unknown,
    'auth: authentication failed, password was given for no password user',
  ),
  /** bcrypt sees no more of it; Go's words. */
  passwordTooLong: status(Code.unknown, 'bcrypt: password length exceeds 72 bytes'),
  /** `--auth-token jwt` without a private key: tokens are made elsewhere. */
  noSigningKey: status(Code.unknown, 'auth: token signing attempted with verify-only key'),
  /** Keepalive or TTL at a member that does not lead. */
  notPrimaryLessor: status(Code.unknown, 'not a primary lessor'),
  leaderTransferTimeout: status(Code.unknown, 'etcdserver: request timed out, leader transfer took too long'),
  unknownMethod: status(Code.unknown, 'etcdserver: unknown method'),
  /** Never entered the log; etcd's clients may try again. */
  proposalDropped: status(Code.unknown, 'raft proposal dropped'),
  leaderFieldRequired: status(Code.unknown, '"leader" field must be provided'),
  electionNoLeader: status(Code.unknown, 'election: no leader'),
  electionNotLeader: status(Code.unknown, 'election: not leader'),
  /** The call's own context ended, seen by a handler outside consensus. */
  contextCanceled: status(Code.canceled, 'context canceled'),
  contextDeadlineExceeded: status(Code.deadlineExceeded, 'context deadline exceeded'),
  rangeStreamSort: status(Code.unimplemented, 'RangeStream does not support custom sort orders'),
  rangeStreamFilter: status(Code.unimplemented, 'RangeStream does not support revision filters'),
}) satisfies Readonly<Record<string, RpcStatus>>;

/** Values of `cancel_reason` in a WatchResponse that are no status of their own. */
export const watchCancelReasons = Object.freeze({
  duplicateId: 'mvcc: duplicate watch ID provided on the WatchStream',
  emptyRange: 'mvcc: watcher range is empty',
});

/** The gRPC layer's refusal of a message beyond max-request-bytes + 512 KiB. Sizes in bytes. */
export function messageTooLarge(bytes: number, maxBytes: number): RpcStatus {
  return status(Code.resourceExhausted, `grpc: received message larger than max (${bytes} vs. ${maxBytes})`);
}

/** A request that is not a message of its type. `detail` is the text of the WireError. */
export function malformedRequest(detail: string): RpcStatus {
  return status(Code.internal, `grpc: error unmarshalling request: ${detail}`);
}
