/** A tiny deterministic world: virtual time, channels with latency, and streams and calls of clients. */
import { type Channel, concatBytes, Heap, type Log, MetricRegistry, Prng, type Timer } from '@quoin/base';
import type { RpcStatus } from '@quoin/contracts';
import type { CallContext, Gateway, GatewayPorts, ServerStream } from '@quoin/gateway';

interface Event {
  readonly atMs: number;
  readonly order: number;
  readonly fn: () => void;
  live: boolean;
}

export class World {
  nowMs = 1_000;
  /** How much each look at the clock costs: with it, long work is cut into slices. */
  clockStepMs = 0;
  readonly prng: Prng;
  private order = 0;
  private readonly heap = new Heap<Event>((a, b) => a.atMs - b.atMs || a.order - b.order);
  private turn: (() => void)[] = [];

  constructor(seed = 1) {
    this.prng = new Prng(seed);
  }

  readonly timers = {
    after: (delayMs: number, fn: () => void): Timer => {
      const event: Event = { atMs: this.nowMs + Math.max(0, delayMs), order: this.order++, fn, live: true };
      this.heap.push(event);
      return { cancel: () => (event.live = false) };
    },
    endOfTurn: (fn: () => void): void => {
      this.turn.push(fn);
    },
  };

  readonly clock = {
    monotonicMs: (): number => {
      this.nowMs += this.clockStepMs;
      return this.nowMs;
    },
    wallMs: (): number => this.nowMs,
  };

  /** Runs everything that is due within so many ms. */
  run(ms: number): void {
    const until = this.nowMs + ms;
    this.endTurn();
    for (;;) {
      const next = this.heap.peek();
      if (next === undefined || next.atMs > until) break;
      this.heap.pop();
      if (!next.live) continue;
      this.nowMs = Math.max(this.nowMs, next.atMs);
      next.fn();
      this.endTurn();
    }
    this.nowMs = Math.max(this.nowMs, until);
  }

  ports(dial: (url: string) => Channel): GatewayPorts {
    const log: Log = { debug() {}, info() {}, warn() {}, error() {} };
    return {
      clock: this.clock,
      timers: this.timers,
      random: this.prng,
      log,
      tracer: undefined,
      metrics: new MetricRegistry(),
      dial,
    };
  }

  private endTurn(): void {
    while (this.turn.length > 0) {
      const turn = this.turn;
      this.turn = [];
      for (const fn of turn) fn();
    }
  }
}

const ignore = (): void => undefined;

/** One end of a pair; messages take 0.1 to 1.1 ms and stay in order. */
export class TestChannel implements Channel {
  onMessage: (message: Uint8Array) => void = ignore;
  onDrain: () => void = ignore;
  onClose: (reason: string) => void = ignore;
  peer!: TestChannel;
  open = true;
  /** Sent messages go nowhere and nothing is noticed: a paused peer. */
  silent = false;
  private readonly world: World;
  private lastAtMs = 0;

  private constructor(world: World) {
    this.world = world;
  }

  static pair(world: World): [TestChannel, TestChannel] {
    const a = new TestChannel(world);
    const b = new TestChannel(world);
    a.peer = b;
    b.peer = a;
    return [a, b];
  }

  send(message: Uint8Array): boolean {
    if (!this.open || this.silent) return true;
    // A copy: the receiver owns its bytes.
    const bytes = message.slice();
    const atMs = Math.max(this.lastAtMs, this.world.nowMs + 0.1 + this.world.prng.float());
    this.lastAtMs = atMs;
    this.world.timers.after(atMs - this.world.nowMs, () => {
      if (this.peer.open && !this.silent) this.peer.onMessage(bytes);
    });
    return true;
  }

  queuedBytes(): number {
    return 0;
  }

  close(): void {
    if (!this.open) return;
    this.open = false;
    this.world.timers.after(0.1, () => this.peer.lose('closed by peer'));
  }

  /** Breaks: whoever is there learns it, messages under way are lost. */
  lose(reason: string): void {
    if (!this.open) return;
    this.open = false;
    this.onClose(reason);
  }

  cut(): void {
    this.world.timers.after(0, () => this.lose('cut'));
    this.world.timers.after(0, () => this.peer.lose('cut'));
  }
}

export interface Outcome {
  done: boolean;
  status: RpcStatus | null;
  body: Uint8Array;
  atMs: number;
  cancel: () => void;
}

export function contextOf(metadata: Record<string, string> = {}, deadlineMs?: number): CallContext {
  return { deadlineMs, metadata: (key) => metadata[key], trace: undefined, peer: 'test' };
}

export function unary(
  world: World,
  gateway: Gateway,
  path: string,
  request: Uint8Array,
  context: CallContext = contextOf(),
): Outcome {
  const outcome: Outcome = { done: false, status: null, body: new Uint8Array(0), atMs: 0, cancel: ignore };
  outcome.cancel = gateway.unary(path, request, context, (status, pieces) => {
    if (outcome.done) throw new Error('answered twice');
    outcome.done = true;
    outcome.status = status;
    outcome.body = concatBytes(pieces);
    outcome.atMs = world.nowMs;
  });
  if (outcome.done) throw new Error('answered before the call returned');
  return outcome;
}

/** A client's stream whose reading pace is set by `windowBytes`: beyond it, what is sent stays queued. */
export class TestStream implements ServerStream {
  onMessage: (message: Uint8Array) => void = ignore;
  onHalfClose: () => void = ignore;
  onCancel: () => void = ignore;
  onDrain: () => void = ignore;
  readonly received: Uint8Array[] = [];
  ended: { status: RpcStatus | null } | undefined;
  onReceive: (message: Uint8Array) => void = ignore;
  maxQueued = 0;
  private queue: Uint8Array[] = [];
  private queued = 0;
  private readonly highWaterBytes: number;
  paused = false;
  /** What the server wants: no more messages for now. */
  held = false;

  constructor(highWaterBytes = 16 << 10) {
    this.highWaterBytes = highWaterBytes;
  }

  send(message: readonly Uint8Array[]): boolean {
    if (this.ended !== undefined) throw new Error('sent after the end');
    const bytes = concatBytes(message);
    if (!this.paused && this.queue.length === 0) {
      this.take(bytes);
      return true;
    }
    this.queue.push(bytes);
    this.queued += bytes.length;
    this.maxQueued = Math.max(this.maxQueued, this.queued);
    return this.queued < this.highWaterBytes;
  }

  queuedBytes(): number {
    return this.queued;
  }

  hold(on: boolean): void {
    this.held = on;
  }

  end(status: RpcStatus | null): void {
    if (this.ended !== undefined) throw new Error('ended twice');
    this.ended = { status };
  }

  /** The client reads what is queued. */
  resume(): void {
    this.paused = false;
    const full = this.queued >= this.highWaterBytes;
    while (this.queue.length > 0) this.take(this.queue.shift()!);
    this.queued = 0;
    if (full) this.onDrain();
  }

  private take(bytes: Uint8Array): void {
    this.received.push(bytes);
    this.onReceive(bytes);
  }
}
