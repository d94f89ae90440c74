/** Hash and HashKV: the whole of what is kept is read for one answer, so in slices, and one request after the other. */
import type { Clock } from '@quoin/base';
import { etcdErrors, Method } from '@quoin/contracts';
import type { KvHasher, StateHasher } from '@quoin/mvcc';
import type { StateMachine } from './apply.ts';
import { readHashKv, writeHashKvResponse, writeHashResponse } from './cluster-messages.ts';
import type { LinkCall } from './link-session.ts';
import type { MemberMetrics } from './member-metrics.ts';

export interface HashRequestsParts {
  readonly clock: Clock;
  readonly metrics: MemberMetrics;
  readonly machine: StateMachine;
  readonly wake: () => void;
}

/** What one turn may spend on it. */
const sliceMs = 3;
/** By count, too: simulated time stands still within a turn. */
const sliceSteps = 20;
const stateSliceBytes = 256 << 10;

type Running = { readonly call: LinkCall; readonly startedMs: number } & (
  | { readonly kv: KvHasher; readonly state: undefined }
  | { readonly kv: undefined; readonly state: StateHasher }
);

export class HashRequests {
  private readonly parts: HashRequestsParts;
  private waiting: LinkCall[];
  private running: Running | undefined;

  constructor(parts: HashRequestsParts) {
    this.parts = parts;
    this.waiting = [];
    this.running = undefined;
  }

  take(call: LinkCall): void {
    this.waiting.push(call);
    this.parts.wake();
  }

  /** Only after a commit, within its turn. True when there is more at once. */
  pump(): boolean {
    const { clock } = this.parts;
    const endMs = clock.monotonicMs() + sliceMs;
    for (let i = 0; i < sliceSteps && clock.monotonicMs() < endMs; i++) {
      const running = this.running ?? this.next();
      if (running === undefined) return false;
      this.running = running;
      if (running.call.done) this.close();
      else if (running.kv?.step() ?? running.state!.step(stateSliceBytes)) this.finish(running);
    }
    return this.running !== undefined || this.waiting.length > 0;
  }

  /** The store is about to be replaced or closed. */
  drop(): void {
    this.running?.call.fail(etcdErrors.leaderChanged);
    this.close();
  }

  private next(): Running | undefined {
    const { store } = this.parts.machine;
    const startedMs = this.parts.clock.monotonicMs();
    for (let call = this.waiting.shift(); call !== undefined; call = this.waiting.shift()) {
      if (call.done) continue;
      if (call.method === Method.hash) return { call, startedMs, kv: undefined, state: store.stateHasher() };
      const kv = store.kvHasher(readHashKv(call.body));
      if (typeof kv === 'object') return { call, startedMs, kv, state: undefined };
      call.fail(kv === 'compacted' ? etcdErrors.compacted : etcdErrors.futureRev);
    }
    return undefined;
  }

  private finish({ call, startedMs, kv, state }: Running): void {
    const { clock, metrics } = this.parts;
    const { hashSeconds, hashRevSeconds } = metrics.disk;
    (kv === undefined ? hashSeconds : hashRevSeconds).observe((clock.monotonicMs() - startedMs) / 1_000);
    const header = this.parts.machine.header();
    if (kv === undefined)
      call.reply(writeHashResponse({ ...header, revision: state.revision }, state.hash()));
    else call.reply(writeHashKvResponse(header, kv.hash(), kv.compactRevision, kv.revision));
    this.close();
  }

  private close(): void {
    this.running?.kv?.close();
    this.running?.state?.close();
    this.running = undefined;
  }
}
