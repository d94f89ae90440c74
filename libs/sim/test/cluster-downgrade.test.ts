import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { Method } from '@quoin/contracts';
import {
  DowngradeRequestSchema,
  DowngradeResponseSchema,
  StatusRequestSchema,
  StatusResponseSchema,
} from '@quoin/contracts/etcd';
import type { SimClient, SimNode } from '@quoin/sim';
import { expect, test } from 'vitest';
import { expectEqualStates, started } from './cluster-support.ts';

const [validate, enable, cancel] = [0, 1, 2] as const;

function downgrade(client: SimClient, action: 0 | 1 | 2, version = ''): string {
  const body = toBinary(DowngradeRequestSchema, create(DowngradeRequestSchema, { action, version }));
  const answer = client.call(Method.downgrade, body);
  if (answer.kind === 'error') return `${answer.code} ${answer.message}`;
  if (answer.kind !== 'ok') return answer.kind;
  return fromBinary(DowngradeResponseSchema, answer.body).version;
}

function status(client: SimClient, node: SimNode) {
  const body = toBinary(StatusRequestSchema, create(StatusRequestSchema));
  return fromBinary(StatusResponseSchema, client.ok(Method.status, body, node));
}

const format = '3 etcdserver: wrong downgrade target version format';
const invalid = '3 etcdserver: invalid downgrade target version';
const inProcess = '9 etcdserver: cluster has a downgrade job in progress';

test('validate, enable and cancel answer as etcd 3.7.1 does, on every member and after a restart', () => {
  const { cluster, client } = started(120);
  expect(downgrade(client, validate, '3.6')).toBe('3.7');
  expect(downgrade(client, validate, '3.6.12')).toBe('3.7');
  expect(downgrade(client, validate, '3.5')).toBe(invalid);
  expect(downgrade(client, validate, '3.7')).toBe(invalid);
  for (const wrong of ['', 'x', '3', 'v3.6', '3.6.x'])
    expect(downgrade(client, validate, wrong)).toBe(format);
  expect(downgrade(client, cancel)).toBe('3.7');
  expect(downgrade(client, enable, '3.5')).toBe(invalid);
  expect(downgrade(client, enable, '3.6')).toBe('3.7');
  expect(downgrade(client, enable, '3.6')).toBe(inProcess);
  expect(downgrade(client, validate, '3.6')).toBe(inProcess);
  for (const node of cluster.nodes) cluster.crash(node);
  cluster.start();
  cluster.waitForLeader();
  cluster.settle();
  for (const node of cluster.nodes) {
    const { downgradeInfo, storageVersion } = status(client, node);
    expect(downgradeInfo).toMatchObject({ enabled: true, targetVersion: '3.6.0' });
    expect(storageVersion).toBe('3.6.0');
  }
  expect(downgrade(client, cancel)).toBe('3.7');
  expect(status(client, cluster.leader()!).downgradeInfo).toMatchObject({
    enabled: false,
    targetVersion: '',
  });
  expectEqualStates(cluster);
});
