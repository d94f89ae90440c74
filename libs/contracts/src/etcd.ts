/** The whole etcd API as protobuf-es messages, schemas, enums and services, generated from proto/etcd and proto/grpc. */
export * from './gen/etcd/api/authpb/auth_pb.ts';
export * from './gen/etcd/api/etcdserverpb/rpc_pb.ts';
export * from './gen/etcd/api/mvccpb/kv_pb.ts';
export * from './gen/etcd/api/v3electionpb/v3election_pb.ts';
export * from './gen/etcd/api/v3lockpb/v3lock_pb.ts';
export * from './gen/grpc/health/v1/health_pb.ts';
