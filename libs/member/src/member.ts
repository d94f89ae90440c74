import type { Channel } from '@quoin/base';
import type { MemberInfo } from '@quoin/contracts';
import type { Role } from '@quoin/raft';
import type { MemberOptions } from './config.ts';
import type { MemberPorts } from './ports.ts';

/** What an operator sees of a replica at one moment. */
export interface MemberStatus {
  readonly memberId: bigint;
  readonly clusterId: bigint;
  readonly name: string;
  readonly role: Role;
  /** 0n: none known. */
  readonly leader: bigint;
  readonly term: number;
  readonly commitIndex: number;
  readonly appliedIndex: number;
  readonly revision: number;
  readonly compactRevision: number;
  readonly learner: boolean;
  readonly members: readonly MemberInfo[];
  readonly dbSizeBytes: number;
  readonly dbSizeInUseBytes: number;
  /** Such as `etcdserver: no leader`. */
  readonly errors: readonly string[];
}

/** One replica: propose → ready → apply → reply. */
export class Member {
  /** Opens the data directory (or makes it) and starts. The error's message is one line for the operator. */
  static open(
    _options: MemberOptions,
    _ports: MemberPorts,
    _cb: (error: Error | null, member: Member | null) => void,
  ): void {
    throw new Error('not built yet');
  }

  /** A stream that another member opened to us. Handlers are set before this returns. */
  acceptPeer(_channel: Channel): void {
    throw new Error('not built yet');
  }

  /** A stream that a gateway opened to us. Handlers are set before this returns. */
  acceptLink(_channel: Channel): void {
    throw new Error('not built yet');
  }

  /** Calls back once this member has published its name and URLs through the log: it can serve clients. */
  onceReady(_cb: () => void): void {
    throw new Error('not built yet');
  }

  status(): MemberStatus {
    throw new Error('not built yet');
  }

  /** For checks that replicas are equal: the hash of the state at the applied index. */
  stateHash(_cb: (appliedIndex: number, hash: string) => void): void {
    throw new Error('not built yet');
  }

  /** Hands the lead over if it has it, makes the state durable and closes. The callback comes once. */
  stop(_cb: () => void): void {
    throw new Error('not built yet');
  }
}
