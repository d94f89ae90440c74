import type { MessageInitShape } from '@bufbuild/protobuf';
import {
  type CompactionResponse,
  Compare_CompareResult,
  Compare_CompareTarget,
  type CompareSchema,
  type DeleteRangeRequestSchema,
  type DeleteRangeResponse,
  KV,
  type PutRequestSchema,
  type PutResponse,
  RangeRequest_SortOrder,
  RangeRequest_SortTarget,
  type RangeRequestSchema,
  type RangeResponse,
  type RequestOpSchema,
  type TxnRequestSchema,
  type TxnResponse,
} from '@quoin/contracts/etcd';
import { type KeyRangeOptions, keyRange, toBytes } from './key-range.ts';
import type { Bytes, CallOptions, Int64 } from './options.ts';
import type { Transport } from './transport.ts';

export interface RangeOptions extends KeyRangeOptions {
  /** 0 = no limit. */
  readonly limit?: Int64 | undefined;
  /** 0 = the latest. */
  readonly revision?: Int64 | undefined;
  readonly sortBy?: 'key' | 'version' | 'create' | 'mod' | 'value' | undefined;
  readonly order?: 'none' | 'ascend' | 'descend' | undefined;
  /** Answered by the member at hand from what it has, without asking the others. */
  readonly serializable?: boolean | undefined;
  readonly keysOnly?: boolean | undefined;
  readonly countOnly?: boolean | undefined;
  readonly minModRevision?: Int64 | undefined;
  readonly maxModRevision?: Int64 | undefined;
  readonly minCreateRevision?: Int64 | undefined;
  readonly maxCreateRevision?: Int64 | undefined;
}

export interface PutOptions {
  readonly lease?: Int64 | undefined;
  readonly prevKv?: boolean | undefined;
  readonly ignoreValue?: boolean | undefined;
  readonly ignoreLease?: boolean | undefined;
}

export interface DeleteOptions extends KeyRangeOptions {
  readonly prevKv?: boolean | undefined;
}

export type Op = MessageInitShape<typeof RequestOpSchema>;
export type Comparison = MessageInitShape<typeof CompareSchema>;

const sortTargets = {
  key: RangeRequest_SortTarget.KEY,
  version: RangeRequest_SortTarget.VERSION,
  create: RangeRequest_SortTarget.CREATE,
  mod: RangeRequest_SortTarget.MOD,
  value: RangeRequest_SortTarget.VALUE,
} as const;

const sortOrders = {
  none: RangeRequest_SortOrder.NONE,
  ascend: RangeRequest_SortOrder.ASCEND,
  descend: RangeRequest_SortOrder.DESCEND,
} as const;

export function rangeRequest(key: Bytes, o: RangeOptions = {}): MessageInitShape<typeof RangeRequestSchema> {
  return {
    ...keyRange(key, o),
    limit: BigInt(o.limit ?? 0),
    revision: BigInt(o.revision ?? 0),
    sortOrder: sortOrders[o.order ?? 'none'],
    sortTarget: sortTargets[o.sortBy ?? 'key'],
    serializable: o.serializable ?? false,
    keysOnly: o.keysOnly ?? false,
    countOnly: o.countOnly ?? false,
    minModRevision: BigInt(o.minModRevision ?? 0),
    maxModRevision: BigInt(o.maxModRevision ?? 0),
    minCreateRevision: BigInt(o.minCreateRevision ?? 0),
    maxCreateRevision: BigInt(o.maxCreateRevision ?? 0),
  };
}

function putRequest(key: Bytes, value: Bytes, o: PutOptions = {}): MessageInitShape<typeof PutRequestSchema> {
  return {
    key: toBytes(key),
    value: toBytes(value),
    lease: BigInt(o.lease ?? 0),
    prevKv: o.prevKv ?? false,
    ignoreValue: o.ignoreValue ?? false,
    ignoreLease: o.ignoreLease ?? false,
  };
}

function deleteRequest(key: Bytes, o: DeleteOptions = {}): MessageInitShape<typeof DeleteRangeRequestSchema> {
  return { ...keyRange(key, o), prevKv: o.prevKv ?? false };
}

/** Operations of a transaction. */
export const op = {
  get: (key: Bytes, options?: RangeOptions): Op => ({
    request: { case: 'requestRange', value: rangeRequest(key, options) },
  }),
  put: (key: Bytes, value: Bytes, options?: PutOptions): Op => ({
    request: { case: 'requestPut', value: putRequest(key, value, options) },
  }),
  delete: (key: Bytes, options?: DeleteOptions): Op => ({
    request: { case: 'requestDeleteRange', value: deleteRequest(key, options) },
  }),
  txn: (txn: Txn): Op => ({ request: { case: 'requestTxn', value: txnRequest(txn) } }),
} as const;

export type CompareOperator = '=' | '!=' | '<' | '>';

const results = {
  '=': Compare_CompareResult.EQUAL,
  '!=': Compare_CompareResult.NOT_EQUAL,
  '<': Compare_CompareResult.LESS,
  '>': Compare_CompareResult.GREATER,
} as const;

/** Conditions of a transaction. With a range, every key in it must satisfy the comparison. */
export const compare = {
  version: (
    key: Bytes,
    operator: CompareOperator,
    version: Int64,
    range: KeyRangeOptions = {},
  ): Comparison => ({
    ...keyRange(key, range),
    result: results[operator],
    target: Compare_CompareTarget.VERSION,
    targetUnion: { case: 'version', value: BigInt(version) },
  }),
  createRevision: (
    key: Bytes,
    operator: CompareOperator,
    revision: Int64,
    range: KeyRangeOptions = {},
  ): Comparison => ({
    ...keyRange(key, range),
    result: results[operator],
    target: Compare_CompareTarget.CREATE,
    targetUnion: { case: 'createRevision', value: BigInt(revision) },
  }),
  modRevision: (
    key: Bytes,
    operator: CompareOperator,
    revision: Int64,
    range: KeyRangeOptions = {},
  ): Comparison => ({
    ...keyRange(key, range),
    result: results[operator],
    target: Compare_CompareTarget.MOD,
    targetUnion: { case: 'modRevision', value: BigInt(revision) },
  }),
  value: (key: Bytes, operator: CompareOperator, value: Bytes, range: KeyRangeOptions = {}): Comparison => ({
    ...keyRange(key, range),
    result: results[operator],
    target: Compare_CompareTarget.VALUE,
    targetUnion: { case: 'value', value: toBytes(value) },
  }),
  lease: (key: Bytes, operator: CompareOperator, lease: Int64, range: KeyRangeOptions = {}): Comparison => ({
    ...keyRange(key, range),
    result: results[operator],
    target: Compare_CompareTarget.LEASE,
    targetUnion: { case: 'lease', value: BigInt(lease) },
  }),
} as const;

/** `compare` all true: `success` is carried out, else `failure`; built with `compare.…` and `op.…`. */
export interface Txn {
  readonly compare?: readonly Comparison[] | undefined;
  readonly success?: readonly Op[] | undefined;
  readonly failure?: readonly Op[] | undefined;
}

function txnRequest(txn: Txn): MessageInitShape<typeof TxnRequestSchema> {
  return {
    compare: [...(txn.compare ?? [])],
    success: [...(txn.success ?? [])],
    failure: [...(txn.failure ?? [])],
  };
}

/** Keys and values. Every call throws an EtcdError when it fails. */
export class KvClient {
  private readonly transport: Transport;

  constructor(transport: Transport) {
    this.transport = transport;
  }

  get(key: Bytes, options?: RangeOptions, call?: CallOptions): Promise<RangeResponse> {
    return this.transport.unary(KV.method.range, rangeRequest(key, options), call);
  }

  /** The same answer in parts, for ranges too large for one message; an older server answers Unimplemented. */
  async *rangeStream(
    key: Bytes,
    options?: RangeOptions,
    call?: CallOptions,
  ): AsyncGenerator<RangeResponse, void, undefined> {
    for await (const part of this.transport.serverStream(
      KV.method.rangeStream,
      rangeRequest(key, options),
      call,
    )) {
      if (part.rangeResponse !== undefined) yield part.rangeResponse;
    }
  }

  put(key: Bytes, value: Bytes, options?: PutOptions, call?: CallOptions): Promise<PutResponse> {
    return this.transport.unary(KV.method.put, putRequest(key, value, options), call);
  }

  delete(key: Bytes, options?: DeleteOptions, call?: CallOptions): Promise<DeleteRangeResponse> {
    return this.transport.unary(KV.method.deleteRange, deleteRequest(key, options), call);
  }

  /** Repeated after a lost connection only when it holds nothing but reads. */
  txn(txn: Txn, call: CallOptions = {}): Promise<TxnResponse> {
    const ops = [...(txn.success ?? []), ...(txn.failure ?? [])];
    const idempotent = call.idempotent ?? ops.every((each) => each.request?.case === 'requestRange');
    return this.transport.unary(KV.method.txn, txnRequest(txn), { ...call, idempotent });
  }

  /** `physical`: answer only when the space has been given back. */
  compact(
    revision: Int64,
    options: { physical?: boolean | undefined } = {},
    call?: CallOptions,
  ): Promise<CompactionResponse> {
    const request = { revision: BigInt(revision), physical: options.physical ?? false };
    return this.transport.unary(KV.method.compact, request, call);
  }
}
