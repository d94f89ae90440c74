import { Deque, type Timer } from '@quoin/base';
import {
  Code,
  etcdErrors,
  type FeedBatch,
  isUrgent,
  type LinkReply,
  type MemberInfo,
  type MemberState,
  Method,
  type RpcStatus,
} from '@quoin/contracts';
import { PartedAnswer } from './answer-rest.ts';
import { Call, type CallOptions, CallState, type Target } from './call.ts';
import type { GatewayConfig } from './config.ts';
import { type LinkOwner, MemberLink } from './member-link.ts';
import { chooseHome, isHealthy, newestMembers, sameView } from './member-view.ts';
import type { LinkMetrics } from './metrics.ts';
import { headerRevision } from './peek.ts';
import type { GatewayPorts } from './ports.ts';

/** What the rest of the gateway is told of the members. */
export interface RouterListener {
  /** The leader, the home member or a link changed. */
  onView(): void;
  onFeed(link: MemberLink, batch: FeedBatch): void;
  /** An encoded AuthView. @throws WireError */
  onAuth(view: Uint8Array): void;
}

/** Two members gave different answers to the same question, or one less than it said. */
const answerDiffers: RpcStatus = {
  code: Code.internal,
  message: 'etcdserver: the rest of the answer was lost',
};

/** Deadlines nearer to each other than this are seen to together. */
const sweepMinMs = 5;

/**
 * Knows the members, and brings every request to the one it is for.
 *
 * The leader is what the member with the highest term says it is. The home member is kept as long as it is healthy:
 * reachable, and it knows a leader (or nobody does); `homeUrl` comes first. A request that cannot be sent waits, unsent,
 * until its member is there or its deadline passes.
 */
export class MemberRouter implements LinkOwner {
  /** The highest revision seen in any answer or state: no event above it has been acknowledged through this gateway. */
  revision = 0;
  /** The highest compact revision known. */
  compactRevision = 0;
  leader = 0n;
  term = 0;
  leaderLink: MemberLink | undefined;
  home: MemberLink | undefined;
  private readonly config: GatewayConfig;
  private readonly ports: GatewayPorts;
  private readonly metrics: LinkMetrics;
  private readonly listener: RouterListener;
  private readonly links = new Map<string, MemberLink>();
  /** What is dialled as long as no member tells of the others. */
  private startUrls: readonly string[];
  private cluster = 0n;
  private readonly waiting: Record<Target, Deque<Call>> = { leader: new Deque(), home: new Deque() };
  private readonly live: Call[] = [];
  private unsent = 0;
  private unsentBytes = 0;
  private sweepTimer: Timer | undefined;
  private sweepAtMs = Number.POSITIVE_INFINITY;
  /** The leader that would not take a request, and for which term: not asked until it changes or a pause is over. */
  private refusal: { readonly leader: bigint; readonly term: number } | undefined;
  private retryTimer: Timer | undefined;
  private leaveTimer: Timer | undefined;
  private stopped = false;

  constructor(config: GatewayConfig, ports: GatewayPorts, metrics: LinkMetrics, listener: RouterListener) {
    this.config = config;
    this.startUrls = config.memberUrls;
    this.ports = ports;
    this.metrics = metrics;
    this.listener = listener;
  }

  start(): void {
    this.dialStartList();
  }

  /** Other URLs to begin with: those that were found anew. Links of the old ones go once a member tells of the others. */
  setMemberUrls(urls: readonly string[]): void {
    this.startUrls = urls;
    if (newestMembers(this.links.values()) === undefined) {
      for (const link of this.allLinks()) {
        if (urls.includes(link.url) || link.url === this.config.homeUrl || link.open) continue;
        this.links.delete(link.url);
        link.stop();
      }
    }
    this.followMembership();
  }

  /** Ends every link. What is still under way fails with `status`. */
  stop(status: RpcStatus): void {
    this.stopped = true;
    this.sweepTimer?.cancel();
    this.retryTimer?.cancel();
    this.leaveTimer?.cancel();
    for (const call of [...this.live]) this.finish(call, status);
    for (const link of this.links.values()) link.stop();
  }

  clusterId(): bigint {
    return this.cluster;
  }

  allLinks(): MemberLink[] {
    return [...this.links.values()];
  }

  /** By how many entries the home member is behind the one that has applied most; 0 while there is none. */
  appliedLag(): number {
    if (this.home?.state === undefined) return 0;
    let most = 0;
    for (const link of this.links.values()) most = Math.max(most, link.state?.appliedIndex ?? 0);
    return most - this.home.state.appliedIndex;
  }

  /** Calls that have no answer yet. */
  underWay(): number {
    return this.live.length;
  }

  /** How much of the room for requests that wait is taken, 0 to 1. */
  get full(): number {
    const { maxWaitingRequests, maxWaitingBytes } = this.config;
    return Math.max(this.unsent / maxWaitingRequests, this.unsentBytes / maxWaitingBytes);
  }

  /** The answer comes through `options.done`, never before this has returned. */
  request(options: CallOptions): Call {
    const call = this.hold(options);
    if (call.state === CallState.waiting && call.slot >= 0) this.route(call);
    return call;
  }

  /** The same, but it stays here until `release` or `refuseHeld`; its deadline counts. */
  hold(options: CallOptions): Call {
    const call = new Call(options);
    if (this.stopped) return this.refuse(call, etcdErrors.stopped);
    const { maxWaitingRequests, maxWaitingBytes } = this.config;
    const room = isUrgent(call.method) ? 2 : 1;
    if (this.unsent >= room * maxWaitingRequests || this.unsentBytes >= room * maxWaitingBytes) {
      return this.refuse(call, etcdErrors.requestTooManyRequests);
    }
    call.slot = this.live.length;
    this.live.push(call);
    this.unsent++;
    this.unsentBytes += call.body.length;
    if (call.deadlineMs < this.sweepAtMs) this.scheduleSweep(call.deadlineMs);
    return call;
  }

  release(call: Call): void {
    if (call.state === CallState.waiting && call.slot >= 0) this.route(call);
  }

  refuseHeld(call: Call, status: RpcStatus): void {
    if (call.state === CallState.waiting && call.slot >= 0) this.finish(call, status);
  }

  /** Nobody wants the answer any more: `done` is not called. */
  cancel(call: Call): void {
    if (call.state === CallState.done) return;
    const link = call.link;
    call.trace?.end(etcdErrors.canceled);
    this.retire(call);
    link?.cancel(call);
  }

  /** Room for more parts of the answer. Only of use while the call is under way. */
  credit(call: Call, bytes: number): void {
    if (call.state === CallState.sent) call.link?.credit(call.id, false, bytes);
  }

  // Of links.

  onWelcome(link: MemberLink): string | undefined {
    for (const other of this.links.values()) {
      if (other === link || !other.open || other.memberId !== link.memberId) continue;
      this.ports.timers.endOfTurn(() => this.followMembership());
      return 'the member has another link already';
    }
    this.cluster = link.clusterId;
    return undefined;
  }

  onState(link: MemberLink, before: MemberState | undefined): void {
    const state = link.state!;
    if (state.revision > this.revision) this.revision = state.revision;
    if (state.compactRevision > this.compactRevision) this.compactRevision = state.compactRevision;
    // Most states only tell of progress.
    if (before !== undefined && sameView(before, state)) return;
    this.followMembership();
    this.refreshView();
  }

  onFeed(link: MemberLink, batch: FeedBatch): void {
    this.listener.onFeed(link, batch);
  }

  onAuth(view: Uint8Array): void {
    this.listener.onAuth(view);
  }

  onSent(call: Call): void {
    this.unsent--;
    this.unsentBytes -= call.body.length;
    this.metrics.sent.inc();
  }

  onBatch(requests: number): void {
    this.metrics.batch.observe(requests);
  }

  onReply(call: Call, reply: LinkReply, release?: () => void): void {
    const { rest } = call;
    if (
      reply.notTaken &&
      (rest?.resuming ?? !call.begun) &&
      reply.message !== etcdErrors.requestTooManyRequests.message
    ) {
      this.onNotTaken(call);
      return;
    }
    if (reply.code !== 0) {
      if (rest !== undefined && reply.message === etcdErrors.leaderChanged.message && this.resume(call, rest))
        return;
      this.finish(call, { code: reply.code, message: reply.message });
      return;
    }
    if (rest !== undefined) return this.onRest(call, rest, reply, release);
    if (call.takesParts && reply.more && reply.totalBytes > 0) return this.beginRest(call, reply, release);
    if (call.onPart !== undefined) {
      call.begun = true;
      if (reply.body.length > 0) call.onPart(reply.body);
      if (!reply.more) this.finish(call, null);
    } else if (reply.more) this.onPart(call, reply.body);
    else this.onAnswer(call, reply.body);
  }

  onClosed(queued: Call[], sent: Call[]): void {
    this.metrics.lost.inc();
    this.followMembership();
    this.refreshView();
    for (const call of queued) {
      if (call.state === CallState.queued) this.reroute(call);
    }
    for (const call of sent) {
      if (call.state !== CallState.sent) continue;
      if (call.rest !== undefined && this.resume(call, call.rest)) continue;
      if (!call.resend || call.begun) {
        this.finish(call, etcdErrors.timeoutDueToConnectionLost);
        continue;
      }
      this.countUnsent(call);
      call.trace?.returned('link lost', this.ports.clock.monotonicMs());
      this.reroute(call);
    }
  }

  private onNotTaken(call: Call): void {
    const by = call.link?.memberId;
    this.metrics.notTaken.inc();
    this.countUnsent(call);
    call.trace?.returned('not taken', this.ports.clock.monotonicMs());
    call.refusedBy = by;
    call.refusals++;
    if (call.target === 'leader' && by === this.leader)
      this.refusal = { leader: this.leader, term: this.term };
    // One other member is tried at once; after that only with pauses.
    if (call.refusals > 1) this.park(call);
    else this.reroute(call);
    this.scheduleRetry();
  }

  /** From here on the parts go to the client as they come. */
  private beginRest(call: Call, { body, totalBytes }: LinkReply, release: (() => void) | undefined): void {
    const revision = headerRevision(body);
    if (revision > this.revision) this.revision = revision;
    call.begun = true;
    call.deadlineMs = call.clientDeadlineMs;
    call.rest = new PartedAnswer(body, totalBytes, release, (bytes) => this.credit(call, bytes));
    call.done(null, [body], call.rest);
  }

  private onRest(call: Call, rest: PartedAnswer, reply: LinkReply, release: (() => void) | undefined): void {
    if (rest.resuming) call.deadlineMs = call.clientDeadlineMs;
    if (!rest.take(reply.body, reply.totalBytes, release) || (!reply.more && !rest.complete)) {
      const { link } = call;
      this.finish(call, answerDiffers);
      if (reply.more) link?.cancel(call);
    } else if (!reply.more) this.finish(call, null);
  }

  /** The rest of an answer that has begun, from another member. False: it cannot be had. */
  private resume(call: Call, rest: PartedAnswer): boolean {
    const body = rest.resume(call.body);
    if (body === undefined) return false;
    call.body = body;
    call.deadlineMs = Math.min(
      call.clientDeadlineMs,
      this.ports.clock.monotonicMs() + this.config.requestTimeoutMs,
    );
    if (call.deadlineMs < this.sweepAtMs) this.scheduleSweep(call.deadlineMs);
    this.countUnsent(call);
    call.trace?.returned('to go on elsewhere', this.ports.clock.monotonicMs());
    this.reroute(call);
    return true;
  }

  /** The first part is here: what is left takes as long as it takes. */
  private onPart(call: Call, body: Uint8Array): void {
    if (call.parts === undefined) {
      call.parts = [];
      call.deadlineMs = call.clientDeadlineMs;
    }
    call.parts.push(body);
    this.credit(call, body.length);
  }

  private onAnswer(call: Call, body: Uint8Array): void {
    const parts = call.parts;
    if (call.method <= Method.leaseLeases) {
      const revision = headerRevision(parts?.[0] ?? body);
      if (revision > this.revision) this.revision = revision;
    }
    if (parts === undefined) this.finish(call, null, [body]);
    else {
      parts.push(body);
      this.finish(call, null, parts);
    }
  }

  // Of calls.

  private refuse(call: Call, status: RpcStatus): Call {
    this.ports.timers.endOfTurn(() => {
      if (call.state === CallState.done) return;
      call.state = CallState.done;
      call.trace?.end(status);
      call.done(status, []);
    });
    return call;
  }

  private route(call: Call): void {
    if (call.pin !== undefined) {
      if (call.pin.open && call.refusals === 0) call.pin.request(call);
      else this.ports.timers.endOfTurn(() => this.failPinned(call));
      return;
    }
    const link = call.target === 'leader' ? this.leaderFor() : this.homeFor(call);
    if (link !== undefined) {
      link.request(call);
      return;
    }
    this.park(call);
  }

  private failPinned(call: Call): void {
    if (call.state !== CallState.done) this.finish(call, etcdErrors.timeoutDueToConnectionLost);
  }

  private park(call: Call): void {
    call.id = 0;
    call.parts = undefined;
    call.state = CallState.waiting;
    call.link = undefined;
    this.waiting[call.target].push(call);
  }

  private reroute(call: Call): void {
    call.id = 0;
    call.parts = undefined;
    this.route(call);
  }

  private leaderFor(): MemberLink | undefined {
    return this.refusal === undefined ? this.leaderLink : undefined;
  }

  /** The home member, or another one when it has refused this very call. */
  private homeFor(call: Call): MemberLink | undefined {
    const home = this.home;
    if (home === undefined || call.refusedBy === undefined || call.refusedBy !== home.memberId) return home;
    for (const link of this.links.values()) {
      if (link !== home && isHealthy(link)) return link;
    }
    return undefined;
  }

  private countUnsent(call: Call): void {
    this.unsent++;
    this.unsentBytes += call.body.length;
  }

  private finish(call: Call, status: RpcStatus | null, pieces: readonly Uint8Array[] = []): void {
    this.retire(call);
    if (call.trace !== undefined) call.trace.end(status);
    if (call.rest === undefined) call.done(status, pieces);
    else call.rest.end(status);
  }

  /** Takes the call out of the live ones. */
  private retire(call: Call): void {
    if (call.state === CallState.waiting || call.state === CallState.queued) {
      this.unsent--;
      this.unsentBytes -= call.body.length;
    }
    call.state = CallState.done;
    const last = this.live.pop()!;
    if (last !== call) {
      this.live[call.slot] = last;
      last.slot = call.slot;
    }
  }

  private drain(target: Target): void {
    const queue = this.waiting[target];
    // As many as there are now: what must wait on is pushed again behind them.
    for (let n = queue.length; n > 0; n--) {
      const call = queue.shift()!;
      if (call.state === CallState.waiting) this.route(call);
    }
  }

  private scheduleRetry(): void {
    if (this.retryTimer !== undefined) return;
    this.retryTimer = this.ports.timers.after(this.config.refusedRetryMs, () => {
      this.retryTimer = undefined;
      this.refusal = undefined;
      for (const call of this.live) {
        if (call.state !== CallState.waiting) continue;
        call.refusedBy = undefined;
        call.refusals = 0;
      }
      this.drain('leader');
      this.drain('home');
    });
  }

  private scheduleSweep(atMs: number): void {
    if (this.stopped) return;
    this.sweepTimer?.cancel();
    this.sweepAtMs = atMs;
    const delayMs = Math.max(sweepMinMs, atMs - this.ports.clock.monotonicMs());
    this.sweepTimer = this.ports.timers.after(delayMs, () => this.sweep());
  }

  /** Fails the calls whose deadline has passed. */
  private sweep(): void {
    const nowMs = this.ports.clock.monotonicMs();
    let nextMs = Number.POSITIVE_INFINITY;
    const late: Call[] = [];
    for (const call of this.live) {
      if (call.deadlineMs <= nowMs) late.push(call);
      else if (call.deadlineMs < nextMs) nextMs = call.deadlineMs;
    }
    this.sweepAtMs = Number.POSITIVE_INFINITY;
    this.sweepTimer = undefined;
    if (nextMs !== Number.POSITIVE_INFINITY) this.scheduleSweep(nextMs);
    for (const call of late) {
      if (call.state === CallState.done) continue;
      // An answer that has begun to arrive is being sent, slowly.
      const link = call.link;
      this.finish(call, etcdErrors.timeout);
      link?.cancel(call);
    }
  }

  // Of the view.

  private refreshView(): void {
    let leader = 0n;
    let term = 0;
    for (const link of this.links.values()) {
      const state = link.state;
      if (!link.open || state === undefined) continue;
      if (state.leader !== 0n && (leader === 0n || state.term > term)) {
        leader = state.leader;
        term = state.term;
      }
    }
    const leaderLink = leader === 0n ? undefined : this.linkOf(leader);
    const home = chooseHome({
      links: [...this.links.values()],
      current: this.home,
      preferred: this.links.get(this.config.homeUrl ?? ''),
      zone: this.config.zone ?? '',
      random: this.ports.random,
    });
    const changed =
      leader !== this.leader || term !== this.term || leaderLink !== this.leaderLink || home !== this.home;
    this.leader = leader;
    this.term = term;
    this.leaderLink = leaderLink;
    this.home = home;
    if (this.refusal !== undefined && (this.refusal.leader !== leader || this.refusal.term !== term)) {
      this.refusal = undefined;
    }
    if (!changed) return;
    if (this.leaderFor() !== undefined) this.drain('leader');
    if (home !== undefined) this.drain('home');
    this.listener.onView();
  }

  private linkOf(member: bigint): MemberLink | undefined {
    for (const link of this.links.values()) if (link.open && link.memberId === member) return link;
    return undefined;
  }

  // Of membership.

  private addLink(url: string, otherUrls: readonly string[] = []): void {
    if (this.links.has(url) || this.stopped) return;
    const link = new MemberLink(url, this.config, this.ports, this);
    link.otherUrls = otherUrls;
    this.links.set(url, link);
    link.start();
  }

  private dialStartList(): void {
    const { homeUrl } = this.config;
    if (homeUrl !== undefined) this.addLink(homeUrl);
    for (const url of this.startUrls) this.addLink(url);
  }

  /**
   * Links go by the membership of the open link that has applied most: members that are new or have moved are dialled,
   * those that have left are let go. With no link open the start list is all there is to go by.
   */
  private followMembership(): void {
    if (this.stopped) return;
    const members = newestMembers(this.links.values());
    if (members === undefined) {
      this.dialStartList();
      return;
    }
    for (const link of this.allLinks()) {
      if (this.links.get(link.url) !== link || !this.isStray(link, members)) continue;
      // Somebody else is to be at this address: asked again later, in case it is only a matter of time.
      if (link.open && members.some((member) => member.peerUrls.includes(link.url))) {
        link.refuse('the member was removed from the cluster');
        continue;
      }
      if (this.mayAnswer(link)) continue;
      this.links.delete(link.url);
      link.stop();
    }
    for (const { id, peerUrls } of members) {
      const known = this.linkOf(id) ?? this.links.get(peerUrls.find((url) => this.links.has(url)) ?? '');
      if (known !== undefined) known.otherUrls = peerUrls.includes(known.url) ? peerUrls : [];
      else if (peerUrls[0] !== undefined) this.addLink(peerUrls[0], peerUrls);
    }
  }

  /** The leader that was told to remove itself has the answer still to send: others know of it no later than it does. */
  private mayAnswer(link: MemberLink): boolean {
    if (!link.open || link.load() === 0) return false;
    const nowMs = this.ports.clock.monotonicMs();
    link.leavingAtMs ??= nowMs + this.config.leaveLingerMs;
    if (link.leavingAtMs <= nowMs) return false;
    this.leaveTimer ??= this.ports.timers.after(this.config.refusedRetryMs, () => {
      this.leaveTimer = undefined;
      this.followMembership();
    });
    return true;
  }

  private isStray(link: MemberLink, members: readonly MemberInfo[]): boolean {
    const { url, memberId } = link;
    if (url === this.config.homeUrl) return false;
    const isMember = memberId !== undefined && members.some((member) => member.id === memberId);
    // An open link without a state has just been opened.
    if (link.open) return link.state !== undefined && !isMember;
    const owner = members.find((member) => member.peerUrls.includes(url));
    if (owner !== undefined) return this.linkOf(owner.id) !== undefined;
    // A name of the start list that the membership does not know may be the only way to reach its member.
    if (!this.startUrls.includes(url)) return true;
    return memberId !== undefined && (!isMember || this.linkOf(memberId) !== undefined);
  }
}
