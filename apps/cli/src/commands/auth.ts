import type { DescMessage, Message, MessageShape } from '@bufbuild/protobuf';
import { utf8, utf8Text } from '@quoin/base';
import { type PermissionType, prefixEnd } from '@quoin/client';
import {
  AuthRoleAddResponseSchema,
  AuthRoleDeleteResponseSchema,
  type AuthRoleGetResponse,
  AuthRoleGetResponseSchema,
  AuthRoleGrantPermissionResponseSchema,
  AuthRoleListResponseSchema,
  AuthRoleRevokePermissionResponseSchema,
  AuthStatusResponseSchema,
  AuthUserAddResponseSchema,
  AuthUserChangePasswordResponseSchema,
  AuthUserDeleteResponseSchema,
  AuthUserGetResponseSchema,
  AuthUserGrantRoleResponseSchema,
  AuthUserListResponseSchema,
  AuthUserRevokeRoleResponseSchema,
  Permission_Type,
  type ResponseHeader,
} from '@quoin/contracts/etcd';
import type { Command } from '../command.ts';
import type { Context } from '../context.ts';
import { badArgs } from '../exit.ts';
import type { FlagSpec } from '../flags.ts';
import { goQuote } from '../go-format.ts';
import { readSecret } from '../input.ts';
import { printHeaderFields, printMessage } from '../print-kv.ts';

const rangeFlags: readonly FlagSpec[] = [
  { name: 'prefix', kind: 'bool', help: 'the permission holds for all keys with this prefix' },
  { name: 'from-key', kind: 'bool', help: 'the permission holds for all keys from this one on' },
];
const interactive: FlagSpec = {
  name: 'interactive',
  kind: 'bool',
  default: 'true',
  help: 'ask for the password',
};

/** One line in simple, the header in fields. */
function printDone<D extends DescMessage>(
  context: Context,
  desc: D,
  response: MessageShape<D>,
  text: string,
): void {
  if (printMessage(context, desc, response)) return;
  const { header } = response as Message & { header?: ResponseHeader };
  if (context.format === 'fields') printHeaderFields(context, header);
  else context.print(text);
}

function oneName(args: readonly string[], what: string): string {
  if (args.length !== 1) throw badArgs(what);
  return args[0]!;
}

async function authEnable(context: Context, args: readonly string[]): Promise<undefined> {
  if (args.length > 0) throw badArgs('auth enable command does not accept any arguments');
  const { auth } = context.client();
  try {
    await auth.enable(context.call());
  } catch (error) {
    if ((error as Error).message !== 'etcdserver: root user does not have root role') throw error;
    await auth.roleAdd('root', context.call()).catch(() => {});
    await auth.userGrantRole('root', 'root', context.call());
    await auth.enable(context.call());
  }
  context.print('Authentication Enabled');
}

async function authDisable(context: Context, args: readonly string[]): Promise<undefined> {
  if (args.length > 0) throw badArgs('auth disable command does not accept any arguments');
  await context.client().auth.disable(context.call());
  context.print('Authentication Disabled');
}

async function authStatus(context: Context, args: readonly string[]): Promise<undefined> {
  if (args.length > 0) throw badArgs('auth status command does not accept any arguments');
  const response = await context.client().auth.status(context.call());
  if (printMessage(context, AuthStatusResponseSchema, response)) return;
  context.print(`Authentication Status: ${response.enabled}`);
  context.print(`AuthRevision: ${response.authRevision}`);
}

async function newPassword(context: Context, user: string): Promise<string> {
  if (!context.flags.bool('interactive')) return readSecret(undefined);
  const password = await readSecret(`Password of ${user}: `);
  if (password === '') throw badArgs('empty password');
  if (
    process.stdin.isTTY === true &&
    (await readSecret(`Type password of ${user} again for confirmation: `)) !== password
  ) {
    throw badArgs(`User ${user}: passwords do not match`);
  }
  return password;
}

async function userAdd(context: Context, args: readonly string[]): Promise<undefined> {
  let user = oneName(args, 'user add command requires user name as its argument');
  let password: string | undefined;
  if (!context.flags.bool('no-password')) {
    const colon = user.indexOf(':');
    if (context.flags.text('new-user-password') !== '') password = context.flags.text('new-user-password');
    else if (colon === -1) password = await newPassword(context, user);
    else [user, password] = [user.slice(0, colon), user.slice(colon + 1)];
    if (user === '') throw badArgs('empty user name is not allowed');
  }
  printDone(
    context,
    AuthUserAddResponseSchema,
    await context.client().auth.userAdd(user, password, context.call()),
    `User ${user} created`,
  );
}

async function userDelete(context: Context, args: readonly string[]): Promise<undefined> {
  const user = oneName(args, 'user delete command requires user name as its argument');
  printDone(
    context,
    AuthUserDeleteResponseSchema,
    await context.client().auth.userDelete(user, context.call()),
    `User ${user} deleted`,
  );
}

async function userGet(context: Context, args: readonly string[]): Promise<undefined> {
  const user = oneName(args, 'user get command requires user name as its argument');
  const { auth } = context.client();
  const response = await auth.userGet(user, context.call());
  if (context.flags.bool('detail') && context.format === 'simple') {
    context.print(`User: ${user}`);
    for (const role of response.roles) {
      context.print('');
      printRole(context, role, await auth.roleGet(role, context.call()));
    }
    return;
  }
  if (printMessage(context, AuthUserGetResponseSchema, response)) return;
  if (context.format === 'fields') {
    printHeaderFields(context, response.header);
    for (const role of response.roles) context.print(`"Role" : ${goQuote(role)}`);
    return;
  }
  context.print(`User: ${user}`);
  context.print(`Roles:${response.roles.map((role) => ` ${role}`).join('')}`);
}

async function userList(context: Context, args: readonly string[]): Promise<undefined> {
  if (args.length > 0) throw badArgs('user list command requires no arguments');
  context.support('simple', 'json', 'protobuf');
  const response = await context.client().auth.userList(context.call());
  if (!printMessage(context, AuthUserListResponseSchema, response))
    for (const user of response.users) context.print(user);
}

async function userPassword(context: Context, args: readonly string[]): Promise<undefined> {
  const user = oneName(args, 'user passwd command requires user name as its argument');
  const password = await newPassword(context, user);
  printDone(
    context,
    AuthUserChangePasswordResponseSchema,
    await context.client().auth.userChangePassword(user, password, context.call()),
    'Password updated',
  );
}

async function userGrantRole(context: Context, args: readonly string[]): Promise<undefined> {
  if (args.length !== 2) throw badArgs('user grant command requires user name and role name as its argument');
  const [user, role] = args as [string, string];
  const response = await context.client().auth.userGrantRole(user, role, context.call());
  printDone(context, AuthUserGrantRoleResponseSchema, response, `Role ${role} is granted to user ${user}`);
}

async function userRevokeRole(context: Context, args: readonly string[]): Promise<undefined> {
  if (args.length !== 2) throw badArgs('user revoke-role requires user name and role name as its argument');
  const [user, role] = args as [string, string];
  const response = await context.client().auth.userRevokeRole(user, role, context.call());
  printDone(context, AuthUserRevokeRoleResponseSchema, response, `Role ${role} is revoked from user ${user}`);
}

async function roleAdd(context: Context, args: readonly string[]): Promise<undefined> {
  const role = oneName(args, 'role add command requires role name as its argument');
  printDone(
    context,
    AuthRoleAddResponseSchema,
    await context.client().auth.roleAdd(role, context.call()),
    `Role ${role} created`,
  );
}

async function roleDelete(context: Context, args: readonly string[]): Promise<undefined> {
  const role = oneName(args, 'role delete command requires role name as its argument');
  printDone(
    context,
    AuthRoleDeleteResponseSchema,
    await context.client().auth.roleDelete(role, context.call()),
    `Role ${role} deleted`,
  );
}

async function roleList(context: Context, args: readonly string[]): Promise<undefined> {
  if (args.length > 0) throw badArgs('role list command requires no arguments');
  context.support('simple', 'json', 'protobuf');
  const response = await context.client().auth.roleList(context.call());
  if (!printMessage(context, AuthRoleListResponseSchema, response))
    for (const role of response.roles) context.print(role);
}

async function roleGet(context: Context, args: readonly string[]): Promise<undefined> {
  const role = oneName(args, 'role get command requires role name as its argument');
  const response = await context.client().auth.roleGet(role, context.call());
  if (printMessage(context, AuthRoleGetResponseSchema, response)) return;
  if (context.format !== 'fields') return printRole(context, role, response);
  printHeaderFields(context, response.header);
  for (const perm of response.perm) {
    context.print(`"PermType" :  ${permissionName(perm.permType)}`);
    context.print(`"Key" : ${goQuote(perm.key)}`);
    context.print(`"RangeEnd" : ${goQuote(perm.rangeEnd)}`);
  }
  return undefined;
}

function permissionName(type: number): string {
  return type === Permission_Type.READ ? 'READ' : type === Permission_Type.WRITE ? 'WRITE' : 'READWRITE';
}

function isOpen(end: Uint8Array): boolean {
  return end.length === 1 && end[0] === 0;
}

function rangeText(key: Uint8Array, end: Uint8Array): string {
  return isOpen(end) ? `[${utf8Text(key)}, <open ended>` : `[${utf8Text(key)}, ${utf8Text(end)})`;
}

function printRole(context: Context, role: string, { perm }: AuthRoleGetResponse): undefined {
  context.print(`Role ${role}`);
  const section = (title: string, without: number): void => {
    context.print(title);
    for (const each of perm) {
      if (each.permType === without) continue;
      const isPrefix = each.key.length > 0 && Buffer.compare(prefixEnd(each.key), each.rangeEnd) === 0;
      const text = each.rangeEnd.length === 0 ? utf8Text(each.key) : rangeText(each.key, each.rangeEnd);
      context.print(`\t${text}${isPrefix ? ` (prefix ${utf8Text(each.key)})` : ''}`);
    }
  };
  section('KV Read:', Permission_Type.WRITE);
  section('KV Write:', Permission_Type.READ);
}

function permissionRange(
  context: Context,
  end: string | undefined,
): { prefix: boolean; fromKey: boolean; rangeEnd: string | undefined } {
  const [prefix, fromKey] = [context.flags.bool('prefix'), context.flags.bool('from-key')];
  if (prefix && fromKey) throw badArgs('--from-key and --prefix flags are mutually exclusive');
  if (end !== undefined && (prefix || fromKey))
    throw badArgs(`unexpected endkey argument with ${prefix ? '--prefix' : '--from-key'} flag`);
  return { prefix, fromKey, rangeEnd: end };
}

async function roleGrant(context: Context, args: readonly string[]): Promise<undefined> {
  if (args.length < 3)
    throw badArgs('role grant command requires role name, permission type, and key [endkey] as its argument');
  const [role, type, key, end] = args as [string, string, string, string | undefined];
  const permission = type.toLowerCase();
  if (!['read', 'write', 'readwrite'].includes(permission)) throw badArgs(`invalid permission type: ${type}`);
  const range = permissionRange(context, end);
  const response = await context
    .client()
    .auth.roleGrantPermission(role, permission as PermissionType, key, range, context.call());
  printDone(context, AuthRoleGrantPermissionResponseSchema, response, `Role ${role} updated`);
}

async function roleRevoke(context: Context, args: readonly string[]): Promise<undefined> {
  if (args.length < 2)
    throw badArgs('role revoke-permission command requires role name and key [endkey] as its argument');
  const [role, key, end] = args as [string, string, string | undefined];
  const range = permissionRange(context, end);
  const response = await context.client().auth.roleRevokePermission(role, key, range, context.call());
  const rangeEnd = range.prefix ? prefixEnd(utf8(key)) : range.fromKey ? new Uint8Array(1) : utf8(end ?? '');
  const what = rangeEnd.length === 0 ? `key ${key}` : `range ${rangeText(utf8(key), rangeEnd)}`;
  printDone(
    context,
    AuthRoleRevokePermissionResponseSchema,
    response,
    `Permission of ${what} is revoked from role ${role}`,
  );
}

export const authCommands: readonly Command[] = [
  { name: 'auth enable', usage: '', help: 'Enables authentication', run: authEnable },
  { name: 'auth disable', usage: '', help: 'Disables authentication', run: authDisable },
  { name: 'auth status', usage: '', help: 'Returns authentication status', run: authStatus },
  {
    name: 'user add',
    usage: '<user name or user:password> [options]',
    help: 'Adds a new user',
    flags: [
      interactive,
      { name: 'new-user-password', kind: 'string', help: 'Supply password from the command line flag' },
      { name: 'no-password', kind: 'bool', help: 'Create a user without password (CN based auth only)' },
    ],
    run: userAdd,
  },
  { name: 'user delete', usage: '<user name>', help: 'Deletes a user', run: userDelete },
  {
    name: 'user get',
    usage: '<user name> [options]',
    help: 'Gets detailed information of a user',
    flags: [{ name: 'detail', kind: 'bool', help: 'Show permissions of roles granted to the user' }],
    run: userGet,
  },
  { name: 'user list', usage: '', help: 'Lists all users', run: userList },
  {
    name: 'user passwd',
    usage: '<user name> [options]',
    help: 'Changes password of user',
    flags: [interactive],
    run: userPassword,
  },
  {
    name: 'user grant-role',
    usage: '<user name> <role name>',
    help: 'Grants a role to a user',
    run: userGrantRole,
  },
  {
    name: 'user revoke-role',
    usage: '<user name> <role name>',
    help: 'Revokes a role from a user',
    run: userRevokeRole,
  },
  { name: 'role add', usage: '<role name>', help: 'Adds a new role', run: roleAdd },
  { name: 'role delete', usage: '<role name>', help: 'Deletes a role', run: roleDelete },
  { name: 'role get', usage: '<role name>', help: 'Gets detailed information of a role', run: roleGet },
  { name: 'role list', usage: '', help: 'Lists all roles', run: roleList },
  {
    name: 'role grant-permission',
    usage: '[options] <role name> <permission type> <key> [endkey]',
    help: 'Grants a key to a role',
    flags: rangeFlags,
    run: roleGrant,
  },
  {
    name: 'role revoke-permission',
    usage: '<role name> <key> [endkey]',
    help: 'Revokes a key from a role',
    flags: rangeFlags,
    run: roleRevoke,
  },
];
