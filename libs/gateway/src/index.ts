/**
 * The stateless client API role: etcd's services over bytes, routed to members over one batched link each.
 */
export {
  type AuditEntry,
  AuditedApi,
  type AuditedGateway,
  type AuditOptions,
  type AuditSink,
  auditRangesMax,
} from './audit.ts';
export {
  type GatewayConfig,
  type GatewayIdentity,
  type GatewayLimits,
  type GatewayOptions,
  gatewayConfig,
  gatewayConfigError,
  gatewayDefaults,
  grpcOverheadBytes,
} from './config.ts';
export { FairApi, type FairUseParts, type LimitedGateway } from './fair-use.ts';
export { Gateway, type GatewayLinkStatus, type GatewayStatus } from './gateway.ts';
export {
  JsonApi,
  type JsonApiOptions,
  type JsonApiPorts,
  type JsonCall,
  type JsonRequest,
} from './json-api.ts';
export type { JsonHeader, JsonResponse } from './json-output.ts';
export type {
  AnswerRest,
  ApiHandler,
  CallContext,
  CancelCall,
  GatewayPorts,
  PartTaker,
  ServerStream,
  UnaryReply,
} from './ports.ts';
export { prefixOf, TopTalkers } from './top-talkers.ts';
