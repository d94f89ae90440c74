/** Requests that change who belongs to the cluster or who leads it. Leader only. */
import type { Clock, Digest } from '@quoin/base';
import {
  encodeMemberChange,
  etcdErrors,
  type MemberChange,
  Method,
  otherErrors,
  type RpcStatus,
} from '@quoin/contracts';
import { type ConfChange, ConfChangeType, type Raft } from '@quoin/raft';
import type { StateMachine } from './apply.ts';
import { memberIdOf } from './cluster-ids.ts';
import { readMemberAdd, readMemberId, readMemberUpdate, readMoveLeader } from './cluster-messages.ts';
import { type MemberConfig, urlError } from './config.ts';
import type { LinkCall } from './link-session.ts';
import type { MemberMetrics } from './member-metrics.ts';
import type { Proposals } from './proposals.ts';
import type { ReadyLoop } from './ready-loop.ts';

export interface ClusterRequestsParts {
  readonly memberId: bigint;
  readonly config: MemberConfig;
  readonly clock: Clock;
  readonly digest: Digest;
  readonly metrics: MemberMetrics;
  readonly raft: Raft;
  readonly machine: StateMachine;
  readonly proposals: Proposals;
  readonly loop: ReadyLoop;
  /** Whether the stream to that member is open. */
  readonly isConnected: (id: bigint) => boolean;
}

/** A learner may vote when it has so much of the leader's log. */
const readyMatchRatio = 0.9;

export class ClusterRequests {
  private readonly parts: ClusterRequestsParts;
  private transfer: { call: LinkCall; to: bigint } | undefined;

  constructor(parts: ClusterRequestsParts) {
    this.parts = parts;
    this.transfer = undefined;
  }

  /** MemberAdd, MemberRemove, MemberPromote. */
  change(call: LinkCall): void {
    const { loop, clock, metrics, proposals, raft } = this.parts;
    if (!loop.isLeader) return call.notTaken();
    const wanted = this.changeOf(call);
    const promotes = call.method === Method.memberPromote;
    if ('code' in wanted) {
      if (promotes) metrics.promoteFailures.inc([wanted.message]);
      return call.fail(wanted);
    }
    const nowMs = clock.monotonicMs();
    const id = proposals.register(call.method as Method, call, nowMs, call.deadlineMs);
    const context = encodeMemberChange({ ...wanted.change, origin: this.parts.memberId, id });
    const changes = [{ type: wanted.type, node: wanted.change.memberId }];
    const cc: ConfChange = { transition: 'auto', changes, context };
    const result = raft.proposeConfChange(cc);
    if (result === 'ok') {
      if (promotes) metrics.promoteSuccesses.inc();
      return loop.wake();
    }
    proposals.take(this.parts.memberId, id);
    if (result === 'notLeader' || result === 'transferring') call.notTaken();
    else if (result === 'invalid') call.fail(etcdErrors.memberNotFound);
    // Another change is under way: like etcd, which has one at a time, but does not wait for it.
    else call.fail(etcdErrors.requestTooManyRequests);
  }

  private changeOf(call: LinkCall): RpcStatus | { change: MemberChange; type: ConfChangeType } {
    const none = { origin: 0n, id: 0n };
    if (call.method === Method.memberAdd) {
      const { peerUrls, learner } = readMemberAdd(call.body);
      if (peerUrls.length === 0 || peerUrls.some((url) => urlError(url) !== undefined))
        return etcdErrors.memberBadURLs;
      const { digest, clock, config } = this.parts;
      const memberId = memberIdOf(digest, peerUrls, config.clusterToken, Math.floor(clock.wallMs() / 1_000));
      const change: MemberChange = { ...none, memberId, peerUrls, learner, promote: false };
      const type = learner ? ConfChangeType.addLearner : ConfChangeType.addVoter;
      return this.checked(change, 'add') ?? { change, type };
    }
    const memberId = readMemberId(call.body);
    const promote = call.method === Method.memberPromote;
    const change: MemberChange = { ...none, memberId, peerUrls: [], learner: false, promote };
    const problem = this.checked(change, promote ? 'add' : 'remove');
    if (problem !== undefined) return problem;
    if (!promote) return { change, type: ConfChangeType.removeNode };
    return this.isCaughtUp(memberId) ? { change, type: ConfChangeType.addVoter } : etcdErrors.learnerNotReady;
  }

  private checked(change: MemberChange, kind: 'add' | 'remove'): RpcStatus | undefined {
    const problem = this.parts.machine.memberChangeError(change, kind);
    if (problem !== undefined || change.learner) return problem;
    const { members } = this.parts.machine.membership;
    const voters = members.filter((member) => !member.learner);
    const target = members.find((member) => member.id === change.memberId);
    if (kind === 'remove' && target?.learner === true) return undefined;
    // Strict reconfiguration: the members that have started must be a quorum of the membership to come.
    const after = kind === 'add' ? voters.length + 1 : voters.length - 1;
    if (after === 0) return etcdErrors.memberNotEnoughStarted;
    const started = voters.filter(
      (m) => m.name !== '' && (kind === 'add' || m.id !== change.memberId),
    ).length;
    const single = kind === 'add' && voters.length === 1 && started === 1;
    const quorum = Math.floor(after / 2) + 1;
    if (!single && started < quorum) return etcdErrors.memberNotEnoughStarted;
    // And those that answer: who is added has not started, who is down may go. A learner that is promoted answers.
    const connected = (id: bigint): boolean => id === this.parts.memberId || this.parts.isConnected(id);
    if (single || change.promote || (kind === 'remove' && !connected(change.memberId))) return undefined;
    const active = voters.filter((m) => connected(m.id) && m.id !== change.memberId).length;
    return active < quorum ? etcdErrors.unhealthy : undefined;
  }

  private isCaughtUp(id: bigint): boolean {
    const { progress } = this.parts.raft.status();
    const own = progress.find((p) => p.id === this.parts.memberId)?.match ?? 0;
    const match = progress.find((p) => p.id === id)?.match ?? 0;
    return match >= own * readyMatchRatio;
  }

  /** New peer URLs travel as an ordinary proposal: raft does not know addresses. */
  update(call: LinkCall, propose: () => void): void {
    if (!this.parts.loop.isLeader) return call.notTaken();
    const { id, peerUrls } = readMemberUpdate(call.body);
    // etcd checks the URLs of MemberAdd alone; here a member would be cut off by one that is none.
    if (this.parts.machine.membership.get(id) === undefined) return call.fail(etcdErrors.memberNotFound);
    if (peerUrls.length === 0 || peerUrls.some((url) => urlError(url) !== undefined)) {
      return call.fail(etcdErrors.memberBadURLs);
    }
    propose();
  }

  moveLeader(call: LinkCall): void {
    const { loop, raft, machine, memberId } = this.parts;
    // etcd does not forward it: the client has to ask the leader itself.
    if (!loop.isLeader) return call.fail(etcdErrors.notLeader);
    const to = readMoveLeader(call.body);
    const target = machine.membership.get(to);
    if (to === memberId || target === undefined || target.learner || this.transfer !== undefined) {
      return call.fail(etcdErrors.badLeaderTransferee);
    }
    if (raft.transferLeadership(to) !== 'ok') return call.fail(etcdErrors.badLeaderTransferee);
    this.transfer = { call, to };
    loop.wake();
  }

  leaderChanged(leader: bigint): void {
    const { transfer } = this;
    if (transfer === undefined || leader === 0n) return;
    this.transfer = undefined;
    // No header, as etcd.
    if (leader === transfer.to) transfer.call.reply(new Uint8Array(0));
    else transfer.call.fail(otherErrors.leaderTransferTimeout);
  }

  tick(nowMs: number): void {
    const { transfer, parts } = this;
    if (transfer === undefined) return;
    const givenUp = parts.loop.isLeader && parts.raft.status().transferee === 0n;
    if (!givenUp && transfer.call.deadlineMs > nowMs) return;
    this.transfer = undefined;
    transfer.call.fail(otherErrors.leaderTransferTimeout);
  }
}
