import {
  create,
  type DescMessage,
  fromBinary,
  type MessageInitShape,
  type MessageShape,
  toBinary,
} from '@bufbuild/protobuf';
import { concatBytes, utf8 } from '@quoin/base';
import { Code, etcdErrors, type RpcStatus } from '@quoin/contracts';
import {
  Event_EventType,
  LeaseGrantRequestSchema,
  LeaseGrantResponseSchema,
  RangeRequest_SortOrder,
  RangeRequest_SortTarget,
  RangeRequestSchema,
  type RangeResponse,
  RangeResponseSchema,
  TxnRequestSchema,
  type TxnResponse,
  TxnResponseSchema,
  WatchRequestSchema,
  type WatchResponse,
  WatchResponseSchema,
} from '@quoin/contracts/etcd';
import type { ApiHandler, CallContext, CancelCall, ServerStream } from './ports.ts';

type RangeInit = MessageInitShape<typeof RangeRequestSchema>;
type TxnInit = MessageInitShape<typeof TxnRequestSchema>;

/**
 * One call of the lock or election service: a chain of calls to this very gateway, made in the client's name and given up
 * with it. The first error ends the chain and is the client's answer.
 */
export class Chain {
  private readonly api: ApiHandler;
  private readonly context: CallContext;
  private readonly onError: (status: RpcStatus) => void;
  private cancelCurrent: CancelCall | undefined;
  private over = false;

  constructor(api: ApiHandler, context: CallContext, onError: (status: RpcStatus) => void) {
    this.api = api;
    this.context = context;
    this.onError = onError;
  }

  /** Gives up what is under way. Nothing is called back any more. */
  cancel(): void {
    this.over = true;
    this.cancelCurrent?.();
  }

  call<Q extends DescMessage, R extends DescMessage>(
    path: string,
    request: Q,
    init: MessageInitShape<Q>,
    response: R,
    then: (response: MessageShape<R>) => void,
  ): void {
    if (this.over) return;
    const bytes = toBinary(request, create(request, init));
    this.cancelCurrent = this.api.unary(path, bytes, this.context, (status, pieces) => {
      if (this.over) return;
      this.cancelCurrent = undefined;
      if (status !== null) this.fail(status);
      else then(fromBinary(response, concatBytes(pieces)));
    });
  }

  fail(status: RpcStatus): void {
    if (this.over) return;
    this.over = true;
    this.onError(asLibraryError(status));
  }

  range(init: RangeInit, then: (response: RangeResponse) => void): void {
    this.call('/etcdserverpb.KV/Range', RangeRequestSchema, init, RangeResponseSchema, then);
  }

  txn(init: TxnInit, then: (response: TxnResponse) => void): void {
    this.call('/etcdserverpb.KV/Txn', TxnRequestSchema, init, TxnResponseSchema, then);
  }

  /** The lease to hold on to; 0n: a new one, which nobody keeps alive. */
  lease(lease: bigint, ttlSeconds: number, then: (lease: bigint) => void): void {
    if (lease !== 0n) return then(lease);
    this.call(
      '/etcdserverpb.Lease/LeaseGrant',
      LeaseGrantRequestSchema,
      { TTL: BigInt(ttlSeconds) },
      LeaseGrantResponseSchema,
      (response) => then(response.ID),
    );
  }

  /** Waits until no key below `prefix` is older than `createRevision`: each time for the youngest of them to go. */
  awaitTurn(prefix: Uint8Array, createRevision: bigint, then: () => void): void {
    this.range(
      {
        ...under(prefix),
        limit: 1n,
        sortOrder: RangeRequest_SortOrder.DESCEND,
        sortTarget: RangeRequest_SortTarget.CREATE,
        maxCreateRevision: createRevision - 1n,
      },
      (response) => {
        const last = response.kvs[0];
        if (last === undefined) return then();
        this.watch(
          last.key,
          undefined,
          response.header!.revision + 1n,
          (watched) => watched.events.some((event) => event.type === Event_EventType.DELETE),
          () => this.awaitTurn(prefix, createRevision, then),
        );
      },
    );
  }

  /** Watches until `enough` says so. The watch is a stream of this gateway like any client's. */
  watch(
    key: Uint8Array,
    rangeEnd: Uint8Array | undefined,
    startRevision: bigint,
    enough: (response: WatchResponse) => boolean,
    then: () => void,
  ): void {
    if (this.over) return;
    const stream = new InnerStream();
    let done = false;
    stream.onResponse = (bytes) => {
      if (done || this.over) return;
      const response = fromBinary(WatchResponseSchema, bytes);
      if (response.canceled) return this.fail(etcdErrors.compacted);
      if (!enough(response)) return;
      done = true;
      this.cancelCurrent = undefined;
      stream.onCancel();
      then();
    };
    stream.onEnd = (status) => {
      if (!done) this.fail(status ?? etcdErrors.watchCanceled);
    };
    this.cancelCurrent = () => stream.onCancel();
    this.api.stream('/etcdserverpb.Watch/Watch', this.context, stream);
    const request = { key, startRevision, ...(rangeEnd === undefined ? {} : { rangeEnd }) };
    const init = { requestUnion: { case: 'createRequest' as const, value: request } };
    stream.onMessage(toBinary(WatchRequestSchema, create(WatchRequestSchema, init)));
  }
}

const tableTexts: ReadonlySet<string> = new Set(Object.values(etcdErrors).map((each) => each.message));

/**
 * etcd's lock and election services are clients of its own library, which turns an error of the table into a Go error
 * that has lost its code: on the wire it is Unknown, with the same text.
 */
function asLibraryError(status: RpcStatus): RpcStatus {
  return tableTexts.has(status.message) ? { code: Code.unknown, message: status.message } : status;
}

/** A client of this gateway inside this gateway: takes everything at once. */
class InnerStream implements ServerStream {
  onMessage: (message: Uint8Array) => void = () => undefined;
  onHalfClose = (): void => undefined;
  onCancel = (): void => undefined;
  onDrain = (): void => undefined;
  onResponse: (bytes: Uint8Array) => void = () => undefined;
  onEnd: (status: RpcStatus | null) => void = () => undefined;

  send(message: readonly Uint8Array[]): boolean {
    this.onResponse(concatBytes(message));
    return true;
  }

  queuedBytes(): number {
    return 0;
  }

  end(status: RpcStatus | null): void {
    this.onEnd(status);
  }
}

/** The key that one lease holds below a name, and what all of them begin with. */
export function contenderKey(name: Uint8Array, lease: bigint): { prefix: Uint8Array; key: Uint8Array } {
  const prefix = concatBytes([name, utf8('/')]);
  return { prefix, key: concatBytes([prefix, utf8(BigInt.asUintN(64, lease).toString(16))]) };
}

/** All keys that begin with `prefix`, which is not empty and does not end with 0xff. */
export function under(prefix: Uint8Array): { key: Uint8Array; rangeEnd: Uint8Array } {
  const rangeEnd = new Uint8Array(prefix);
  rangeEnd[rangeEnd.length - 1]!++;
  return { key: prefix, rangeEnd };
}

/** The oldest key below the prefix: who holds the lock, or leads. */
export function firstCreated(prefix: Uint8Array): RangeInit {
  return {
    ...under(prefix),
    limit: 1n,
    sortOrder: RangeRequest_SortOrder.ASCEND,
    sortTarget: RangeRequest_SortTarget.CREATE,
  };
}
