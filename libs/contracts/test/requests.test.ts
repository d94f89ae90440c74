import { type DescMessage, fromBinary, type MessageShape } from '@bufbuild/protobuf';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  CompactionRequestSchema,
  type Compare,
  DeleteRangeRequestSchema,
  LeaseGrantRequestSchema,
  LeaseKeepAliveRequestSchema,
  LeaseLeasesRequestSchema,
  LeaseRevokeRequestSchema,
  LeaseTimeToLiveRequestSchema,
  PutRequestSchema,
  type RangeRequest,
  RangeRequestSchema,
  type RequestOp,
  type TxnRequest,
  TxnRequestSchema,
  type WatchRequest,
  WatchRequestSchema,
} from '../src/etcd.ts';
import {
  type CompareView,
  type RequestOpView,
  readCompactionRequest,
  readDeleteRangeRequest,
  readLeaseGrantRequest,
  readLeaseKeepAliveRequest,
  readLeaseLeasesRequest,
  readLeaseRevokeRequest,
  readLeaseTimeToLiveRequest,
  readPutRequest,
  readRangeRequest,
  readTxnRequest,
  readWatchRequest,
  type TxnRequestView,
  WireError,
  WireWriter,
} from '../src/index.ts';
import { wire } from './wire-arbitrary.ts';

function clamp(value: bigint): number {
  if (value > BigInt(Number.MAX_SAFE_INTEGER)) return Number.MAX_SAFE_INTEGER;
  if (value < BigInt(Number.MIN_SAFE_INTEGER)) return Number.MIN_SAFE_INTEGER;
  return Number(value);
}

function exact(value: bigint): number | bigint {
  return Number.isSafeInteger(Number(value)) ? Number(value) : value;
}

/** Without what protobuf-es keeps beside the fields. */
function fieldsOf<T extends object>(message: T): Omit<T, '$typeName' | '$unknown'> {
  const {
    $typeName: _name,
    $unknown: _unknown,
    ...fields
  } = message as T & { $typeName: string; $unknown: unknown };
  return fields as Omit<T, '$typeName' | '$unknown'>;
}

function range(message: RangeRequest): object {
  return {
    ...fieldsOf(message),
    limit: clamp(message.limit),
    revision: clamp(message.revision),
    minModRevision: clamp(message.minModRevision),
    maxModRevision: clamp(message.maxModRevision),
    minCreateRevision: clamp(message.minCreateRevision),
    maxCreateRevision: clamp(message.maxCreateRevision),
  };
}

function compare(message: Compare): CompareView {
  const operand = message.targetUnion;
  return {
    result: message.result,
    target: message.target,
    key: message.key,
    rangeEnd: message.rangeEnd,
    version: operand.case === 'version' ? clamp(operand.value) : 0,
    createRevision: operand.case === 'createRevision' ? clamp(operand.value) : 0,
    modRevision: operand.case === 'modRevision' ? clamp(operand.value) : 0,
    value: operand.case === 'value' ? operand.value : new Uint8Array(0),
    lease: operand.case === 'lease' ? operand.value : 0n,
  };
}

function requestOp(message: RequestOp): object {
  const request = message.request;
  switch (request.case) {
    case 'requestRange':
      return { kind: 'range', request: range(request.value) };
    case 'requestPut':
      return { kind: 'put', request: fieldsOf(request.value) };
    case 'requestDeleteRange':
      return { kind: 'deleteRange', request: fieldsOf(request.value) };
    case 'requestTxn':
      return { kind: 'txn', request: txn(request.value) };
    default:
      return { kind: 'none', request: undefined };
  }
}

function txn(message: TxnRequest): object {
  return {
    compare: message.compare.map(compare),
    success: message.success.map(requestOp),
    failure: message.failure.map(requestOp),
  };
}

function watch(message: WatchRequest): object {
  const request = message.requestUnion;
  switch (request.case) {
    case 'createRequest': {
      const { filters, ...rest } = fieldsOf(request.value);
      return {
        kind: 'create',
        request: {
          ...rest,
          startRevision: clamp(rest.startRevision),
          watchId: exact(rest.watchId),
          noPut: filters.includes(0),
          noDelete: filters.includes(1),
        },
      };
    }
    case 'cancelRequest':
      return { kind: 'cancel', request: { watchId: exact(request.value.watchId) } };
    case 'progressRequest':
      return { kind: 'progress', request: undefined };
    default:
      return { kind: 'none', request: undefined };
  }
}

/** What the generated reader and ours make of the same bytes, whatever order and repetition they have. */
function readsAlike<D extends DescMessage>(
  desc: D,
  read: (bytes: Uint8Array) => unknown,
  expected: (message: MessageShape<D>) => unknown,
  runs = 300,
): void {
  fc.assert(
    fc.property(wire(desc, 'any'), (bytes) => {
      expect(read(bytes)).toEqual(expected(fromBinary(desc, bytes)));
    }),
    { numRuns: runs },
  );
}

test('a put request reads as the generated one', () =>
  readsAlike(PutRequestSchema, readPutRequest, fieldsOf));
test('a range request reads as the generated one', () =>
  readsAlike(RangeRequestSchema, readRangeRequest, range));
test('a delete request reads as the generated one', () =>
  readsAlike(DeleteRangeRequestSchema, readDeleteRangeRequest, fieldsOf));
test('a txn reads as the generated one, nested ones included', () =>
  readsAlike(TxnRequestSchema, readTxnRequest, txn, 500));
test('a compaction request reads as the generated one', () =>
  readsAlike(CompactionRequestSchema, readCompactionRequest, (message) => ({
    revision: clamp(message.revision),
    physical: message.physical,
  })));
test('a watch request reads as the generated one', () =>
  readsAlike(WatchRequestSchema, readWatchRequest, watch, 500));

test('lease requests read as the generated ones', () => {
  readsAlike(LeaseGrantRequestSchema, readLeaseGrantRequest, ({ TTL, ID }) => ({ ttl: clamp(TTL), id: ID }));
  readsAlike(LeaseRevokeRequestSchema, readLeaseRevokeRequest, ({ ID }) => ({ id: ID }));
  readsAlike(LeaseKeepAliveRequestSchema, readLeaseKeepAliveRequest, ({ ID }) => ({ id: ID }));
  readsAlike(LeaseTimeToLiveRequestSchema, readLeaseTimeToLiveRequest, ({ ID, keys }) => ({ id: ID, keys }));
  readsAlike(LeaseLeasesRequestSchema, readLeaseLeasesRequest, () => undefined);
});

test('a known field in a foreign encoding is skipped, as Go does', () => {
  // Field 1 (key) as a varint, then as bytes.
  expect(readPutRequest(new Uint8Array([8, 5, 10, 1, 65])).key).toEqual(new Uint8Array([65]));
  // Field 3 (lease) as fixed64.
  expect(readPutRequest(new Uint8Array([25, 1, 2, 3, 4, 5, 6, 7, 8])).lease).toBe(0n);
});

function nestedTxn(levels: number): Uint8Array {
  let txn = new Uint8Array(0);
  for (let i = 0; i < levels; i++) {
    const writer = new WireWriter();
    writer.begin();
    writer.bytesItem(34, txn);
    const op = writer.finish();
    writer.begin();
    writer.bytesItem(18, op);
    txn = writer.finish();
  }
  return txn;
}

test('txns nest as deep as etcd allows, and not as deep as the stack', () => {
  let txn: TxnRequestView | undefined = readTxnRequest(nestedTxn(129));
  let levels = 0;
  while (txn !== undefined) {
    const op: RequestOpView | undefined = txn.success[0];
    txn = op?.kind === 'txn' ? op.request : undefined;
    levels++;
  }
  expect(levels).toBe(130);
  expect(() => readTxnRequest(nestedTxn(200))).toThrow(WireError);
});

test('views of a request share its memory', () => {
  const bytes = new Uint8Array([10, 2, 65, 66]);
  const view = readPutRequest(bytes);
  expect(view.key.buffer).toBe(bytes.buffer);
  bytes[2] = 90;
  expect(view.key[0]).toBe(90);
});
