/**
 * While users, roles and grants change, each answer agrees with the rights that were in force at some place in the log:
 *
 *     begin ─────────────────────────────► end
 *       │ floor: the newest position that     │ served: allowed in one of the states in between (a read: in one that has the
 *       │ anybody had been told of            │ revision which its header names); refused: for a reason that one of them gives
 *
 * Of a mutation that was applied the witness knows the one place that counts. One that was refused never happens, before or after.
 * A serializable read may be served by any state that there was, since a member that lags has no newer one; refused it is as any other.
 */
import { etcdErrors, type Proposal, type RpcStatus } from '@quoin/contracts';
import { readHeader } from '../etcd-messages.ts';
import { simPasswordHash } from '../passwords.ts';
import { type AuthState, keysProblem, rootProblem } from './auth-model.ts';
import { type Ending, type Operation, show } from './history.ts';
import type { Applied, Violation, Witness } from './witness.ts';

/** What a login gave. Which state the token is of is not known more closely than by these. */
export interface Session {
  readonly token: string;
  readonly firstPosition: number;
  readonly lastPosition: number;
  readonly begunMs: number;
}

/** In whose name calls are made: by certificate, or with the token of a session. */
export interface Identity {
  readonly user: string;
  readonly session: Session | undefined;
}

export const nobody: Identity = { user: '', session: undefined };

interface Asked {
  readonly by: Identity;
  /** Answered so that it must never happen. */
  refused: boolean;
}

export interface RightsOptions {
  readonly witness: Witness;
  readonly nowMs: () => number;
  /** A token may be refused so long after its login; 0: at any time, since clocks jump. */
  readonly tokenMs: number;
  readonly violation: Violation;
}

/** Refusals for want of rights, or of knowing who asks. */
const refusals = new Map(
  [
    etcdErrors.userEmpty,
    etcdErrors.userNotFound,
    etcdErrors.permissionDenied,
    etcdErrors.invalidAuthToken,
    etcdErrors.authOldRevision,
  ].map((status) => [status.message, status]),
);

type Answer = RpcStatus | undefined;

export class RightsChecker {
  /** Answers to ordinary users. */
  allowed = 0;
  denied = 0;
  logins = 0;
  private readonly asked = new Map<number, Asked>();
  private readonly options: RightsOptions;

  constructor(options: RightsOptions) {
    this.options = options;
  }

  begins({ number }: Operation, by: Identity): void {
    this.asked.set(number, { by, refused: false });
  }

  /** At the first apply of a client's proposal; the model has judged it by the user that it names. */
  applied(operation: Operation, { user }: Proposal, applied: Applied): void {
    const asked = this.asked.get(operation.number);
    if (asked === undefined) return;
    const { violation, witness } = this.options;
    if (user !== '' && user !== asked.by.user) {
      violation(`${show(operation)} of ${asked.by.user} is in the log as of ${user}`);
    }
    if (isRefused(applied)) return;
    if (asked.refused) violation(`${show(operation)} was refused, it takes effect at ${applied.position}`);
    const state = witness.auth.at(applied.position - 1);
    if (state.enabled && validity(state, asked.by) === 'void') {
      violation(
        `${show(operation)} takes effect at ${applied.position}, its token of ${asked.by.user} is void`,
      );
    }
  }

  ended(operation: Operation, ending: Ending): void {
    const asked = this.asked.get(operation.number);
    if (asked === undefined || ending.kind === 'lost') return;
    const isOrdinary = asked.by.user !== 'root';
    if (ending.kind === 'ok') {
      if (isOrdinary) this.allowed++;
      if (operation.name === 'range') this.served(operation, ending.body, asked.by);
    } else if (refusals.has(ending.status.message)) {
      if (isOrdinary) this.denied++;
      this.refused(operation, ending.status, asked);
    }
  }

  /** An answer of Authenticate with that password. */
  loginEnded(operation: Operation, name: string, password: string, ending: Ending): void {
    if (ending.kind === 'lost') return;
    const hash = simPasswordHash(password);
    const states = this.states(operation);
    const isRight = (state: AuthState): boolean => state.enabled && state.users.get(name)?.hash === hash;
    if (ending.kind === 'ok') {
      this.logins++;
      if (states.some(isRight)) return;
      this.options.violation(`${show(operation)} of ${name}: a token for a wrong password`);
    }
    const { message } = ending.status;
    if (
      message === etcdErrors.authFailed.message &&
      states.every((state) => !state.enabled || isRight(state))
    ) {
      this.options.violation(`${show(operation)} of ${name}: the password was right`);
    }
    if (message === etcdErrors.authNotEnabled.message && states.every((state) => state.enabled)) {
      this.options.violation(`${show(operation)} of ${name}: authentication was on`);
    }
  }

  private states(operation: Operation, floor = operation.floorPosition): readonly AuthState[] {
    const { witness } = this.options;
    return witness.auth.between(floor, witness.position);
  }

  private served(operation: Operation, body: Uint8Array, by: Identity): void {
    const { violation, witness } = this.options;
    const { revision } = readHeader(body);
    const first = witness.positionOf(revision);
    const last = witness.positionOf(revision + 1) - 1;
    const floor = operation.kind === 'serializableRead' ? 0 : operation.floorPosition;
    // A revision below the floor is the affair of the history.
    const states = witness.auth.between(Math.max(first, floor), Math.max(last, floor));
    if (states.some((state) => this.answers(state, by, operation).includes(undefined))) return;
    violation(
      `${show(operation)} of ${by.user} was served at revision ${revision}: ${this.tell(states, by, operation)}`,
    );
  }

  private refused(operation: Operation, status: RpcStatus, asked: Asked): void {
    const { violation, witness } = this.options;
    const applied = witness.applied.get(operation.number);
    const { message } = status;
    if (applied !== undefined) {
      if (isRefused(applied) && applied.outcome.status.message === message) return;
      violation(`${show(operation)} ended with "${message}", it has taken effect at ${applied.position}`);
    }
    asked.refused = true;
    const states = this.states(operation);
    const { by } = asked;
    if (
      states.some((state) => this.answers(state, by, operation).some((answer) => answer?.message === message))
    )
      return;
    if (message === etcdErrors.invalidAuthToken.message && this.mayHaveExpired(by)) return;
    if (message === etcdErrors.authOldRevision.message && states[0]!.revision < states.at(-1)!.revision)
      return;
    violation(
      `${show(operation)} of ${by.user} ended with "${message}": ${this.tell(states, by, operation)}`,
    );
  }

  /** What it may be answered in that state. */
  private answers(state: AuthState, by: Identity, operation: Operation): readonly Answer[] {
    if (!state.enabled) return [undefined];
    const valid = validity(state, by);
    if (valid === 'void') return [etcdErrors.invalidAuthToken];
    const { name, request } = operation;
    const isKeys = name === 'range' || name === 'put' || name === 'delete' || name === 'txn';
    const answer = isKeys ? keysProblem(state, by.user, name, request) : rootProblem(state, by.user);
    return valid === 'valid' ? [answer] : [answer, etcdErrors.invalidAuthToken];
  }

  private mayHaveExpired({ session }: Identity): boolean {
    const { nowMs, tokenMs } = this.options;
    return session !== undefined && nowMs() - session.begunMs >= tokenMs;
  }

  private tell(states: readonly AuthState[], by: Identity, operation: Operation): string {
    const each = states.map((state) => {
      const answers = this.answers(state, by, operation).map((answer) => answer?.message ?? 'allowed');
      return `${answers.join(' or ')} since ${state.since}`;
    });
    return `${each.join(', ')} (from ${operation.floorPosition} to ${this.options.witness.position})`;
  }
}

function isRefused(
  applied: Applied,
): applied is Applied & { outcome: { kind: 'refused'; status: RpcStatus } } {
  return applied.outcome.kind === 'refused';
}

/** Of whoever comes by certificate, and of nobody: nothing to hold against them. */
function validity(state: AuthState, { user, session }: Identity): 'valid' | 'void' | 'open' {
  if (session === undefined) return 'valid';
  const found = state.users.get(user);
  if (found === undefined) return 'void';
  const voidBefore = Math.max(found.passwordAt, state.enabledAt);
  if (voidBefore > session.lastPosition) return 'void';
  return voidBefore <= session.firstPosition ? 'valid' : 'open';
}
