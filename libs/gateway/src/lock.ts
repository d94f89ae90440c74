import { create, type DescMessage, type MessageInitShape, toBinary } from '@bufbuild/protobuf';
import { Code, decodeRequest, malformedRequest, type RpcStatus } from '@quoin/contracts';
import {
  Compare_CompareTarget,
  DeleteRangeRequestSchema,
  DeleteRangeResponseSchema,
  LockRequestSchema,
  LockResponseSchema,
  type ResponseHeader,
  type TxnResponse,
  UnlockRequestSchema,
  UnlockResponseSchema,
} from '@quoin/contracts/etcd';
import { Chain, contenderKey, firstCreated } from './concurrency.ts';
import type { GatewayCore } from './core.ts';
import { afterwards } from './credentials.ts';
import type { UnaryHandler } from './gateway.ts';
import type { ApiHandler, CallContext, UnaryReply } from './ports.ts';

const sessionExpired: RpcStatus = { code: Code.unknown, message: 'mutex: session is expired' };

/**
 * v3lock over KV, lease and watch, in the layout of etcd's own clients: `<name>/<lease>`, held by the oldest key. So it
 * excludes clients that lock by themselves, too. As etcd says of its own: not safe without fencing.
 */
export class LockService {
  private readonly core: GatewayCore;
  private readonly api: ApiHandler;

  constructor(core: GatewayCore, api: ApiHandler) {
    this.core = core;
    this.api = api;
  }

  handlers(): [string, UnaryHandler][] {
    return [
      ['/v3lockpb.Lock/Lock', (request, context, reply) => this.lock(request, context, reply)],
      ['/v3lockpb.Lock/Unlock', (request, context, reply) => this.unlock(request, context, reply)],
    ];
  }

  private lock(bytes: Uint8Array, context: CallContext, reply: UnaryReply): () => void {
    const request = readMessage(this.core, LockRequestSchema, bytes, reply);
    if (request === undefined) return () => undefined;
    let held: Uint8Array | undefined;
    const chain = new Chain(this.api, context, (status) => {
      if (held !== undefined) this.giveUp(held, context);
      reply(status, []);
    });
    chain.lease(request.lease, this.core.config.sessionTtlSeconds, (lease) => {
      const { prefix, key } = contenderKey(request.name, lease);
      held = key;
      chain.txn(contendTxn(prefix, key, lease), (response) => {
        const { mine, owner } = contendOutcome(response);
        const locked = (header: ResponseHeader | undefined): void =>
          answer(reply, LockResponseSchema, header === undefined ? { key } : { header, key });
        if (owner === undefined || owner === mine) return locked(response.header);
        chain.awaitTurn(prefix, mine, () =>
          chain.range({ key }, (range) => {
            if (range.kvs.length === 0) chain.fail(sessionExpired);
            else locked(range.header);
          }),
        );
      });
    });
    return () => {
      chain.cancel();
      if (held !== undefined) this.giveUp(held, context);
    };
  }

  private unlock(bytes: Uint8Array, context: CallContext, reply: UnaryReply): () => void {
    const request = readMessage(this.core, UnlockRequestSchema, bytes, reply);
    if (request === undefined) return () => undefined;
    const chain = new Chain(this.api, context, (status) => reply(status, []));
    const path = '/etcdserverpb.KV/DeleteRange';
    chain.call(
      path,
      DeleteRangeRequestSchema,
      { key: request.key },
      DeleteRangeResponseSchema,
      ({ header }) => answer(reply, UnlockResponseSchema, header === undefined ? {} : { header }),
    );
    return () => chain.cancel();
  }

  /** A client that no longer waits must not get the lock later. */
  private giveUp(key: Uint8Array, context: CallContext): void {
    const request = toBinary(DeleteRangeRequestSchema, create(DeleteRangeRequestSchema, { key }));
    this.api.unary('/etcdserverpb.KV/DeleteRange', request, afterwards(context), () => undefined);
  }
}

/** Puts the key unless it is there, and reads who is the oldest. */
function contendTxn(prefix: Uint8Array, key: Uint8Array, lease: bigint): Parameters<Chain['txn']>[0] {
  const owner = { request: { case: 'requestRange' as const, value: firstCreated(prefix) } };
  return {
    compare: [absent(key)],
    success: [{ request: { case: 'requestPut', value: { key, lease } } }, owner],
    failure: [{ request: { case: 'requestRange', value: { key } } }, owner],
  };
}

/** Create revisions of the contender's key and of the oldest one. */
function contendOutcome(response: TxnResponse): { mine: bigint; owner: bigint | undefined } {
  const [own, owner] = response.responses;
  const oldest =
    owner?.response.case === 'responseRange' ? owner.response.value.kvs[0]?.createRevision : undefined;
  if (response.succeeded) return { mine: response.header!.revision, owner: oldest };
  const mine = own?.response.case === 'responseRange' ? own.response.value.kvs[0]?.createRevision : undefined;
  return { mine: mine ?? 0n, owner: oldest };
}

export function absent(key: Uint8Array) {
  return createdAt(key, 0n);
}

export function createdAt(key: Uint8Array, revision: bigint) {
  return {
    key,
    target: Compare_CompareTarget.CREATE,
    targetUnion: { case: 'createRevision' as const, value: revision },
  };
}

export function readMessage<T extends DescMessage>(
  core: GatewayCore,
  schema: T,
  bytes: Uint8Array,
  reply: UnaryReply,
) {
  try {
    return decodeRequest(schema, bytes);
  } catch (error) {
    const status = malformedRequest(error instanceof Error ? error.message : String(error));
    core.later(() => reply(status, []));
    return undefined;
  }
}

export function answer<T extends DescMessage>(reply: UnaryReply, schema: T, init: MessageInitShape<T>): void {
  reply(null, [toBinary(schema, create(schema, init))]);
}
