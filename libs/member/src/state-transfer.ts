/** Both ends of a snapshot within one member: sends its state to who lags behind, and puts a received one in force. */
import type { SnapshotChunk, SnapshotHeader } from '@quoin/contracts';
import { Store } from '@quoin/mvcc';
import { type Message, MessageType, type Raft } from '@quoin/raft';
import type { StateMachine } from './apply.ts';
import type { MemberConfig } from './config.ts';
import type { MemberMetrics } from './member-metrics.ts';
import { blankMessage } from './messages.ts';
import type { SnapshotAck } from './peer-codec.ts';
import type { Peers } from './peer-session.ts';
import type { MemberPorts } from './ports.ts';
import type { ReadyLoop } from './ready-loop.ts';
import { storeName } from './recovery.ts';
import { SnapshotReceiver, SnapshotSender, snapshotHeader } from './snapshot.ts';
import type { Upkeep } from './upkeep.ts';

export interface StateTransferParts {
  readonly clusterId: bigint;
  readonly memberId: bigint;
  readonly config: MemberConfig;
  readonly ports: MemberPorts;
  readonly metrics: MemberMetrics;
  readonly raft: Raft;
  readonly machine: StateMachine;
  readonly peers: () => Peers;
  readonly loop: () => ReadyLoop;
  readonly upkeep: () => Upkeep;
  /** The old store is about to go: whoever reads from it has to stop. */
  readonly replacing: () => void;
  /** The new store is in force. */
  readonly replaced: () => void;
}

export class StateTransfer {
  private readonly parts: StateTransferParts;
  private readonly sender: SnapshotSender;
  private readonly receiver: SnapshotReceiver;
  private storeIndex: number;
  private stopped: boolean;

  constructor(parts: StateTransferParts, storeIndex: number) {
    this.parts = parts;
    this.storeIndex = storeIndex;
    this.stopped = false;
    const { config, ports, metrics, raft, machine, clusterId } = parts;
    const { digest, log } = ports;
    const nowMs = (): number => ports.clock.monotonicMs();
    this.sender = new SnapshotSender(
      {
        tracer: ports.tracer,
        digest,
        log,
        metrics,
        nowMs,
        chunkBytes: config.snapshotChunkBytes,
        windowChunks: config.snapshotWindowChunks,
        stallMs: config.snapshotStallMs,
        send: (to, chunk) => parts.peers().sendChunk(to, chunk),
        openSinceMs: (to) => parts.peers().openSinceMs(to),
        ended: (to, ok) => {
          raft.reportSnapshot(to, ok);
          parts.loop().wake();
        },
      },
      ports.random.u32() * 2 ** 16 + 1,
    );
    this.receiver = new SnapshotReceiver({
      tracer: ports.tracer,
      clusterId,
      digest,
      log,
      metrics,
      nowMs,
      backends: ports.backends,
      appliedIndex: () => machine.store.appliedIndex,
      received: (from, header, decided) => this.offer(from, header, decided),
    });
  }

  /** What a snapshot or backup of the state as it is now begins with. */
  header(): SnapshotHeader {
    const { clusterId, memberId, machine, loop } = this.parts;
    const { store, membership } = machine;
    const meta = { index: store.appliedIndex, term: store.appliedTerm, confState: membership.confState };
    return snapshotHeader(store, { clusterId, memberId }, meta, loop().softState.term);
  }

  /** The log above it is still needed by a transfer under way. */
  get holdIndex(): number {
    return this.sender.minIndex;
  }

  /** Only right after a commit. */
  send(to: bigint): void {
    this.sender.start(to, this.parts.machine.store, this.header());
  }

  pump(): boolean {
    return this.sender.pump();
  }

  tick(nowMs: number): void {
    this.sender.tick(nowMs);
  }

  chunk(from: bigint, chunk: SnapshotChunk, reply: (ack: SnapshotAck) => void): void {
    this.receiver.chunk(from, chunk, reply);
  }

  acknowledged(from: bigint, ack: SnapshotAck): void {
    this.sender.acknowledged(from, ack);
    this.parts.loop().wake();
  }

  stopSending(reason: string): void {
    this.sender.stopAll(reason);
  }

  stop(): void {
    this.stopped = true;
    this.sender.stopAll('stopped');
    this.receiver.stop();
  }

  /** The received state stands on the disk; raft is asked whether it still wants it. */
  private offer(from: bigint, header: SnapshotHeader, decided: (taken: boolean) => void): void {
    const message: Message = {
      ...blankMessage(MessageType.snapshot, from, this.parts.memberId),
      term: header.raftTerm,
      snapshot: header.meta,
    };
    this.parts.loop().offerSnapshot(message, header.meta.index, decided);
  }

  /** The log has recorded the switch: the new engine comes into force, the old one goes. */
  install(index: number, done: () => void): void {
    const { ports, metrics, machine, upkeep, replacing, replaced } = this.parts;
    const { backends, log } = ports;
    metrics.snapshotApplying.set(1);
    backends.open(storeName(index), (error, backend) => {
      if (this.stopped) {
        backend?.close();
        return;
      }
      if (backend === null)
        return ports.fatal(`the received snapshot could not be opened: ${error?.message ?? ''}`);
      const old = machine.store;
      const oldName = storeName(this.storeIndex);
      replacing();
      this.sender.stopAll('the state was replaced by a snapshot');
      machine.replaceStore(Store.open(backend, this.parts.config));
      this.storeIndex = index;
      upkeep().replaced(index);
      upkeep().whenIdle(() => {
        old.close();
        backends.remove(oldName, (failed) => {
          if (failed !== null)
            log.warn('could not remove the old engine', { name: oldName, error: failed.message });
        });
      });
      metrics.snapshotApplying.set(0);
      replaced();
      done();
    });
  }
}
