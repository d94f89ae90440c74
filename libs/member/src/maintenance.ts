/** What keeps a replica within bounds and watches over its data; `Member` drives it, `Requests` sends it calls. */
import type { Clock, Digest, Log, Timers } from '@quoin/base';
import type { Raft } from '@quoin/raft';
import { AlarmRequests } from './alarm-requests.ts';
import type { StateMachine } from './apply.ts';
import { Compactor } from './compactor.ts';
import type { MemberConfig } from './config.ts';
import { Corruption } from './corruption.ts';
import { HashRequests } from './hash-requests.ts';
import type { MemberMetrics } from './member-metrics.ts';
import type { OwnProposals } from './own-proposals.ts';
import type { BackendFactory } from './ports.ts';
import type { ReadyLoop } from './ready-loop.ts';
import { SnapshotRequests } from './snapshot-requests.ts';

export interface MaintenanceParts {
  readonly memberId: bigint;
  readonly config: MemberConfig;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly log: Log;
  readonly digest: Digest;
  readonly backends: BackendFactory;
  readonly metrics: MemberMetrics;
  readonly machine: StateMachine;
  readonly own: OwnProposals;
  readonly raft: Raft;
  readonly loop: ReadyLoop;
}

export class Maintenance {
  readonly alarms: AlarmRequests;
  readonly hashes: HashRequests;
  readonly snapshots: SnapshotRequests;
  readonly corruption: Corruption;
  private readonly compactor: Compactor;

  constructor(parts: MaintenanceParts) {
    const { memberId, config, clock, log, metrics, machine, own, loop } = parts;
    this.alarms = new AlarmRequests({ memberId, clock, log, machine, own, loop: () => loop });
    this.hashes = new HashRequests({ clock, metrics, machine, wake: () => loop.wake() });
    const { digest, backends } = parts;
    this.snapshots = new SnapshotRequests({
      clock,
      stallMs: config.readerStallMs,
      metrics,
      log,
      digest,
      backends,
      machine,
      wake: () => loop.wake(),
    });
    this.corruption = new Corruption(parts);
    this.compactor = new Compactor({
      config,
      clock,
      log,
      own,
      isLeader: () => loop.isLeader,
      revision: () => machine.store.revision,
    });
  }

  tick(nowMs: number): void {
    this.alarms.tick(nowMs);
    this.compactor.tick(nowMs);
    this.corruption.tick(nowMs);
  }

  /** After apply and commit, within the turn. True when there is more at once. */
  pump(): boolean {
    this.alarms.applied();
    this.corruption.pump();
    const sending = this.snapshots.pump();
    return this.hashes.pump() || sending;
  }

  /** The store is about to be replaced. */
  replacing(): void {
    this.hashes.drop();
    this.snapshots.drop();
    this.corruption.replacing();
  }

  /** Another store is in force. */
  replaced(): void {
    this.corruption.replaced();
  }

  stop(): void {
    this.alarms.close();
    this.hashes.drop();
    this.snapshots.drop();
    this.corruption.replacing();
  }
}
