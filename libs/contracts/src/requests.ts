/**
 * Readers of the requests that clients send most, as plain objects whose byte fields are views into the request.
 * int64 fields that are counters come as numbers, clamped to ±(2^53 − 1); leases come as bigint. Unknown enum numbers
 * are passed on: whoever serves the request decides. Each message reads as protobuf demands: fields in any order, the
 * last of a repeated singular field counts, a nested message given twice is merged.
 */
import { emptyBytes } from '@quoin/base';
import { WireReader } from './wire-reader.ts';

export interface PutRequestView {
  key: Uint8Array;
  value: Uint8Array;
  /** 0n: none. */
  lease: bigint;
  prevKv: boolean;
  ignoreValue: boolean;
  ignoreLease: boolean;
}

export interface RangeRequestView {
  key: Uint8Array;
  /** Empty: the one key; one zero byte: every key from `key` on. */
  rangeEnd: Uint8Array;
  /** 0 or less: none. */
  limit: number;
  /** 0 or less: the latest. */
  revision: number;
  /** 0 none, 1 ascend, 2 descend; others are the client's mistake. */
  sortOrder: number;
  /** 0 key, 1 version, 2 create, 3 mod, 4 value; others are the client's mistake. */
  sortTarget: number;
  serializable: boolean;
  keysOnly: boolean;
  countOnly: boolean;
  /** Inclusive; 0: off. */
  minModRevision: number;
  maxModRevision: number;
  minCreateRevision: number;
  maxCreateRevision: number;
}

export interface DeleteRangeRequestView {
  key: Uint8Array;
  rangeEnd: Uint8Array;
  prevKv: boolean;
}

/**
 * One condition of a txn. Of the five operands only the one that the client gave is not zero or empty; so reading the
 * operand that `target` asks for is always right, also when the client gave another.
 */
export interface CompareView {
  /** 0 equal, 1 greater, 2 less, 3 not equal. */
  result: number;
  /** 0 version, 1 create, 2 mod, 3 value, 4 lease. */
  target: number;
  key: Uint8Array;
  rangeEnd: Uint8Array;
  version: number;
  createRevision: number;
  modRevision: number;
  value: Uint8Array;
  lease: bigint;
}

/** `none`: no operation was given, or one that this version does not know. */
export type RequestOpView =
  | { readonly kind: 'range'; readonly request: RangeRequestView }
  | { readonly kind: 'put'; readonly request: PutRequestView }
  | { readonly kind: 'deleteRange'; readonly request: DeleteRangeRequestView }
  | { readonly kind: 'txn'; readonly request: TxnRequestView }
  | { readonly kind: 'none'; readonly request: undefined };

export interface TxnRequestView {
  compare: CompareView[];
  success: RequestOpView[];
  failure: RequestOpView[];
}

export interface CompactionRequestView {
  revision: number;
  physical: boolean;
}

/** @throws WireError */
export function readPutRequest(bytes: Uint8Array): PutRequestView {
  return mergePut(new WireReader(bytes), newPut());
}

/** @throws WireError */
export function readRangeRequest(bytes: Uint8Array): RangeRequestView {
  return mergeRange(new WireReader(bytes), newRange());
}

/** @throws WireError */
export function readDeleteRangeRequest(bytes: Uint8Array): DeleteRangeRequestView {
  return mergeDeleteRange(new WireReader(bytes), newDeleteRange());
}

/** @throws WireError, also when txns are nested too deep (`wireDepthMax`). */
export function readTxnRequest(bytes: Uint8Array): TxnRequestView {
  return mergeTxn(new WireReader(bytes), newTxn());
}

/** @throws WireError */
export function readCompactionRequest(bytes: Uint8Array): CompactionRequestView {
  const reader = new WireReader(bytes);
  const into: CompactionRequestView = { revision: 0, physical: false };
  while (reader.more()) {
    const tag = reader.tag();
    if (tag === 8) into.revision = reader.int53Clamped();
    else if (tag === 16) into.physical = reader.bool();
    else reader.skip(tag);
  }
  return into;
}

function newPut(): PutRequestView {
  return {
    key: emptyBytes,
    value: emptyBytes,
    lease: 0n,
    prevKv: false,
    ignoreValue: false,
    ignoreLease: false,
  };
}

function newRange(): RangeRequestView {
  return {
    key: emptyBytes,
    rangeEnd: emptyBytes,
    limit: 0,
    revision: 0,
    sortOrder: 0,
    sortTarget: 0,
    serializable: false,
    keysOnly: false,
    countOnly: false,
    minModRevision: 0,
    maxModRevision: 0,
    minCreateRevision: 0,
    maxCreateRevision: 0,
  };
}

function newDeleteRange(): DeleteRangeRequestView {
  return { key: emptyBytes, rangeEnd: emptyBytes, prevKv: false };
}

function newTxn(): TxnRequestView {
  return { compare: [], success: [], failure: [] };
}

// The merge functions read until the reader's window ends, so they serve a whole message as well as a nested one.

function mergePut(reader: WireReader, into: PutRequestView): PutRequestView {
  while (reader.more()) {
    const tag = reader.tag();
    switch (tag) {
      case 10:
        into.key = reader.bytes();
        break;
      case 18:
        into.value = reader.bytes();
        break;
      case 24:
        into.lease = reader.int64();
        break;
      case 32:
        into.prevKv = reader.bool();
        break;
      case 40:
        into.ignoreValue = reader.bool();
        break;
      case 48:
        into.ignoreLease = reader.bool();
        break;
      default:
        reader.skip(tag);
    }
  }
  return into;
}

function mergeRange(reader: WireReader, into: RangeRequestView): RangeRequestView {
  while (reader.more()) {
    const tag = reader.tag();
    switch (tag) {
      case 10:
        into.key = reader.bytes();
        break;
      case 18:
        into.rangeEnd = reader.bytes();
        break;
      case 24:
        into.limit = reader.int53Clamped();
        break;
      case 32:
        into.revision = reader.int53Clamped();
        break;
      case 40:
        into.sortOrder = reader.int32();
        break;
      case 48:
        into.sortTarget = reader.int32();
        break;
      case 56:
        into.serializable = reader.bool();
        break;
      case 64:
        into.keysOnly = reader.bool();
        break;
      case 72:
        into.countOnly = reader.bool();
        break;
      case 80:
        into.minModRevision = reader.int53Clamped();
        break;
      case 88:
        into.maxModRevision = reader.int53Clamped();
        break;
      case 96:
        into.minCreateRevision = reader.int53Clamped();
        break;
      case 104:
        into.maxCreateRevision = reader.int53Clamped();
        break;
      default:
        reader.skip(tag);
    }
  }
  return into;
}

function mergeDeleteRange(reader: WireReader, into: DeleteRangeRequestView): DeleteRangeRequestView {
  while (reader.more()) {
    const tag = reader.tag();
    if (tag === 10) into.key = reader.bytes();
    else if (tag === 18) into.rangeEnd = reader.bytes();
    else if (tag === 24) into.prevKv = reader.bool();
    else reader.skip(tag);
  }
  return into;
}

function mergeTxn(reader: WireReader, into: TxnRequestView): TxnRequestView {
  while (reader.more()) {
    const tag = reader.tag();
    if (tag === 10) {
      const outer = reader.enter();
      into.compare.push(readCompare(reader));
      reader.leave(outer);
    } else if (tag === 18 || tag === 26) {
      const outer = reader.enter();
      (tag === 18 ? into.success : into.failure).push(readRequestOp(reader));
      reader.leave(outer);
    } else {
      reader.skip(tag);
    }
  }
  return into;
}

function readCompare(reader: WireReader): CompareView {
  const into: CompareView = {
    result: 0,
    target: 0,
    key: emptyBytes,
    rangeEnd: emptyBytes,
    version: 0,
    createRevision: 0,
    modRevision: 0,
    value: emptyBytes,
    lease: 0n,
  };
  while (reader.more()) {
    const tag = reader.tag();
    switch (tag) {
      case 8:
        into.result = reader.int32();
        break;
      case 16:
        into.target = reader.int32();
        break;
      case 26:
        into.key = reader.bytes();
        break;
      case 32:
        clearOperand(into).version = reader.int53Clamped();
        break;
      case 40:
        clearOperand(into).createRevision = reader.int53Clamped();
        break;
      case 48:
        clearOperand(into).modRevision = reader.int53Clamped();
        break;
      case 58:
        clearOperand(into).value = reader.bytes();
        break;
      case 64:
        clearOperand(into).lease = reader.int64();
        break;
      case 514:
        into.rangeEnd = reader.bytes();
        break;
      default:
        reader.skip(tag);
    }
  }
  return into;
}

/** Of a oneof only the last one given counts. */
function clearOperand(into: CompareView): CompareView {
  into.version = 0;
  into.createRevision = 0;
  into.modRevision = 0;
  into.value = emptyBytes;
  into.lease = 0n;
  return into;
}

const noOperation: RequestOpView = Object.freeze({ kind: 'none', request: undefined });

function readRequestOp(reader: WireReader): RequestOpView {
  let op = noOperation;
  while (reader.more()) {
    const tag = reader.tag();
    if (tag !== 10 && tag !== 18 && tag !== 26 && tag !== 34) {
      reader.skip(tag);
      continue;
    }
    const outer = reader.enter();
    if (tag === 10) {
      op = { kind: 'range', request: mergeRange(reader, op.kind === 'range' ? op.request : newRange()) };
    } else if (tag === 18) {
      op = { kind: 'put', request: mergePut(reader, op.kind === 'put' ? op.request : newPut()) };
    } else if (tag === 26) {
      const into = op.kind === 'deleteRange' ? op.request : newDeleteRange();
      op = { kind: 'deleteRange', request: mergeDeleteRange(reader, into) };
    } else {
      op = { kind: 'txn', request: mergeTxn(reader, op.kind === 'txn' ? op.request : newTxn()) };
    }
    reader.leave(outer);
  }
  return op;
}
