import { create, type DescMessage, fromBinary, type MessageInitShape, toBinary } from '@bufbuild/protobuf';
import { concatBytes, utf8, utf8Text } from '@quoin/base';
import { Code, etcdErrors, Method, type RpcStatus } from '@quoin/contracts';
import {
  CompactionRequestSchema,
  PutRequestSchema,
  PutResponseSchema,
  RangeRequestSchema,
  RangeResponseSchema,
  TxnRequestSchema,
} from '@quoin/contracts/etcd';
import { Gateway } from '@quoin/gateway';
import { expect, test } from 'vitest';
import { clusterId, FakeCluster, FakeMember } from './fake-cluster.ts';
import { contextOf, TestChannel, unary, World } from './world.ts';

function encode<T extends DescMessage>(schema: T, init: MessageInitShape<T>): Uint8Array {
  return toBinary(schema, create(schema, init));
}

function setup(size = 3, options: Partial<ConstructorParameters<typeof Gateway>[0]> = {}) {
  const world = new World();
  const cluster = new FakeCluster(world, size);
  const gateway = new Gateway(
    { name: 'g1', memberUrls: [cluster.members[0]!.url], homeUrl: cluster.members[0]!.url, ...options },
    world.ports(cluster.dial),
  );
  return { world, cluster, gateway, members: cluster.members };
}

const put = (key: string, value = '') => encode(PutRequestSchema, { key: utf8(key), value: utf8(value) });
const range = (key: string) => encode(RangeRequestSchema, { key: utf8(key) });
const putPath = '/etcdserverpb.KV/Put';
const rangePath = '/etcdserverpb.KV/Range';

test("a put goes to the leader, a range to the home member, and the answers are the member's", () => {
  const { world, cluster, gateway, members } = setup();
  cluster.leader = members[1];
  gateway.start();
  world.run(50);
  expect(gateway.ready()).toBe(true);
  expect(gateway.status()).toMatchObject({ clusterId, leader: 2n, home: 1n, term: 2 });
  const written = unary(world, gateway, putPath, put('a', 'x'));
  world.run(20);
  expect(written.status).toBeNull();
  expect(fromBinary(PutResponseSchema, written.body).header).toMatchObject({ memberId: 2n, revision: 2n });
  const read = unary(world, gateway, rangePath, range('a'));
  world.run(20);
  const response = fromBinary(RangeResponseSchema, read.body);
  expect(response.header?.memberId).toBe(1n);
  expect(utf8Text(response.kvs[0]!.value)).toBe('x');
  expect(members.map((m) => [m.count(Method.put), m.count(Method.range)])).toEqual([
    [0, 1],
    [1, 0],
    [0, 0],
  ]);
});

test('links grow with the membership, and one link message carries all of a turn', () => {
  const { world, gateway, members } = setup();
  gateway.start();
  world.run(50);
  expect(gateway.status().links.map((link) => [link.url, link.open])).toEqual(
    members.map((m) => [m.url, true]),
  );
  const calls = Array.from({ length: 100 }, (_, i) => unary(world, gateway, putPath, put(`k${i}`)));
  world.run(20);
  expect(calls.every((call) => call.done && call.status === null)).toBe(true);
  expect(members[0]!.seen.map((request) => request.id)).toEqual(Array.from({ length: 100 }, (_, i) => i + 1));
});

test('while no leader is known a write waits unsent, and goes to the one that is elected', () => {
  const { world, cluster, gateway, members } = setup();
  cluster.leader = undefined;
  gateway.start();
  world.run(50);
  expect(gateway.ready()).toBe(false);
  const call = unary(world, gateway, putPath, put('a'));
  const eager = unary(world, gateway, putPath, put('b'), contextOf({ hasleader: 'true' }));
  world.run(2_000);
  expect(call.done).toBe(false);
  expect(eager.status).toEqual(etcdErrors.noLeader);
  cluster.elect(members[2]);
  world.run(20);
  expect(call.status).toBeNull();
  expect(members[2]!.count(Method.put)).toBe(1);
});

test("a write that waits too long times out, and its deadline is the nearer of 7 s and the client's", () => {
  const { world, cluster, gateway } = setup();
  cluster.leader = undefined;
  gateway.start();
  world.run(50);
  const began = world.nowMs;
  const long = unary(world, gateway, putPath, put('a'));
  const short = unary(world, gateway, putPath, put('b'), contextOf({}, began + 300));
  world.run(10_000);
  expect(short.status).toEqual(etcdErrors.timeout);
  expect(long.status).toEqual(etcdErrors.timeout);
  expect(short.atMs - began).toBeLessThan(310);
  expect(long.atMs - began).toBeGreaterThanOrEqual(7_000);
  expect(long.atMs - began).toBeLessThan(7_010);
});

test('a compaction waits 7 s, one that is physical as long as removal takes', () => {
  const { world, cluster, gateway, members } = setup();
  cluster.leader = members[0];
  gateway.start();
  world.run(50);
  members[0]!.override = () => undefined;
  const compact = (physical: boolean) =>
    unary(
      world,
      gateway,
      '/etcdserverpb.KV/Compact',
      encode(CompactionRequestSchema, { revision: 1n, physical }),
    );
  const logical = compact(false);
  const physical = compact(true);
  world.run(60_000);
  expect(logical.status).toEqual(etcdErrors.timeout);
  expect([logical.done, physical.done]).toEqual([true, false]);
});

test('of two who are called leader the one of the higher term is it', () => {
  const { world, cluster, gateway, members } = setup();
  cluster.leader = members[1];
  for (const [i, member] of members.entries()) member.belief = { leader: BigInt(i + 1), term: [9, 7, 8][i]! };
  gateway.start();
  world.run(600);
  expect(gateway.status()).toMatchObject({ leader: 1n, term: 9 });
  members[0]!.belief = { leader: 0n, term: 10 };
  world.run(600);
  expect(gateway.status()).toMatchObject({ leader: 3n, term: 8 });
});

test('a write that was sent and times out is cancelled at its member', () => {
  const { world, gateway, members } = setup();
  gateway.start();
  world.run(50);
  members[0]!.override = () => undefined;
  const call = unary(world, gateway, putPath, put('a'), contextOf({}, world.nowMs + 100));
  world.run(50);
  expect(members[0]!.seen.at(-1)!.timeoutMs).toBeLessThanOrEqual(100);
  world.run(60);
  expect(call.status).toEqual(etcdErrors.timeout);
  expect(members[0]!.cancelled).toEqual([1]);
});

test('a write that may have left is never sent again; a read is', () => {
  const { world, cluster, gateway, members } = setup();
  gateway.start();
  world.run(50);
  members[0]!.override = () => undefined;
  const write = unary(world, gateway, putPath, put('a'));
  const read = unary(world, gateway, rangePath, range('a'));
  world.run(5);
  expect(members[0]!.seen.length).toBe(2);
  members[0]!.down();
  cluster.elect(members[1]);
  world.run(50);
  expect(write.status).toEqual(etcdErrors.timeoutDueToConnectionLost);
  expect(read.status).toBeNull();
  expect(members[1]!.count(Method.put) + members[2]!.count(Method.put)).toBe(0);
  const next = unary(world, gateway, putPath, put('a'));
  world.run(20);
  expect(next.status).toBeNull();
});

test('what was queued behind a dead link but never sent goes to the next leader', () => {
  const { world, cluster, gateway, members } = setup();
  gateway.start();
  world.run(50);
  members[0]!.cut();
  members[0]!.up = false;
  // In the same turn in which the link breaks: taken by the link, not flushed.
  let call: ReturnType<typeof unary> | undefined;
  world.timers.after(0, () => {
    call = unary(world, gateway, putPath, put('a'));
  });
  cluster.elect(members[1]);
  world.run(60);
  expect(call!.status).toBeNull();
  expect(members[1]!.count(Method.put)).toBe(1);
  expect(members[0]!.count(Method.put)).toBe(0);
});

test('a request that a member has not taken is brought to another, with pauses', () => {
  const { world, cluster, gateway, members } = setup();
  gateway.start();
  world.run(50);
  members[0]!.override = () => ({ ...etcdErrors.notLeader, notTaken: true });
  const write = unary(world, gateway, putPath, put('a'));
  const read = unary(world, gateway, rangePath, range('a'));
  world.run(1_000);
  expect(read.status).toBeNull();
  expect(write.done).toBe(false);
  expect(members[0]!.count(Method.put)).toBeGreaterThan(2);
  expect(members[0]!.count(Method.put)).toBeLessThan(25);
  cluster.elect(members[2]);
  world.run(20);
  expect(write.status).toBeNull();
  members[0]!.override = () => ({ ...etcdErrors.requestTooManyRequests, notTaken: true });
  cluster.elect(members[0]);
  world.run(20);
  const refused = unary(world, gateway, putPath, put('a'));
  world.run(20);
  expect(refused.status).toEqual(etcdErrors.requestTooManyRequests);
});

test('waiting requests are bounded by count and by bytes', () => {
  const { world, cluster, gateway } = setup(3, { maxWaitingRequests: 3, maxWaitingBytes: 2_000 });
  cluster.leader = undefined;
  gateway.start();
  world.run(50);
  const calls = Array.from({ length: 5 }, (_, i) => unary(world, gateway, putPath, put(`k${i}`)));
  world.run(10);
  expect(calls.map((call) => call.status?.message)).toEqual([
    undefined,
    undefined,
    undefined,
    etcdErrors.requestTooManyRequests.message,
    etcdErrors.requestTooManyRequests.message,
  ]);
  // What keeps the cluster alive finds room where the rest is sent away.
  const grow = unary(world, gateway, '/etcdserverpb.Cluster/MemberAdd', new Uint8Array(0));
  world.run(10);
  expect(grow.done).toBe(false);
  for (const call of [...calls, grow]) call.cancel();
  const big = [1_500, 1_500, 1_500].map((n) => unary(world, gateway, putPath, put('k', 'v'.repeat(n))));
  world.run(10);
  expect(big.map((call) => call.done)).toEqual([false, false, true]);
});

test('a client that goes away cancels its request at the member', () => {
  const { world, gateway, members } = setup();
  gateway.start();
  world.run(50);
  members[0]!.override = () => undefined;
  const call = unary(world, gateway, rangePath, range('a'));
  world.run(5);
  call.cancel();
  world.run(5);
  expect(members[0]!.cancelled).toEqual([1]);
  expect(call.done).toBe(false);
});

test('a link that falls silent is dropped and dialled again', () => {
  const { world, gateway, members } = setup(1);
  gateway.start();
  world.run(50);
  members[0]!.silence();
  const call = unary(world, gateway, rangePath, range('a'));
  world.run(4_000);
  expect(call.done).toBe(false);
  world.run(2_000);
  expect(call.status).toBeNull();
  expect(gateway.ready()).toBe(true);
});

test('the home member is kept, fails over, and the preferred one gets it back', () => {
  const { world, cluster, gateway, members } = setup();
  gateway.start();
  world.run(50);
  expect(gateway.status().home).toBe(1n);
  cluster.elect(members[1]);
  members[0]!.down();
  world.run(50);
  const second = gateway.status().home;
  expect(second).not.toBe(1n);
  cluster.elect(members[2]);
  world.run(50);
  expect(gateway.status().home).toBe(second);
  members[0]!.up = true;
  world.run(4_000);
  expect(gateway.status().home).toBe(1n);
});

const openLinks = (gateway: Gateway) =>
  gateway
    .status()
    .links.filter((link) => link.open)
    .map((link) => link.url)
    .sort();
const linkUrls = (gateway: Gateway) =>
  gateway
    .status()
    .links.map((link) => link.url)
    .sort();

test('a member that moved is found where the membership says, and can lead there', () => {
  for (const started of [['http://m1:2380'], ['http://m1:2380', 'http://m2:2380', 'http://m3:2380']]) {
    const { world, cluster, gateway, members } = setup(3, { memberUrls: started });
    gateway.start();
    world.run(50);
    const moved = members[2]!;
    moved.advertised = 'http://m3:9999';
    for (const member of members) member.tell();
    world.run(1_000);
    expect(openLinks(gateway)).toEqual(['http://m1:2380', 'http://m2:2380', 'http://m3:2380']);
    moved.down();
    world.run(1_000);
    moved.url = 'http://m3:9999';
    moved.up = true;
    world.run(5_000);
    cluster.elect(moved);
    world.run(50);
    const call = unary(world, gateway, putPath, put('a'));
    world.run(50);
    expect(call.status).toBeNull();
    expect(moved.count(Method.put)).toBe(1);
    expect(linkUrls(gateway)).toEqual(['http://m1:2380', 'http://m2:2380', 'http://m3:9999']);
  }
});

test('a member that was removed is let go, also one that still answers', () => {
  for (const dies of [true, false]) {
    const { world, cluster, gateway, members } = setup(3, {
      memberUrls: ['http://m1:2380', 'http://m2:2380', 'http://m3:2380'],
    });
    gateway.start();
    world.run(50);
    const gone = members[2]!;
    cluster.members.pop();
    // It does not know, and what it knows is older.
    gone.mute = true;
    members[0]!.applied = members[1]!.applied = 5;
    for (const member of cluster.members) member.tell();
    if (dies) gone.down();
    world.run(1_000);
    expect(linkUrls(gateway)).toEqual(['http://m1:2380', 'http://m2:2380']);
    expect(gone.linked()).toBe(false);
  }
});

test('where a removed member still answers at the address of its successor, the gateway asks with pauses', () => {
  const { world, cluster, members } = setup();
  let dials = 0;
  let old: FakeMember | undefined;
  const gateway = new Gateway(
    { name: 'g2', memberUrls: ['http://m1:2380'] },
    world.ports((url) => {
      if (url !== 'http://m3:2380') return cluster.dial(url);
      dials++;
      const [near, far] = TestChannel.pair(world);
      (old ?? cluster.members[2]!).accept(far);
      return near;
    }),
  );
  gateway.start();
  world.run(50);
  old = members[2]!;
  old.mute = true;
  cluster.members[2] = new FakeMember(cluster, 4n, 'http://m3:2380');
  members[0]!.applied = members[1]!.applied = 5;
  for (const member of cluster.members) member.tell();
  world.run(10_000);
  expect(dials).toBeGreaterThan(3);
  expect(dials).toBeLessThan(20);
  old = undefined;
  world.run(4_000);
  expect(gateway.status().links.map((link) => link.memberId)).toEqual([1n, 2n, 4n]);
});

test('one live member of the start list is enough, and the list is gone back to when all links are lost', () => {
  const { world, cluster, gateway, members } = setup(3, {
    memberUrls: ['http://nobody:2380', 'http://m3:2380'],
    homeUrl: undefined as unknown as string,
  });
  gateway.start();
  world.run(100);
  expect(openLinks(gateway)).toEqual(['http://m1:2380', 'http://m2:2380', 'http://m3:2380']);
  // Removed, so the gateway lets it go although it was told of it at its start …
  const old = cluster.members.pop()!;
  old.applied = 1;
  for (const member of cluster.members) member.applied = 5;
  old.down();
  for (const member of cluster.members) member.tell();
  world.run(100);
  expect(linkUrls(gateway)).not.toContain(old.url);
  // … and asks there again when nobody else is left: a new member lives there now.
  for (const member of members.slice(0, 2)) member.down();
  cluster.members.push(old);
  for (const member of cluster.members) member.url = `${member.url}0`;
  old.url = 'http://m3:2380';
  for (const member of cluster.members) member.up = true;
  world.run(5_000);
  expect(openLinks(gateway)).toEqual(['http://m1:23800', 'http://m2:23800', 'http://m3:2380']);
});

test('a member that is reached under another name than its own has one link', () => {
  const world = new World();
  const cluster = new FakeCluster(world, 2);
  const alias = (url: string): string => (url === 'http://localhost:2380' ? 'http://m1:2380' : url);
  const gateway = new Gateway(
    { name: 'g1', memberUrls: ['http://localhost:2380', 'http://m2:2380'] },
    world.ports((url) => cluster.dial(alias(url))),
  );
  gateway.start();
  world.run(10_000);
  expect(openLinks(gateway).length).toBe(2);
  expect(linkUrls(gateway).length).toBe(2);
});

test('a member of another cluster is not talked to', () => {
  const { world, gateway, members } = setup(3);
  gateway.start();
  world.run(50);
  expect(gateway.status().clusterId).toBe(clusterId);
  // A gateway that knows its cluster says so in its greeting, and the member hangs up on a stranger.
  const other = new FakeCluster(world, 1);
  const mixed = new Gateway(
    { name: 'g2', memberUrls: ['http://m1:2380', 'x'] },
    world.ports((url) => (url === 'x' ? other.dial('http://m1:2380') : members[0]!.cluster.dial(url))),
  );
  mixed.start();
  world.run(100);
  // The other cluster's member has the same id here: one link per member.
  expect(mixed.status().links.filter((link) => link.open && link.memberId === 1n).length).toBe(1);
});

test('stop answers what is under way and refuses what is new', () => {
  const { world, gateway, members } = setup();
  gateway.start();
  world.run(50);
  const slow = unary(world, gateway, rangePath, range('a'));
  members[0]!.override = (request) => (request.method === Method.put ? undefined : 'usual');
  const stuck = unary(world, gateway, putPath, put('a'));
  world.run(0.01);
  let stopped = false;
  gateway.stop(() => (stopped = true));
  const late = unary(world, gateway, rangePath, range('a'));
  world.run(100);
  expect(slow.status).toBeNull();
  expect(late.status).toEqual(etcdErrors.stopped);
  expect(stopped).toBe(false);
  world.run(6_000);
  expect(stopped).toBe(true);
  expect(stuck.status).toEqual(etcdErrors.stopped);
});

test('unknown and unserved paths are named as grpc-go does', () => {
  const { world, gateway } = setup();
  const paths = ['/etcdserverpb.KV/Nothing', '/nobody.Service/Call', 'nonsense'];
  const calls = paths.map((path) => unary(world, gateway, path, new Uint8Array(0)));
  world.run(1);
  expect(calls.map((call) => [call.status?.code, call.status?.message])).toEqual([
    [12, 'unknown method Nothing for service etcdserverpb.KV'],
    [12, 'unknown service nobody.Service'],
    [12, 'malformed method name: "nonsense"'],
  ]);
});

test('a read-only txn is a read, any other a write', () => {
  const { world, cluster, gateway, members } = setup();
  cluster.leader = members[1];
  gateway.start();
  world.run(50);
  const op = { request: { case: 'requestRange' as const, value: { key: utf8('a') } } };
  unary(world, gateway, '/etcdserverpb.KV/Txn', encode(TxnRequestSchema, { success: [op], failure: [op] }));
  unary(world, gateway, '/etcdserverpb.KV/Txn', encode(TxnRequestSchema, {}));
  const nested = { request: { case: 'requestTxn' as const, value: { success: [op] } } };
  unary(world, gateway, '/etcdserverpb.KV/Txn', encode(TxnRequestSchema, { success: [nested] }));
  world.run(20);
  expect(members.map((m) => m.count(Method.txn))).toEqual([2, 1, 0]);
});

/** A unary call whose answer is taken in parts, `credited` as the test says. */
function inParts(gateway: Gateway, request: Uint8Array) {
  const seen = {
    pieces: [] as Uint8Array[],
    begun: false,
    status: undefined as RpcStatus | null | undefined,
  };
  const cancel = gateway.unary(
    rangePath,
    request,
    contextOf(),
    (status, pieces, rest) => {
      seen.pieces.push(...pieces);
      if (rest === undefined) {
        seen.status = status;
        return;
      }
      seen.begun = true;
      rest.start(
        (part) => {
          seen.pieces.push(part);
          rest.credit(part.length);
        },
        (end) => {
          seen.status = end;
        },
      );
    },
    true,
  );
  return { seen, cancel };
}

function filled(members = 3) {
  const all = setup(members);
  const { world, gateway } = all;
  gateway.start();
  world.run(50);
  for (let i = 0; i < 40; i++)
    unary(world, gateway, putPath, put(`k${String(i).padStart(2, '0')}`, 'x'.repeat(i)));
  world.run(50);
  const everything = encode(RangeRequestSchema, { key: utf8('k'), rangeEnd: utf8('l') });
  const whole = unary(world, gateway, rangePath, everything);
  world.run(20);
  return { ...all, everything, whole: fromBinary(RangeResponseSchema, whole.body) };
}

test('a large answer goes on at another member when its own is lost, also while others write', () => {
  for (const partsMax of [1, 2, 5]) {
    const { world, gateway, members, everything, whole } = filled();
    for (const member of members) member.partBytes = 100;
    const home = members.find((m) => m.id === gateway.status().home)!;
    home.partsMax = partsMax;
    const { seen } = inParts(gateway, everything);
    world.run(3);
    expect(seen.begun).toBe(true);
    expect(seen.status).toBeUndefined();
    const begun = concatBytes(seen.pieces).length;
    expect(begun).toBeGreaterThan(0);
    // Written after the answer had begun: not in it, though the other member has it.
    unary(world, gateway, putPath, put('k00a', 'later'));
    world.run(500);
    expect(seen.status).toBeNull();
    const answer = fromBinary(RangeResponseSchema, concatBytes(seen.pieces));
    expect(answer.kvs).toEqual(whole.kvs);
    expect(answer.count).toBe(whole.count);
    expect(answer.header?.memberId).toBe(home.id);
  }
});

test('a large answer that nobody can go on with fails, and one whose client leaves is cancelled', () => {
  const { world, gateway, members, everything } = filled(1);
  members[0]!.partBytes = 100;
  members[0]!.partsMax = 2;
  const lost = inParts(gateway, everything).seen;
  world.run(20_000);
  expect(lost.begun).toBe(true);
  expect(lost.status).toMatchObject({ code: Code.unavailable });
  members[0]!.up = true;
  members[0]!.partsMax = 0;
  members[0]!.override = (request) =>
    request.method === Method.range ? { body: utf8('\n\0'), more: true, totalBytes: 1_000 } : 'usual';
  world.run(5_000);
  const { seen, cancel } = inParts(gateway, everything);
  world.run(50);
  expect(seen.begun).toBe(true);
  cancel();
  world.run(50);
  expect(members[0]!.cancelled).toHaveLength(1);
  expect(seen.status).toBeUndefined();
});

test('an answer that differs from what was said of it fails', () => {
  const { world, gateway, members, everything } = filled(1);
  for (const [body, status] of [
    [new Uint8Array(5), Code.internal],
    [new Uint8Array(8), null],
    [new Uint8Array(9), Code.internal],
  ] as const) {
    let asked = 0;
    members[0]!.override = (request) => {
      if (request.method !== Method.range) return 'usual';
      asked = request.id;
      return { body: utf8('\n\0'), more: true, totalBytes: 10 };
    };
    const { seen } = inParts(gateway, everything);
    world.run(20);
    members[0]!.reply(asked, { body });
    world.run(20);
    expect(seen.status === null ? null : seen.status?.code).toBe(status);
  }
});
