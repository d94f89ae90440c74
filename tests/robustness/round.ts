/**
 * One round: a cluster of processes is started, clients work on it while faults happen, everything is healed, and what
 * was recorded is held to etcd's promises. What is done, to whom and for how long is drawn from the seed; what comes of
 * it depends on the machine, too.
 *
 *   start ──► clients and faults ──► healed ──► everybody serves again, in bounded time ──► checks
 */
import { createWriteStream, existsSync, mkdirSync, rmSync, type WriteStream } from 'node:fs';
import { join } from 'node:path';
import { Prng } from '@quoin/base';
import { Client, EtcdError } from '@quoin/client';
import { Banker, etcd, KvUser, type WatchSpec } from '@quoin/sim';
import { type Cluster, startCluster } from '../support/cluster.ts';
import { BrokenPromise, type CheckReport, check, collectorPrefix } from './check.ts';
import { GrpcCaller, LibraryCaller, LinkCaller, RecordedUser } from './clients.ts';
import { type Disks, openDisks } from './disks.ts';
import { diskKinds, type FaultKind, Faults, linkKinds } from './faults.ts';
import { LeaseHolder } from './leases.ts';
import { appliedIndexes, memberError, memberHash } from './members.ts';
import { ProxyNetwork } from './network.ts';
import { type Pause, Recorder, writeRecording } from './recorder.ts';
import { type Follower, LibraryFollower, StreamFollower } from './watchers.ts';

export interface RoundOptions {
  readonly seed: number;
  /** How long clients and faults are at work. */
  readonly seconds: number;
  readonly faults: readonly FaultKind[];
  /** For data, logs and, when it fails, the recording. Removed after a clean round. */
  readonly dir: string;
  /** Keeps all of it in any case. */
  readonly keep?: boolean;
  /** Gets a line from time to time. */
  readonly onProgress?: (line: string) => void;
}

export interface RoundReport {
  readonly seed: number;
  readonly failure: string | undefined;
  /** Kinds of faults that could not be had, and why. */
  readonly skipped: string | undefined;
  readonly dir: string | undefined;
  readonly operations: number;
  readonly acknowledged: number;
  readonly unknown: number;
  readonly revisions: number;
  readonly watchEvents: number;
  readonly bookmarks: number;
  readonly leaseRenewals: number;
  readonly leaseExpiries: number;
  readonly elections: number;
  readonly snapshots: number;
  readonly starts: number;
  /** Members that ended themselves because their disk was full. */
  readonly ends: number;
  readonly longestPause: Pause;
  /** From the end of all faults until every gateway had taken a write. */
  readonly recoveryMs: number;
  readonly checkMs: number;
  readonly faults: Readonly<Record<string, number>>;
}

/** Bounds within which a healed cluster must be well again. Generous: machines that run this may be busy. */
const servesWithinMs = 45_000;
const evenWithinMs = 45_000;
const leasesWithinMs = 45_000;
const watchersWithinMs = 45_000;
const progressEveryMs = 10_000;
const members = 3;
const names = Array.from({ length: members }, (_, i) => `m${i + 1}`);

const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

export async function runRound(options: RoundOptions): Promise<RoundReport> {
  const round = new Round(options);
  let failure: string | undefined;
  try {
    await round.run();
  } catch (error) {
    failure = error instanceof BrokenPromise ? error.message : ((error as Error).stack ?? String(error));
  }
  return round.finish(failure);
}

class Round {
  readonly plan = { thinkMs: 12, keys: 6, uniqueValues: true };
  working = true;
  private readonly options: RoundOptions;
  private readonly prng: Prng;
  private readonly recorder = new Recorder();
  private readonly network: ProxyNetwork;
  private readonly logs = new Map<string, WriteStream>();
  private readonly callers: { close(): void }[] = [];
  private readonly followers: Follower[] = [];
  private readonly collectors: Follower[] = [];
  private cluster: Cluster | undefined;
  private disks: Disks | undefined;
  private skipped: string | undefined;
  private faults: Faults | undefined;
  private leader = 0;
  private leaderTerm = 0;
  private elections = 0;
  private snapshots = 0;
  private starts = 0;
  private ends = 0;
  private recoveryMs = 0;
  private ended: string | undefined;
  private checked: CheckReport | undefined;
  private workedMs: [number, number] = [0, 0];
  private checkMs = 0;

  constructor(options: RoundOptions) {
    this.options = options;
    this.prng = new Prng(options.seed);
    const chances = new Prng(this.prng.u32());
    this.network = new ProxyNetwork(() => chances.float());
    this.cluster = undefined;
    this.disks = undefined;
    this.skipped = undefined;
    this.faults = undefined;
    this.ended = undefined;
    this.checked = undefined;
    mkdirSync(options.dir, { recursive: true });
  }

  async run(): Promise<void> {
    await this.start();
    this.startClients();
    this.faults!.start();
    await this.work();
    await this.faults!.stop();
    this.workedMs[1] = this.recorder.nowMs;
    this.working = false;
    await this.settle();
    await this.judge();
  }

  private async start(): Promise<void> {
    const { options, prng, network } = this;
    let kinds = options.faults;
    if (!existsSync('/proc/net/tcp')) {
      kinds = kinds.filter((kind) => !linkKinds.includes(kind));
      this.skipped = 'faults of the network are skipped: no /proc/net/tcp to tell who has connected';
    }
    if (kinds.some((kind) => diskKinds.includes(kind))) {
      const disks = await openDisks(options.dir, names);
      if (typeof disks === 'string') {
        kinds = kinds.filter((kind) => !diskKinds.includes(kind));
        this.skipped = `disk faults are skipped: ${disks}`;
      } else {
        this.disks = disks;
      }
    }
    const snapshotCount = prng.pick([20, 60, 300]);
    const cluster = await startCluster({
      members,
      gateways: 2,
      dataDir: options.dir,
      memberArgs: [`--snapshot-count=${snapshotCount}`, `--snapshot-catchup-entries=${snapshotCount / 2}`],
      gatewayArgs: ['--watch-progress-notify-interval=500ms'],
      peerFront: (name, port) => network.front(name, port),
      onLine: (name, line) => this.line(name, line),
      onDeath: (name, how) => this.died(name, how),
      readyTimeoutMs: 60_000,
    });
    this.cluster = cluster;
    const all = [...cluster.members, ...cluster.gateways];
    network.whoIs = () =>
      new Map(all.flatMap((child) => (child.pid === undefined ? [] : [[child.pid, child.name]])));
    // Connections of the start have no owner yet: they are made anew.
    network.breakConnections(() => true);
    const record = (text: string): void => this.recorder.fault(text);
    this.faults = new Faults(
      { cluster, network, disks: this.disks, leader: () => this.leader, record },
      kinds,
      new Prng(prng.u32()),
    );
  }

  private line(name: string, line: string): void {
    let log = this.logs.get(name);
    if (log === undefined) {
      log = createWriteStream(join(this.options.dir, `${name}.log`));
      this.logs.set(name, log);
    }
    log.write(`${this.recorder.nowMs.toFixed(1)} ${line}\n`);
    if (line.includes('"became leader"')) {
      this.elections++;
      const term = Number(/"term":(\d+)/.exec(line)?.[1]);
      if (term > this.leaderTerm) {
        this.leaderTerm = term;
        this.leader = names.indexOf(name);
      }
    } else if (line.includes('"installed a snapshot"')) this.snapshots++;
    else if (line.includes('"starting a member"') || line.includes('"serving clients"')) this.starts++;
  }

  private died(name: string, how: string): void {
    this.recorder.fault(`${name} ended: ${how}`);
    if (this.faults?.mayEnd(name) === true) this.ends++;
    else this.ended ??= `${name} ended by itself: ${how}`;
  }

  private user(name: string, library: boolean): RecordedUser {
    const prng = new Prng(this.prng.u32());
    const { endpoints } = this.cluster!;
    const caller = library ? new LibraryCaller(endpoints) : new GrpcCaller(endpoints, prng);
    this.callers.push(caller);
    return new RecordedUser(this, this.recorder, name, prng, caller);
  }

  private client(): Client {
    const client = new Client({ endpoints: this.cluster!.endpoints });
    this.callers.push(client);
    return client;
  }

  private startClients(): void {
    const { recorder, prng } = this;
    const { endpoints } = this.cluster!;
    const isWorking = (): boolean => this.working;
    this.workedMs[0] = recorder.nowMs;
    const everything: WatchSpec = {
      key: '\0',
      end: '\0',
      noPut: false,
      noDelete: false,
      prevKv: true,
      fragment: true,
    };
    // One at each gateway, and both at either when one is away.
    for (const i of [1, 2]) {
      const own = new Prng(prng.u32());
      this.collectors.push(
        new StreamFollower(`${collectorPrefix}${i}`, everything, recorder, own, endpoints, 1),
      );
    }
    this.followers.push(...this.collectors);
    for (let i = 0; i < 4; i++) {
      const own = new Prng(prng.u32());
      this.followers.push(new StreamFollower(`watch${i}`, this.spec(own), recorder, own, endpoints));
    }
    for (let i = 0; i < 2; i++) {
      const own = new Prng(prng.u32());
      this.followers.push(new LibraryFollower(`library${i}`, this.spec(own), recorder, this.client()));
    }
    for (let i = 0; i < 8; i++) new KvUser(this, this.user(`kv${i}`, i < 2)).step();
    for (let i = 0; i < 2; i++) new Banker(this, this.user(`bank${i}`, i === 0)).step();
    for (let i = 0; i < 3; i++) {
      new LeaseHolder(isWorking, this.user(`lease${i}`, i === 0), recorder, this.client()).begin();
    }
    for (const { name, peerUrl } of this.cluster!.members) {
      for (let i = 0; i < 2; i++) this.readAt(`reader${i} at ${name}`, peerUrl);
    }
    void this.compact(this.client(), new Prng(prng.u32()));
  }

  /** Asks one very member for the newest state, over and over, whoever may be cut off from whom. */
  private readAt(name: string, peerUrl: string): void {
    const caller = new LinkCaller(peerUrl);
    this.callers.push(caller);
    const user = new RecordedUser(this, this.recorder, name, new Prng(this.prng.u32()), caller);
    const step = (): void =>
      user.later(this.plan.thinkMs * 4, () => {
        if (this.working) user.read(etcd.rangeRequest('k', { end: 'l' }), false, step);
      });
    step();
  }

  private spec(prng: Prng): WatchSpec {
    const [key, end] = prng.pick([
      ['k', 'l'],
      ['k', 'l'],
      ['b', 'c'],
      ['l', 'm'],
      ['\0', '\0'],
      [`k${prng.below(this.plan.keys)}`, ''],
    ] as const);
    const filter = prng.below(8);
    return {
      key,
      end,
      noPut: filter === 0,
      noDelete: filter === 1,
      prevKv: prng.chance(0.5),
      fragment: prng.chance(0.3),
    };
  }

  /** Nothing that the collectors have not got: they are the only ones who know it all. Others may be behind. */
  private async compact(client: Client, prng: Prng): Promise<void> {
    while (this.working) {
      await sleep(1_500 * 2 * prng.float());
      const got = Math.min(...this.collectors.map((collector) => collector.next)) - 1;
      const revision = got - prng.below(100);
      if (!this.working || revision < 2) continue;
      this.recorder.compact(revision);
      try {
        await client.kv.compact(revision, { physical: prng.chance(0.3) }, { timeoutMs: 3_000 });
      } catch (error) {
        if (!(error instanceof EtcdError)) throw error;
      }
    }
  }

  private async work(): Promise<void> {
    const untilMs = this.recorder.nowMs + this.options.seconds * 1_000;
    let tellMs = this.recorder.nowMs + progressEveryMs;
    while (this.recorder.nowMs < untilMs && this.ended === undefined) {
      await sleep(100);
      if (this.recorder.nowMs < tellMs) continue;
      tellMs += progressEveryMs;
      const { operations, writesAtMs } = this.recorder;
      const faults = [...this.faults!.counts.values()].reduce((sum, count) => sum + count, 0);
      this.options.onProgress?.(
        `seed ${this.options.seed}: ${operations} operations, ${writesAtMs.length} writes acknowledged, ${faults} faults, ${this.elections} elections`,
      );
    }
  }

  private async settle(): Promise<void> {
    const { recorder } = this;
    for (const follower of this.followers) follower.settle();
    await this.within(servesWithinMs, 'every gateway serves', () => this.serve());
    this.recoveryMs = recorder.nowMs - this.workedMs[1];
    await this.within(10_000, 'every call is answered', async () => recorder.inFlight === 0);
    const client = this.client();
    await this.within(
      leasesWithinMs,
      'leases that nobody keeps are gone',
      async () => (await client.lease.leases()).leases.length === 0,
    );
    const revision = await this.readAll();
    await this.within(evenWithinMs, 'all members are at the same index', async () => {
      const indexes = await appliedIndexes(this.cluster!.members.map((member) => member.peerUrl));
      return indexes[0] !== undefined && new Set(indexes).size === 1;
    });
    const behind = (): Follower[] => this.followers.filter((follower) => follower.next <= revision);
    await this.within(
      watchersWithinMs,
      'all watchers are up to date',
      async () => {
        for (const follower of behind()) follower.askProgress();
        return behind().length === 0;
      },
      () => behind().map((follower) => `${follower.name} waits for revision ${follower.next} of ${revision}`),
    );
  }

  private async within(
    ms: number,
    what: string,
    holds: () => Promise<boolean>,
    more: () => string[] = () => [],
  ): Promise<void> {
    const untilMs = this.recorder.nowMs + ms;
    for (;;) {
      if (this.ended !== undefined) throw new BrokenPromise(this.ended);
      let reason = '';
      try {
        if (await holds()) return;
      } catch (error) {
        if (!(error instanceof EtcdError)) throw error;
        reason = error.message;
      }
      if (this.recorder.nowMs > untilMs) {
        throw new BrokenPromise(
          [`${ms / 1_000} s after all was healed it is not so that ${what}`, reason, ...more()].join(' '),
        );
      }
      await sleep(200);
    }
  }

  /** Every gateway takes a write. */
  private async serve(): Promise<boolean> {
    const endings = await Promise.all(
      this.cluster!.endpoints.map((endpoint) => this.last('mutation', 'put', endpoint)),
    );
    return endings.every((revision) => revision > 0);
  }

  /** Everything, read through every gateway. The revision. */
  private async readAll(): Promise<number> {
    const { endpoints } = this.cluster!;
    let revision = 0;
    await this.within(servesWithinMs, 'every gateway answers a read of everything', async () => {
      const revisions = await Promise.all(endpoints.map((endpoint) => this.last('read', 'range', endpoint)));
      revision = Math.max(...revisions);
      return revisions.every((each) => each > 0);
    });
    return revision;
  }

  private last(kind: 'mutation' | 'read', name: 'put' | 'range', endpoint: string): Promise<number> {
    const prng = new Prng(1);
    const caller = new GrpcCaller([endpoint], prng);
    const user = new RecordedUser(this, this.recorder, `last at ${endpoint}`, prng, caller);
    const request =
      name === 'put'
        ? etcd.putRequest('z', `v${this.recorder.operations + 1}`)
        : etcd.rangeRequest('\0', { end: '\0' });
    return new Promise((resolve) => {
      user.call(kind, name, request, (ending) => {
        caller.close();
        resolve(ending.kind === 'ok' ? etcd.readHeader(ending.body).revision : 0);
      });
    });
  }

  private async judge(): Promise<void> {
    const startMs = performance.now();
    for (const { name, problem } of this.followers) {
      if (problem !== undefined) throw new BrokenPromise(`watcher ${name} ${problem}`);
    }
    this.checked = check(this.recorder);
    for (const { name, peerUrl } of this.cluster!.members) {
      const problem = await memberError(name, peerUrl, this.checked.order.model);
      if (problem !== undefined) throw new BrokenPromise(problem);
    }
    const { revision } = this.checked.order.model;
    const hashes = await Promise.all(
      this.cluster!.members.map(
        async ({ name, peerUrl }) => [name, await memberHash(peerUrl, revision)] as const,
      ),
    );
    if (new Set(hashes.map(([, hash]) => hash)).size > 1) {
      throw new BrokenPromise(`hashes differ: ${hashes.map(([name, hash]) => `${name} ${hash}`).join('; ')}`);
    }
    this.checkMs = performance.now() - startMs;
  }

  async finish(failure: string | undefined): Promise<RoundReport> {
    this.working = false;
    for (const follower of this.followers) follower.close();
    for (const caller of this.callers) caller.close();
    this.network.heal();
    await this.cluster?.stop();
    this.network.close();
    await this.disks?.close();
    await Promise.all([...this.logs.values()].map((log) => new Promise((resolve) => log.end(resolve))));
    const { options, recorder, checked, workedMs } = this;
    const kept = failure !== undefined || options.keep === true;
    if (kept) writeRecording(join(options.dir, 'history.jsonl'), recorder);
    else rmSync(options.dir, { recursive: true, force: true });
    return {
      seed: options.seed,
      failure,
      skipped: this.skipped,
      dir: kept ? options.dir : undefined,
      operations: recorder.operations,
      acknowledged: checked?.acknowledged ?? 0,
      unknown: checked?.unknown ?? 0,
      revisions: checked?.revisions ?? 0,
      watchEvents: checked?.watchEvents ?? 0,
      bookmarks: checked?.bookmarks ?? 0,
      leaseRenewals: checked?.leaseRenewals ?? 0,
      leaseExpiries: checked?.leaseExpiries ?? 0,
      elections: this.elections,
      snapshots: this.snapshots,
      starts: this.starts,
      ends: this.ends,
      longestPause: recorder.longestPause(...workedMs),
      recoveryMs: Math.round(this.recoveryMs),
      checkMs: Math.round(this.checkMs),
      faults: Object.fromEntries(this.faults?.counts ?? []),
    };
  }
}
