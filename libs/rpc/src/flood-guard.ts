const pingStrikesMax = 2;
// A client without streams has no reason to ping more often (gRPC proposal A8).
const idlePingMinTimeMs = 2 * 3_600_000;

/** Counts what a client makes us do for nothing: the floods of CVE-2019-9512 to 9518 and CVE-2023-44487. */
export class FloodGuard {
  private readonly framesPerSecondMax: number;
  private readonly pingMinTimeMs: number;
  private frames = 0;
  private since = Number.NEGATIVE_INFINITY;
  private lastPingMs = Number.NEGATIVE_INFINITY;
  private pingStrikes = 0;

  constructor(framesPerSecondMax: number, pingMinTimeMs: number) {
    this.framesPerSecondMax = framesPerSecondMax;
    this.pingMinTimeMs = pingMinTimeMs;
  }

  /** A frame that costs us and carries nothing. False: too many in this second. */
  idleFrame(nowMs: number): boolean {
    if (nowMs - this.since >= 1000) {
      this.since = nowMs;
      this.frames = 0;
    }
    return ++this.frames <= this.framesPerSecondMax;
  }

  /** gRPC's keepalive rule: a ping too soon is a strike. False: too many. */
  ping(nowMs: number, busy: boolean): boolean {
    if (nowMs - this.lastPingMs < (busy ? this.pingMinTimeMs : idlePingMinTimeMs)) this.pingStrikes++;
    this.lastPingMs = nowMs;
    return this.pingStrikes <= pingStrikesMax;
  }

  /** Headers or data went out: strikes are taken back. */
  sentSubstance(): void {
    this.pingStrikes = 0;
    this.lastPingMs = Number.NEGATIVE_INFINITY;
  }
}
