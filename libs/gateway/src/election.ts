import { create, toBinary } from '@bufbuild/protobuf';
import { equalBytes } from '@quoin/base';
import { decodeRequest, etcdErrors, malformedRequest, otherErrors, type RpcStatus } from '@quoin/contracts';
import {
  CampaignRequestSchema,
  CampaignResponseSchema,
  Event_EventType,
  type KeyValue,
  type LeaderKey,
  LeaderRequestSchema,
  LeaderResponseSchema,
  ProclaimRequestSchema,
  ProclaimResponseSchema,
  ResignRequestSchema,
  ResignResponseSchema,
  type ResponseHeader,
  type TxnResponse,
} from '@quoin/contracts/etcd';
import { Chain, contenderKey, firstCreated, under } from './concurrency.ts';
import type { GatewayCore } from './core.ts';
import type { UnaryHandler } from './gateway.ts';
import { absent, answer, createdAt, readMessage } from './lock.ts';
import type { ApiHandler, CallContext, ServerStream, UnaryReply } from './ports.ts';
import type { StreamHandler } from './tracked-stream.ts';

const noop = (): void => undefined;

/** v3election over KV, lease and watch, in the layout of etcd's own clients: the oldest key below the name leads. */
export class ElectionService {
  private readonly core: GatewayCore;
  private readonly api: ApiHandler;

  constructor(core: GatewayCore, api: ApiHandler) {
    this.core = core;
    this.api = api;
  }

  handlers(): [string, UnaryHandler][] {
    return [
      [
        '/v3electionpb.Election/Campaign',
        (request, context, reply) => this.campaign(request, context, reply),
      ],
      [
        '/v3electionpb.Election/Proclaim',
        (request, context, reply) => this.proclaim(request, context, reply),
      ],
      ['/v3electionpb.Election/Leader', (request, context, reply) => this.leader(request, context, reply)],
      ['/v3electionpb.Election/Resign', (request, context, reply) => this.resign(request, context, reply)],
    ];
  }

  observe(context: CallContext, stream: ServerStream): StreamHandler {
    return new ObserveStream(this.api, context, stream);
  }

  private campaign(bytes: Uint8Array, context: CallContext, reply: UnaryReply): () => void {
    const request = readMessage(this.core, CampaignRequestSchema, bytes, reply);
    if (request === undefined) return noop;
    const { name, value } = request;
    let held: { key: Uint8Array; revision: bigint } | undefined;
    const withdraw = (): void => {
      if (held !== undefined) this.withdraw(held.key, held.revision);
    };
    const chain = new Chain(this.api, context, (status) => {
      withdraw();
      reply(status, []);
    });
    chain.lease(request.lease, this.core.config.sessionTtlSeconds, (lease) => {
      const { prefix, key } = contenderKey(name, lease);
      const put = { request: { case: 'requestPut' as const, value: { key, value, lease } } };
      const get = { request: { case: 'requestRange' as const, value: { key } } };
      chain.txn({ compare: [absent(key)], success: [put], failure: [get] }, (response) => {
        const kv = ownPair(response);
        const rev = kv?.createRevision ?? response.header!.revision;
        held = { key, revision: rev };
        const await_ = (): void =>
          chain.awaitTurn(prefix, rev, () =>
            answer(reply, CampaignResponseSchema, {
              ...headerOf(response.header),
              leader: { name, key, rev, lease },
            }),
          );
        if (kv === undefined || equalBytes(kv.value, value)) return await_();
        // It ran before with another value.
        chain.txn({ compare: [createdAt(key, rev)], success: [put] }, (proclaimed) => {
          if (proclaimed.succeeded) await_();
          else chain.fail(otherErrors.electionNotLeader);
        });
      });
    });
    return () => {
      chain.cancel();
      withdraw();
    };
  }

  private proclaim(bytes: Uint8Array, context: CallContext, reply: UnaryReply): () => void {
    const request = readMessage(this.core, ProclaimRequestSchema, bytes, reply);
    if (request === undefined) return noop;
    const { leader, value } = request;
    if (leader === undefined) return this.missingLeader(reply);
    const { key, rev, lease } = leader;
    const chain = new Chain(this.api, context, (status) => reply(status, []));
    const put = { request: { case: 'requestPut' as const, value: { key, value, lease } } };
    chain.txn({ compare: [createdAt(key, rev)], success: [put] }, (response) => {
      if (!response.succeeded) chain.fail(otherErrors.electionNotLeader);
      else answer(reply, ProclaimResponseSchema, headerOf(response.header));
    });
    return () => chain.cancel();
  }

  private leader(bytes: Uint8Array, context: CallContext, reply: UnaryReply): () => void {
    const request = readMessage(this.core, LeaderRequestSchema, bytes, reply);
    if (request === undefined) return noop;
    const chain = new Chain(this.api, context, (status) => reply(status, []));
    chain.range(firstCreated(contenderKey(request.name, 0n).prefix), (response) => {
      const kv = response.kvs[0];
      if (kv === undefined) chain.fail(otherErrors.electionNoLeader);
      else answer(reply, LeaderResponseSchema, { ...headerOf(response.header), kv });
    });
    return () => chain.cancel();
  }

  private resign(bytes: Uint8Array, context: CallContext, reply: UnaryReply): () => void {
    const request = readMessage(this.core, ResignRequestSchema, bytes, reply);
    if (request === undefined) return noop;
    if (request.leader === undefined) return this.missingLeader(reply);
    const chain = new Chain(this.api, context, (status) => reply(status, []));
    chain.txn(resignTxn(request.leader), (response) =>
      answer(reply, ResignResponseSchema, headerOf(response.header)),
    );
    return () => chain.cancel();
  }

  private missingLeader(reply: UnaryReply): () => void {
    this.core.later(() => reply(otherErrors.leaderFieldRequired, []));
    return noop;
  }

  /** A candidate that no longer waits must not be elected later. */
  private withdraw(key: Uint8Array, rev: bigint): void {
    const context: CallContext = {
      deadlineMs: undefined,
      metadata: () => undefined,
      trace: undefined,
      peer: 'gateway',
    };
    new Chain(this.api, context, noop).txn(resignTxn({ key, rev }), noop);
  }
}

/** Tells each leader, and each value that it proclaims. */
class ObserveStream implements StreamHandler {
  readonly stopStatus: RpcStatus = etcdErrors.stopped;
  private readonly stream: ServerStream;
  private readonly chain: Chain;
  private prefix: Uint8Array | undefined;

  constructor(api: ApiHandler, context: CallContext, stream: ServerStream) {
    this.stream = stream;
    this.chain = new Chain(api, context, (status) => stream.end(status));
    stream.onMessage = (request) => this.onRequest(request);
    stream.onCancel = () => this.chain.cancel();
  }

  end(status: RpcStatus | null): void {
    this.chain.cancel();
    this.stream.end(status);
  }

  private onRequest(bytes: Uint8Array): void {
    if (this.prefix !== undefined) return;
    try {
      this.prefix = contenderKey(decodeRequest(LeaderRequestSchema, bytes).name, 0n).prefix;
    } catch (error) {
      this.end(malformedRequest(error instanceof Error ? error.message : String(error)));
      return;
    }
    this.findLeader(this.prefix);
  }

  private findLeader(prefix: Uint8Array): void {
    this.chain.range(firstCreated(prefix), (response) => {
      const kv = response.kvs[0];
      if (kv !== undefined) {
        this.tell(response.header, kv);
        this.follow(prefix, kv.key, response.header!.revision + 1n);
        return;
      }
      // Whoever comes first leads.
      const { key, rangeEnd } = under(prefix);
      this.chain.watch(
        key,
        rangeEnd,
        response.header!.revision + 1n,
        (watched) => watched.events.some((event) => event.type === Event_EventType.PUT),
        () => this.findLeader(prefix),
      );
    });
  }

  private follow(prefix: Uint8Array, key: Uint8Array, from: bigint): void {
    this.chain.watch(
      key,
      undefined,
      from,
      (watched) => {
        for (const event of watched.events) {
          if (event.type === Event_EventType.DELETE) return true;
          this.tell(watched.header, event.kv!);
        }
        return false;
      },
      () => this.findLeader(prefix),
    );
  }

  private tell(header: ResponseHeader | undefined, kv: KeyValue): void {
    const response = create(LeaderResponseSchema, { ...headerOf(header), kv });
    this.stream.send([toBinary(LeaderResponseSchema, response)]);
  }
}

function resignTxn({ key, rev }: Pick<LeaderKey, 'key' | 'rev'>): Parameters<Chain['txn']>[0] {
  const remove = { request: { case: 'requestDeleteRange' as const, value: { key } } };
  return { compare: [createdAt(key, rev)], success: [remove] };
}

/** The pair that was there before; undefined when the txn put it. */
function ownPair(response: TxnResponse): KeyValue | undefined {
  if (response.succeeded) return undefined;
  const first = response.responses[0]?.response;
  return first?.case === 'responseRange' ? first.value.kvs[0] : undefined;
}

function headerOf(header: ResponseHeader | undefined): { header?: ResponseHeader } {
  return header === undefined ? {} : { header };
}
