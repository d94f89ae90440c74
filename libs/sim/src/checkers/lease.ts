/**
 * Leases: none ends before the time that a client was promised, and none that nobody keeps stays for ever.
 *
 *   keep alive sent ──► renewed by the leader ──► answer: lives at least TTL from when it was renewed, so from when it was sent
 */
import { leaseIdBase } from './operation-id.ts';
import type { Violation } from './witness.ts';

interface Assurance {
  readonly untilMs: number;
  readonly sentMs: number;
}

export class LeaseChecker {
  renewals = 0;
  expiries = 0;
  /** When each lease ended by running out, in true ms. */
  private readonly expired = new Map<bigint, number>();
  private readonly revoked = new Set<bigint>();
  private readonly promises = new Map<bigint, Assurance>();
  private readonly slack: number;
  private readonly violation: Violation;

  /** `slack`: by how much a member's clock may run fast, as a fraction. */
  constructor(slack: number, violation: Violation) {
    this.slack = slack;
    this.violation = violation;
  }

  /** An answer said that the lease lives; it was asked for at `sentMs`. */
  renewed(id: bigint, ttlSeconds: number, sentMs: number): void {
    this.renewals++;
    const untilMs = sentMs + ttlSeconds * 1_000 * (1 - this.slack);
    const before = this.promises.get(id);
    if (before === undefined || before.untilMs < untilMs) this.promises.set(id, { untilMs, sentMs });
    const endMs = this.expired.get(id);
    if (endMs !== undefined) this.check(id, endMs);
  }

  expires(id: bigint, nowMs: number): void {
    if (this.expired.has(id) || this.revoked.has(id)) return;
    this.expiries++;
    this.expired.set(id, nowMs);
    this.check(id, nowMs);
  }

  revokes(id: bigint): void {
    this.revoked.add(id);
  }

  private check(id: bigint, endMs: number): void {
    const promise = this.promises.get(id);
    if (promise === undefined || endMs >= promise.untilMs) return;
    this.violation(
      `lease ${id - leaseIdBase} ended at ${endMs.toFixed(0)}, it was promised until ${promise.untilMs.toFixed(0)} (asked at ${promise.sentMs.toFixed(0)})`,
    );
  }
}
