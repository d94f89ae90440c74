/** The foundation of every lib: bytes, asserts, queues, metrics, and the ports to the world. Imports nothing. */
export { AssertionError, assert, unreachable } from './assert.ts';
export { BufferPool } from './buffer-pool.ts';
export {
  compareBytes,
  concatBytes,
  copyBytes,
  emptyBytes,
  equalBytes,
  hex,
  hexId,
  isUtf8,
  latin1,
  readCounterBE,
  readU32BE,
  readU64BE,
  utf8,
  utf8Text,
  writeCounterBE,
  writeU32BE,
  writeU64BE,
} from './bytes.ts';
export { crc32c, crc32cCombine } from './crc32c.ts';
export { Deque } from './deque.ts';
export {
  type HealthCheck,
  HealthPages,
  type HealthParts,
  type HealthQuery,
  type HealthReply,
} from './health.ts';
export { Heap } from './heap.ts';
export { IdMap } from './id-map.ts';
export {
  type Buckets,
  Distribution,
  Histogram,
  LabelledHistogram,
  LabelledMetric,
  type Metric,
  MetricRegistry,
  NumberMetric,
  otherLabel,
  renderMetrics,
  type Sample,
  ScrapedMetric,
  Series,
} from './metrics.ts';
export type {
  Channel,
  Clock,
  Digest,
  Disk,
  DiskCallback,
  DiskError,
  DiskFile,
  IncrementalDigest,
  Log,
  LogFields,
  Passwords,
  Random,
  Sealer,
  Timer,
  Timers,
  TokenClaims,
  TokenSigner,
} from './ports.ts';
export { Prng } from './prng.ts';
export { RateLimit } from './rate-limit.ts';
export {
  type Span,
  type SpanAttributes,
  SpanKind,
  type Tracer,
  traceContextBytes,
  traceIdOf,
} from './trace.ts';
