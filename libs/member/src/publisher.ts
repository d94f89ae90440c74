/**
 * Makes this member's name and client URLs known to all: through the log, proposed by itself as the leader or handed
 * to the leader in a message, again until it is applied. A member that is known so has started, and can serve.
 */
import type { Clock, Timers } from '@quoin/base';
import { encodeAttributesRequest, Method } from '@quoin/contracts';
import type { StateMachine } from './apply.ts';
import type { MemberConfig } from './config.ts';
import type { OwnProposals } from './own-proposals.ts';
import type { ReadyLoop } from './ready-loop.ts';

export interface PublisherParts {
  readonly memberId: bigint;
  readonly config: MemberConfig;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly machine: StateMachine;
  readonly own: OwnProposals;
  readonly loop: ReadyLoop;
}

const retryMs = 1_000;

export class Publisher {
  private readonly parts: PublisherParts;
  private sentMs: number;
  private listeners: (() => void)[];

  constructor(parts: PublisherParts) {
    this.parts = parts;
    this.sentMs = Number.NEGATIVE_INFINITY;
    this.listeners = [];
  }

  /** Calls back once the cluster has a leader and knows this member. */
  onceReady(cb: () => void): void {
    if (this.isReady()) this.parts.timers.endOfTurn(cb);
    else this.listeners.push(cb);
  }

  /** Every tick, and when the leader or the membership changed. */
  tick(nowMs: number): void {
    const { loop } = this.parts;
    if (this.isReady()) this.tell();
    else if (loop.softState.leader !== 0n && !this.isPublished() && nowMs - this.sentMs >= retryMs) {
      this.sentMs = nowMs;
      this.publish();
    }
  }

  private isPublished(): boolean {
    const { machine, memberId, config } = this.parts;
    const own = machine.membership.get(memberId);
    if (own === undefined || !machine.membership.isStarted(memberId)) return false;
    return own.name === config.name && own.clientUrls.join() === config.advertiseClientUrls.join();
  }

  private isReady(): boolean {
    return this.parts.loop.softState.leader !== 0n && this.isPublished();
  }

  private tell(): void {
    if (this.listeners.length === 0) return;
    const { listeners } = this;
    this.listeners = [];
    for (const listener of listeners) listener();
  }

  private publish(): void {
    const { memberId, config, own } = this.parts;
    const { name, advertiseClientUrls: clientUrls } = config;
    own.propose(Method.attributes, encodeAttributesRequest({ memberId, name, clientUrls }));
  }
}
