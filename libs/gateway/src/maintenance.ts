import { decodeRequest, etcdErrors, Method, type RpcStatus } from '@quoin/contracts';
import { SnapshotRequestSchema } from '@quoin/contracts/etcd';
import type { Call } from './call.ts';
import { type Forward, type GatewayCore, readOr } from './core.ts';
import type { CallContext, ServerStream } from './ports.ts';
import type { StreamHandler } from './tracked-stream.ts';

const snapshot: Forward = { method: Method.snapshot, target: 'home', resend: true, bounded: false };

/**
 * Maintenance.Snapshot: the member's parts are encoded SnapshotResponses and pass through. The member is given credit
 * for a part only once the client has taken it, so that a slow client holds back the member and not this process.
 */
export class SnapshotStream implements StreamHandler {
  readonly stopStatus: RpcStatus = etcdErrors.stopped;
  private readonly core: GatewayCore;
  private readonly context: CallContext;
  private readonly stream: ServerStream;
  private call: Call | undefined;
  private owedBytes = 0;
  private ended = false;

  constructor(core: GatewayCore, context: CallContext, stream: ServerStream) {
    this.core = core;
    this.context = context;
    this.stream = stream;
    stream.onMessage = (request) => this.onRequest(request);
    stream.onCancel = () => this.release();
    stream.onDrain = () => this.giveCredit();
  }

  end(status: RpcStatus | null): void {
    if (this.ended) return;
    this.release();
    this.stream.end(status);
  }

  private onRequest(request: Uint8Array): void {
    if (this.call !== undefined || this.ended) return;
    const read = readOr(
      () => decodeRequest(SnapshotRequestSchema, request),
      (status) => this.end(status),
    );
    if (read === undefined) return;
    this.call = this.core.forward(
      snapshot,
      request,
      this.context,
      (status) => this.end(status),
      (part) => {
        this.owedBytes += part.length;
        if (this.stream.send([part])) this.giveCredit();
      },
    );
  }

  private giveCredit(): void {
    if (this.call === undefined || this.ended) return;
    this.core.router.credit(this.call, this.owedBytes);
    this.owedBytes = 0;
  }

  private release(): void {
    this.ended = true;
    if (this.call !== undefined) this.core.router.cancel(this.call);
  }
}
