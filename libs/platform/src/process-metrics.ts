import { readdirSync, readFileSync } from 'node:fs';
import { monitorEventLoopDelay, performance } from 'node:perf_hooks';
import { getHeapStatistics } from 'node:v8';
import { type Metric, type MetricRegistry, renderMetrics, ScrapedMetric } from '@quoin/base';
import type { Logger } from './logger.ts';

/** How finely the event loop's delay is sampled; a delay shorter than this is not seen. */
const loopResolutionMs = 10;

/** Metrics of the process itself, with the names of Prometheus' client libraries. Registered once per process. */
export function addProcessMetrics(registry: MetricRegistry, extensive: boolean): void {
  const startSeconds = Math.round((Date.now() - process.uptime() * 1000) / 1000);
  const gauge = (name: string, help: string, read: () => number): void => {
    registry.gauge(name, help, read);
  };
  const cpu = (): number => {
    const { user, system } = process.cpuUsage();
    return (user + system) / 1e6;
  };
  registry.counter('process_cpu_seconds_total', 'Total user and system CPU time spent in seconds.', cpu);
  gauge(
    'process_start_time_seconds',
    'Start time of the process since unix epoch in seconds.',
    () => startSeconds,
  );
  gauge('process_resident_memory_bytes', 'Resident memory size in bytes.', () => process.memoryUsage.rss());
  gauge('process_virtual_memory_bytes', 'Virtual memory size in bytes.', virtualMemory);
  gauge('process_open_fds', 'Number of open file descriptors.', openDescriptors);
  gauge('os_fd_used', 'The number of used file descriptors.', openDescriptors);
  const limit = descriptorLimit();
  gauge('process_max_fds', 'Maximum number of open file descriptors.', () => limit);
  gauge('os_fd_limit', 'The file descriptor limit.', () => limit);
  addLoopMetrics(registry, gauge);
  gauge(
    'nodejs_heap_size_used_bytes',
    'Bytes of the JavaScript heap in use.',
    () => process.memoryUsage().heapUsed,
  );
  gauge(
    'nodejs_external_memory_bytes',
    'Bytes outside the heap that it refers to.',
    () => process.memoryUsage().external,
  );
  registry.add(
    new ScrapedMetric('gauge', 'nodejs_version_info', 'Version of Node; always 1.', ['version'], () => [
      [[process.version], 1],
    ]),
  );
  if (!extensive) return;
  gauge(
    'nodejs_heap_size_total_bytes',
    'Bytes of the JavaScript heap.',
    () => getHeapStatistics().total_heap_size,
  );
  gauge(
    'nodejs_heap_size_limit_bytes',
    'Bytes that the JavaScript heap may grow to.',
    () => getHeapStatistics().heap_size_limit,
  );
  gauge(
    'nodejs_active_resources',
    'Handles and requests that keep the process alive.',
    () => process.getActiveResourcesInfo().length,
  );
}

/** The delay counts from the last scrape, so that one bad moment does not colour the maximum for ever. */
function addLoopMetrics(
  registry: MetricRegistry,
  gauge: (name: string, help: string, read: () => number) => void,
): void {
  const delay = monitorEventLoopDelay({ resolution: loopResolutionMs });
  delay.enable();
  registry.add(
    new ScrapedMetric(
      'gauge',
      'nodejs_eventloop_delay_seconds',
      'Time by which a timer came late since the last scrape, by quantile; quantile 1 is the longest.',
      ['quantile'],
      () => {
        const quantiles = [0.5, 0.9, 0.99, 1].map((quantile) => {
          const nanoseconds = delay.count === 0 ? 0 : delay.percentile(quantile * 100);
          return [[String(quantile)], Math.max(0, nanoseconds / 1e9 - loopResolutionMs / 1000)] as const;
        });
        delay.reset();
        return quantiles;
      },
    ),
  );
  let last = performance.eventLoopUtilization();
  gauge(
    'nodejs_eventloop_utilization',
    'Share of time that the event loop was busy since the last scrape.',
    () => {
      const now = performance.eventLoopUtilization();
      const { utilization } = performance.eventLoopUtilization(now, last);
      last = now;
      return utilization;
    },
  );
}

/** 0 where the system does not tell. */
function openDescriptors(): number {
  try {
    return readdirSync('/proc/self/fd').length;
  } catch {
    return 0;
  }
}

function virtualMemory(): number {
  try {
    return 1024 * Number(/^VmSize:\s+(\d+)/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1] ?? 0);
  } catch {
    return 0;
  }
}

function descriptorLimit(): number {
  try {
    const match = /^Max open files\s+(\d+)/m.exec(readFileSync('/proc/self/limits', 'utf8'));
    return match === null ? 0 : Number(match[1]);
  } catch {
    return 0;
  }
}

/** How much is logged, and whether the disk of the log takes it. */
export function addLogMetrics(registry: MetricRegistry, log: Logger): void {
  registry.add(
    new ScrapedMetric('counter', 'quoin_log_lines_total', 'Lines logged, by level.', ['level'], () =>
      Object.entries(log.counts().lines).map(([level, lines]) => [[level], lines] as const),
    ),
  );
  registry.counter(
    'quoin_log_lines_lost_total',
    'Lines that no log has: its disk was full, or its reader slow.',
    () => log.counts().lost,
  );
}

export const metricsContentType = 'text/plain; version=0.0.4; charset=utf-8';

/** One page for all roles of a process. A name that two roles have is shown once, the first one's. */
export function metricsPage(registries: readonly MetricRegistry[]): string {
  const byName = new Map<string, Metric>();
  for (const registry of registries) {
    for (const metric of registry.all()) if (!byName.has(metric.name)) byName.set(metric.name, metric);
  }
  return renderMetrics([...byName.values()].sort((a, b) => (a.name < b.name ? -1 : 1)));
}
