/** Which test makes which error, as far as it is neither a case of `cases/` nor in `errors.test.ts`; and what nobody makes. */
import type { EtcdErrorName } from '@quoin/contracts';

/** Test file, relative to the repository. */
export const elsewhere: Partial<Record<EtcdErrorName, string>> = {
  // It takes signed tokens, so a server of its own configuration.
  authOldRevision: 'tests/contract/auth.test.ts',
};

/** Errors that a client of Quoin does not see, and why. */
export const notProduced: Partial<Record<EtcdErrorName, string>> = {
  memberExist: 'two members would need the same SHA-1; a URL that is in use is found before',
  clusterIDMismatch: 'etcd itself sends it between peers only, over HTTP',
  notCapable: 'etcd itself sends it only while its cluster is older than 3.0',
  notLeader: 'a gateway hands MoveLeader to the leader; there is no member that the client is connected to',
  timeoutDueToLeaderFail:
    'an old leader that is back in time finds its entry overwritten and says so: the gateway takes the write to the new leader, where it succeeds (a leader cut off with a write for 1 to 2 s, five times of five)',
  leaderChanged: 'a gateway asks the new leader again before the client’s time is over',
  notSupportedForLearner: 'a gateway asks a member that may answer',
  timeoutWaitAppliedIndex:
    'a read that waits for its member to apply ends with `request timed out`, or with another member',
  canceled: 'who has canceled a call is not told how it ended; traces and metrics are',
  deadlineExceeded:
    'etcd itself sends `context deadline exceeded`, and for what went through the log `request timed out`',
  noInflightDowngrade: 'etcd 3.7 itself takes CANCEL for done when there is none',
  clusterVersionUnavailable: 'only in the moment before a new cluster has agreed on its version',
};
