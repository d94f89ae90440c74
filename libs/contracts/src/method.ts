/** What a request on the link, or a proposal in the log, asks for. Numbers: proto/internal/v1/link.proto. */
export const Method = {
  unspecified: 0,
  range: 1,
  put: 2,
  deleteRange: 3,
  txn: 4,
  compact: 5,
  leaseGrant: 6,
  leaseRevoke: 7,
  leaseKeepAlive: 8,
  leaseTimeToLive: 9,
  leaseLeases: 10,
  memberAdd: 11,
  memberRemove: 12,
  memberUpdate: 13,
  memberList: 14,
  memberPromote: 15,
  alarm: 16,
  status: 17,
  defragment: 18,
  hash: 19,
  hashKV: 20,
  moveLeader: 21,
  downgrade: 22,
  snapshot: 23,
  authEnable: 32,
  authDisable: 33,
  authStatus: 34,
  authenticate: 35,
  userAdd: 36,
  userGet: 37,
  userList: 38,
  userDelete: 39,
  userChangePassword: 40,
  userGrantRole: 41,
  userRevokeRole: 42,
  roleAdd: 43,
  roleGet: 44,
  roleList: 45,
  roleDelete: 46,
  roleGrantPermission: 47,
  roleRevokePermission: 48,
  watchHistory: 64,
  backup: 65,
  attributes: 66,
  leaseExpire: 67,
  identify: 68,
  authSync: 69,
  hashCheck: 70,
  hashReport: 71,
  repair: 72,
  leaseCheckpoint: 73,
} as const;
export type Method = (typeof Method)[keyof typeof Method];

/** A request of etcd's API; the others are between members and gateways. */
export function isClientMethod(method: number): boolean {
  return method < Method.watchHistory;
}

const urgent: ReadonlySet<number> = new Set([
  Method.leaseKeepAlive,
  Method.leaseRevoke,
  Method.leaseExpire,
  Method.memberAdd,
  Method.memberRemove,
  Method.memberUpdate,
  Method.memberPromote,
  Method.memberList,
  Method.moveLeader,
  Method.status,
  Method.alarm,
  Method.identify,
  Method.authSync,
]);

/**
 * What keeps a cluster in trouble alive, or gets it out: where others are sent away because too many wait, there is as
 * much room again for these.
 */
export function isUrgent(method: number): boolean {
  return urgent.has(method);
}

const names = new Map<number, string>(Object.entries(Method).map(([name, number]) => [number, name]));

/** Name for logs, spans and metric labels; `method 99` for a number that is not in the table. */
export function methodName(method: number): string {
  return names.get(method) ?? `method ${method}`;
}
