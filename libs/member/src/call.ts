import type { RpcStatus } from '@quoin/contracts';
import type { Caller } from '@quoin/contracts/auth';

/** One request that somebody waits for. Exactly one of `reply`, `fail` and `notTaken` is called, once. */
export interface Call {
  /** Monotonic ms after which nobody waits any more. */
  readonly deadlineMs: number;
  /** 25 bytes when the request is sampled. */
  readonly trace: Uint8Array | undefined;
  /** In whose name, while authentication is on; `member`: this member's own, whom nobody has to permit anything. */
  readonly caller: Caller | 'member' | undefined;
  /** The encoded response. */
  reply(body: Uint8Array): void;
  fail(status: RpcStatus): void;
  /** The request had no effect and never will have: another member may be asked. */
  notTaken(): void;
}

/** A call that is answered from the state once that is known to be recent enough. */
export interface ReadCall extends Call {
  /** Reads and replies. */
  serve(): void;
}
