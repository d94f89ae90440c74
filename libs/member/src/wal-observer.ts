import type { WalOptions } from '@quoin/wal';
import type { MemberConfig } from './config.ts';
import type { MemberMetrics } from './member-metrics.ts';
import type { MemberPorts } from './ports.ts';

/** The log is opened before there are metrics. */
export interface WalObserver {
  metrics: MemberMetrics | undefined;
}

export function walOptions(config: MemberConfig, ports: MemberPorts, observer: WalObserver): WalOptions {
  return {
    clock: ports.clock,
    timers: ports.timers,
    log: ports.log,
    onFatal: (message) => ports.fatal(message),
    onWrite: (durationMs, bytes) => {
      const disk = observer.metrics?.disk;
      disk?.walWriteBytes.inc(bytes);
      disk?.walWriteSeconds.observe(durationMs / 1_000);
    },
    onSync: (durationMs) => observer.metrics?.disk.walFsyncSeconds.observe(durationMs / 1_000),
    sealer: ports.sealer,
    segmentBytes: config.walSegmentBytes,
  };
}
