import { type Channel, IdMap, type Timer } from '@quoin/base';
import {
  type Credit,
  decodeLinkDown,
  encodeLinkUp,
  type FeedBatch,
  type FeedSubscribe,
  type LinkDown,
  type LinkReply,
  type LinkRequest,
  type LinkUp,
  type LinkWelcome,
  type MemberState,
} from '@quoin/contracts';
import { type Call, CallState } from './call.ts';
import type { CallTrace } from './call-trace.ts';
import type { GatewayConfig } from './config.ts';
import type { GatewayPorts } from './ports.ts';

export const linkProtocol = 1;

/** What a link tells its router. */
export interface LinkOwner {
  /** 0n while it is not known. */
  clusterId(): bigint;
  /** Undefined: welcome; else why the link must be closed. */
  onWelcome(link: MemberLink): string | undefined;
  /** `before`: what it told last on this stream. */
  onState(link: MemberLink, before: MemberState | undefined): void;
  onFeed(link: MemberLink, batch: FeedBatch): void;
  /** An encoded AuthView. @throws WireError */
  onAuth(view: Uint8Array): void;
  /** `release`: the reply is lent, and nothing but a part that goes on to the client. */
  onReply(call: Call, reply: LinkReply, release?: () => void): void;
  /** The calls have left. */
  onSent(call: Call): void;
  /** A message with so many calls has left. */
  onBatch(requests: number): void;
  /** Calls that were `queued` never left, those that were `sent` may have. */
  onClosed(queued: Call[], sent: Call[]): void;
}

/**
 * The stream to one member, dialled again whenever it ends.
 *
 *     idle ──dial──▶ greeting ──welcome──▶ open ──closed, silent, broken──▶ idle (after a pause)
 *
 * Requests are taken only while open, and leave together at the end of the turn.
 */
export class MemberLink {
  readonly url: string;
  open = false;
  /** Counts the streams that were opened: what belonged to an earlier one is gone. */
  stream = 0;
  memberId: bigint | undefined;
  clusterId = 0n;
  name = '';
  /** Where the member stands; empty: not said. */
  zone = '';
  /** More addresses of the same member, tried in turn. */
  otherUrls: readonly string[] = [];
  /** The member has left the cluster: when the link to it ends at the latest. */
  leavingAtMs: number | undefined;
  state: MemberState | undefined;
  /** What still waits for room in the channel is not sent, and its member is slow. */
  blocked = false;
  private readonly config: GatewayConfig;
  private readonly ports: GatewayPorts;
  private readonly owner: LinkOwner;
  private channel: Channel | undefined;
  private timer: Timer | undefined;
  private attempts = 0;
  private lastHeardMs = 0;
  private stopped = false;
  private nextId = 1;
  private queued: Call[] = [];
  /** Of the message that is being made. */
  private sampled: Uint8Array[] = [];
  private cancels: number[] = [];
  private credits: Credit[] = [];
  private subscribes: FeedSubscribe[] = [];
  private readonly sent = new IdMap<Call>();
  private flushing = false;

  constructor(url: string, config: GatewayConfig, ports: GatewayPorts, owner: LinkOwner) {
    this.url = url;
    this.config = config;
    this.ports = ports;
    this.owner = owner;
  }

  start(): void {
    this.dial();
  }

  /** For good. `onClosed` is told if it was open. */
  stop(): void {
    this.stopped = true;
    this.timer?.cancel();
    this.drop('stopped');
  }

  /** Ends the stream, which is dialled again after a pause. `onClosed` is told if it was open. */
  refuse(reason: string): void {
    this.drop(reason);
  }

  /** Monotonic ms of the last message of the member. */
  get heardMs(): number {
    return this.lastHeardMs;
  }

  /** The calls under way: queued or sent. */
  load(): number {
    return this.queued.length + this.sent.size;
  }

  /** Only while open. */
  request(call: Call): void {
    call.link = this;
    call.state = CallState.queued;
    this.queued.push(call);
    this.scheduleFlush();
  }

  /** Nobody waits for the call any more. */
  cancel(call: Call): void {
    // A queued one is passed over by the flush, because its state is no longer `queued`.
    if (call.id !== 0 && this.sent.delete(call.id)) {
      this.cancels.push(call.id);
      this.scheduleFlush();
    }
  }

  credit(id: number, feed: boolean, bytes: number): void {
    if (!this.open || bytes === 0) return;
    this.credits.push({ id, feed, bytes });
    this.scheduleFlush();
  }

  /** Only while open. Returns the feed's number on this stream. */
  subscribe(feed: number, fromRevision: number, prevKv: boolean): void {
    this.subscribes.push({ feed, fromRevision, prevKv, cancel: false });
    this.scheduleFlush();
  }

  unsubscribe(feed: number): void {
    if (!this.open) return;
    this.subscribes.push({ feed, fromRevision: 0, prevKv: false, cancel: true });
    this.scheduleFlush();
  }

  private dial(): void {
    if (this.stopped) return;
    const channel = this.ports.dial(this.nextUrl());
    this.channel = channel;
    this.lastHeardMs = this.ports.clock.monotonicMs();
    channel.onMessage = (message, release) => {
      if (this.channel === channel) this.onMessage(message, release);
    };
    channel.onPassed = (message) => {
      if (this.channel === channel) this.take(message as LinkDown);
    };
    channel.onDrain = () => {
      if (this.channel !== channel) return;
      this.blocked = false;
      this.scheduleFlush();
    };
    channel.onClose = (reason) => {
      if (this.channel === channel) this.drop(reason);
    };
    channel.send(
      encodeLinkUp({
        hello: {
          protocol: linkProtocol,
          gateway: this.config.name,
          clusterId: this.owner.clusterId(),
          clientUrls: this.config.clientUrls ?? [],
        },
        requests: [],
        subscribes: [],
        cancels: [],
        credits: [],
      }),
    );
    this.watchSilence(channel);
  }

  /** A member may be reached at several addresses: each failure moves on to the next. */
  private nextUrl(): string {
    const urls = [this.url, ...this.otherUrls.filter((url) => url !== this.url)];
    return urls[this.attempts % urls.length]!;
  }

  private watchSilence(channel: Channel): void {
    this.timer = this.ports.timers.after(this.config.linkSilenceMs / 4, () => {
      if (this.channel !== channel) return;
      const silentMs = this.ports.clock.monotonicMs() - this.lastHeardMs;
      if (silentMs >= this.config.linkSilenceMs) this.drop(`no message for ${Math.round(silentMs)} ms`);
      else this.watchSilence(channel);
    });
  }

  /** Ends the stream, gives the calls back, and dials again after a pause. */
  private drop(reason: string): void {
    const channel = this.channel;
    if (channel === undefined) return;
    this.channel = undefined;
    channel.close();
    this.timer?.cancel();
    const wasOpen = this.open;
    const queued = this.queued;
    const sent = this.sent.values();
    this.open = false;
    this.blocked = false;
    this.state = undefined;
    this.nextId = 1;
    this.queued = [];
    this.cancels = [];
    this.credits = [];
    this.subscribes = [];
    this.sent.clear();
    if (!this.stopped) this.redial(reason, wasOpen);
    if (wasOpen) this.owner.onClosed(queued, sent);
  }

  private redial(reason: string, wasOpen: boolean): void {
    const { linkRedialMs, linkRedialMaxMs } = this.config;
    const pauseMs = Math.min(linkRedialMaxMs, linkRedialMs * 2 ** Math.min(this.attempts, 16));
    const jitter = 0.5 + this.ports.random.u32() / 0x1_0000_0000;
    const delayMs = pauseMs * jitter;
    // A member that is down is told once; every further attempt only to those who look closely.
    const level = wasOpen || this.attempts === 0 ? 'warn' : 'debug';
    this.ports.log[level]('member link lost', { url: this.url, reason, redialMs: Math.round(delayMs) });
    this.attempts++;
    this.timer = this.ports.timers.after(delayMs, () => this.dial());
  }

  private onMessage(message: Uint8Array, release: (() => void) | undefined): void {
    let down: LinkDown;
    let lent = release;
    try {
      down = decodeLinkDown(message);
      if (release !== undefined && !this.passesOn(down)) {
        // What is kept of it must not change.
        down = decodeLinkDown(message.slice());
        lent = undefined;
        release();
      }
    } catch (error) {
      this.drop(`malformed message: ${error instanceof Error ? error.message : String(error)}`);
      return;
    }
    this.take(down, lent);
  }

  private take(down: LinkDown, lent?: () => void): void {
    this.lastHeardMs = this.ports.clock.monotonicMs();
    const channel = this.channel;
    if (down.welcome !== undefined) this.onWelcome(down.welcome);
    if (this.channel !== channel) return;
    if (!this.open) {
      this.drop('the first message was no welcome');
      return;
    }
    // First: what else is in the message may only be seen by those who may now.
    if (down.auth.length > 0 && !this.takeAuth(down.auth)) return;
    if (down.state !== undefined) {
      const before = this.state;
      this.state = down.state;
      this.owner.onState(this, before);
      // The owner may have had enough of this member: then the next pause is longer.
      if (this.channel !== channel) return;
      this.attempts = 0;
    }
    for (const batch of down.feeds) this.owner.onFeed(this, batch);
    for (const reply of down.replies) this.onReply(reply, lent);
  }

  /** Nothing but a part of an answer that goes on to its client. */
  private passesOn({ welcome, replies, state, feeds, auth }: LinkDown): boolean {
    if (welcome !== undefined || state !== undefined || feeds.length > 0 || auth.length > 0) return false;
    if (replies.length !== 1) return false;
    const { id, totalBytes } = replies[0]!;
    const call = this.sent.get(id);
    return call !== undefined && (call.rest !== undefined || (call.takesParts && totalBytes > 0));
  }

  private takeAuth(view: Uint8Array): boolean {
    try {
      this.owner.onAuth(view);
      return true;
    } catch (error) {
      this.drop(`malformed auth view: ${error instanceof Error ? error.message : String(error)}`);
      return false;
    }
  }

  private onWelcome(welcome: LinkWelcome): void {
    const expected = this.owner.clusterId();
    if (welcome.protocol !== linkProtocol) {
      this.drop(`member speaks link protocol ${welcome.protocol}, this gateway ${linkProtocol}`);
      return;
    }
    if (expected !== 0n && expected !== welcome.clusterId) {
      this.ports.log.error('member belongs to another cluster', {
        url: this.url,
        expected: expected.toString(16),
        found: welcome.clusterId.toString(16),
      });
      this.drop('cluster ID mismatch');
      return;
    }
    this.memberId = welcome.memberId;
    this.clusterId = welcome.clusterId;
    this.name = welcome.name;
    this.zone = welcome.zone;
    const refusal = this.owner.onWelcome(this);
    if (refusal !== undefined) {
      this.drop(refusal);
      return;
    }
    this.open = true;
    this.stream++;
    this.ports.log.info('member link open', {
      url: this.url,
      member: welcome.memberId.toString(16),
      name: welcome.name,
    });
  }

  private onReply(reply: LinkReply, lent: (() => void) | undefined): void {
    const call = this.sent.get(reply.id);
    // Cancelled or timed out in the meantime.
    if (call === undefined) return;
    if (!reply.more) this.sent.delete(reply.id);
    this.owner.onReply(call, reply, lent);
  }

  private scheduleFlush(): void {
    if (this.flushing) return;
    this.flushing = true;
    this.ports.timers.endOfTurn(() => {
      this.flushing = false;
      this.flush();
    });
  }

  /** All that the turn had for this member, as one message, or a few when it is much. */
  private flush(): void {
    const channel = this.channel;
    if (channel === undefined || !this.open) return;
    const nowMs = this.ports.clock.monotonicMs();
    const queue = this.queued;
    let at = 0;
    while (!this.blocked) {
      const requests: LinkRequest[] = [];
      let bytes = 0;
      for (; at < queue.length && bytes < this.config.linkMessageBytes; at++) {
        const call = queue[at]!;
        if (call.state !== CallState.queued) continue;
        requests.push(this.linkRequest(call, nowMs));
        bytes += call.body.length;
      }
      const { subscribes, cancels, credits } = this;
      if (requests.length + subscribes.length + cancels.length + credits.length === 0) break;
      this.subscribes = [];
      this.cancels = [];
      this.credits = [];
      if (requests.length > 0) this.owner.onBatch(requests.length);
      const up: LinkUp = { hello: undefined, requests, subscribes, cancels, credits };
      if (channel.pass !== undefined) this.blocked = !channel.pass(up, bytes);
      else {
        const message = encodeLinkUp(up);
        bytes = message.length;
        this.blocked = !channel.send(message);
      }
      if (this.sampled.length > 0) this.recordBatch(nowMs, requests.length, bytes);
    }
    this.queued = at === queue.length ? [] : queue.slice(at);
  }

  /** One span for the message, linked to each sampled request in it. */
  private recordBatch(startMs: number, requests: number, bytes: number): void {
    const sampled = this.sampled;
    this.sampled = [];
    this.ports.tracer?.batch('link.batch', startMs, this.ports.clock.monotonicMs(), sampled, {
      'quoin.requests': requests,
      'quoin.bytes': bytes,
      'quoin.sampled': sampled.length,
    });
  }

  private sampledTrace(trace: CallTrace): Uint8Array {
    const context = trace.sent();
    this.sampled.push(context);
    return context;
  }

  private linkRequest(call: Call, nowMs: number): LinkRequest {
    const id = this.nextId++;
    call.id = id;
    call.state = CallState.sent;
    this.sent.set(id, call);
    this.owner.onSent(call);
    const leftMs =
      call.deadlineMs === Number.POSITIVE_INFINITY ? 0 : Math.max(1, Math.ceil(call.deadlineMs - nowMs));
    return {
      id,
      method: call.method,
      body: call.body,
      timeoutMs: leftMs,
      trace: call.trace === undefined ? emptyTrace : this.sampledTrace(call.trace),
      token: call.token,
      certUser: call.certUser,
      own: call.own,
    };
  }
}

const emptyTrace = new Uint8Array(0);
