/**
 * A run of a few virtual seconds with clients at work and things going wrong, all drawn from one seed:
 *
 *   faults on: crash, kill, isolate, cut, pause, slow disk …   safety: nothing acknowledged is lost or stale
 *   all healed                                                 liveness: a leader, writes, equal states
 */
import { Prng } from '@quoin/base';
import { Method } from '@quoin/contracts';
import type { MemberLimits } from '@quoin/member';
import { SimCluster, type SimNode } from './cluster.ts';
import {
  putOp,
  putRequest,
  rangeOp,
  rangeRequest,
  readHeader,
  readKvs,
  txnRequest,
  varint,
} from './etcd-messages.ts';
import { historyErrors, type Operation } from './history-check.ts';
import { type Answer, type FeedEvent, feedEvents, type LinkClient, SimClient } from './link-client.ts';

export interface RandomRunOptions {
  readonly members?: number;
  readonly clients?: number;
  /** How long faults happen. */
  readonly faultsMs?: number;
  readonly log?: (line: string) => void;
}

export interface RunReport {
  readonly seed: number;
  readonly operations: number;
  readonly acknowledged: number;
  readonly faults: number;
  readonly snapshots: number;
  readonly elections: number;
  readonly revision: number;
  /** Empty when all was well. */
  readonly errors: readonly string[];
}

const keys = ['a', 'b', 'c', 'd', 'e'];

/** Small limits, so that rotation, snapshots and batching limits happen all the time. */
function smallLimits(prng: Prng): Partial<MemberLimits> {
  return {
    snapshotCount: 3 + prng.below(25),
    snapshotCatchupEntries: prng.below(8),
    flushIntervalMs: 20 + prng.below(300),
    snapshotChunkBytes: 200 + prng.below(2_000),
    snapshotWindowChunks: 1 + prng.below(4),
    walSegmentBytes: 8 * (512 + prng.below(4_000)),
    maxProposalBatchBytes: 50 + prng.below(2_000),
    maxLogEntriesPerMessageBytes: 100 + prng.below(4_000),
    streamWindowBytes: 200 + prng.below(5_000),
    preVote: prng.chance(0.8),
  };
}

export function randomRun(seed: number, options: RandomRunOptions = {}): RunReport {
  return new RandomRun(seed, options).run();
}

class RandomRun {
  private readonly seed: number;
  private readonly options: RandomRunOptions;
  private readonly prng: Prng;
  private readonly cluster: SimCluster;
  private readonly operations: Operation[] = [];
  private readonly events: FeedEvent[] = [];
  private readonly errors: string[] = [];
  private nextValue = 0;
  private working = true;
  private faults = 0;
  private inFlight = 0;

  constructor(seed: number, options: RandomRunOptions) {
    this.seed = seed;
    this.options = options;
    this.prng = new Prng(seed);
    const { log } = options;
    this.cluster = new SimCluster({
      seed: this.prng.u32(),
      members: options.members ?? 3,
      limits: smallLimits(this.prng),
      ...(log === undefined ? {} : { log }),
    });
  }

  run(): RunReport {
    const { cluster, prng } = this;
    cluster.start();
    const clients = Array.from(
      { length: this.options.clients ?? 4 },
      (_, i) => new SimClient(cluster, `client${i}`),
    );
    for (const client of clients) this.work(client);
    this.follow(new SimClient(cluster, 'watcher'));
    const untilMs = cluster.scheduler.nowMs + (this.options.faultsMs ?? 8_000);
    while (cluster.scheduler.nowMs < untilMs) {
      cluster.run(50 + prng.below(700));
      this.disturb();
    }
    this.recover(clients[0]!);
    return this.report();
  }

  private work(client: SimClient): void {
    const { prng, cluster } = this;
    const step = (): void => {
      if (!this.working) return;
      const key = prng.pick(keys);
      const kind = prng.below(10);
      const again = (): void => {
        this.inFlight--;
        client.host.enqueue(prng.below(30), step);
      };
      this.inFlight++;
      if (kind < 5) this.put(client, key, again);
      else if (kind < 8) this.get(client, key, prng.pick(cluster.nodes), again);
      else this.swap(client, key, again);
    };
    client.host.enqueue(prng.below(50), step);
  }

  private put(client: SimClient, key: string, done: () => void): void {
    const value = this.newValue();
    const startMs = this.cluster.scheduler.nowMs;
    client.request(Method.put, putRequest(key, value), (answer) => {
      this.wrote(key, value, startMs, answer, (body) => readHeader(body).revision);
      done();
    });
  }

  /** Put if nobody has since the last read. */
  private swap(client: SimClient, key: string, done: () => void): void {
    client.request(Method.range, rangeRequest(key), (read) => {
      if (read.kind !== 'ok') return done();
      const value = this.newValue();
      const mod = readKvs(read.body)[0]?.modRevision ?? 0;
      const startMs = this.cluster.scheduler.nowMs;
      const compare = { key, target: 'mod', result: '=', operand: mod } as const;
      const txn = txnRequest([compare], [putOp(putRequest(key, value))], [rangeOp(rangeRequest(key))]);
      client.request(Method.txn, txn, (answer) => {
        const failed = answer.kind === 'ok' && varint(answer.body, 16) === 0n;
        if (!failed) this.wrote(key, value, startMs, answer, (body) => readHeader(body).revision);
        done();
      });
    });
  }

  private wrote(
    key: string,
    value: string,
    startMs: number,
    answer: Answer,
    revisionOf: (body: Uint8Array) => number,
  ): void {
    if (answer.kind === 'notTaken') return;
    const known = answer.kind === 'ok';
    const revision = known ? revisionOf(answer.body) : 0;
    const endMs = known ? this.cluster.scheduler.nowMs : undefined;
    this.operations.push({ kind: 'write', key, value, startMs, endMs, revision, modRevision: revision });
  }

  private get(client: SimClient, key: string, via: SimNode, done: () => void): void {
    const startMs = this.cluster.scheduler.nowMs;
    const take = (answer: Answer): void => {
      if (answer.kind === 'ok') {
        const kv = readKvs(answer.body)[0];
        this.operations.push({
          kind: 'read',
          key,
          value: kv?.value,
          startMs,
          endMs: this.cluster.scheduler.nowMs,
          revision: readHeader(answer.body).revision,
          modRevision: kv?.modRevision ?? 0,
        });
      }
      done();
    };
    client.request(Method.range, rangeRequest(key), take, via, 500);
  }

  private newValue(): string {
    return `v${this.nextValue++}${'.'.repeat(this.prng.below(200))}`;
  }

  /** One watcher per member; what it has seen it does not ask for again. */
  private follow(watcher: SimClient): void {
    for (const link of watcher.links) this.followLink(link);
  }

  private followLink(link: LinkClient): void {
    let next = 2;
    let feed = 0;
    link.onOpen = () => link.subscribe(++feed, next);
    link.onFeed = (batch) => {
      if (batch.feed !== feed) return;
      for (const { revision } of batch.revisions) {
        if (revision !== next)
          this.errors.push(`${link.node.name}: revision ${revision} on a feed instead of ${next}`);
        next = revision + 1;
      }
      this.events.push(...feedEvents(batch));
    };
  }

  private disturb(): void {
    const { cluster, prng } = this;
    const node = prng.pick(cluster.nodes);
    this.faults++;
    const kind = prng.below(12);
    this.options.log?.(`— fault ${kind} on ${node.name}`);
    if (kind < 2) cluster.crash(node);
    else if (kind < 3) cluster.kill(node);
    else if (kind < 4) for (const each of cluster.nodes) cluster.crash(each);
    else if (kind < 5) cluster.isolate(node);
    // In one direction only: the nastier cut.
    else if (kind < 6) cluster.network.cut(node.name, prng.pick(cluster.nodes).name);
    else if (kind < 7) node.host?.pause();
    else if (kind < 8) node.disk.slowFactor = prng.pick([1, 1, 20, 100]);
    else if (kind < 9) {
      const leader = cluster.leader();
      if (leader !== undefined) cluster.crash(leader);
    } else this.heal();
  }

  private heal(final = false): void {
    const { cluster } = this;
    cluster.heal();
    for (const node of cluster.nodes) {
      node.host?.resume();
      node.disk.slowFactor = 1;
    }
    this.startAll(final);
  }

  private startAll(final: boolean): void {
    for (const node of this.cluster.nodes) {
      if (node.failure !== undefined) this.errors.push(`${node.name} ended itself: ${node.failure}`);
      // Some stay away long enough to need a snapshot.
      const stays = !final && this.prng.chance(0.5);
      if (!stays && !node.running && !(node.host?.alive ?? false)) this.cluster.startNode(node);
    }
  }

  private recover(client: SimClient): void {
    const { cluster } = this;
    this.heal(true);
    try {
      cluster.waitForLeader(30_000);
      cluster.run(2_000);
      this.working = false;
      if (!cluster.runUntil(() => this.inFlight === 0, 60_000))
        this.errors.push('requests without any answer');
      cluster.settle(60_000);
      cluster.run(3_000);
      this.checkStates();
      this.checkAcknowledged(client);
    } catch (error) {
      this.errors.push(`after healing: ${(error as Error).message}`);
    }
    this.errors.push(...historyErrors(this.operations));
    this.checkEvents();
  }

  private checkStates(): void {
    const hashes = this.cluster.stateHashes();
    const distinct = new Set(hashes.map(({ index, hash }) => `${index}:${hash}`));
    if (hashes.length !== this.cluster.nodes.length || distinct.size !== 1) {
      this.errors.push(`states differ: ${hashes.map((h) => `${h.name} ${h.index}:${h.hash}`).join(', ')}`);
    }
  }

  /** Each acknowledged write is in the history of the store, on each member. */
  private checkAcknowledged(client: SimClient): void {
    for (const node of this.cluster.nodes) {
      for (const op of this.operations.filter((o) => o.kind === 'write' && o.endMs !== undefined)) {
        if (this.prng.below(3) > 0) continue;
        const request = rangeRequest(op.key, { revision: op.revision, serializable: true });
        const answer = client.call(Method.range, request, node);
        const found = answer.kind === 'ok' ? readKvs(answer.body)[0]?.value : answer.kind;
        if (found !== op.value) {
          this.errors.push(`${node.name} lost ${op.key}=${op.value} of revision ${op.revision}: ${found}`);
        }
      }
    }
  }

  /** What feeds told agrees with what writers were told. */
  private checkEvents(): void {
    const byRevision = new Map<number, FeedEvent>();
    for (const event of this.events) {
      const seen = byRevision.get(event.revision);
      if (seen !== undefined && (seen.key !== event.key || seen.value !== event.value)) {
        this.errors.push(`feeds disagree at revision ${event.revision}: ${seen.value} and ${event.value}`);
      }
      byRevision.set(event.revision, event);
    }
    for (const op of this.operations) {
      if (op.kind !== 'write' || op.endMs === undefined) continue;
      if (byRevision.get(op.revision)?.value !== op.value) {
        this.errors.push(`no feed told of ${op.key}=${op.value} at revision ${op.revision}`);
      }
    }
  }

  private report(): RunReport {
    const metric = (name: string): number => {
      let sum = 0;
      for (const node of this.cluster.nodes) {
        for (const found of node.metrics.all()) {
          if (found.name === name) for (const sample of found.samples()) sum += sample.value;
        }
      }
      return sum;
    };
    const status = this.cluster.nodes[0]!.member?.status();
    return {
      seed: this.seed,
      operations: this.operations.length,
      acknowledged: this.operations.filter((op) => op.endMs !== undefined).length,
      faults: this.faults,
      snapshots: metric('etcd_network_snapshot_receive_success'),
      elections: status?.term ?? 0,
      revision: status?.revision ?? 0,
      errors: this.errors,
    };
  }
}
