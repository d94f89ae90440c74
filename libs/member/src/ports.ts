import type {
  Channel,
  Clock,
  Digest,
  Disk,
  Log,
  MetricRegistry,
  Passwords,
  Random,
  Sealer,
  Timers,
  TokenSigner,
  Tracer,
} from '@quoin/base';
import type { Backend } from '@quoin/mvcc';
import type { Entry, SoftState } from '@quoin/raft';

/** What a replica needs of the world. */
export interface MemberPorts {
  readonly clock: Clock;
  readonly timers: Timers;
  readonly random: Random;
  readonly log: Log;
  readonly tracer: Tracer | undefined;
  readonly metrics: MetricRegistry;
  readonly digest: Digest;
  readonly passwords: Passwords;
  /** Absent: tokens are the simple ones, which the cluster signs itself. */
  readonly signer?: TokenSigner;
  /** Rooted at the member's data directory; the WAL lives in `member/wal` below it. */
  readonly disk: Disk;
  /** Engines live in `member/<name>` below the data directory. */
  readonly backends: BackendFactory;
  /** Encrypts the entries of the log; engines see to their own values. Absent: nothing is encrypted. */
  readonly sealer?: Sealer | undefined;
  /** Opens a stream to a peer's URL for raft messages and snapshots; the peer is given the other end. */
  readonly dialPeer: (peerUrl: string) => Channel;
  /** A write or sync failed, or an invariant broke: log, then leave the process at once. Never returns to the caller. */
  readonly fatal: (reason: string) => never;
  /** Absent in production. */
  readonly probe?: MemberProbe;
}

/** What checkers see of a replica from within. Called in its turn; may throw to end the run. */
export interface MemberProbe {
  /** The state machine stands at that index: at start, and when a received snapshot has replaced it. */
  begins(appliedIndex: number): void;
  /** The entry is about to be applied. */
  applies(entry: Entry): void;
  /** Leader, role or term changed. `termAt` tells the term of an entry of its log; -1 where it has none. */
  became(state: SoftState, lastIndex: number, termAt: (index: number) => number): void;
}

export interface BackendFactory {
  /** Opens or creates the engine of that name. */
  open(name: string, cb: (error: Error | null, backend: Backend | null) => void): void;
  /** Names that exist. */
  list(cb: (error: Error | null, names: string[]) => void): void;
  /** Removes a closed engine and its files. */
  remove(name: string, cb: (error: Error | null) => void): void;
  /** Atomic and durable when the callback comes. Both closed. */
  rename(from: string, to: string, cb: (error: Error | null) => void): void;
}
