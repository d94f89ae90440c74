/**
 * The member's side of one gateway link: requests in, answers, state and events out, all that a turn has in one
 * message. Nothing is sent in between: `flush` ends the turn.
 *
 *   hello ──► welcome + state ──► requests, feeds … ──► close (wrong cluster, malformed message, or either side stops)
 *
 * What is long (a large answer, a backup, a feed) goes out in parts as far as the gateway's credit allows, so that a
 * slow gateway costs bounded memory here.
 */
import { type Channel, emptyBytes, IdMap, type Log, type Span, traceContextBytes } from '@quoin/base';
import {
  Code,
  type Credit,
  decodeLinkUp,
  encodeLinkDown,
  type FeedBatch,
  type FeedSubscribe,
  frameReplyPart,
  type LinkDown,
  type LinkHello,
  type LinkReply,
  type LinkRequest,
  type LinkUp,
  type MemberState,
  type RpcStatus,
  type SampledRevision,
} from '@quoin/contracts';
import type { Caller } from '@quoin/contracts/auth';
import type { EventFeed, FeedSink, WatchHub } from '@quoin/mvcc';
import type { ReadCall } from './call.ts';
import type { ProposalTraces } from './proposal-traces.ts';

export const linkProtocol = 1;

/** What a session needs of its member. */
export interface LinkHost {
  readonly clusterId: bigint;
  readonly memberId: bigint;
  readonly name: string;
  readonly zone: string;
  readonly windowBytes: number;
  readonly requestTimeoutMs: number;
  readonly log: Log;
  /** Absent: tracing is off. */
  readonly traces: ProposalTraces | undefined;
  nowMs(): number;
  state(): MemberState;
  /** The encoded AuthView; another array when it has changed. */
  authView(): Uint8Array;
  hub(): WatchHub;
  /** Takes a request on; sees to it that the call is answered once. */
  request(call: LinkCall): void;
  /** Reads and replies. */
  serve(call: LinkCall): void;
  /** Something is to be sent or done at the end of this turn. */
  wake(): void;
  closed(session: LinkSession): void;
  /** A call has its answer. */
  answered(call: LinkCall, success: boolean): void;
}

/** Larger answers are cut. */
const partBytes = 512 << 10;

/** One request of a gateway. */
export class LinkCall implements ReadCall {
  readonly session: LinkSession;
  readonly id: number;
  readonly method: number;
  readonly body: Uint8Array;
  readonly token: string;
  readonly certUser: string;
  readonly own: boolean;
  readonly startedMs: number;
  readonly deadlineMs: number;
  /** First the gateway's, then that of `span`. */
  trace: Uint8Array | undefined;
  caller: Caller | undefined;
  /** `doubted`: what this member knew spoke against it, and it waits for state that is recent enough to say so. */
  standing: 'fresh' | 'doubted' | 'settled';
  /** The decoded request, where taking it on needed to look inside. */
  view: unknown;
  /** The span of this member's part, when sampled. */
  span: Span | undefined;
  /** Bytes of parts that may still be sent. */
  creditBytes: number;
  /** Monotonic ms at which its answer was begun to be read; 0: it is not a read, or waits. */
  servedMs: number;
  /** Called when there is credit again. */
  onCredit: (() => void) | undefined;
  /** Called when the gateway has given up on the call. */
  onCancel: (() => void) | undefined;
  private answered: boolean;

  constructor(
    session: LinkSession,
    request: LinkRequest,
    startedMs: number,
    deadlineMs: number,
    windowBytes: number,
  ) {
    this.session = session;
    this.id = request.id;
    this.method = request.method;
    this.body = request.body;
    this.token = request.token;
    this.certUser = request.certUser;
    this.own = request.own;
    this.startedMs = startedMs;
    this.deadlineMs = deadlineMs;
    this.trace = request.trace.length === traceContextBytes ? request.trace : undefined;
    this.caller = undefined;
    this.standing = 'fresh';
    this.view = undefined;
    this.span = undefined;
    this.creditBytes = windowBytes;
    this.servedMs = 0;
    this.onCredit = undefined;
    this.onCancel = undefined;
    this.answered = false;
  }

  get done(): boolean {
    return this.answered;
  }

  serve(): void {
    if (!this.answered) this.session.host.serve(this);
  }

  reply(body: Uint8Array): void {
    if (this.answered) return;
    if (body.length <= partBytes) {
      this.part(body, false);
      return;
    }
    let whole: Uint8Array | undefined = body;
    this.replyPieces(() => {
      const piece = whole;
      whole = undefined;
      return piece;
    });
  }

  /** A response in pieces that follow each other, each asked for when there is credit to send it. */
  replyPieces(next: () => Uint8Array | undefined): void {
    let rest = next();
    const sendParts = (): void => {
      while (rest !== undefined && !this.answered && this.creditBytes > 0) {
        const part = rest.subarray(0, partBytes);
        rest = part.length < rest.length ? rest.subarray(partBytes) : next();
        this.part(part, rest !== undefined);
      }
    };
    this.onCredit = sendParts;
    sendParts();
  }

  /** The next part of the answer; `more` false ends it. */
  part(body: Uint8Array, more: boolean): void {
    if (this.answered) return;
    this.creditBytes -= body.length;
    const reply: LinkReply = {
      id: this.id,
      code: Code.ok,
      message: '',
      body,
      more,
      notTaken: false,
      totalBytes: 0,
    };
    if (more) this.session.push(reply);
    else this.finish(reply);
  }

  /**
   * The same of an answer that is made part by part, with room before the body (see `frameReplyPart`), which is then the
   * call's until `onSent`, if that is called. `totalBytes` with the first part.
   */
  framedPart(body: Uint8Array<ArrayBuffer>, more: boolean, totalBytes: number, onSent: () => void): void {
    if (this.answered) return;
    this.creditBytes -= body.length;
    this.session.pushFramed(frameReplyPart(body, this.id, more, totalBytes), onSent);
    if (!more) this.end(true);
  }

  fail(status: RpcStatus): void {
    this.span?.fail(status.message);
    this.span = undefined;
    this.finish({
      id: this.id,
      code: status.code,
      message: status.message,
      body: emptyBytes,
      more: false,
      notTaken: false,
      totalBytes: 0,
    });
  }

  notTaken(): void {
    const message = 'etcdserver: not leader';
    this.finish({
      id: this.id,
      code: Code.unavailable,
      message,
      body: emptyBytes,
      more: false,
      notTaken: true,
      totalBytes: 0,
    });
  }

  /** Nobody waits any more: a read is dropped, a proposal still happens. */
  cancel(): void {
    if (this.answered) return;
    this.answered = true;
    this.span?.fail('canceled');
    this.span = undefined;
    this.onCancel?.();
  }

  private finish(reply: LinkReply): void {
    if (this.answered) return;
    this.end(reply.notTaken ? undefined : reply.code === Code.ok);
    this.session.push(reply);
  }

  /** `success` undefined: it was not this member that answered. */
  private end(success: boolean | undefined): void {
    this.answered = true;
    if (success !== undefined) this.session.host.answered(this, success);
    this.session.forget(this.id);
    if (this.span !== undefined) this.session.ends(this.span);
    this.span = undefined;
  }
}

interface SubscribedFeed {
  readonly id: number;
  readonly prevKv: boolean;
  feed: EventFeed;
  readonly sink: FeedSink;
}

export class LinkSession {
  readonly host: LinkHost;
  /** Where clients reach the gateway. */
  clientUrls: readonly string[];
  private readonly channel: Channel;
  private readonly calls = new IdMap<LinkCall>();
  private readonly feeds = new Map<number, SubscribedFeed>();
  private replies: LinkReply[];
  private batches: FeedBatch[];
  /** Of calls whose answers leave at the end of this turn. */
  private spans: Span[];
  private framed: { readonly message: Uint8Array; readonly onSent: () => void }[];
  private greeted: boolean;
  private welcomeDue: boolean;
  private stateDue: boolean;
  private open: boolean;
  /** The AuthView that the gateway has. */
  private authSent: Uint8Array | undefined;

  constructor(host: LinkHost, channel: Channel) {
    this.host = host;
    this.clientUrls = [];
    this.channel = channel;
    this.replies = [];
    this.batches = [];
    this.spans = [];
    this.framed = [];
    this.greeted = false;
    this.welcomeDue = false;
    this.stateDue = false;
    this.open = true;
    this.authSent = undefined;
    channel.onMessage = (bytes) => this.received(bytes);
    channel.onPassed = (message) => {
      if (this.open) this.takeAll(message as LinkUp);
    };
    channel.onDrain = () => host.wake();
    channel.onClose = () => this.end();
  }

  get feedCount(): number {
    return this.feeds.size;
  }

  push(reply: LinkReply): void {
    if (!this.open) return;
    this.replies.push(reply);
    this.host.wake();
  }

  /** A message of its own, sent behind what else the turn has. */
  pushFramed(message: Uint8Array, onSent: () => void): void {
    if (!this.open) return;
    this.framed.push({ message, onSent });
    this.host.wake();
  }

  forget(id: number): void {
    this.calls.delete(id);
  }

  /** The span ends when its answer has been sent. */
  ends(span: Span): void {
    if (this.open) this.spans.push(span);
    else span.fail('the link was lost');
  }

  /** Tell the gateway at the end of the turn what this member knows of the cluster. */
  stateChanged(): void {
    this.stateDue = this.greeted;
  }

  /** Ends the turn: everything in one message, and parts of large answers in their own. */
  flush(): void {
    if (!this.open || !this.greeted) return;
    this.flushTurn();
    if (this.framed.length === 0) return;
    const { framed } = this;
    this.framed = [];
    for (const { message, onSent } of framed) this.channel.send(message, onSent);
    this.endSpans(this.host.nowMs());
  }

  /** Within a turn: answers alone, which nothing that the turn may still have for the gateway has to go with. */
  flushAnswers(): void {
    const { replies, batches, spans, stateDue, welcomeDue } = this;
    if (!this.open || !this.greeted || replies.length === 0) return;
    // Spans of what is sampled end when all has been done.
    if (batches.length === 0 && spans.length === 0 && !stateDue && !welcomeDue) this.flushTurn();
  }

  private flushTurn(): void {
    const auth = this.host.authView();
    const quiet = this.replies.length === 0 && this.batches.length === 0 && auth === this.authSent;
    if (quiet && !this.stateDue && !this.welcomeDue) return;
    const { clusterId, memberId, name, zone } = this.host;
    const down = {
      welcome: this.welcomeDue ? { protocol: linkProtocol, clusterId, memberId, name, zone } : undefined,
      replies: this.replies,
      state: this.stateDue || this.welcomeDue ? this.host.state() : undefined,
      feeds: this.batches,
      auth: auth === this.authSent ? emptyBytes : auth,
    };
    this.authSent = auth;
    this.replies = [];
    this.batches = [];
    this.welcomeDue = false;
    this.stateDue = false;
    if (this.spans.length > 0) this.sendSampled(down);
    else this.send(down);
  }

  /** Answers are passed on as they are to a gateway in this process. What feeds refer to belongs to the store. */
  private send(down: LinkDown): void {
    const { channel } = this;
    if (channel.pass === undefined || down.feeds.length > 0) {
      channel.send(encodeLinkDown(down));
      return;
    }
    let bytes = 0;
    for (let i = 0; i < down.replies.length; i++) bytes += down.replies[i]!.body.length;
    channel.pass(down, bytes);
  }

  /** The answers do not wait for their spans, which end when they leave. */
  private sendSampled(down: LinkDown): void {
    const endMs = this.host.nowMs();
    this.send(down);
    this.endSpans(endMs);
  }

  private endSpans(endMs: number): void {
    for (const span of this.spans) span.end(undefined, endMs);
    if (this.spans.length > 0) this.spans = [];
  }

  /** The store was replaced by a snapshot: feeds go on from where they are. */
  resubscribe(): void {
    for (const subscribed of this.feeds.values()) {
      const { nextRevision, creditBytes } = subscribed.feed;
      subscribed.feed.close();
      subscribed.feed = this.subscribeAt(nextRevision, subscribed, Math.max(creditBytes, 1));
    }
  }

  close(): void {
    if (!this.open) return;
    this.flush();
    this.channel.close();
    this.end();
  }

  private received(bytes: Uint8Array): void {
    if (!this.open) return;
    let up: LinkUp;
    try {
      up = decodeLinkUp(bytes);
    } catch (error) {
      this.refuse(`malformed message: ${(error as Error).message}`);
      return;
    }
    this.takeAll(up);
  }

  private takeAll(up: LinkUp): void {
    if (up.hello !== undefined) this.greet(up.hello);
    if (!this.open) return;
    if (!this.greeted) {
      this.refuse('no hello');
      return;
    }
    for (const request of up.requests) this.take(request);
    for (const subscribe of up.subscribes) this.subscribe(subscribe);
    for (const id of up.cancels) {
      this.calls.get(id)?.cancel();
      this.calls.delete(id);
    }
    for (const credit of up.credits) this.credit(credit);
    this.host.wake();
  }

  private greet(hello: LinkHello): void {
    const { clusterId } = this.host;
    if (hello.protocol !== linkProtocol) {
      this.refuse(`link protocol ${hello.protocol}, this member speaks ${linkProtocol}`);
    } else if (hello.clusterId !== 0n && hello.clusterId !== clusterId) {
      this.refuse('the gateway belongs to another cluster');
    } else {
      this.greeted = true;
      this.clientUrls = hello.clientUrls;
      this.welcomeDue = true;
    }
  }

  private take(request: LinkRequest): void {
    const { host } = this;
    const nowMs = host.nowMs();
    const timeoutMs = request.timeoutMs === 0 ? host.requestTimeoutMs : request.timeoutMs;
    const call = new LinkCall(this, request, nowMs, nowMs + timeoutMs, host.windowBytes);
    this.calls.set(request.id, call);
    host.request(call);
  }

  private subscribe(request: FeedSubscribe): void {
    this.feeds.get(request.feed)?.feed.close();
    this.feeds.delete(request.feed);
    if (request.cancel) return;
    const { feed: id, prevKv } = request;
    const { host } = this;
    const sink: FeedSink = {
      events: (revisions, revision) => {
        const sampled = host.traces?.hasRevisions === true ? sampledOf(host.traces, revisions) : notSampled;
        this.batches.push({ feed: id, revisions, revision, compactRevision: 0, sampled });
        this.host.wake();
      },
      compacted: (compactRevision) => {
        this.batches.push({ feed: id, revisions: [], revision: 0, compactRevision, sampled: notSampled });
        this.feeds.delete(id);
        this.host.wake();
      },
    };
    const feed = this.subscribeAt(request.fromRevision, { prevKv, sink }, this.host.windowBytes);
    this.feeds.set(id, { id, prevKv, feed, sink });
  }

  private subscribeAt(
    fromRevision: number,
    to: Pick<SubscribedFeed, 'prevKv' | 'sink'>,
    creditBytes: number,
  ): EventFeed {
    return this.host.hub().subscribe({ fromRevision, prevKv: to.prevKv, creditBytes }, to.sink);
  }

  private credit(credit: Credit): void {
    if (credit.feed) {
      this.feeds.get(credit.id)?.feed.credit(credit.bytes);
      return;
    }
    const call = this.calls.get(credit.id);
    if (call === undefined) return;
    call.creditBytes += credit.bytes;
    call.onCredit?.();
  }

  private refuse(reason: string): void {
    this.host.log.warn('closed a gateway link', { reason });
    this.channel.close();
    this.end();
  }

  private end(): void {
    if (!this.open) return;
    this.open = false;
    for (const span of this.spans) span.fail('the link was lost');
    this.spans = [];
    for (const { feed } of this.feeds.values()) feed.close();
    this.feeds.clear();
    for (const call of this.calls.values()) call.cancel();
    this.calls.clear();
    this.host.closed(this);
  }
}

const notSampled: readonly SampledRevision[] = Object.freeze([]);

function sampledOf(traces: ProposalTraces, revisions: readonly { revision: number }[]): SampledRevision[] {
  const found: SampledRevision[] = [];
  for (const { revision } of revisions) {
    const trace = traces.traceOf(revision);
    if (trace !== undefined) found.push({ revision, trace });
  }
  return found;
}

/** Where clients reach the gateways that have a link here now, each once, in order. */
export function gatewayUrls(sessions: Iterable<LinkSession>): string[] {
  return [...new Set([...sessions].flatMap(({ clientUrls }) => clientUrls))].sort();
}
