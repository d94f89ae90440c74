/** Changes of users, roles and grants, as the log carries them. Passwords never get here: the proposer has hashed them. */
import { utf8 } from '@quoin/base';
import {
  decodeRequest,
  Method,
  otherErrors,
  type ResponseHeader,
  writeCompactionResponse,
} from '@quoin/contracts';
import { decodeAuthEnableEntry } from '@quoin/contracts/auth';
import {
  AuthRoleAddRequestSchema,
  AuthRoleDeleteRequestSchema,
  AuthRoleGrantPermissionRequestSchema,
  AuthRoleRevokePermissionRequestSchema,
  AuthUserAddRequestSchema,
  AuthUserChangePasswordRequestSchema,
  AuthUserDeleteRequestSchema,
  AuthUserGrantRoleRequestSchema,
  AuthUserRevokeRoleRequestSchema,
} from '@quoin/contracts/etcd';
import type { Store } from '@quoin/mvcc';
import type { Outcome } from './apply.ts';
import type { AuthStore } from './auth-store.ts';

type Change = ReturnType<AuthStore['disable']>;

/** Applies one change; the caller's right to it has been checked. @throws WireError */
export function applyAuth(
  auth: AuthStore,
  store: Store,
  method: number,
  body: Uint8Array,
  header: () => ResponseHeader,
): Outcome {
  // All these responses have the shape of a compaction's: a header.
  return change(auth, store, method, body) ?? writeCompactionResponse(header());
}

function change(auth: AuthStore, store: Store, method: number, body: Uint8Array): Change {
  switch (method) {
    case Method.authEnable:
      return auth.enable(store, decodeAuthEnableEntry(body));
    case Method.authDisable:
      return auth.disable(store);
    case Method.userAdd: {
      const { name, options, hashedPassword } = decodeRequest(AuthUserAddRequestSchema, body);
      return auth.userAdd(store, name, options?.noPassword === true, hashOf(hashedPassword));
    }
    case Method.userDelete:
      return auth.userDelete(store, decodeRequest(AuthUserDeleteRequestSchema, body).name);
    case Method.userChangePassword: {
      const { name, hashedPassword } = decodeRequest(AuthUserChangePasswordRequestSchema, body);
      return auth.userChangePassword(store, name, hashOf(hashedPassword));
    }
    case Method.userGrantRole: {
      const { user, role } = decodeRequest(AuthUserGrantRoleRequestSchema, body);
      return auth.userGrantRole(store, user, role);
    }
    case Method.userRevokeRole: {
      const { name, role } = decodeRequest(AuthUserRevokeRoleRequestSchema, body);
      return auth.userRevokeRole(store, name, role);
    }
    case Method.roleAdd:
      return auth.roleAdd(store, decodeRequest(AuthRoleAddRequestSchema, body).name);
    case Method.roleDelete:
      return auth.roleDelete(store, decodeRequest(AuthRoleDeleteRequestSchema, body).role);
    case Method.roleGrantPermission: {
      const { name, perm } = decodeRequest(AuthRoleGrantPermissionRequestSchema, body);
      const permission =
        perm === undefined ? undefined : { type: perm.permType, key: perm.key, rangeEnd: perm.rangeEnd };
      return auth.roleGrantPermission(store, name, permission);
    }
    case Method.roleRevokePermission: {
      const { role, key, rangeEnd } = decodeRequest(AuthRoleRevokePermissionRequestSchema, body);
      return auth.roleRevokePermission(store, role, key, rangeEnd);
    }
    default:
      return otherErrors.unknownMethod;
  }
}

/**
 * A hash that the proposer made is there as it is (`$2a$…`); one that the client gave itself comes in base64, as
 * etcd takes it. Undefined when it is neither.
 */
function hashOf(text: string): Uint8Array | undefined {
  return text.startsWith('$') ? utf8(text) : base64Bytes(text);
}

const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/';

function base64Bytes(text: string): Uint8Array | undefined {
  if (text.length % 4 !== 0 || !/^[A-Za-z0-9+/]*={0,2}$/.test(text)) return undefined;
  const digits = text.replace(/=+$/, '');
  const out = new Uint8Array(Math.floor((digits.length * 6) / 8));
  let bits = 0;
  let held = 0;
  let at = 0;
  for (const digit of digits) {
    bits = ((bits << 6) | alphabet.indexOf(digit)) & 0xfff;
    held += 6;
    if (held < 8) continue;
    held -= 8;
    out[at++] = (bits >> held) & 0xff;
  }
  return out;
}
