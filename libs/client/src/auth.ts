import {
  Auth,
  type AuthDisableResponse,
  type AuthEnableResponse,
  type AuthRoleAddResponse,
  type AuthRoleDeleteResponse,
  type AuthRoleGetResponse,
  type AuthRoleGrantPermissionResponse,
  type AuthRoleListResponse,
  type AuthRoleRevokePermissionResponse,
  type AuthStatusResponse,
  type AuthUserAddResponse,
  type AuthUserChangePasswordResponse,
  type AuthUserDeleteResponse,
  type AuthUserGetResponse,
  type AuthUserGrantRoleResponse,
  type AuthUserListResponse,
  type AuthUserRevokeRoleResponse,
  Permission_Type,
} from '@quoin/contracts/etcd';
import { type KeyRangeOptions, keyRange } from './key-range.ts';
import type { Bytes, CallOptions } from './options.ts';
import type { Transport } from './transport.ts';

export type PermissionType = 'read' | 'write' | 'readwrite';

const permissionTypes = {
  read: Permission_Type.READ,
  write: Permission_Type.WRITE,
  readwrite: Permission_Type.READWRITE,
} as const;

/** Users, roles and permissions. Every call throws an EtcdError when it fails. */
export class AuthClient {
  private readonly transport: Transport;

  constructor(transport: Transport) {
    this.transport = transport;
  }

  enable(call?: CallOptions): Promise<AuthEnableResponse> {
    return this.transport.unary(Auth.method.authEnable, {}, call);
  }

  disable(call?: CallOptions): Promise<AuthDisableResponse> {
    return this.transport.unary(Auth.method.authDisable, {}, call);
  }

  status(call?: CallOptions): Promise<AuthStatusResponse> {
    return this.transport.unary(Auth.method.authStatus, {}, call);
  }

  /** Without a password the user can only come by certificate. */
  userAdd(name: string, password: string | undefined, call?: CallOptions): Promise<AuthUserAddResponse> {
    const request = { name, password: password ?? '', options: { noPassword: password === undefined } };
    return this.transport.unary(Auth.method.userAdd, request, call);
  }

  userGet(name: string, call?: CallOptions): Promise<AuthUserGetResponse> {
    return this.transport.unary(Auth.method.userGet, { name }, call);
  }

  userList(call?: CallOptions): Promise<AuthUserListResponse> {
    return this.transport.unary(Auth.method.userList, {}, call);
  }

  userDelete(name: string, call?: CallOptions): Promise<AuthUserDeleteResponse> {
    return this.transport.unary(Auth.method.userDelete, { name }, call);
  }

  userChangePassword(
    name: string,
    password: string,
    call?: CallOptions,
  ): Promise<AuthUserChangePasswordResponse> {
    return this.transport.unary(Auth.method.userChangePassword, { name, password }, call);
  }

  userGrantRole(user: string, role: string, call?: CallOptions): Promise<AuthUserGrantRoleResponse> {
    return this.transport.unary(Auth.method.userGrantRole, { user, role }, call);
  }

  userRevokeRole(name: string, role: string, call?: CallOptions): Promise<AuthUserRevokeRoleResponse> {
    return this.transport.unary(Auth.method.userRevokeRole, { name, role }, call);
  }

  roleAdd(name: string, call?: CallOptions): Promise<AuthRoleAddResponse> {
    return this.transport.unary(Auth.method.roleAdd, { name }, call);
  }

  roleGet(role: string, call?: CallOptions): Promise<AuthRoleGetResponse> {
    return this.transport.unary(Auth.method.roleGet, { role }, call);
  }

  roleList(call?: CallOptions): Promise<AuthRoleListResponse> {
    return this.transport.unary(Auth.method.roleList, {}, call);
  }

  roleDelete(role: string, call?: CallOptions): Promise<AuthRoleDeleteResponse> {
    return this.transport.unary(Auth.method.roleDelete, { role }, call);
  }

  roleGrantPermission(
    name: string,
    type: PermissionType,
    key: Bytes,
    range: KeyRangeOptions = {},
    call?: CallOptions,
  ): Promise<AuthRoleGrantPermissionResponse> {
    const perm = { permType: permissionTypes[type], ...keyRange(key, range) };
    return this.transport.unary(Auth.method.roleGrantPermission, { name, perm }, call);
  }

  roleRevokePermission(
    role: string,
    key: Bytes,
    range: KeyRangeOptions = {},
    call?: CallOptions,
  ): Promise<AuthRoleRevokePermissionResponse> {
    return this.transport.unary(Auth.method.roleRevokePermission, { role, ...keyRange(key, range) }, call);
  }
}
