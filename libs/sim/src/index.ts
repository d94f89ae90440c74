/** The simulated world behind the ports: one heap of events ordered by virtual time. */
export { SimClock, SimHost, SimTimers, simEpochMs } from './clock.ts';
export { type CrashOutcome, type DiskCall, SimDisk, type SimDiskOptions } from './disk.ts';
export type { DiskOp } from './disk-port.ts';
export { MemoryBackend, type MemoryBackendOptions, MemoryEngines } from './memory-backend.ts';
export { Scheduler } from './scheduler.ts';
