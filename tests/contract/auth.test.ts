/** Authentication and authorisation through the whole path: gateway, link, log, apply. */
import { create, toBinary } from '@bufbuild/protobuf';
import { utf8 } from '@quoin/base';
import { services } from '@quoin/contracts';
import { authRules } from '@quoin/contracts/auth';
import { WatchRequestSchema } from '@quoin/contracts/etcd';
import { etcd, peerUrl, SimGateway } from '@quoin/sim';
import { expect, test } from 'vitest';
import { AuthWorld, bytesOf, responses } from './auth-world.ts';

const key = utf8('a/1');
const denied = 'permission denied';

test('users, roles and grants: etcd’s answers in etcd’s order of checks', () => {
  const world = new AuthWorld(700);
  const problem = (rpc: string, init: object) => world.call(`Auth/${rpc}`, init).problem;
  expect(problem('AuthEnable', {})).toBe('root user does not exist');
  expect(problem('Authenticate', { name: 'root', password: 'x' })).toBe('authentication is not enabled');
  expect(problem('UserAdd', { name: '' })).toBe('user name is empty');
  expect(problem('UserAdd', { name: 'root', password: 'root' })).toBe('');
  expect(problem('UserAdd', { name: 'root', password: 'root' })).toBe('user name already exists');
  expect(problem('UserAdd', { name: 'long', password: 'x'.repeat(73) })).toBe(
    'bcrypt: password length exceeds 72 bytes',
  );
  expect(problem('UserAdd', { name: 'cert', options: { noPassword: true } })).toBe('');
  expect(problem('AuthEnable', {})).toBe('root user does not have root role');
  expect(problem('UserGrantRole', { user: 'nobody', role: 'root' })).toBe('user name not found');
  expect(problem('UserGrantRole', { user: 'root', role: 'none' })).toBe('role name not found');
  // The role root need not exist to be granted.
  expect(problem('UserGrantRole', { user: 'root', role: 'root' })).toBe('');
  expect(problem('RoleGet', { role: 'root' })).toBe('role name not found');
  expect(problem('RoleAdd', { name: '' })).toBe('role name is empty');
  expect(problem('RoleAdd', { name: 'r' })).toBe('');
  expect(problem('RoleAdd', { name: 'r' })).toBe('role name already exists');
  expect(problem('RoleGrantPermission', { name: 'none' })).toBe('permission not given');
  for (const perm of [{ key: utf8('') }, { key: utf8('b'), rangeEnd: utf8('a') }, { key, rangeEnd: key }]) {
    expect(problem('RoleGrantPermission', { name: 'none', perm })).toBe('invalid auth management');
  }
  expect(problem('RoleGrantPermission', { name: 'none', perm: { key } })).toBe('role name not found');
  const revision = () => Number(world.ok('Auth/AuthStatus').authRevision);
  const before = revision();
  expect(problem('RoleGrantPermission', { name: 'r', perm: { key, permType: 0 } })).toBe('');
  expect(problem('RoleGrantPermission', { name: 'r', perm: { key, permType: 2 } })).toBe('');
  expect(problem('RoleGrantPermission', { name: 'r', perm: { key, rangeEnd: utf8('\0') } })).toBe('');
  expect(revision()).toBe(before + 3);
  expect(world.ok('Auth/RoleGet', { role: 'r' }).perm).toMatchObject([
    { permType: 2, key, rangeEnd: utf8('') },
    { permType: 0, key, rangeEnd: utf8('\0') },
  ]);
  expect(problem('RoleRevokePermission', { role: 'none', key })).toBe('role name not found');
  expect(problem('RoleRevokePermission', { role: 'r', key: utf8('x') })).toBe(
    'permission is not granted to the role',
  );
  expect(problem('RoleRevokePermission', { role: 'r', key })).toBe('');
  expect(problem('UserRevokeRole', { name: 'nobody', role: 'r' })).toBe('user name not found');
  expect(problem('UserRevokeRole', { name: 'cert', role: 'r' })).toBe('role is not granted to the user');
  world.ok('Auth/UserGrantRole', { user: 'cert', role: 'r' });
  const granted = revision();
  world.ok('Auth/UserGrantRole', { user: 'cert', role: 'r' });
  expect(revision()).toBe(granted);
  expect(world.ok('Auth/UserGet', { name: 'cert' }).roles).toEqual(['r']);
  expect(problem('RoleDelete', { role: 'r' })).toBe('');
  expect(problem('RoleDelete', { role: 'r' })).toBe('role name not found');
  expect(world.ok('Auth/UserGet', { name: 'cert' }).roles).toEqual([]);
  expect(problem('UserChangePassword', { name: 'nobody', password: 'x' })).toBe('user name not found');
  expect(problem('UserGet', { name: 'nobody' })).toBe('user name not found');
  expect(problem('UserDelete', { name: 'nobody' })).toBe('user name not found');
  const off = revision();
  expect(problem('AuthDisable', {})).toBe('');
  expect(revision()).toBe(off);
  world.ok('Auth/AuthEnable');
  expect(revision()).toBe(off);
  expect(problem('UserDelete', { name: 'root' })).toBe('user name is empty');
  const token = world.login('root');
  for (const gateway of world.gateways) gateway.token = token;
  world.ok('Auth/AuthEnable');
  world.ok('Auth/RoleAdd', { name: 'root' });
  expect(world.ok('Auth/RoleGet', { role: 'root' }).perm).toMatchObject([
    { permType: 2, key: utf8(''), rangeEnd: utf8('\0') },
  ]);
  expect(problem('UserDelete', { name: 'root' })).toBe('invalid auth management');
  expect(problem('RoleDelete', { role: 'root' })).toBe('invalid auth management');
  expect(problem('UserRevokeRole', { name: 'root', role: 'root' })).toBe('invalid auth management');
  expect(world.ok('Auth/UserList').users).toEqual(['cert', 'root']);
  expect(world.ok('Auth/RoleList').roles).toEqual(['root']);
  expect(problem('Authenticate', { name: 'nobody', password: 'x' })).toBe(
    'authentication failed, invalid user ID or password',
  );
  expect(problem('Authenticate', { name: 'root', password: 'x' })).toBe(
    'authentication failed, invalid user ID or password',
  );
  expect(problem('Authenticate', { name: 'cert', password: 'x' })).toBe(
    'auth: authentication failed, password was given for no password user',
  );
  world.ok('Auth/AuthDisable');
  expect(revision()).toBe(off + 2);
  for (const gateway of world.gateways) gateway.token = '';
  expect(world.call('KV/Range', { key }).problem).toBe('');
}, 20_000);

/** What each RPC is called with here: something that its validation lets through. */
const requests: Readonly<Record<string, object>> = {
  'KV/Range': { key: utf8('b') },
  'KV/Put': { key: utf8('b') },
  'KV/DeleteRange': { key: utf8('b') },
  'KV/Txn': { failure: [{ request: { case: 'requestPut', value: { key: utf8('b') } } }] },
  'KV/Compact': { revision: 1n },
  'Lease/LeaseGrant': { TTL: 60n },
  'Lease/LeaseRevoke': { ID: 7n },
  'Lease/LeaseTimeToLive': { ID: 7n, keys: true },
  'Maintenance/Alarm': { action: 1, alarm: 1 },
  'Maintenance/Downgrade': { action: 0, version: '3.6' },
  'Auth/UserGet': { name: 'root' },
  'Auth/RoleGet': { role: 'root' },
};

test('every unary RPC: nobody, somebody without the right, a forged token, root', () => {
  const world = new AuthWorld(701);
  world.enable();
  world.ok('Lease/LeaseGrant', { TTL: 600n, ID: 7n });
  world.ok('KV/Put', { key: utf8('b'), lease: 7n });
  const forAnybody = ['Lease/LeaseGrant', 'Cluster/MemberList', 'Maintenance/Status'];
  const bob = world.login('bob');
  const root = world.gateways[0]!.token;
  const seen: string[] = [];
  for (const rpc of services.flatMap((service) => service.rpcs)) {
    const name = `${rpc.service.replace('etcdserverpb.', '')}/${rpc.name}`;
    if (rpc.kind !== 'unary' || authRules.get(rpc.path) === 'open') continue;
    seen.push(name);
    const asker = (token: string) => {
      for (const gateway of world.gateways) gateway.token = token;
      const init = rpc.service.startsWith('etcdserverpb')
        ? requests[name]
        : { name: utf8('b'), key: utf8('b') };
      const leader = rpc.service.includes('lection') ? { leader: { name: utf8('b'), key: utf8('b') } } : {};
      return world.call(name, { ...init, ...leader });
    };
    const anybody = authRules.get(rpc.path) === 'anybody';
    expect(asker('').problem, name).toBe(anybody ? '' : 'user name is empty');
    for (const forged of ['x', 'a.b', 'deadbeef.deadbeef', `${root}0`, `0${root}`, bob.replace(/.$/, '')]) {
      // etcd's lock and election services pass errors on as Unknown.
      const code = rpc.service.startsWith('etcdserverpb') ? 16 : 2;
      expect(asker(forged), name).toMatchObject({ code, problem: 'invalid auth token' });
    }
    const { problem } = asker(bob);
    if (anybody || forAnybody.includes(name)) expect(problem, name).toBe('');
    else expect(problem, name).toBe(denied);
  }
  expect(seen.length).toBe(43);
  for (const gateway of world.gateways) gateway.token = root;
  // Nothing of all that has happened.
  expect(world.ok('Auth/UserList').users).toEqual(['alice', 'bob', 'reader', 'root']);
  expect(world.ok('KV/Range', { key: utf8('b') }).kvs).toMatchObject([{ version: 1n, lease: 7n }]);
}, 60_000);

test('streams: RangeStream, keep-alive, snapshot, observe', () => {
  const world = new AuthWorld(702);
  world.enable();
  world.ok('Lease/LeaseGrant', { TTL: 600n, ID: 7n });
  world.ok('KV/Put', { key: utf8('b'), lease: 7n });
  const outcome = (path: string, body: Uint8Array): string => {
    const stream = world.gateways[0]!.stream(path);
    stream.server.onMessage(body);
    world.cluster.run(1_000);
    return (stream.ended?.message ?? `open, ${stream.received.length} sent`).replace('etcdserver: ', '');
  };
  const all = [
    ['/etcdserverpb.KV/RangeStream', etcd.rangeRequest('b')],
    ['/etcdserverpb.Lease/LeaseKeepAlive', etcd.idRequest(7n)],
    ['/etcdserverpb.Maintenance/Snapshot', new Uint8Array(0)],
    ['/v3electionpb.Election/Observe', etcd.rangeRequest('b')],
  ] as const;
  for (const [path, body] of all) {
    world.as('bob', () => expect(outcome(path, body), path).toBe(denied));
    world.as('', () => expect(outcome(path, body), path).toBe('user name is empty'));
  }
  expect(outcome('/etcdserverpb.KV/RangeStream', etcd.rangeRequest('b'))).toBe('');
  expect(outcome('/etcdserverpb.Lease/LeaseKeepAlive', etcd.idRequest(7n))).toBe('open, 1 sent');
}, 20_000);

test('watch: refused at the start, ended when the right is taken away, ended when authentication begins', () => {
  const world = new AuthWorld(703);
  const early = world.watch({ key: utf8('b') });
  world.enable();
  world.cluster.run(300);
  const reason = (text: string, code = 'PermissionDenied') =>
    `rpc error: code = ${code} desc = etcdserver: ${text}`;
  // From the time before: it has no user.
  expect(responses(early).at(-1)).toMatchObject({
    canceled: true,
    watchId: 0n,
    cancelReason: reason('user name is empty', 'InvalidArgument'),
  });
  world.as('reader', () => {
    for (const range of [
      { key: utf8('b') },
      { key: utf8('a/'), rangeEnd: utf8('a1') },
      // GHSA-xg4h-6gfc-h4m8
      { key, rangeEnd: utf8('\0') },
      { key: utf8(''), rangeEnd: utf8('\0') },
      {},
    ]) {
      expect(responses(world.watch(range)).at(-1)).toMatchObject({
        created: true,
        canceled: true,
        watchId: -1n,
        cancelReason: reason(denied),
      });
    }
  });
  world.gateways[0]!.token = 'forged';
  expect(responses(world.watch({ key })).at(-1)).toMatchObject({
    created: true,
    canceled: true,
    cancelReason: reason('invalid auth token', 'Unauthenticated'),
  });
  world.gateways[0]!.token = world.gateways[1]!.token;
  const stream = world.as('reader', () => world.watch({ key: utf8('a/'), rangeEnd: utf8('a0') }));
  world.create(stream, { key: utf8('b') });
  world.create(stream, { key });
  world.cluster.run(300);
  expect(responses(stream).map((r) => [r.watchId, r.created, r.canceled])).toEqual([
    [0n, true, false],
    [-1n, true, true],
    [1n, true, false],
  ]);
  world.ok('KV/Put', { key, value: utf8('seen') });
  world.ok('Auth/UserRevokeRole', { name: 'reader', role: 'reader' });
  // Through the other gateway, which need not know it from the first one.
  world.ok('KV/Put', { key, value: utf8('secret') }, world.gateways[1]);
  world.cluster.run(500);
  const values = responses(stream).flatMap((r) => r.events.map((e) => Buffer.from(e.kv!.value).toString()));
  expect(values).toEqual(['seen', 'seen']);
  expect(responses(stream).filter((r) => r.canceled && r.watchId >= 0n)).toMatchObject([
    { watchId: 0n, cancelReason: reason(denied) },
    { watchId: 1n, cancelReason: reason(denied) },
  ]);
}, 20_000);

test('the revision in the header of a refused watch is not below what the client was told', () => {
  const world = new AuthWorld(714, { gateway: { feedLingerMs: 10 } });
  world.enable();
  const [first, second] = world.gateways;
  const stream = world.watch({ key });
  // Only the feed tells the first gateway of it.
  for (let i = 0; i < 3; i++) world.ok('KV/Put', { key }, second);
  world.cluster.run(20);
  const told = Number(responses(stream).at(-1)!.header!.revision);
  const cancel = { requestUnion: { case: 'cancelRequest' as const, value: { watchId: 0n } } };
  stream.server.onMessage(toBinary(WatchRequestSchema, create(WatchRequestSchema, cancel)));
  // The member that is asked about the token answers later than the feed lingers.
  for (const node of world.cluster.nodes) world.cluster.network.setLink('g1', node.name, { delayMs: 50 });
  first!.token = 'forged';
  const [refused] = responses(world.watch({ key }));
  expect(refused).toMatchObject({ created: true, canceled: true });
  expect(Number(refused!.header!.revision)).toBeGreaterThanOrEqual(told);
}, 20_000);

test('a grant counts at once at every gateway, and so does its end', () => {
  const world = new AuthWorld(704);
  world.enable();
  const [first, second] = world.gateways;
  const root = first!.token;
  second!.token = world.login('bob');
  for (let i = 0; i < 10; i++) {
    expect(world.call('KV/Put', { key }, second).problem).toBe(denied);
    world.ok('Auth/UserGrantRole', { user: 'bob', role: 'alice' }, first);
    expect(world.call('KV/Put', { key }, second).problem).toBe('');
    expect(world.call('KV/Range', { key, serializable: true }, second).problem).toBe('');
    world.ok('Auth/UserRevokeRole', { name: 'bob', role: 'alice' }, first);
    expect(world.call('KV/Range', { key }, second).problem).toBe(denied);
  }
  first!.token = root;
}, 20_000);

test('tokens: any gateway and any member, renewed by use, void with the password, the user and the key', () => {
  const world = new AuthWorld(705, { limits: { authTokenTtlSeconds: 10 } });
  world.enable();
  const [first, second] = world.gateways;
  let alice = world.login('alice');
  const problem = (gateway = first) => {
    gateway!.token = alice;
    return world.call('KV/Range', { key }, gateway).problem;
  };
  // Members come and go: the one that issued it is not needed.
  for (const node of [...world.cluster.nodes]) {
    world.cluster.crash(node);
    world.cluster.run(3_000);
    expect(problem(first)).toBe('');
    expect(problem(second)).toBe('');
    world.cluster.startNode(node);
    world.cluster.run(3_000);
    expect(problem(first)).toBe('');
    expect(problem(second)).toBe('');
  }
  for (let i = 0; i < 10; i++) {
    world.cluster.run(8_000);
    expect(problem(first)).toBe('');
  }
  // The second gateway has not seen it used for 80 s.
  expect(problem(second)).toBe('invalid auth token');
  world.cluster.run(11_000);
  expect(problem(first)).toBe('invalid auth token');
  const root = world.login('root');
  const asRoot = (rpc: string, init: object) => {
    second!.token = root;
    return world.ok(rpc, init, second);
  };
  alice = world.login('alice');
  expect(problem()).toBe('');
  asRoot('Auth/UserChangePassword', { name: 'alice', password: 'new' });
  expect(problem()).toBe('invalid auth token');
  expect(world.call('Auth/Authenticate', { name: 'alice', password: 'alice' }).problem).toContain('failed');
  alice = world.login('alice', 'new');
  expect(problem()).toBe('');
  asRoot('Auth/UserDelete', { name: 'alice' });
  expect(problem()).toBe('invalid auth token');
  asRoot('Auth/UserAdd', { name: 'alice', password: 'new' });
  asRoot('Auth/UserGrantRole', { user: 'alice', role: 'alice' });
  expect(problem()).toBe('invalid auth token');
  alice = world.login('alice', 'new');
  expect(problem()).toBe('');
  asRoot('Auth/AuthDisable', {});
  expect(problem()).toBe('');
  world.ok('Auth/AuthEnable');
  expect(problem()).toBe('invalid auth token');
}, 60_000);

test('a token that is asked about while authentication is switched off is not called invalid', () => {
  const world = new AuthWorld(715);
  world.enable();
  const [first, second] = world.gateways;
  const { cluster } = world;
  const seen = new Set<string>();
  for (let delayMs = 0; delayMs < 12; delayMs += 0.25) {
    second!.token = world.login('bob');
    let answer: string | undefined;
    second!.unary('/etcdserverpb.KV/Put', bytesOf('KV/Put', { key }), ({ message }) => {
      answer = message;
    });
    cluster.run(delayMs);
    world.ok('Auth/AuthDisable', {}, first);
    cluster.runUntil(() => answer !== undefined, 5_000);
    seen.add(answer!.replace('etcdserver: ', ''));
    world.ok('Auth/AuthEnable', {}, first);
    first!.token = world.login('root');
  }
  expect([...seen].sort()).toEqual(['', denied]);
}, 30_000);

test('the revision of auth store is not called old by a member that lags, also when it takes the place of another under way', () => {
  const world = new AuthWorld(716);
  world.enable();
  const { cluster } = world;
  const leader = cluster.waitForLeader();
  const [behind, farBehind] = cluster.nodes.filter((node) => node !== leader);
  const near = new SimGateway(cluster, 'near', { homeUrl: peerUrl(leader.name) });
  const far = new SimGateway(cluster, 'far', { homeUrl: peerUrl(behind!.name) });
  near.token = world.login('root');
  far.token = world.login('bob');
  // It reads from one of the other two.
  const onlyFollowers = (): void => {
    cluster.network.cut('far', leader.name);
    cluster.network.breakBetween('far', leader.name);
  };
  const seen = new Set<string>();
  for (let breakMs = 0; breakMs < 200; breakMs += 2) {
    onlyFollowers();
    cluster.network.setLink(leader.name, behind!.name, { delayMs: 30 });
    cluster.network.setLink(leader.name, farBehind!.name, { delayMs: 300 });
    cluster.network.setLink('far', behind!.name, { delayMs: 10 });
    cluster.run(1_500);
    world.ok('Auth/UserChangePassword', { name: 'reader', password: `p${breakMs}` }, near);
    let answer: string | undefined;
    far.unary('/etcdserverpb.KV/Put', bytesOf('KV/Put', { key }), ({ message }) => {
      answer = message;
    });
    cluster.run(breakMs);
    // It finds another member to ask.
    cluster.network.cut('far', behind!.name);
    cluster.network.breakBetween('far', behind!.name);
    cluster.runUntil(() => answer !== undefined, 10_000);
    seen.add(answer!.replace('etcdserver: ', ''));
    cluster.heal();
    cluster.network.setLink('far', behind!.name, {});
    for (const node of [behind!, farBehind!]) cluster.network.setLink(leader.name, node.name, {});
  }
  expect([...seen]).toEqual([denied]);
}, 60_000);

test('what is acknowledged through one gateway holds at once for all that is asked through another, whose member lags', () => {
  const world = new AuthWorld(713);
  world.enable();
  const { cluster } = world;
  const leader = cluster.waitForLeader();
  const behind = cluster.nodes.find((node) => node !== leader)!;
  const near = new SimGateway(cluster, 'near', { homeUrl: peerUrl(leader.name) });
  const far = new SimGateway(cluster, 'far', { homeUrl: peerUrl(behind.name) });
  near.token = world.login('root');
  cluster.run(500);
  const slow = (delayMs: number): void => {
    for (const node of cluster.nodes) cluster.network.setLink(node.name, behind.name, { delayMs });
  };
  const unary = (rpc: string, init: object) => () => world.call(rpc, init, far).problem;
  const snapshot = (): string => {
    const stream = far.stream('/etcdserverpb.Maintenance/Snapshot');
    stream.server.onMessage(new Uint8Array(0));
    cluster.runUntil(() => stream.received.length > 0 || stream.ended !== undefined, 5_000);
    return (stream.ended?.message ?? 'served').replace('etcdserver: ', '');
  };
  const changes: readonly [string, () => void, string][] = [
    [
      'password',
      () => world.ok('Auth/UserChangePassword', { name: 'op', password: 'new' }, near),
      'invalid auth token',
    ],
    ['user', () => world.ok('Auth/UserDelete', { name: 'op' }, near), 'invalid auth token'],
    ['role', () => world.ok('Auth/UserRevokeRole', { name: 'op', role: 'root' }, near), denied],
  ];
  const asked: readonly [string, () => string][] = [
    ['Range', unary('KV/Range', { key })],
    ['Put', unary('KV/Put', { key })],
    ['HashKV', unary('Maintenance/HashKV', {})],
    ['Hash', unary('Maintenance/Hash', {})],
    ['Defragment', unary('Maintenance/Defragment', {})],
    ['Snapshot', snapshot],
  ];
  for (const [what, change, problem] of changes) {
    for (const [name, ask] of asked) {
      world.ok('Auth/UserAdd', { name: 'op', password: 'op' }, near);
      world.ok('Auth/UserGrantRole', { user: 'op', role: 'root' }, near);
      far.token = world.login('op');
      const before = ask();
      expect(before === '' || before === 'served', `${name} before`).toBe(true);
      slow(300);
      change();
      expect(ask(), `${name} after ${what}`).toBe(problem);
      slow(0.3);
      cluster.run(1_000);
      world.call('Auth/UserDelete', { name: 'op' }, near);
    }
  }
  // And while nobody could change anything any more, an operator gets what the member has.
  world.ok('Auth/UserAdd', { name: 'op', password: 'op' }, near);
  world.ok('Auth/UserGrantRole', { user: 'op', role: 'root' }, near);
  far.token = world.login('op');
  expect(world.ok('Maintenance/HashKV', {}, far).hash).toBeGreaterThan(0);
  for (const node of cluster.nodes) if (node !== behind) cluster.crash(node);
  expect(world.ok('Maintenance/HashKV', {}, far).hash).toBeGreaterThan(0);
  expect(snapshot()).toBe('served');
}, 60_000);

test('a signed token of another kind names its revision, and is old after every change', () => {
  let nowMs = 0;
  const world = new AuthWorld(709, {
    signer: {
      sign: (user, authRevision) => `${user}@${authRevision}@${nowMs + 60_000}`,
      verify: (token) => {
        const [user, revision, expires] = token.split('@') as [string, string, string];
        if (expires === undefined) return undefined;
        return { user, authRevision: Number(revision), expiresMs: Number(expires) };
      },
    },
  });
  const [first] = world.gateways;
  const tick = (): void => {
    nowMs = world.cluster.nodes[0]!.clock.wallMs();
  };
  tick();
  world.enable();
  const root = first!.token;
  first!.token = world.login('alice');
  expect(world.call('KV/Put', { key }).problem).toBe('');
  const watch = world.watch({ key });
  first!.token = root;
  // What is root's own does not go by the revision, as with etcd.
  world.ok('Auth/RoleAdd', { name: 'other' });
  expect(world.call('KV/Put', { key }).problem).toBe('revision of auth store is old');
  expect(world.call('KV/Range', { key, serializable: true }).problem).toBe('revision of auth store is old');
  expect(responses(world.watch({ key })).at(-1)!.cancelReason).toBe(
    'rpc error: code = InvalidArgument desc = etcdserver: revision of auth store is old',
  );
  first!.token = world.login('root');
  expect(world.call('KV/Put', { key }).problem).toBe('');
  world.cluster.run(300);
  // A watch that runs goes on: its user may still read the key.
  expect(responses(watch).map(({ canceled }) => canceled)).toEqual([false, false]);
  world.cluster.run(61_000);
  expect(world.call('KV/Put', { key }).problem).toBe('invalid auth token');
  tick();
  first!.token = world.login('root');
  expect(world.call('KV/Put', { key }).problem).toBe('');
}, 20_000);

test('automatic compaction and lease expiry need nobody’s permission', () => {
  const limits = { autoCompactionMode: 'revision', autoCompactionRetention: 5 } as const;
  const world = new AuthWorld(710, { limits });
  world.enable();
  world.ok('Lease/LeaseGrant', { TTL: 3n, ID: 9n });
  world.ok('KV/Put', { key, lease: 9n });
  for (let i = 0; i < 20; i++) world.ok('KV/Put', { key: utf8('b') });
  world.cluster.run(10_000);
  expect(world.ok('KV/Range', { key }).kvs).toEqual([]);
  world.cluster.run(600_000);
  const token = world.login('root');
  for (const gateway of world.gateways) gateway.token = token;
  expect(world.call('KV/Range', { key: utf8('b'), revision: 3n }).problem).toBe(
    'mvcc: required revision has been compacted',
  );
}, 60_000);

test('a certificate names its user where there is no token', () => {
  const world = new AuthWorld(706);
  world.enable();
  const [first] = world.gateways;
  first!.token = '';
  first!.certUser = 'alice';
  expect(world.call('KV/Put', { key }).problem).toBe('');
  expect(world.call('KV/Put', { key: utf8('b') }).problem).toBe(denied);
  expect(responses(world.watch({ key })).at(-1)).toMatchObject({ created: true, canceled: false });
  first!.certUser = 'nobody';
  expect(world.call('KV/Put', { key }).problem).toBe(denied);
  expect(world.call('Auth/UserList').problem).toBe('user name not found');
  // A token goes before it.
  first!.certUser = 'alice';
  first!.token = world.login('bob');
  expect(world.call('KV/Put', { key }).problem).toBe(denied);
}, 20_000);

test('locks and elections act in the name of their client, also when he has gone', () => {
  const world = new AuthWorld(707);
  world.enable();
  world.as('alice', () => {
    expect(world.call('v3lockpb.Lock/Lock', { name: utf8('b') }).problem).toBe(denied);
    const held = world.ok('v3lockpb.Lock/Lock', { name: utf8('a/lock') });
    let problem: string | undefined;
    const [gateway] = world.gateways;
    // Waits for the lock, and gives up.
    const cancel = gateway!.gateway.unary(
      '/v3lockpb.Lock/Lock',
      etcd.rangeRequest('a/lock'),
      {
        deadlineMs: undefined,
        metadata: (k) => (k === 'token' ? gateway!.token : undefined),
        trace: undefined,
        peer: '',
      },
      (status) => {
        problem = status?.message;
      },
    );
    world.cluster.run(500);
    const contenders = () =>
      Number(world.ok('KV/Range', { key: utf8('a/lock'), rangeEnd: utf8('a/lock0') }).count);
    expect(contenders()).toBe(2);
    cancel();
    world.cluster.run(500);
    expect(problem).toBeUndefined();
    expect(contenders()).toBe(1);
    world.ok('v3lockpb.Lock/Unlock', { key: held.key });
    expect(contenders()).toBe(0);
    const { leader } = world.ok('v3electionpb.Election/Campaign', { name: utf8('a/e'), value: utf8('v') });
    expect(world.call('v3electionpb.Election/Proclaim', { leader, value: utf8('w') }).problem).toBe('');
  });
}, 20_000);

test('auth state is the same on all members, survives restarts, and goes along with a snapshot', () => {
  const world = new AuthWorld(708, {
    limits: { snapshotCount: 20, snapshotCatchupEntries: 5, flushIntervalMs: 100 },
  });
  world.enable();
  const { cluster } = world;
  const lagging = cluster.nodes.find((node) => node !== cluster.leader())!;
  cluster.isolate(lagging);
  world.ok('Auth/UserRevokeRole', { name: 'alice', role: 'alice' });
  for (let i = 0; i < 60; i++) world.ok('KV/Put', { key: utf8('b'), value: utf8(`${i}`) });
  const root = world.gateways[0]!.token;
  world.as('alice', () => expect(world.call('KV/Range', { key }).problem).toBe(denied));
  cluster.heal();
  cluster.run(5_000);
  cluster.settle();
  expect(lagging.member!.status().appliedIndex).toBe(cluster.leader()!.member!.status().appliedIndex);
  expect(new Set(cluster.stateHashes().map(({ hash }) => hash)).size).toBe(1);
  // Whoever leads, and whoever is left, says the same.
  for (const node of cluster.nodes) {
    cluster.crash(node);
    cluster.run(3_000);
    for (const gateway of world.gateways) gateway.token = root;
    expect(world.ok('Auth/UserGet', { name: 'alice' }).roles).toEqual([]);
    world.as('alice', () => {
      expect(world.call('KV/Range', { key }).problem).toBe(denied);
      expect(world.call('KV/Put', { key }).problem).toBe(denied);
    });
    cluster.startNode(node);
    cluster.run(3_000);
  }
  cluster.settle();
  expect(new Set(cluster.stateHashes().map(({ hash }) => hash)).size).toBe(1);
}, 60_000);
