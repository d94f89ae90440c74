import { type Channel, hexId } from '@quoin/base';
import { type MemberState as LinkMemberState, type Proposal, readCompactionRequest } from '@quoin/contracts';
import { registerStoreMetrics } from '@quoin/mvcc';
import type { Raft, SoftState } from '@quoin/raft';
import { AlarmType, alarmName } from './alarms.ts';
import { StateMachine } from './apply.ts';
import { Backups } from './backup.ts';
import type { Call } from './call.ts';
import { ClusterRequests } from './cluster-requests.ts';
import {
  type MemberConfig,
  type MemberOptions,
  memberConfig,
  memberConfigError,
  quotaBytes,
} from './config.ts';
import { type MemberHealth, memberHealth } from './health.ts';
import { HeartbeatWatch } from './heartbeat-watch.ts';
import { DiskLag, heirOf } from './lead.ts';
import { LeaseRequests } from './lease-requests.ts';
import { IdGenerator, Lessor } from './lessor.ts';
import { gatewayUrls, type LinkHost, LinkSession } from './link-session.ts';
import { Maintenance } from './maintenance.ts';
import { memberGauges } from './member-gauges.ts';
import { MemberMetrics } from './member-metrics.ts';
import { openRaft } from './open-raft.ts';
import { OwnProposals } from './own-proposals.ts';
import { Peers } from './peer-session.ts';
import type { MemberPorts } from './ports.ts';
import { ProposalTraces } from './proposal-traces.ts';
import { Proposals } from './proposals.ts';
import { Publisher } from './publisher.ts';
import { ReadIndex } from './read-index.ts';
import { ReadyLoop, type ReadyLoopHooks } from './ready-loop.ts';
import { type MemberState, recover } from './recovery.ts';
import { Requests } from './requests.ts';
import { StateTransfer } from './state-transfer.ts';
import { type MemberStatus, statusOf } from './status.ts';
import { Ticker } from './ticker.ts';
import { Upkeep } from './upkeep.ts';
import { type WalObserver, walObserver, walOptions } from './wal-observer.ts';

const stateIntervalMs = 1_000;
const hashStepBytes = 1 << 20;

/** One replica: propose → ready → apply → reply. The parts know each other only through what they are given here. */
export class Member {
  readonly clusterId: bigint;
  readonly memberId: bigint;
  /** What a probe is told. */
  readonly health: MemberHealth;
  private readonly config: MemberConfig;
  private readonly ports: MemberPorts;
  private readonly wal: MemberState['wal'];
  private readonly raft: Raft;
  private readonly metrics: MemberMetrics;
  private readonly lessor: Lessor;
  private readonly machine: StateMachine;
  private readonly traces: ProposalTraces | undefined;
  private readonly proposals: Proposals;
  private readonly reads: ReadIndex;
  private readonly peers: Peers;
  private readonly transfer: StateTransfer;
  private readonly loop: ReadyLoop;
  private readonly publisher: Publisher;
  private readonly own: OwnProposals;
  private readonly maintenance: Maintenance;
  private readonly leases: LeaseRequests;
  private readonly cluster: ClusterRequests;
  private readonly backups: Backups;
  private readonly requests: Requests;
  private readonly upkeep: Upkeep;
  private readonly sessions = new Set<LinkSession>();
  private readonly linkHost: LinkHost;
  private readonly ticker: Ticker;
  private leader: bigint;
  private stateSentMs: number;
  private readonly heartbeats: HeartbeatWatch;
  private readonly diskLag: DiskLag;
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
    const observer = walObserver(ports);
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
    const { clusterId, memberId } = state;
    this.config = config;
    this.ports = ports;
    this.clusterId = clusterId;
    this.memberId = memberId;
    this.wal = state.wal;
    this.leader = 0n;
    this.stateSentMs = 0;
    this.heartbeats = new HeartbeatWatch({
      clock: ports.clock,
      log: ports.log,
      intervalMs: config.heartbeatIntervalMs,
      failures: () => this.metrics.heartbeatSendFailures,
      isLeader: () => this.leader === this.memberId,
    });
    this.stopping = false;
    this.stopped = false;
    this.raft = openRaft(config, ports, state);
    this.diskLag = new DiskLag({ ...ports, raft: this.raft, limitMs: config.leaderDiskLagMs });
    const { electionTimeoutMs, leaseRevokesPerSecond, leaseCheckpointIntervalMs } = config;
    const rates = {
      revokesPerSecond: leaseRevokesPerSecond,
      checkpointIntervalMs: leaseCheckpointIntervalMs,
    };
    this.lessor = new Lessor({ electionTimeoutMs, ...rates });
    this.metrics = this.makeMetrics();
    observer.metrics = this.metrics;
    this.machine = this.makeMachine(state);
    this.proposals = new Proposals({
      origin: memberId,
      epoch: ports.random.u32() >>> 8,
      maxBatchBytes: config.maxProposalBatchBytes,
      maxBatchCount: config.maxProposalBatchCount,
      maxRequestBytes: config.maxRequestBytes,
      maxPendingBytes: config.maxPendingBytes,
      fairUse: config.fairUse,
      onBatch: (requests) => this.metrics.proposalBatch.observe(requests),
    });
    const { tracer: spans } = ports;
    if (spans && observer.times) this.traces = new ProposalTraces(spans, observer.times, this.proposals);
    this.reads = new ReadIndex({
      retryMs: config.readIndexRetryMs,
      // Below 2^53, with room for 2^20 numbers before the next start's range could be met.
      firstContext: (ports.random.u32() + 1) * 2 ** 20,
      ask: (context) => this.raft.readIndex(context),
      onRound: (reads) => this.metrics.readBatch.observe(reads),
      onSlow: () => this.metrics.slowReadIndexes.inc(),
      onFailed: (count) => this.metrics.readIndexesFailed.inc(count),
    });
    this.peers = this.makePeers();
    this.transfer = this.makeTransfer(state.storeIndex);
    this.loop = this.makeLoop();
    const { machine, metrics, proposals, peers, reads, raft, loop, lessor, transfer } = this;
    const { clock, timers, log, digest, tracer } = ports;
    const { requestTimeoutMs } = config;
    const late = { peers: () => peers, loop: () => loop };
    this.own = new OwnProposals({ memberId, clock, proposals, requestTimeoutMs, ...late });
    const { own } = this;
    this.publisher = new Publisher({ memberId, config, clock, timers, machine, own, loop });
    const { backends } = ports;
    const world = { clock, timers, log, digest, backends };
    this.maintenance = new Maintenance({ memberId, config, ...world, metrics, machine, own, raft, loop });
    const ids = new IdGenerator(memberId, clock.wallMs());
    const leaseParts = { clock, lessor, ids, machine, metrics, proposals, loop, requestTimeoutMs };
    this.leases = new LeaseRequests(leaseParts);
    const isConnected = (id: bigint): boolean => peers.openSinceMs(id) !== undefined;
    const clusterParts = {
      memberId,
      config,
      clock,
      digest,
      metrics,
      raft,
      machine,
      proposals,
      loop,
      isConnected,
    };
    this.cluster = new ClusterRequests(clusterParts);
    this.backups = new Backups({
      clock,
      stallMs: config.readerStallMs,
      digest,
      log,
      chunkBytes: config.snapshotChunkBytes,
      store: () => machine.store,
      header: () => transfer.header(),
      wake: () => loop.wake(),
    });
    const { leases, cluster, backups, maintenance } = this;
    const isLearner = (): boolean => this.isLearner();
    const status = () => ({ ...this.status(), quotaBytes: quotaBytes(config) });
    const shared = { config, clock, tracer, log, metrics, machine, proposals, reads, loop };
    this.health = memberHealth({ ...shared, isLearner, tickedMs: () => this.heartbeats.tickedMs });
    const { random, passwords, signer } = ports;
    const auth = { random, digest, passwords, signer, tokenTtlMs: config.authTokenTtlSeconds * 1_000 };
    const services = { leases, cluster, maintenance, backups };
    const gateways = () => gatewayUrls(this.sessions);
    this.requests = new Requests({ ...shared, ...services, auth, isLearner, status, gatewayUrls: gateways });
    this.upkeep = this.makeUpkeep(state.raft.start.index);
    this.linkHost = this.makeLinkHost();
    this.ticker = new Ticker({
      clock,
      timers,
      heartbeatIntervalMs: config.heartbeatIntervalMs,
      onTick: () => {
        raft.tick();
        if (raft.hasReady()) loop.wake();
      },
      onHeartbeat: () => this.tick(),
    });
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
    this.publisher.onceReady(() => this.maintenance.corruption.onceCompared(cb));
  }

  status(): MemberStatus {
    return statusOf(this.memberId, this.config.name, this.machine, this.loop);
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
    this.ticker.start();
    this.loop.wake();
  }

  private tick(): void {
    const nowMs = this.ports.clock.monotonicMs();
    this.heartbeats.tick(nowMs);
    this.diskLag.tick(nowMs, this.loop.isLeader);
    const expired = this.proposals.tick(nowMs, this.config.electionTimeoutMs);
    if (expired > 0) this.metrics.proposalsFailed.inc(expired);
    this.reads.tick(nowMs);
    this.leases.tick(nowMs);
    this.cluster.tick(nowMs);
    this.maintenance.tick(nowMs);
    this.transfer.tick(nowMs);
    this.upkeep.tick(nowMs);
    if (!this.stopping) this.publisher.tick(nowMs);
    if (nowMs - this.stateSentMs >= stateIntervalMs) this.stateChanged();
    this.loop.wake();
  }

  /** Work of a turn after the commit; what is read here sees whole entries only. True when there is more at once. */
  private afterApply(): boolean {
    const maintaining = this.maintenance.pump();
    const promoting = this.leases.pump();
    const reading = this.requests.pump();
    const feeding = this.machine.store.hub.pump(hashStepBytes);
    const backing = this.backups.pump();
    const sending = this.transfer.pump();
    return reading || feeding || backing || sending || maintaining || promoting;
  }

  private flush(): void {
    for (const session of this.sessions) session.flush();
    this.peers.flush();
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
      this.transfer.stopSending('no longer the leader');
    }
    this.cluster.leaderChanged(soft.leader);
    if (!this.stopping) this.publisher.tick(clock.monotonicMs());
    this.stateChanged();
  }

  private stateChanged(): void {
    this.stateSentMs = this.ports.clock.monotonicMs();
    for (const session of this.sessions) session.stateChanged();
  }

  private membershipChanged(): void {
    this.peers.update(this.machine.membership.members);
    this.stateChanged();
    if (!this.stopping) this.publisher.tick(this.ports.clock.monotonicMs());
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

  private handOver(deadlineMs: number, cb: () => void): void {
    const { raft, ports } = this;
    const status = raft.status();
    const heir = heirOf(status);
    if (status.role !== 'leader' || heir === undefined || ports.clock.monotonicMs() >= deadlineMs)
      return cb();
    if (status.transferee === 0n) raft.transferLeadership(heir.id);
    this.loop.wake();
    ports.timers.after(this.config.heartbeatIntervalMs, () => this.handOver(deadlineMs, cb));
  }

  private shutDown(cb: () => void): void {
    this.stopped = true;
    this.ticker.stop();
    this.loop.stop();
    this.proposals.close();
    this.reads.close();
    this.leases.demote();
    this.maintenance.stop();
    this.requests.dropLongRanges();
    this.backups.stopAll('server stopped');
    this.transfer.stop();
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

  private makeMachine(state: MemberState): StateMachine {
    return new StateMachine(state.store, {
      memberId: state.memberId,
      lessor: this.lessor,
      maxLearners: this.config.maxLearners,
      quotaBytes: quotaBytes(this.config),
      raftTerm: () => this.loop.softState.term,
      nowMs: () => this.ports.clock.monotonicMs(),
      onAlarms: (active) => {
        this.metrics.alarms.clear();
        for (const { memberId, type } of active) {
          this.metrics.alarms.set([hexId(memberId), alarmName(type)], 1);
        }
        // Absent while the member is put together: it looks by itself then.
        this.maintenance?.corruption.alarmsChanged(active.filter(({ type }) => type === AlarmType.corrupt));
      },
      onHashReport: (body) => this.maintenance.corruption.reported(body),
      onRepairAsked: (body) => this.maintenance.corruption.repairAsked(body),
      onLeaseGranted: (ttlSeconds) => {
        this.metrics.leaseGranted.inc();
        this.metrics.leaseTtlSeconds.observe(ttlSeconds);
      },
      onLeaseRevoked: (expired) => {
        this.metrics.leaseRevoked.inc();
        if (expired) this.metrics.leaseExpired.inc();
      },
    });
  }

  private makePeers(): Peers {
    const { ports, config, clusterId, memberId, metrics } = this;
    const { clock, timers, random, log } = ports;
    return new Peers({
      clusterId,
      memberId,
      clock,
      timers,
      random,
      log,
      metrics,
      dial: ports.dialPeer,
      maxQueueBytes: config.maxPeerQueueBytes,
      isRemoved: (id) => this.machine.membership.isRemoved(id),
      isStarted: (id) => this.machine.membership.isStarted(id),
      onRemoved: () => this.removed(),
      members: () => this.machine.membership.members,
      appliedIndex: () => this.machine.store.appliedIndex,
      onMessages: (messages) => this.loop.receive(messages),
      onChunk: (from, chunk, reply) => this.transfer.chunk(from, chunk, reply),
      onAck: (from, ack) => this.transfer.acknowledged(from, ack),
      onUnreachable: (id) => this.raft.reportUnreachable(id),
    });
  }

  private makeTransfer(storeIndex: number): StateTransfer {
    const { clusterId, memberId, config, ports, metrics, raft, machine } = this;
    return new StateTransfer(
      {
        clusterId,
        memberId,
        config,
        ports,
        metrics,
        raft,
        machine,
        peers: () => this.peers,
        loop: () => this.loop,
        upkeep: () => this.upkeep,
        replacing: () => {
          this.requests.dropLongRanges();
          this.backups.stopAll('the state was replaced by a snapshot');
          this.maintenance.replacing();
        },
        replaced: () => {
          this.maintenance.replaced();
          for (const session of this.sessions) session.resubscribe();
          this.membershipChanged();
        },
      },
      storeIndex,
    );
  }

  private makeLoop(): ReadyLoop {
    const { memberId, ports, metrics, raft, wal, machine, proposals, reads, peers, config } = this;
    const { clock, timers, log } = ports;
    const { applySliceMs, slowApplyMs, slowFsyncMs, slowRequestMs } = config;
    const limits = { applySliceMs, slowApplyMs, slowFsyncMs, slowRequestMs };
    const parts = {
      memberId,
      clock,
      timers,
      log,
      traces: this.traces,
      metrics,
      raft,
      wal,
      machine,
      proposals,
      reads,
      peers,
      probe: ports.probe,
    };
    const hooks: ReadyLoopHooks = {
      softState: (soft) => this.softState(soft),
      sendSnapshot: (to) => this.transfer.send(to),
      installSnapshot: (index, done) => this.transfer.install(index, done),
      membershipChanged: () => this.membershipChanged(),
      leaderReady: () => this.leases.promote(),
      noSpace: (call) => this.maintenance.alarms.exceeded(call),
      compacted: (call, body, proposal) => this.compacted(call, body, proposal),
      flushAnswers: () => {
        for (const session of this.sessions) session.flushAnswers();
      },
      afterApply: () => this.afterApply(),
      flush: () => this.flush(),
    };
    return new ReadyLoop({ ...parts, ...limits }, hooks);
  }

  /** The revision is gone at once; its entries in the background, and who asked for that waits for it. */
  private compacted(call: Call | undefined, body: Uint8Array, proposal: Proposal): void {
    const physical = call !== undefined && readCompactionRequest(proposal.body).physical;
    if (!physical) call?.reply(body);
    this.upkeep.compacting(physical ? () => call?.reply(body) : undefined);
    // Every gateway is to refuse the same watches, whichever of them was asked to compact.
    this.stateChanged();
  }

  private makeUpkeep(releasedIndex: number): Upkeep {
    const { config, ports, metrics, raft, wal, machine, loop } = this;
    const { clock, timers, log } = ports;
    return new Upkeep(
      {
        config,
        clock,
        timers,
        log,
        metrics,
        raft,
        wal,
        store: () => machine.store,
        appliedBytes: () => loop.appliedBytes,
        holdIndex: () => this.transfer.holdIndex,
        fatal: (reason) => ports.fatal(reason),
      },
      releasedIndex,
    );
  }

  private makeLinkHost(): LinkHost {
    const { clusterId, memberId, config, ports, machine, loop } = this;
    return {
      clusterId,
      memberId,
      name: config.name,
      zone: config.zone ?? '',
      windowBytes: config.streamWindowBytes,
      requestTimeoutMs: config.requestTimeoutMs,
      log: ports.log,
      traces: this.traces,
      nowMs: () => ports.clock.monotonicMs(),
      state: () => this.linkState(),
      authView: () => machine.auth.encodedView,
      hub: () => machine.store.hub,
      request: (call) => {
        if (this.stopping) call.notTaken();
        else this.requests.take(call);
      },
      serve: (call) => this.requests.serve(call),
      wake: () => loop.wake(),
      closed: (session) => void this.sessions.delete(session),
      answered: (call, success) => this.requests.answered(call, success),
    };
  }

  private makeMetrics(): MemberMetrics {
    const gauges = memberGauges({
      memberId: this.memberId,
      config: this.config,
      lessor: this.lessor,
      leader: () => this.leader,
      isLearner: () => this.isLearner(),
      links: () => this.sessions.size,
      proposals: () => this.proposals,
      loop: () => this.loop,
      machine: () => this.machine,
    });
    return new MemberMetrics(this.ports.metrics, gauges, { memberId: this.memberId });
  }
}
