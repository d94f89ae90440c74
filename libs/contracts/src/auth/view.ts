/** The auth state without its secrets (AuthView of proto/internal/v1/link.proto), and who a token stands for. */
import { emptyBytes } from '@quoin/base';
import { WireReader } from '../wire-reader.ts';
import { WireWriter } from '../wire-writer.ts';

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
  for (const role of view.roles) {
    const mark = writer.open(42, expected);
    writer.text(10, role.name);
    for (const permission of role.permissions) writePermission(permission);
    writer.close(mark, expected);
  }
  return writer.finish();
}

function writePermission(permission: AuthPermission): void {
  const mark = writer.open(18, expected);
  writer.uint(8, permission.type);
  writer.bytes(18, permission.key);
  writer.bytes(26, permission.rangeEnd);
  writer.close(mark, expected);
}

/** Keys are views of `bytes`. @throws WireError */
export function decodeAuthView(bytes: Uint8Array): AuthView {
  const reader = new WireReader(bytes);
  const users: AuthUserView[] = [];
  const roles: AuthRoleView[] = [];
  const into = { enabled: false, revision: 0, version: 0, users, roles };
  while (reader.more()) {
    const tag = reader.tag();
    if (tag === 8) into.enabled = reader.bool();
    else if (tag === 16) into.revision = reader.uint53();
    else if (tag === 24) into.version = reader.uint53();
    else if (tag === 34 || tag === 42) {
      const outer = reader.enter();
      if (tag === 34) users.push(readUser(reader));
      else roles.push(readRole(reader));
      reader.leave(outer);
    } else reader.skip(tag);
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

function readRole(reader: WireReader): AuthRoleView {
  const permissions: AuthPermission[] = [];
  const into = { name: '', permissions };
  while (reader.more()) {
    const tag = reader.tag();
    if (tag === 10) into.name = reader.text();
    else if (tag === 18) {
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
