/**
 * The state on its way to a member that lags behind the log.
 *
 *   leader                                           follower
 *   raft asks for a snapshot
 *   cursor of the state as it is now ──chunks──►     fresh engine `store.incoming`, every chunk checked
 *                                    ◄──acks───      (window: so many chunks without ack)
 *                                                    whole: flush, close, rename to `store-<index>`
 *                                                    raft is told; wants it? ──no──► engine removed
 *                                                    log: snapshot record, synced   ◄── the switch
 *                                    ◄──last ack──   new engine in force, old one removed
 *   raft: the peer has it
 */
import { type Digest, hexId, type Log, type Tracer } from '@quoin/base';
import type { SnapshotChunk, SnapshotHeader } from '@quoin/contracts';
import { type Backend, type SnapshotWriter, type Store, snapshotWriter, storeVersion } from '@quoin/mvcc';
import type { SnapshotMeta } from '@quoin/raft';
import type { MemberMetrics } from './member-metrics.ts';
import type { SnapshotAck } from './peer-codec.ts';
import type { BackendFactory } from './ports.ts';
import { incomingStoreName, storeName } from './recovery.ts';
import { ChunkChecker, ChunkSource } from './snapshot-chunks.ts';

export interface SnapshotSenderOptions {
  readonly tracer: Tracer | undefined;
  readonly digest: Digest;
  readonly log: Log;
  readonly metrics: MemberMetrics;
  readonly chunkBytes: number;
  readonly windowChunks: number;
  readonly stallMs: number;
  readonly nowMs: () => number;
  /** False: not now. */
  readonly send: (to: bigint, chunk: SnapshotChunk) => boolean;
  /** Monotonic ms since when the stream to that member is open; undefined when it is not. */
  readonly openSinceMs: (to: bigint) => number | undefined;
  /** The transfer has ended. */
  readonly ended: (to: bigint, ok: boolean) => void;
}

interface Transfer {
  readonly id: number;
  readonly to: bigint;
  readonly source: ChunkSource;
  readonly index: number;
  readonly startedMs: number;
  progressMs: number;
  /** Which stream the chunks went into: what was in another one may never have arrived. */
  streamMs: number | undefined;
  sent: number;
  acked: number;
  /** Made but not taken by the stream yet. */
  held: SnapshotChunk | undefined;
}

export class SnapshotSender {
  private readonly options: SnapshotSenderOptions;
  private readonly transfers = new Map<bigint, Transfer>();
  private nextId: number;

  constructor(options: SnapshotSenderOptions, firstId: number) {
    this.options = options;
    this.nextId = firstId;
  }

  /** The lowest index that a transfer under way begins from: the log must not be released above it. */
  get minIndex(): number {
    let min = Number.POSITIVE_INFINITY;
    for (const transfer of this.transfers.values()) min = Math.min(min, transfer.index);
    return min;
  }

  /** Only right after a commit: the state as it is now. */
  start(to: bigint, store: Store, header: SnapshotHeader): void {
    this.abandon(to);
    const { digest, chunkBytes, log, metrics, nowMs } = this.options;
    const id = this.nextId++;
    const source = new ChunkSource(store.snapshotCursor(), header, id, chunkBytes, digest);
    const nowAt = nowMs();
    const { index } = header.meta;
    const transfer: Transfer = {
      id,
      to,
      source,
      index,
      startedMs: nowAt,
      progressMs: nowAt,
      streamMs: undefined,
      sent: 0,
      acked: 0,
      held: undefined,
    };
    this.transfers.set(to, transfer);
    metrics.network.snapshotSending.set([hexId(to)], 1);
    log.info('sending a snapshot', { to: hexId(to), index });
  }

  /** Sends on, at most one chunk to each peer. True when there is more that could go now. */
  pump(): boolean {
    let more = false;
    for (const transfer of this.transfers.values()) more = this.pumpOne(transfer) || more;
    return more;
  }

  private pumpOne(transfer: Transfer): boolean {
    const { send, openSinceMs, windowChunks } = this.options;
    if (transfer.sent - transfer.acked >= windowChunks) return false;
    if (transfer.held === undefined) {
      if (transfer.source.done) return false;
      transfer.held = transfer.source.next();
    }
    if (!send(transfer.to, transfer.held)) return false;
    transfer.held = undefined;
    transfer.sent++;
    transfer.streamMs ??= openSinceMs(transfer.to);
    return !transfer.source.done && transfer.sent - transfer.acked < windowChunks;
  }

  acknowledged(from: bigint, ack: SnapshotAck): void {
    const transfer = this.transfers.get(from);
    if (transfer === undefined || transfer.id !== ack.transfer) return;
    if (ack.error !== '') {
      this.finish(transfer, ack.error);
      return;
    }
    if (ack.nextSequence > transfer.acked) {
      transfer.acked = ack.nextSequence;
      transfer.progressMs = this.options.nowMs();
    }
    // The last chunk is acknowledged only when the state is in force there.
    if (transfer.source.done && transfer.held === undefined && transfer.acked === transfer.sent) {
      this.finish(transfer, undefined);
    }
  }

  tick(nowMs: number): void {
    for (const transfer of this.transfers.values()) {
      const openMs = this.options.openSinceMs(transfer.to);
      const lost = openMs === undefined || (transfer.streamMs !== undefined && transfer.streamMs !== openMs);
      if (lost) this.finish(transfer, 'lost the stream');
      else if (nowMs - transfer.progressMs > this.options.stallMs) this.finish(transfer, 'no progress');
    }
  }

  /** No longer the leader, or the store is replaced. */
  stopAll(reason: string): void {
    for (const transfer of this.transfers.values()) this.finish(transfer, reason);
  }

  private abandon(to: bigint): void {
    const transfer = this.transfers.get(to);
    if (transfer === undefined) return;
    transfer.source.close();
    this.transfers.delete(to);
    this.options.metrics.network.snapshotSending.set([hexId(to)], 0);
  }

  private finish(transfer: Transfer, problem: string | undefined): void {
    const { log, metrics, nowMs, ended } = this.options;
    this.abandon(transfer.to);
    const to = hexId(transfer.to);
    const seconds = (nowMs() - transfer.startedMs) / 1_000;
    this.options.tracer?.batch('snapshot.send', transfer.startedMs, nowMs(), [], {
      'quoin.to': to,
      'quoin.index': transfer.index,
      'quoin.bytes': transfer.source.bytes,
      'quoin.problem': problem ?? '',
    });
    if (problem === undefined) {
      log.info('sent a snapshot', { to, index: transfer.index, bytes: transfer.source.bytes, seconds });
      metrics.network.snapshotSendSuccess.inc([to]);
      metrics.network.snapshotSendSeconds.at([to]).observe(seconds);
    } else {
      log.warn('could not send a snapshot', { to, index: transfer.index, reason: problem });
      metrics.network.snapshotSendFailures.inc([to]);
    }
    ended(transfer.to, problem === undefined);
  }
}

export interface SnapshotReceiverOptions {
  readonly tracer: Tracer | undefined;
  readonly clusterId: bigint;
  readonly digest: Digest;
  readonly log: Log;
  readonly metrics: MemberMetrics;
  readonly backends: BackendFactory;
  readonly nowMs: () => number;
  readonly appliedIndex: () => number;
  /**
   * The state is whole and durable under its own name. `wanted` is called exactly once: true when it is in force,
   * false when raft had no use for it.
   */
  readonly received: (from: bigint, header: SnapshotHeader, wanted: (inForce: boolean) => void) => void;
}

interface Incoming {
  readonly from: bigint;
  readonly header: SnapshotHeader;
  readonly transfer: number;
  readonly startedMs: number;
  readonly checker: ChunkChecker;
  chunkMs: number;
  /** Chunks that came while the engine was being opened. */
  waiting: SnapshotChunk[];
  backend: Backend | undefined;
  writer: SnapshotWriter | undefined;
  reply: (ack: SnapshotAck) => void;
  /** From the last chunk on nothing more can come and nothing may interrupt. */
  finishing: boolean;
  aborted: boolean;
}

const receiveStallMs = 10_000;

export class SnapshotReceiver {
  private readonly options: SnapshotReceiverOptions;
  private current: Incoming | undefined;

  constructor(options: SnapshotReceiverOptions) {
    this.options = options;
    this.current = undefined;
  }

  chunk(from: bigint, chunk: SnapshotChunk, reply: (ack: SnapshotAck) => void): void {
    if (chunk.header !== undefined) this.begin(from, chunk, chunk.header, reply);
    const current = this.current;
    if (current === undefined || current.from !== from || current.transfer !== chunk.transfer) return;
    current.reply = reply;
    current.chunkMs = this.options.nowMs();
    if (current.writer === undefined) current.waiting.push(chunk);
    else this.take(current, chunk);
  }

  stop(): void {
    if (this.current !== undefined && !this.current.finishing) this.abort(this.current, 'stopped');
  }

  private begin(
    from: bigint,
    chunk: SnapshotChunk,
    header: SnapshotHeader,
    reply: (ack: SnapshotAck) => void,
  ): void {
    const { transfer } = chunk;
    const refuse = (error: string): void => reply({ transfer, nextSequence: 0, error });
    const problem = this.headerError(header);
    if (problem !== undefined) return refuse(problem);
    const nowMs = this.options.nowMs();
    const busy = this.current;
    if (busy !== undefined) {
      const stale = nowMs - busy.chunkMs > receiveStallMs;
      if (busy.finishing || (busy.from !== from && !stale && header.raftTerm <= busy.header.raftTerm)) {
        return refuse('another snapshot is being received');
      }
      this.abort(busy, 'another one was begun');
      // Its engine is still being closed and removed; the sender tries again.
      if (busy.backend === undefined) return refuse('another snapshot was being received');
    }
    const current: Incoming = {
      from,
      header,
      transfer,
      startedMs: nowMs,
      checker: new ChunkChecker(this.options.digest),
      chunkMs: nowMs,
      waiting: [],
      backend: undefined,
      writer: undefined,
      reply,
      finishing: false,
      aborted: false,
    };
    this.current = current;
    this.options.metrics.network.snapshotReceiving.set([hexId(from)], 1);
    this.options.log.info('receiving a snapshot', { from: hexId(from), index: header.meta.index });
    this.openEngine(current);
  }

  private headerError(header: SnapshotHeader): string | undefined {
    if (header.clusterId !== this.options.clusterId) return 'cluster ID mismatch';
    if (header.storeVersion > storeVersion)
      return `store version ${header.storeVersion} is newer than ${storeVersion}`;
    if (header.meta.index <= this.options.appliedIndex()) return 'already applied';
    return undefined;
  }

  private openEngine(current: Incoming): void {
    const { backends } = this.options;
    const opened = (error: Error | null, backend: Backend | null): void => {
      if (backend === null) return this.abort(current, error?.message ?? 'no engine');
      current.backend = backend;
      if (current.aborted) return backend.close();
      current.writer = snapshotWriter(backend);
      const { waiting } = current;
      current.waiting = [];
      for (const chunk of waiting) if (!current.aborted) this.take(current, chunk);
    };
    backends.list((error, names) => {
      if (error !== null) this.abort(current, error.message);
      else if (!names.includes(incomingStoreName)) backends.open(incomingStoreName, opened);
      else {
        backends.remove(incomingStoreName, (failed) => {
          if (failed !== null) this.abort(current, failed.message);
          else backends.open(incomingStoreName, opened);
        });
      }
    });
  }

  private take(current: Incoming, chunk: SnapshotChunk): void {
    const { checker, writer, transfer } = current;
    const problem = checker.check(chunk) ?? writeError(writer, chunk);
    if (problem !== undefined) return this.abort(current, problem);
    if (chunk.trailer === undefined) {
      current.reply({ transfer, nextSequence: checker.nextSequence, error: '' });
      return;
    }
    current.finishing = true;
    const { index, term } = current.header.meta;
    writer?.finish({ index, term }, (error, meta) => {
      if (meta === null) return this.abort(current, error?.message ?? 'not whole');
      current.backend?.close();
      current.backend = undefined;
      this.place(current);
    });
  }

  /** Under its own name it is found by a restart, but not used until the log names it. */
  private place(current: Incoming): void {
    const { backends, log } = this.options;
    const name = storeName(current.header.meta.index);
    backends.rename(incomingStoreName, name, (error) => {
      if (error !== null) return this.abort(current, error.message);
      this.options.received(current.from, current.header, (inForce) => {
        if (inForce) return this.finish(current);
        backends.remove(name, (failed) => {
          if (failed !== null)
            log.warn('could not remove an unused snapshot', { name, error: failed.message });
        });
        this.abort(current, 'no longer wanted');
      });
    });
  }

  private finish(current: Incoming): void {
    const { log, metrics, nowMs } = this.options;
    const seconds = (nowMs() - current.startedMs) / 1_000;
    const from = hexId(current.from);
    const { index } = current.header.meta;
    this.options.tracer?.batch('snapshot.install', current.startedMs, nowMs(), [], {
      'quoin.from': from,
      'quoin.index': index,
      'quoin.bytes': current.checker.bytes,
    });
    log.info('installed a snapshot', {
      from,
      index,
      bytes: current.checker.bytes,
      seconds,
    });
    metrics.network.snapshotReceiveSuccess.inc([from]);
    metrics.network.snapshotReceiveSeconds.at([from]).observe(seconds);
    metrics.disk.snapshotSaveSeconds.observe(seconds);
    metrics.network.snapshotReceiving.set([from], 0);
    this.current = undefined;
    current.reply({ transfer: current.transfer, nextSequence: current.checker.nextSequence, error: '' });
  }

  private abort(current: Incoming, reason: string): void {
    if (current.aborted) return;
    current.aborted = true;
    const from = hexId(current.from);
    this.options.log.warn('gave up receiving a snapshot', { from, index: current.header.meta.index, reason });
    this.options.metrics.network.snapshotReceiveFailures.inc([from]);
    this.options.metrics.network.snapshotReceiving.set([from], 0);
    current.backend?.close();
    if (this.current === current) this.current = undefined;
    current.reply({ transfer: current.transfer, nextSequence: current.checker.nextSequence, error: reason });
  }
}

function writeError(writer: SnapshotWriter | undefined, chunk: SnapshotChunk): string | undefined {
  try {
    writer?.write(chunk.pairs);
    return undefined;
  } catch (error) {
    return (error as Error).message;
  }
}

/** What a snapshot of the store begins with. */
export function snapshotHeader(
  store: Store,
  ids: { clusterId: bigint; memberId: bigint },
  meta: SnapshotMeta,
  raftTerm: number,
): SnapshotHeader {
  return {
    meta,
    clusterId: ids.clusterId,
    memberId: ids.memberId,
    revision: store.revision,
    compactRevision: store.compactRevision,
    storeVersion,
    raftTerm,
  };
}
