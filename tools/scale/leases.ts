/**
 * Very many leases: granted, half of them kept alive for a while, all of them expired in the end; none early, none long
 * after. And the same with a leader that dies in between: the next one knows them all.
 */
import { fromBinary } from '@bufbuild/protobuf';
import {
  LeaseGrantRequestSchema,
  LeaseKeepAliveRequestSchema,
  LeaseKeepAliveResponseSchema,
  LeaseLeasesRequestSchema,
  LeaseLeasesResponseSchema,
} from '@quoin/contracts/etcd';
import { startCluster } from '../../tests/support/cluster.ts';
import { leaderOf } from '../../tests/support/state.ts';
import { longestDelayMs } from './process-memory.ts';
import { encode, RawClient } from './raw-client.ts';
import { progress, type ScaleServer } from './server.ts';

const ttlSeconds = 60;
const ttlMs = ttlSeconds * 1_000;
/** Grants in flight: those of a turn are one entry of the log. */
const grantClients = 1_024;
const keepAliveRounds = 2;
const keepAliveEveryMs = 20_000;
const pollMs = 250;
const graceMs = 120_000;
const firstRenewalsMs = 1_000;

/** Of `etcd` and Quoin alike: leases that a leader ends in a second. */
const revokesPerSecond = 1_000;

interface Expiry {
  /** ms, of each that ended. */
  readonly late: number[];
  readonly early: number;
  readonly never: number;
  readonly beyondRate: number;
}

/** By lease: when the last grant or renewal was asked for, and when it was answered. */
interface Times {
  readonly asked: Float64Array;
  readonly answered: Float64Array;
}

export async function measureLeases(server: ScaleServer, count: number): Promise<void> {
  const clients = Array.from({ length: 8 }, () => new RawClient(server.endpoint));
  const times = { asked: new Float64Array(count), answered: new Float64Array(count) };
  try {
    await longestDelayMs(server.url);
    const grantSeconds = await grantAll(clients, times, count);
    process.stdout.write(
      `${server.name}: ${count} leases of ${ttlSeconds} s granted at ${(count / grantSeconds).toFixed(0)}/s\n`,
    );
    const keeping = keepAlive(clients[0]!, times);
    const outcome = await watchExpiry(clients[1]!, times);
    const renewed = await keeping;
    const delay = await longestDelayMs(server.url);
    process.stdout.write(
      `${server.name}: ${renewed} renewals; ${outcome.late.length} leases expired, ${outcome.early} early, ${outcome.never} never; late by ` +
        `p50 ${seconds(outcome.late, 0.5)} s, p99 ${seconds(outcome.late, 0.99)} s, at most ${seconds(outcome.late, 1)} s, ` +
        `${(outcome.beyondRate / 1_000).toFixed(2)} s more than ${revokesPerSecond} a second allow` +
        `${delay === undefined ? '' : `; longest pause ${delay.toFixed(0)} ms`}\n`,
    );
  } finally {
    for (const client of clients) client.close();
  }
}

/** 3 members + 1 gateway. The leader is killed when all are granted and the first renewals are under way. */
export async function measureLeasesOverLeaders(count: number): Promise<void> {
  const cluster = await startCluster({ members: 3, gateways: 1 });
  const clients = Array.from({ length: 8 }, () => new RawClient(cluster.endpoints[0]!));
  const times = { asked: new Float64Array(count), answered: new Float64Array(count) };
  try {
    const grantSeconds = await grantAll(clients, times, count);
    const keeping = keepAlive(clients[0]!, times);
    await pause(firstRenewalsMs);
    const leader = await leaderOf(cluster.members.map((member) => member.peerUrl));
    await cluster.kill(leader);
    const killedMs = performance.now();
    // The next leader gives each lease its whole time anew: from when it knew them on, at the latest from here.
    const others = cluster.members.filter((_, i) => i !== leader);
    await leaderOf(others.map((member) => member.peerUrl));
    const electedMs = performance.now();
    const outcome = await watchExpiry(clients[1]!, times, electedMs);
    const renewed = await keeping;
    process.stdout.write(
      `quoin, 3 members + 1 gateway: ${count} leases of ${ttlSeconds} s granted at ${(count / grantSeconds).toFixed(0)}/s, all alive; ` +
        `leader killed, another known after ${((electedMs - killedMs) / 1_000).toFixed(1)} s; ${renewed} renewals; ` +
        `${outcome.late.length} leases expired, ${outcome.early} early, ${outcome.never} never; late by ` +
        `p50 ${seconds(outcome.late, 0.5)} s, at most ${seconds(outcome.late, 1)} s, ` +
        `${(outcome.beyondRate / 1_000).toFixed(2)} s more than ${revokesPerSecond} a second allow\n`,
    );
  } finally {
    for (const client of clients) client.close();
    await cluster.stop();
  }
}

async function grant(clients: readonly RawClient[], times: Times, count: number): Promise<number> {
  const told = progress('leases granted', count);
  const began = performance.now();
  let next = 0;
  await Promise.all(
    Array.from({ length: grantClients }, async (_, i) => {
      for (let n = next++; n < count; n = next++) {
        const request = encode(LeaseGrantRequestSchema, { TTL: BigInt(ttlSeconds), ID: BigInt(n + 1) });
        times.asked[n] = performance.now();
        await clients[i % clients.length]!.call('/etcdserverpb.Lease/LeaseGrant', request);
        times.answered[n] = performance.now();
        told(n);
      }
    }),
  );
  told(count);
  return (performance.now() - began) / 1_000;
}

/** Renewals over one stream. */
class Renewals {
  renewed = 0;
  private readonly times: Times;
  private readonly sent: Float64Array;
  private readonly stream: ReturnType<RawClient['bidi']>;

  constructor(client: RawClient, times: Times) {
    this.times = times;
    this.sent = new Float64Array(times.asked.length);
    this.stream = client.bidi('/etcdserverpb.Lease/LeaseKeepAlive');
    this.stream.on('error', () => {});
    this.stream.on('data', (bytes: Buffer) => {
      const { ID, TTL } = fromBinary(LeaseKeepAliveResponseSchema, bytes);
      const n = Number(ID) - 1;
      if (TTL <= 0n) return;
      this.renewed++;
      times.asked[n] = this.sent[n]!;
      times.answered[n] = performance.now();
    });
  }

  renew(n: number): void {
    this.sent[n] = performance.now();
    this.stream.write(encode(LeaseKeepAliveRequestSchema, { ID: BigInt(n + 1) }));
  }

  /** Each lease that was granted, before it is too old, until granting is over: the first outlive the granting of the last. */
  async whileGranting(granting: Promise<number>): Promise<void> {
    let granted = false;
    const over = granting.finally(() => {
      granted = true;
    });
    while (!granted) {
      const old = performance.now() - keepAliveEveryMs;
      const { answered } = this.times;
      for (let n = 0; n < answered.length; n++) {
        const heard = Math.max(answered[n]!, this.sent[n]!);
        if (heard > 0 && heard < old) this.renew(n);
      }
      await Promise.race([over, pause(firstRenewalsMs)]);
    }
  }

  end(): void {
    this.stream.end();
  }
}

/** Every other lease, over one stream, a few times. Returns how often. */
async function keepAlive(client: RawClient, times: Times): Promise<number> {
  const renewals = new Renewals(client, times);
  for (let round = 0; round < keepAliveRounds; round++) {
    for (let n = 0; n < times.asked.length; n += 2) renewals.renew(n);
    await pause(keepAliveEveryMs);
  }
  renewals.end();
  return renewals.renewed;
}

/** Granted by `grant`, and all of them still there. @throws Error when some are not. */
async function grantAll(clients: readonly RawClient[], times: Times, count: number): Promise<number> {
  const renewals = new Renewals(clients[0]!, times);
  const granting = grant(clients, times, count);
  await renewals.whileGranting(granting);
  const grantSeconds = await granting;
  renewals.end();
  const alive = (await leases(clients[1]!)).length;
  if (alive !== count) throw new Error(`of ${count} leases ${alive} are there after granting them`);
  return grantSeconds;
}

async function leases(client: RawClient): Promise<number[]> {
  const body = await client.call('/etcdserverpb.Lease/LeaseLeases', encode(LeaseLeasesRequestSchema, {}));
  return fromBinary(LeaseLeasesResponseSchema, body).leases.map(({ ID }) => Number(ID) - 1);
}

/** Lists the leases again and again: each list tells which have gone since the last one. */
async function watchExpiry(client: RawClient, times: Times, anewMs = 0): Promise<Expiry> {
  const alive = new Set<number>(times.asked.keys());
  const late: number[] = [];
  const ends: { due: number; gone: number }[] = [];
  let early = 0;
  const limit = performance.now() + keepAliveRounds * keepAliveEveryMs + ttlMs + graceMs;
  const told = progress('leases expired', times.asked.length);
  while (alive.size > 0 && performance.now() < limit) {
    const left = new Set(await leases(client));
    const now = performance.now();
    for (const n of alive) {
      if (left.has(n)) continue;
      alive.delete(n);
      // The server counts from between the two, so both are on the safe side.
      if (now < times.asked[n]! + ttlMs) early++;
      const due = Math.max(times.answered[n]!, anewMs) + ttlMs;
      late.push(Math.max(0, now - due));
      ends.push({ due, gone: now });
    }
    told(times.asked.length - alive.size);
    await pause(pollMs);
  }
  return { late, early, never: alive.size, beyondRate: beyondRate(ends) };
}

/** By how many ms one was later than if all were ended in the order in which they were due, at the rate that there is. */
function beyondRate(ends: { due: number; gone: number }[]): number {
  ends.sort((a, b) => a.due - b.due);
  let free = 0;
  let beyond = 0;
  for (const { due, gone } of ends) {
    free = Math.max(free, due) + 1_000 / revokesPerSecond;
    beyond = Math.max(beyond, gone - free);
  }
  return beyond;
}

function seconds(latenessMs: number[], share: number): string {
  latenessMs.sort((a, b) => a - b);
  const at = Math.min(latenessMs.length - 1, Math.floor(latenessMs.length * share));
  return ((latenessMs[at] ?? 0) / 1_000).toFixed(2);
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
