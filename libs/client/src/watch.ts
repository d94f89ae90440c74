import type { MessageInitShape } from '@bufbuild/protobuf';
import type { ClientDuplexStream } from '@grpc/grpc-js';
import { Code, etcdErrors } from '@quoin/contracts';
import {
  type Event,
  Watch,
  WatchCreateRequest_FilterType,
  type WatchRequestSchema,
  type WatchResponse,
} from '@quoin/contracts/etcd';
import { CompactedError, EtcdError, toEtcdError } from './error.ts';
import { type KeyRangeOptions, keyRange } from './key-range.ts';
import type { Bytes, Int64 } from './options.ts';
import { sleep, type Transport } from './transport.ts';

export interface WatchOptions extends KeyRangeOptions {
  /** First revision wanted; 0 = from now on. */
  readonly startRevision?: Int64 | undefined;
  readonly prevKv?: boolean | undefined;
  /** Responses without events from time to time: everything up to their header's revision has been delivered. */
  readonly progressNotify?: boolean | undefined;
  /** Leave out puts. */
  readonly noPut?: boolean | undefined;
  /** Leave out deletes. */
  readonly noDelete?: boolean | undefined;
  /** Let the server cut large responses; they are joined here. Default true. */
  readonly fragment?: boolean | undefined;
  /** End with `etcdserver: no leader` when the server has been without one for a while. Default false: wait. */
  readonly requireLeader?: boolean | undefined;
}

type WatchCall = ClientDuplexStream<MessageInitShape<typeof WatchRequestSchema>, WatchResponse>;

const queuedResponsesMax = 256;
const reopenDelayMs = 50;
const reopenDelayMaxMs = 2000;

/**
 * One watch, read with `for await`: responses with events, in order, each revision once and whole; without events they
 * are progress. Lost connections are bridged: the watch goes on, at another endpoint, after the last revision delivered.
 * The iteration ends after `cancel()`, and throws CompactedError or EtcdError when the server ends it.
 */
export class Watcher implements AsyncIterable<WatchResponse> {
  /** The first answer; its header holds the revision at creation. Rejects when the watch is refused. */
  readonly created: Promise<WatchResponse>;
  /** Next revision that this watch still has to see; 0 until the server has told. */
  nextRevision: bigint;
  private readonly key: Uint8Array;
  private readonly rangeEnd: Uint8Array;
  private readonly options: WatchOptions;
  private readonly stream: WatchStream;
  private readonly queue: WatchResponse[] = [];
  private fragments: Event[] = [];
  private waiting:
    | { resolve: (r: IteratorResult<WatchResponse>) => void; reject: (e: Error) => void }
    | undefined;
  private ended = false;
  private failure: EtcdError | undefined;
  private settleCreated!: { resolve: (r: WatchResponse) => void; reject: (e: Error) => void };

  constructor(stream: WatchStream, key: Bytes, options: WatchOptions) {
    const range = keyRange(key, options);
    this.stream = stream;
    this.key = range.key;
    this.rangeEnd = range.rangeEnd;
    this.options = options;
    this.nextRevision = BigInt(options.startRevision ?? 0);
    this.created = new Promise((resolve, reject) => {
      this.settleCreated = { resolve, reject };
    });
    this.created.catch(() => {}); // whoever iterates learns it there
  }

  /** Ends the watch; responses not read yet are dropped. */
  cancel(): void {
    if (this.ended) return;
    this.stream.remove(this);
    this.queue.length = 0;
    this.end(undefined);
  }

  [Symbol.asyncIterator](): AsyncIterator<WatchResponse> {
    return {
      next: () => this.next(),
      return: async () => {
        this.cancel();
        return { done: true, value: undefined };
      },
    };
  }

  next(): Promise<IteratorResult<WatchResponse>> {
    const response = this.queue.shift();
    if (response !== undefined) {
      this.stream.taken();
      return Promise.resolve({ done: false, value: response });
    }
    if (this.ended) {
      return this.failure === undefined
        ? Promise.resolve({ done: true, value: undefined })
        : Promise.reject(this.failure);
    }
    return new Promise((resolve, reject) => {
      this.waiting = { resolve, reject };
    });
  }

  /** For the stream. */
  createRequest(watchId: bigint): MessageInitShape<typeof WatchRequestSchema> {
    this.fragments = [];
    const filters: WatchCreateRequest_FilterType[] = [];
    if (this.options.noPut === true) filters.push(WatchCreateRequest_FilterType.NOPUT);
    if (this.options.noDelete === true) filters.push(WatchCreateRequest_FilterType.NODELETE);
    const value = {
      key: this.key,
      rangeEnd: this.rangeEnd,
      startRevision: this.nextRevision,
      progressNotify: this.options.progressNotify ?? false,
      filters,
      prevKv: this.options.prevKv ?? false,
      watchId,
      fragment: this.options.fragment ?? true,
    };
    return { requestUnion: { case: 'createRequest', value } };
  }

  /** For the stream. False: the watch is over. */
  take(response: WatchResponse): boolean {
    if (response.canceled) {
      const compacted =
        response.compactRevision !== 0n || response.cancelReason === etcdErrors.compacted.message;
      if (compacted) this.end(new CompactedError(response.compactRevision));
      else this.end(new EtcdError(Code.canceled, response.cancelReason || etcdErrors.watchCanceled.message));
      return false;
    }
    if (response.created) {
      if (this.nextRevision === 0n) this.nextRevision = (response.header?.revision ?? 0n) + 1n;
      this.settleCreated.resolve(response);
      return true;
    }
    if (response.fragment) {
      for (const event of response.events) this.fragments.push(event);
      return true;
    }
    if (this.fragments.length > 0) {
      response.events = this.fragments.concat(response.events);
      this.fragments = [];
    }
    const last = response.events.at(-1)?.kv?.modRevision ?? response.header?.revision ?? 0n;
    if (last >= this.nextRevision) this.nextRevision = last + 1n;
    this.push(response);
    return true;
  }

  /** For the stream. */
  end(failure: EtcdError | undefined): void {
    if (this.ended) return;
    this.ended = true;
    this.failure = failure;
    const reason = failure ?? new EtcdError(Code.canceled, 'context canceled');
    this.settleCreated.reject(reason);
    const waiting = this.waiting;
    this.waiting = undefined;
    if (waiting === undefined) return;
    if (failure === undefined) waiting.resolve({ done: true, value: undefined });
    else waiting.reject(failure);
  }

  queued(): number {
    return this.queue.length;
  }

  private push(response: WatchResponse): void {
    if (this.waiting === undefined) {
      this.queue.push(response);
      return;
    }
    const waiting = this.waiting;
    this.waiting = undefined;
    waiting.resolve({ done: false, value: response });
  }
}

/**
 * One gRPC stream that carries many watches, reopened when it breaks.
 *
 *     idle ──add──► opening ──► open ──error/end──► opening …       idle again when the last watch is gone
 */
class WatchStream {
  private readonly transport: Transport;
  private readonly requireLeader: boolean;
  private readonly watchers = new Map<Watcher, bigint>();
  private byId = new Map<bigint, Watcher>();
  // Ids are chosen here, from 1 (0 would let the server choose), so that creations need not wait for each other.
  private lastId = 0n;
  private call: WatchCall | undefined;
  private opening = false;
  private paused = false;

  constructor(transport: Transport, requireLeader: boolean) {
    this.transport = transport;
    this.requireLeader = requireLeader;
  }

  add(watcher: Watcher): void {
    this.lastId++;
    this.watchers.set(watcher, this.lastId);
    this.byId.set(this.lastId, watcher);
    if (this.call !== undefined) this.call.write(watcher.createRequest(this.lastId));
    else void this.open();
  }

  remove(watcher: Watcher): void {
    const watchId = this.watchers.get(watcher);
    if (watchId === undefined) return;
    this.forget(watcher, watchId);
    if (this.watchers.size > 0)
      this.call?.write({ requestUnion: { case: 'cancelRequest', value: { watchId } } });
    this.taken();
  }

  requestProgress(): boolean {
    return this.call?.write({ requestUnion: { case: 'progressRequest', value: {} } }) !== undefined;
  }

  /** A response was read: perhaps there is room again. */
  taken(): void {
    if (!this.paused) return;
    for (const watcher of this.watchers.keys()) if (watcher.queued() >= queuedResponsesMax / 2) return;
    this.paused = false;
    this.call?.resume();
  }

  close(): void {
    for (const watcher of [...this.watchers.keys()]) watcher.end(undefined);
    this.watchers.clear();
    this.byId.clear();
    this.call?.cancel();
    this.call = undefined;
  }

  private async open(): Promise<void> {
    if (this.opening) return;
    this.opening = true;
    for (let attempt = 0; this.watchers.size > 0 && !this.transport.isClosed(); attempt++) {
      try {
        if (attempt > 0) await sleep(Math.min(reopenDelayMs * 2 ** Math.min(attempt, 8), reopenDelayMaxMs));
        const call = await this.transport.bidi(Watch.method.watch, { requireLeader: this.requireLeader });
        if (this.watchers.size === 0) {
          call.on('error', () => {});
          call.cancel();
          break;
        }
        this.started(call);
        break;
      } catch (caught) {
        const error = toEtcdError(caught);
        if (error.code === Code.unavailable || error.code === Code.deadlineExceeded) continue;
        this.fail(error);
      }
    }
    this.opening = false;
  }

  private started(call: WatchCall): void {
    this.call = call;
    this.paused = false;
    this.byId = new Map();
    for (const [watcher, watchId] of this.watchers) {
      this.byId.set(watchId, watcher);
      call.write(watcher.createRequest(watchId));
    }
    let over = false;
    const ended = (error: EtcdError) => {
      if (over) return;
      over = true;
      if (this.call !== call) return;
      this.call = undefined;
      this.lost(error);
    };
    call.on('data', (response: WatchResponse) => {
      if (this.call === call) this.receive(response);
    });
    call.on('error', (error) => ended(toEtcdError(error)));
    call.on('end', () => ended(new EtcdError(Code.unavailable, 'watch stream ended')));
  }

  private receive(response: WatchResponse): void {
    if (response.watchId === -1n && !response.canceled && !response.created) {
      // The answer to requestProgress, which the server gives only when every watch of the stream is up to date.
      for (const watcher of this.watchers.keys()) watcher.take(response);
      return;
    }
    // A refused creation does not carry the id that was asked for; requests are answered in order.
    const id = response.watchId === -1n ? this.firstUncreated() : response.watchId;
    const watcher = id === undefined ? undefined : this.byId.get(id);
    if (watcher === undefined || id === undefined) return;
    if (response.created) this.createdIds.add(id);
    if (!watcher.take(response)) this.forget(watcher, id);
    else if (watcher.queued() >= queuedResponsesMax && !this.paused) {
      this.paused = true;
      this.call?.pause();
    }
  }

  private readonly createdIds = new Set<bigint>();

  private firstUncreated(): bigint | undefined {
    for (const id of this.byId.keys()) if (!this.createdIds.has(id)) return id;
    return undefined;
  }

  private lost(error: EtcdError): void {
    this.createdIds.clear();
    if (this.transport.isClosed()) return this.close();
    if (error.code === Code.unauthenticated && this.transport.forgetToken()) return void this.open();
    const noLeader = this.requireLeader && error.message === etcdErrors.noLeader.message;
    // `watch canceled` is what a server says that shuts down: others may still serve.
    const again =
      error.code === Code.unavailable ||
      error.code === Code.internal ||
      error.message === etcdErrors.watchCanceled.message;
    if (noLeader || !again) this.fail(error);
    else void this.open();
  }

  private fail(error: EtcdError): void {
    const all = [...this.watchers.keys()];
    this.watchers.clear();
    this.byId.clear();
    for (const watcher of all) watcher.end(error);
  }

  private forget(watcher: Watcher, id: bigint): void {
    this.watchers.delete(watcher);
    this.byId.delete(id);
    this.createdIds.delete(id);
    if (this.watchers.size > 0) return;
    const call = this.call;
    this.call = undefined;
    call?.cancel();
  }
}

export class WatchClient {
  private readonly plain: WatchStream;
  private readonly withLeader: WatchStream;

  constructor(transport: Transport) {
    this.plain = new WatchStream(transport, false);
    this.withLeader = new WatchStream(transport, true);
  }

  /**
   * Watches share a stream: one that is not read for long holds the others up once 256 of its responses wait.
   */
  watch(key: Bytes, options: WatchOptions = {}): Watcher {
    const stream = options.requireLeader === true ? this.withLeader : this.plain;
    const watcher = new Watcher(stream, key, options);
    stream.add(watcher);
    return watcher;
  }

  /** Asks for one progress response, which all watches see, when they are up to date; etcd answers nothing when not. */
  requestProgress(): void {
    this.plain.requestProgress();
    this.withLeader.requestProgress();
  }

  close(): void {
    this.plain.close();
    this.withLeader.close();
  }
}
