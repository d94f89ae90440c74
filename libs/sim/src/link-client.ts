/** A client that speaks the gateway link itself: what tests and workloads ask members through. */
import { type Channel, emptyBytes } from '@quoin/base';
import {
  decodeLinkDown,
  encodeLinkUp,
  type FeedBatch,
  type LinkReply,
  type LinkRequest,
  type MemberState,
  Method,
  readEvent,
} from '@quoin/contracts';
import { SimHost } from './clock.ts';
import { linkAddress, type SimCluster, type SimNode } from './cluster.ts';
import { readKv } from './etcd-messages.ts';

/** How a request came out. `notTaken`: it never happened. `lost`: nobody knows. */
export type Answer =
  | { readonly kind: 'ok'; readonly body: Uint8Array }
  | { readonly kind: 'error'; readonly code: number; readonly message: string }
  | { readonly kind: 'notTaken' }
  | { readonly kind: 'lost' };

interface Waiting {
  readonly cb: (answer: Answer) => void;
  readonly parts: Uint8Array[];
  readonly onPart: ((body: Uint8Array) => unknown) | undefined;
}

/** One link to one member; dialled again when it is lost. */
export class LinkClient {
  readonly node: SimNode;
  /** What the member said last; undefined while there is no link. */
  state: MemberState | undefined;
  memberId: bigint;
  onFeed: (batch: FeedBatch) => void;
  onOpen: () => void;
  private readonly cluster: SimCluster;
  private readonly host: SimHost;
  private readonly waiting = new Map<number, Waiting>();
  private channel: Channel | undefined;
  private nextId: number;

  constructor(cluster: SimCluster, host: SimHost, node: SimNode) {
    this.cluster = cluster;
    this.host = host;
    this.node = node;
    this.state = undefined;
    this.memberId = 0n;
    this.onFeed = () => {};
    this.onOpen = () => {};
    this.channel = undefined;
    this.nextId = 1;
    this.dial();
  }

  request(
    method: Method,
    body: Uint8Array,
    cb: (answer: Answer) => void,
    options: RequestOptions = {},
  ): number {
    const { channel } = this;
    const id = this.nextId++;
    if (channel === undefined || this.state === undefined) {
      this.host.enqueue(0, () => cb({ kind: 'notTaken' }));
      return id;
    }
    this.waiting.set(id, { cb, parts: [], onPart: options.onPart });
    const trace = options.trace ?? emptyBytes;
    const { timeoutMs = 0, token = '' } = options;
    const request: LinkRequest = { id, method, body, timeoutMs, trace, token, certUser: '', own: false };
    channel.send(
      encodeLinkUp({ hello: undefined, requests: [request], subscribes: [], cancels: [], credits: [] }),
    );
    return id;
  }

  subscribe(feed: number, fromRevision: number, prevKv = false): void {
    const subscribes = [{ feed, fromRevision, prevKv, cancel: false }];
    this.channel?.send(
      encodeLinkUp({ hello: undefined, requests: [], subscribes, cancels: [], credits: [] }),
    );
  }

  credit(id: number, feed: boolean, bytes: number): void {
    const credits = [{ id, feed, bytes }];
    this.channel?.send(
      encodeLinkUp({ hello: undefined, requests: [], subscribes: [], cancels: [], credits }),
    );
  }

  private dial(): void {
    const channel = this.cluster.network.dial(this.host, linkAddress(this.node.name));
    this.channel = channel;
    channel.onMessage = (bytes) => this.received(bytes);
    channel.onClose = () => {
      this.channel = undefined;
      this.state = undefined;
      const waiting = [...this.waiting.values()];
      this.waiting.clear();
      for (const { cb } of waiting) cb({ kind: 'lost' });
      this.host.enqueue(100, () => this.dial());
    };
    const hello = { protocol: 1, gateway: this.host.name, clusterId: 0n, clientUrls: [] };
    channel.send(encodeLinkUp({ hello, requests: [], subscribes: [], cancels: [], credits: [] }));
  }

  private received(bytes: Uint8Array): void {
    const down = decodeLinkDown(bytes);
    const opened = this.state === undefined && down.state !== undefined;
    if (down.welcome !== undefined) this.memberId = down.welcome.memberId;
    if (down.state !== undefined) this.state = down.state;
    if (opened) this.onOpen();
    for (const reply of down.replies) this.answered(reply);
    for (const batch of down.feeds) {
      this.onFeed(batch);
      let bytesTaken = 0;
      for (const { events } of batch.revisions) for (const event of events) bytesTaken += event.length;
      if (bytesTaken > 0 && batch.compactRevision === 0) this.credit(batch.feed, true, bytesTaken);
    }
  }

  private answered(reply: LinkReply): void {
    const waiting = this.waiting.get(reply.id);
    if (waiting === undefined) return;
    if (reply.more) {
      if (waiting.onPart === undefined) waiting.parts.push(reply.body);
      else if (waiting.onPart(reply.body) === false) return;
      this.credit(reply.id, false, reply.body.length);
      return;
    }
    this.waiting.delete(reply.id);
    if (reply.notTaken) waiting.cb({ kind: 'notTaken' });
    else if (reply.code !== 0) waiting.cb({ kind: 'error', code: reply.code, message: reply.message });
    else waiting.cb({ kind: 'ok', body: join([...waiting.parts, reply.body]) });
  }
}

export interface RequestOptions {
  readonly timeoutMs?: number;
  readonly token?: string;
  readonly trace?: Uint8Array;
  /** Takes the parts of a long answer as they come; `false`: gives no credit for it. The last one is the answer's body. */
  readonly onPart?: (body: Uint8Array) => unknown;
}

function join(parts: readonly Uint8Array[]): Uint8Array {
  if (parts.length === 1) return parts[0]!;
  const out = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}

const leaderOnly = new Set<number>([
  Method.put,
  Method.deleteRange,
  Method.compact,
  Method.txn,
  Method.leaseGrant,
  Method.leaseRevoke,
  Method.leaseKeepAlive,
  Method.leaseTimeToLive,
  Method.memberAdd,
  Method.memberRemove,
  Method.memberUpdate,
  Method.memberPromote,
  Method.moveLeader,
  Method.alarm,
  Method.downgrade,
]);

/** Routes as a gateway does, in little: mutations to the leader, again as long as nobody has taken them. */
export class SimClient {
  readonly host: SimHost;
  readonly links: readonly LinkClient[];
  private readonly cluster: SimCluster;

  constructor(cluster: SimCluster, name: string) {
    this.cluster = cluster;
    this.host = new SimHost(cluster.scheduler, name);
    this.links = cluster.nodes.map((node) => new LinkClient(cluster, this.host, node));
  }

  linkTo(node: SimNode): LinkClient {
    return this.links.find((link) => link.node === node)!;
  }

  /** `via` is asked first for what any member may answer. */
  request(
    method: Method,
    body: Uint8Array,
    cb: (answer: Answer) => void,
    via?: SimNode,
    limitMs = 10_000,
  ): void {
    const untilMs = this.cluster.scheduler.nowMs + limitMs;
    const attempt = (): void => {
      const link = this.pick(method, via);
      const again = (): void => {
        if (this.cluster.scheduler.nowMs >= untilMs) cb({ kind: 'notTaken' });
        else this.host.enqueue(50, attempt);
      };
      if (link === undefined) return again();
      link.request(method, body, (answer) => (answer.kind === 'notTaken' ? again() : cb(answer)));
    };
    attempt();
  }

  /** Runs the world until the answer is there. */
  call(method: Method, body: Uint8Array, via?: SimNode, limitMs = 30_000): Answer {
    let answer: Answer | undefined;
    this.request(method, body, (a) => (answer = a), via, limitMs);
    this.cluster.runUntil(() => answer !== undefined, limitMs + 20_000);
    if (answer === undefined) throw new Error('no answer at all');
    return answer;
  }

  /** The response; throws what came instead. */
  ok(method: Method, body: Uint8Array, via?: SimNode): Uint8Array {
    const answer = this.call(method, body, via);
    if (answer.kind !== 'ok') throw new Error(answer.kind === 'error' ? answer.message : answer.kind);
    return answer.body;
  }

  private pick(method: Method, via: SimNode | undefined): LinkClient | undefined {
    const open = this.links.filter((link) => link.state !== undefined);
    if (!leaderOnly.has(method) && via !== undefined) return open.find((link) => link.node === via);
    if (!leaderOnly.has(method)) return open[0];
    const newest = open.reduce<MemberState | undefined>(
      (best, { state }) =>
        state !== undefined && state.leader !== 0n && state.term > (best?.term ?? -1) ? state : best,
      undefined,
    );
    return newest === undefined ? undefined : open.find((link) => link.memberId === newest.leader);
  }
}

/** One event of a feed, in words. */
export interface FeedEvent {
  readonly revision: number;
  readonly type: 'put' | 'delete';
  readonly key: string;
  readonly value: string;
}

export function feedEvents(batch: FeedBatch): FeedEvent[] {
  return batch.revisions.flatMap(({ revision, events }) =>
    events.map((bytes): FeedEvent => {
      const { type, kv } = readEvent(bytes);
      const { key, value } = readKv(kv);
      return { revision, type: type === 0 ? 'put' : 'delete', key, value };
    }),
  );
}
