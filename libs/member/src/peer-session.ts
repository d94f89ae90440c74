/**
 * Streams between members. Each member dials every other and sends on the stream it opened; the acceptor only
 * answers on it (its hello, how far it is with a snapshot, and raft messages as long as it does not know the other's address). Losing messages is allowed here, raft sends again:
 * a full queue drops, a lost stream is dialled again with growing pauses.
 *
 *   idle ──dial──► greeting (hello sent, messages follow at once) ──peer's hello──► open
 *    ▲                    │ closed, or wrong cluster                                  │ closed
 *    └────── back-off ◄───┴───────────────────────────────────────────────────────────┘
 */
import {
  type Channel,
  type Clock,
  hexId,
  type LabelledHistogram,
  type Log,
  type Random,
  RateLimit,
  type Series,
  type Timer,
  type Timers,
} from '@quoin/base';
import type { MemberInfo, SnapshotChunk } from '@quoin/contracts';
import { type Message, MessageType } from '@quoin/raft';
import type { MemberMetrics } from './member-metrics.ts';
import {
  decodePeerBatch,
  encodePeerBatch,
  type PeerBatch,
  type PeerHello,
  peerBatch,
  type SnapshotAck,
} from './peer-codec.ts';

export const peerProtocol = 1;

export interface PeerAddress {
  readonly id: bigint;
  readonly peerUrls: readonly string[];
}

export interface PeersOptions {
  readonly clusterId: bigint;
  readonly memberId: bigint;
  readonly dial: (peerUrl: string) => Channel;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly random: Random;
  readonly log: Log;
  readonly metrics: MemberMetrics;
  readonly maxQueueBytes: number;
  /** True when a member of that id was removed from the cluster. */
  readonly isRemoved: (id: bigint) => boolean;
  /** True when a member of that id has made itself known through the log. */
  readonly isStarted: (id: bigint) => boolean;
  /** Another member says that this one was removed from the cluster. */
  readonly onRemoved: () => void;
  /** The cluster as it is now, for those who are about to join. */
  readonly members: () => readonly MemberInfo[];
  /** The index that they are of. */
  readonly appliedIndex: () => number;
  readonly onMessages: (messages: readonly Message[]) => void;
  readonly onChunk: (from: bigint, chunk: SnapshotChunk, reply: (ack: SnapshotAck) => void) => void;
  readonly onAck: (from: bigint, ack: SnapshotAck) => void;
  readonly onUnreachable: (id: bigint) => void;
}

const backoffMinMs = 50;
const backoffMaxMs = 1_000;
const helloTimeoutMs = 5_000;
/** Wall clocks of two members that are further apart are told of, at each connection. */
const clockDriftMaxMs = 1_000;
const roundTripMaxMs = 30_000;

export class Peers {
  private readonly options: PeersOptions;
  private readonly outgoing = new Map<bigint, OutgoingPeer>();
  private readonly incoming = new Map<bigint, IncomingPeer>();
  private readonly unnamed = new Set<IncomingPeer>();
  /** Members whose promises were heard: for the time before the log says that they have started. */
  private readonly bound = new Set<bigint>();
  private readonly roundTrips: RoundTrips;
  private stopped: boolean;

  constructor(options: PeersOptions) {
    this.roundTrips = new RoundTrips(options.clock, options.metrics.network.roundTripSeconds);
    const isStarted = (id: bigint): boolean => this.bound.has(id) || options.isStarted(id);
    const onMessages = (messages: readonly Message[]): void => {
      this.heard(messages);
      options.onMessages(messages);
    };
    this.options = { ...options, isStarted, onMessages };
    this.stopped = false;
  }

  /** The other members as they are now: new ones are dialled, gone ones are let go. */
  update(addresses: readonly PeerAddress[]): void {
    if (this.stopped) return;
    const wanted = new Map(addresses.filter((a) => a.id !== this.options.memberId).map((a) => [a.id, a]));
    for (const [id, peer] of this.outgoing) {
      const address = wanted.get(id);
      if (address !== undefined && address.peerUrls.join() === peer.urls.join()) continue;
      peer.stop();
      this.outgoing.delete(id);
    }
    for (const peer of this.incoming.values()) if (this.options.isRemoved(peer.from)) peer.dismiss();
    this.options.metrics.network.members([...wanted.keys()].map(hexId));
    for (const [id, address] of wanted) {
      if (!this.outgoing.has(id)) this.outgoing.set(id, new OutgoingPeer(this.options, address));
    }
  }

  /** Queues for the end of the turn. */
  send(message: Message): void {
    // Who was added while this member was away is not known to it yet, and may by now be the leader: it is answered on
    // its own stream, or this member would never hear of it.
    const peer = this.outgoing.get(message.to) ?? this.incoming.get(message.to);
    if (peer === undefined) return;
    peer.messages.push(message);
    if (message.type === MessageType.heartbeat) this.roundTrips.sent(message.to);
  }

  /** False when the stream is not open or its queue is long: try again later. */
  sendChunk(to: bigint, chunk: SnapshotChunk): boolean {
    const peer = this.outgoing.get(to);
    if (peer === undefined || !peer.isOpen || peer.isFull) return false;
    peer.chunks.push(chunk);
    return true;
  }

  /** Monotonic ms since when the stream to that member is open; undefined when it is not. */
  openSinceMs(id: bigint): number | undefined {
    return this.outgoing.get(id)?.openSinceMs;
  }

  /** Ends the turn: one batch to each peer. */
  flush(): void {
    for (const peer of this.outgoing.values()) peer.flush();
    for (const peer of this.incoming.values()) peer.flush();
  }

  /** A stream that another member opened. */
  accept(channel: Channel): void {
    if (this.stopped) {
      channel.close();
      return;
    }
    this.unnamed.add(
      new IncomingPeer(this.options, channel, {
        named: (peer) => {
          this.unnamed.delete(peer);
          this.incoming.get(peer.from)?.close();
          this.incoming.set(peer.from, peer);
        },
        gone: (peer) => {
          this.unnamed.delete(peer);
          if (this.incoming.get(peer.from) === peer) this.incoming.delete(peer.from);
        },
      }),
    );
  }

  /** All messages of a batch are from one member. */
  private heard(messages: readonly Message[]): void {
    const first = messages[0];
    if (first === undefined) return;
    if (!this.bound.has(first.from) && messages.some(isPromise)) this.bound.add(first.from);
    for (const { type, from } of messages)
      if (type === MessageType.heartbeatResponse) this.roundTrips.answered(from);
  }

  stop(): void {
    this.stopped = true;
    for (const peer of this.outgoing.values()) peer.stop();
    for (const peer of [...this.incoming.values(), ...this.unnamed]) peer.close();
    this.outgoing.clear();
    this.incoming.clear();
    this.unnamed.clear();
  }
}

/** Of heartbeats: the first that has no answer yet is timed. One without an answer in time is given up. */
class RoundTrips {
  private readonly clock: Clock;
  private readonly seconds: LabelledHistogram;
  private readonly sentMs = new Map<bigint, number>();

  constructor(clock: Clock, seconds: LabelledHistogram) {
    this.clock = clock;
    this.seconds = seconds;
  }

  sent(to: bigint): void {
    const nowMs = this.clock.monotonicMs();
    const before = this.sentMs.get(to);
    if (before === undefined || nowMs - before > roundTripMaxMs) this.sentMs.set(to, nowMs);
  }

  answered(from: bigint): void {
    const sentMs = this.sentMs.get(from);
    if (sentMs === undefined) return;
    this.sentMs.delete(from);
    this.seconds.at([hexId(from)]).observe((this.clock.monotonicMs() - sentMs) / 1_000);
  }
}

class OutgoingPeer {
  readonly urls: readonly string[];
  messages: Message[];
  chunks: SnapshotChunk[];
  openSinceMs: number | undefined;
  private readonly id: bigint;
  private readonly label: string;
  private readonly sentBytes: Series;
  private readonly options: PeersOptions;
  private readonly limit = new RateLimit(10_000);
  private channel: Channel | undefined;
  private greetedAtMs = 0;
  private timer: Timer | undefined;
  private urlAt: number;
  private backoffMs: number;

  constructor(options: PeersOptions, address: PeerAddress) {
    this.options = options;
    this.id = address.id;
    this.label = hexId(address.id);
    this.sentBytes = options.metrics.network.sentBytes.at([this.label]);
    this.urls = address.peerUrls;
    this.messages = [];
    this.chunks = [];
    this.openSinceMs = undefined;
    this.channel = undefined;
    this.timer = undefined;
    this.urlAt = 0;
    this.backoffMs = backoffMinMs;
    this.dial();
  }

  get isOpen(): boolean {
    return this.openSinceMs !== undefined;
  }

  get isFull(): boolean {
    return this.channel !== undefined && this.channel.queuedBytes() > this.options.maxQueueBytes;
  }

  flush(): void {
    const { messages, chunks, channel } = this;
    if (messages.length === 0 && chunks.length === 0) return;
    this.messages = [];
    this.chunks = [];
    if (channel === undefined || this.isFull) {
      this.options.metrics.network.sentFailures.inc([this.label], messages.length);
      this.options.onUnreachable(this.id);
      return;
    }
    this.transmit(channel, peerBatch({ messages, chunks }));
  }

  stop(): void {
    this.timer?.cancel();
    this.timer = undefined;
    this.channel?.close();
    this.disconnected();
  }

  private dial(): void {
    const url = this.urls[this.urlAt % this.urls.length];
    this.urlAt++;
    if (url === undefined) return;
    const channel = this.options.dial(url);
    this.channel = channel;
    channel.onMessage = (bytes) => this.received(channel, bytes);
    channel.onDrain = () => {};
    channel.onClose = (reason) => this.closed(channel, reason);
    const { clusterId, memberId, clock } = this.options;
    const wallMs = Math.floor(clock.wallMs());
    const hello: PeerHello = { protocol: peerProtocol, clusterId, from: memberId, to: this.id, wallMs };
    this.greetedAtMs = clock.monotonicMs();
    this.transmit(channel, peerBatch({ hello }));
    this.timer = this.options.timers.after(helloTimeoutMs, () => this.closed(channel, 'no hello in time'));
  }

  private transmit(channel: Channel, batch: PeerBatch): void {
    const bytes = encodePeerBatch(batch);
    this.sentBytes.inc(bytes.length);
    channel.send(bytes);
  }

  private received(channel: Channel, bytes: Uint8Array): void {
    if (channel !== this.channel) return;
    let batch: PeerBatch;
    try {
      batch = decodePeerBatch(bytes);
    } catch (error) {
      this.closed(channel, `malformed message: ${(error as Error).message}`);
      return;
    }
    const { members } = batch;
    if (members.length > 0 && members.every((member) => member.id !== this.options.memberId)) {
      this.closed(channel, 'this member was removed from the cluster');
      this.options.onRemoved();
      return;
    }
    if (batch.hello !== undefined) {
      const problem = helloProblem(batch.hello, this.options, this.id);
      if (problem !== undefined) this.closed(channel, problem);
      else this.opened(batch.hello.wallMs);
    }
    if (batch.ack !== undefined) this.options.onAck(this.id, batch.ack);
    if (batch.messages.length > 0) {
      const { memberId, onMessages } = this.options;
      onMessages(batch.messages.filter((m) => m.from === this.id && m.to === memberId));
    }
  }

  /** Leases and certificates go by wall clocks; etcd's words for it. */
  private compareClocks(wallMs: number): void {
    const { clock, log } = this.options;
    if (wallMs === 0) return;
    const rttMs = clock.monotonicMs() - this.greetedAtMs;
    const driftMs = wallMs - clock.wallMs();
    if (Math.abs(driftMs) <= clockDriftMaxMs + rttMs) return;
    log.warn('prober found high clock drift', {
      'remote-peer-id': this.label,
      'clock-drift': `${Math.round(driftMs)}ms`,
      rtt: `${Math.round(rttMs)}ms`,
    });
  }

  private opened(wallMs: number): void {
    this.compareClocks(wallMs);
    this.timer?.cancel();
    this.timer = undefined;
    this.backoffMs = backoffMinMs;
    this.openSinceMs = this.options.clock.monotonicMs();
    this.options.metrics.network.connected(this.label, true);
    this.options.log.info('peer stream is open', { peer: this.label });
  }

  private closed(channel: Channel, reason: string): void {
    if (channel !== this.channel) return;
    channel.close();
    const { log, clock, random, timers } = this.options;
    const nowMs = clock.monotonicMs();
    const held = this.limit.pass(this.isOpen ? 'lost' : 'failed', nowMs);
    // The first failure after a loss says the same again.
    if (this.isOpen) this.limit.pass('failed', nowMs);
    if (held !== undefined) {
      log.warn(this.isOpen ? 'lost the stream to a peer' : 'could not reach a peer', {
        peer: this.label,
        urls: this.urls,
        reason,
        repeated: held,
      });
    }
    this.disconnected();
    this.timer?.cancel();
    const jitter = (random.u32() / 0x1_0000_0000) * this.backoffMs;
    this.timer = timers.after(this.backoffMs / 2 + jitter, () => this.dial());
    this.backoffMs = Math.min(this.backoffMs * 2, backoffMaxMs);
    this.options.onUnreachable(this.id);
  }

  private disconnected(): void {
    if (this.isOpen) this.options.metrics.network.connected(this.label, false);
    this.channel = undefined;
    this.openSinceMs = undefined;
    this.messages = [];
    this.chunks = [];
  }
}

interface IncomingEvents {
  named(peer: IncomingPeer): void;
  gone(peer: IncomingPeer): void;
}

class IncomingPeer {
  /** 0n until the hello has come. */
  from: bigint;
  /** Answers to a member that cannot be dialled, because its address is not known here yet. */
  messages: Message[];
  private readonly options: PeersOptions;
  private readonly channel: Channel;
  private readonly events: IncomingEvents;
  private label: string;
  private receivedBytes: Series | undefined;
  private closed: boolean;

  constructor(options: PeersOptions, channel: Channel, events: IncomingEvents) {
    this.from = 0n;
    this.messages = [];
    this.options = options;
    this.channel = channel;
    this.events = events;
    this.label = '';
    this.receivedBytes = undefined;
    this.closed = false;
    channel.onMessage = (bytes) => this.received(bytes);
    channel.onDrain = () => {};
    channel.onClose = () => {
      this.closed = true;
      events.gone(this);
    };
  }

  flush(): void {
    const { messages, channel, options } = this;
    if (messages.length === 0) return;
    this.messages = [];
    if (!this.closed && channel.queuedBytes() <= options.maxQueueBytes) {
      channel.send(encodePeerBatch(peerBatch({ messages })));
    }
  }

  close(): void {
    if (this.closed) return;
    this.closed = true;
    this.channel.close();
    this.events.gone(this);
  }

  private received(bytes: Uint8Array): void {
    if (this.closed) return;
    let batch: PeerBatch;
    try {
      batch = decodePeerBatch(bytes);
    } catch (error) {
      this.refuse(`malformed message: ${(error as Error).message}`);
      return;
    }
    if (batch.hello !== undefined && batch.hello.clusterId === 0n) {
      this.introduce(batch.hello.from);
      return;
    }
    if (this.from === 0n && !this.greeted(batch.hello)) return;
    this.receivedBytes?.inc(bytes.length);
    const { memberId, onMessages, onChunk } = this.options;
    if (batch.messages.length > 0) {
      onMessages(batch.messages.filter((m) => m.from === this.from && m.to === memberId));
    }
    for (const chunk of batch.chunks) onChunk(this.from, chunk, (ack) => this.acknowledge(ack));
  }

  /** Its removal may be the one thing that it never hears of through the log: it is told who belongs to the cluster. */
  dismiss(): void {
    this.introduce(this.from);
    this.close();
  }

  /** Somebody starts with an empty directory: does not know the cluster yet, or asks whether it is new to it. */
  private introduce(asker: bigint): void {
    const { clusterId, memberId, members, appliedIndex, isStarted } = this.options;
    const wallMs = Math.floor(this.options.clock.wallMs());
    const hello: PeerHello = { protocol: peerProtocol, clusterId, from: memberId, to: asker, wallMs };
    const tookPart = asker !== 0n && isStarted(asker);
    this.channel.send(
      encodePeerBatch(peerBatch({ hello, members: members(), tookPart, appliedIndex: appliedIndex() })),
    );
  }

  private greeted(hello: PeerHello | undefined): boolean {
    const problem = hello === undefined ? 'no hello' : helloProblem(hello, this.options, hello.from);
    if (hello === undefined || problem !== undefined) {
      if (hello?.clusterId === this.options.clusterId && this.options.isRemoved(hello.from))
        this.introduce(hello.from);
      this.refuse(problem ?? 'no hello');
      return false;
    }
    this.from = hello.from;
    this.label = hexId(hello.from);
    this.receivedBytes = this.options.metrics.network.receivedBytes.at([this.label]);
    const { clusterId, memberId } = this.options;
    const wallMs = Math.floor(this.options.clock.wallMs());
    const answer: PeerHello = { protocol: peerProtocol, clusterId, from: memberId, to: hello.from, wallMs };
    this.channel.send(encodePeerBatch(peerBatch({ hello: answer })));
    this.events.named(this);
    return true;
  }

  private acknowledge(ack: SnapshotAck): void {
    if (!this.closed) this.channel.send(encodePeerBatch(peerBatch({ ack })));
  }

  private refuse(reason: string): void {
    this.options.metrics.network.receivedFailures.inc([this.label]);
    this.options.log.warn('refused a peer stream', { peer: this.label, reason });
    this.close();
  }
}

/**
 * What says that its sender has written a vote, a term of its own or entries: it may not forget them. Requests and
 * answers of a pre-vote, rejections, and heartbeats' answers are sent by one who has promised nothing, too.
 */
function isPromise({ type, reject }: Message): boolean {
  switch (type) {
    case MessageType.append:
    case MessageType.vote:
    case MessageType.heartbeat:
    case MessageType.snapshot:
    case MessageType.timeoutNow:
      return true;
    case MessageType.appendResponse:
    case MessageType.voteResponse:
      return !reject;
    default:
      return false;
  }
}

function helloProblem(hello: PeerHello, options: PeersOptions, from: bigint): string | undefined {
  if (hello.protocol !== peerProtocol)
    return `peer protocol ${hello.protocol}, this member speaks ${peerProtocol}`;
  if (hello.clusterId !== options.clusterId) {
    return `cluster ID mismatch: peer is of ${hexId(hello.clusterId)}, this member of ${hexId(options.clusterId)}`;
  }
  if (hello.to !== options.memberId) return `peer looks for member ${hexId(hello.to)}`;
  if (hello.from !== from) return `peer is ${hexId(hello.from)} instead of ${hexId(from)}`;
  if (options.isRemoved(hello.from)) return `member ${hexId(hello.from)} was removed from the cluster`;
  return undefined;
}
