/**
 * Users, roles and whether authentication is on: kept in the store's records, changed only at apply, the same on every
 * member. Every check here is part of the replicated state machine, in etcd's order.
 *
 *   disabled, revision 1 ──AuthEnable──► enabled, same revision ──AuthDisable──► disabled, revision + 1
 *        every change of a user, a role or a grant: revision + 1
 */
import { fromBinary } from '@bufbuild/protobuf';
import { compareBytes, equalBytes, readCounterBE, utf8, utf8Text, writeCounterBE } from '@quoin/base';
import { etcdErrors, otherErrors, type RpcStatus, WireReader, WireWriter } from '@quoin/contracts';
import {
  Authority,
  type AuthPermission,
  type EncodedRole,
  encodeAuthView,
  encodeRole,
  isOpenEnd,
  PermissionType,
  rootRole,
  rootUser,
  spliceRole,
} from '@quoin/contracts/auth';
import { type Role, RoleSchema, type User, UserSchema } from '@quoin/contracts/etcd';
import type { Store } from '@quoin/mvcc';
import { Table } from './records.ts';

export interface AuthUser {
  readonly name: string;
  /** A bcrypt hash as text; empty for who comes by certificate. */
  readonly password: Uint8Array;
  readonly noPassword: boolean;
  /** Sorted. */
  readonly roles: readonly string[];
  /** Tokens of an older auth revision are void: the password was changed, or the name given anew. */
  readonly since: number;
}

/** Permissions in order of their keys, those of one key in the order in which they were first granted. */
export type AuthRole = EncodedRole;

export interface RestoredAuth {
  readonly enabled: boolean;
  readonly revision: number;
  readonly tokenKey: Uint8Array;
  readonly users: readonly User[];
  readonly roles: readonly Role[];
}

const stateKey = utf8('state');
/** `u` user name: told from the state's key by its first byte. */
const sinceByte = 0x75;
const noKey: Uint8Array = new Uint8Array(0);
const writer = new WireWriter(1024);

type Change = RpcStatus | undefined;

export class AuthStore {
  enabled = false;
  revision = 1;
  /** Counts every change. */
  version = 0;
  /** Signs simple tokens; empty while there was no AuthEnable. */
  tokenKey: Uint8Array = noKey;
  readonly users = new Map<string, AuthUser>();
  readonly roles = new Map<string, AuthRole>();
  private cached: Authority | undefined;
  /** The one before the last change. */
  private outdated: Authority | undefined;
  private encoded: Uint8Array | undefined;

  /** Reads it back; that of a cluster whose authentication was never touched when there is nothing. */
  static load(store: Store): AuthStore {
    const auth = new AuthStore();
    const state = store.getRecord(Table.auth, stateKey);
    if (state !== undefined) auth.readState(state);
    const since = new Map<string, number>();
    store.scanRecords(Table.auth, (key, value) => {
      if (key[0] === sinceByte) since.set(utf8Text(key.subarray(1)), readCounterBE(value, 0));
    });
    store.scanRecords(Table.users, (_key, value) => {
      const user = fromBinary(UserSchema, value);
      const name = utf8Text(user.name);
      auth.users.set(name, {
        name,
        password: user.password,
        noPassword: user.options?.noPassword === true,
        roles: user.roles,
        since: since.get(name) ?? 0,
      });
    });
    store.scanRecords(Table.roles, (_key, value) => {
      const role = fromBinary(RoleSchema, value);
      const permissions = role.keyPermission.map(({ permType, key, rangeEnd }) => ({
        type: permType as number,
        key,
        rangeEnd,
      }));
      const name = utf8Text(role.name);
      auth.roles.set(name, { name, permissions, encoded: encodeRole(name, permissions) });
    });
    return auth;
  }

  /** Writes what another cluster's users and roles were; committed by the caller. */
  static restore(store: Store, from: RestoredAuth): void {
    const auth = new AuthStore();
    auth.enabled = from.enabled;
    auth.revision = from.revision;
    if (from.enabled) auth.tokenKey = from.tokenKey.slice();
    for (const { name, password, options, roles } of from.users) {
      const noPassword = options?.noPassword === true;
      auth.putUser(store, { name: utf8Text(name), password, noPassword, roles, since: from.revision });
    }
    for (const { name, keyPermission } of from.roles) {
      const permissions = keyPermission.map(({ permType, key, rangeEnd }) => ({
        type: permType as number,
        key,
        rangeEnd,
      }));
      auth.putRole(store, newRole(utf8Text(name), permissions));
    }
    auth.changed(store, false);
  }

  /** What the authoriser goes by. */
  get authority(): Authority {
    this.cached ??= new Authority(this.view(), this.outdated);
    this.outdated = undefined;
    return this.cached;
  }

  /** The same for gateways: no hash and no key is in it. */
  get encodedView(): Uint8Array {
    this.encoded ??= encodeAuthView(this.view());
    return this.encoded;
  }

  hasRootRole(name: string): boolean {
    return this.users.get(name)?.roles.includes(rootRole) === true;
  }

  /** `tokenKey` was drawn by the proposer. */
  enable(store: Store, tokenKey: Uint8Array): Change {
    if (this.enabled) return undefined;
    if (!this.users.has(rootUser)) return etcdErrors.rootUserNotExist;
    if (!this.hasRootRole(rootUser)) return etcdErrors.rootRoleNotExist;
    this.enabled = true;
    // A new key: tokens of an earlier time with authentication are not valid again.
    this.tokenKey = tokenKey.slice();
    this.changed(store, false);
    return undefined;
  }

  disable(store: Store): Change {
    if (!this.enabled) return undefined;
    this.enabled = false;
    this.changed(store, true);
    return undefined;
  }

  /** `hash` is what the proposer made of the password. */
  userAdd(store: Store, name: string, noPassword: boolean, hash: Uint8Array | undefined): Change {
    if (name === '') return etcdErrors.userEmpty;
    if (this.users.has(name)) return etcdErrors.userAlreadyExist;
    if (!noPassword && hash === undefined) return otherErrors.noPasswordUser;
    const password = noPassword ? noKey : hash!;
    this.putUser(store, { name, password, noPassword, roles: [], since: this.revision + 1 });
    this.changed(store, true);
    return undefined;
  }

  userDelete(store: Store, name: string): Change {
    if (this.enabled && name === rootUser) return etcdErrors.invalidAuthMgmt;
    if (!this.users.has(name)) return etcdErrors.userNotFound;
    this.users.delete(name);
    store.putRecord(Table.users, utf8(name), null);
    store.putRecord(Table.auth, sinceKey(name), null);
    this.changed(store, true);
    return undefined;
  }

  userChangePassword(store: Store, name: string, hash: Uint8Array | undefined): Change {
    const user = this.users.get(name);
    if (user === undefined) return etcdErrors.userNotFound;
    if (!user.noPassword && hash === undefined) return otherErrors.noPasswordUser;
    const password = user.noPassword ? noKey : hash!;
    this.putUser(store, { ...user, password, since: this.revision + 1 });
    this.changed(store, true);
    return undefined;
  }

  userGrantRole(store: Store, name: string, role: string): Change {
    const user = this.users.get(name);
    if (user === undefined) return etcdErrors.userNotFound;
    if (role !== rootRole && !this.roles.has(role)) return etcdErrors.roleNotFound;
    if (user.roles.includes(role)) return undefined;
    this.putUser(store, { ...user, roles: [...user.roles, role].sort(byBytes) });
    this.changed(store, true);
    return undefined;
  }

  userRevokeRole(store: Store, name: string, role: string): Change {
    if (this.enabled && name === rootUser && role === rootRole) return etcdErrors.invalidAuthMgmt;
    const user = this.users.get(name);
    if (user === undefined) return etcdErrors.userNotFound;
    if (!user.roles.includes(role)) return etcdErrors.roleNotGranted;
    this.putUser(store, { ...user, roles: user.roles.filter((each) => each !== role) });
    this.changed(store, true);
    return undefined;
  }

  roleAdd(store: Store, name: string): Change {
    if (name === '') return etcdErrors.roleEmpty;
    if (this.roles.has(name)) return etcdErrors.roleAlreadyExist;
    this.putRole(store, newRole(name, []));
    this.changed(store, true);
    return undefined;
  }

  roleDelete(store: Store, name: string): Change {
    if (this.enabled && name === rootRole) return etcdErrors.invalidAuthMgmt;
    if (!this.roles.has(name)) return etcdErrors.roleNotFound;
    this.roles.delete(name);
    store.putRecord(Table.roles, utf8(name), null);
    for (const user of [...this.users.values()]) {
      if (!user.roles.includes(name)) continue;
      this.putUser(store, { ...user, roles: user.roles.filter((each) => each !== name) });
    }
    this.changed(store, true);
    return undefined;
  }

  roleGrantPermission(store: Store, name: string, permission: AuthPermission | undefined): Change {
    if (permission === undefined) return etcdErrors.permissionNotGiven;
    const { key, rangeEnd } = permission;
    const range = rangeEnd.length === 0 || isOpenEnd(rangeEnd) || compareBytes(key, rangeEnd) < 0;
    if (key.length === 0 || !range) return etcdErrors.invalidAuthMgmt;
    const role = this.roles.get(name);
    if (role === undefined) return etcdErrors.roleNotFound;
    const granted = { type: permission.type, key: key.slice(), rangeEnd: rangeEnd.slice() };
    const { at, found } = placeOf(role.permissions, key, rangeEnd);
    this.putRole(store, spliceRole(role, at, found ? 1 : 0, [granted]));
    this.changed(store, true);
    return undefined;
  }

  roleRevokePermission(store: Store, name: string, key: Uint8Array, rangeEnd: Uint8Array): Change {
    const role = this.roles.get(name);
    if (role === undefined) return etcdErrors.roleNotFound;
    const { at, found } = placeOf(role.permissions, key, rangeEnd);
    if (!found) return etcdErrors.permissionNotGranted;
    this.putRole(store, spliceRole(role, at, 1, []));
    this.changed(store, true);
    return undefined;
  }

  /** What RoleGet shows; undefined: no such role. */
  permissionsOf(role: string): readonly AuthPermission[] | undefined {
    const found = this.roles.get(role);
    if (found === undefined || role !== rootRole) return found?.permissions;
    return [{ type: PermissionType.readWrite, key: noKey, rangeEnd: Uint8Array.of(0) }];
  }

  userNames(): string[] {
    return [...this.users.keys()].sort(byBytes);
  }

  roleNames(): string[] {
    return [...this.roles.keys()].sort(byBytes);
  }

  private view() {
    const users = this.userNames().map((name) => ({ name, roles: this.users.get(name)!.roles }));
    const roles = this.roleNames().map((name) => this.roles.get(name)!);
    const { enabled, revision, version } = this;
    return { enabled, revision, version, users, roles };
  }

  private changed(store: Store, newRevision: boolean): void {
    if (newRevision) this.revision++;
    this.version++;
    this.outdated = this.cached ?? this.outdated;
    this.cached = undefined;
    this.encoded = undefined;
    writer.begin();
    writer.bool(8, this.enabled);
    writer.uint(16, this.revision);
    writer.uint(24, this.version);
    writer.bytes(34, this.tokenKey);
    store.putRecord(Table.auth, stateKey, writer.finish());
  }

  private readState(record: Uint8Array): void {
    const reader = new WireReader(record);
    while (reader.more()) {
      const tag = reader.tag();
      if (tag === 8) this.enabled = reader.bool();
      else if (tag === 16) this.revision = reader.uint53();
      else if (tag === 24) this.version = reader.uint53();
      else if (tag === 34) this.tokenKey = reader.bytes().slice();
      else reader.skip(tag);
    }
  }

  private putUser(store: Store, user: AuthUser): void {
    const { name, password, noPassword, roles, since } = user;
    this.users.set(name, user);
    writer.begin();
    writer.bytes(10, utf8(name));
    writer.bytes(18, password);
    for (const role of roles) writer.textItem(26, role);
    const mark = writer.open(34, 2);
    writer.bool(8, noPassword);
    writer.close(mark, 2);
    store.putRecord(Table.users, utf8(name), writer.finish());
    const record = new Uint8Array(8);
    writeCounterBE(record, 0, since);
    store.putRecord(Table.auth, sinceKey(name), record);
  }

  private putRole(store: Store, role: AuthRole): void {
    this.roles.set(role.name, role);
    store.putRecord(Table.roles, utf8(role.name), role.encoded);
  }
}

function sinceKey(name: string): Uint8Array {
  const text = utf8(name);
  const key = new Uint8Array(1 + text.length);
  key[0] = sinceByte;
  key.set(text, 1);
  return key;
}

function newRole(name: string, permissions: readonly AuthPermission[]): AuthRole {
  return { name, permissions, encoded: encodeRole(name, permissions) };
}

/** Where the permission of that range is, or belongs: behind those of its key. */
function placeOf(
  permissions: readonly AuthPermission[],
  key: Uint8Array,
  rangeEnd: Uint8Array,
): { readonly at: number; readonly found: boolean } {
  let low = 0;
  let high = permissions.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (compareBytes(permissions[middle]!.key, key) < 0) low = middle + 1;
    else high = middle;
  }
  for (; low < permissions.length && equalBytes(permissions[low]!.key, key); low++)
    if (equalBytes(permissions[low]!.rangeEnd, rangeEnd)) return { at: low, found: true };
  return { at: low, found: false };
}

/** Go sorts text by its UTF-8 bytes; JavaScript's own order differs beyond the BMP. */
function byBytes(a: string, b: string): number {
  return compareBytes(utf8(a), utf8(b));
}
