import { type Channel, concatBytes, hexId } from '@quoin/base';
import {
  encodeAttributesRequest,
  encodeProposalBatch,
  etcdErrors,
  type MemberState as LinkMemberState,
  type MemberInfo,
  Method,
  readCompactionRequest,
} from '@quoin/contracts';
import { registerStoreMetrics, Store } from '@quoin/mvcc';
import { EntryType, type Message, MessageType, Raft, type Role, type SoftState } from '@quoin/raft';
import type { WalOptions } from '@quoin/wal';
import { StateMachine } from './apply.ts';
import { Backups } from './backup.ts';
import type { StatusView } from './cluster-messages.ts';
import { ClusterRequests } from './cluster-requests.ts';
import {
  type MemberConfig,
  type MemberOptions,
  memberConfig,
  memberConfigError,
  quotaBytes,
  serverVersion,
} from './config.ts';
import { LeaseRequests } from './lease-requests.ts';
import { IdGenerator, Lessor } from './lessor.ts';
import { type LinkHost, LinkSession } from './link-session.ts';
import { MemberMetrics } from './member-metrics.ts';
import { Peers } from './peer-session.ts';
import type { MemberPorts } from './ports.ts';
import { Proposals } from './proposals.ts';
import { ReadIndex } from './read-index.ts';
import { ReadyLoop } from './ready-loop.ts';
import { type MemberState, recover, storeName } from './recovery.ts';
import { Requests } from './requests.ts';
import { SnapshotReceiver, SnapshotSender, snapshotHeader } from './snapshot.ts';
import { Upkeep } from './upkeep.ts';

/** What an operator sees of a replica at one moment. */
export interface MemberStatus {
  readonly memberId: bigint;
  readonly clusterId: bigint;
  readonly name: string;
  readonly role: Role;
  /** 0n: none known. */
  readonly leader: bigint;
  readonly term: number;
  readonly commitIndex: number;
  readonly appliedIndex: number;
  readonly revision: number;
  readonly compactRevision: number;
  readonly learner: boolean;
  readonly members: readonly MemberInfo[];
  readonly dbSizeBytes: number;
  readonly dbSizeInUseBytes: number;
  /** Such as `etcdserver: no leader`. */
  readonly errors: readonly string[];
}

const stateIntervalMs = 1_000;
const publishRetryMs = 1_000;
const hashStepBytes = 1 << 20;

/** One replica: propose → ready → apply → reply. */
export class Member {
  readonly clusterId: bigint;
  readonly memberId: bigint;
  private readonly config: MemberConfig;
  private readonly ports: MemberPorts;
  private readonly wal: MemberState['wal'];
  private readonly raft: Raft;
  private readonly metrics: MemberMetrics;
  private readonly lessor: Lessor;
  private readonly machine: StateMachine;
  private readonly proposals: Proposals;
  private readonly reads: ReadIndex;
  private readonly peers: Peers;
  private readonly loop: ReadyLoop;
  private readonly leases: LeaseRequests;
  private readonly cluster: ClusterRequests;
  private readonly backups: Backups;
  private readonly requests: Requests;
  private readonly sender: SnapshotSender;
  private readonly receiver: SnapshotReceiver;
  private readonly upkeep: Upkeep;
  private readonly sessions = new Set<LinkSession>();
  private readonly linkHost: LinkHost;
  private storeIndex: number;
  private leader: bigint;
  private stateSentMs: number;
  private publishedMs: number;
  private publishSequence: bigint;
  private readyListeners: (() => void)[];
  private stopping: boolean;
  private stopped: boolean;

  /** Opens the data directory (or makes it) and starts. The error's message is one line for the operator. */
  static open(
    options: MemberOptions,
    ports: MemberPorts,
    cb: (error: Error | null, member: Member | null) => void,
  ): void {
    const config = memberConfig(options);
    const problem = memberConfigError(config);
    if (problem !== undefined) {
      ports.timers.endOfTurn(() => cb(new Error(problem), null));
      return;
    }
    const observer: WalObserver = { metrics: undefined };
    recover(config, ports, walOptions(config, ports, observer), (error, state) => {
      if (state === null) {
        cb(error ?? new Error('could not open the data directory'), null);
        return;
      }
      const member = new Member(config, ports, state, observer);
      member.start();
      cb(null, member);
    });
  }

  private constructor(config: MemberConfig, ports: MemberPorts, state: MemberState, observer: WalObserver) {
    const { clock, timers, random, log, digest } = ports;
    this.config = config;
    this.ports = ports;
    this.clusterId = state.clusterId;
    this.memberId = state.memberId;
    this.wal = state.wal;
    this.storeIndex = state.storeIndex;
    this.leader = 0n;
    this.stateSentMs = 0;
    this.publishedMs = Number.NEGATIVE_INFINITY;
    this.publishSequence = 0n;
    this.readyListeners = [];
    this.stopping = false;
    this.stopped = false;
    const nowMs = (): number => clock.monotonicMs();
    this.raft = new Raft(
      {
        id: state.memberId,
        random,
        electionTicks: Math.round(config.electionTimeoutMs / config.heartbeatIntervalMs),
        heartbeatTicks: 1,
        preVote: config.preVote,
        maxEntryBytesPerMessage: config.maxLogEntriesPerMessageBytes,
      },
      state.raft,
    );
    this.lessor = new Lessor({
      electionTimeoutMs: config.electionTimeoutMs,
      revokesPerSecond: config.leaseRevokesPerSecond,
    });
    this.metrics = this.makeMetrics();
    observer.metrics = this.metrics;
    this.machine = new StateMachine(state.store, {
      memberId: state.memberId,
      lessor: this.lessor,
      maxLearners: config.maxLearners,
      raftTerm: () => this.loop.softState.term,
      nowMs,
      onLeaseGranted: () => this.metrics.leaseGranted.inc(),
      onLeaseRevoked: (expired) => {
        this.metrics.leaseRevoked.inc();
        if (expired) this.metrics.leaseExpired.inc();
      },
    });
    this.proposals = new Proposals({
      origin: state.memberId,
      epoch: random.u32() >>> 8,
      maxBatchBytes: config.maxProposalBatchBytes,
      maxRequestBytes: config.maxRequestBytes,
      maxPendingBytes: config.maxPendingBytes,
    });
    this.reads = new ReadIndex({
      retryMs: config.readIndexRetryMs,
      // Below 2^53 with room for 2^20 numbers before the next start's range could be met.
      firstContext: (random.u32() + 1) * 2 ** 20,
      ask: (context) => this.raft.readIndex(context),
      onSlow: () => this.metrics.slowReadIndexes.inc(),
      onFailed: (count) => this.metrics.readIndexesFailed.inc(count),
    });
    this.peers = new Peers({
      clusterId: state.clusterId,
      memberId: state.memberId,
      dial: ports.dialPeer,
      clock,
      timers,
      random,
      log,
      metrics: this.metrics,
      maxQueueBytes: config.maxPeerQueueBytes,
      isRemoved: (id) => this.machine.membership.isRemoved(id),
      onRemoved: () => this.removed(),
      members: () => this.machine.membership.members,
      onMessages: (messages) => this.loop.receive(messages),
      onChunk: (from, chunk, reply) => this.receiver.chunk(from, chunk, reply),
      onAck: (from, ack) => {
        this.sender.acknowledged(from, ack);
        this.loop.wake();
      },
      onUnreachable: (id) => this.raft.reportUnreachable(id),
    });
    this.loop = new ReadyLoop(
      {
        memberId: state.memberId,
        clock,
        timers,
        log,
        tracer: ports.tracer,
        metrics: this.metrics,
        raft: this.raft,
        wal: state.wal,
        machine: this.machine,
        proposals: this.proposals,
        reads: this.reads,
        peers: this.peers,
        applySliceMs: config.applySliceMs,
        slowApplyMs: config.slowApplyMs,
        slowFsyncMs: config.slowFsyncMs,
      },
      {
        softState: (soft) => this.softState(soft),
        sendSnapshot: (to) => this.sendSnapshot(to),
        installSnapshot: (index, done) => this.installSnapshot(index, done),
        membershipChanged: () => this.membershipChanged(),
        leaderReady: () => this.leases.promote(),
        compactionWanted: (call, body, proposal) => {
          const physical = call !== undefined && readCompactionRequest(proposal.body).physical;
          if (!physical) call?.reply(body);
          this.upkeep.compacting(physical ? () => call?.reply(body) : undefined);
        },
        afterApply: () => this.afterApply(),
        flush: () => this.flush(),
      },
    );
    const { loop, machine, proposals, raft, reads } = this;
    this.leases = new LeaseRequests({
      clock,
      lessor: this.lessor,
      ids: new IdGenerator(state.memberId, clock.wallMs()),
      machine,
      metrics: this.metrics,
      proposals,
      loop,
      requestTimeoutMs: config.requestTimeoutMs,
    });
    this.cluster = new ClusterRequests({
      memberId: state.memberId,
      config,
      clock,
      digest,
      raft,
      machine,
      proposals,
      loop,
    });
    this.backups = new Backups({
      digest,
      log,
      chunkBytes: config.snapshotChunkBytes,
      store: () => machine.store,
      header: () => this.snapshotHeader(),
      wake: () => loop.wake(),
    });
    this.requests = new Requests({
      config,
      clock,
      tracer: ports.tracer,
      machine,
      proposals,
      reads,
      loop,
      leases: this.leases,
      cluster: this.cluster,
      backups: this.backups,
      isLearner: () => this.isLearner(),
      status: () => this.statusView(),
    });
    this.sender = new SnapshotSender(
      {
        digest,
        log,
        metrics: this.metrics,
        chunkBytes: config.snapshotChunkBytes,
        windowChunks: config.snapshotWindowChunks,
        stallMs: config.snapshotStallMs,
        nowMs,
        send: (to, chunk) => this.peers.sendChunk(to, chunk),
        isOpen: (to) => this.peers.isOpen(to),
        ended: (to, ok) => {
          raft.reportSnapshot(to, ok);
          loop.wake();
        },
      },
      random.u32() * 2 ** 16 + 1,
    );
    this.receiver = new SnapshotReceiver({
      clusterId: state.clusterId,
      digest,
      log,
      metrics: this.metrics,
      backends: ports.backends,
      nowMs,
      appliedIndex: () => machine.store.appliedIndex,
      received: (from, header, wanted) => this.offerSnapshot(from, header, wanted),
    });
    this.upkeep = new Upkeep(
      {
        config,
        clock,
        timers,
        log,
        metrics: this.metrics,
        raft,
        wal: state.wal,
        store: () => machine.store,
        appliedBytes: () => loop.appliedBytes,
        holdIndex: () => this.sender.minIndex,
        fatal: (reason) => ports.fatal(reason),
      },
      state.raft.start.index,
    );
    this.linkHost = {
      clusterId: state.clusterId,
      memberId: state.memberId,
      name: config.name,
      windowBytes: config.streamWindowBytes,
      requestTimeoutMs: config.requestTimeoutMs,
      log,
      nowMs,
      state: () => this.linkState(),
      hub: () => machine.store.hub,
      request: (call) => {
        if (this.stopping) call.notTaken();
        else this.requests.take(call);
      },
      serve: (call) => this.requests.serve(call),
      wake: () => loop.wake(),
      closed: (session) => void this.sessions.delete(session),
    };
  }

  /** A stream that another member opened to us. Handlers are set before this returns. */
  acceptPeer(channel: Channel): void {
    if (this.stopped) channel.close();
    else this.peers.accept(channel);
  }

  /** A stream that a gateway opened to us. Handlers are set before this returns. */
  acceptLink(channel: Channel): void {
    if (this.stopped) channel.close();
    else this.sessions.add(new LinkSession(this.linkHost, channel));
  }

  /** Calls back once this member has published its name and URLs through the log: it can serve clients. */
  onceReady(cb: () => void): void {
    if (this.isPublished()) this.ports.timers.endOfTurn(cb);
    else this.readyListeners.push(cb);
  }

  status(): MemberStatus {
    const { store, membership } = this.machine;
    const { softState, committedIndex } = this.loop;
    const sizes = store.sizes();
    return {
      memberId: this.memberId,
      clusterId: this.clusterId,
      name: this.config.name,
      role: softState.role,
      leader: softState.leader,
      term: softState.term,
      commitIndex: committedIndex,
      appliedIndex: store.appliedIndex,
      revision: store.revision,
      compactRevision: store.compactRevision,
      learner: this.isLearner(),
      members: membership.members,
      dbSizeBytes: sizes.totalBytes,
      dbSizeInUseBytes: sizes.inUseBytes,
      errors: softState.leader === 0n ? [etcdErrors.noLeader.message] : [],
    };
  }

  /** For checks that replicas are equal: CRC-32C of the logical state at the applied index, in slices. */
  stateHash(cb: (appliedIndex: number, hash: number) => void): void {
    const { appliedIndex } = this.machine.store;
    const hasher = this.machine.store.stateHasher();
    const step = (): void => {
      if (hasher.step(hashStepBytes)) cb(appliedIndex, hasher.hash());
      else this.ports.timers.after(0, step);
    };
    step();
  }

  /** Hands the lead over if it has it, makes the state durable and closes. The callback comes once. */
  stop(cb: () => void): void {
    if (this.stopping) return;
    this.stopping = true;
    this.ports.log.info('stopping', { member: hexId(this.memberId) });
    this.handOver(this.ports.clock.monotonicMs() + this.config.transferTimeoutMs, () => this.shutDown(cb));
  }

  private start(): void {
    const { log } = this.ports;
    const { store, membership } = this.machine;
    registerStoreMetrics(this.ports.metrics, () => this.machine.store);
    log.info('starting a member', {
      name: this.config.name,
      memberId: hexId(this.memberId),
      clusterId: hexId(this.clusterId),
      members: membership.members.length,
      appliedIndex: store.appliedIndex,
      revision: store.revision,
    });
    this.peers.update(membership.members);
    // Nobody to wait for: the only voter can lead at once.
    const { voters } = membership.confState;
    if (voters.length === 1 && voters[0] === this.memberId) this.raft.campaign();
    this.scheduleTick();
    this.loop.wake();
  }

  private scheduleTick(): void {
    this.ports.timers.after(this.config.heartbeatIntervalMs, () => {
      if (this.stopped) return;
      this.scheduleTick();
      this.tick();
    });
  }

  private tick(): void {
    const nowMs = this.ports.clock.monotonicMs();
    this.raft.tick();
    const expired = this.proposals.tick(nowMs, this.config.electionTimeoutMs);
    if (expired > 0) this.metrics.proposalsFailed.inc(expired);
    this.reads.tick(nowMs);
    this.leases.tick(nowMs);
    this.cluster.tick(nowMs);
    this.sender.tick(nowMs);
    this.upkeep.tick(nowMs);
    this.publish(nowMs);
    if (nowMs - this.stateSentMs >= stateIntervalMs) this.stateChanged();
    this.loop.wake();
  }

  /** Work of a turn after the commit; what is read here sees whole entries only. True when there is more at once. */
  private afterApply(): boolean {
    const reading = this.requests.pump();
    const feeding = this.machine.store.hub.pump(hashStepBytes);
    const backing = this.backups.pump();
    const sending = this.sender.pump();
    return reading || feeding || backing || sending;
  }

  private flush(): void {
    this.peers.flush();
    for (const session of this.sessions) session.flush();
  }

  private softState(soft: SoftState): void {
    const { log, clock } = this.ports;
    const changed = soft.leader !== this.leader;
    if (changed && soft.leader !== 0n) this.metrics.leaderChanges.inc();
    if (soft.role === 'leader' && this.leader !== this.memberId) {
      log.info('became leader', { term: soft.term });
    } else if (this.leader === this.memberId && soft.role !== 'leader') {
      log.warn('lost the lead', { term: soft.term, leader: hexId(soft.leader) });
    } else if (changed) {
      log.info(soft.leader === 0n ? 'lost the leader' : 'follows a leader', {
        term: soft.term,
        leader: hexId(soft.leader),
      });
    }
    this.leader = soft.leader;
    if (soft.role !== 'leader') {
      this.leases.demote();
      this.sender.stopAll('no longer the leader');
    }
    this.cluster.leaderChanged(soft.leader);
    this.publish(clock.monotonicMs());
    this.stateChanged();
  }

  private stateChanged(): void {
    this.stateSentMs = this.ports.clock.monotonicMs();
    for (const session of this.sessions) session.stateChanged();
  }

  private membershipChanged(): void {
    this.peers.update(this.machine.membership.members);
    this.stateChanged();
    if (this.readyListeners.length > 0 && this.isPublished()) {
      const listeners = this.readyListeners;
      this.readyListeners = [];
      for (const listener of listeners) listener();
    }
    if (this.machine.membership.isRemoved(this.memberId)) this.removed();
  }

  private removed(): void {
    if (this.stopping) return;
    this.ports.log.error('this member was removed from the cluster');
    this.stop(() => this.ports.fatal('the member has been permanently removed from the cluster'));
  }

  private linkState(): LinkMemberState {
    const { store, membership } = this.machine;
    return {
      leader: this.leader,
      term: this.loop.softState.term,
      revision: store.revision,
      compactRevision: store.compactRevision,
      appliedIndex: store.appliedIndex,
      learner: this.isLearner(),
      members: membership.members,
    };
  }

  private isLearner(): boolean {
    return this.machine.membership.get(this.memberId)?.learner ?? false;
  }

  private isPublished(): boolean {
    const own = this.machine.membership.get(this.memberId);
    if (own === undefined || this.leader === 0n) return false;
    const { name, advertiseClientUrls } = this.config;
    return own.name === name && own.clientUrls.join() === advertiseClientUrls.join();
  }

  /** Name and client URLs go through the log: by the leader itself, or by a message to it. Again until it is applied. */
  private publish(nowMs: number): void {
    if (this.readyListeners.length > 0 && this.isPublished()) this.membershipChanged();
    if (this.isPublished() || this.leader === 0n || this.stopping) return;
    if (nowMs - this.publishedMs < publishRetryMs) return;
    this.publishedMs = nowMs;
    const { name, advertiseClientUrls } = this.config;
    const body = encodeAttributesRequest({ memberId: this.memberId, name, clientUrls: advertiseClientUrls });
    if (this.leader === this.memberId) {
      this.proposals.add(Method.attributes, body, undefined, nowMs, nowMs + this.config.requestTimeoutMs);
      return;
    }
    const proposal = {
      origin: this.memberId,
      id: ++this.publishSequence,
      method: Method.attributes,
      body,
      trace: new Uint8Array(0),
    };
    const data = encodeProposalBatch({ proposals: [proposal] });
    this.peers.send({
      type: MessageType.propose,
      from: this.memberId,
      to: this.leader,
      term: 0,
      index: 0,
      logTerm: 0,
      commit: 0,
      entries: [{ term: 0, index: 0, type: EntryType.normal, data: concatBytes([data]) }],
      reject: false,
      rejectHint: 0,
      context: 0,
      force: false,
      snapshot: undefined,
    });
    this.loop.wake();
  }

  private snapshotHeader() {
    const { store, membership } = this.machine;
    const meta = { index: store.appliedIndex, term: store.appliedTerm, confState: membership.confState };
    const ids = { clusterId: this.clusterId, memberId: this.memberId };
    return snapshotHeader(store, ids, meta, this.loop.softState.term);
  }

  private sendSnapshot(to: bigint): void {
    this.sender.start(to, this.machine.store, this.snapshotHeader());
  }

  /** The received state stands on the disk; raft is asked whether it still wants it. */
  private offerSnapshot(
    from: bigint,
    header: ReturnType<typeof snapshotHeader>,
    decided: (taken: boolean) => void,
  ): void {
    const message: Message = {
      type: MessageType.snapshot,
      from,
      to: this.memberId,
      term: header.raftTerm,
      index: 0,
      logTerm: 0,
      commit: 0,
      entries: [],
      reject: false,
      rejectHint: 0,
      context: 0,
      force: false,
      snapshot: header.meta,
    };
    this.loop.offerSnapshot(message, header.meta.index, decided);
  }

  /** The log has recorded the switch: the new engine comes into force, the old one goes. */
  private installSnapshot(index: number, done: () => void): void {
    const { backends, log } = this.ports;
    this.metrics.snapshotApplying.set(1);
    backends.open(storeName(index), (error, backend) => {
      if (this.stopped) return;
      if (backend === null) {
        this.ports.fatal(`the received snapshot could not be opened: ${error?.message ?? ''}`);
        return;
      }
      const old = this.machine.store;
      const oldName = storeName(this.storeIndex);
      this.requests.dropLongRanges();
      this.backups.stopAll('the state was replaced by a snapshot');
      this.sender.stopAll('the state was replaced by a snapshot');
      this.machine.replaceStore(Store.open(backend));
      this.storeIndex = index;
      for (const session of this.sessions) session.resubscribe();
      this.upkeep.replaced(index);
      this.upkeep.whenIdle(() => {
        old.close();
        backends.remove(oldName, (failed) => {
          if (failed !== null)
            log.warn('could not remove the old engine', { name: oldName, error: failed.message });
        });
      });
      this.metrics.snapshotApplying.set(0);
      this.membershipChanged();
      done();
    });
  }

  private handOver(deadlineMs: number, cb: () => void): void {
    const { raft, ports } = this;
    const status = raft.status();
    const heirs = status.progress.filter((p) => p.id !== this.memberId && !p.learner && p.recentActive);
    const heir = heirs.sort((a, b) => b.match - a.match)[0];
    if (status.role !== 'leader' || heir === undefined || ports.clock.monotonicMs() >= deadlineMs)
      return cb();
    if (status.transferee === 0n) raft.transferLeadership(heir.id);
    this.loop.wake();
    ports.timers.after(this.config.heartbeatIntervalMs, () => this.handOver(deadlineMs, cb));
  }

  private shutDown(cb: () => void): void {
    this.stopped = true;
    this.loop.stop();
    this.proposals.close();
    this.reads.close();
    this.leases.demote();
    this.requests.dropLongRanges();
    this.backups.stopAll('server stopped');
    this.sender.stopAll('stopped');
    this.receiver.stop();
    for (const session of [...this.sessions]) session.close();
    this.peers.stop();
    this.upkeep.stop();
    this.upkeep.flush(() => {
      this.wal.close(() => {
        this.machine.store.close();
        this.ports.log.info('stopped', { member: hexId(this.memberId) });
        cb();
      });
    });
  }

  private statusView(): StatusView {
    const status = this.status();
    return { ...status, quotaBytes: quotaBytes(this.config), errors: status.errors };
  }

  private makeMetrics(): MemberMetrics {
    return new MemberMetrics(
      this.ports.metrics,
      {
        hasLeader: () => (this.leader === 0n ? 0 : 1),
        isLeader: () => (this.leader === this.memberId ? 1 : 0),
        isLearner: () => (this.isLearner() ? 1 : 0),
        pendingProposals: () => this.proposals.pendingCount,
        committed: () => this.loop.committedIndex,
        applied: () => this.machine.store.appliedIndex,
        leases: () => this.lessor.size,
        quotaBytes: () => quotaBytes(this.config),
        feeds: () => this.machine.store.hub.feeds,
      },
      { memberId: hexId(this.memberId), version: serverVersion },
    );
  }
}

/** The log is opened before there are metrics. */
interface WalObserver {
  metrics: MemberMetrics | undefined;
}

function walOptions(config: MemberConfig, ports: MemberPorts, observer: WalObserver): WalOptions {
  return {
    clock: ports.clock,
    timers: ports.timers,
    log: ports.log,
    onFatal: (message) => ports.fatal(message),
    onWrite: (_durationMs, bytes) => observer.metrics?.walWriteBytes.inc(bytes),
    onSync: (durationMs) => observer.metrics?.walFsyncSeconds.observe(durationMs / 1_000),
    segmentBytes: config.walSegmentBytes,
  };
}
