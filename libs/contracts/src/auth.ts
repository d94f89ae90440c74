/** Who may do what: the rule of every RPC, permissions as intervals, and the authoriser that gateways and members share. */
export {
  type AttachedKeys,
  authorise,
  type Caller,
  deleteDenied,
  leaseWriteDenied,
  putDenied,
  rangeDenied,
  rootError,
  txnDenied,
} from './auth/authorise.ts';
export { Authority, isOpenEnd, KeyIntervals, noAuth, rootRole, rootUser } from './auth/permissions.ts';
export { type AuthRule, authRules, ruleOf } from './auth/rules.ts';
export {
  type AuthPermission,
  type AuthRoleView,
  type AuthUserView,
  type AuthView,
  decodeAuthEnableEntry,
  decodeAuthView,
  decodeIdentifyRequest,
  decodeIdentity,
  type EncodedRole,
  encodeAuthEnableEntry,
  encodeAuthView,
  encodeIdentifyRequest,
  encodeIdentity,
  encodeRole,
  type Identity,
  PermissionType,
  spliceRole,
} from './auth/view.ts';
