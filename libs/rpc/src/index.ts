/** HTTP/2 (RFC 9113), HPACK (RFC 7541) and gRPC framing as a pure server-side connection state machine. */
export { Connection, type ConnectionEvents } from './connection.ts';
export { type ConnectionOptions, defaultConnectionOptions } from './connection-options.ts';
export { clientPreface, ErrorCode } from './frames.ts';
export { encodeGrpcMessage } from './grpc-answer.ts';
export type {
  CallSpan,
  GrpcCallContext,
  GrpcHandler,
  GrpcServerOptions,
  GrpcServerPorts,
  GrpcServerStream,
  GrpcStatus,
} from './grpc-ports.ts';
export { GrpcServerConnection } from './grpc-server.ts';
export { parseGrpcTimeoutMs } from './grpc-timeout.ts';
export type { HeaderList, HeaderShape } from './header-list.ts';
export {
  encodeHeaders,
  type HeaderField,
  HeaderTemplate,
  HpackDecoder,
  HpackError,
  headersTooLarge,
  TemplateEncoder,
} from './hpack.ts';
export type { PlainCall, PlainHead, PlainReply, PlainRequest, PlainResponse } from './plain.ts';
export { Stream, type StreamHandler } from './stream.ts';
