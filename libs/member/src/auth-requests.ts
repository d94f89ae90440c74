/**
 * Who asks, and whether he may: every request of a gateway passes here while authentication is on.
 *
 *   token ──► verified (remembered) ──► caller ──► allowed? ──► on its way, and asked again when it is served or applied
 *     │                                               │ no
 *     └ not valid ──────────────────► ReadIndex ◄─────┘   this member may only be behind: a refusal is given by state
 *                                         └──► the same once more, and that counts        as new as the request
 *
 * Also the part of the Auth service that is not a plain change: passwords are hashed and compared in the background,
 * tokens are issued, users and roles are shown.
 */
import type { Clock, Digest, Passwords, Random, TokenClaims, TokenSigner } from '@quoin/base';
import { concatBytes, utf8Text } from '@quoin/base';
import {
  decodeRequest,
  etcdErrors,
  Method,
  otherErrors,
  type RpcStatus,
  readRangeRequest,
  WireWriter,
} from '@quoin/contracts';
import {
  authorise,
  type Caller,
  decodeIdentifyRequest,
  encodeAuthEnableEntry,
  encodeIdentity,
  ruleOf,
} from '@quoin/contracts/auth';
import {
  AuthenticateRequestSchema,
  AuthRoleGetRequestSchema,
  AuthUserAddRequestSchema,
  AuthUserChangePasswordRequestSchema,
  AuthUserGetRequestSchema,
} from '@quoin/contracts/etcd';
import type { StateMachine } from './apply.ts';
import { writeAuthenticateResponse, writeAuthStatus, writeNames, writeRoleGet } from './auth-messages.ts';
import type { LinkCall } from './link-session.ts';
import { issueToken, readToken, type TokenKey } from './tokens.ts';

export interface AuthRequestsParts {
  readonly clock: Clock;
  readonly random: Random;
  readonly digest: Digest;
  readonly passwords: Passwords;
  /** Undefined: simple tokens. */
  readonly signer: TokenSigner | undefined;
  readonly tokenTtlMs: number;
  readonly machine: StateMachine;
  readonly isLeader: () => boolean;
  /** Puts it off until this member's state is as new as any that was acknowledged. */
  readonly linearize: (call: LinkCall) => void;
  readonly propose: (call: LinkCall, method: Method, body: Uint8Array) => void;
}

/** Tokens whose signature was found good, so that it is computed once and not with every request. */
const verifiedMax = 10_000;
/** A token is renewed for its gateway once so much of its life is over. */
const renewAfter = 0.25;
/** What a gateway may go by at most, whatever a token says. */
const identityTtlMaxMs = 3_600_000;
const tokenKeyBytes = 32;

const writer = new WireWriter(1024);

export class AuthRequests {
  private readonly parts: AuthRequestsParts;
  private verified = new Map<string, TokenClaims>();
  /** The key that those were verified by. */
  private verifiedBy: Uint8Array | undefined;

  constructor(parts: AuthRequestsParts) {
    this.parts = parts;
  }

  /**
   * True when the call may go on. Otherwise it has been answered, or put off and comes back.
   * Only while authentication is on.
   */
  admit(call: LinkCall): boolean {
    const problem = this.problem(call);
    if (problem === undefined) return true;
    this.refuse(call, problem);
    return false;
  }

  /** For good only when this member is known to be up to date. */
  private refuse(call: LinkCall, problem: RpcStatus): void {
    if (call.standing === 'settled') return call.fail(problem);
    this.catchUp(call);
  }

  private catchUp(call: LinkCall): void {
    call.standing = 'doubted';
    this.parts.linearize(call);
  }

  /** What speaks against it now; undefined: nothing. Sets the call's caller. @throws WireError */
  private problem(call: LinkCall): RpcStatus | undefined {
    const { machine } = this.parts;
    if (!machine.auth.enabled) return undefined;
    if (call.own) return ownAllows(call) ? undefined : etcdErrors.permissionDenied;
    const rule = ruleOf(call.method);
    if (rule === 'link' || rule === 'open') return undefined;
    const caller = this.callerOf(call);
    if (caller !== undefined && 'code' in caller) return caller;
    call.caller = caller;
    return authorise(machine.auth.authority, caller, call.method, call.body, machine.attached);
  }

  /** Methods of the Auth service and of the link that are answered at once or by a proposal. */
  take(call: LinkCall): void {
    const { parts } = this;
    switch (call.method) {
      case Method.identify:
        return this.identify(call);
      case Method.authSync:
      case Method.authenticate:
      case Method.authStatus:
      case Method.userGet:
      case Method.userList:
      case Method.roleGet:
      case Method.roleList:
        return parts.linearize(call);
      case Method.authEnable:
        return parts.propose(call, Method.authEnable, encodeAuthEnableEntry(this.drawKey()));
      case Method.userAdd:
      case Method.userChangePassword:
        // Nobody's password is hashed for a member that cannot propose it.
        if (!parts.isLeader()) return call.notTaken();
        return call.method === Method.userAdd ? this.userAdd(call) : this.userChangePassword(call);
      default:
        return parts.propose(call, call.method as Method, call.body);
    }
  }

  /** Those that `linearize` brings back. */
  serve(call: LinkCall): void {
    const { machine } = this.parts;
    const { auth } = machine;
    switch (call.method) {
      case Method.authSync:
        return call.reply(new Uint8Array(0));
      case Method.authenticate: {
        const { name, password } = decodeRequest(AuthenticateRequestSchema, call.body);
        return this.authenticate(call, name, password);
      }
      case Method.authStatus:
        return call.reply(writeAuthStatus(machine.header(), auth));
      case Method.userGet: {
        const user = auth.users.get(decodeRequest(AuthUserGetRequestSchema, call.body).name);
        if (user === undefined) return call.fail(etcdErrors.userNotFound);
        return call.reply(writeNames(machine.header(), user.roles));
      }
      case Method.userList:
        return call.reply(writeNames(machine.header(), auth.userNames()));
      case Method.roleGet: {
        const permissions = auth.permissionsOf(decodeRequest(AuthRoleGetRequestSchema, call.body).role);
        if (permissions === undefined) return call.fail(etcdErrors.roleNotFound);
        return call.reply(writeRoleGet(machine.header(), permissions));
      }
      case Method.roleList:
        return call.reply(writeNames(machine.header(), auth.roleNames()));
    }
  }

  /** Undefined: nobody. */
  private callerOf(call: LinkCall): Caller | RpcStatus | undefined {
    const { auth } = this.parts.machine;
    if (call.token === '') {
      return call.certUser === '' ? undefined : { user: call.certUser, authRevision: auth.revision };
    }
    const claims = this.claimsOf(call.token);
    if (claims === undefined) return etcdErrors.invalidAuthToken;
    // A simple token stands for the user as he is now; a signed one of another format for the revision it names.
    const authRevision = this.parts.signer === undefined ? auth.revision : claims.authRevision;
    return { user: claims.user, authRevision };
  }

  /** Of a valid token. */
  private claimsOf(token: string): TokenClaims | undefined {
    const { machine, clock, signer } = this.parts;
    const claims = this.verify(token);
    if (claims === undefined || claims.expiresMs <= clock.wallMs()) return undefined;
    if (signer !== undefined) return claims;
    const user = machine.auth.users.get(claims.user);
    return user === undefined || claims.authRevision < user.since ? undefined : claims;
  }

  private verify(token: string): TokenClaims | undefined {
    const { signer, machine, tokenTtlMs } = this.parts;
    if (this.verifiedBy !== machine.auth.tokenKey) {
      this.verifiedBy = machine.auth.tokenKey;
      this.verified.clear();
    }
    const known = this.verified.get(token);
    if (known !== undefined) return known;
    const claims = signer === undefined ? readToken(this.key(), token, tokenTtlMs) : signer.verify(token);
    if (claims === undefined) return undefined;
    if (this.verified.size >= verifiedMax) this.verified.clear();
    this.verified.set(token, claims);
    return claims;
  }

  private key(): TokenKey {
    const { digest, machine } = this.parts;
    return { digest, key: machine.auth.tokenKey, clusterId: machine.membership.clusterId };
  }

  private issue(user: string): string | undefined {
    const { machine, random, clock, signer } = this.parts;
    const { revision } = machine.auth;
    if (signer !== undefined) return signer.sign(user, revision);
    return issueToken(this.key(), random, user, revision, clock.wallMs());
  }

  private identify(call: LinkCall): void {
    const { machine, clock, signer, tokenTtlMs } = this.parts;
    const { auth } = machine;
    // Who asks knows of changes that have not come here yet: what was before them would be told as old.
    if (call.standing !== 'settled' && auth.version < decodeIdentifyRequest(call.body))
      return this.catchUp(call);
    const claims = auth.enabled ? this.claimsOf(call.token) : undefined;
    if (claims === undefined) return this.refuse(call, etcdErrors.invalidAuthToken);
    const { user } = claims;
    const leftMs = claims.expiresMs - clock.wallMs();
    if (signer !== undefined) {
      const ttlMs = Math.ceil(Math.min(leftMs, identityTtlMaxMs));
      return call.reply(encodeIdentity({ user, authRevision: claims.authRevision, token: '', ttlMs }));
    }
    const renewed = leftMs < tokenTtlMs * (1 - renewAfter);
    const token = renewed ? (this.issue(user) ?? '') : '';
    const ttlMs = Math.ceil(renewed ? tokenTtlMs : Math.min(leftMs, tokenTtlMs));
    call.reply(encodeIdentity({ user, authRevision: auth.revision, token, ttlMs }));
  }

  /** Checks, compares in the background, and checks again when the auth state has moved meanwhile. */
  private authenticate(call: LinkCall, name: string, password: string, compared?: Uint8Array): void {
    const { machine, passwords } = this.parts;
    const { auth } = machine;
    if (!auth.enabled) return call.fail(etcdErrors.authNotEnabled);
    const user = auth.users.get(name);
    if (user === undefined) return call.fail(etcdErrors.authFailed);
    if (user.noPassword) return call.fail(otherErrors.noPasswordUser);
    if (compared === user.password) {
      const token = this.issue(name);
      if (token === undefined) call.fail(noSigningKey);
      else call.reply(writeAuthenticateResponse(machine.header(), token));
      return;
    }
    const { version } = auth;
    passwords.compare(
      password,
      user.password,
      () => !call.done,
      (outcome) => {
        if (call.done) return;
        if (outcome === 'busy') return call.fail(etcdErrors.requestTooManyRequests);
        if (outcome === 'equal') return this.authenticate(call, name, password, user.password);
        if (this.parts.machine.auth.version !== version) return this.authenticate(call, name, password);
        call.fail(etcdErrors.authFailed);
      },
    );
  }

  private userAdd(call: LinkCall): void {
    const { name, password, options } = decodeRequest(AuthUserAddRequestSchema, call.body);
    const propose = (hash: string): void => {
      writer.begin();
      writer.text(10, name);
      if (options !== undefined) {
        const mark = writer.open(26, 2);
        writer.bool(8, options.noPassword);
        writer.close(mark, 2);
      }
      writer.text(34, hash);
      this.parts.propose(call, Method.userAdd, writer.finish());
    };
    if (options?.noPassword === true) propose('');
    else this.hash(call, password, propose);
  }

  private userChangePassword(call: LinkCall): void {
    const { name, password, hashedPassword } = decodeRequest(AuthUserChangePasswordRequestSchema, call.body);
    const propose = (hash: string): void => {
      writer.begin();
      writer.text(10, name);
      writer.text(26, hash);
      this.parts.propose(call, Method.userChangePassword, writer.finish());
    };
    // As etcd: without a password the hash that the client has made itself counts.
    if (password === '') propose(hashedPassword);
    else this.hash(call, password, propose);
  }

  private hash(call: LinkCall, password: string, then: (hash: string) => void): void {
    this.parts.passwords.hash(password, (hash, problem) => {
      if (call.done) return;
      if (hash !== null) then(utf8Text(hash));
      else call.fail(problem === 'too long' ? passwordTooLong : etcdErrors.requestTooManyRequests);
    });
  }

  private drawKey(): Uint8Array {
    const { random } = this.parts;
    const words = Array.from({ length: tokenKeyBytes / 4 }, () => {
      const word = random.u32();
      return Uint8Array.of(word >>> 24, word >>> 16, word >>> 8, word);
    });
    return concatBytes(words);
  }
}

const { passwordTooLong, noSigningKey } = otherErrors;

/** A gateway's own questions: how the member is, and whether it reads; never what a key holds. */
function ownAllows(call: LinkCall): boolean {
  if (call.method === Method.status || call.method === Method.memberList) return true;
  if (ruleOf(call.method) === 'link') return true;
  if (call.method !== Method.range) return false;
  const range = readRangeRequest(call.body);
  return range.rangeEnd.length === 0 && (range.keysOnly || range.countOnly);
}
