import { create, toBinary } from '@bufbuild/protobuf';
import { utf8, utf8Text } from '@quoin/base';
import { Method } from '@quoin/contracts';
import { CompactionRequestSchema, PutRequestSchema } from '@quoin/contracts/etcd';
import { Gateway, type GatewayOptions } from '@quoin/gateway';
import { expect, test } from 'vitest';
import { FakeCluster } from './fake-cluster.ts';
import { eventTexts, WatchClient } from './watch-client.ts';
import { unary, World } from './world.ts';

function setup(size = 1, options: Partial<GatewayOptions> = {}) {
  const world = new World(7);
  const cluster = new FakeCluster(world, size);
  const gateway = new Gateway(
    { name: 'g1', memberUrls: [cluster.members[0]!.url], feedLingerMs: 100, ...options },
    world.ports(cluster.dial),
  );
  gateway.start();
  world.run(50);
  const put = (...keys: string[]) =>
    cluster.change(
      keys.map((key) => ({ put: true, key: utf8(key), value: utf8(`v${cluster.model.revision + 1}`) })),
    );
  const del = (...keys: string[]) => cluster.change(keys.map((key) => ({ put: false, key: utf8(key) })));
  return { world, cluster, gateway, member: cluster.members[0]!, put, del };
}

const all = { key: new Uint8Array(1), rangeEnd: new Uint8Array(1) };
const key = (text: string) => ({ key: utf8(text) });

function compact(world: World, gateway: Gateway, revision: number): void {
  const request = toBinary(
    CompactionRequestSchema,
    create(CompactionRequestSchema, { revision: BigInt(revision) }),
  );
  const call = unary(world, gateway, '/etcdserverpb.KV/Compact', request);
  world.run(20);
  expect(call.status).toBeNull();
}

test('created tells the current revision, then come the events of the key and no others', () => {
  const { world, gateway, put, del } = setup();
  put('a');
  world.run(20);
  const client = new WatchClient(gateway);
  client.create(key('a'));
  world.run(20);
  const [created] = client.take();
  expect(created).toMatchObject({ created: true, canceled: false, watchId: 0n, events: [] });
  expect(created!.header).toMatchObject({ clusterId: 0xc1n, memberId: 1n, revision: 2n, raftTerm: 2n });
  put('a');
  put('b');
  del('a');
  world.run(20);
  const responses = client.take();
  expect(eventTexts(responses)).toEqual(['3+a', '5-a']);
  const events = responses.flatMap((response) => response.events);
  expect(events[0]!.kv).toMatchObject({ createRevision: 2n, modRevision: 3n, version: 2n });
  expect(utf8Text(events[0]!.kv!.value)).toBe('v3');
  expect(events[1]!.kv).toMatchObject({ createRevision: 0n, modRevision: 5n, version: 0n });
  expect(events.every((event) => event.prevKv === undefined)).toBe(true);
});

test('a watch begins behind every write that this gateway has answered', () => {
  const { world, gateway, member } = setup();
  const client = new WatchClient(gateway);
  client.create(all);
  world.run(20);
  // From now on the feed is slow, the answers are not.
  member.mute = true;
  const write = toBinary(PutRequestSchema, create(PutRequestSchema, { key: utf8('a') }));
  const call = unary(world, gateway, '/etcdserverpb.KV/Put', write);
  world.run(20);
  expect(call.done).toBe(true);
  client.create(key('a'));
  world.run(20);
  member.mute = false;
  unary(world, gateway, '/etcdserverpb.KV/Put', write);
  world.run(600);
  const second = client.take().filter((response) => response.watchId === 1n);
  expect(second[0]!.header!.revision).toBe(2n);
  expect(eventTexts(second)).toEqual(['3+a']);
});

test('ids: from 0 upward, chosen, taken, and refused', () => {
  const { world, gateway } = setup();
  const client = new WatchClient(gateway);
  client.create({ ...key('a'), watchId: 1n });
  client.create(key('b'));
  client.create(key('c'));
  client.create({ ...key('d'), watchId: 2n });
  client.create({ key: utf8('b'), rangeEnd: utf8('b') });
  client.create({ key: utf8('b'), rangeEnd: utf8('a') });
  client.create({ ...key('d'), startRevision: -1n });
  client.create({ ...key('d'), watchId: -9_007_199_254_740_993n });
  world.run(20);
  expect(client.take().map((r) => [r.watchId, r.created, r.canceled, r.cancelReason])).toEqual([
    [1n, true, false, ''],
    [0n, true, false, ''],
    [2n, true, false, ''],
    [-1n, true, true, 'mvcc: duplicate watch ID provided on the WatchStream'],
    [-1n, true, true, 'mvcc: watcher range is empty'],
    [-1n, true, true, 'mvcc: watcher range is empty'],
    [-1n, true, true, 'etcdserver: mvcc: required revision has been compacted'],
    [-9_007_199_254_740_993n, true, false, ''],
  ]);
});

test('an empty key is the smallest one, an empty range end the key alone', () => {
  const { world, gateway, cluster } = setup();
  const client = new WatchClient(gateway);
  client.create({});
  client.create({ rangeEnd: new Uint8Array(1) });
  world.run(20);
  client.take();
  cluster.change([{ put: true, key: new Uint8Array(1) }]);
  cluster.change([{ put: true, key: utf8('z') }]);
  world.run(20);
  const responses = client.take();
  expect(eventTexts(responses.filter((r) => r.watchId === 0n))).toEqual(['2+\0']);
  expect(eventTexts(responses.filter((r) => r.watchId === 1n))).toEqual(['2+\0', '3+z']);
});

test('cancel answers and ends; an unknown id is not answered', () => {
  const { world, gateway, put } = setup();
  const client = new WatchClient(gateway);
  client.create(key('a'));
  world.run(20);
  client.take();
  client.cancel(5n);
  client.cancel(0n);
  client.send({ requestUnion: { case: undefined } });
  put('a');
  world.run(20);
  const responses = client.take();
  expect(responses.length).toBe(1);
  expect(responses[0]).toMatchObject({ watchId: 0n, canceled: true, created: false, compactRevision: 0n });
});

test('start revision in the past: from history, and from the ring once there is one', () => {
  const { world, gateway, put, member } = setup();
  for (let i = 0; i < 10; i++) put('a', `k${i}`);
  world.run(20);
  const client = new WatchClient(gateway);
  client.create({ ...key('a'), startRevision: 4n });
  world.run(50);
  const responses = client.take();
  expect(responses[0]!.created).toBe(true);
  expect(eventTexts(responses)).toEqual(['4+a', '5+a', '6+a', '7+a', '8+a', '9+a', '10+a', '11+a']);
  expect(member.count(Method.watchHistory)).toBe(1);
  put('a');
  world.run(20);
  client.take();
  client.create({ ...key('a'), startRevision: 12n });
  world.run(20);
  expect(eventTexts(client.take())).toEqual(['12+a']);
  expect(member.count(Method.watchHistory)).toBe(1);
});

test('start revision in the future: neither events nor progress below it', () => {
  const { world, gateway, put } = setup(1, { progressNotifyIntervalMs: 1_000 });
  const client = new WatchClient(gateway);
  client.create({ ...key('a'), startRevision: 4n, progressNotify: true });
  world.run(20);
  client.take();
  put('a');
  put('a');
  world.run(20);
  client.progress();
  world.run(3_000);
  expect(client.take()).toEqual([]);
  put('a');
  world.run(20);
  expect(eventTexts(client.take())).toEqual(['4+a']);
  client.progress();
  world.run(20);
  expect(client.take().map((r) => [r.watchId, r.header!.revision])).toEqual([[-1n, 4n]]);
});

test('prev_kv and filters', () => {
  const { world, gateway, put, del, member } = setup();
  put('a');
  world.run(20);
  const client = new WatchClient(gateway);
  client.create({ ...key('a') });
  world.run(20);
  client.create({ ...key('a'), prevKv: true });
  client.create({ ...key('a'), prevKv: true, startRevision: 2n, filters: [1] });
  client.create({ ...key('a'), filters: [0] });
  client.create({ ...key('a'), filters: [0, 1] });
  put('a');
  del('a');
  put('a');
  world.run(50);
  const responses = client.take();
  const of = (id: bigint) => responses.filter((r) => r.watchId === id).flatMap((r) => r.events);
  expect(of(0n).map((e) => e.prevKv?.modRevision)).toEqual([undefined, undefined, undefined]);
  expect(of(1n).map((e) => e.prevKv?.modRevision)).toEqual([2n, 3n, undefined]);
  expect(of(2n).map((e) => [e.kv!.modRevision, e.prevKv?.modRevision])).toEqual([
    [2n, undefined],
    [3n, 2n],
    [5n, undefined],
  ]);
  expect(of(3n).map((e) => e.kv!.modRevision)).toEqual([4n]);
  expect(of(4n)).toEqual([]);
  // First without, then with; without again once nobody wants it.
  client.cancel(1n);
  client.cancel(2n);
  world.run(500);
  expect(member.subscribed.map((feed) => feed.prevKv)).toEqual([false, true, false]);
});

test('a revision is never split, unless fragments were asked for', () => {
  const { world, gateway, cluster } = setup(1, { maxRequestBytes: 1_000 });
  const limit = 1_000 + (512 << 10);
  const client = new WatchClient(gateway);
  client.create({ ...all, fragment: true });
  client.create({ ...all });
  world.run(20);
  client.take();
  const value = new Uint8Array(200 << 10);
  cluster.change(['a', 'b', 'c', 'd', 'e'].map((k) => ({ put: true, key: utf8(k), value })));
  world.run(50);
  const responses = client.take();
  const whole = responses.filter((r) => r.watchId === 1n);
  expect(whole.map((r) => [r.events.length, r.fragment])).toEqual([[5, false]]);
  const pieces = responses.filter((r) => r.watchId === 0n);
  expect(pieces.map((r) => [r.events.length, r.fragment])).toEqual([
    [2, true],
    [2, true],
    [1, false],
  ]);
  expect(2 * value.length).toBeLessThan(limit);
});

test('progress_notify comes when nothing else did', () => {
  const { world, gateway, put } = setup(1, { progressNotifyIntervalMs: 1_000 });
  const client = new WatchClient(gateway);
  client.create({ ...key('a'), progressNotify: true });
  client.create(key('a'));
  world.run(20);
  client.take();
  world.run(1_100);
  expect(client.take().map((r) => [r.watchId, r.header!.revision, r.events.length])).toEqual([[0n, 1n, 0]]);
  put('a');
  world.run(1_000);
  expect(client.take().every((r) => r.events.length === 1)).toBe(true);
  put('b');
  world.run(1_200);
  expect(client.take().map((r) => [r.watchId, r.header!.revision, r.events.length])).toEqual([[0n, 3n, 0]]);
});

test('a compacted start is cancelled behind its created response, with revision 0', () => {
  const { world, gateway, put } = setup();
  for (let i = 0; i < 8; i++) put('a');
  world.run(20);
  compact(world, gateway, 5);
  const client = new WatchClient(gateway);
  client.create({ ...key('a'), startRevision: 4n });
  client.create({ ...key('a'), startRevision: 5n });
  world.run(50);
  const responses = client.take();
  const lost = responses.filter((r) => r.watchId === 0n);
  expect(
    lost.map((r) => [r.created, r.canceled, r.compactRevision, r.header!.revision, r.cancelReason]),
  ).toEqual([
    [true, false, 0n, 9n, ''],
    [false, true, 5n, 0n, ''],
  ]);
  expect(eventTexts(responses.filter((r) => r.watchId === 1n))).toEqual(['5+a', '6+a', '7+a', '8+a', '9+a']);
});

test("a client that does not read costs bounded memory and nobody else's events", () => {
  const { world, gateway, cluster } = setup(1, { watchQueueBytes: 20_000, ringRevisions: 10 });
  const slow = new WatchClient(gateway, {}, 4_000);
  const quick = new WatchClient(gateway);
  slow.create(all);
  quick.create(all);
  world.run(20);
  slow.stream.paused = true;
  for (let i = 0; i < 200; i++) {
    cluster.change([{ put: true, key: utf8('a'), value: new Uint8Array(1_000) }]);
    world.run(2);
  }
  world.run(50);
  const wanted = Array.from({ length: 200 }, (_, i) => `${i + 2}+a`);
  expect(eventTexts(quick.take())).toEqual(wanted);
  expect(slow.stream.maxQueued).toBeLessThan(25_000);
  expect(eventTexts(slow.take())).toEqual([]);
  slow.progress();
  world.run(20);
  slow.stream.resume();
  world.run(500);
  const responses = slow.take();
  expect(eventTexts(responses)).toEqual(wanted);
  expect(responses.some((r) => r.watchId === -1n)).toBe(false);
});

test('a client that asks on and on and never reads is sent away', () => {
  const { world, gateway } = setup(1, { watchQueueBytes: 1_000 });
  const client = new WatchClient(gateway, {}, 100);
  client.stream.paused = true;
  for (let i = 0; i < 200 && client.stream.ended === undefined; i++) {
    client.create(key(`k${i}`));
    world.run(5);
  }
  expect(client.stream.ended?.status?.message).toBe('etcdserver: too many requests');
  expect(client.stream.maxQueued).toBeLessThan(2_200);
  expect(gateway.status().watchers).toBe(0);
});

test('the feed goes on elsewhere when its member is lost', () => {
  const { world, gateway, cluster, put } = setup(3);
  const client = new WatchClient(gateway);
  client.create(all);
  world.run(20);
  for (let i = 0; i < 30; i++) {
    put('a', 'b');
    world.run(3);
    if (i % 10 === 5) {
      const home = cluster.members.find((m) => m.id === gateway.status().home);
      home?.cut();
    }
  }
  world.run(3_000);
  const wanted = Array.from({ length: 30 }, (_, i) => [`${i + 2}+a`, `${i + 2}+b`]).flat();
  expect(eventTexts(client.take())).toEqual(wanted);
});

test('a feed that lost revisions to a compaction cancels who needs them', () => {
  const { world, gateway, cluster, member, put } = setup();
  const client = new WatchClient(gateway);
  client.create(all);
  world.run(20);
  client.create({ ...all, startRevision: 40n });
  member.down();
  for (let i = 0; i < 20; i++) put('a');
  cluster.model.compactRevision = 15;
  member.up = true;
  world.run(3_000);
  const responses = client.take();
  expect(responses.map((r) => [r.watchId, r.created, r.canceled, r.compactRevision])).toEqual([
    [0n, true, false, 0n],
    [1n, true, false, 0n],
    [0n, false, true, 15n],
  ]);
  for (let i = 0; i < 20; i++) put('b');
  world.run(50);
  expect(eventTexts(client.take())).toEqual(['40+b', '41+b']);
});

test('the feed is there only while somebody watches', () => {
  const { world, gateway, member, put } = setup();
  expect(member.subscribed).toEqual([]);
  const client = new WatchClient(gateway);
  client.create(all);
  world.run(20);
  client.cancel(0n);
  world.run(500);
  const credited = member.credited;
  put('a');
  world.run(50);
  expect(member.credited).toBe(credited);
  client.create(all);
  world.run(20);
  put('a');
  world.run(20);
  expect(eventTexts(client.take())).toEqual(['3+a']);
  expect(member.subscribed.map((feed) => feed.from)).toEqual([2, 3]);
});

test("streams end as etcd's do: on stop, without a leader, and on bytes that are no request", () => {
  const { world, gateway, cluster } = setup();
  const plain = new WatchClient(gateway);
  const wanting = new WatchClient(gateway, { hasleader: 'true' });
  const broken = new WatchClient(gateway);
  for (const client of [plain, wanting, broken]) client.create(all);
  broken.stream.onMessage(new Uint8Array([10, 9]));
  expect(broken.stream.ended?.status?.code).toBe(13);
  cluster.elect(undefined);
  world.run(2_900);
  expect(wanting.stream.ended).toBeUndefined();
  world.run(200);
  expect(wanting.stream.ended?.status).toEqual({ code: 14, message: 'etcdserver: no leader' });
  const late = new WatchClient(gateway, { hasleader: 'true' });
  world.run(1);
  expect(late.stream.ended?.status?.message).toBe('etcdserver: no leader');
  let stopped = false;
  gateway.stop(() => (stopped = true));
  world.run(10);
  expect(plain.stream.ended?.status).toEqual({ code: 1, message: 'etcdserver: watch canceled' });
  expect(stopped).toBe(true);
  expect(gateway.status()).toMatchObject({ watchers: 0, watchStreams: 0 });
});

test('ten thousand watchers of one key', () => {
  const { world, gateway, put } = setup();
  const clients = Array.from({ length: 100 }, () => new WatchClient(gateway));
  for (const client of clients) for (let i = 0; i < 100; i++) client.create(key('a'));
  world.run(50);
  for (const client of clients) client.take();
  put('a');
  put('a');
  world.run(50);
  expect(gateway.status().watchers).toBe(10_000);
  for (const client of clients) {
    const ids = new Map<bigint, string>();
    for (const r of client.take()) ids.set(r.watchId, (ids.get(r.watchId) ?? '') + eventTexts([r]).join());
    expect(ids.size).toBe(100);
    expect([...ids.values()].every((text) => text.replaceAll(',', '') === '2+a3+a')).toBe(true);
  }
});

test('a reader of history that goes away does not hold up those that wait behind it', () => {
  const { world, gateway, put } = setup(1, { watchHistoryReads: 1 });
  for (let i = 0; i < 5; i++) put('a', 'b', 'c');
  world.run(20);
  const client = new WatchClient(gateway);
  client.create(key('z'));
  world.run(20);
  for (const name of ['a', 'b', 'c']) client.create({ ...key(name), startRevision: 2n });
  world.run(0.01);
  client.cancel(2n);
  world.run(100);
  const responses = client.take();
  expect(eventTexts(responses.filter((r) => r.watchId === 1n))).toEqual(['2+a', '3+a', '4+a', '5+a', '6+a']);
  expect(eventTexts(responses.filter((r) => r.watchId === 3n))).toEqual(['2+c', '3+c', '4+c', '5+c', '6+c']);
});

test('a fan-out that takes long is cut into turns, and progress waits for its end', () => {
  const { world, gateway, put } = setup();
  const client = new WatchClient(gateway);
  for (let i = 0; i < 1_000; i++) client.create(key('a'));
  world.run(20);
  client.take();
  world.clockStepMs = 5;
  put('a');
  // At the end of the turn in which the first ones get it, before the next goes on.
  let first = 0;
  client.onResponse = () => {
    client.onResponse = () => undefined;
    world.timers.endOfTurn(() => {
      first = client.responses.length;
      client.progress();
      client.create(key('a'));
    });
  };
  world.run(5_000);
  expect(first).toBeGreaterThan(0);
  expect(first).toBeLessThan(1_000);
  world.clockStepMs = 0;
  const responses = client.take();
  expect(responses.filter((r) => r.events.length === 1).length).toBe(1_000);
  expect(responses.at(-1)).toMatchObject({ watchId: -1n, header: { revision: 2n } });
});
