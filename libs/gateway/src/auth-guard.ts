/**
 * Who a client is and what he may, as far as a gateway can tell. Members tell it who may do what (an AuthView with
 * every change, before anything that came after that change) and, once for each token, whose it is. Neither password
 * hashes nor the key of tokens ever get here.
 *
 *   call ──► token known? ──► allowed by the view? ──► sent on, in the name of a fresh token of the same user
 *               │ no                  │ no
 *               ▼                     ▼
 *            identify             authSync: is the view as new as the call?  one question at a time for all who wait
 *            (home member)            └──► judged once more, and that counts
 *
 * Members judge again for themselves: what is refused here only spares them the work. Watches alone have no other
 * judge, and are judged anew with every change of the view.
 */
import { etcdErrors, Method, type RpcStatus } from '@quoin/contracts';
import {
  Authority,
  type AuthView,
  type Caller,
  decodeAuthView,
  decodeIdentity,
  encodeIdentifyRequest,
  noAuth,
  ruleOf,
} from '@quoin/contracts/auth';
import type { GatewayConfig } from './config.ts';
import { tokenOf } from './credentials.ts';
import type { MemberRouter } from './member-router.ts';
import type { CallContext, GatewayPorts } from './ports.ts';

/** What a request is sent on with. */
export interface Credential {
  readonly token: string;
  readonly certUser: string;
}

/** Why a caller may not; undefined: he may. */
export type Judge = (authority: Authority, caller: Caller | undefined) => RpcStatus | undefined;

export type Verdict = (
  refusal: RpcStatus | undefined,
  credential: Credential,
  caller: Caller | undefined,
) => void;

interface Known {
  readonly caller: Caller;
  /** Of the same user and younger than the client's: what is sent on. */
  readonly token: string;
  readonly expiresMs: number;
  readonly renewMs: number;
  /** The view that it was asked under. */
  readonly version: number;
}

type Identified = (
  caller: Caller | undefined,
  credential: Credential,
  problem: RpcStatus | undefined,
) => void;

/** Using a token in this last part of its life or later has it renewed: its TTL counts from its last use. */
const renewAfter = 0.05;
const nobody: Credential = { token: '', certUser: '' };

export class AuthGuard {
  authority: Authority = noAuth;
  private view: AuthView | undefined;
  private readonly config: GatewayConfig;
  private readonly ports: GatewayPorts;
  private readonly router: () => MemberRouter;
  private readonly onChange: () => void;
  private readonly known = new Map<string, Known>();
  private readonly asking = new Map<string, Identified[]>();
  private syncing = false;
  private waitingForSync: (() => void)[] = [];

  constructor(config: GatewayConfig, ports: GatewayPorts, router: () => MemberRouter, onChange: () => void) {
    this.config = config;
    this.ports = ports;
    this.router = router;
    this.onChange = onChange;
  }

  get enabled(): boolean {
    return this.authority.enabled;
  }

  /** Of any member: the newest counts. @throws WireError */
  onView(bytes: Uint8Array): void {
    const view = decodeAuthView(bytes, this.view);
    const { version } = this.authority;
    if (this.authority !== noAuth && view.version <= version) return;
    this.view = view;
    this.authority = new Authority(view, this.authority);
    if (view.version !== version) this.onChange();
  }

  /** True when requests of that method are passed on as they came. */
  passes(method: number): boolean {
    if (!this.authority.enabled) return true;
    const rule = ruleOf(method);
    return rule === 'open' || rule === 'link';
  }

  /** The caller as he is known here; for logs and limits, not for decisions. */
  callerName(context: CallContext): string {
    const token = tokenOf(context);
    if (token === '') return context.certUser ?? '';
    return this.known.get(token)?.caller.user ?? '';
  }

  /** `verdict` is called once, perhaps before this returns. */
  check(context: CallContext, judge: Judge, verdict: Verdict): void {
    this.identify(context, (caller, credential, problem) => {
      const refusal = problem ?? judge(this.authority, caller);
      if (refusal === undefined) verdict(undefined, credential, caller);
      else this.sync(() => this.judgeAgain(context, judge, verdict));
    });
  }

  private judgeAgain(context: CallContext, judge: Judge, verdict: Verdict): void {
    // Who he is was said by a member that may have been behind, or before the token was taken back: it is asked again.
    this.known.delete(tokenOf(context));
    if (!this.authority.enabled) return passAsHeCame(context, verdict);
    this.identify(context, (caller, credential, problem) => {
      // Authentication may have ended under way: no token is valid then, and none is needed.
      if (!this.authority.enabled) passAsHeCame(context, verdict);
      else verdict(problem ?? judge(this.authority, caller), credential, caller);
    });
  }

  private identify(context: CallContext, done: Identified): void {
    const token = tokenOf(context);
    if (token === '') {
      const user = context.certUser ?? '';
      const caller = user === '' ? undefined : { user, authRevision: this.authority.revision };
      done(caller, { token: '', certUser: user }, undefined);
      return;
    }
    const known = this.known.get(token);
    const nowMs = this.ports.clock.monotonicMs();
    if (known === undefined || known.expiresMs <= nowMs || known.version !== this.authority.version) {
      this.ask(token, done);
      return;
    }
    if (nowMs >= known.renewMs && !this.asking.has(token)) this.ask(token, () => undefined);
    done(known.caller, { token: known.token, certUser: '' }, undefined);
  }

  private ask(token: string, done: Identified): void {
    const others = this.asking.get(token);
    if (others !== undefined) {
      others.push(done);
      return;
    }
    if (this.asking.size >= this.config.maxIdentifying) {
      done(undefined, nobody, etcdErrors.requestTooManyRequests);
      return;
    }
    const waiting = [done];
    this.asking.set(token, waiting);
    const { version } = this.authority;
    const asked = this.known.get(token)?.token ?? token;
    const deadlineMs = this.ports.clock.monotonicMs() + this.config.requestTimeoutMs;
    this.router().request({
      method: Method.identify,
      body: encodeIdentifyRequest(version).slice(),
      target: 'home',
      resend: true,
      deadlineMs,
      clientDeadlineMs: deadlineMs,
      trace: undefined,
      token: asked,
      done: (status, pieces) => {
        this.asking.delete(token);
        if (status === null) this.learn(token, asked, version, pieces[0]!);
        else this.known.delete(token);
        const known = this.known.get(token);
        for (const each of waiting) {
          if (known === undefined) each(undefined, nobody, status ?? etcdErrors.invalidAuthToken);
          else each(known.caller, { token: known.token, certUser: '' }, undefined);
        }
      },
    });
  }

  private learn(token: string, asked: string, version: number, body: Uint8Array): void {
    const identity = decodeIdentity(body);
    const nowMs = this.ports.clock.monotonicMs();
    this.known.delete(token);
    if (this.known.size >= this.config.maxIdentities) {
      const oldest = this.known.keys().next();
      if (oldest.done !== true) this.known.delete(oldest.value);
    }
    this.known.set(token, {
      caller: { user: identity.user, authRevision: identity.authRevision },
      token: identity.token === '' ? asked : identity.token,
      expiresMs: nowMs + identity.ttlMs,
      renewMs: nowMs + identity.ttlMs * renewAfter,
      version,
    });
  }

  /** Calls back once the view is as new as anything that was acknowledged before this call; or could not be made so. */
  private sync(done: () => void): void {
    this.waitingForSync.push(done);
    if (this.syncing) return;
    this.syncing = true;
    // At the end of the turn, so that one question serves all of the turn.
    this.ports.timers.endOfTurn(() => this.startSync());
  }

  private startSync(): void {
    const waiting = this.waitingForSync;
    this.waitingForSync = [];
    const deadlineMs = this.ports.clock.monotonicMs() + this.config.requestTimeoutMs;
    this.router().request({
      method: Method.authSync,
      body: emptyBody,
      target: 'home',
      resend: true,
      deadlineMs,
      clientDeadlineMs: deadlineMs,
      trace: undefined,
      token: '',
      done: () => {
        // Without an answer what is known here stands: it refuses.
        for (const each of waiting) each();
        if (this.waitingForSync.length > 0) this.startSync();
        else this.syncing = false;
      },
    });
  }
}

function passAsHeCame(context: CallContext, verdict: Verdict): void {
  verdict(undefined, { token: tokenOf(context), certUser: context.certUser ?? '' }, undefined);
}

const emptyBody = new Uint8Array(0);
