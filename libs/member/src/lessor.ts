/**
 * Leases: which exist (replicated, changed at apply only) and when they run out (the leader's business alone,
 * written down only as checkpoints, if those are on). A leader that has just been elected gives every lease its full
 * TTL again, or what its checkpoint says, because it does not know what the last one had promised.
 *
 *   granted ──expiry passed──► due ──LeaseExpire proposed──► revoking ──applied──► gone
 *      ▲                        │                               │
 *      └──── keep alive ────────┘                  no outcome in time: due again
 */
import { assert, Heap } from '@quoin/base';

/** etcd's bound, in seconds: about 285 years. */
export const leaseTtlMaxSeconds = 9_000_000_000;

export interface Lease {
  readonly id: bigint;
  readonly ttlSeconds: number;
  /** Monotonic ms; meaningful on the leader only. */
  expiryMs: number;
  /** An expiry or a revoke has been proposed: it will not be renewed any more. */
  revoking: boolean;
  /** What a checkpoint said was left, in seconds: a new leader begins with that. 0: the whole TTL. */
  checkpointSeconds: number;
  /** The promotion since when it has its time. */
  promotion: number;
}

export interface LeaseCheckpoint {
  readonly id: bigint;
  /** 0: the whole TTL. */
  readonly remainingSeconds: number;
}

interface Due {
  readonly lease: Lease;
  atMs: number;
}

export interface LessorOptions {
  readonly electionTimeoutMs: number;
  readonly revokesPerSecond: number;
  /** How often the leader writes down what is left of long leases; 0 or left out: never. */
  readonly checkpointIntervalMs?: number;
}

function newHeap(): Heap<Due> {
  return new Heap<Due>((a, b) => a.atMs - b.atMs);
}

/** How long an expiry that was proposed may stay without outcome before it is proposed again. */
const revokeRetryMs = 3_000;
const revokeBatchMax = 500;
/** Renewed leases that one look puts in their new places, 1 µs each; the others have time until the next. */
const putBackMax = 10_000;
const checkpointBatchMax = 1_000;

export class Lessor {
  /** What shorter TTLs are raised to: a lease must outlive an election. */
  readonly ttlMinSeconds: number;
  private readonly leases = new Map<bigint, Lease>();
  private readonly options: LessorOptions;
  /** One entry per lease while leading. A renewal does not touch it: an entry that comes up too early goes back. */
  private heap: Heap<Due> | undefined;
  /** While leading, of those longer than the interval: when they are to be written down. */
  private checkpoints: Heap<Due>;
  /** Those that this promotion has not reached yet. */
  private promoting: IterableIterator<Lease> | undefined;
  private promotion: number;
  private promotedMs: number;
  private revokeTokens: number;
  private tokensAtMs: number;

  constructor(options: LessorOptions) {
    this.options = options;
    this.ttlMinSeconds = Math.ceil((1.5 * options.electionTimeoutMs) / 1_000);
    this.heap = undefined;
    this.checkpoints = newHeap();
    this.promoting = undefined;
    this.promotion = 0;
    this.promotedMs = 0;
    this.revokeTokens = 0;
    this.tokensAtMs = 0;
  }

  get size(): number {
    return this.leases.size;
  }

  get(id: bigint): Lease | undefined {
    return this.leases.get(id);
  }

  /** Ids by remaining time, the next to expire first; by id where that is unknown. */
  ids(): bigint[] {
    const all = [...this.leases.values()];
    all.sort((a, b) => a.expiryMs - b.expiryMs || (a.id < b.id ? -1 : 1));
    return all.map((lease) => lease.id);
  }

  /** The state is about to be loaded anew. */
  clear(): void {
    this.leases.clear();
    this.checkpoints = newHeap();
    if (this.heap !== undefined) this.heap = newHeap();
  }

  /** At apply, and when the state is loaded. */
  granted(id: bigint, ttlSeconds: number, nowMs: number, checkpointSeconds = 0): void {
    assert(!this.leases.has(id), () => `lease ${id} granted twice`);
    const expiryMs = nowMs + ttlSeconds * 1_000;
    const { promotion } = this;
    const lease: Lease = { id, ttlSeconds, expiryMs, revoking: false, checkpointSeconds, promotion };
    this.leases.set(id, lease);
    if (this.heap === undefined) return;
    this.heap.push({ lease, atMs: lease.expiryMs });
    this.scheduleCheckpoint(lease, nowMs);
  }

  /** At apply. */
  checkpointed({ id, remainingSeconds }: LeaseCheckpoint): void {
    const lease = this.leases.get(id);
    if (lease !== undefined) lease.checkpointSeconds = remainingSeconds;
  }

  /** At apply. The heap's entry is dropped when it comes up. */
  revoked(id: bigint): void {
    this.leases.delete(id);
  }

  /** All at once: `beginPromote` and every step of it. */
  promote(nowMs: number): void {
    this.beginPromote(nowMs);
    while (!this.stepPromote(Number.POSITIVE_INFINITY));
  }

  /**
   * This member has become the leader: every lease begins anew, or with what was written down as left of it, and the old
   * leader may have promised a little more. Each gets its time in `stepPromote`; nothing is to be asked before the end.
   */
  beginPromote(nowMs: number): void {
    this.heap = newHeap();
    this.checkpoints = newHeap();
    this.promotion++;
    this.promotedMs = nowMs;
    this.promoting = this.leases.values();
    this.revokeTokens = 0;
    this.tokensAtMs = nowMs;
  }

  /** About so many more; true when all have their time. */
  stepPromote(max: number): boolean {
    const { heap, promoting, promotedMs } = this;
    if (heap === undefined || promoting === undefined) return true;
    for (let left = max; left > 0; left--) {
      const next = promoting.next();
      if (next.done === true) {
        this.promoting = undefined;
        return true;
      }
      const lease = next.value;
      // Granted since the promotion began.
      if (lease.promotion === this.promotion) continue;
      const seconds = lease.checkpointSeconds > 0 ? lease.checkpointSeconds : lease.ttlSeconds;
      lease.promotion = this.promotion;
      lease.expiryMs = promotedMs + seconds * 1_000 + this.options.electionTimeoutMs;
      lease.revoking = false;
      heap.push({ lease, atMs: lease.expiryMs });
      this.scheduleCheckpoint(lease, promotedMs);
    }
    return false;
  }

  demote(): void {
    this.heap = undefined;
    this.checkpoints = newHeap();
    this.promoting = undefined;
    for (const lease of this.leases.values()) lease.revoking = false;
  }

  /** What is to be written down now, as etcd does it; a lease that has just been renewed has nothing to tell. */
  takeCheckpoints(nowMs: number): LeaseCheckpoint[] {
    const { checkpoints } = this;
    const due: LeaseCheckpoint[] = [];
    for (let top = checkpoints.peek(); top !== undefined && top.atMs <= nowMs; top = checkpoints.peek()) {
      if (due.length >= checkpointBatchMax) break;
      checkpoints.pop();
      const { lease } = top;
      if (this.leases.get(lease.id) !== lease || lease.expiryMs <= nowMs) continue;
      const remainingSeconds = Math.ceil((lease.expiryMs - nowMs) / 1_000);
      if (remainingSeconds < lease.ttlSeconds) due.push({ id: lease.id, remainingSeconds });
      this.scheduleCheckpoint(lease, nowMs);
    }
    return due;
  }

  /** The granted TTL in seconds; 0 when there is no such lease or its end has been decided. */
  renew(id: bigint, nowMs: number): number {
    const lease = this.leases.get(id);
    // Past its end but not yet proposed: the keep-alive came too late, as etcd sees it.
    if (lease === undefined || lease.revoking || lease.expiryMs <= nowMs) return 0;
    lease.expiryMs = nowMs + lease.ttlSeconds * 1_000;
    return lease.ttlSeconds;
  }

  /** Whole seconds left; undefined when there is no such lease or it has run out. */
  remainingSeconds(id: bigint, nowMs: number): number | undefined {
    const lease = this.leases.get(id);
    if (lease === undefined || lease.expiryMs <= nowMs) return undefined;
    return Math.floor((lease.expiryMs - nowMs) / 1_000);
  }

  /** Leases to expire now, within the rate; they are `revoking` from here on. Empty on a follower. */
  takeDue(nowMs: number): bigint[] {
    const heap = this.heap;
    const due: bigint[] = [];
    if (heap === undefined) return due;
    this.refill(nowMs);
    let putBack = 0;
    for (let top = heap.peek(); top !== undefined && top.atMs <= nowMs; top = heap.peek()) {
      if (due.length >= revokeBatchMax || this.revokeTokens < 1 || putBack >= putBackMax) break;
      heap.pop();
      const { lease } = top;
      if (this.leases.get(lease.id) !== lease) continue;
      // Renewed: even if that is over by now, those that ended before it come first.
      if (!lease.revoking && lease.expiryMs > top.atMs) {
        top.atMs = lease.expiryMs;
        putBack++;
      } else {
        lease.revoking = true;
        due.push(lease.id);
        this.revokeTokens--;
        top.atMs = nowMs + revokeRetryMs;
      }
      heap.push(top);
    }
    return due;
  }

  private scheduleCheckpoint(lease: Lease, nowMs: number): void {
    const intervalMs = this.options.checkpointIntervalMs ?? 0;
    if (intervalMs <= 0 || lease.ttlSeconds * 1_000 <= intervalMs) return;
    this.checkpoints.push({ lease, atMs: nowMs + intervalMs });
  }

  private refill(nowMs: number): void {
    const perSecond = this.options.revokesPerSecond;
    const earned = ((nowMs - this.tokensAtMs) * perSecond) / 1_000;
    // Half a second's worth may be saved up, so that leases that end together end together.
    this.revokeTokens = Math.min(this.revokeTokens + earned, perSecond / 2);
    this.tokensAtMs = nowMs;
  }
}

/**
 * Lease ids, and any other 63-bit id of one member:
 *
 *     | 0 | 15 bits of the member id | 40 bits of wall ms | 8 bits |      the counter runs over into the ms
 */
export class IdGenerator {
  private readonly prefix: bigint;
  private suffix: bigint;

  constructor(memberId: bigint, wallMs: number) {
    this.prefix = (memberId & 0xffffn) << 48n;
    this.suffix = (BigInt(Math.floor(wallMs)) & 0xff_ffff_ffffn) << 8n;
  }

  /** Positive as an int64, never 0. */
  next(): bigint {
    this.suffix = (this.suffix + 1n) & 0xffff_ffff_ffffn;
    const id = (this.prefix | this.suffix) & 0x7fff_ffff_ffff_ffffn;
    return id === 0n ? this.next() : id;
  }
}
