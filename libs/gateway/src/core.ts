import {
  type Method,
  malformedRequest,
  type ResponseHeader,
  type RpcStatus,
  WireError,
} from '@quoin/contracts';
import { authorise } from '@quoin/contracts/auth';
import type { AuthGuard } from './auth-guard.ts';
import { type Call, type CallOptions, CallState, type Target } from './call.ts';
import { CallTrace } from './call-trace.ts';
import type { GatewayConfig } from './config.ts';
import { tokenOf } from './credentials.ts';
import type { MemberRouter } from './member-router.ts';
import type { CallContext, GatewayPorts, UnaryReply } from './ports.ts';

/** One forwarded request. */
export interface Forward {
  readonly method: Method;
  readonly target: Target;
  readonly resend: boolean;
  /** False: it may take as long as its client waits. */
  readonly bounded: boolean;
}

/** What every service of the gateway works with. */
export class GatewayCore {
  readonly config: GatewayConfig;
  readonly ports: GatewayPorts;
  readonly router: MemberRouter;
  readonly guard: AuthGuard;

  constructor(config: GatewayConfig, ports: GatewayPorts, router: MemberRouter, guard: AuthGuard) {
    this.config = config;
    this.ports = ports;
    this.router = router;
    this.guard = guard;
  }

  /** For answers that need nobody else: never before the call has returned. */
  later(fn: () => void): void {
    this.ports.timers.endOfTurn(fn);
  }

  nowMs(): number {
    return this.ports.clock.monotonicMs();
  }

  /** Header of an answer that the gateway makes itself: who would have answered. */
  header(revision: number): ResponseHeader {
    const { router } = this;
    const state = router.home?.state;
    return {
      clusterId: router.clusterId(),
      memberId: router.home?.memberId ?? 0n,
      revision,
      raftTerm: state?.term ?? router.term,
    };
  }

  forward(
    what: Forward,
    body: Uint8Array,
    context: CallContext,
    done: UnaryReply,
    onPart?: (part: Uint8Array) => void,
    takesParts = false,
  ): Call {
    const clientMs = context.deadlineMs ?? Number.POSITIVE_INFINITY;
    const own = context.own === true;
    const passes = own || this.guard.passes(what.method);
    const { tracer } = this.ports;
    const trace =
      context.trace === undefined || tracer === undefined ? undefined : new CallTrace(tracer, context.trace);
    const options = {
      method: what.method,
      body,
      target: what.target,
      resend: what.resend,
      deadlineMs: what.bounded ? Math.min(clientMs, this.nowMs() + this.config.requestTimeoutMs) : clientMs,
      clientDeadlineMs: clientMs,
      trace,
      token: tokenOf(context),
      certUser: context.certUser ?? '',
      own,
      done,
      onPart,
      takesParts,
    };
    return passes ? this.router.request(options) : this.forwardChecked(options, context);
  }

  /** Held until it is known that the caller may. */
  private forwardChecked(options: CallOptions, context: CallContext): Call {
    const { method, body } = options;
    const call = this.router.hold(options);
    this.guard.check(
      context,
      (authority, caller) => authorise(authority, caller, method, body, undefined),
      (refusal, credential) => {
        if (refusal !== undefined) {
          this.later(() => this.router.refuseHeld(call, refusal));
          return;
        }
        call.trace?.permitted(this.nowMs());
        call.token = credential.token;
        call.certUser = credential.certUser;
        if (call.state !== CallState.done) this.router.release(call);
      },
    );
    return call;
  }
}

export function wantsLeader(context: CallContext): boolean {
  return context.metadata('hasleader') === 'true';
}

/** Runs a reader over bytes that a client sent: its complaint is the client's answer. */
export function readOr<T>(read: () => T, refuse: (status: RpcStatus) => void): T | undefined {
  try {
    return read();
  } catch (error) {
    if (!(error instanceof WireError)) throw error;
    refuse(malformedRequest(error.message));
    return undefined;
  }
}
