import type { Clock } from '@quoin/base';

/** The machine's clocks. */
export class RealClock implements Clock {
  monotonicMs(): number {
    return performance.now();
  }

  wallMs(): number {
    return Date.now();
  }
}
