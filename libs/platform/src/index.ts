/** The real world behind the ports: files, sockets, RocksDB, gRPC, OpenTelemetry. */
export { RealClock } from './clock.ts';
export { RealDigest } from './digest.ts';
export { RealDisk } from './disk.ts';
export { RealRandom } from './random.ts';
export { RealTimers, type RealTimersOptions } from './timers.ts';
