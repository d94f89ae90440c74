/** gRPC status codes, as numbers on the wire. */
export const Code = {
  ok: 0,
  canceled: 1,
  unknown: 2,
  invalidArgument: 3,
  deadlineExceeded: 4,
  notFound: 5,
  alreadyExists: 6,
  permissionDenied: 7,
  resourceExhausted: 8,
  failedPrecondition: 9,
  aborted: 10,
  outOfRange: 11,
  unimplemented: 12,
  internal: 13,
  unavailable: 14,
  dataLoss: 15,
  unauthenticated: 16,
} as const;
export type Code = (typeof Code)[keyof typeof Code];

/** How a call ended, other than well. `message` is the exact text that the client sees. */
export interface RpcStatus {
  readonly code: number;
  readonly message: string;
}

const names = [
  'OK',
  'Canceled',
  'Unknown',
  'InvalidArgument',
  'DeadlineExceeded',
  'NotFound',
  'AlreadyExists',
  'PermissionDenied',
  'ResourceExhausted',
  'FailedPrecondition',
  'Aborted',
  'OutOfRange',
  'Unimplemented',
  'Internal',
  'Unavailable',
  'DataLoss',
  'Unauthenticated',
];

/** A code as Go prints it, which is also the value of the metric label grpc_code: `InvalidArgument`; else `Code(17)`. */
export function codeName(code: number): string {
  return names[code] ?? `Code(${code})`;
}

/** A status as Go prints an error made of it; some of etcd's texts contain this form, such as watch cancel reasons. */
export function statusText(status: RpcStatus): string {
  return `rpc error: code = ${codeName(status.code)} desc = ${status.message}`;
}
