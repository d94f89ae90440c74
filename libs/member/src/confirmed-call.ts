import type { RpcStatus } from '@quoin/contracts';
import type { ReadCall } from './call.ts';
import type { LinkCall } from './link-session.ts';

/**
 * Goes on with a call once this member has applied what was acknowledged before the call, by a ReadIndex of its own: the
 * call itself may then be put off by another one, or take long.
 */
export class ConfirmedCall implements ReadCall {
  readonly deadlineMs: number;
  readonly trace = undefined;
  readonly caller = 'member';
  private readonly call: LinkCall;
  private readonly goOn: () => void;
  private ended: boolean;

  constructor(call: LinkCall, goOn: () => void) {
    this.deadlineMs = call.deadlineMs;
    this.call = call;
    this.goOn = goOn;
    this.ended = false;
  }

  /** It has gone on or failed, or nobody waits any more. */
  get over(): boolean {
    return this.ended || this.call.done;
  }

  serve(): void {
    if (this.over) return;
    this.ended = true;
    this.goOn();
  }

  reply(): void {
    this.serve();
  }

  fail(status: RpcStatus): void {
    if (this.over) return;
    this.ended = true;
    this.call.fail(status);
  }

  notTaken(): void {
    if (this.over) return;
    this.ended = true;
    this.call.notTaken();
  }
}
