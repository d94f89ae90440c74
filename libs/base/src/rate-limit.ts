/** Lets one through per interval and counts what it held back: for log lines that may repeat quickly. */
export class RateLimit {
  private readonly intervalMs: number;
  private readonly nextMs = new Map<string, number>();
  private readonly held = new Map<string, number>();

  constructor(intervalMs: number) {
    this.intervalMs = intervalMs;
  }

  /** How many of `key` were held back since the last one let through, or undefined to hold this one back too. */
  pass(key: string, nowMs: number): number | undefined {
    const next = this.nextMs.get(key);
    if (next !== undefined && nowMs < next) {
      this.held.set(key, (this.held.get(key) ?? 0) + 1);
      return undefined;
    }
    this.nextMs.set(key, nowMs + this.intervalMs);
    const held = this.held.get(key) ?? 0;
    this.held.delete(key);
    return held;
  }
}
