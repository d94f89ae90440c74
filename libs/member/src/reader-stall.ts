import type { Clock } from '@quoin/base';
import { Code, type RpcStatus } from '@quoin/contracts';
import type { LinkCall } from './link-session.ts';

/** Tells when the reader of a long answer has taken nothing for too long. */
export class ReaderStall {
  private readonly clock: Clock;
  private readonly call: LinkCall;
  private readonly stallMs: number;
  private readingMs: number;

  constructor(clock: Clock, call: LinkCall, stallMs: number) {
    this.clock = clock;
    this.call = call;
    this.stallMs = stallMs;
    this.readingMs = clock.monotonicMs();
  }

  /** Why the call is to be given up; undefined: its reader is at work, or may still come back. Asked every heartbeat or so. */
  problem(what: string): RpcStatus | undefined {
    const nowMs = this.clock.monotonicMs();
    if (this.call.creditBytes > 0) this.readingMs = nowMs;
    if (nowMs - this.readingMs < this.stallMs) return undefined;
    const seconds = this.stallMs / 1_000;
    return {
      code: Code.deadlineExceeded,
      message: `etcdserver: the ${what} was given up: its reader has taken nothing for ${seconds} s`,
    };
  }
}
