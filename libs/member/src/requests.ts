/**
 * What a gateway can ask of a member, and which way each request goes:
 *
 *   range, read-only txn ── serializable ──────────────► read at the end of this turn
 *                        └─ else ──► ReadIndex ────────► read when recent enough
 *   put, delete, txn, compact, lease grant and revoke ─► proposal          leader only
 *   lease keep-alive and time-to-live ─────────────────► lessor            leader only, once it knows all leases
 *   member add, remove, promote ───────────────────────► membership change leader only
 *   status, leases, history, backup ───────────────────► this member's state
 *   member list, hashes, snapshot, defragment ─────────► the same, once it knows what was acknowledged (ConfirmedCall)
 *   users and roles: changes ─► proposal; else ──────────► ReadIndex; passwords in the background
 *
 * "Leader only" elsewhere answers `not taken`: the gateway goes to the leader with it.
 */
import {
  type Clock,
  type Distribution,
  emptyBytes,
  type Log,
  RateLimit,
  type Span,
  SpanKind,
  type Tracer,
  traceIdOf,
} from '@quoin/base';
import {
  Code,
  decodeWatchHistoryRequest,
  encodeWatchHistoryResponse,
  etcdErrors,
  isClientMethod,
  isUrgent,
  type MemberInfo,
  Method,
  malformedRequest,
  methodName,
  type RangeRequestView,
  readRangeRequest,
  readTxnRequest,
  type TxnRequestView,
  WireError,
  writeLeaseLeasesResponse,
  writeTxnResponse,
} from '@quoin/contracts';
import type { StateMachine } from './apply.ts';
import { isReadOnly, isSerializable, planError, planTxn, rangeError, runReadOnly } from './apply-txn.ts';
import { AuthRequests, type AuthRequestsParts } from './auth-requests.ts';
import type { Backups } from './backup.ts';
import type { StatusView } from './cluster-messages.ts';
import {
  readAlarm,
  readDowngrade,
  readMemberList,
  writeAlarmResponse,
  writeDowngradeResponse,
  writeMembersResponse,
  writeStatusResponse,
} from './cluster-messages.ts';
import type { ClusterRequests } from './cluster-requests.ts';
import type { MemberConfig } from './config.ts';
import { ConfirmedCall } from './confirmed-call.ts';
import type { LeaseRequests } from './lease-requests.ts';
import type { LinkCall } from './link-session.ts';
import { answerRange, type LongRange, LongRanges, RangeOutcome } from './long-range.ts';
import type { Maintenance } from './maintenance.ts';
import type { MemberMetrics } from './member-metrics.ts';
import type { Proposals } from './proposals.ts';
import type { ReadIndex } from './read-index.ts';
import type { ReadyLoop } from './ready-loop.ts';

export interface RequestsParts {
  readonly config: MemberConfig;
  readonly clock: Clock;
  readonly tracer: Tracer | undefined;
  readonly log: Log;
  readonly metrics: MemberMetrics;
  readonly machine: StateMachine;
  readonly proposals: Proposals;
  readonly reads: ReadIndex;
  readonly loop: ReadyLoop;
  readonly leases: LeaseRequests;
  readonly cluster: ClusterRequests;
  readonly maintenance: Maintenance;
  readonly backups: Backups;
  readonly auth: Omit<AuthRequestsParts, 'machine' | 'clock' | 'isLeader' | 'linearize' | 'propose'>;
  readonly isLearner: () => boolean;
  readonly status: () => StatusView;
  readonly gatewayUrls: () => readonly string[];
}

const historyBytes = 1 << 20;

/** What a member whose state is known to be wrong leaves to others. */
function readsData({ method, body }: LinkCall): boolean {
  switch (method) {
    case Method.range:
    case Method.watchHistory:
    case Method.backup:
    case Method.snapshot:
      return true;
    case Method.txn:
      return isReadOnly(readTxnRequest(body));
    default:
      return false;
  }
}

export class Requests {
  private readonly parts: RequestsParts;
  /** Reads of this turn that need no quorum. */
  private local: LinkCall[];
  private readonly ranges: LongRanges;
  private longRanges: LongRange[];
  private confirming: ConfirmedCall[];
  /** Long ranges without credit. */
  private readonly waitingRanges = new Set<LongRange>();
  private readonly auth: AuthRequests;
  private readonly limit = new RateLimit(5_000);
  private readonly goodRanges: Distribution;
  private readonly failedRanges: Distribution;

  constructor(parts: RequestsParts) {
    this.parts = parts;
    this.goodRanges = parts.metrics.rangeSeconds.at(['true']);
    this.failedRanges = parts.metrics.rangeSeconds.at(['false']);
    this.auth = new AuthRequests({
      ...parts.auth,
      machine: parts.machine,
      clock: parts.clock,
      isLeader: () => parts.loop.isLeader,
      linearize: (call) => {
        parts.reads.add(call);
        parts.loop.wake();
      },
      propose: (call, method, body) => this.propose(call, method, body),
    });
    this.local = [];
    this.ranges = new LongRanges(parts.config, parts.machine);
    this.longRanges = [];
    this.confirming = [];
  }

  take(call: LinkCall): void {
    const { tracer } = this.parts;
    if (call.trace !== undefined && tracer !== undefined) {
      call.span = tracer.start(`member.${methodName(call.method)}`, call.trace, SpanKind.server);
      call.trace = call.span.context;
    }
    if (isConfirmed(call.method)) {
      this.confirm(call, () => {
        call.standing = 'settled';
        this.admit(call);
      });
    } else this.admit(call);
  }

  private admit(call: LinkCall): void {
    try {
      if (this.mayPass(call)) this.route(call);
    } catch (error) {
      if (!(error instanceof WireError)) throw error;
      call.fail(malformedRequest(error.message));
    }
  }

  private confirm(call: LinkCall, goOn: () => void): void {
    const confirmed = new ConfirmedCall(call, () => {
      if (!call.done) goOn();
    });
    this.confirming.push(confirmed);
    this.parts.reads.add(confirmed);
    this.parts.loop.wake();
  }

  /** Without a leader nothing more recent is to be had, and just then an operator wants to look. */
  private pumpConfirming(): void {
    if (this.confirming.length === 0) return;
    if (this.parts.loop.softState.leader === 0n) for (const call of this.confirming) call.serve();
    this.confirming = this.confirming.filter((call) => !call.over);
  }

  /** False when it was refused, or waits for the question whether it is. Costs nothing while authentication is off. */
  private mayPass(call: LinkCall): boolean {
    return !this.parts.machine.auth.enabled || leaderKnows(call.method) || this.auth.admit(call);
  }

  private route(call: LinkCall): void {
    const { cluster, leases, backups } = this.parts;
    if (this.parts.isLearner() && !this.learnerServes(call)) return call.notTaken();
    if (this.parts.maintenance.corruption.suspect && readsData(call)) return call.notTaken();
    switch (call.method) {
      case Method.range:
        return this.range(call);
      case Method.txn:
        return this.txn(call);
      case Method.put:
      case Method.deleteRange:
      case Method.compact:
      case Method.leaseRevoke:
        return this.propose(call, call.method, call.body);
      case Method.leaseGrant:
        return leases.grant(call, (body) => this.propose(call, Method.leaseGrant, body));
      case Method.leaseKeepAlive:
      case Method.leaseTimeToLive:
        return leases.take(call, () => !this.parts.machine.auth.enabled || this.auth.admit(call));
      case Method.memberAdd:
      case Method.memberRemove:
      case Method.memberPromote:
        return cluster.change(call);
      case Method.memberUpdate:
        return cluster.update(call, () => this.propose(call, Method.memberUpdate, call.body));
      case Method.moveLeader:
        return cluster.moveLeader(call);
      case Method.memberList:
        if (readMemberList(call.body).linearizable) return this.parts.reads.add(call);
        // Clients of etcd before 3.5 cannot ask for more, and expect to see the member that they have just added.
        return this.confirm(call, () => this.serveLater(call));
      case Method.backup:
        return backups.take(call);
      case Method.snapshot:
        return this.parts.maintenance.snapshots.take(call);
      case Method.hash:
      case Method.hashKV:
        return this.parts.maintenance.hashes.take(call);
      case Method.status:
      case Method.leaseLeases:
      case Method.watchHistory:
      case Method.defragment:
        return this.serveLater(call);
      case Method.downgrade:
        if (readDowngrade(call.body).action === 'validate') return this.parts.reads.add(call);
        return this.propose(call, Method.downgrade, call.body);
      case Method.alarm:
        // Not through the log, as with etcd, but as recent.
        if (readAlarm(call.body).action === 'get') return this.parts.reads.add(call);
        return this.propose(call, Method.alarm, call.body);
    }
    if (isAuth(call.method)) return this.auth.take(call);
    call.fail({
      code: Code.unimplemented,
      message: `etcdserver: ${methodName(call.method)} is not served yet`,
    });
  }

  private learnerServes(call: LinkCall): boolean {
    switch (call.method) {
      case Method.status:
      case Method.backup:
      case Method.snapshot:
      case Method.watchHistory:
      case Method.defragment:
      case Method.identify:
      case Method.authSync:
        return true;
      case Method.range:
        return readRangeRequest(call.body).serializable;
      default:
        return false;
    }
  }

  private serveLater(call: LinkCall): void {
    this.local.push(call);
    this.parts.loop.wake();
  }

  private range(call: LinkCall): void {
    const request = readRangeRequest(call.body);
    call.view = request;
    if (request.serializable) this.serveLater(call);
    else this.parts.reads.add(call);
  }

  private txn(call: LinkCall): void {
    const request = readTxnRequest(call.body);
    if (!isReadOnly(request)) return this.propose(call, Method.txn, call.body);
    call.view = request;
    if (isSerializable(request)) this.serveLater(call);
    else this.parts.reads.add(call);
  }

  private propose(call: LinkCall, method: Method, body: Uint8Array): void {
    const { loop, proposals, config, clock } = this.parts;
    if (!loop.isLeader) return call.notTaken();
    const maxGap = (isUrgent(method) ? 2 : 1) * config.maxApplyGap;
    if (loop.applyGap > maxGap) return call.fail(etcdErrors.requestTooManyRequests);
    if (this.parts.maintenance.alarms.refuses(method, body, call)) return;
    proposals.add(method, body, call, clock.monotonicMs(), call.deadlineMs);
    loop.wake();
  }

  /** Of every request that a client of etcd could have made, for times and the log of slow ones. */
  answered(call: LinkCall, success: boolean): void {
    const { method, startedMs, servedMs } = call;
    // Of the others each takes as long as it takes: snapshots, history, and what gateways ask for themselves.
    if (!isClientMethod(method) || method === Method.snapshot) return;
    const { clock, loop, metrics, config } = this.parts;
    // The apply that answers has just read the clock.
    const nowMs = servedMs === 0 && loop.applyMs > startedMs ? loop.applyMs : clock.monotonicMs();
    const durationMs = nowMs - startedMs;
    if (servedMs === 0 || method !== Method.txn) metrics.requestSeconds.observe(method, success, durationMs);
    else metrics.requestSeconds.observeReadonlyTxn(success, durationMs);
    if (servedMs === 0) return;
    if (method === Method.range)
      (success ? this.goodRanges : this.failedRanges).observe((nowMs - servedMs) / 1_000);
    if (durationMs > config.slowRequestMs) this.logSlow(call, nowMs);
  }

  private logSlow(call: LinkCall, nowMs: number): void {
    const repeated = this.limit.pass('read', nowMs);
    if (repeated === undefined) return;
    this.parts.log.warn(
      'slow read: long to agree, look at the leader and the network; long to read, ask for less',
      {
        method: methodName(call.method),
        'duration-ms': nowMs - call.startedMs,
        'expected-duration-ms': this.parts.config.slowRequestMs,
        'agreement-ms': call.servedMs - call.startedMs,
        'read-ms': nowMs - call.servedMs,
        ...(call.trace === undefined ? {} : { trace_id: traceIdOf(call.trace) }),
        repeated,
      },
    );
  }

  /** Reads from the state as the last commit left it, and replies. */
  serve(call: LinkCall): void {
    if (call.span !== undefined) this.serveSampled(call, call.span);
    else this.serveNow(call);
  }

  private serveSampled(call: LinkCall, { context, startMs: takenMs }: Span): void {
    const { clock, tracer } = this.parts;
    const startMs = clock.monotonicMs();
    // The round that makes sure the state is recent enough, or the wait for the end of the turn.
    tracer?.record('read.wait', context, takenMs, startMs);
    this.serveNow(call);
    tracer?.record('store.read', context, startMs, clock.monotonicMs());
  }

  private serveNow(call: LinkCall): void {
    if (this.parts.machine.auth.enabled || call.standing === 'doubted') this.serveChecked(call);
    else this.answer(call);
  }

  /** Once more, by the state that it is answered from. */
  private serveChecked(call: LinkCall): void {
    const wasDoubted = call.standing === 'doubted';
    if (wasDoubted) call.standing = 'settled';
    try {
      if (!this.auth.admit(call)) return;
      if (wasDoubted) this.route(call);
      else this.answer(call);
    } catch (error) {
      if (!(error instanceof WireError)) throw error;
      call.fail(malformedRequest(error.message));
    }
  }

  /** A started member that clients cannot reach itself shows the gateways: what clients should dial. */
  private membersForClients(): readonly MemberInfo[] {
    const { members } = this.parts.machine.membership;
    if (members.every(({ clientUrls }) => clientUrls.length > 0)) return members;
    const clientUrls = this.parts.gatewayUrls();
    return members.map((member) =>
      member.clientUrls.length > 0 || member.name === '' ? member : { ...member, clientUrls },
    );
  }

  private answer(call: LinkCall): void {
    const { clock, machine } = this.parts;
    call.servedMs = clock.monotonicMs();
    switch (call.method) {
      case Method.range:
        return this.serveRange(call, call.view as RangeRequestView);
      case Method.txn:
        return this.serveTxn(call, call.view as TxnRequestView);
      case Method.memberList:
        return call.reply(writeMembersResponse(machine.memberHeader(), undefined, this.membersForClients()));
      case Method.status:
        return call.reply(writeStatusResponse(machine.header(), this.parts.status()));
      case Method.leaseLeases:
        return call.reply(writeLeaseLeasesResponse(machine.header(), this.parts.leases.ids()));
      case Method.watchHistory:
        return this.serveHistory(call);
      case Method.downgrade: {
        const problem = machine.downgrade.error(readDowngrade(call.body).version);
        if (problem !== undefined) return call.fail(problem);
        return call.reply(writeDowngradeResponse(machine.header()));
      }
      case Method.alarm:
        return call.reply(
          writeAlarmResponse(machine.header(), machine.alarms.list(readAlarm(call.body).type)),
        );
      case Method.defragment:
        return this.defragment(call);
      default:
        this.auth.serve(call);
    }
  }

  private defragment(call: LinkCall): void {
    const { clock, machine, metrics } = this.parts;
    const { defragRunning, defragSeconds } = metrics.disk;
    const startedMs = clock.monotonicMs();
    defragRunning.inc();
    machine.store.defragment((error) => {
      defragRunning.inc(-1);
      defragSeconds.observe((clock.monotonicMs() - startedMs) / 1_000);
      // etcd's answer has no header.
      if (error === null) call.reply(emptyBytes);
      else call.fail({ code: Code.unknown, message: error.message });
    });
  }

  /** One turn of local reads and long ranges. True when there is more at once. */
  pump(): boolean {
    const { clock, config } = this.parts;
    const endMs = clock.monotonicMs() + config.applySliceMs;
    this.pumpConfirming();
    const local = this.local;
    this.local = [];
    for (const call of local) call.serve();
    while (this.longRanges.length > 0 && clock.monotonicMs() < endMs) {
      const ranges = this.longRanges;
      this.longRanges = [];
      for (const range of ranges) {
        if (clock.monotonicMs() < endMs) this.stepRange(range);
        else this.longRanges.push(range);
      }
    }
    return this.longRanges.length > 0;
  }

  /** The store is about to be replaced: reads in progress cannot go on. */
  dropLongRanges(): void {
    for (const range of this.longRanges) range.drop();
    this.longRanges = [];
    for (const range of this.waitingRanges) range.drop();
    this.waitingRanges.clear();
  }

  private serveRange(call: LinkCall, request: RangeRequestView): void {
    const { store } = this.parts.machine;
    const problem = rangeError(request, store, false);
    if (problem !== undefined) return call.fail(problem);
    // Now: a long read goes on while the store does, and whoever watches from the next revision on must miss nothing.
    const header = this.parts.machine.header();
    if (request.rangeEnd.length === 0) return answerRange(call, header, store.range(request));
    const range = this.ranges.open(call, request, header);
    if (typeof range === 'string') return answerRange(call, header, range);
    this.stepRange(range);
  }

  private stepRange(range: LongRange): void {
    const outcome = range.step();
    if (outcome === RangeOutcome.more) this.longRanges.push(range);
    if (outcome !== RangeOutcome.waits) return;
    const { call } = range;
    this.waitingRanges.add(range);
    const resume = (): void => {
      if (!this.waitingRanges.delete(range)) return;
      this.longRanges.push(range);
      this.parts.loop.wake();
    };
    call.onCredit = resume;
    call.onCancel = resume;
  }

  private serveTxn(call: LinkCall, request: TxnRequestView): void {
    const { store } = this.parts.machine;
    const plan = planTxn(store, request);
    const problem = planError(store, plan, store, () => false);
    if (problem !== undefined) return call.fail(problem);
    const { succeeded, responses } = runReadOnly(store, plan);
    call.reply(writeTxnResponse(this.parts.machine.header(), succeeded, responses));
  }

  private serveHistory(call: LinkCall): void {
    const request = decodeWatchHistoryRequest(call.body);
    const { store } = this.parts.machine;
    const result = store.history({
      key: request.key,
      rangeEnd: request.rangeEnd,
      from: request.fromRevision,
      // What is not there yet cannot be read; the gateway goes on with its feed.
      to: Math.min(request.toRevision, store.revision),
      prevKv: request.prevKv,
      maxBytes: request.maxBytes === 0 ? historyBytes : Math.min(request.maxBytes, historyBytes),
    });
    call.reply(encodeWatchHistoryResponse(result));
  }
}

function isAuth(method: number): boolean {
  if (method === Method.identify || method === Method.authSync) return true;
  return method >= Method.authEnable && method <= Method.roleRevokePermission;
}

/**
 * Answered from what this member has, as with etcd; but a gateway's clients have not chosen this member, and what one of
 * them was told, such as that a user is gone, must hold for the next.
 */
function isConfirmed(method: number): boolean {
  switch (method) {
    case Method.hash:
    case Method.hashKV:
    case Method.snapshot:
    case Method.defragment:
      return true;
    default:
      return false;
  }
}

/** Checked where it is answered: which keys a lease has is certain only where its time is known. */
function leaderKnows(method: number): boolean {
  return method === Method.leaseKeepAlive || method === Method.leaseTimeToLive;
}
