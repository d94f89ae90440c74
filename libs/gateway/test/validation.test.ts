import { create, type DescMessage, type MessageInitShape, toBinary } from '@bufbuild/protobuf';
import { utf8 } from '@quoin/base';
import { etcdErrors, Method, type RpcStatus } from '@quoin/contracts';
import {
  DeleteRangeRequestSchema,
  PutRequestSchema,
  type RangeRequest_SortOrder,
  type RangeRequest_SortTarget,
  RangeRequestSchema,
  type RequestOpSchema,
  TxnRequestSchema,
} from '@quoin/contracts/etcd';
import { Gateway } from '@quoin/gateway';
import { expect, test } from 'vitest';
import { FakeCluster } from './fake-cluster.ts';
import { unary, World } from './world.ts';

type Op = MessageInitShape<typeof RequestOpSchema>;
type TxnInit = MessageInitShape<typeof TxnRequestSchema>;

const bytes = <T extends DescMessage>(schema: T, init: MessageInitShape<T>) =>
  toBinary(schema, create(schema, init));
const put = (key: string, more: object = {}): Op => ({
  request: { case: 'requestPut', value: { key: utf8(key), ...more } },
});
const del = (key: string, end = ''): Op => ({
  request: { case: 'requestDeleteRange', value: { key: utf8(key), rangeEnd: utf8(end) } },
});
const get = (key: string, more: object = {}): Op => ({
  request: { case: 'requestRange', value: { key: utf8(key), ...more } },
});
const txn = (success: Op[], failure: Op[] = []): Op => ({
  request: { case: 'requestTxn', value: { success, failure } },
});
const many = (n: number, op: (i: number) => Op): Op[] => Array.from({ length: n }, (_, i) => op(i));

/** Undefined: it must reach a member. */
const cases: [name: string, path: string, request: Uint8Array, expected: RpcStatus | undefined][] = [
  ['range without key', 'Range', bytes(RangeRequestSchema, {}), etcdErrors.emptyKey],
  ['range with key', 'Range', bytes(RangeRequestSchema, { key: utf8('a') }), undefined],
  [
    'range, sort order',
    'Range',
    bytes(RangeRequestSchema, { key: utf8('a'), sortOrder: 3 as RangeRequest_SortOrder }),
    etcdErrors.invalidSortOption,
  ],
  [
    'range, negative sort',
    'Range',
    bytes(RangeRequestSchema, { key: utf8('a'), sortOrder: -1 as RangeRequest_SortOrder }),
    etcdErrors.invalidSortOption,
  ],
  [
    'range, sort target',
    'Range',
    bytes(RangeRequestSchema, { key: utf8('a'), sortTarget: 5 as RangeRequest_SortTarget }),
    etcdErrors.invalidSortOption,
  ],
  [
    'range, key before sort',
    'Range',
    bytes(RangeRequestSchema, { sortTarget: 5 as RangeRequest_SortTarget }),
    etcdErrors.emptyKey,
  ],
  ['put without key', 'Put', bytes(PutRequestSchema, { value: utf8('x') }), etcdErrors.emptyKey],
  [
    'put, ignore_value with value',
    'Put',
    bytes(PutRequestSchema, {
      key: utf8('a'),
      value: utf8('x'),
      ignoreValue: true,
      ignoreLease: true,
      lease: 5n,
    }),
    etcdErrors.valueProvided,
  ],
  [
    'put, ignore_lease with lease',
    'Put',
    bytes(PutRequestSchema, { key: utf8('a'), ignoreValue: true, ignoreLease: true, lease: 5n }),
    etcdErrors.leaseProvided,
  ],
  [
    'put, ignoring both',
    'Put',
    bytes(PutRequestSchema, { key: utf8('a'), ignoreValue: true, ignoreLease: true }),
    undefined,
  ],
  [
    'delete without key',
    'DeleteRange',
    bytes(DeleteRangeRequestSchema, { rangeEnd: utf8('b') }),
    etcdErrors.emptyKey,
  ],
  [
    'malformed put',
    'Put',
    new Uint8Array([10, 5, 1]),
    { code: 13, message: 'grpc: error unmarshalling request: message ends inside a field' },
  ],
];

const txnCases: [name: string, request: TxnInit, expected: RpcStatus | undefined][] = [
  ['empty', {}, undefined],
  ['128 operations', { success: many(128, (i) => put(`k${i}`)) }, undefined],
  ['129 operations', { success: many(129, (i) => put(`k${i}`)) }, etcdErrors.tooManyOps],
  ['129 in the other branch', { failure: many(129, (i) => put(`k${i}`)) }, etcdErrors.tooManyOps],
  [
    '129 compares',
    { compare: many(129, () => ({}) as Op).map(() => ({ key: utf8('a') })) },
    etcdErrors.tooManyOps,
  ],
  [
    'too many before empty key',
    { compare: many(129, () => ({}) as Op).map(() => ({})) },
    etcdErrors.tooManyOps,
  ],
  ['compare without key', { compare: [{}], success: [put('')] }, etcdErrors.emptyKey],
  ['operation that is none', { success: [{ request: { case: undefined } }] }, etcdErrors.keyNotFound],
  ['inner put without key', { success: [put('')] }, etcdErrors.emptyKey],
  [
    'inner put, value provided',
    { failure: [put('a', { ignoreValue: true, value: utf8('x') })] },
    etcdErrors.valueProvided,
  ],
  ['inner range, sort', { success: [get('a', { sortOrder: 9 })] }, etcdErrors.invalidSortOption],
  ['inner delete without key', { success: [del('')] }, etcdErrors.emptyKey],
  // A nested txn has 128 less what its parent counts.
  ['nested within budget', { success: [txn(many(127, (i) => put(`k${i}`)))] }, undefined],
  ['nested beyond budget', { success: [txn(many(128, (i) => put(`k${i}`)))] }, etcdErrors.tooManyOps],
  [
    'budget counts the longest list',
    { success: [txn([put('a')])], failure: many(128, (i) => put(`k${i}`)) },
    etcdErrors.tooManyOps,
  ],
  [
    'siblings do not share it',
    { success: [txn(many(126, (i) => put(`a${i}`))), txn(many(126, (i) => put(`b${i}`)))] },
    undefined,
  ],
  ['operation before duplicate', { success: [put('a'), put('a'), put('')] }, etcdErrors.emptyKey],
  ['same put twice', { success: [put('a'), put('a')] }, etcdErrors.duplicateKey],
  ['same put twice, else', { failure: [put('a'), put('a')] }, etcdErrors.duplicateKey],
  ['then and else', { success: [put('a')], failure: [put('a')] }, undefined],
  ['put, then deleted', { success: [put('a'), del('a')] }, etcdErrors.duplicateKey],
  ['deleted, then put', { success: [del('a', 'c'), put('b')] }, etcdErrors.duplicateKey],
  ['put at the end of the range', { success: [del('a', 'c'), put('c')] }, undefined],
  [
    'delete from key is not seen',
    {
      success: [
        { request: { case: 'requestDeleteRange', value: { key: utf8('a'), rangeEnd: new Uint8Array(1) } } },
        put('b'),
      ],
    },
    undefined,
  ],
  ['inverted range is not seen', { success: [del('c', 'a'), put('b')] }, undefined],
  ['deletes may overlap', { success: [del('a', 'c'), del('b', 'd'), del('b')] }, undefined],
  ['put between touching ranges', { success: [del('a', 'b'), del('c', 'd'), put('b')] }, undefined],
  [
    'put in the second of many',
    { success: [del('x', 'z'), del('a', 'b'), del('c', 'd'), put('c')] },
    etcdErrors.duplicateKey,
  ],
  ['nested then and else', { success: [txn([put('a')], [put('a')])] }, undefined],
  ['nested and outer put', { success: [txn([put('a')]), put('a')] }, etcdErrors.duplicateKey],
  ['nested else and outer put', { success: [put('a'), txn([], [put('a')])] }, etcdErrors.duplicateKey],
  ['two nested siblings', { success: [txn([put('a')]), txn([], [put('a')])] }, etcdErrors.duplicateKey],
  ['outer delete, nested put', { success: [txn([put('b')]), del('a', 'c')] }, etcdErrors.duplicateKey],
  ['nested delete, outer put', { success: [put('b'), txn([], [del('a', 'c')])] }, etcdErrors.duplicateKey],
  [
    'earlier nested delete, later nested put',
    { success: [txn([del('a')]), txn([put('a')])] },
    etcdErrors.duplicateKey,
  ],
  // etcd's hole: in the other order nobody looks.
  ['earlier nested put, later nested delete', { success: [txn([put('a')]), txn([del('a')])] }, undefined],
  ['nested then-put, else-delete', { success: [txn([put('a')], [del('a')])] }, undefined],
];

function run(path: string, request: Uint8Array) {
  const world = new World();
  const cluster = new FakeCluster(world, 1);
  const seen = cluster.members[0]!;
  seen.override = () => ({ code: 2, message: 'reached the member' });
  const gateway = new Gateway({ name: 'g', memberUrls: [seen.url] }, world.ports(cluster.dial));
  gateway.start();
  world.run(20);
  const call = unary(world, gateway, path, request);
  world.run(20);
  return { status: call.status, requests: seen.seen };
}

test.each(cases)('%s', (_, rpc, request, expected) => {
  const { status, requests } = run(`/etcdserverpb.KV/${rpc}`, request);
  expect(status).toEqual(expected ?? { code: 2, message: 'reached the member' });
  expect(requests.length).toBe(expected === undefined ? 1 : 0);
});

test.each(txnCases)('txn: %s', (_, request, expected) => {
  const encoded = bytes(TxnRequestSchema, request);
  const { status, requests } = run('/etcdserverpb.KV/Txn', encoded);
  expect(status).toEqual(expected ?? { code: 2, message: 'reached the member' });
  // The bytes of the client, untouched.
  if (expected === undefined) expect(requests[0]).toMatchObject({ method: Method.txn, body: encoded });
});

test('nesting that would overrun the stack is malformed', () => {
  let op = put('a');
  for (let i = 0; i < 400; i++) op = txn([op]);
  const { status } = run('/etcdserverpb.KV/Txn', bytes(TxnRequestSchema, { success: [op] }));
  expect(status?.code).toBe(13);
});
