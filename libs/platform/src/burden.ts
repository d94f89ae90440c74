import { monitorEventLoopDelay } from 'node:perf_hooks';

export interface BurdenLimits {
  /** Mean lateness of timers over a second; 0: not looked at. */
  readonly maxLoopDelayMs: number;
  /** 0: any number. */
  readonly maxConnections: number;
}

const sampleMs = 1_000;
const resolutionMs = 10;

/** Tells when a process has as many clients as it can bear, so that a balancer sends new ones to others. */
export class Burden {
  private readonly limits: BurdenLimits;
  private readonly connections: () => number;
  private readonly delay = monitorEventLoopDelay({ resolution: resolutionMs });
  private readonly timer: NodeJS.Timeout;
  private delayMs = 0;

  constructor(limits: BurdenLimits, connections: () => number) {
    this.limits = limits;
    this.connections = connections;
    this.delay.enable();
    this.timer = setInterval(() => {
      this.delayMs = this.delay.count === 0 ? 0 : Math.max(0, this.delay.mean / 1e6 - resolutionMs);
      this.delay.reset();
    }, sampleMs);
    this.timer.unref();
  }

  /** Why no more clients should be sent here; undefined: they may. */
  reason(): string | undefined {
    const { maxLoopDelayMs, maxConnections } = this.limits;
    const open = this.connections();
    if (maxConnections > 0 && open > maxConnections)
      return `${open} client connections, more than ${maxConnections}`;
    if (maxLoopDelayMs > 0 && this.delayMs > maxLoopDelayMs)
      return `timers are ${Math.round(this.delayMs)} ms late, more than ${maxLoopDelayMs} ms`;
    return undefined;
  }

  stop(): void {
    clearInterval(this.timer);
    this.delay.disable();
  }
}
