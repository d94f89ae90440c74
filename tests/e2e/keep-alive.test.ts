/** Very many leases kept alive over one stream, as Go's client keeps all of its own. */
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { credentials, Client as GrpcClient } from '@grpc/grpc-js';
import { Client } from '@quoin/client';
import { LeaseKeepAliveRequestSchema, LeaseKeepAliveResponseSchema } from '@quoin/contracts/etcd';
import { afterAll, expect, test } from 'vitest';
import { type Cluster, startCluster } from '../support/cluster.ts';

const leases = 100;
const requests = 12_000;
const ttlSeconds = 60;

let cluster: Cluster | undefined;

afterAll(async () => {
  await cluster?.stop();
});

function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
}

test('12,000 renewals at once over one stream are all answered, in order', async () => {
  cluster = await startCluster({ members: 3, gateways: 1 });
  const client = new Client({ endpoints: cluster.endpoints });
  const ids = Array.from({ length: leases }, (_, i) => BigInt(i + 1));
  await Promise.all(ids.map((id) => client.lease.grant(ttlSeconds, id)));
  client.close();
  const raw = new GrpcClient(cluster.endpoints[0]!, credentials.createInsecure());
  const stream = raw.makeBidiStreamRequest(
    '/etcdserverpb.Lease/LeaseKeepAlive',
    asBuffer,
    (bytes: Buffer) => bytes,
  );
  const got: bigint[] = [];
  const ended = new Promise((resolve, reject) => stream.on('end', resolve).on('error', reject));
  stream.on('data', (bytes: Buffer) => {
    const { ID, TTL } = fromBinary(LeaseKeepAliveResponseSchema, bytes);
    expect(TTL).toBe(BigInt(ttlSeconds));
    got.push(ID);
  });
  const expected = Array.from({ length: requests }, (_, i) => ids[i % leases]!);
  for (const ID of expected)
    stream.write(toBinary(LeaseKeepAliveRequestSchema, create(LeaseKeepAliveRequestSchema, { ID })));
  stream.end();
  await ended;
  raw.close();
  expect(got).toEqual(expected);
}, 60_000);
