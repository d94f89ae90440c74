/** What a member proposes on its own behalf, leader or not: a follower sends it to the leader, and learns of the outcome by applying it. */
import { type Clock, emptyBytes } from '@quoin/base';
import { encodeProposalBatch, type Method } from '@quoin/contracts';
import { EntryType, MessageType } from '@quoin/raft';
import type { Call } from './call.ts';
import { blankMessage } from './messages.ts';
import type { Peers } from './peer-session.ts';
import { membersOwn, type Proposals } from './proposals.ts';
import type { ReadyLoop } from './ready-loop.ts';

export interface OwnProposalsParts {
  readonly memberId: bigint;
  readonly clock: Clock;
  readonly proposals: Proposals;
  readonly peers: () => Peers;
  readonly loop: () => ReadyLoop;
  readonly requestTimeoutMs: number;
}

export class OwnProposals {
  private readonly parts: OwnProposalsParts;
  private sequence: bigint;

  constructor(parts: OwnProposalsParts) {
    this.parts = parts;
    this.sequence = 0n;
  }

  /** Nothing is promised: who must be sure tries again until it sees the effect. */
  propose(method: Method, body: Uint8Array): void {
    const { memberId, clock, proposals, requestTimeoutMs } = this.parts;
    const loop = this.parts.loop();
    const { leader } = loop.softState;
    if (loop.isLeader) {
      const nowMs = clock.monotonicMs();
      proposals.add(method, body, undefined, nowMs, nowMs + requestTimeoutMs);
    } else if (leader !== 0n) {
      // Numbers without this start's epoch: nobody waits for their outcome.
      const ids = { origin: memberId, id: ++this.sequence };
      const proposal = { ...ids, method, body, trace: emptyBytes, ...membersOwn };
      const data = encodeProposalBatch({ proposals: [proposal] }).slice();
      const message = blankMessage(MessageType.propose, memberId, leader);
      this.parts.peers().send({ ...message, entries: [{ term: 0, index: 0, type: EntryType.normal, data }] });
    }
    loop.wake();
  }

  /** On the leader: `call` learns of the outcome. */
  proposeFor(method: Method, body: Uint8Array, call: Call): void {
    const { clock, proposals } = this.parts;
    proposals.add(method, body, call, clock.monotonicMs(), call.deadlineMs);
    this.parts.loop().wake();
  }
}
