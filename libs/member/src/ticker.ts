import type { Clock, Timers } from '@quoin/base';

/**
 * Raft's ticks in a heartbeat interval. Election timeouts are spread that finely, so that few nodes choose the same, and who has to
 * try again can do so at once.
 */
const ticksPerHeartbeatMax = 5;
/** Timers of a system are not worth more. */
const tickMsMin = 2;

/** How a heartbeat interval is cut into ticks. */
export function tickLength(heartbeatIntervalMs: number): { ticksPerHeartbeat: number; tickMs: number } {
  const whole = Math.floor(heartbeatIntervalMs / tickMsMin);
  const ticksPerHeartbeat = Math.min(Math.max(whole, 1), ticksPerHeartbeatMax);
  return { ticksPerHeartbeat, tickMs: heartbeatIntervalMs / ticksPerHeartbeat };
}

/** How far two members' clocks may run apart while one election timeout passes, as a share of it. */
const leaseDriftMax = 0.1;

/**
 * How long after a leader has sent a round, which a quorum then answered, nobody else can be elected, by the leader's clock. A follower
 * holds its vote back for an election timeout since it heard the leader. Two ticks of it may be missing: of the first it
 * was within, and one that comes at once after a late one.
 */
export function leaseMs(heartbeatIntervalMs: number, electionTimeoutMs: number): number {
  const { tickMs } = tickLength(heartbeatIntervalMs);
  return (electionTimeoutMs - 2 * tickMs) * (1 - leaseDriftMax);
}

export interface TickerOptions {
  readonly clock: Clock;
  readonly timers: Timers;
  readonly heartbeatIntervalMs: number;
  readonly onTick: () => void;
  /** After the last tick of each heartbeat interval. */
  readonly onHeartbeat: () => void;
}

/** Drives raft's time. Each tick is due one period after the one before was, however late that came; a pause is not made up for. */
export class Ticker {
  private readonly options: TickerOptions;
  private readonly ticksPerHeartbeat: number;
  private readonly tickMs: number;
  private dueMs = 0;
  private ticks = 0;
  private stopped = false;

  constructor(options: TickerOptions) {
    this.options = options;
    const { ticksPerHeartbeat, tickMs } = tickLength(options.heartbeatIntervalMs);
    this.ticksPerHeartbeat = ticksPerHeartbeat;
    this.tickMs = tickMs;
  }

  start(): void {
    this.dueMs = this.options.clock.monotonicMs();
    this.schedule();
  }

  stop(): void {
    this.stopped = true;
  }

  private schedule(): void {
    const { clock, timers, onTick, onHeartbeat } = this.options;
    const nowMs = clock.monotonicMs();
    this.dueMs = Math.max(this.dueMs + this.tickMs, nowMs);
    timers.after(this.dueMs - nowMs, () => {
      if (this.stopped) return;
      this.schedule();
      onTick();
      if (++this.ticks % this.ticksPerHeartbeat === 0) onHeartbeat();
    });
  }
}
