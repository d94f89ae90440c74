import type { HealthCheck } from '@quoin/base';

const intervalMs = 100;
/** A turn that takes longer is an outage for those who wait, and is remembered for so long. */
const stallMs = 2_000;
const rememberMs = 10_000;

/** Whether the event loop runs: a timer that should fire ten times a second notices when it did not. */
export class LoopWatch {
  private readonly timer: NodeJS.Timeout;
  private tickedMs = performance.now();
  private stalledMs = 0;
  private stalledAtMs = Number.NEGATIVE_INFINITY;

  constructor() {
    this.timer = setInterval(() => {
      const nowMs = performance.now();
      const lateMs = nowMs - this.tickedMs - intervalMs;
      this.tickedMs = nowMs;
      if (lateMs < stallMs) return;
      this.stalledMs = lateMs;
      this.stalledAtMs = nowMs;
    }, intervalMs);
    this.timer.unref();
  }

  readonly check: HealthCheck = (done) => {
    const agoMs = performance.now() - this.stalledAtMs;
    done(
      agoMs > rememberMs
        ? undefined
        : `the event loop stood still for ${Math.round(this.stalledMs)} ms, ${Math.round(agoMs)} ms ago`,
    );
  };

  stop(): void {
    clearInterval(this.timer);
  }
}
