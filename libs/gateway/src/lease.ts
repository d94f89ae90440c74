import { Deque } from '@quoin/base';
import { etcdErrors, Method, type RpcStatus, readLeaseKeepAliveRequest } from '@quoin/contracts';
import type { Call } from './call.ts';
import { type Forward, type GatewayCore, readOr } from './core.ts';
import type { CallContext, ServerStream } from './ports.ts';
import type { StreamHandler } from './tracked-stream.ts';

interface Slot {
  call: Call | undefined;
  answered: boolean;
  status: RpcStatus | null;
  pieces: readonly Uint8Array[];
}

// Renewing twice is the same as renewing once, so a lost one may be sent again.
const renewal: Forward = { method: Method.leaseKeepAlive, target: 'leader', resend: true, bounded: true };

/**
 * LeaseKeepAlive: each request goes to the leader by itself — all of a turn share one link message — and answers leave in
 * the order of the requests. The first one that fails ends the stream with its error, as in etcd. A client may keep any
 * number of leases alive over one stream: beyond `keepAlivesAtOnce` it has to wait, as etcd makes it wait from the second on.
 */
export class KeepAliveStream implements StreamHandler {
  readonly stopStatus: RpcStatus = etcdErrors.stopped;
  private readonly core: GatewayCore;
  private readonly context: CallContext;
  private readonly stream: ServerStream;
  private readonly slots = new Deque<Slot>();
  private halfClosed = false;
  private holding = false;
  private ended = false;

  constructor(core: GatewayCore, context: CallContext, stream: ServerStream) {
    this.core = core;
    this.context = context;
    this.stream = stream;
    stream.onMessage = (message) => this.onRequest(message);
    stream.onHalfClose = () => {
      this.halfClosed = true;
      this.flush();
    };
    stream.onCancel = () => this.release();
    stream.onDrain = () => this.pace();
  }

  end(status: RpcStatus | null): void {
    if (this.ended) return;
    this.release();
    this.stream.end(status);
  }

  private onRequest(message: Uint8Array): void {
    if (this.ended) return;
    if (
      readOr(
        () => readLeaseKeepAliveRequest(message),
        (status) => this.end(status),
      ) === undefined
    )
      return;
    const { maxKeepAlivesPerStream, watchQueueBytes } = this.core.config;
    if (this.slots.length >= maxKeepAlivesPerStream || this.stream.queuedBytes() > watchQueueBytes) {
      this.end(etcdErrors.requestTooManyRequests);
      return;
    }
    const slot: Slot = { call: undefined, answered: false, status: null, pieces: [] };
    this.slots.push(slot);
    this.pace();
    slot.call = this.core.forward(renewal, message, this.context, (status, pieces) => {
      slot.answered = true;
      slot.status = status;
      slot.pieces = pieces;
      this.flush();
    });
  }

  private flush(): void {
    while (!this.ended) {
      const slot = this.slots.at(0);
      if (slot === undefined) {
        if (this.halfClosed) this.end(null);
        return;
      }
      if (!slot.answered) return;
      this.slots.shift();
      if (slot.status !== null) this.end(slot.status);
      else this.stream.send(slot.pieces);
      this.pace();
    }
  }

  private pace(): void {
    const { keepAlivesAtOnce, watchQueueBytes } = this.core.config;
    const queuedBytes = this.stream.queuedBytes();
    const full = this.slots.length >= keepAlivesAtOnce || queuedBytes * 2 > watchQueueBytes;
    const low = this.slots.length * 2 <= keepAlivesAtOnce && queuedBytes * 4 <= watchQueueBytes;
    if (this.holding ? !low : !full) return;
    this.holding = !this.holding;
    this.stream.hold?.(this.holding);
  }

  private release(): void {
    this.ended = true;
    for (let slot = this.slots.shift(); slot !== undefined; slot = this.slots.shift()) {
      if (slot.call !== undefined) this.core.router.cancel(slot.call);
    }
  }
}
