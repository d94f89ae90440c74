/** The messages of proto/internal as protobuf-es code: what the hand-written codecs are proved equal to. */
export * from './gen/internal/v1/link_pb.ts';
export * from './gen/internal/v1/log_pb.ts';
export * from './gen/internal/v1/peer_pb.ts';
