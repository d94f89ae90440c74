/** The real world behind the ports: files, sockets, RocksDB, gRPC, OpenTelemetry; and what every role's process needs. */

export { AuditFile } from './audit-file.ts';
export { ArchiveError, ArchiveWriter, archiveFormat, readArchive } from './backup/archive.ts';
export {
  backupName,
  clusterDirectory,
  listBackups,
  manifestPath,
  pruneBackups,
  type StoredBackup,
} from './backup/catalog.ts';
export {
  type RestoreSnapshotOptions,
  restoreSnapshot,
  type SnapshotStatus,
  snapshotStatus,
} from './backup/etcd-file.ts';
export type { Manifest, ManifestMember } from './backup/manifest.ts';
export { type RestoreBackupOptions, restoreBackup } from './backup/restore.ts';
export { type ArchiveFacts, readManifest, verifyArchive, verifyBackup } from './backup/verify.ts';
export { BackupDiskError, type WriteBackupOptions, writeBackup } from './backup/write.ts';
export { RealClock } from './clock.ts';
export { FlagValues } from './config/flag-values.ts';
export { type FlagKind, type FlagSpec, type FlagStatus, flagTable, type Role } from './config/flags.ts';
export { helpText } from './config/help.ts';
export {
  flagsOf,
  type LogConfig,
  type LogLevel,
  logLevels,
  logRotation,
  type NodeConfig,
  type NodeConfigOutcome,
  readNodeConfig,
} from './config/node-config.ts';
export { type ParsedFlags, type ParseInput, type ParseOutcome, parseFlags } from './config/parse.ts';
export {
  type TracingConfig,
  tracingConfig,
  tracingDefaults,
  tracingOf,
} from './config/tracing-config.ts';
export { bindHost, hostPort, type NodeUrl, parseInitialCluster, parseUrls } from './config/urls.ts';
export { ConfigError, type FlagValue, nearest, parseDurationMs } from './config/values.ts';
export { DataDir, prepare, withFullPaths } from './data-dir.ts';
export { RealDigest } from './digest.ts';
export { RealDisk } from './disk.ts';
export { mountDisk, withoutSync } from './disk-options.ts';
export { KeyRing, type KeySource } from './encryption/key-ring.ts';
export { clientRoutes, type GatewayRole, startGateway } from './gateway-role.ts';
export {
  dialChannel,
  InternalServer,
  type InternalServerHandlers,
  linkPath,
  peerPath,
} from './grpc-channel.ts';
export { httpRoutes, plainRoutes, type Route, type RouteReply, type RouteTable } from './http-routes.ts';
export { ClientHttp, type ClientHttpOptions, type HttpAccess } from './json-routes.ts';
export { Listener, type ListenerOptions } from './listener.ts';
export { localChannelPair } from './local-channel.ts';
export { answerJson, isLocal, withLogLevel } from './log-level-route.ts';
export { parseLogRotation } from './log-rotation.ts';
export { Logger } from './logger.ts';
export { LoopWatch } from './loop-watch.ts';
export { type MemberRole, startMember } from './member-role.ts';
export { type MetricsServer, startMetrics } from './metrics-http.ts';
export { type Node, readyMessage, startGatewayNode, startMemberNode, startQuoinNode } from './node.ts';
export { addLogMetrics, addProcessMetrics, metricsContentType, metricsPage } from './process-metrics.ts';
export { RealRandom } from './random.ts';
export { RocksBackend, RocksBackends, type RocksOptions } from './rocks-backend.ts';
export { type Http2Edge, RpcEdge, type RpcEdgeOptions } from './rpc-edge.ts';
export { type Running, runProcess, runRole } from './run.ts';
export { acceptStream, dialStream, streamProtocol } from './stream-channel.ts';
export {
  type EdgeSpan,
  startTelemetry,
  type Telemetry,
  type TelemetryOptions,
} from './telemetry/telemetry.ts';
export { RealTimers, type RealTimersOptions } from './timers.ts';
export { toPem } from './tls/der.ts';
export { type CertificateRequest, type Issued, issueCertificate, issueRevocationList } from './tls/issue.ts';
export { TlsAcceptor, type TlsAcceptorOptions } from './tls/tls-acceptor.ts';
export { TlsDialer } from './tls/tls-dialer.ts';
export { type TlsConfig, type TlsProtocol, type TlsVersion, tlsProtocol } from './tls/tls-options.ts';
export { releaseVersion, versionText } from './version.ts';
