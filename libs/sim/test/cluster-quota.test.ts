/** The quota and both alarms: raised through the log, the same on every member, undone by the operator alone. */
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { Method } from '@quoin/contracts';
import {
  AlarmRequestSchema,
  AlarmResponseSchema,
  StatusRequestSchema,
  StatusResponseSchema,
} from '@quoin/contracts/etcd';
import { etcd, type SimClient, type SimNode } from '@quoin/sim';
import { expect, test } from 'vitest';
import { expectEqualStates, started } from './cluster-support.ts';

const { idRequest, leaseGrantRequest, putOp, putRequest, rangeRequest, readHeader, readKvs, txnRequest } =
  etcd;

const noSpace = { kind: 'error', code: 8, message: 'etcdserver: mvcc: database space exceeded' };
const corrupt = { kind: 'error', code: 15, message: 'etcdserver: corrupt cluster' };

function alarm(client: SimClient, action: 0 | 1 | 2, memberID = 0n, type: 0 | 1 | 2 = 0) {
  const body = toBinary(AlarmRequestSchema, create(AlarmRequestSchema, { action, memberID, alarm: type }));
  return fromBinary(AlarmResponseSchema, client.ok(Method.alarm, body)).alarms.map((a) => [
    a.memberID,
    a.alarm,
  ]);
}

function status(client: SimClient, node: SimNode) {
  const body = toBinary(StatusRequestSchema, create(StatusRequestSchema));
  return fromBinary(StatusResponseSchema, client.ok(Method.status, body, node));
}

const quotaBackendBytes = 20_000;

test('what goes beyond the quota is refused cluster-wide until space was made and the alarm disarmed', () => {
  const { cluster, client } = started(60, 3, { quotaBackendBytes });
  client.ok(Method.leaseGrant, leaseGrantRequest(100, 5n));
  let stored = 0;
  for (; stored < 50; stored++) {
    const answer = client.call(Method.put, putRequest(`k${stored}`, 'x'.repeat(1_000)));
    if (answer.kind !== 'ok') {
      expect(answer).toEqual(noSpace);
      break;
    }
  }
  // 1,000 bytes, their key and what etcd counts for them; the last one only has to begin below the quota.
  expect(stored).toBe(18);
  const [raised] = alarm(client, 0);
  expect(raised).toEqual([cluster.leader()!.member!.memberId, 1]);
  cluster.settle();
  for (const node of cluster.nodes) {
    const { errors, dbSize, dbSizeQuota } = status(client, node);
    expect(errors).toEqual([`memberID:${raised![0]} alarm:NOSPACE`]);
    expect(Number(dbSize)).toBeGreaterThan(18_000);
    expect(Number(dbSizeQuota)).toBe(quotaBackendBytes);
  }
  // However small, and in whichever way.
  expect(client.call(Method.put, putRequest('a', '1'))).toEqual(noSpace);
  expect(client.call(Method.leaseGrant, leaseGrantRequest(10))).toEqual(noSpace);
  expect(client.call(Method.txn, txnRequest([], [putOp(putRequest('a', '1'))], []))).toEqual(noSpace);
  // Reads, deletes, compaction and revoking go on.
  expect(readKvs(client.ok(Method.range, rangeRequest('k1')))).toHaveLength(1);
  client.ok(Method.txn, txnRequest([], [etcd.rangeOp(rangeRequest('k1'))], []));
  client.ok(Method.leaseRevoke, idRequest(5n));
  client.ok(Method.deleteRange, etcd.deleteRequest('a', 'zz'));
  const revision = readHeader(client.ok(Method.range, rangeRequest('k1'))).revision;
  client.ok(Method.compact, etcd.compactRequest(revision, true));
  // Space alone does not end the alarm.
  expect(client.call(Method.put, putRequest('a', '1'))).toEqual(noSpace);
  expect(alarm(client, 2, raised![0] as bigint, 1)).toEqual([raised]);
  expect(alarm(client, 2, raised![0] as bigint, 1)).toEqual([]);
  client.ok(Method.put, putRequest('a', '1'));
  expectEqualStates(cluster);
  const sizes = cluster.nodes.map((node) => Number(status(client, node).dbSize));
  expect(new Set(sizes).size).toBe(1);
  expect(sizes[0]).toBeLessThan(2_000);
});

test('the put that trips the quota at apply is applied, though its client is told otherwise; alarms outlive a restart', () => {
  // All puts of one turn are let into the log, and together they are too much.
  const { cluster, client } = started(61, 3, { quotaBackendBytes: 2_500 });
  const answers: string[] = [];
  for (const key of ['a', 'b', 'c']) {
    client.request(Method.put, putRequest(key, 'x'.repeat(1_000)), (answer) => answers.push(answer.kind));
  }
  cluster.runUntil(() => answers.length === 3, 5_000);
  expect(answers).toEqual(['ok', 'ok', 'error']);
  const before = readKvs(client.ok(Method.range, rangeRequest('a', { end: 'z' }))).map((kv) => kv.key);
  expect(before).toEqual(['a', 'b', 'c']);
  for (const node of cluster.nodes) cluster.crash(node);
  cluster.start();
  cluster.waitForLeader();
  cluster.run(1_000);
  expect(client.call(Method.put, putRequest('d', '1'))).toEqual(noSpace);
  expectEqualStates(cluster);
});

test('a corrupt member stops every change and no read, also no lease runs out', () => {
  const { cluster, client } = started(62, 3, { corruptRepair: false });
  client.ok(Method.leaseGrant, leaseGrantRequest(2, 7n));
  client.ok(Method.put, putRequest('a', '1', { lease: 7n }));
  const id = cluster.nodes[1]!.member!.memberId;
  expect(alarm(client, 1, id, 2)).toEqual([[id, 2]]);
  expect(client.call(Method.put, putRequest('b', '1'))).toEqual(corrupt);
  expect(client.call(Method.txn, txnRequest([], [putOp(putRequest('a', '1'))], []))).toEqual(corrupt);
  expect(client.call(Method.leaseGrant, leaseGrantRequest(10))).toEqual(corrupt);
  expect(client.call(Method.leaseRevoke, idRequest(7n))).toEqual(corrupt);
  cluster.run(6_000);
  expect(readKvs(client.ok(Method.range, rangeRequest('a')))).toHaveLength(1);
  expect(alarm(client, 0, 0n, 1)).toEqual([]);
  expect(alarm(client, 0, 0n, 2)).toEqual([[id, 2]]);
  expect(alarm(client, 1, id, 0)).toEqual([]);
  expect(alarm(client, 2, id, 2)).toEqual([[id, 2]]);
  cluster.run(6_000);
  expect(readKvs(client.ok(Method.range, rangeRequest('a')))).toHaveLength(0);
  client.ok(Method.put, putRequest('b', '1'));
  expectEqualStates(cluster);
});
