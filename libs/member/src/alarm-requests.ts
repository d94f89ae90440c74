/** The Alarm RPC, and the NOSPACE alarm that a member raises when it meets its quota. */
import type { Clock, Log } from '@quoin/base';
import { etcdErrors, Method } from '@quoin/contracts';
import { AlarmType } from './alarms.ts';
import type { StateMachine } from './apply.ts';
import type { Call } from './call.ts';
import { encodeAlarmActivate } from './cluster-messages.ts';
import type { OwnProposals } from './own-proposals.ts';
import { requestCost } from './quota.ts';
import type { ReadyLoop } from './ready-loop.ts';

export interface AlarmRequestsParts {
  readonly memberId: bigint;
  readonly clock: Clock;
  readonly log: Log;
  readonly machine: StateMachine;
  readonly own: OwnProposals;
  readonly loop: () => ReadyLoop;
}

/** How long an alarm that was proposed may stay away before it is proposed again. */
const retryMs = 1_000;

export class AlarmRequests {
  private readonly parts: AlarmRequestsParts;
  /** They have met the quota, and are told so once the alarm is raised. */
  private waiting: Call[];
  private proposedMs: number;
  private due: boolean;

  constructor(parts: AlarmRequestsParts) {
    this.parts = parts;
    this.waiting = [];
    this.proposedMs = Number.NEGATIVE_INFINITY;
    this.due = false;
  }

  /** Before the log: true when the request has no room; its call is then answered here. */
  refuses(method: Method, body: Uint8Array, call: Call): boolean {
    const { machine } = this.parts;
    const room = machine.quotaRoom;
    if (room === Number.POSITIVE_INFINITY) return false;
    const cost = requestCost(method, body, room);
    if (cost === 0 || cost < room) return false;
    this.exceeded(call);
    return true;
  }

  /** A request had no room, or was applied beyond it: the alarm comes first, then the answer, as with etcd. */
  exceeded(call: Call | undefined): void {
    if (this.isRaised()) return call?.fail(etcdErrors.noSpace);
    if (call !== undefined) this.waiting.push(call);
    const nowMs = this.parts.clock.monotonicMs();
    // A follower leaves it to the leader, which has applied the same, and helps out if nothing comes of that.
    if (!this.due && !this.parts.loop().isLeader) this.proposedMs = nowMs;
    this.due = true;
    this.raise(nowMs);
  }

  /** After each slice of entries that were applied. */
  applied(): void {
    if (this.waiting.length > 0 && this.isRaised()) this.answer();
  }

  tick(nowMs: number): void {
    if (this.due) this.raise(nowMs);
    if (this.waiting.some((call) => call.deadlineMs <= nowMs)) this.answer();
  }

  close(): void {
    this.answer();
  }

  private isRaised(): boolean {
    return this.parts.machine.alarms.has(AlarmType.noSpace);
  }

  private raise(nowMs: number): void {
    const { log, memberId, machine, own } = this.parts;
    if (this.isRaised()) {
      this.due = false;
      return;
    }
    if (nowMs - this.proposedMs < retryMs) return;
    this.proposedMs = nowMs;
    log.warn('the quota of the backend is exceeded: raising the NOSPACE alarm', { bytes: machine.dbBytes });
    own.propose(Method.alarm, encodeAlarmActivate(memberId, AlarmType.noSpace));
  }

  private answer(): void {
    const { waiting } = this;
    this.waiting = [];
    for (const call of waiting) call.fail(etcdErrors.noSpace);
  }
}
