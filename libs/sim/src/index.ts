/** The simulated world behind the ports: one heap of events ordered by virtual time. */
export { SimClock, SimHost, SimTimers, simEpochMs } from './clock.ts';
export { clientUrl, linkAddress, peerUrl, SimCluster, type SimClusterOptions, SimNode } from './cluster.ts';
export { sha1, simDigest } from './digest.ts';
export { type CrashOutcome, type DiskCall, SimDisk, type SimDiskOptions } from './disk.ts';
export type { DiskOp } from './disk-port.ts';
export * as etcd from './etcd-messages.ts';
export { type Reply, SimGateway, SimStream } from './gateway-node.ts';
export { historyErrors, type Operation } from './history-check.ts';
export { type Answer, type FeedEvent, feedEvents, LinkClient, SimClient } from './link-client.ts';
export { MemoryBackend, type MemoryBackendOptions, MemoryEngines } from './memory-backend.ts';
export { type LinkQuality, SimNetwork, type SimNetworkOptions } from './network.ts';
export { type FaultKind, faultKinds, type Plan } from './plan.ts';
export { type RandomRunOptions, type RunReport, randomRun } from './random-run.ts';
export { Scheduler } from './scheduler.ts';
export { type SimReport, type SimulateOptions, simulate } from './simulate.ts';
