/**
 * Whatever happens — broken links, lagging members, leader changes, tiny rings, clients that do not read, compaction —
 * each watcher sees exactly the model's events from its start on, in order, once, a revision at a time; a progress answer
 * never promises an event that was not delivered; and only a compaction ends a watcher.
 */
import { create, toBinary } from '@bufbuild/protobuf';
import { utf8 } from '@quoin/base';
import { etcdErrors } from '@quoin/contracts';
import { CompactionRequestSchema } from '@quoin/contracts/etcd';
import { Gateway } from '@quoin/gateway';
import { expect, test } from 'vitest';
import { FakeCluster } from './fake-cluster.ts';
import { type CreateInit, Follower, WatchClient } from './watch-client.ts';
import { unary, World } from './world.ts';

const names = ['a', 'b', 'c', 'd', 'e'];

class Run {
  readonly world: World;
  readonly cluster: FakeCluster;
  readonly gateway: Gateway;
  readonly clients: { client: WatchClient; followers: Map<bigint, Follower>; waiting: Follower[] }[] = [];
  readonly all: Follower[] = [];
  delivered = 0;
  progressAnswers = 0;
  compacted = 0;

  constructor(seed: number) {
    this.world = new World(seed);
    this.world.clockStepMs = this.world.prng.pick([0, 0.01, 4]);
    this.cluster = new FakeCluster(this.world, 3);
    this.gateway = new Gateway(
      {
        name: 'g',
        memberUrls: this.cluster.members.map((m) => m.url),
        ringRevisions: this.world.prng.pick([1, 4, 16, 1_000]),
        ringBytes: this.world.prng.pick([500, 10_000]),
        watchQueueBytes: 600,
        watchResponseBytes: this.world.prng.pick([1, 200, 5_000]),
        watchHistoryBytes: this.world.prng.pick([100, 1_000]),
        watchHistoryReads: this.world.prng.pick([1, 4]),
        watchCatchUpEvents: this.world.prng.pick([3, 1_000]),
        progressNotifyIntervalMs: 150,
        feedLingerMs: this.world.prng.pick([0, 20]),
        linkSilenceMs: 1_500,
        linkRedialMaxMs: 200,
      },
      this.world.ports(this.cluster.dial),
    );
    this.gateway.start();
    for (let i = 0; i < 3; i++) this.connect();
    this.world.run(20);
  }

  step(): void {
    const { prng } = this.world;
    const { cluster } = this;
    const member = prng.pick(cluster.members);
    const dice = prng.below(100);
    if (dice < 55) this.write();
    else if (dice < 65) this.create();
    else if (dice < 69) this.cancel();
    else if (dice < 75) prng.pick(this.clients).client.progress();
    else if (dice < 79) member.cut();
    else if (dice < 80) member.silence();
    else if (dice < 82) cluster.elect(prng.pick([undefined, ...cluster.members]));
    else if (dice < 85) member.lagMs = prng.pick([0, 1, 20, 100]);
    else if (dice < 92) this.pace();
    else if (dice < 93) this.compact();
    else if (dice < 94) this.connect();
    this.world.run(prng.pick([0, 0, 0.3, 2, 20]));
  }

  private write(): void {
    const { prng } = this.world;
    const changes = Array.from({ length: prng.below(3) + 1 }, () => ({
      put: prng.chance(0.7),
      key: utf8(prng.pick(names)),
      value: new Uint8Array(prng.below(60)),
    }));
    // One change per key, so that an event is known by revision and key.
    const once = changes.filter((c, i) => changes.findIndex((d) => d.key[0] === c.key[0]) === i);
    this.cluster.change(once);
  }

  private connect(): void {
    const followers = new Map<bigint, Follower>();
    const waiting: Follower[] = [];
    const client = new WatchClient(this.gateway, {}, 300);
    client.onResponse = (response) => {
      if (response.watchId === -1n) {
        this.progressAnswers++;
        const revision = Number(response.header!.revision);
        for (const each of followers.values())
          if (!each.ended) each.checkComplete(this.cluster.model, revision);
        return;
      }
      if (response.created) followers.set(response.watchId, waiting.shift()!);
      const follower = followers.get(response.watchId)!;
      follower.id = response.watchId;
      this.delivered += response.events.length;
      follower.take(response, this.cluster.model);
      if (response.compactRevision > 0n) this.compacted++;
    };
    this.clients.push({ client, followers, waiting });
  }

  private create(): void {
    const { prng } = this.world;
    const { model } = this.cluster;
    const from = prng.pick(names);
    const request: CreateInit = {
      key: utf8(from),
      rangeEnd: prng.pick([utf8(''), new Uint8Array(1), utf8('d'), utf8('z')]),
      startRevision: BigInt(prng.chance(0.4) ? 0 : Math.max(1, model.revision + 3 - prng.below(30))),
      prevKv: prng.chance(0.3),
      progressNotify: prng.chance(0.3),
      filters: prng.pick([[], [], [0], [1]]),
    };
    if (from >= 'd' && request.rangeEnd!.length === 1 && request.rangeEnd![0] === 100) return;
    const follower = new Follower(request);
    this.all.push(follower);
    const { client, waiting } = prng.pick(this.clients);
    waiting.push(follower);
    client.create(request);
  }

  private cancel(): void {
    const { client, followers } = this.world.prng.pick(this.clients);
    const live = [...followers.values()].filter((f) => !f.ended);
    if (live.length < 2) return;
    const follower = this.world.prng.pick(live);
    follower.cancelAsked = true;
    client.cancel(follower.id!);
  }

  private pace(): void {
    const { stream } = this.world.prng.pick(this.clients).client;
    if (stream.paused) stream.resume();
    else stream.paused = true;
  }

  private compact(): void {
    const { model } = this.cluster;
    const revision = model.revision - this.world.prng.below(10);
    if (revision <= Math.max(1, model.compactRevision)) return;
    if (this.world.prng.chance(0.5)) {
      model.compactRevision = revision;
      return;
    }
    const request = toBinary(
      CompactionRequestSchema,
      create(CompactionRequestSchema, { revision: BigInt(revision) }),
    );
    unary(this.world, this.gateway, '/etcdserverpb.KV/Compact', request);
  }

  /** All is well again, and stays so. */
  heal(): void {
    for (const member of this.cluster.members) member.lagMs = 1;
    this.cluster.elect(this.cluster.members[1]);
    for (const { client } of this.clients) if (client.stream.paused) client.stream.resume();
    this.world.run(6_000);
    this.write();
    this.world.run(1_000);
    for (const { client } of this.clients) client.progress();
    this.world.run(1_000);
  }

  check(): void {
    const { model } = this.cluster;
    for (const { client, followers, waiting } of this.clients) {
      const { ended } = client.stream;
      if (ended !== undefined) {
        // It asked on and on and did not read.
        expect(ended.status).toEqual(etcdErrors.requestTooManyRequests);
        for (const follower of [...followers.values(), ...waiting]) follower.ended = true;
        continue;
      }
      expect(waiting).toEqual([]);
    }
    for (const follower of this.all) {
      if (!follower.ended) {
        follower.checkComplete(model, model.revision);
        continue;
      }
      // What it got before it ended is a prefix of what it wanted, cut between revisions.
      follower.checkComplete(model, follower.lastRevision);
      if (follower.compactRevision === 0) continue;
      const missed = follower.wanted(model, model.revision).length - follower.events.length;
      expect(follower.compactRevision).toBeLessThanOrEqual(model.compactRevision);
      // It had something to miss, or began too early.
      expect(missed > 0 || follower.from < follower.compactRevision).toBe(true);
    }
  }
}

test('every watcher sees the model, whatever happens', () => {
  let delivered = 0;
  let progress = 0;
  let compacted = 0;
  for (let seed = 1; seed <= 60; seed++) {
    const run = new Run(seed);
    try {
      for (let i = 0; i < 250; i++) run.step();
      run.heal();
      run.check();
    } catch (error) {
      throw new Error(`seed ${seed}: ${error instanceof Error ? error.stack : String(error)}`);
    }
    delivered += run.delivered;
    progress += run.progressAnswers;
    compacted += run.compacted;
  }
  // The run has had something to say.
  expect(delivered).toBeGreaterThan(20_000);
  expect(progress).toBeGreaterThan(300);
  expect(compacted).toBeGreaterThan(10);
});
