import type { MessageInitShape } from '@bufbuild/protobuf';
import {
  type CampaignResponse,
  Election,
  type LeaderKeySchema,
  type LeaderResponse,
  Lock,
  type LockResponse,
  type ProclaimResponse,
  type ResignResponse,
  type UnlockResponse,
} from '@quoin/contracts/etcd';
import { toBytes } from './key-range.ts';
import type { Bytes, CallOptions, Int64 } from './options.ts';
import type { Transport } from './transport.ts';

/** The server's own lock service, where the server queues. Waiting has no limit unless the call options set one. */
export class LockClient {
  private readonly transport: Transport;

  constructor(transport: Transport) {
    this.transport = transport;
  }

  lock(name: Bytes, lease: Int64, call?: CallOptions): Promise<LockResponse> {
    return this.transport.unary(
      Lock.method.lock,
      { name: toBytes(name), lease: BigInt(lease) },
      { timeoutMs: 0, ...call },
    );
  }

  unlock(key: Bytes, call?: CallOptions): Promise<UnlockResponse> {
    return this.transport.unary(Lock.method.unlock, { key: toBytes(key) }, call);
  }
}

/** The server's own election service. */
export class ElectionClient {
  private readonly transport: Transport;

  constructor(transport: Transport) {
    this.transport = transport;
  }

  campaign(name: Bytes, lease: Int64, value: Bytes, call?: CallOptions): Promise<CampaignResponse> {
    const request = { name: toBytes(name), lease: BigInt(lease), value: toBytes(value) };
    return this.transport.unary(Election.method.campaign, request, { timeoutMs: 0, ...call });
  }

  proclaim(
    leader: MessageInitShape<typeof LeaderKeySchema>,
    value: Bytes,
    call?: CallOptions,
  ): Promise<ProclaimResponse> {
    return this.transport.unary(Election.method.proclaim, { leader, value: toBytes(value) }, call);
  }

  leader(name: Bytes, call?: CallOptions): Promise<LeaderResponse> {
    return this.transport.unary(Election.method.leader, { name: toBytes(name) }, call);
  }

  observe(name: Bytes, call?: CallOptions): AsyncGenerator<LeaderResponse, void, undefined> {
    return this.transport.serverStream(Election.method.observe, { name: toBytes(name) }, call);
  }

  resign(leader: MessageInitShape<typeof LeaderKeySchema>, call?: CallOptions): Promise<ResignResponse> {
    return this.transport.unary(Election.method.resign, { leader }, call);
  }
}
