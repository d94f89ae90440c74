import { type Clock, type Log, RateLimit, traceIdOf } from '@quoin/base';
import { codeName, type RpcStatus } from '@quoin/contracts';
import type { CallContext } from './ports.ts';

/** One line for each kind in so much time; the others are counted. */
const intervalMs = 5_000;

/** Says which requests took long; where in the cluster their time went is in the log of their member. */
export class SlowRequests {
  private readonly clock: Clock;
  private readonly sink: Log;
  private readonly expectedMs: number;
  private readonly userOf: (context: CallContext) => string;
  private readonly limit = new RateLimit(intervalMs);

  constructor(clock: Clock, sink: Log, expectedMs: number, userOf: (context: CallContext) => string) {
    this.clock = clock;
    this.sink = sink;
    this.expectedMs = expectedMs;
    this.userOf = userOf;
  }

  /** `path` is one of those that are served, so there are not many. */
  log(
    path: string,
    request: Uint8Array,
    context: CallContext,
    status: RpcStatus | null,
    durationMs: number,
  ): void {
    const repeated = this.limit.pass(path, this.clock.monotonicMs());
    if (repeated === undefined) return;
    const user = this.userOf(context);
    this.sink.warn('slow request: the log of the leader says where its time went', {
      rpc: path,
      'duration-ms': durationMs,
      'expected-duration-ms': this.expectedMs,
      'request-bytes': request.length,
      code: status === null ? 'OK' : codeName(status.code),
      remote: context.peer,
      ...(user === '' ? {} : { user }),
      ...(context.trace === undefined ? {} : { trace_id: traceIdOf(context.trace) }),
      repeated,
    });
  }
}
