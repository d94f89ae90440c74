/** Maintenance.Snapshot: the file in parts of 32 KiB as the gateway has credit, its SHA-256 as the last part. */
import { type Clock, type Digest, emptyBytes, type Log } from '@quoin/base';
import { Code, WireWriter } from '@quoin/contracts';
import type { Backend } from '@quoin/mvcc';
import type { StateMachine } from './apply.ts';
import { etcdBuckets } from './etcd-buckets.ts';
import { EtcdSnapshot } from './etcd-snapshot.ts';
import type { LinkCall } from './link-session.ts';
import type { MemberMetrics } from './member-metrics.ts';
import type { BackendFactory } from './ports.ts';
import { ReaderStall } from './reader-stall.ts';
import { scratchStoreName } from './recovery.ts';

export interface SnapshotRequestsParts {
  readonly clock: Clock;
  /** `readerStallMs` of the configuration. */
  readonly stallMs: number;
  readonly metrics: MemberMetrics;
  readonly log: Log;
  readonly digest: Digest;
  readonly backends: BackendFactory;
  readonly machine: StateMachine;
  readonly wake: () => void;
}

/** Each holds back the removal of old versions, and may have an engine of its own. */
const runningMax = 4;
const partBytes = 32 << 10;

interface Running {
  readonly call: LinkCall;
  readonly stall: ReaderStall;
  readonly startedMs: number;
  snapshot: EtcdSnapshot | undefined;
  /** The engine is being opened. */
  opening: boolean;
  scratch: Backend | undefined;
  readonly scratchName: string;
  /** What the data says it is. */
  readonly version: string;
  /** Bytes of pages that wait for a whole part. */
  queue: Uint8Array[];
  queuedBytes: number;
  sentBytes: number;
}

const writer = new WireWriter(2 * partBytes);

export class SnapshotRequests {
  private readonly parts: SnapshotRequestsParts;
  private waiting: LinkCall[];
  private running: Running[];
  private nextScratch: number;

  constructor(parts: SnapshotRequestsParts) {
    this.parts = parts;
    this.waiting = [];
    this.running = [];
    this.nextScratch = 1;
  }

  take(call: LinkCall): void {
    call.onCredit = () => this.parts.wake();
    call.onCancel = () => this.parts.wake();
    this.waiting.push(call);
    this.parts.wake();
  }

  /** Only after a commit, within its turn: one slice of each. True when there is more at once. */
  pump(): boolean {
    while (this.waiting.length > 0 && this.running.length < runningMax) this.begin(this.waiting.shift()!);
    let more = false;
    this.running = this.running.filter((running) => {
      const going = this.step(running);
      if (!going) this.end(running);
      else if (running.snapshot !== undefined && running.call.creditBytes > 0) more = true;
      return going;
    });
    return more;
  }

  /** The store is about to be replaced or closed. */
  drop(): void {
    for (const running of this.running) {
      running.call.fail({ code: Code.unavailable, message: 'etcdserver: the snapshot was interrupted' });
      this.end(running);
    }
    this.running = [];
  }

  private begin(call: LinkCall): void {
    if (call.done) return;
    const { clock, stallMs, machine, backends, log, digest } = this.parts;
    const walk = machine.store.versionWalk();
    const buckets = etcdBuckets(machine);
    const running: Running = {
      call,
      stall: new ReaderStall(clock, call, stallMs),
      startedMs: clock.monotonicMs(),
      snapshot: undefined,
      opening: false,
      scratch: undefined,
      scratchName: `${scratchStoreName}${this.nextScratch++}`,
      version: machine.downgrade.storageVersion,
      queue: [],
      queuedBytes: 0,
      sentBytes: 0,
    };
    this.running.push(running);
    log.info('a snapshot in etcd’s format has begun', { revision: walk.revision });
    const start = (scratch: Backend | undefined): void => {
      running.scratch = scratch;
      running.snapshot = new EtcdSnapshot({ walk, buckets, scratch, sha256: digest.sha256() });
    };
    if (walk.compactRevision <= 0) return start(undefined);
    running.opening = true;
    backends.open(running.scratchName, (error, backend) => {
      running.opening = false;
      if (backend !== null) start(backend);
      else call.fail({ code: Code.unknown, message: `etcdserver: ${error?.message ?? 'no scratch engine'}` });
      if (backend === null || call.done) walk.close();
      if (!this.running.includes(running)) this.end(running);
      this.parts.wake();
    });
  }

  /** False when it has ended. */
  private step(running: Running): boolean {
    const { call, snapshot } = running;
    if (call.done) return false;
    const problem = running.stall.problem('snapshot');
    if (problem !== undefined) {
      this.parts.log.warn('a snapshot was given up: its reader takes nothing', { bytes: running.sentBytes });
      call.fail(problem);
      return false;
    }
    if (snapshot === undefined || call.creditBytes <= 0) return true;
    for (const pages of snapshot.step()) {
      running.queue.push(pages);
      running.queuedBytes += pages.length;
    }
    this.send(running, snapshot);
    return !call.done;
  }

  private send(running: Running, snapshot: EtcdSnapshot): void {
    const { call } = running;
    while (running.queuedBytes >= partBytes || (snapshot.done && running.queuedBytes > 0)) {
      const blob = takeBytes(running, Math.min(partBytes, running.queuedBytes));
      running.sentBytes += blob.length;
      call.part(encodePart(snapshot.totalBytes - running.sentBytes, blob, running.version), true);
    }
    if (!snapshot.done) return;
    call.part(encodePart(0, snapshot.digest(), running.version), false);
    const { clock, log, metrics } = this.parts;
    metrics.disk.snapshotSeconds.observe((clock.monotonicMs() - running.startedMs) / 1_000);
    log.info('sent a snapshot in etcd’s format', { bytes: running.sentBytes });
  }

  private end(running: Running): void {
    running.snapshot?.close();
    running.snapshot = undefined;
    const { scratch, scratchName } = running;
    running.scratch = undefined;
    if (running.opening || scratch === undefined) return;
    scratch.close();
    this.parts.backends.remove(scratchName, (error) => {
      if (error === null) return;
      this.parts.log.warn('could not remove a scratch engine', { name: scratchName, error: error.message });
    });
  }
}

function takeBytes(running: Running, bytes: number): Uint8Array {
  const out = new Uint8Array(bytes);
  let at = 0;
  while (at < bytes) {
    const first = running.queue[0] ?? emptyBytes;
    const part = first.subarray(0, bytes - at);
    out.set(part, at);
    at += part.length;
    if (part.length === first.length) running.queue.shift();
    else running.queue[0] = first.subarray(part.length);
  }
  running.queuedBytes -= bytes;
  return out;
}

/** etcdserverpb.SnapshotResponse; its header stays empty. */
function encodePart(remainingBytes: number, blob: Uint8Array, version: string): Uint8Array {
  writer.begin(blob.length + 32);
  writer.uint(16, remainingBytes);
  writer.bytes(26, blob);
  writer.text(34, version);
  return writer.finish();
}
