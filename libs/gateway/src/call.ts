import type { Method } from '@quoin/contracts';
import type { PartedAnswer } from './answer-rest.ts';
import type { CallTrace } from './call-trace.ts';
import type { MemberLink } from './member-link.ts';
import type { UnaryReply } from './ports.ts';

/** Which member a request is for: the one that leads, or the one this gateway reads from. */
export type Target = 'leader' | 'home';

export const CallState = { waiting: 0, queued: 1, sent: 2, done: 3 } as const;
export type CallState = (typeof CallState)[keyof typeof CallState];

export interface CallOptions {
  readonly method: Method;
  readonly body: Uint8Array;
  readonly target: Target;
  /** It has no effect, or the same one when it happens twice. A mutation that may have left is never sent again. */
  readonly resend: boolean;
  /** Monotonic ms by which the answer has to begin; Infinity: none. */
  readonly deadlineMs: number;
  /** Monotonic ms at which the client gives up, once the answer has begun; Infinity: never. */
  readonly clientDeadlineMs: number;
  /** When the call is sampled. */
  readonly trace: CallTrace | undefined;
  readonly token: string;
  readonly certUser?: string;
  /** The gateway asks for itself. */
  readonly own?: boolean;
  /** Only this member will do: without it the call fails as one whose link was lost. */
  readonly pin?: MemberLink | undefined;
  /** Called once, unless the call is cancelled. With `onPart`, `pieces` is empty. */
  readonly done: UnaryReply;
  /** Takes each part of an answer as it comes; credit for it must be given by the taker. */
  readonly onPart?: ((body: Uint8Array) => void) | undefined;
  /** A large answer is given to `done` when it begins. */
  readonly takesParts?: boolean;
}

/**
 * One request on its way through the router.
 *
 *              no member to send to                  flush of the link
 *     ┌─────────┐  ────────────▶  ┌────────┐       ┌──────┐   reply, deadline, cancel, link lost   ┌──────┐
 *     │ waiting │  ◀────────────  │ queued │ ────▶ │ sent │ ─────────────────────────────────────▶ │ done │
 *     └─────────┘   link lost     └────────┘       └──────┘                                        └──────┘
 *          ▲                                          │
 *          └──────────── not taken; link lost and `resend` ──────┘
 *
 * Only `waiting` and `queued` are certain never to have left this process.
 */
export class Call {
  readonly method: Method;
  body: Uint8Array;
  readonly target: Target;
  readonly resend: boolean;
  deadlineMs: number;
  readonly clientDeadlineMs: number;
  readonly trace: CallTrace | undefined;
  token: string;
  certUser: string;
  readonly own: boolean;
  readonly pin: MemberLink | undefined;
  readonly done: UnaryReply;
  readonly onPart: ((body: Uint8Array) => void) | undefined;
  readonly takesParts: boolean;
  state: CallState;
  link: MemberLink | undefined;
  /** On `link`, once sent. */
  id: number;
  /** Position in the router's list of live calls. */
  slot: number;
  parts: Uint8Array[] | undefined;
  /** The rest of an answer that `done` was given the beginning of. */
  rest: PartedAnswer | undefined;
  /** Any part has been handed to `onPart`: the answer cannot begin anew. */
  begun: boolean;
  /** The member that would not take it last, and how many have since the last pause. */
  refusedBy: bigint | undefined;
  refusals: number;

  constructor(options: CallOptions) {
    this.method = options.method;
    this.body = options.body;
    this.target = options.target;
    this.resend = options.resend;
    this.deadlineMs = options.deadlineMs;
    this.clientDeadlineMs = options.clientDeadlineMs;
    this.trace = options.trace;
    this.token = options.token;
    this.certUser = options.certUser ?? '';
    this.own = options.own ?? false;
    this.pin = options.pin;
    this.done = options.done;
    this.onPart = options.onPart;
    this.takesParts = options.takesParts ?? false;
    this.state = CallState.waiting;
    this.link = undefined;
    this.id = 0;
    this.slot = -1;
    this.parts = undefined;
    this.rest = undefined;
    this.begun = false;
    this.refusedBy = undefined;
    this.refusals = 0;
  }
}
