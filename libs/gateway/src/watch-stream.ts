import { compareBytes, copyBytes, emptyBytes, type Timer } from '@quoin/base';
import {
  codeName,
  etcdErrors,
  type RpcStatus,
  readWatchRequest,
  type WatchCreateRequestView,
  type WatchId,
  type WatchRequestView,
  type WatchResponseFlags,
  watchCancelReasons,
  writeWatchIdField,
  writeWatchResponse,
} from '@quoin/contracts';
import { type Authority, type Caller, rangeDenied } from '@quoin/contracts/auth';
import { grpcOverheadBytes } from './config.ts';
import { type GatewayCore, readOr } from './core.ts';
import type { CallContext, ServerStream } from './ports.ts';
import type { StreamHandler } from './tracked-stream.ts';
import { EventChunk } from './watch-event.ts';
import type { WatchHub } from './watch-hub.ts';
import { type Interest, Watcher, type WatchSink } from './watcher.ts';

/** Watch id of answers that are about no watcher, or about all of them. */
const noWatchId = -1;

const progressJitter = 0.1;

const noEvents: readonly Uint8Array[] = [];

/** WatchResponse.fragment, field 7: true. */
const fragmentField = Uint8Array.of(56, 1);

/** Watch: any number of watchers on one stream of one client. */
export class WatchStream implements StreamHandler, WatchSink {
  readonly stopStatus: RpcStatus = etcdErrors.watchCanceled;
  congested = false;
  private readonly core: GatewayCore;
  private readonly hub: WatchHub;
  private readonly context: CallContext;
  private readonly stream: ServerStream;
  private readonly watchers = new Map<WatchId, Watcher>();
  /** In whose name each was created, while authentication was on. */
  private readonly callers = new Map<Watcher, Caller>();
  /** Of watchers that ended by themselves. As in etcd they stay taken until the client cancels them too. */
  private readonly endedIds = new Set<WatchId>();
  private nextId = 0;
  /** Requests that wait, in order: for the current revision to be known, or for the one before to be allowed. */
  private waiting: WatchRequestView[] = [];
  private checking = false;
  private progressTimer: Timer | undefined;
  private ended = false;

  constructor(core: GatewayCore, hub: WatchHub, context: CallContext, stream: ServerStream) {
    this.core = core;
    this.hub = hub;
    this.context = context;
    this.stream = stream;
    hub.streamCount++;
    stream.onMessage = (message) => this.onMessage(message);
    stream.onCancel = () => this.release();
    stream.onDrain = () => this.onDrain();
  }

  end(status: RpcStatus | null): void {
    if (this.ended) return;
    this.release();
    this.stream.end(status);
  }

  // Of the hub.

  sendEvents(watcher: Watcher, chunk: EventChunk, header: Uint8Array): void {
    watcher.busy = true;
    const limit = this.core.config.maxRequestBytes + grpcOverheadBytes;
    const id = writeWatchIdField(watcher.id);
    if (watcher.fragment && chunk.bytes >= limit && chunk.wires.length > 1)
      this.sendFragments(id, chunk, header);
    else this.sendRaw([header, id, ...chunk.pieces()]);
  }

  sendCompacted(watcher: Watcher, compactRevision: number): void {
    this.forget(watcher);
    this.endedIds.add(watcher.id);
    this.sendControl(0, watcher.id, { canceled: true, compactRevision });
  }

  // Of the client.

  private onMessage(message: Uint8Array): void {
    const request = readOr(
      () => readWatchRequest(message),
      (status) => this.end(status),
    );
    if (request === undefined || request.kind === 'none') return;
    // Answers cannot be held back like events: who asks on and on and never reads is sent away.
    if (this.congested && this.stream.queuedBytes() > 2 * this.core.config.watchQueueBytes) {
      this.end(etcdErrors.requestTooManyRequests);
      return;
    }
    if (this.waiting.length === 0 && this.hub.revision >= 0 && !this.checking) {
      this.serve(request);
      return;
    }
    if (this.waiting.length >= this.core.config.maxWaitingRequests) {
      this.end(etcdErrors.requestTooManyRequests);
      return;
    }
    this.waiting.push(request);
    if (this.waiting.length === 1 && !this.checking) this.hub.whenBased(() => this.serveWaiting());
  }

  private serveWaiting(): void {
    const waiting = this.waiting;
    this.waiting = [];
    for (const request of waiting) {
      if (this.checking) this.waiting.push(request);
      else this.serve(request);
    }
  }

  private serve(request: WatchRequestView): void {
    if (this.ended) return;
    const beganMs = this.core.nowMs();
    this.dispatch(request);
    this.hub.metrics.controlSeconds.observe((this.core.nowMs() - beganMs) / 1_000);
  }

  private dispatch(request: WatchRequestView): void {
    switch (request.kind) {
      case 'create':
        this.checkAndCreate(request.request);
        break;
      case 'cancel':
        this.cancel(request.request.watchId);
        break;
      case 'progress':
        this.hub.whenSettled(() => this.sendProgress());
        break;
      default:
    }
  }

  private checkAndCreate(request: WatchCreateRequestView): void {
    const { guard, ports } = this.core;
    const { trace } = this.context;
    const span = trace === undefined ? undefined : ports.tracer?.start('watch.create', trace);
    if (!guard.enabled || request.startRevision < 0) {
      this.create(request, undefined);
      span?.end();
      return;
    }
    this.checking = true;
    let answered = false;
    let later = false;
    guard.check(this.context, judgeOf(readRange(request)), (refusal, _, caller) => {
      answered = true;
      this.checking = false;
      if (refusal === undefined) span?.end();
      else span?.fail(refusal.message);
      if (this.ended) return;
      if (refusal === undefined) this.create(request, caller);
      else this.sendControl(this.hub.currentRevision(), noWatchId, refused(refusal, true));
      if (later) this.serveWaiting();
    });
    later = !answered;
  }

  private create(request: WatchCreateRequestView, caller: Caller | undefined): void {
    const revision = this.hub.currentRevision();
    const interest = interestOf(request);
    const reason = this.refusal(request, interest);
    if (reason !== undefined) {
      this.sendControl(revision, noWatchId, { created: true, canceled: true, cancelReason: reason });
      return;
    }
    const watcher = new Watcher(this, this.chooseId(request.watchId), this.hub.group(interest), {
      startRevision: request.startRevision,
      next: request.startRevision > 0 ? request.startRevision : revision + 1,
      progressNotify: request.progressNotify,
      fragment: request.fragment,
    });
    this.watchers.set(watcher.id, watcher);
    if (caller !== undefined) this.callers.set(watcher, caller);
    this.sendControl(revision, watcher.id, { created: true });
    this.hub.add(watcher);
    if (request.progressNotify) this.scheduleProgress();
  }

  private refusal(request: WatchCreateRequestView, interest: Interest): string | undefined {
    if (request.startRevision < 0) return etcdErrors.compacted.message;
    const { key, end } = interest;
    if (end !== undefined && end.length > 0 && compareBytes(key, end) >= 0)
      return watchCancelReasons.emptyRange;
    if (request.watchId !== 0 && this.isTaken(request.watchId)) return watchCancelReasons.duplicateId;
    return undefined;
  }

  private isTaken(id: WatchId): boolean {
    return this.watchers.has(id) || this.endedIds.has(id);
  }

  private chooseId(asked: WatchId): WatchId {
    if (asked !== 0) return asked;
    while (this.isTaken(this.nextId)) this.nextId++;
    return this.nextId++;
  }

  private cancel(id: WatchId): void {
    const watcher = this.watchers.get(id);
    if (watcher !== undefined) {
      this.forget(watcher);
      this.hub.remove(watcher);
    } else if (!this.endedIds.delete(id)) return;
    this.sendControl(this.hub.currentRevision(), id, { canceled: true });
  }

  private forget(watcher: Watcher): void {
    this.watchers.delete(watcher.id);
    this.callers.delete(watcher);
  }

  /**
   * Every watcher is judged anew, by what its user may now: unlike with etcd, a permission that was taken away ends
   * the watches that it allowed. His token may have run out meanwhile; it was good when the watch began.
   */
  onAuthChange(): void {
    const { guard } = this.core;
    for (const watcher of guard.enabled ? [...this.watchers.values()] : []) {
      const judge = judgeOf(watchedRange(watcher.group.interest));
      const caller = this.callers.get(watcher);
      if (caller === undefined) {
        // From the time before authentication: it goes on in the name that its client has given.
        guard.check(this.context, judge, (refusal, _, found) => {
          if (refusal !== undefined) this.revoke(watcher, refusal);
          else if (found !== undefined) this.callers.set(watcher, found);
        });
        continue;
      }
      const { authority } = guard;
      const refusal = judge(authority, { user: caller.user, authRevision: authority.revision });
      if (refusal !== undefined) this.revoke(watcher, refusal);
    }
  }

  private revoke(watcher: Watcher, refusal: RpcStatus): void {
    if (this.ended || this.watchers.get(watcher.id) !== watcher) return;
    this.forget(watcher);
    this.endedIds.add(watcher.id);
    this.hub.remove(watcher);
    this.sendControl(this.hub.currentRevision(), watcher.id, refused(refusal, false));
  }

  /** One answer for all watchers of the stream, and none while any of them may still have older events to come. */
  private sendProgress(): void {
    if (this.ended || this.congested || this.watchers.size === 0) return;
    for (const watcher of this.watchers.values()) if (!this.hub.isSynced(watcher)) return;
    this.sendControl(this.hub.revision, noWatchId, {});
  }

  private scheduleProgress(): void {
    if (this.progressTimer !== undefined) return;
    const jitter = 1 + (progressJitter * this.core.ports.random.u32()) / 0x1_0000_0000;
    const delayMs = this.core.config.progressNotifyIntervalMs * jitter;
    this.progressTimer = this.core.ports.timers.after(delayMs, () => {
      this.progressTimer = undefined;
      this.hub.whenSettled(() => this.notifyProgress());
    });
  }

  private notifyProgress(): void {
    if (this.ended) return;
    const beganMs = this.core.nowMs();
    this.tellProgress();
    this.hub.metrics.progressSeconds.observe((this.core.nowMs() - beganMs) / 1_000);
  }

  private tellProgress(): void {
    let wanted = false;
    for (const watcher of this.watchers.values()) {
      if (!watcher.progressNotify) continue;
      wanted = true;
      if (!watcher.busy && !this.congested && this.hub.isSynced(watcher))
        this.sendControl(this.hub.revision, watcher.id, {});
      watcher.busy = false;
    }
    if (wanted) this.scheduleProgress();
  }

  // Sending.

  private sendControl(revision: number, id: WatchId, flags: WatchResponseFlags): void {
    this.sendRaw(writeWatchResponse(this.core.header(revision), id, noEvents, flags));
  }

  /** Pieces below the limit, of one event at least; all but the last say that more follows. */
  private sendFragments(id: Uint8Array, chunk: EventChunk, header: Uint8Array): void {
    const limit = this.core.config.maxRequestBytes + grpcOverheadBytes;
    for (let i = 0; i < chunk.wires.length; ) {
      const part = new EventChunk();
      do part.add(chunk.to, chunk.wires[i++]!);
      while (i < chunk.wires.length && part.bytes + chunk.wires[i]!.length < limit);
      const more = i < chunk.wires.length ? fragmentField : emptyBytes;
      this.sendRaw([header, id, more, ...part.pieces()]);
    }
  }

  private sendRaw(message: readonly Uint8Array[]): void {
    if (this.stream.send(message)) return;
    if (this.stream.queuedBytes() > this.core.config.watchQueueBytes) this.congested = true;
  }

  private onDrain(): void {
    if (!this.congested) return;
    this.congested = false;
    this.hub.wake(this.watchers.values());
  }

  private release(): void {
    this.ended = true;
    this.hub.streamCount--;
    this.progressTimer?.cancel();
    for (const watcher of this.watchers.values()) this.hub.remove(watcher);
    this.watchers.clear();
    this.callers.clear();
    this.waiting = [];
  }
}

/** Keys are copied: they outlive the message. An empty key is the smallest one. */
function interestOf(request: WatchCreateRequestView): Interest {
  const { rangeEnd } = request;
  const open = rangeEnd.length === 1 && rangeEnd[0] === 0;
  return {
    key: request.key.length === 0 ? new Uint8Array(1) : copyBytes(request.key),
    end: rangeEnd.length === 0 ? undefined : open ? emptyBytes : copyBytes(rangeEnd),
    noPut: request.noPut,
    noDelete: request.noDelete,
    prevKv: request.prevKv,
  };
}

interface WatchedRange {
  readonly key: Uint8Array;
  readonly rangeEnd: Uint8Array;
}

function readRange(request: WatchCreateRequestView): WatchedRange {
  const { key, rangeEnd } = request;
  return { key: key.length === 0 ? new Uint8Array(1) : copyBytes(key), rangeEnd: copyBytes(rangeEnd) };
}

function watchedRange(interest: Interest): WatchedRange {
  const { key, end } = interest;
  if (end === undefined) return { key, rangeEnd: emptyBytes };
  return { key, rangeEnd: end.length === 0 ? new Uint8Array(1) : end };
}

function judgeOf(range: WatchedRange) {
  return (authority: Authority, caller: Caller | undefined): RpcStatus | undefined =>
    rangeDenied(authority, caller ?? { user: '', authRevision: 0 }, range);
}

/** As Go writes an error of gRPC. What is none of these four is a refusal, whatever it was. */
function refused(refusal: RpcStatus, created: boolean): WatchResponseFlags {
  const known = [etcdErrors.invalidAuthToken, etcdErrors.authOldRevision, etcdErrors.userEmpty];
  const { code, message } =
    known.find((each) => each.message === refusal.message) ?? etcdErrors.permissionDenied;
  return { created, canceled: true, cancelReason: `rpc error: code = ${codeName(code)} desc = ${message}` };
}
