import type { DescMessage, DescMethod, DescService } from '@bufbuild/protobuf';
import { Auth, Cluster, KV, Lease, Maintenance, Watch } from './gen/etcd/api/etcdserverpb/rpc_pb.ts';
import { Election } from './gen/etcd/api/v3electionpb/v3election_pb.ts';
import { Lock } from './gen/etcd/api/v3lockpb/v3lock_pb.ts';
import { Health } from './gen/grpc/health/v1/health_pb.ts';
import { Method } from './method.ts';
import { Code, type RpcStatus } from './status.ts';

export type RpcKind = 'unary' | 'serverStream' | 'clientStream' | 'bidi';

/** One RPC of the client API. */
export interface Rpc {
  /** gRPC path, such as `/etcdserverpb.KV/Range`. */
  readonly path: string;
  /** Full name of the service, such as `etcdserverpb.KV`. */
  readonly service: string;
  /** Name within the service, such as `Range`. */
  readonly name: string;
  readonly kind: RpcKind;
  readonly request: DescMessage;
  readonly response: DescMessage;
  /**
   * What the client's request bytes travel as on the link. Undefined: never forwarded as they are — the gateway answers
   * by itself, or composes the answer from other requests.
   */
  readonly method: Method | undefined;
  /** Paths of the JSON API, POST only; the first is the main one, others are etcd's old names. */
  readonly routes: readonly string[];
}

export interface Service {
  readonly name: string;
  readonly rpcs: readonly Rpc[];
}

/** By name of the RPC: JSON routes below /v3, and the link method where there is one. */
type Table = Readonly<Record<string, { readonly routes: readonly string[]; readonly method?: Method }>>;

const kv: Table = {
  Range: { routes: ['/kv/range'], method: Method.range },
  RangeStream: { routes: [] },
  Put: { routes: ['/kv/put'], method: Method.put },
  DeleteRange: { routes: ['/kv/deleterange'], method: Method.deleteRange },
  Txn: { routes: ['/kv/txn'], method: Method.txn },
  Compact: { routes: ['/kv/compaction'], method: Method.compact },
};

const watch: Table = { Watch: { routes: ['/watch'] } };

const lease: Table = {
  LeaseGrant: { routes: ['/lease/grant'], method: Method.leaseGrant },
  LeaseRevoke: { routes: ['/lease/revoke', '/kv/lease/revoke'], method: Method.leaseRevoke },
  LeaseKeepAlive: { routes: ['/lease/keepalive'], method: Method.leaseKeepAlive },
  LeaseTimeToLive: { routes: ['/lease/timetolive', '/kv/lease/timetolive'], method: Method.leaseTimeToLive },
  LeaseLeases: { routes: ['/lease/leases', '/kv/lease/leases'], method: Method.leaseLeases },
};

const cluster: Table = {
  MemberAdd: { routes: ['/cluster/member/add'], method: Method.memberAdd },
  MemberRemove: { routes: ['/cluster/member/remove'], method: Method.memberRemove },
  MemberUpdate: { routes: ['/cluster/member/update'], method: Method.memberUpdate },
  MemberList: { routes: ['/cluster/member/list'], method: Method.memberList },
  MemberPromote: { routes: ['/cluster/member/promote'], method: Method.memberPromote },
};

const maintenance: Table = {
  Alarm: { routes: ['/maintenance/alarm'], method: Method.alarm },
  Status: { routes: ['/maintenance/status'], method: Method.status },
  Defragment: { routes: ['/maintenance/defragment'], method: Method.defragment },
  Hash: { routes: ['/maintenance/hash'], method: Method.hash },
  HashKV: { routes: ['/maintenance/hashkv'], method: Method.hashKV },
  Snapshot: { routes: ['/maintenance/snapshot'], method: Method.snapshot },
  MoveLeader: { routes: ['/maintenance/transfer-leadership'], method: Method.moveLeader },
  Downgrade: { routes: ['/maintenance/downgrade'], method: Method.downgrade },
};

const auth: Table = {
  AuthEnable: { routes: ['/auth/enable'], method: Method.authEnable },
  AuthDisable: { routes: ['/auth/disable'], method: Method.authDisable },
  AuthStatus: { routes: ['/auth/status'], method: Method.authStatus },
  Authenticate: { routes: ['/auth/authenticate'], method: Method.authenticate },
  UserAdd: { routes: ['/auth/user/add'], method: Method.userAdd },
  UserGet: { routes: ['/auth/user/get'], method: Method.userGet },
  UserList: { routes: ['/auth/user/list'], method: Method.userList },
  UserDelete: { routes: ['/auth/user/delete'], method: Method.userDelete },
  UserChangePassword: { routes: ['/auth/user/changepw'], method: Method.userChangePassword },
  UserGrantRole: { routes: ['/auth/user/grant'], method: Method.userGrantRole },
  UserRevokeRole: { routes: ['/auth/user/revoke'], method: Method.userRevokeRole },
  RoleAdd: { routes: ['/auth/role/add'], method: Method.roleAdd },
  RoleGet: { routes: ['/auth/role/get'], method: Method.roleGet },
  RoleList: { routes: ['/auth/role/list'], method: Method.roleList },
  RoleDelete: { routes: ['/auth/role/delete'], method: Method.roleDelete },
  RoleGrantPermission: { routes: ['/auth/role/grant'], method: Method.roleGrantPermission },
  RoleRevokePermission: { routes: ['/auth/role/revoke'], method: Method.roleRevokePermission },
};

const election: Table = {
  Campaign: { routes: ['/election/campaign'] },
  Proclaim: { routes: ['/election/proclaim'] },
  Leader: { routes: ['/election/leader'] },
  Observe: { routes: ['/election/observe'] },
  Resign: { routes: ['/election/resign'] },
};

const lock: Table = { Lock: { routes: ['/lock/lock'] }, Unlock: { routes: ['/lock/unlock'] } };

const kinds = {
  unary: 'unary',
  server_streaming: 'serverStream',
  client_streaming: 'clientStream',
  bidi_streaming: 'bidi',
} as const satisfies Record<DescMethod['methodKind'], RpcKind>;

function service(desc: DescService, table: Table): Service {
  const rpcs = desc.methods.map((method): Rpc => {
    const row = table[method.name];
    return Object.freeze({
      path: `/${desc.typeName}/${method.name}`,
      service: desc.typeName,
      name: method.name,
      kind: kinds[method.methodKind],
      request: method.input,
      response: method.output,
      method: row?.method,
      routes: (row?.routes ?? []).map((route) => `/v3${route}`),
    });
  });
  return Object.freeze({ name: desc.typeName, rpcs: Object.freeze(rpcs) });
}

/** Every service that etcd offers to clients, with every RPC. */
export const services: readonly Service[] = Object.freeze([
  service(KV, kv),
  service(Watch, watch),
  service(Lease, lease),
  service(Cluster, cluster),
  service(Maintenance, maintenance),
  service(Auth, auth),
  service(Election, election),
  service(Lock, lock),
  service(Health, {}),
]);

const rpcs: readonly Rpc[] = services.flatMap((each) => each.rpcs);

/** By gRPC path. */
export const rpcByPath: ReadonlyMap<string, Rpc> = new Map(rpcs.map((rpc) => [rpc.path, rpc]));

/** By path of the JSON API, old names included. `/v3beta/…` is to be read as `/v3/…`. */
export const rpcByRoute: ReadonlyMap<string, Rpc> = new Map(
  rpcs.flatMap((rpc) => rpc.routes.map((route): [string, Rpc] => [route, rpc])),
);

/**
 * The answer to a path that is not served. For what nobody knows, grpc-go's own texts; for an RPC of the API that is
 * not served yet, one that names it.
 */
export function unimplemented(path: string): RpcStatus {
  const code = Code.unimplemented;
  if (rpcByPath.has(path)) return { code, message: `quoin: ${path.slice(1)} is not served yet` };
  const full = path.startsWith('/') ? path.slice(1) : path;
  const slash = full.lastIndexOf('/');
  if (slash === -1) return { code, message: `malformed method name: ${JSON.stringify(path)}` };
  const name = full.slice(0, slash);
  if (services.some((each) => each.name === name)) {
    return { code, message: `unknown method ${full.slice(slash + 1)} for service ${name}` };
  }
  return { code, message: `unknown service ${name}` };
}
