/** A dumb cluster: one list of revisions, and members that have applied some of it and speak the real link. */
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { type Channel, compareBytes, emptyBytes, latin1 } from '@quoin/base';
import {
  decodeLinkUp,
  decodeWatchHistoryRequest,
  encodeEvent,
  encodeKeyValue,
  encodeLinkDown,
  encodeWatchHistoryResponse,
  etcdErrors,
  type FeedBatch,
  type FeedRevision,
  type LinkReply,
  type LinkRequest,
  type LinkUp,
  type MemberState,
  Method,
  type RpcStatus,
  writeRangeResponse,
} from '@quoin/contracts';
import {
  CompactionRequestSchema,
  CompactionResponseSchema,
  DeleteRangeRequestSchema,
  DeleteRangeResponseSchema,
  LeaseKeepAliveRequestSchema,
  LeaseKeepAliveResponseSchema,
  PutRequestSchema,
  PutResponseSchema,
  RangeRequestSchema,
  type RequestOp,
  SnapshotResponseSchema,
  StatusResponseSchema,
  TxnRequestSchema,
  TxnResponseSchema,
} from '@quoin/contracts/etcd';
import { TestChannel, type World } from './world.ts';

export const clusterId = 0xc1n;

export interface ModelEvent {
  readonly revision: number;
  readonly put: boolean;
  readonly key: Uint8Array;
  readonly kv: Uint8Array;
  readonly prevKv: Uint8Array | undefined;
}

interface Stored {
  readonly key: Uint8Array;
  readonly create: number;
  readonly mod: number;
  readonly version: number;
  readonly value: Uint8Array;
  readonly kv: Uint8Array;
}

/** What has happened, and nothing clever about it. */
export class Model {
  revision = 1;
  compactRevision = -1;
  /** Index = revision; each state is the whole map after it. */
  readonly events: ModelEvent[][] = [[], []];
  readonly states: Map<string, Stored>[] = [new Map(), new Map()];

  apply(changes: readonly { put: boolean; key: Uint8Array; value?: Uint8Array }[]): ModelEvent[] {
    const revision = this.revision + 1;
    const state = new Map(this.states[this.revision]!);
    const events: ModelEvent[] = [];
    for (const { put, key, value = emptyBytes } of changes) {
      const name = latin1(key);
      const old = state.get(name);
      if (!put && old === undefined) continue;
      if (put) {
        const createRevision = old?.create ?? revision;
        const version = (old?.version ?? 0) + 1;
        const kv = encodeKeyValue(key, createRevision, revision, version, value, 0n);
        state.set(name, { key, create: createRevision, mod: revision, version, value, kv });
        events.push({ revision, put, key, kv, prevKv: old?.kv });
      } else {
        state.delete(name);
        const kv = encodeKeyValue(key, 0, revision, 0, emptyBytes, 0n);
        events.push({ revision, put, key, kv, prevKv: old?.kv });
      }
    }
    if (events.length === 0) return events;
    this.revision = revision;
    this.events.push(events);
    this.states.push(state);
    return events;
  }

  list(revision: number, key: Uint8Array, end: Uint8Array): Stored[] {
    return [...this.states[revision]!.values()]
      .filter((stored) => inRange(stored.key, key, end))
      .sort((a, b) => compareBytes(a.key, b.key));
  }
}

export function inRange(key: Uint8Array, from: Uint8Array, end: Uint8Array): boolean {
  if (end.length === 0) return compareBytes(key, from) === 0;
  if (compareBytes(key, from) < 0) return false;
  return (end.length === 1 && end[0] === 0) || compareBytes(key, end) < 0;
}

export class FakeCluster {
  readonly model = new Model();
  readonly world: World;
  readonly members: FakeMember[] = [];
  leader: FakeMember | undefined;
  term = 2;

  constructor(world: World, size: number) {
    this.world = world;
    for (let i = 1; i <= size; i++) this.members.push(new FakeMember(this, BigInt(i), `http://m${i}:2380`));
    this.leader = this.members[0];
  }

  readonly dial = (url: string): Channel => {
    const [near, far] = TestChannel.pair(this.world);
    const member = this.members.find((each) => each.url === url);
    if (member?.up) member.accept(far);
    else far.close();
    return near;
  };

  /** All members that are up learn it by and by. */
  elect(leader: FakeMember | undefined): void {
    this.leader = leader;
    if (leader !== undefined) this.term++;
    for (const member of this.members) member.tell();
  }

  /** A change by "somebody": every member applies it after its lag. */
  change(changes: readonly { put: boolean; key: Uint8Array; value?: Uint8Array }[]): void {
    this.model.apply(changes);
    for (const member of this.members) member.applyLater();
  }
}

interface Feed {
  readonly id: number;
  next: number;
  readonly prevKv: boolean;
  credit: number;
  /** An empty batch has told where the feed stands. */
  told: number;
}

const feedWindowBytes = 4_096;

const noReply: LinkReply = {
  id: 0,
  code: 0,
  message: '',
  body: emptyBytes,
  more: false,
  notTaken: false,
  totalBytes: 0,
};

export class FakeMember {
  readonly cluster: FakeCluster;
  readonly id: bigint;
  /** Where it listens. */
  url: string;
  /** Where the membership says it listens; undefined: at `url`. */
  advertised: string | undefined;
  /** More addresses that the membership names. */
  alsoAt: readonly string[] = [];
  up = true;
  applied = 1;
  lagMs = 0.5;
  learner = false;
  zone = '';
  /** What it believes of the leader, when that is not the truth. */
  belief: { leader: bigint; term: number } | undefined;
  /** Requests as they came, newest last. */
  readonly seen: LinkRequest[] = [];
  readonly cancelled: number[] = [];
  readonly subscribed: { from: number; prevKv: boolean }[] = [];
  credited = 0;
  /** Answers the next requests instead of the usual way; return undefined to keep silent for good. */
  override: ((request: LinkRequest) => Partial<LinkReply> | 'usual' | undefined) | undefined;
  /** Of answers to a range: in parts of so many bytes; and after how many of them its links are cut. 0: whole, never. */
  partBytes = 0;
  partsMax = 0;
  /** Sends no feed and no states. */
  mute = false;
  private channels = new Map<TestChannel, Map<number, Feed>>();
  private stepping = false;

  constructor(cluster: FakeCluster, id: bigint, url: string) {
    this.cluster = cluster;
    this.id = id;
    this.url = url;
    this.heartbeat();
  }

  accept(channel: TestChannel): void {
    this.channels.set(channel, new Map());
    channel.onMessage = (message) => this.onMessage(channel, decodeLinkUp(message));
    channel.onClose = () => this.channels.delete(channel);
  }

  linked(): boolean {
    return this.channels.size > 0;
  }

  cut(): void {
    for (const channel of this.channels.keys()) channel.cut();
    this.channels.clear();
  }

  silence(): void {
    for (const channel of this.channels.keys()) {
      channel.silent = true;
      channel.peer.silent = true;
    }
  }

  down(): void {
    this.up = false;
    this.cut();
  }

  tell(): void {
    if (this.mute) return;
    for (const channel of this.channels.keys()) this.send(channel, { state: this.state() });
  }

  applyLater(): void {
    if (this.stepping) return;
    this.stepping = true;
    this.cluster.world.timers.after(this.lagMs, () => {
      this.stepping = false;
      this.applied = this.cluster.model.revision;
      this.pumpFeeds();
      this.tell();
    });
  }

  /** One more reply to a request that `override` has answered in part. */
  reply(id: number, reply: Partial<LinkReply>): void {
    for (const channel of this.channels.keys())
      this.send(channel, { replies: [{ ...noReply, id, ...reply }] });
  }

  count(method: Method): number {
    return this.seen.filter((request) => request.method === method).length;
  }

  private heartbeat(): void {
    this.cluster?.world.timers.after(500, () => {
      this.tell();
      this.heartbeat();
    });
  }

  private state(): MemberState {
    const { cluster } = this;
    return {
      leader: cluster.leader?.id ?? 0n,
      term: cluster.term,
      ...this.belief,
      revision: this.applied,
      compactRevision: cluster.model.compactRevision,
      appliedIndex: this.applied + 10,
      learner: this.learner,
      members: cluster.members.map((m) => ({
        id: m.id,
        name: `m${m.id}`,
        peerUrls: [m.advertised ?? m.url, ...m.alsoAt],
        clientUrls: [],
        learner: m.learner,
      })),
    };
  }

  private send(channel: TestChannel, down: Partial<Parameters<typeof encodeLinkDown>[0]>): void {
    const nothing = { welcome: undefined, replies: [], state: undefined, feeds: [], auth: emptyBytes };
    channel.send(encodeLinkDown({ ...nothing, ...down }));
  }

  private onMessage(channel: TestChannel, up: LinkUp): void {
    if (!this.up) return;
    if (up.hello !== undefined) {
      if (up.hello.clusterId !== 0n && up.hello.clusterId !== clusterId) return channel.close();
      this.send(channel, {
        welcome: { protocol: 1, clusterId, memberId: this.id, name: `m${this.id}`, zone: this.zone },
        state: this.state(),
      });
    }
    const feeds = this.channels.get(channel);
    if (feeds === undefined) return;
    for (const subscribe of up.subscribes) {
      if (subscribe.cancel) {
        feeds.delete(subscribe.feed);
        continue;
      }
      this.subscribed.push({ from: subscribe.fromRevision, prevKv: subscribe.prevKv });
      feeds.set(subscribe.feed, {
        id: subscribe.feed,
        next: subscribe.fromRevision === 0 ? this.applied + 1 : subscribe.fromRevision,
        prevKv: subscribe.prevKv,
        credit: feedWindowBytes,
        told: 0,
      });
    }
    for (const credit of up.credits) {
      this.credited += credit.bytes;
      if (credit.feed && feeds.has(credit.id)) feeds.get(credit.id)!.credit += credit.bytes;
    }
    this.cancelled.push(...up.cancels);
    for (const request of up.requests) {
      // Of a body that lives on in `seen`.
      this.seen.push({ ...request, body: request.body.slice() });
      this.answer(channel, request);
    }
    this.pumpFeeds();
  }

  private answer(channel: TestChannel, request: LinkRequest): void {
    const special = this.override === undefined ? 'usual' : this.override(request);
    if (special === undefined) return;
    const base: LinkReply = { ...noReply, id: request.id };
    if (special !== 'usual') return this.send(channel, { replies: [{ ...base, ...special }] });
    if (request.method === Method.snapshot) {
      const parts = [1, 2, 3].map((n) =>
        toBinary(SnapshotResponseSchema, create(SnapshotResponseSchema, { blob: new Uint8Array([n]) })),
      );
      for (const [i, body] of parts.entries())
        this.send(channel, { replies: [{ ...base, body, more: i < 2 }] });
      return;
    }
    const outcome = this.serve(request);
    const { partBytes } = this;
    if (outcome instanceof Uint8Array && partBytes > 0 && request.method === Method.range) {
      for (let at = 0, n = 1; at < outcome.length; at += partBytes, n++) {
        const body = outcome.subarray(at, at + partBytes);
        const more = at + partBytes < outcome.length;
        const totalBytes = at === 0 ? outcome.length : 0;
        this.send(channel, { replies: [{ ...base, body, more, totalBytes }] });
        if (n === this.partsMax) {
          // What was sent arrives first.
          this.cluster.world.timers.after(5, () => this.down());
          return;
        }
      }
      return;
    }
    if (outcome instanceof Uint8Array) this.send(channel, { replies: [{ ...base, body: outcome }] });
    else this.send(channel, { replies: [{ ...base, code: outcome.code, message: outcome.message }] });
  }

  private header(revision: number) {
    return { clusterId, memberId: this.id, revision: BigInt(revision), raftTerm: BigInt(this.cluster.term) };
  }

  private serve(request: LinkRequest): Uint8Array | RpcStatus {
    const { cluster } = this;
    const { model } = cluster;
    switch (request.method) {
      case Method.range:
        return this.range(request.body);
      case Method.watchHistory:
        return this.history(request.body);
      case Method.status:
        return toBinary(
          StatusResponseSchema,
          create(StatusResponseSchema, {
            header: this.header(this.applied),
            version: '3.7.1',
            storageVersion: '3.7.0',
          }),
        );
      case Method.leaseKeepAlive: {
        const { ID } = fromBinary(LeaseKeepAliveRequestSchema, request.body);
        const TTL = ID === 404n ? 0n : 30n;
        const message = create(LeaseKeepAliveResponseSchema, {
          header: this.header(model.revision),
          ID,
          TTL,
        });
        return toBinary(LeaseKeepAliveResponseSchema, message);
      }
      case Method.put: {
        const put = fromBinary(PutRequestSchema, request.body);
        this.write([{ put: true, key: put.key, value: put.value }]);
        return toBinary(
          PutResponseSchema,
          create(PutResponseSchema, { header: this.header(model.revision) }),
        );
      }
      case Method.deleteRange: {
        const { key, rangeEnd } = fromBinary(DeleteRangeRequestSchema, request.body);
        const keys = model.list(model.revision, key, rangeEnd).map((stored) => stored.key);
        this.write(keys.map((each) => ({ put: false, key: each })));
        return toBinary(
          DeleteRangeResponseSchema,
          create(DeleteRangeResponseSchema, {
            header: this.header(model.revision),
            deleted: BigInt(keys.length),
          }),
        );
      }
      case Method.txn:
        return this.txn(request.body);
      case Method.compact: {
        const { revision } = fromBinary(CompactionRequestSchema, request.body);
        if (Number(revision) <= model.compactRevision) return etcdErrors.compacted;
        model.compactRevision = Number(revision);
        return toBinary(
          CompactionResponseSchema,
          create(CompactionResponseSchema, { header: this.header(model.revision) }),
        );
      }
      default:
        return { code: 12, message: `not served: ${request.method}` };
    }
  }

  private write(changes: { put: boolean; key: Uint8Array; value?: Uint8Array }[]): void {
    this.cluster.change(changes);
    // The leader answers after it has applied.
    this.applied = this.cluster.model.revision;
  }

  /** Compares versions and creations, then puts, deletes of one key, and ranges of one key: what locks need. */
  private txn(body: Uint8Array): Uint8Array {
    const { model } = this.cluster;
    const txn = fromBinary(TxnRequestSchema, body);
    const state = model.states[model.revision]!;
    const succeeded = txn.compare.every((compare) => {
      const stored = state.get(latin1(compare.key));
      const union = compare.targetUnion;
      if (union.case === 'createRevision') return BigInt(stored?.create ?? 0) === union.value;
      if (union.case === 'version') return BigInt(stored?.version ?? 0) === union.value;
      throw new Error(`compare ${union.case}`);
    });
    const ops = succeeded ? txn.success : txn.failure;
    const changes = ops.flatMap((op: RequestOp) => {
      if (op.request.case === 'requestPut')
        return [{ put: true, key: op.request.value.key, value: op.request.value.value }];
      if (op.request.case === 'requestDeleteRange') return [{ put: false, key: op.request.value.key }];
      return [];
    });
    if (changes.length > 0) this.write(changes);
    const message = create(TxnResponseSchema, { header: this.header(model.revision), succeeded });
    const encoded = toBinary(TxnResponseSchema, message);
    const ranges = ops.map((op: RequestOp) => {
      if (op.request.case === 'requestRange') {
        const list = model.list(model.revision, op.request.value.key, op.request.value.rangeEnd);
        if (op.request.value.sortTarget === 2) list.sort((a, b) => a.create - b.create);
        const range = writeRangeResponse(
          undefined,
          list.map((s) => s.kv),
          false,
          list.length,
        );
        return { tag: 10, bytes: join(range) };
      }
      return { tag: op.request.case === 'requestPut' ? 18 : 26, bytes: emptyBytes };
    });
    return join([encoded, ...ranges.map(({ tag, bytes }) => nested(26, nested(tag, bytes)))]);
  }

  private range(body: Uint8Array): Uint8Array | RpcStatus {
    const { model } = this.cluster;
    const request = fromBinary(RangeRequestSchema, body);
    // Linearizable reads wait for what is committed: the dumb way is to have applied it.
    if (!request.serializable) this.applied = model.revision;
    const asked = Number(request.revision);
    if (asked > this.applied) return etcdErrors.futureRev;
    if (asked > 0 && asked < model.compactRevision) return etcdErrors.compacted;
    let list = model.list(asked > 0 ? asked : this.applied, request.key, request.rangeEnd);
    const count = list.length;
    if (request.sortTarget === 2)
      list.sort((a, b) => (request.sortOrder === 1 ? a.create - b.create : b.create - a.create));
    if (request.maxCreateRevision > 0n)
      list = list.filter((s) => s.create <= Number(request.maxCreateRevision));
    const limit = request.limit > 0n ? Number(request.limit) : list.length;
    const more = list.length > limit;
    const kvs = request.countOnly ? [] : list.slice(0, limit).map((stored) => stored.kv);
    const header = { clusterId, memberId: this.id, revision: this.applied, raftTerm: this.cluster.term };
    return join(writeRangeResponse(header, kvs, !request.countOnly && more, count));
  }

  private history(body: Uint8Array): Uint8Array {
    const { model } = this.cluster;
    const request = decodeWatchHistoryRequest(body);
    if (request.fromRevision < model.compactRevision) {
      return encodeWatchHistoryResponse({
        revisions: [],
        nextRevision: 0,
        compactRevision: model.compactRevision,
      });
    }
    const revisions: FeedRevision[] = [];
    let bytes = 0;
    let revision = request.fromRevision;
    const last = Math.min(request.toRevision, this.applied);
    for (; revision <= last && bytes < request.maxBytes; revision++) {
      const events = model.events[revision]!.filter((e) => inRange(e.key, request.key, request.rangeEnd));
      if (events.length === 0) continue;
      const encoded = events.map((e) => this.encode(e, request.prevKv));
      for (const each of encoded) bytes += each.length;
      revisions.push({ revision, events: encoded });
    }
    // A member that is behind does not know that more is to come: nobody may ask it.
    const nextRevision = revision > last ? Math.max(revision, request.toRevision + 1) : revision;
    return encodeWatchHistoryResponse({ revisions, nextRevision, compactRevision: 0 });
  }

  private encode(event: ModelEvent, prevKv: boolean): Uint8Array {
    const { compactRevision } = this.cluster.model;
    const prev = prevKv && event.revision - 1 >= compactRevision ? event.prevKv : undefined;
    return encodeEvent(event.put ? 0 : 1, event.kv, prev).slice();
  }

  private pumpFeeds(): void {
    if (this.mute || !this.up) return;
    const { model } = this.cluster;
    for (const [channel, feeds] of this.channels) {
      for (const feed of feeds.values()) {
        if (feed.next < model.compactRevision) {
          feeds.delete(feed.id);
          const over: FeedBatch = {
            feed: feed.id,
            revisions: [],
            revision: 0,
            compactRevision: model.compactRevision,
            sampled: [],
          };
          this.send(channel, { feeds: [over] });
          continue;
        }
        const revisions: FeedRevision[] = [];
        // A batch of a few revisions each, as far as the credit goes.
        while (feed.next <= this.applied && feed.credit > 0 && revisions.length < 4) {
          const events = model.events[feed.next]!.map((e) => this.encode(e, feed.prevKv));
          for (const each of events) feed.credit -= each.length;
          revisions.push({ revision: feed.next++, events });
        }
        if (revisions.length > 0) {
          const batch = {
            feed: feed.id,
            revisions,
            revision: feed.next - 1,
            compactRevision: 0,
            sampled: [],
          };
          this.send(channel, { feeds: [batch] });
          if (feed.next <= this.applied && feed.credit > 0)
            this.cluster.world.timers.after(0.2, () => this.pumpFeeds());
        }
      }
    }
  }
}

function join(pieces: readonly Uint8Array[]): Uint8Array {
  const out = new Uint8Array(pieces.reduce((sum, piece) => sum + piece.length, 0));
  let at = 0;
  for (const piece of pieces) {
    out.set(piece, at);
    at += piece.length;
  }
  return out;
}

function nested(tag: number, bytes: Uint8Array): Uint8Array {
  if (bytes.length >= 1 << 14) throw new Error('too long for this writer');
  const length = bytes.length < 0x80 ? [bytes.length] : [(bytes.length & 0x7f) | 0x80, bytes.length >> 7];
  return join([new Uint8Array([tag, ...length]), bytes]);
}
