/**
 * Limits that keep one user, or those who work below one prefix, from taking what belongs to all: a layer around the
 * client API. Rates are token buckets that hold one second; bytes are paid for when they are known, and who is in debt
 * waits. Lease keep-alives, the Cluster and the Maintenance service are never held back: a cluster in trouble is the
 * one that needs them.
 */
import { type Clock, compareBytes, latin1, type Timers } from '@quoin/base';
import {
  codeName,
  type FairUse,
  limitExceeded,
  limitsOf,
  prefixEndOf,
  type RpcStatus,
  startsWith,
  type UseLimits,
  WireReader,
  writeWatchResponse,
} from '@quoin/contracts';
import type { ApiHandler, CallContext, CancelCall, ServerStream, UnaryReply } from './ports.ts';
import { createsWatch, type KeyRange, rangesOf } from './request-ranges.ts';

export interface LimitedGateway extends ApiHandler {
  /** In whose name a call is, as far as it is known. */
  userOf(context: CallContext): string;
}

export interface FairUseParts {
  readonly clock: Clock;
  readonly timers: Timers;
  readonly fairUse: FairUse;
}

const watchPath = '/etcdserverpb.Watch/Watch';
const alwaysServed =
  /^\/(etcdserverpb\.(Cluster|Maintenance|Lease\/LeaseKeepAlive)|grpc\.health\.v1\.Health)/;

/** A rate in units per second that holds one second of them, at least one unit. Below zero it is in debt. */
class Bucket {
  private readonly rate: number;
  private readonly size: number;
  private held: number;
  private atMs: number;

  constructor(rate: number, nowMs: number) {
    this.rate = rate;
    this.size = Math.max(1, rate);
    this.held = this.size;
    this.atMs = nowMs;
  }

  /** Whether anything is left. */
  has(nowMs: number, units: number): boolean {
    this.held = Math.min(this.size, this.held + ((nowMs - this.atMs) / 1_000) * this.rate);
    this.atMs = nowMs;
    return this.held >= units;
  }

  take(units: number): void {
    this.held -= units;
  }
}

/** What one user or prefix has used. */
class Account {
  readonly name: string;
  readonly limits: UseLimits;
  watches = 0;
  private readonly requests: Bucket | undefined;
  private readonly bytes: Bucket | undefined;

  constructor(name: string, limits: UseLimits, nowMs: number) {
    const { requestsPerSecond, bytesPerSecond } = limits;
    this.name = name;
    this.limits = limits;
    this.requests = requestsPerSecond === undefined ? undefined : new Bucket(requestsPerSecond, nowMs);
    this.bytes = bytesPerSecond === undefined ? undefined : new Bucket(bytesPerSecond, nowMs);
  }

  problem(nowMs: number): RpcStatus | undefined {
    if (this.requests?.has(nowMs, 1) === false) return limitExceeded(`requests per second of ${this.name}`);
    // More than is held may be asked for once: what a request costs is only known afterwards.
    if (this.bytes?.has(nowMs, 0) === false) return limitExceeded(`bytes per second of ${this.name}`);
    return undefined;
  }

  take(bytes: number): void {
    this.requests?.take(1);
    this.bytes?.take(bytes);
  }

  paid(bytes: number): void {
    this.bytes?.take(bytes);
  }
}

/** Accounts of users that were seen; the oldest goes when there are too many, and begins anew. */
const accountsMax = 10_000;

export class FairApi implements ApiHandler {
  private readonly gateway: LimitedGateway;
  private readonly parts: FairUseParts;
  private readonly users = new Map<string, Account>();
  private readonly prefixes: readonly {
    readonly prefix: Uint8Array;
    readonly end: Uint8Array;
    readonly account: Account;
  }[];

  constructor(gateway: LimitedGateway, parts: FairUseParts) {
    this.gateway = gateway;
    this.parts = parts;
    const nowMs = parts.clock.monotonicMs();
    this.prefixes = parts.fairUse.prefixes.map(({ prefix, limits }) => ({
      prefix,
      end: prefixEndOf(prefix),
      account: new Account(`prefix ${latin1(prefix)}`, limits, nowMs),
    }));
  }

  unary(
    path: string,
    request: Uint8Array,
    context: CallContext,
    reply: UnaryReply,
    takesParts = false,
  ): CancelCall {
    if (alwaysServed.test(path)) return this.gateway.unary(path, request, context, reply, takesParts);
    const accounts = this.accountsFor(context, rangesOf(path, request));
    if (accounts.length === 0) return this.gateway.unary(path, request, context, reply, takesParts);
    const problem = this.charge(accounts, request.length);
    if (problem !== undefined) {
      this.parts.timers.endOfTurn(() => reply(problem, []));
      return nothing;
    }
    const charged: UnaryReply = (status, pieces, rest) => {
      let bytes = rest?.bytes ?? 0;
      for (const piece of pieces) bytes += piece.length;
      for (const account of accounts) account.paid(bytes);
      reply(status, pieces, rest);
    };
    return this.gateway.unary(path, request, context, charged, takesParts);
  }

  stream(path: string, context: CallContext, stream: ServerStream): void {
    if (alwaysServed.test(path)) {
      this.gateway.stream(path, context, stream);
      return;
    }
    const limited = new LimitedStream(
      stream,
      path === watchPath,
      (message) => this.accountsFor(context, rangesOf(path, message)),
      (accounts, bytes) => this.charge(accounts, bytes),
    );
    this.gateway.stream(path, context, limited);
  }

  /** All of them, or none of them, are charged. */
  private charge(accounts: readonly Account[], bytes: number): RpcStatus | undefined {
    const nowMs = this.parts.clock.monotonicMs();
    for (const account of accounts) {
      const problem = account.problem(nowMs);
      if (problem !== undefined) return problem;
    }
    for (const account of accounts) account.take(bytes);
    return undefined;
  }

  private accountsFor(context: CallContext, ranges: readonly KeyRange[]): Account[] {
    const accounts: Account[] = [];
    const user = this.userAccount(this.gateway.userOf(context));
    if (user !== undefined) accounts.push(user);
    for (const { prefix, end, account } of this.prefixes) {
      if (ranges.some((range) => touches(range, prefix, end))) accounts.push(account);
    }
    return accounts;
  }

  private userAccount(user: string): Account | undefined {
    const known = this.users.get(user);
    if (known !== undefined) return known;
    const limits = limitsOf(this.parts.fairUse, user);
    if (limits === undefined) return undefined;
    if (this.users.size >= accountsMax) {
      for (const [name, { watches }] of this.users) {
        if (watches > 0) continue;
        this.users.delete(name);
        break;
      }
    }
    const name = user === '' ? 'those without a user' : `user ${user}`;
    const account = new Account(name, limits, this.parts.clock.monotonicMs());
    this.users.set(user, account);
    return account;
  }
}

const nothing = (): void => undefined;

function touches({ key, rangeEnd }: KeyRange, prefix: Uint8Array, end: Uint8Array): boolean {
  if (startsWith(key, prefix)) return true;
  if (rangeEnd.length === 0 || compareBytes(key, prefix) > 0) return false;
  const open = rangeEnd.length === 1 && rangeEnd[0] === 0;
  return open || (compareBytes(prefix, rangeEnd) < 0 && (end.length === 0 || compareBytes(key, end) < 0));
}

type Charge = (accounts: readonly Account[], bytes: number) => RpcStatus | undefined;

/**
 * A stream that pays for what it carries. The first message of a stream, and the creation of each watch, is a request;
 * watches are counted until they are cancelled, by whomever.
 *
 *     create ──► pending ──created──► open ──canceled──► gone
 *                   └──created, canceled──► gone          the stream's end: all of them
 */
class LimitedStream implements ServerStream {
  onMessage: (message: Uint8Array) => void = nothing;
  onHalfClose: () => void = nothing;
  onCancel: () => void = nothing;
  onDrain: () => void = nothing;
  private readonly inner: ServerStream;
  private readonly watches: boolean;
  private readonly accountsFor: (message: Uint8Array) => Account[];
  private readonly charge: Charge;
  private paying: Account[] = [];
  private begun = false;
  private over = false;
  private pending: Account[][] = [];
  private readonly open = new Map<string, Account[]>();

  constructor(
    inner: ServerStream,
    watches: boolean,
    accountsFor: (message: Uint8Array) => Account[],
    charge: Charge,
  ) {
    this.inner = inner;
    this.watches = watches;
    this.accountsFor = accountsFor;
    this.charge = charge;
    inner.onMessage = (message) => this.received(message);
    inner.onHalfClose = () => this.onHalfClose();
    inner.onDrain = () => this.onDrain();
    inner.onCancel = () => {
      this.release();
      this.onCancel();
    };
  }

  send(message: readonly Uint8Array[]): boolean {
    let bytes = 0;
    for (const piece of message) bytes += piece.length;
    if (this.watches) {
      const watch = watchHead(message[0]!);
      const accounts = this.settle(watch);
      for (const account of accounts) account.paid(bytes);
    } else for (const account of this.paying) account.paid(bytes);
    return this.inner.send(message);
  }

  queuedBytes(): number {
    return this.inner.queuedBytes();
  }

  hold(on: boolean): void {
    this.inner.hold?.(on);
  }

  end(status: RpcStatus | null): void {
    this.release();
    this.inner.end(status);
  }

  private received(message: Uint8Array): void {
    if (this.over) return;
    if (this.watches ? !createsWatch(message) : this.begun) {
      this.onMessage(message);
      return;
    }
    this.begun = true;
    const accounts = this.accountsFor(message);
    const full = this.watches
      ? accounts.find(({ limits, watches }) => limits.watches !== undefined && watches >= limits.watches)
      : undefined;
    const problem =
      full === undefined ? this.charge(accounts, message.length) : limitExceeded(`watches of ${full.name}`);
    if (problem === undefined) {
      if (this.watches) {
        for (const account of accounts) account.watches++;
        this.pending.push(accounts);
      } else this.paying = accounts;
      this.onMessage(message);
    } else if (this.watches) this.refuseWatch(problem);
    else {
      this.onCancel();
      this.end(problem);
    }
  }

  /** As a watch is refused for want of permission. */
  private refuseWatch({ code, message }: RpcStatus): void {
    const header = { clusterId: 0n, memberId: 0n, revision: 0, raftTerm: 0 };
    const cancelReason = `rpc error: code = ${codeName(code)} desc = ${message}`;
    this.inner.send(writeWatchResponse(header, -1, [], { created: true, canceled: true, cancelReason }));
  }

  /** Who pays for a response; a watch that has ended is counted no more. */
  private settle({ id, created, canceled }: WatchHead): readonly Account[] {
    if (created) {
      const accounts = this.pending.shift() ?? [];
      if (canceled) free(accounts);
      else this.open.set(id, accounts);
      return accounts;
    }
    const accounts = this.open.get(id) ?? [];
    if (canceled && this.open.delete(id)) free(accounts);
    return accounts;
  }

  private release(): void {
    if (this.over) return;
    this.over = true;
    for (const accounts of [...this.pending, ...this.open.values()]) free(accounts);
    this.pending = [];
    this.open.clear();
  }
}

function free(accounts: readonly Account[]): void {
  for (const account of accounts) account.watches--;
}

interface WatchHead {
  /** As text: any int64. */
  readonly id: string;
  readonly created: boolean;
  readonly canceled: boolean;
}

/** The fields before the events in a WatchResponse of ours. Events may follow in the same piece. */
function watchHead(piece: Uint8Array): WatchHead {
  const reader = new WireReader(piece);
  const head = { id: '0', created: false, canceled: false };
  while (reader.more()) {
    const tag = reader.tag();
    // Field 11 are the events; what is told of the watch stands before them.
    if (tag >>> 3 >= 11) break;
    if (tag === 16) head.id = reader.int64().toString();
    else if (tag === 24) head.created = reader.bool();
    else if (tag === 32) head.canceled = reader.bool();
    else reader.skip(tag);
  }
  return head;
}
