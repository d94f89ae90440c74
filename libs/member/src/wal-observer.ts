import type { WalOptions } from '@quoin/wal';
import type { MemberConfig } from './config.ts';
import type { MemberMetrics } from './member-metrics.ts';
import type { MemberPorts } from './ports.ts';
import { WalTimes } from './proposal-traces.ts';

/** The log is opened before there are metrics. */
export interface WalObserver {
  metrics: MemberMetrics | undefined;
  /** For spans; absent: tracing is off. */
  readonly times: WalTimes | undefined;
}

export function walObserver({ tracer }: MemberPorts): WalObserver {
  return { metrics: undefined, times: tracer === undefined ? undefined : new WalTimes() };
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
      if (observer.times === undefined) return;
      const endMs = ports.clock.monotonicMs();
      observer.times.wrote(endMs - durationMs, endMs);
    },
    onSync: (durationMs) => {
      observer.metrics?.disk.walFsyncSeconds.observe(durationMs / 1_000);
      if (observer.times === undefined) return;
      const endMs = ports.clock.monotonicMs();
      observer.times.synced(endMs - durationMs, endMs);
    },
    sealer: ports.sealer,
    segmentBytes: config.walSegmentBytes,
  };
}
