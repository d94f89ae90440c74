import { Method } from '@quoin/contracts';
import { etcd } from '@quoin/sim';
import { expect, test } from 'vitest';
import { started } from './cluster-support.ts';

const { putOp, putRequest, rangeRequest, readHeader, readKvs, txnRequest } = etcd;

// The header named the revision at the end of the read, the keys were those of its beginning: who lists and then watches
// from the next revision on missed what had happened in between.
test('a range that takes several turns is of the revision that its header names', () => {
  const { cluster, client } = started(85, 1, {}, { turnMs: 1 });
  const key = (i: number): string => `k${String(i).padStart(5, '0')}`;
  for (let i = 0; i < 6_000; i += 120) {
    const puts = Array.from({ length: 120 }, (_, j) => putOp(putRequest(key(i + j), 'old')));
    client.ok(Method.txn, txnRequest([], puts, []));
  }
  const link = client.linkTo(cluster.nodes[0]!);
  let acknowledged = 0;
  const write = (n: number): void => {
    if (n === 40) return;
    link.request(Method.put, putRequest(key(n * 150), `new${n}`), (answer) => {
      if (answer.kind === 'ok') acknowledged++;
      write(n + 1);
    });
  };
  write(0);
  cluster.run(3);
  let revision = 0;
  const request = rangeRequest('k', { end: 'l' });
  const body: Uint8Array[] = [];
  let done = false;
  link.request(
    Method.range,
    request,
    (answer) => {
      if (answer.kind === 'ok') body.push(answer.body);
      done = true;
    },
    { onPart: (part) => body.push(part) },
  );
  expect(cluster.runUntil(() => done, 10_000)).toBe(true);
  cluster.run(2_000);
  expect(acknowledged).toBe(40);
  const whole = new Uint8Array(body.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of body) {
    whole.set(part, at);
    at += part.length;
  }
  ({ revision } = readHeader(whole));
  const kvs = readKvs(whole);
  expect(kvs).toHaveLength(6_000);
  // Something was written after it: the read did not come last.
  expect(revision).toBeLessThan(cluster.nodes[0]!.member!.status().revision);
  const newest = Math.max(...kvs.map((kv) => kv.modRevision));
  expect(revision).toBe(newest);
});
