/** The auth state without its secrets (AuthView of proto/internal/v1/link.proto), and who a token stands for. */
import { concatBytes, emptyBytes, equalBytes } from '@quoin/base';
import { WireReader } from '../wire-reader.ts';
import { intSize, uintSize, WireWriter } from '../wire-writer.ts';

/** As in authpb; an unknown number permits nothing. */
export const PermissionType = { read: 0, write: 1, readWrite: 2 } as const;

export interface AuthPermission {
  /** A `PermissionType`. */
  readonly type: number;
  readonly key: Uint8Array;
  /** Empty: the key alone; `\0`: every key from `key` on. */
  readonly rangeEnd: Uint8Array;
}

export interface AuthUserView {
  readonly name: string;
  readonly roles: readonly string[];
}

export interface AuthRoleView {
  readonly name: string;
  readonly permissions: readonly AuthPermission[];
  /** Both as an encoded message, where that is at hand: roles may have very many permissions. */
  readonly encoded?: Uint8Array;
}

export interface AuthView {
  readonly enabled: boolean;
  readonly revision: number;
  /** Counts every change, also those that leave the revision as it is: of two views the higher is the newer. */
  readonly version: number;
  readonly users: readonly AuthUserView[];
  readonly roles: readonly AuthRoleView[];
}

export interface Identity {
  readonly user: string;
  /** Of the auth state in which the user was identified. */
  readonly authRevision: number;
  /** For the same user, and fresh. Empty: the one that was asked about. */
  readonly token: string;
  readonly ttlMs: number;
}

const writer = new WireWriter();
/** Of roles, which are written while a view is. */
const roleWriter = new WireWriter();
const expected = 64;

export function encodeAuthView(view: AuthView): Uint8Array {
  writer.begin();
  writer.bool(8, view.enabled);
  writer.uint(16, view.revision);
  writer.uint(24, view.version);
  for (const user of view.users) {
    const mark = writer.open(34, expected);
    writer.text(10, user.name);
    for (const role of user.roles) writer.textItem(18, role);
    writer.close(mark, expected);
  }
  for (const { name, permissions, encoded } of view.roles)
    writer.bytesItem(42, encoded ?? encodeRole(name, permissions));
  return writer.finish();
}

/** authpb.Role, and the roles of AuthView. */
export function encodeRole(name: string, permissions: readonly AuthPermission[]): Uint8Array {
  roleWriter.begin();
  roleWriter.text(10, name);
  for (const permission of permissions) writePermission(permission);
  return roleWriter.finish().slice();
}

function writePermission(permission: AuthPermission): void {
  const mark = roleWriter.open(18, expected);
  roleWriter.int(8, permission.type);
  roleWriter.bytes(18, permission.key);
  roleWriter.bytes(26, permission.rangeEnd);
  roleWriter.close(mark, expected);
}

/** A role whose encoded form is at hand. */
export type EncodedRole = AuthRoleView & { readonly encoded: Uint8Array };

/**
 * The encoded role with other permissions in place of `count` of its own from `at` on: what else there is of them is
 * copied, not encoded anew.
 */
export function spliceRole(
  role: EncodedRole,
  at: number,
  count: number,
  inserted: readonly AuthPermission[],
): EncodedRole {
  const { name, permissions, encoded } = role;
  let from = encoded.length;
  for (let i = permissions.length - 1; i >= at; i--) from -= permissionBytes(permissions[i]!);
  let to = from;
  for (let i = at; i < at + count; i++) to += permissionBytes(permissions[i]!);
  roleWriter.begin();
  for (const permission of inserted) writePermission(permission);
  return {
    name,
    permissions: permissions.toSpliced(at, count, ...inserted),
    encoded: concatBytes([encoded.subarray(0, from), roleWriter.finish(), encoded.subarray(to)]),
  };
}

/** Of one item in an encoded role. */
function permissionBytes({ type, key, rangeEnd }: AuthPermission): number {
  const field = (length: number): number => (length === 0 ? 0 : 1 + uintSize(length) + length);
  const typeBytes = type === 0 ? 0 : 1 + intSize(type);
  const inner = typeBytes + field(key.length) + field(rangeEnd.length);
  return 1 + uintSize(inner) + inner;
}

/**
 * Keys are views of `bytes`. Roles that are as in `before` are the very same objects.
 * @throws WireError
 */
export function decodeAuthView(bytes: Uint8Array, before?: AuthView): AuthView {
  const known = new Map((before?.roles ?? []).map((role) => [role.name, role]));
  const reader = new WireReader(bytes);
  const users: AuthUserView[] = [];
  const roles: AuthRoleView[] = [];
  const into = { enabled: false, revision: 0, version: 0, users, roles };
  while (reader.more()) {
    const tag = reader.tag();
    if (tag === 8) into.enabled = reader.bool();
    else if (tag === 16) into.revision = reader.uint53();
    else if (tag === 24) into.version = reader.uint53();
    else if (tag === 34) {
      const outer = reader.enter();
      users.push(readUser(reader));
      reader.leave(outer);
    } else if (tag === 42) roles.push(readRole(reader.bytes(), known));
    else reader.skip(tag);
  }
  return into;
}

function readUser(reader: WireReader): AuthUserView {
  const roles: string[] = [];
  const into = { name: '', roles };
  while (reader.more()) {
    const tag = reader.tag();
    if (tag === 10) into.name = reader.text();
    else if (tag === 18) roles.push(reader.text());
    else reader.skip(tag);
  }
  return into;
}

function readRole(encoded: Uint8Array, known: ReadonlyMap<string, AuthRoleView>): AuthRoleView {
  const reader = new WireReader(encoded);
  const permissions: AuthPermission[] = [];
  const into = { name: '', permissions, encoded };
  while (reader.more()) {
    const tag = reader.tag();
    if (tag === 10) {
      into.name = reader.text();
      const same = known.get(into.name);
      if (same?.encoded !== undefined && equalBytes(same.encoded, encoded)) return same;
    } else if (tag === 18) {
      const outer = reader.enter();
      permissions.push(readPermission(reader));
      reader.leave(outer);
    } else reader.skip(tag);
  }
  return into;
}

function readPermission(reader: WireReader): AuthPermission {
  const into = { type: 0, key: emptyBytes as Uint8Array, rangeEnd: emptyBytes as Uint8Array };
  while (reader.more()) {
    const tag = reader.tag();
    if (tag === 8) into.type = reader.uint32();
    else if (tag === 18) into.key = reader.bytes();
    else if (tag === 26) into.rangeEnd = reader.bytes();
    else reader.skip(tag);
  }
  return into;
}

export function encodeIdentifyRequest(authVersion: number): Uint8Array {
  writer.begin();
  writer.uint(8, authVersion);
  return writer.finish();
}

/** The auth version that the answer must not be older than. @throws WireError */
export function decodeIdentifyRequest(bytes: Uint8Array): number {
  const reader = new WireReader(bytes);
  let authVersion = 0;
  while (reader.more()) {
    const tag = reader.tag();
    if (tag === 8) authVersion = reader.uint53();
    else reader.skip(tag);
  }
  return authVersion;
}

export function encodeIdentity(identity: Identity): Uint8Array {
  writer.begin();
  writer.text(10, identity.user);
  writer.uint(16, identity.authRevision);
  writer.text(26, identity.token);
  writer.uint(32, identity.ttlMs);
  return writer.finish();
}

/** @throws WireError */
export function decodeIdentity(bytes: Uint8Array): Identity {
  const reader = new WireReader(bytes);
  const into = { user: '', authRevision: 0, token: '', ttlMs: 0 };
  while (reader.more()) {
    const tag = reader.tag();
    if (tag === 10) into.user = reader.text();
    else if (tag === 16) into.authRevision = reader.uint53();
    else if (tag === 26) into.token = reader.text();
    else if (tag === 32) into.ttlMs = reader.uint53();
    else reader.skip(tag);
  }
  return into;
}

export function encodeAuthEnableEntry(tokenKey: Uint8Array): Uint8Array {
  writer.begin();
  writer.bytes(10, tokenKey);
  return writer.finish();
}

/** The token key. @throws WireError */
export function decodeAuthEnableEntry(bytes: Uint8Array): Uint8Array {
  const reader = new WireReader(bytes);
  let tokenKey: Uint8Array = emptyBytes;
  while (reader.more()) {
    const tag = reader.tag();
    if (tag === 10) tokenKey = reader.bytes();
    else reader.skip(tag);
  }
  return tokenKey;
}
