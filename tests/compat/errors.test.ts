/**
 * Every error of etcd's table through the wire, code and text. Those that one healthy server gives are expected by the
 * cases of `semantics.test.ts`; here are those that take a cluster, and the check that none is missing.
 */
import { connect } from 'node:http2';
import { Code, type EtcdErrorName, etcdErrors } from '@quoin/contracts';
import { afterEach, expect, test } from 'vitest';
import { type Cluster, startCluster } from '../support/cluster.ts';
import { leaderOf } from '../support/state.ts';
import { errorsOfCases } from './cases/case.ts';
import { guardCases } from './cases/guards.ts';
import { kvCases } from './cases/kv.ts';
import { watchLeaseCases } from './cases/watch-lease.ts';
import { type CallSettings, Connection, type Ending, type Reply } from './connection.ts';
import { elsewhere, notProduced } from './errors.ts';
import { type Bindings, decode, encode, type Fields, type PlainFields } from './message.ts';
import { rpcNamed } from './step.ts';
import { sleep } from './watch-session.ts';

const none: Bindings = { revision: BigInt, lease: BigInt, kept: () => new Uint8Array(0) };
const here = new Set<EtcdErrorName>();
/** `maxWaitingBytes` of a gateway. */
const waitingBytesMax = 64 << 20;
const megabyte = 1 << 20;
let cluster: Cluster | undefined;
const connections: Connection[] = [];

afterEach(async () => {
  for (const connection of connections.splice(0)) connection.close();
  for (const member of cluster?.members ?? []) await member.kill('SIGCONT');
  await cluster?.stop();
  cluster = undefined;
});

function open(endpoint: string): Connection {
  const connection = new Connection(endpoint);
  connections.push(connection);
  return connection;
}

function ask(
  on: Connection,
  name: string,
  request: Fields = {},
  settings: CallSettings = {},
): Promise<Reply> {
  const rpc = rpcNamed(name);
  return on.call(rpc, [encode(rpc.request, request, none)], { timeoutMs: 15_000, ...settings });
}

function expectError(name: EtcdErrorName, found: Ending): void {
  here.add(name);
  expect({ code: found.code, text: found.text }).toEqual({
    code: etcdErrors[name].code,
    text: etcdErrors[name].message,
  });
}

async function membersOf(
  on: Connection,
): Promise<{ id: bigint; peerURLs: string[]; clientURLs: string[] }[]> {
  const reply = await ask(on, 'MemberList');
  const { members } = decode(rpcNamed('MemberList').response, reply.messages[0]!);
  return (members as PlainFields[]).map((each) => ({
    id: BigInt(each['ID'] as number),
    peerURLs: each['peerURLs'] as string[],
    clientURLs: (each['clientURLs'] ?? []) as string[],
  }));
}

test('membership: URLs in use, learners, members that have not started or do not answer', async () => {
  cluster = await startCluster({ members: 3, gateways: 1 });
  const on = open(cluster.endpoints[0]!);
  const members = await membersOf(on);
  // Clients that ask for the members are sent to the gateways (checklist, 19).
  for (const { clientURLs } of members) expect(clientURLs).toEqual(cluster.gateways.map(({ url }) => url));
  const add = (n: number, isLearner = false): Promise<Reply> =>
    ask(on, 'MemberAdd', { peerURLs: [`http://127.0.0.1:${n}`], isLearner });
  expectError('peerURLExist', await ask(on, 'MemberAdd', { peerURLs: members[0]!.peerURLs }));
  expectError('memberNotLearner', await ask(on, 'MemberPromote', { ID: members[0]!.id }));
  expect(await add(1, true)).toMatchObject({ code: 0 });
  const learner = (await membersOf(on)).find(({ peerURLs }) => peerURLs[0] === 'http://127.0.0.1:1')!;
  expectError('learnerNotReady', await ask(on, 'MemberPromote', { ID: learner.id }));
  expectError('tooManyLearners', await add(2, true));
  expectError('badLeaderTransferee', await ask(on, 'MoveLeader', { targetID: learner.id }));
  expect(await ask(on, 'MemberRemove', { ID: learner.id })).toMatchObject({ code: 0 });
  expectError('memberNotFound', await ask(on, 'MemberRemove', { ID: learner.id }));
  // One of three is down: with a fourth, which has not started, two of four would answer.
  const leader = await leaderOf(cluster.members.map(({ peerUrl }) => peerUrl));
  const other = (leader + 1) % 3;
  await cluster.kill(other);
  await expect.poll(async () => (await add(3)).text, { timeout: 15_000 }).toBe(etcdErrors.unhealthy.message);
  expectError('unhealthy', await add(3));
  await cluster.restart(other);
  await expect.poll(async () => (await add(3)).code, { timeout: 15_000 }).toBe(0);
  expect(await add(4)).toMatchObject({ code: 0 });
  expectError('memberNotEnoughStarted', await add(5));
}, 90_000);

test('without a quorum: time outs, no leader, a connection that is lost', async () => {
  cluster = await startCluster({ members: 3, gateways: 2 });
  const [one, two] = cluster.endpoints.map(open);
  const put = (on: Connection): Promise<Reply> => ask(on, 'Put', { key: 'a', value: '1' });
  expect(await put(one!)).toMatchObject({ code: 0 });
  const rpc = rpcNamed('Watch');
  const ending = new Promise<Ending>((resolve) => {
    const stream = one!.open(rpc, { metadata: { hasleader: 'true' }, onMessage: () => {}, onEnd: resolve });
    stream.send(encode(rpc.request, { createRequest: { key: 'a' } }, none));
  });
  const leader = await leaderOf(cluster.members.map(({ peerUrl }) => peerUrl));
  const followers = cluster.members.filter((_, i) => i !== leader);
  for (const follower of followers) await follower.kill('SIGSTOP');
  // Taken while it still believes to lead: what came of it nobody knows.
  const inFlight = [put(one!), put(two!), ask(one!, 'Range', { key: 'a' }), ask(two!, 'Range', { key: 'a' })];
  for (const reply of await Promise.all(inFlight)) expectError('timeout', reply);
  expectError('noLeader', await ending);
  expectError('noLeader', await ask(one!, 'Range', { key: 'a' }, { metadata: { hasleader: 'true' } }));
  const lost = put(one!);
  await sleep(200);
  for (const member of cluster.members) await member.kill('SIGCONT');
  await expect.poll(async () => (await put(two!)).code, { timeout: 20_000 }).toBe(0);
  await lost;

  // The leader dies with a write that it has not answered.
  const next = await leaderOf(cluster.members.map(({ peerUrl }) => peerUrl));
  for (const [i, member] of cluster.members.entries()) if (i !== next) await member.kill('SIGSTOP');
  const unanswered = put(one!);
  await sleep(200);
  await cluster.kill(next);
  expectError('timeoutDueToConnectionLost', await unanswered);
}, 90_000);

test('a gateway that stops', async () => {
  cluster = await startCluster({ members: 1, gateways: 1 });
  const on = open(cluster.endpoints[0]!);
  expect(await ask(on, 'Put', { key: 'a', value: '1' })).toMatchObject({ code: 0 });
  const watch = rpcNamed('Watch');
  const ended = new Promise<Ending>((resolve) => {
    const stream = on.open(watch, { onMessage: () => {}, onEnd: resolve });
    stream.send(encode(watch.request, { createRequest: { key: 'a' } }, none));
  });
  // No member is there to send it to.
  await cluster.kill(0);
  const held = ask(on, 'Put', { key: 'a', value: '2' });
  await sleep(200);
  const stopping = cluster.gateways[0]!.stop();
  expectError('watchCanceled', await ended);
  expectError('stopped', await held);
  await stopping;
}, 60_000);

test('a gateway that has too much to do', async () => {
  cluster = await startCluster({ members: 1, gateways: 1 });
  const on = open(cluster.endpoints[0]!);
  expect(await ask(on, 'Put', { key: 'a', value: '1' })).toMatchObject({ code: 0 });
  await cluster.kill(0);
  const value = 'x'.repeat(megabyte);
  const put = (): Promise<Reply> => ask(on, 'Put', { key: 'a', value });
  const crowd = Array.from({ length: waitingBytesMax / megabyte + 1 }, put);
  expectError('requestTooManyRequests', await Promise.race(crowd));
  await Promise.all(crowd);
}, 60_000);

test('a client version that is no text', async () => {
  cluster = await startCluster({ members: 1, gateways: 1 });
  const session = connect(cluster.gateways[0]!.url);
  try {
    const rpc = rpcNamed('Range');
    const message = encode(rpc.request, { key: 'a' }, none);
    const stream = session.request({
      ':method': 'POST',
      ':path': rpc.path,
      'content-type': 'application/grpc',
      te: 'trailers',
      'client-api-version': '3.\xff',
    });
    const ended = new Promise<Ending>((resolve, reject) => {
      const look = (headers: NodeJS.Dict<string | string[]>): void => {
        if (headers['grpc-status'] !== undefined)
          resolve({ code: Number(headers['grpc-status']), text: String(headers['grpc-message']) });
      };
      stream.on('response', look);
      stream.on('trailers', look);
      stream.on('error', reject);
    });
    const frame = Buffer.alloc(5);
    frame.writeUInt32BE(message.length, 1);
    stream.resume();
    stream.end(Buffer.concat([frame, message]));
    expectError('invalidClientAPIVersion', await ended);
  } finally {
    session.destroy();
  }
}, 30_000);

test('no error of the table is missing', () => {
  expect([...kvCases, ...watchLeaseCases, ...guardCases].length).toBeGreaterThan(40);
  const made = new Set<string>([...errorsOfCases, ...here, ...Object.keys(elsewhere)]);
  const all = Object.keys(etcdErrors);
  expect(all).toHaveLength(63);
  expect(all.filter((name) => !made.has(name) && !(name in notProduced))).toEqual([]);
  // The list of exceptions has none that is made after all.
  expect(Object.keys(notProduced).filter((name) => made.has(name))).toEqual([]);
  // Two errors go out as Unknown, whatever etcd declares for them (checklist, 11).
  expect(all.filter((name) => etcdErrors[name as EtcdErrorName].code === Code.unknown).sort()).toEqual([
    'memberNotEnoughStarted',
    'requestTooManyRequests',
  ]);
});
