import { type Span, SpanKind, type Tracer } from '@quoin/base';
import type { RpcStatus } from '@quoin/contracts';

/**
 * The spans of one sampled call through the gateway:
 *
 *     gateway.route ─ from here until it is answered
 *       ├ gateway.auth   held until it is known that the caller may
 *       ├ gateway.queue  until it leaves on a link
 *       └ link           until its answer is back; what the member does lies below it
 */
export class CallTrace {
  private readonly tracer: Tracer;
  private readonly route: Span;
  private link: Span | undefined;
  private queuedMs: number;

  constructor(tracer: Tracer, parent: Uint8Array) {
    this.tracer = tracer;
    this.route = tracer.start('gateway.route', parent);
    this.queuedMs = this.route.startMs;
  }

  /** The caller may. */
  permitted(nowMs: number): void {
    this.tracer.record('gateway.auth', this.route.context, this.queuedMs, nowMs);
    this.queuedMs = nowMs;
  }

  /** It leaves: the context that goes with it. */
  sent(): Uint8Array {
    const link = this.tracer.start('link', this.route.context, SpanKind.client);
    this.link = link;
    this.tracer.record('gateway.queue', this.route.context, this.queuedMs, link.startMs);
    return link.context;
  }

  /** It came back without an answer and waits again. */
  returned(reason: string, nowMs: number): void {
    this.link?.fail(reason);
    this.link = undefined;
    this.queuedMs = nowMs;
  }

  end(status: RpcStatus | null): void {
    if (status === null) this.link?.end();
    else this.link?.fail(status.message);
    if (status === null) this.route.end();
    else this.route.fail(status.message);
  }
}
