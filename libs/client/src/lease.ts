import type { MessageInitShape } from '@bufbuild/protobuf';
import type { ClientDuplexStream } from '@grpc/grpc-js';
import { Code, etcdErrors } from '@quoin/contracts';
import {
  Lease,
  type LeaseGrantResponse,
  type LeaseKeepAliveRequestSchema,
  type LeaseKeepAliveResponse,
  type LeaseLeasesResponse,
  type LeaseRevokeResponse,
  type LeaseTimeToLiveResponse,
} from '@quoin/contracts/etcd';
import { EtcdError, toEtcdError } from './error.ts';
import type { CallOptions, Int64 } from './options.ts';
import { sleep, type Transport } from './transport.ts';

type KeepAliveCall = ClientDuplexStream<
  MessageInitShape<typeof LeaseKeepAliveRequestSchema>,
  LeaseKeepAliveResponse
>;

const tickMs = 250;
const reopenDelayMs = 500;
/** Until the first answer tells the TTL. */
const firstAnswerMs = 10_000;
const onceAttemptsMax = 10;

/** A lease that is being renewed, every third of its TTL. */
export class LeaseKeeper {
  readonly id: bigint;
  /** Undefined after `stop()`; an error when the lease is gone or could not be renewed for its whole TTL. */
  readonly ended: Promise<EtcdError | undefined>;
  /** For the stream. */
  nextSendMs = 0;
  /** For the stream. */
  expiresMs: number;
  readonly onAlive: ((response: LeaseKeepAliveResponse) => void) | undefined;
  private readonly keepers: KeepAliveStream;
  private settle!: (error: EtcdError | undefined) => void;

  constructor(
    keepers: KeepAliveStream,
    id: bigint,
    onAlive: ((response: LeaseKeepAliveResponse) => void) | undefined,
  ) {
    this.id = id;
    this.keepers = keepers;
    this.onAlive = onAlive;
    this.expiresMs = Date.now() + firstAnswerMs;
    this.ended = new Promise((resolve) => {
      this.settle = resolve;
    });
  }

  /** Stops renewing; the lease itself stays until it expires. */
  stop(): void {
    this.keepers.remove(this);
    this.settle(undefined);
  }

  /** For the stream. */
  lost(error: EtcdError): void {
    this.settle(error);
  }
}

/** All leases of a client are renewed over one stream, reopened when it breaks. */
class KeepAliveStream {
  private readonly transport: Transport;
  private readonly keepers = new Map<bigint, Set<LeaseKeeper>>();
  private call: KeepAliveCall | undefined;
  private timer: NodeJS.Timeout | undefined;
  private opening = false;

  constructor(transport: Transport) {
    this.transport = transport;
  }

  add(keeper: LeaseKeeper): void {
    const set = this.keepers.get(keeper.id) ?? new Set();
    this.keepers.set(keeper.id, set);
    set.add(keeper);
    this.timer ??= setInterval(() => this.tick(), tickMs);
    this.tick();
  }

  remove(keeper: LeaseKeeper): void {
    const set = this.keepers.get(keeper.id);
    set?.delete(keeper);
    if (set?.size === 0) this.keepers.delete(keeper.id);
    if (this.keepers.size === 0) this.close();
  }

  close(): void {
    clearInterval(this.timer);
    this.timer = undefined;
    const call = this.call;
    this.call = undefined;
    call?.cancel();
  }

  private tick(): void {
    const nowMs = Date.now();
    for (const set of this.keepers.values()) {
      for (const keeper of set) {
        if (nowMs <= keeper.expiresMs) continue;
        this.remove(keeper);
        keeper.lost(leaseNotFound());
      }
    }
    if (this.keepers.size === 0) return;
    if (this.call === undefined) return void this.open();
    for (const [id, set] of this.keepers) {
      if (![...set].some((keeper) => keeper.nextSendMs <= nowMs)) continue;
      this.call.write({ ID: id });
      for (const keeper of set) keeper.nextSendMs = nowMs + reopenDelayMs;
    }
  }

  private async open(): Promise<void> {
    if (this.opening) return;
    this.opening = true;
    try {
      const call = await this.transport.bidi(Lease.method.leaseKeepAlive, { timeoutMs: 0 });
      call.on('data', (response: LeaseKeepAliveResponse) => this.receive(response));
      const ended = (error: EtcdError) => {
        if (this.call === call) this.call = undefined;
        if (error.code === Code.unauthenticated) this.transport.forgetToken();
      };
      call.on('error', (error) => ended(toEtcdError(error)));
      call.on('end', () => ended(new EtcdError(Code.unavailable, 'keepalive stream ended')));
      this.call = call;
      for (const set of this.keepers.values()) for (const keeper of set) keeper.nextSendMs = 0;
      if (this.keepers.size === 0) this.close();
      else this.tick();
    } catch {
      if (!this.transport.isClosed()) await sleep(reopenDelayMs); // the next tick tries again
    }
    this.opening = false;
  }

  private receive(response: LeaseKeepAliveResponse): void {
    const set = this.keepers.get(response.ID);
    if (set === undefined) return;
    const nowMs = Date.now();
    const ttlMs = Number(response.TTL) * 1000;
    for (const keeper of [...set]) {
      if (ttlMs <= 0) {
        this.remove(keeper);
        keeper.lost(leaseNotFound());
        continue;
      }
      keeper.expiresMs = nowMs + ttlMs;
      keeper.nextSendMs = nowMs + ttlMs / 3;
      keeper.onAlive?.(response);
    }
  }
}

function leaseNotFound(): EtcdError {
  return new EtcdError(etcdErrors.leaseNotFound.code, etcdErrors.leaseNotFound.message);
}

export class LeaseClient {
  private readonly transport: Transport;
  private readonly stream: KeepAliveStream;

  constructor(transport: Transport) {
    this.transport = transport;
    this.stream = new KeepAliveStream(transport);
  }

  /** `ttl` in seconds; an id of 0 lets the server choose. */
  grant(ttl: Int64, id: Int64 = 0, call?: CallOptions): Promise<LeaseGrantResponse> {
    return this.transport.unary(Lease.method.leaseGrant, { TTL: BigInt(ttl), ID: BigInt(id) }, call);
  }

  revoke(id: Int64, call?: CallOptions): Promise<LeaseRevokeResponse> {
    return this.transport.unary(Lease.method.leaseRevoke, { ID: BigInt(id) }, call);
  }

  /** A TTL of −1 in the answer: there is no such lease. */
  timeToLive(
    id: Int64,
    options: { keys?: boolean | undefined } = {},
    call?: CallOptions,
  ): Promise<LeaseTimeToLiveResponse> {
    return this.transport.unary(
      Lease.method.leaseTimeToLive,
      { ID: BigInt(id), keys: options.keys ?? false },
      call,
    );
  }

  leases(call?: CallOptions): Promise<LeaseLeasesResponse> {
    return this.transport.unary(Lease.method.leaseLeases, {}, call);
  }

  /** Renews until stopped or lost. */
  keepAlive(id: Int64, onAlive?: (response: LeaseKeepAliveResponse) => void): LeaseKeeper {
    const keeper = new LeaseKeeper(this.stream, BigInt(id), onAlive);
    this.stream.add(keeper);
    return keeper;
  }

  /** @throws EtcdError `requested lease not found` when it is gone. */
  async keepAliveOnce(id: Int64, call?: CallOptions): Promise<LeaseKeepAliveResponse> {
    for (let attempt = 1; ; attempt++) {
      try {
        const response = await this.askOnce(BigInt(id), call);
        if (response.TTL <= 0n) throw leaseNotFound();
        return response;
      } catch (caught) {
        const error = toEtcdError(caught);
        if (error.code !== Code.unavailable || attempt === onceAttemptsMax) throw error;
        await sleep(reopenDelayMs / 4, call?.signal);
      }
    }
  }

  close(): void {
    this.stream.close();
  }

  private async askOnce(id: bigint, call: CallOptions = {}): Promise<LeaseKeepAliveResponse> {
    const stream = await this.transport.bidi(Lease.method.leaseKeepAlive, { timeoutMs: 10_000, ...call });
    try {
      return await new Promise((resolve, reject) => {
        stream.on('data', resolve);
        stream.on('error', reject);
        stream.on('end', () => reject(new EtcdError(Code.unavailable, 'keepalive stream ended')));
        stream.write({ ID: id });
      });
    } finally {
      stream.cancel();
    }
  }
}
