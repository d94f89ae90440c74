import type { Timer } from '@quoin/base';
import { Code, etcdErrors, type RpcStatus } from '@quoin/contracts';
import type { GatewayCore } from './core.ts';
import type { ApiMetrics, RpcCounts } from './metrics.ts';
import type { ServerStream } from './ports.ts';

/** The server's logic of one stream. */
export interface StreamHandler {
  /** How the stream ends when the gateway stops. */
  readonly stopStatus: RpcStatus;
  /** Gives up what it holds and ends the stream. */
  end(status: RpcStatus | null): void;
  /** Who may do what has changed. */
  onAuthChange?(): void;
}

/** etcd's names of watch and lease-keepalive. */
function streamName(rpc: string): string {
  return rpc === 'LeaseKeepAlive' ? 'lease-keepalive' : rpc.toLowerCase();
}

const ignore = (): void => undefined;

/**
 * A client's stream with what is common to all of them: counting, ending once, and ending when its client asked for a
 * leader (metadata `hasleader`) and none has been known for too long.
 */
export class TrackedStream implements ServerStream {
  handler: StreamHandler | undefined;
  onMessage: (message: Uint8Array) => void = ignore;
  onHalfClose: () => void = ignore;
  onCancel: () => void = ignore;
  onDrain: () => void = ignore;
  private readonly core: GatewayCore;
  private readonly inner: ServerStream;
  private readonly metrics: ApiMetrics;
  private readonly counts: RpcCounts;
  private readonly wantsLeader: boolean;
  private readonly onEnd: () => void;
  private noLeaderTimer: Timer | undefined;
  private ended = false;

  constructor(
    core: GatewayCore,
    inner: ServerStream,
    metrics: ApiMetrics,
    counts: RpcCounts,
    wantsLeader: boolean,
    onEnd: () => void,
  ) {
    this.core = core;
    this.inner = inner;
    this.metrics = metrics;
    this.counts = counts;
    this.wantsLeader = wantsLeader;
    this.onEnd = onEnd;
    inner.onMessage = (message) => {
      if (this.ended) return;
      counts.received++;
      metrics.receivedBytes += message.length;
      this.onMessage(message);
    };
    inner.onHalfClose = () => {
      if (!this.ended) this.onHalfClose();
    };
    inner.onDrain = () => {
      if (!this.ended) this.onDrain();
    };
    inner.onCancel = () => {
      if (this.ended) return;
      this.finish(1);
      this.onCancel();
    };
  }

  send(message: readonly Uint8Array[]): boolean {
    if (this.ended) return false;
    this.counts.sent++;
    for (let i = 0; i < message.length; i++) this.metrics.sentBytes += message[i]!.length;
    return this.inner.send(message);
  }

  queuedBytes(): number {
    return this.inner.queuedBytes();
  }

  hold(on: boolean): void {
    this.inner.hold?.(on);
  }

  end(status: RpcStatus | null): void {
    if (this.ended) return;
    this.finish(status?.code ?? 0);
    // Bytes that are no message.
    if (status?.code === Code.internal)
      this.metrics.streamFailures.inc(['receive', streamName(this.counts.rpc.name)]);
    this.inner.end(status);
  }

  /** The leader, or who is reachable, has changed. */
  onView(): void {
    if (!this.wantsLeader || this.ended) return;
    if (this.core.router.leader !== 0n) {
      this.noLeaderTimer?.cancel();
      this.noLeaderTimer = undefined;
      return;
    }
    this.noLeaderTimer ??= this.core.ports.timers.after(this.core.config.noLeaderTimeoutMs, () => {
      this.handler?.end(etcdErrors.noLeader);
    });
  }

  private finish(code: number): void {
    this.ended = true;
    this.noLeaderTimer?.cancel();
    this.counts.end(code);
    this.onEnd();
  }
}
