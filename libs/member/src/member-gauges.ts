import type { StateMachine } from './apply.ts';
import { type MemberConfig, quotaBytes } from './config.ts';
import type { Lessor } from './lessor.ts';
import type { MemberGauges } from './member-metrics.ts';
import type { Proposals } from './proposals.ts';
import type { ReadyLoop } from './ready-loop.ts';

/** Functions, because a member is put together after its metrics. */
export interface GaugeParts {
  readonly memberId: bigint;
  readonly config: MemberConfig;
  readonly lessor: Lessor;
  readonly leader: () => bigint;
  readonly isLearner: () => boolean;
  readonly links: () => number;
  readonly proposals: () => Proposals;
  readonly loop: () => ReadyLoop;
  readonly machine: () => StateMachine;
}

export function memberGauges(parts: GaugeParts): MemberGauges {
  const { leader, memberId, config, lessor, isLearner, links, proposals, loop, machine } = parts;
  return {
    hasLeader: () => (leader() === 0n ? 0 : 1),
    isLeader: () => (leader() === memberId ? 1 : 0),
    isLearner: () => (isLearner() ? 1 : 0),
    pendingProposals: () => proposals().pendingCount,
    committed: () => loop().committedIndex,
    applied: () => machine().store.appliedIndex,
    leases: () => lessor.size,
    authRevision: () => machine().auth.revision,
    quotaBytes: () => quotaBytes(config),
    dbBytes: () => machine().dbBytes,
    feeds: () => machine().store.hub.feeds,
    links,
    term: () => loop().softState.term,
  };
}
