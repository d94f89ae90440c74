/**
 * N real members in the simulated world: the same `Member` that the apps run, with simulated clocks, disks, engines and
 * network behind its ports.
 */
import {
  type Channel,
  type Log,
  MetricRegistry,
  Prng,
  type Random,
  type TokenSigner,
  type Tracer,
} from '@quoin/base';
import type { SnapshotChunk } from '@quoin/contracts';
import {
  Member,
  type MemberLimits,
  type MemberOptions,
  type MemberPorts,
  type MemberProbe,
  Restore,
  type RestoreSummary,
} from '@quoin/member';
import { SimClock, SimHost, SimTimers } from './clock.ts';
import { simDigest } from './digest.ts';
import { type CrashOutcome, SimDisk, type SimDiskOptions } from './disk.ts';
import { MemoryEngines } from './memory-backend.ts';
import { SimNetwork, type SimNetworkOptions } from './network.ts';
import { simPasswords } from './passwords.ts';
import { Scheduler } from './scheduler.ts';

export interface SimClusterOptions {
  readonly seed: number;
  /** Default 3. */
  readonly members?: number;
  /** Default `sim`. */
  readonly clusterToken?: string;
  readonly limits?: Partial<MemberLimits>;
  readonly network?: SimNetworkOptions;
  readonly disk?: SimDiskOptions;
  /** How long an engine's flush takes. Default 1. */
  readonly flushMs?: number;
  /** How long a member's turn takes. Default 0: what it cuts in slices is done in one moment. */
  readonly turnMs?: number;
  readonly tracer?: Tracer;
  /** Tokens of another kind than the simple ones. */
  readonly signer?: TokenSigner;
  /** Receives each log line. */
  readonly log?: (line: string) => void;
  /** What checkers hang in a member's next life. */
  readonly probe?: (node: SimNode) => MemberProbe;
}

/** What a member called on its `fatal` port. */
class FatalError extends Error {}

export function peerUrl(name: string): string {
  return `http://${name}:2380`;
}

export function clientUrl(name: string): string {
  return `http://${name}:2379`;
}

/** Where a gateway's link to that member is dialled. */
export function linkAddress(name: string): string {
  return `link:${name}`;
}

/** One machine: its disk, engines and clock outlive the member that runs on it. */
export class SimNode {
  readonly name: string;
  readonly clock: SimClock;
  readonly disk: SimDisk;
  readonly engines: MemoryEngines;
  /** Of the present or last life. */
  host: SimHost | undefined;
  member: Member | undefined;
  metrics: MetricRegistry;
  /** Joins a running cluster at its first start. */
  joins: boolean;
  /** Why it did not open, or what it said when it ended itself. */
  failure: string | undefined;

  constructor(name: string, clock: SimClock, disk: SimDisk) {
    this.name = name;
    this.clock = clock;
    this.disk = disk;
    this.engines = new MemoryEngines();
    this.host = undefined;
    this.member = undefined;
    this.metrics = new MetricRegistry();
    this.joins = false;
    this.failure = undefined;
  }

  get running(): boolean {
    return this.member !== undefined && this.host?.alive === true;
  }
}

export class SimCluster {
  readonly scheduler: Scheduler;
  readonly prng: Prng;
  readonly network: SimNetwork;
  readonly nodes: SimNode[];
  private readonly options: SimClusterOptions;
  /** Machines ever made: a name is never used again. */
  private machines: number;
  private readonly founders: readonly string[];

  constructor(options: SimClusterOptions) {
    this.options = options;
    this.scheduler = new Scheduler();
    this.prng = new Prng(options.seed);
    this.network = new SimNetwork(this.scheduler, new Prng(this.prng.u32()), options.network);
    this.nodes = Array.from({ length: options.members ?? 3 }, (_, i) => {
      const disk = new SimDisk(new Prng(this.prng.u32()), options.disk);
      return new SimNode(`m${i + 1}`, new SimClock(this.scheduler), disk);
    });
    this.machines = this.nodes.length;
    this.founders = this.nodes.map(({ name }) => name);
  }

  /** One more machine, for a member that joins; to be started after it was added. */
  addNode(): SimNode {
    const disk = new SimDisk(new Prng(this.prng.u32()), this.options.disk);
    const node = new SimNode(`m${++this.machines}`, new SimClock(this.scheduler), disk);
    node.joins = true;
    this.nodes.push(node);
    return node;
  }

  /** Starts every member that does not run. */
  start(): void {
    for (const node of this.nodes) if (!node.running) this.startNode(node);
  }

  startNode(node: SimNode): void {
    const host = new SimHost(this.scheduler, node.name);
    node.host = host;
    node.member = undefined;
    node.failure = undefined;
    node.metrics = new MetricRegistry();
    host.onThrow = (error) => {
      if (!(error instanceof FatalError)) throw error;
      node.failure = error.message;
      this.kill(node);
    };
    // The listeners of a process open when its member has.
    const listen = (address: string, accept: (member: Member, channel: Channel) => void): void =>
      this.network.listen(address, host, (channel) => {
        if (node.member !== undefined && node.host === host) accept(node.member, channel);
        else channel.close();
      });
    listen(peerUrl(node.name), (member, channel) => member.acceptPeer(channel));
    listen(linkAddress(node.name), (member, channel) => member.acceptLink(channel));
    host.enqueue(0, () =>
      Member.open(this.memberOptions(node), this.ports(node, host), (error, member) => {
        if (member === null) node.failure = error?.message ?? 'no reason';
        else node.member = member;
      }),
    );
  }

  /** Makes the data of a member that never ran from a backup. Throws what goes wrong. */
  restore(node: SimNode, chunks: readonly SnapshotChunk[]): RestoreSummary {
    const host = new SimHost(this.scheduler, node.name);
    let outcome: RestoreSummary | Error | undefined;
    Restore.open(this.memberOptions(node), this.ports(node, host), (error, restore) => {
      if (restore === null) {
        outcome = error ?? new Error('no reason');
        return;
      }
      for (const chunk of chunks) {
        const problem = restore.chunk(chunk);
        if (problem !== undefined) outcome = new Error(problem);
        if (problem !== undefined) return;
      }
      restore.finish((failed, summary) => {
        outcome = summary ?? failed ?? new Error('no reason');
      });
    });
    this.runUntil(() => outcome !== undefined, 10_000);
    host.kill();
    if (outcome === undefined || outcome instanceof Error) throw outcome ?? new Error('no outcome');
    return outcome;
  }

  /** The process dies at once, the machine goes on: the disk keeps what was written. */
  kill(node: SimNode): void {
    node.host?.kill();
    node.member = undefined;
    node.engines.crash(this.prng);
  }

  /** The machine loses power: the process dies and the disk forgets what was not synced. */
  crash(node: SimNode, outcome: CrashOutcome = 'random'): void {
    this.kill(node);
    node.disk.crash(outcome);
  }

  /** Cuts every stream between that node and the others. */
  isolate(node: SimNode): void {
    for (const other of this.nodes) if (other !== node) this.cut(node, other);
  }

  /** In both directions. */
  cut(a: SimNode, b: SimNode): void {
    this.network.cut(a.name, b.name);
    this.network.cut(b.name, a.name);
  }

  heal(): void {
    this.network.heal();
  }

  /** Lets so much virtual time pass. */
  run(ms: number): void {
    this.scheduler.run(this.scheduler.nowMs + ms);
  }

  runUntil(predicate: () => boolean, ms: number): boolean {
    return this.scheduler.runUntil(predicate, this.scheduler.nowMs + ms);
  }

  /** The same for what is dear to ask: asked every few virtual milliseconds. */
  private pollUntil(predicate: () => boolean, ms: number): boolean {
    const untilMs = this.scheduler.nowMs + ms;
    while (!predicate()) {
      if (this.scheduler.nowMs >= untilMs) return false;
      this.run(5);
    }
    return true;
  }

  /** The running node that leads in the highest term, if any does. */
  leader(): SimNode | undefined {
    let found: SimNode | undefined;
    let term = -1;
    for (const node of this.nodes) {
      const status = node.running ? node.member?.status() : undefined;
      if (status === undefined || status.role !== 'leader' || status.term <= term) continue;
      found = node;
      term = status.term;
    }
    return found;
  }

  /** Runs until a leader is known to all that run; throws when there is none in time. */
  waitForLeader(ms = 20_000): SimNode {
    const agreed = (): boolean => {
      const leader = this.leader();
      const running = this.nodes.filter((node) => node.running);
      return (
        leader !== undefined && running.every((n) => n.member?.status().leader === leader.member?.memberId)
      );
    };
    if (!this.pollUntil(agreed, ms)) throw new Error('no leader in time');
    return this.leader()!;
  }

  /** Runs until all running members have applied the same index and nothing moves; throws otherwise. */
  settle(ms = 20_000): void {
    const even = (): boolean => {
      const applied = this.nodes.filter((n) => n.running).map((n) => n.member!.status());
      return applied.every(
        (s) => s.appliedIndex === applied[0]!.appliedIndex && s.appliedIndex === s.commitIndex,
      );
    };
    this.waitForLeader(ms);
    if (!this.pollUntil(even, ms)) throw new Error('members do not come to the same index');
  }

  /** The hash of each running member's state, with the index it is of. */
  stateHashes(): { name: string; index: number; hash: number }[] {
    const hashes: { name: string; index: number; hash: number }[] = [];
    const running = this.nodes.filter((node) => node.running);
    for (const node of running) {
      node.member!.stateHash((index, hash) => hashes.push({ name: node.name, index, hash }));
    }
    this.runUntil(() => hashes.length === running.length, 10_000);
    return hashes;
  }

  /** Who begins the cluster is told who else does; who joins, all that there are now. */
  private initialNames(node: SimNode): readonly string[] {
    return node.joins ? this.nodes.map(({ name }) => name) : this.founders;
  }

  private memberOptions(node: SimNode): MemberOptions {
    return {
      name: node.name,
      initialCluster: this.initialNames(node).map((name) => ({ name, peerUrls: [peerUrl(name)] })),
      clusterToken: this.options.clusterToken ?? 'sim',
      initialClusterState: node.joins ? 'existing' : 'new',
      advertisePeerUrls: [peerUrl(node.name)],
      advertiseClientUrls: [clientUrl(node.name)],
      walSegmentBytes: 256 << 10,
      ...this.options.limits,
    };
  }

  private ports(node: SimNode, host: SimHost): MemberPorts {
    const timers = new SimTimers(host, node.clock, this.options.turnMs);
    const random: Random = new Prng(this.prng.u32());
    return {
      clock: node.clock,
      timers,
      random,
      log: this.logOf(node),
      tracer: this.options.tracer,
      metrics: node.metrics,
      digest: simDigest,
      passwords: simPasswords(timers),
      ...(this.options.signer === undefined ? {} : { signer: this.options.signer }),
      disk: node.disk.port(host),
      backends: node.engines.port({ timers, flushMs: this.options.flushMs ?? 1 }),
      dialPeer: (url): Channel => this.network.dial(host, url),
      fatal: (reason): never => {
        throw new FatalError(reason);
      },
      ...(this.options.probe === undefined ? {} : { probe: this.options.probe(node) }),
    };
  }

  private logOf(node: SimNode): Log {
    const { log } = this.options;
    const write =
      (level: string) =>
      (message: string, fields?: object): void => {
        if (log === undefined) return;
        const text = JSON.stringify(fields ?? {}, (_key, value) =>
          typeof value === 'bigint' ? value.toString(16) : value,
        );
        log(`${this.scheduler.nowMs.toFixed(1)} ${node.name} ${level} ${message} ${text}`);
      };
    return { debug: write('debug'), info: write('info'), warn: write('warn'), error: write('error') };
  }
}
