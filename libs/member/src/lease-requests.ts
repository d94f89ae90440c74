/** Requests about leases that only the leader can answer, because only it knows when they run out. */
import type { Clock } from '@quoin/base';
import {
  encodeLeaseExpireRequest,
  etcdErrors,
  Method,
  readLeaseGrantRequest,
  readLeaseKeepAliveRequest,
  readLeaseTimeToLiveRequest,
  WireWriter,
  writeLeaseKeepAliveResponse,
  writeLeaseTimeToLiveResponse,
} from '@quoin/contracts';
import type { StateMachine } from './apply.ts';
import type { Call } from './call.ts';
import { encodeCheckpoints } from './cluster-messages.ts';
import type { IdGenerator, Lessor } from './lessor.ts';
import type { LinkCall } from './link-session.ts';
import type { MemberMetrics } from './member-metrics.ts';
import type { Proposals } from './proposals.ts';
import type { ReadyLoop } from './ready-loop.ts';

export interface LeaseRequestsParts {
  readonly clock: Clock;
  readonly lessor: Lessor;
  readonly ids: IdGenerator;
  readonly machine: StateMachine;
  readonly metrics: MemberMetrics;
  readonly proposals: Proposals;
  readonly loop: ReadyLoop;
  readonly requestTimeoutMs: number;
}

const writer = new WireWriter(1024);

/** Leases that get their time in one turn. */
const promoteSlice = 5_000;

export class LeaseRequests {
  private readonly parts: LeaseRequestsParts;
  /** True from the first entry of its own term that the leader applied: it knows every lease that was granted. */
  private primary: boolean;
  private promoting: boolean;
  private waiting: { readonly call: LinkCall; readonly mayPass: () => boolean }[];

  constructor(parts: LeaseRequestsParts) {
    this.parts = parts;
    this.primary = false;
    this.promoting = false;
    this.waiting = [];
  }

  ids(): bigint[] {
    return this.parts.lessor.ids();
  }

  /** Chooses what must be the same on all members: the id when there is none, and the least TTL. */
  grant(call: LinkCall, propose: (body: Uint8Array) => void): void {
    const { lessor, ids, loop } = this.parts;
    if (!loop.isLeader) return call.notTaken();
    const request = readLeaseGrantRequest(call.body);
    let { id } = request;
    while (id === 0n || (request.id === 0n && lessor.get(id) !== undefined)) id = ids.next();
    const ttl = Math.max(request.ttl, lessor.ttlMinSeconds);
    writer.begin(32);
    writer.int(8, ttl);
    writer.id(16, id);
    propose(writer.finish());
  }

  /** `mayPass` tells, when the time has come, whether the caller may; if not it has seen to the call. */
  take(call: LinkCall, mayPass: () => boolean): void {
    if (!this.parts.loop.isLeader) call.notTaken();
    else if (!this.primary) this.waiting.push({ call, mayPass });
    else if (mayPass()) this.answer(call);
  }

  /** Gives every lease its time, in slices; those who ask wait for the end of that. */
  promote(): void {
    this.promoting = true;
    this.parts.lessor.beginPromote(this.parts.clock.monotonicMs());
    this.parts.loop.wake();
  }

  /** Once a turn. True when there is more at once. */
  pump(): boolean {
    if (!this.promoting) return false;
    if (!this.parts.lessor.stepPromote(promoteSlice)) return true;
    this.promoting = false;
    this.primary = true;
    this.answerWaiting();
    return false;
  }

  private answerWaiting(): void {
    const waiting = this.waiting;
    this.waiting = [];
    for (const { call, mayPass } of waiting) if (mayPass()) this.answer(call);
  }

  demote(): void {
    this.primary = false;
    this.promoting = false;
    this.parts.lessor.demote();
    const waiting = this.waiting;
    this.waiting = [];
    for (const { call } of waiting) call.notTaken();
  }

  /** Proposes the end of leases that have run out, and gives up calls that waited too long. */
  tick(nowMs: number): void {
    const { lessor, proposals, requestTimeoutMs } = this.parts;
    if (this.waiting.length > 0) {
      const late = this.waiting.filter(({ call }) => call.deadlineMs <= nowMs);
      this.waiting = this.waiting.filter(({ call }) => call.deadlineMs > nowMs);
      for (const { call } of late) call.fail(etcdErrors.timeout);
    }
    if (!this.primary) return;
    const checkpoints = lessor.takeCheckpoints(nowMs);
    if (checkpoints.length > 0) {
      const body = encodeCheckpoints(checkpoints);
      proposals.add(Method.leaseCheckpoint, body, undefined, nowMs, nowMs + requestTimeoutMs);
    }
    const ids = lessor.takeDue(nowMs);
    if (ids.length === 0) return;
    const body = encodeLeaseExpireRequest({ ids });
    proposals.add(Method.leaseExpire, body, undefined, nowMs, nowMs + requestTimeoutMs);
  }

  private answer(call: LinkCall): void {
    if (call.method === Method.leaseKeepAlive) this.keepAlive(call);
    else this.timeToLive(call);
  }

  private keepAlive(call: LinkCall): void {
    const { lessor } = this.parts;
    const { id } = readLeaseKeepAliveRequest(call.body);
    if ((lessor.get(id)?.checkpointSeconds ?? 0) > 0) return this.forgetCheckpoint(call, id);
    this.renew(call, id);
  }

  /** What was written down as left must be gone before the renewal is promised: a new leader would go by it. */
  private forgetCheckpoint(call: LinkCall, id: bigint): void {
    const { proposals, loop, clock } = this.parts;
    const { deadlineMs, trace } = call;
    const checkpoint: Call = {
      deadlineMs,
      caller: 'member',
      trace,
      reply: () => this.renew(call, id),
      fail: (status) => call.fail(status),
      notTaken: () => call.notTaken(),
    };
    const body = encodeCheckpoints([{ id, remainingSeconds: 0 }]);
    proposals.add(Method.leaseCheckpoint, body, checkpoint, clock.monotonicMs(), deadlineMs);
    loop.wake();
  }

  private renew(call: LinkCall, id: bigint): void {
    const { clock, lessor, machine, metrics } = this.parts;
    if (!this.primary) return call.notTaken();
    // The header is of before the renewal, as etcd's is.
    const header = machine.header();
    const ttl = lessor.renew(id, clock.monotonicMs());
    if (ttl > 0) metrics.leaseRenewed.inc();
    call.reply(writeLeaseKeepAliveResponse(header, id, ttl));
  }

  private timeToLive(call: LinkCall): void {
    const { clock, lessor, machine } = this.parts;
    const { id, keys } = readLeaseTimeToLiveRequest(call.body);
    const left = lessor.remainingSeconds(id, clock.monotonicMs());
    if (left === undefined) {
      call.reply(writeLeaseTimeToLiveResponse(machine.header(), id, -1, 0, []));
      return;
    }
    const granted = lessor.get(id)?.ttlSeconds ?? 0;
    const attached = keys ? machine.store.leaseKeys(id) : [];
    call.reply(writeLeaseTimeToLiveResponse(machine.header(), id, left, granted, attached));
  }
}
