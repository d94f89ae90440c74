export interface DiskPaceOptions {
  /** Calls that move more go through the thread pool. */
  readonly bytesMax: number;
  /** What a call is taken to last before any was seen. */
  readonly firstMedianMs: number;
}

/** A disk half of whose calls take longer than this is not waited for. */
const medianMsMax = 0.6;
/**
 * What a trip through the pool may add to the call itself when cores are scarce. Counted as time of the disk it would keep
 * a disk in the pool that is fast enough for the loop.
 */
const tripMs = 0.2;
/** How far one call moves the estimate of the median. */
const medianStep = 0.05;
/** So that a disk which becomes slow is noticed after a few dozen calls. */
const medianMsMin = 0.05;
/** What a single call may take before it costs budget. */
const freeMs = 0.6;
/** Share of the time that the loop may stand still for calls that took longer, and how much of it can be saved up. */
const budgetShare = 0.02;
const budgetMsMax = 20;

/**
 * Decides whether a short disk call is made on the loop itself. A trip through the thread pool costs 40 to 80 µs of CPU
 * and two wake-ups, as much as the fast disk takes for the call; a slow disk must never hold up a turn. Nobody can know how
 * long the next call takes, so the rule bounds what the unlucky ones cost altogether:
 *
 *     on the loop   when the median of the last calls is ≤ 0.6 ms, and budget is left
 *     budget        − what a call on the loop took beyond 0.6 ms;  + 2 % of the time that passes, up to 20 ms
 *
 * After a stall of 100 ms the pool has the calls for the next 4 s.
 */
export class DiskPace {
  private readonly bytesMax: number;
  private medianMs: number;
  private budgetMs = budgetMsMax;
  private countedMs = 0;

  constructor(options: DiskPaceOptions) {
    this.bytesMax = options.bytesMax;
    this.medianMs = options.firstMedianMs;
  }

  allows(bytes: number, nowMs: number): boolean {
    if (bytes > this.bytesMax || this.medianMs > medianMsMax) return false;
    if (this.budgetMs < budgetMsMax) {
      this.budgetMs = Math.min(this.budgetMs + (nowMs - this.countedMs) * budgetShare, budgetMsMax);
    }
    this.countedMs = nowMs;
    return this.budgetMs > 0;
  }

  /** A call of that size, on the loop or in the pool, has taken so long. */
  took(bytes: number, durationMs: number, onLoop: boolean): void {
    if (onLoop) this.budgetMs -= Math.max(0, durationMs - freeMs);
    // A long call says nothing about short ones.
    if (bytes > this.bytesMax) return;
    const diskMs = onLoop ? durationMs : durationMs - tripMs;
    this.medianMs *= diskMs > this.medianMs ? 1 + medianStep : 1 - medianStep;
    this.medianMs = Math.max(this.medianMs, medianMsMin);
  }
}
