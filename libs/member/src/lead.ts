/**
 * To whom the lead goes when its holder should not have it. A leader whose disk stalls looks well to the others: its messages leave
 * before its disk is asked, and they commit without it. But it applies, and answers, only what its own disk has.
 */
import { hexId, type Log } from '@quoin/base';
import type { NodeId, ProgressStatus, Raft, RaftStatus } from '@quoin/raft';

/** The voter with the most of the log among those that answer; undefined: none but this one. */
export function heirOf(
  status: RaftStatus,
  isFit: (id: NodeId) => boolean = () => true,
): ProgressStatus | undefined {
  const heirs = status.progress.filter(
    (p) => p.id !== status.id && !p.learner && p.recentActive && isFit(p.id),
  );
  return heirs.sort((a, b) => b.match - a.match)[0];
}

export interface DiskLagParts {
  readonly log: Log;
  readonly raft: Raft;
  /** How long this member's disk may lack what a quorum has. */
  readonly limitMs: number;
}

/** Sees to it that nobody leads whose disk is far behind those of a quorum. */
export class DiskLag {
  private readonly parts: DiskLagParts;
  /** What was committed when the disk was first seen without it; 0: it lacks nothing. */
  private index = 0;
  private sinceMs = 0;

  constructor(parts: DiskLagParts) {
    this.parts = parts;
  }

  /** Some times within the limit. */
  tick(nowMs: number, isLeader: boolean): void {
    if (!isLeader) {
      this.index = 0;
      return;
    }
    const { log, raft, limitMs } = this.parts;
    const status = raft.status();
    if (status.durableIndex >= this.index) {
      this.index = status.commit > status.durableIndex ? status.commit : 0;
      this.sinceMs = nowMs;
      return;
    }
    const lagMs = nowMs - this.sinceMs;
    const heir = heirOf(status);
    if (lagMs < limitMs || heir === undefined || status.transferee !== 0n) return;
    log.warn('hands the lead over: its disk is behind those of the others', {
      to: hexId(heir.id),
      'lag-ms': Math.round(lagMs),
      entries: status.commit - status.durableIndex,
    });
    raft.transferLeadership(heir.id);
  }
}
