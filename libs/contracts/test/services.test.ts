import { expect, test } from 'vitest';
import { Code, Method, rpcByPath, rpcByRoute, services, unimplemented } from '../src/index.ts';

test('every service of etcd is there with its RPCs', () => {
  const counts = Object.fromEntries(services.map((service) => [service.name, service.rpcs.length]));
  expect(counts).toEqual({
    'etcdserverpb.KV': 6,
    'etcdserverpb.Watch': 1,
    'etcdserverpb.Lease': 5,
    'etcdserverpb.Cluster': 5,
    'etcdserverpb.Maintenance': 8,
    'etcdserverpb.Auth': 17,
    'v3electionpb.Election': 5,
    'v3lockpb.Lock': 2,
    'grpc.health.v1.Health': 3,
  });
  expect(rpcByPath.size).toBe(52);
});

test('kinds, schemas and link methods', () => {
  const kinds = [...rpcByPath.values()]
    .filter((rpc) => rpc.kind !== 'unary')
    .map((rpc) => [rpc.path, rpc.kind]);
  expect(Object.fromEntries(kinds)).toEqual({
    '/etcdserverpb.KV/RangeStream': 'serverStream',
    '/etcdserverpb.Watch/Watch': 'bidi',
    '/etcdserverpb.Lease/LeaseKeepAlive': 'bidi',
    '/etcdserverpb.Maintenance/Snapshot': 'serverStream',
    '/v3electionpb.Election/Observe': 'serverStream',
    '/grpc.health.v1.Health/Watch': 'serverStream',
  });
  const compact = rpcByPath.get('/etcdserverpb.KV/Compact')!;
  expect(compact.request.typeName).toBe('etcdserverpb.CompactionRequest');
  expect(compact.response.typeName).toBe('etcdserverpb.CompactionResponse');
  expect(compact.method).toBe(Method.compact);
  // Every client method of the link belongs to exactly one RPC.
  const forwarded = [...rpcByPath.values()].map((rpc) => rpc.method).filter((method) => method !== undefined);
  const client = Object.values(Method).filter((method) => method > 0 && method < Method.watchHistory);
  expect(forwarded.sort((a, b) => a - b)).toEqual(client);
});

test('JSON routes, old names included', () => {
  expect(rpcByRoute.size).toBe(51);
  expect(rpcByRoute.get('/v3/kv/lease/revoke')).toBe(rpcByPath.get('/etcdserverpb.Lease/LeaseRevoke'));
  expect(rpcByRoute.get('/v3/maintenance/transfer-leadership')?.name).toBe('MoveLeader');
  expect(rpcByRoute.get('/v3/auth/user/grant')?.name).toBe('UserGrantRole');
  const without = [...rpcByPath.values()].filter((rpc) => rpc.routes.length === 0).map((rpc) => rpc.name);
  expect(without).toEqual(['RangeStream', 'Check', 'List', 'Watch']);
});

test('an RPC that is not served says which', () => {
  const texts = (paths: string[]) => paths.map((path) => unimplemented(path).message);
  expect(
    texts(['/etcdserverpb.KV/Foo', '/etcdserverpb.Discovery/Get', 'nonsense', '/etcdserverpb.Auth/UserAdd']),
  ).toEqual([
    'unknown method Foo for service etcdserverpb.KV',
    'unknown service etcdserverpb.Discovery',
    'malformed method name: "nonsense"',
    'quoin: etcdserverpb.Auth/UserAdd is not served yet',
  ]);
  expect(unimplemented('/a/b').code).toBe(Code.unimplemented);
});
