import { Method } from '@quoin/contracts';
import { type Answer, etcd, type SimClient } from '@quoin/sim';
import { expect, test } from 'vitest';
import { expectEqualStates, started } from './cluster-support.ts';

const {
  deleteOp,
  deleteRequest,
  field,
  fields,
  putOp,
  putRequest,
  rangeOp,
  rangeRequest,
  readHeader,
  readKvs,
} = etcd;
const { txnOp, txnRequest, varint } = etcd;
type Compare = etcd.CompareOptions;

function succeeded(client: SimClient, compare: Compare): boolean {
  // A nested txn would change nothing; the put makes the txn a write, which is decided at apply.
  const write = txnRequest(
    [compare],
    [putOp(putRequest('marker', 'yes'))],
    [putOp(putRequest('marker', 'no'))],
  );
  const read = txnRequest([compare], [rangeOp(rangeRequest('marker'))], [rangeOp(rangeRequest('marker'))]);
  const byRead = varint(client.ok(Method.txn, read), 16) === 1n;
  const byWrite = varint(client.ok(Method.txn, write), 16) === 1n;
  expect(byRead).toBe(byWrite);
  return byWrite;
}

test('compares', () => {
  const { client } = started(20, 1);
  client.ok(Method.put, putRequest('a', 'x')); // revision 2, version 1
  client.ok(Method.put, putRequest('b', 'y')); // revision 3
  client.ok(Method.put, putRequest('b', 'z')); // revision 4, version 2
  const table: [Compare, boolean][] = [
    [{ key: 'a', target: 'value', result: '=', operand: 'x' }, true],
    [{ key: 'a', target: 'value', result: '!=', operand: 'x' }, false],
    [{ key: 'a', target: 'value', result: '>', operand: 'w' }, true],
    [{ key: 'a', target: 'value', result: '<', operand: 'w' }, false],
    [{ key: 'b', target: 'version', result: '=', operand: 2 }, true],
    [{ key: 'b', target: 'version', result: '>', operand: 2 }, false],
    [{ key: 'b', target: 'create', result: '=', operand: 3 }, true],
    [{ key: 'b', target: 'mod', result: '=', operand: 4 }, true],
    [{ key: 'b', target: 'mod', result: '<', operand: 4 }, false],
    [{ key: 'a', target: 'lease', result: '=', operand: 0 }, true],
    // A missing key compares as zero, except that its value is neither equal nor unequal to anything.
    [{ key: 'none', target: 'version', result: '=', operand: 0 }, true],
    [{ key: 'none', target: 'create', result: '>', operand: 0 }, false],
    [{ key: 'none', target: 'value', result: '=', operand: '' }, false],
    [{ key: 'none', target: 'value', result: '!=', operand: 'x' }, false],
    // Every key of a range must match.
    [{ key: 'a', end: 'c', target: 'version', result: '>', operand: 0 }, true],
    [{ key: 'a', end: 'c', target: 'version', result: '=', operand: 1 }, false],
    [{ key: 'a', end: 'c', target: 'value', result: '>', operand: 'w' }, true],
    [{ key: 'x', end: 'z', target: 'version', result: '=', operand: 0 }, true],
    [{ key: 'x', end: 'z', target: 'value', result: '!=', operand: 'q' }, false],
  ];
  for (const [compare, wanted] of table) {
    expect([compare, succeeded(client, compare)]).toEqual([compare, wanted]);
  }
});

test('one revision for all, responses in order, sub headers have the revision alone', () => {
  const { cluster, client } = started(21);
  client.ok(Method.put, putRequest('a', 'old'));
  const body = client.ok(
    Method.txn,
    txnRequest(
      [],
      [
        rangeOp(rangeRequest('a')),
        putOp(putRequest('a', 'new', { prevKv: true })),
        putOp(putRequest('b', 'b')),
        rangeOp(rangeRequest('a', { end: 'z' })),
        deleteOp(deleteRequest('q', 'r')),
      ],
    ),
  );
  const header = readHeader(body);
  expect(header.revision).toBe(3);
  expect(header.clusterId).toBe(cluster.nodes[0]!.member!.clusterId);
  const ops = fields(body, 26);
  const [first, put, , second, deleted] = ops.map((op) => field(op, 10) ?? field(op, 18) ?? field(op, 26)!);
  expect(readHeader(first!)).toEqual({ clusterId: 0n, memberId: 0n, revision: 2, raftTerm: 0 });
  expect(readKvs(first!).map((kv) => kv.value)).toEqual(['old']);
  expect(readHeader(put!).revision).toBe(3);
  expect(etcd.readKv(field(put!, 18)!).value).toBe('old');
  expect(readKvs(second!).map((kv) => [kv.key, kv.value, kv.modRevision])).toEqual([
    ['a', 'new', 3],
    ['b', 'b', 3],
  ]);
  expect(varint(deleted!, 16)).toBe(0n);
  expectEqualStates(cluster);
});

test('nested compares are decided before the first write', () => {
  const { client } = started(22, 1);
  const inner = txnRequest(
    [{ key: 'a', target: 'version', result: '=', operand: 0 }],
    [putOp(putRequest('seen', 'before'))],
    [putOp(putRequest('seen', 'after'))],
  );
  const body = client.ok(Method.txn, txnRequest([], [putOp(putRequest('a', '1')), txnOp(inner)]));
  expect(readKvs(client.ok(Method.range, rangeRequest('seen')))[0]!.value).toBe('before');
  const nested = field(fields(body, 26)[1]!, 34)!;
  expect(field(nested, 10)).toEqual(new Uint8Array(0));
  expect(varint(nested, 16)).toBe(1n);
});

test('what cannot be done fails the whole txn before anything is written', () => {
  const { cluster, client } = started(23);
  client.ok(Method.put, putRequest('a', '1'));
  const bad: [Uint8Array, string][] = [
    [putOp(putRequest('b', '1', { lease: 77n })), 'etcdserver: requested lease not found'],
    [putOp(putRequest('missing', '', { ignoreValue: true })), 'etcdserver: key not found'],
    [
      rangeOp(rangeRequest('a', { revision: 99 })),
      'etcdserver: mvcc: required revision is a future revision',
    ],
    [
      txnOp(txnRequest([], [putOp(putRequest('b', '1', { lease: 77n }))])),
      'etcdserver: requested lease not found',
    ],
  ];
  for (const [op, message] of bad) {
    const answer: Answer = client.call(Method.txn, txnRequest([], [putOp(putRequest('c', '1')), op]));
    expect(answer).toMatchObject({ kind: 'error', message });
  }
  const range = client.ok(Method.range, rangeRequest('a', { end: 'z' }));
  expect(readKvs(range).map((kv) => kv.key)).toEqual(['a']);
  expect(readHeader(range).revision).toBe(2);
  expectEqualStates(cluster);
});

test('a txn or delete that changes nothing does not move the revision', () => {
  const { client } = started(24, 1);
  client.ok(Method.put, putRequest('a', '1'));
  expect(readHeader(client.ok(Method.deleteRange, deleteRequest('x'))).revision).toBe(2);
  expect(readHeader(client.ok(Method.txn, txnRequest([], [deleteOp(deleteRequest('x'))]))).revision).toBe(2);
});

test('ignore_value and ignore_lease keep what is there', () => {
  const { client } = started(25, 1);
  const grant = client.ok(Method.leaseGrant, etcd.leaseGrantRequest(100, 5n));
  expect(varint(grant, 16)).toBe(5n);
  client.ok(Method.put, putRequest('a', 'v', { lease: 5n }));
  client.ok(Method.put, putRequest('a', 'w', { ignoreLease: true }));
  client.ok(Method.put, putRequest('a', '', { ignoreValue: true, lease: 5n }));
  expect(readKvs(client.ok(Method.range, rangeRequest('a')))[0]).toMatchObject({
    value: 'w',
    lease: 5n,
    version: 3,
  });
  const put = { kind: 'error', code: 3 };
  expect(client.call(Method.put, putRequest('a', 'x', { ignoreValue: true }))).toMatchObject({
    ...put,
    message: 'etcdserver: value is provided',
  });
  expect(client.call(Method.put, putRequest('a', 'x', { ignoreLease: true, lease: 5n }))).toMatchObject({
    ...put,
    message: 'etcdserver: lease is provided',
  });
  expect(client.call(Method.put, putRequest('none', '', { ignoreValue: true }))).toMatchObject({
    ...put,
    message: 'etcdserver: key not found',
  });
  expect(client.call(Method.put, putRequest('', 'x'))).toMatchObject({
    ...put,
    message: 'etcdserver: key is not provided',
  });
});
