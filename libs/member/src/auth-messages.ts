/** Requests and responses of the Auth service: rare, so the generated messages do. */
import { create, toBinary } from '@bufbuild/protobuf';
import type { ResponseHeader } from '@quoin/contracts';
import type { AuthPermission } from '@quoin/contracts/auth';
import {
  AuthenticateResponseSchema,
  AuthRoleGetResponseSchema,
  AuthStatusResponseSchema,
  AuthUserListResponseSchema,
  type Permission_Type,
} from '@quoin/contracts/etcd';
import { etcdHeader } from './cluster-messages.ts';

export function writeAuthStatus(
  header: ResponseHeader,
  status: { readonly enabled: boolean; readonly revision: number },
): Uint8Array {
  const { enabled, revision } = status;
  const response = { header: etcdHeader(header), enabled, authRevision: BigInt(revision) };
  return toBinary(AuthStatusResponseSchema, create(AuthStatusResponseSchema, response));
}

export function writeAuthenticateResponse(header: ResponseHeader, token: string): Uint8Array {
  const response = create(AuthenticateResponseSchema, { header: etcdHeader(header), token });
  return toBinary(AuthenticateResponseSchema, response);
}

/** UserGet, UserList and RoleList have one shape: header and names. */
export function writeNames(header: ResponseHeader, names: readonly string[]): Uint8Array {
  const response = create(AuthUserListResponseSchema, { header: etcdHeader(header), users: [...names] });
  return toBinary(AuthUserListResponseSchema, response);
}

export function writeRoleGet(header: ResponseHeader, permissions: readonly AuthPermission[]): Uint8Array {
  const perm = permissions.map(({ type, key, rangeEnd }) => ({
    permType: type as Permission_Type,
    key,
    rangeEnd,
  }));
  const response = create(AuthRoleGetResponseSchema, { header: etcdHeader(header), perm });
  return toBinary(AuthRoleGetResponseSchema, response);
}
