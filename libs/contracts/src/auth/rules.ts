import { Method } from '../method.ts';
import { services } from '../services.ts';

/**
 * What an RPC asks of its caller while authentication is on.
 *
 *   open        nothing
 *   anybody     nothing, but a token that comes with it has to hold
 *   user        to be somebody
 *   root        the role root
 *   range …     permissions on the keys that the request names, at every level of it
 *   leaseWrite  WRITE on every key of the lease;  leaseRead, leases: READ on them
 *   alarm       to look: user; to raise or clear: root
 *   ownUser     to be that user, or root;  ownRole: to have that role, or root
 *   watch       READ on the range, decided for each watch of the stream
 *   calls       made of calls of the above, each of which is checked in the caller's name
 *   link        between roles of the cluster: never a client's
 */
export type AuthRule =
  | 'open'
  | 'anybody'
  | 'user'
  | 'root'
  | 'range'
  | 'put'
  | 'deleteRange'
  | 'txn'
  | 'leaseWrite'
  | 'leaseRead'
  | 'leases'
  | 'alarm'
  | 'ownUser'
  | 'ownRole'
  | 'watch'
  | 'calls'
  | 'link';

type Rules = Readonly<Record<string, AuthRule>>;

const kv: Rules = {
  Range: 'range',
  RangeStream: 'range',
  Put: 'put',
  DeleteRange: 'deleteRange',
  Txn: 'txn',
  Compact: 'root',
};

const lease: Rules = {
  LeaseGrant: 'user',
  LeaseRevoke: 'leaseWrite',
  LeaseKeepAlive: 'leaseWrite',
  LeaseTimeToLive: 'leaseRead',
  LeaseLeases: 'leases',
};

const cluster: Rules = {
  MemberAdd: 'root',
  MemberRemove: 'root',
  MemberUpdate: 'root',
  MemberList: 'user',
  MemberPromote: 'root',
};

const maintenance: Rules = {
  Alarm: 'alarm',
  Status: 'user',
  Defragment: 'root',
  Hash: 'root',
  HashKV: 'root',
  Snapshot: 'root',
  MoveLeader: 'root',
  Downgrade: 'root',
};

const auth: Rules = {
  AuthEnable: 'root',
  AuthDisable: 'root',
  AuthStatus: 'anybody',
  Authenticate: 'open',
  UserAdd: 'root',
  UserGet: 'ownUser',
  UserList: 'root',
  UserDelete: 'root',
  UserChangePassword: 'root',
  UserGrantRole: 'root',
  UserRevokeRole: 'root',
  RoleAdd: 'root',
  RoleGet: 'ownRole',
  RoleList: 'root',
  RoleDelete: 'root',
  RoleGrantPermission: 'root',
  RoleRevokePermission: 'root',
};

const byService: Readonly<Record<string, Rules>> = {
  'etcdserverpb.KV': kv,
  'etcdserverpb.Watch': { Watch: 'watch' },
  'etcdserverpb.Lease': lease,
  'etcdserverpb.Cluster': cluster,
  'etcdserverpb.Maintenance': maintenance,
  'etcdserverpb.Auth': auth,
  'v3electionpb.Election': {
    Campaign: 'calls',
    Proclaim: 'calls',
    Leader: 'calls',
    Observe: 'calls',
    Resign: 'calls',
  },
  'v3lockpb.Lock': { Lock: 'calls', Unlock: 'calls' },
  'grpc.health.v1.Health': { Check: 'open', List: 'open', Watch: 'open' },
};

/** By gRPC path. An RPC that is not here is refused while authentication is on. */
export const authRules: ReadonlyMap<string, AuthRule> = new Map(
  services
    .flatMap((service) => service.rpcs)
    .flatMap((rpc): [string, AuthRule][] => {
      const rule = byService[rpc.service]?.[rpc.name];
      return rule === undefined ? [] : [[rpc.path, rule]];
    }),
);

const byMethod: (AuthRule | undefined)[] = [];
for (const rpc of services.flatMap((service) => service.rpcs)) {
  const rule = authRules.get(rpc.path);
  if (rpc.method !== undefined && rule !== undefined) byMethod[rpc.method] = rule;
}
byMethod[Method.snapshot] = 'root';
for (const method of [Method.watchHistory, Method.backup, Method.identify, Method.authSync]) {
  byMethod[method] = 'link';
}

/** Of a request on the link. Undefined: refused. */
export function ruleOf(method: number): AuthRule | undefined {
  return byMethod[method];
}
