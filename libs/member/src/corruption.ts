/**
 * Continuous comparison of members' states, and the repair of one that differs.
 *
 *   leader, at intervals ──HashCheck──► log ──► every member, with that entry applied and nothing after it, hashes its whole
 *   state in the background ──HashReport──► log ──► every member sees all reports of an index
 *
 *   all equal                                fine; a repaired member's alarm is taken back
 *   a quorum of voters agrees, X differs     the leader raises CORRUPT for X, which stops all changes in the cluster
 *   no quorum agrees                         CORRUPT for member 0: nobody can tell who is wrong
 *
 *   X, named: serves no reads, hands over the lead ──Repair──► log ──► the leader sends X its state, as to one that lags behind
 *
 * With `initialCorruptCheck` a member that starts serves no reads either, until a quorum is known to have its state.
 *
 * X takes no entries from when it asks until the state is there. So its log ends below the index of the Repair entry, and
 * the state that it is sent, which includes that entry, is one that raft takes as any other snapshot: nothing that X
 * has promised is lost by it. Reports are not part of the state: what follows from them is proposed.
 */
import { type Clock, hexId, type Log, type Timers } from '@quoin/base';
import {
  decodeHashReport,
  decodeMemberIdRequest,
  encodeHashReport,
  encodeMemberIdRequest,
  Method,
} from '@quoin/contracts';
import type { StateHasher } from '@quoin/mvcc';
import type { Raft } from '@quoin/raft';
import { type Alarm, AlarmType } from './alarms.ts';
import type { StateMachine } from './apply.ts';
import { encodeAlarmActivate, encodeAlarmDeactivate } from './cluster-messages.ts';
import type { MemberConfig } from './config.ts';
import { heirOf } from './lead.ts';
import type { OwnProposals } from './own-proposals.ts';
import type { ReadyLoop } from './ready-loop.ts';

export interface CorruptionParts {
  readonly memberId: bigint;
  readonly config: MemberConfig;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly log: Log;
  readonly machine: StateMachine;
  readonly own: OwnProposals;
  readonly raft: Raft;
  readonly loop: ReadyLoop;
}

/** Background work may take a fifth of the turns' time: two milliseconds, then a pause. */
const sliceMs = 2;
const slicePauseMs = 8;
const stepBytes = 128 << 10;
/** By count, too: simulated time stands still within a turn. */
const sliceSteps = 16;
/** Comparisons of which reports are kept. */
const roundsKept = 4;
/** A comparison that a starting member waits for is asked for again after so long. */
const initialRetryMs = 30_000;
/** How long a repair that was asked for may take before it is asked for again. */
const repairMs = 60_000;

export class Corruption {
  private readonly parts: CorruptionParts;
  private hasher: StateHasher | undefined;
  private hashedIndex: number;
  private pausing: boolean;
  /** Hashes by member, by index. */
  private readonly rounds = new Map<number, Map<bigint, number>>();
  private nextCheckMs: number;
  /** An alarm names this member. */
  private named: boolean;
  private needsRepair: boolean;
  private repairAskedMs: number;
  /** What another member sent began with it; 0: nothing was sent. */
  private repairedIndex: number;
  /** Whom the leader has sent its state since they were named. */
  private readonly repaired = new Set<bigint>();
  /** Not yet known to have the state that the others have. */
  private held: boolean;
  private readonly startedMs: number;
  private initialAskedMs: number;
  /** Of the last comparison that was made in this life. */
  private ownHash: { readonly index: number; readonly hash: number } | undefined;
  private whenReleased: (() => void)[];

  constructor(parts: CorruptionParts) {
    this.parts = parts;
    this.hasher = undefined;
    this.hashedIndex = 0;
    this.pausing = false;
    this.nextCheckMs = parts.clock.monotonicMs() + parts.config.corruptCheckIntervalMs;
    this.named = false;
    this.needsRepair = false;
    this.repairAskedMs = Number.NEGATIVE_INFINITY;
    this.repairedIndex = 0;
    this.held = parts.config.initialCorruptCheck;
    this.startedMs = parts.clock.monotonicMs();
    this.initialAskedMs = Number.NEGATIVE_INFINITY;
    this.ownHash = undefined;
    this.whenReleased = [];
    this.alarmsChanged(parts.machine.alarms.list(AlarmType.corrupt));
  }

  /** What this member would read to a client may be wrong. */
  get suspect(): boolean {
    return this.named || this.held;
  }

  /** Calls back, perhaps at once, when this member may serve: at its start it is compared first, if that is asked for. */
  onceCompared(cb: () => void): void {
    if (this.held) this.whenReleased.push(cb);
    else cb();
  }

  tick(nowMs: number): void {
    const { config, loop, own, machine } = this.parts;
    if (this.held) this.compareFirst(nowMs);
    if (loop.isLeader && config.corruptCheckIntervalMs > 0 && nowMs >= this.nextCheckMs) {
      this.nextCheckMs = nowMs + config.corruptCheckIntervalMs;
      // Alone there is nobody to compare with.
      if (machine.membership.members.length > 1) own.propose(Method.hashCheck, noBody);
    }
    if (this.needsRepair) this.repair(nowMs);
    else if (loop.frozen && nowMs - this.repairAskedMs > repairMs) loop.frozen = false;
  }

  /** After each commit: what the turn ended at may be the index to be hashed. */
  pump(): void {
    const { machine } = this.parts;
    if (machine.hashDue) {
      machine.hashDue = false;
      this.hasher?.close();
      this.hasher = machine.store.stateHasher();
      this.hashedIndex = machine.store.appliedIndex;
      // Leader or not: the next comparison is due an interval after the last one.
      this.nextCheckMs = this.parts.clock.monotonicMs() + this.parts.config.corruptCheckIntervalMs;
    }
    if (this.hasher !== undefined && !this.pausing) this.slice(this.hasher);
  }

  /** At apply, on every member. */
  reported(body: Uint8Array): void {
    const { memberId, index, hash } = decodeHashReport(body);
    let round = this.rounds.get(index);
    if (round === undefined) {
      round = new Map();
      this.rounds.set(index, round);
      if (this.rounds.size > roundsKept) this.rounds.delete(Math.min(...this.rounds.keys()));
    }
    round.set(memberId, hash);
    this.judge(index, round);
  }

  /** At apply, on every member: one asks for the leader's state. */
  repairAsked(body: Uint8Array): void {
    const memberId = decodeMemberIdRequest(body);
    this.repaired.add(memberId);
    const { loop, log } = this.parts;
    if (!loop.isLeader || memberId === this.parts.memberId) return;
    log.warn('sends its state to a corrupt member', { to: hexId(memberId) });
    loop.sendSnapshot(memberId);
  }

  /** At apply, and when the state is loaded. */
  alarmsChanged(corrupt: readonly Alarm[]): void {
    const named = corrupt.some((alarm) => alarm.memberId === this.parts.memberId);
    if (named && !this.named) this.needsRepair = true;
    if (!named) this.needsRepair = false;
    this.named = named;
  }

  /** The store is about to be replaced. */
  replacing(): void {
    this.hasher?.close();
    this.hasher = undefined;
    this.parts.machine.hashDue = false;
  }

  /** A state that another member sent is in force. */
  replaced(): void {
    this.parts.loop.frozen = false;
    this.needsRepair = false;
    this.repairedIndex = this.parts.machine.store.appliedIndex;
    if (!this.named) return;
    this.parts.log.warn('the state of this member was replaced by the leader’s');
    this.parts.own.propose(Method.hashCheck, noBody);
  }

  private compareFirst(nowMs: number): void {
    const { loop, own, machine, config, memberId, log } = this.parts;
    if (loop.softState.leader === 0n) {
      if (nowMs - this.startedMs <= config.requestTimeoutMs) return;
      log.warn('serves without a comparison of states: there is no leader');
      return this.release();
    }
    if (!machine.membership.isStarted(memberId) || nowMs - this.initialAskedMs < initialRetryMs) return;
    this.initialAskedMs = nowMs;
    own.propose(Method.hashCheck, noBody);
  }

  private release(): void {
    this.held = false;
    const waiting = this.whenReleased;
    this.whenReleased = [];
    for (const cb of waiting) cb();
  }

  private slice(hasher: StateHasher): void {
    const { clock, timers, loop, own, memberId } = this.parts;
    const endMs = clock.monotonicMs() + sliceMs;
    for (let i = 0; i < sliceSteps && clock.monotonicMs() < endMs; i++) {
      if (!hasher.step(stepBytes)) continue;
      this.ownHash = { index: this.hashedIndex, hash: hasher.hash() };
      own.propose(Method.hashReport, encodeHashReport({ memberId, ...this.ownHash }));
      hasher.close();
      this.hasher = undefined;
      return;
    }
    this.pausing = true;
    timers.after(slicePauseMs, () => {
      this.pausing = false;
      loop.wake();
    });
  }

  private judge(index: number, round: ReadonlyMap<bigint, number>): void {
    const { machine, memberId, log, loop } = this.parts;
    const { voters } = machine.membership.confState;
    const reported = voters.filter((id) => round.has(id));
    const agreed = majorityHash(reported, round, Math.floor(voters.length / 2) + 1);
    const differing = agreed === undefined ? [] : [...round.keys()].filter((id) => round.get(id) !== agreed);
    const isOver = machine.membership.members.every(({ id }) => round.has(id));
    if (differing.includes(memberId)) {
      log.error('the state of this member differs from that of the others', { index });
      // Named before, repaired, and wrong again.
      if (this.repairedIndex > 0 && index >= this.repairedIndex) this.needsRepair = true;
    }
    // What is replayed at the start was reported in an earlier life.
    if (this.held && this.ownHash?.index === index && this.ownHash.hash === agreed) this.release();
    if (!loop.isLeader) return;
    for (const id of differing) this.raise(id, index);
    if (agreed === undefined && reported.length === voters.length) this.raise(0n, index);
    if (isOver && agreed !== undefined && differing.length === 0) this.clear();
  }

  private raise(id: bigint, index: number): void {
    const { machine, log, own } = this.parts;
    if (machine.alarms.isActive({ memberId: id, type: AlarmType.corrupt })) return;
    log.error('states differ: raising the CORRUPT alarm', { member: hexId(id), index });
    this.repaired.delete(id);
    own.propose(Method.alarm, encodeAlarmActivate(id, AlarmType.corrupt));
  }

  /** All are equal: alarms of those that have been repaired have had their purpose. Others are the operator's. */
  private clear(): void {
    const { machine, log, own } = this.parts;
    for (const { memberId } of machine.alarms.list(AlarmType.corrupt)) {
      if (!this.repaired.has(memberId)) continue;
      log.warn('all states are equal again: taking the CORRUPT alarm back', { member: hexId(memberId) });
      own.propose(Method.alarm, encodeAlarmDeactivate(memberId, AlarmType.corrupt));
    }
  }

  private repair(nowMs: number): void {
    const { loop, raft, own, memberId, machine, log, config } = this.parts;
    const { leader } = loop.softState;
    if (!config.corruptRepair || leader === 0n || nowMs - this.repairAskedMs < repairMs) return;
    if (loop.isLeader) {
      const corrupt = new Set(machine.alarms.list(AlarmType.corrupt).map((alarm) => alarm.memberId));
      const heir = heirOf(raft.status(), (id) => !corrupt.has(id));
      if (heir !== undefined) raft.transferLeadership(heir.id);
      return;
    }
    this.repairAskedMs = nowMs;
    log.warn('asks the leader for its state in place of the corrupt one', { leader: hexId(leader) });
    own.propose(Method.repair, encodeMemberIdRequest(memberId));
    loop.frozen = true;
  }
}

const noBody: Uint8Array = new Uint8Array(0);

/** The hash that at least a quorum of the voters has. */
function majorityHash(
  reported: readonly bigint[],
  round: ReadonlyMap<bigint, number>,
  quorum: number,
): number | undefined {
  for (const id of reported) {
    const hash = round.get(id)!;
    if (reported.filter((other) => round.get(other) === hash).length >= quorum) return hash;
  }
  return undefined;
}
