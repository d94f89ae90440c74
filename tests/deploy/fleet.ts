/**
 * A fleet of gateways that come and go at random under load: what clients with ordinary retries see of it. Nothing
 * that was acknowledged may be lost, no call may fail for good, no watch may miss or repeat an event.
 */
import { setTimeout as pause } from 'node:timers/promises';
import { Prng } from '@quoin/base';
import { Client, EtcdError } from '@quoin/client';
import { Code } from '@quoin/contracts';
import { Child } from '../support/child.ts';
import { type Cluster, startCluster } from '../support/cluster.ts';
import { freePorts } from '../support/ports.ts';

export interface FleetOptions {
  readonly seconds: number;
  readonly seed: number;
  readonly onLine?: (line: string) => void;
}

export interface FleetReport {
  readonly puts: number;
  readonly gets: number;
  readonly events: number;
  /** Attempts of clients that were repeated, by error. */
  readonly retries: Readonly<Record<string, number>>;
  readonly kills: number;
  readonly stops: number;
  readonly starts: number;
  /** What must be empty. */
  readonly wrong: readonly string[];
}

/** An ordinary client tries so often, with pauses, before it gives up. */
const attempts = 40;
const attemptPauseMs = 50;
const readyMs = 30_000;
const actionMeanMs = 1_200;
const connectionAge = '3s';
/** Places for gateways; at least one is always served. */
const slots = 4;
const writers = 6;

export async function runFleet(options: FleetOptions): Promise<FleetReport> {
  const { seconds, seed } = options;
  const cluster = await startCluster({ members: 3, gateways: 0 });
  const fleet = await Fleet.start(cluster, slots, new Prng(seed), options.onLine);
  const work = new Work(fleet.endpoints, writers);
  try {
    await fleet.churn(seconds * 1_000);
    await work.settle();
    const { kills, stops, starts } = fleet;
    return { ...work.report(), kills, stops, starts };
  } finally {
    work.close();
    await fleet.stop();
    await cluster.stop();
  }
}

class Fleet {
  readonly endpoints: readonly string[];
  kills = 0;
  stops = 0;
  starts = 0;
  private readonly gateways: readonly Child[];
  private readonly ready = new Set<Child>();
  private readonly prng: Prng;
  private readonly onLine: (line: string) => void;

  static async start(
    cluster: Cluster,
    slots: number,
    prng: Prng,
    onLine: (line: string) => void = () => {},
  ): Promise<Fleet> {
    const ports = await freePorts(slots);
    const members = cluster.members.map(({ peerUrl }) => peerUrl).join(',');
    const gateways = ports.map(
      (port, i) =>
        new Child({
          name: `g${i + 1}`,
          script: 'apps/gateway/src/main.ts',
          args: [
            `--name=g${i + 1}`,
            `--members=${members}`,
            `--listen-client-urls=http://127.0.0.1:${port}`,
            // Old connections move on as well, so that what a stop does to clients happens all the time.
            `--max-connection-age=${connectionAge}`,
            '--max-connection-age-grace=1s',
          ],
          readyText: 'ready to serve client requests',
        }),
    );
    const endpoints = ports.map((port) => `127.0.0.1:${port}`);
    const fleet = new Fleet(gateways, endpoints, prng, onLine);
    await Promise.all(gateways.slice(0, 2).map((gateway) => fleet.up(gateway)));
    return fleet;
  }

  private constructor(
    gateways: readonly Child[],
    endpoints: readonly string[],
    prng: Prng,
    onLine: (line: string) => void,
  ) {
    this.gateways = gateways;
    this.endpoints = endpoints;
    this.prng = prng;
    this.onLine = onLine;
  }

  /** Kills, stops and starts gateways by turns of chance until the time is over. */
  async churn(ms: number): Promise<void> {
    const untilMs = performance.now() + ms;
    while (performance.now() < untilMs) {
      await pause(actionMeanMs * (0.25 + this.prng.float() * 1.5));
      const down = this.gateways.filter((gateway) => !gateway.running);
      const up = [...this.ready];
      const adds = down.length > 0 && (up.length < 2 || this.prng.u32() % 2 === 0);
      if (adds) await this.up(this.pick(down));
      else if (up.length > 1) await this.down(this.pick(up));
    }
  }

  async stop(): Promise<void> {
    await Promise.all(this.gateways.map((gateway) => gateway.stop()));
  }

  private pick(among: readonly Child[]): Child {
    return among[this.prng.u32() % among.length]!;
  }

  private async up(gateway: Child): Promise<void> {
    this.starts++;
    this.onLine(`start ${gateway.name}`);
    gateway.start();
    await gateway.ready(readyMs);
    this.ready.add(gateway);
  }

  private async down(gateway: Child): Promise<void> {
    this.ready.delete(gateway);
    const isKill = this.prng.u32() % 2 === 0;
    if (isKill) this.kills++;
    else this.stops++;
    this.onLine(`${isKill ? 'kill' : 'stop'} ${gateway.name}`);
    if (isKill) await gateway.kill();
    else await gateway.stop();
  }
}

interface Written {
  readonly value: string;
  readonly revision: bigint;
}

const prefix = 'fleet/';

/** Clients that write, read and watch through whichever gateway is there. */
class Work {
  private readonly clients: readonly Client[];
  private readonly endpoints: readonly string[];
  private readonly written = new Map<string, Written>();
  private readonly running: Promise<void>[] = [];
  private readonly watching: Promise<void>[] = [];
  private readonly seen: bigint[][] = [[], []];
  private readonly retries: Record<string, number> = {};
  private readonly wrong: string[] = [];
  private puts = 0;
  private gets = 0;
  private writing = true;
  private closed = false;

  constructor(endpoints: readonly string[], writers: number) {
    this.endpoints = endpoints;
    // Each client begins elsewhere, as clients behind a balancer do.
    this.clients = Array.from({ length: writers }, (_, i) => new Client({ endpoints: this.turned(i) }));
    for (const [i, client] of this.clients.entries()) this.running.push(this.use(i, client));
    for (const [i, events] of this.seen.entries()) {
      const watcher = this.clients[i]!.watch.watch(prefix, { prefix: true, startRevision: 1 });
      this.watching.push(
        (async () => {
          for await (const { events: batch } of watcher) {
            for (const { kv } of batch) events.push(kv!.modRevision);
          }
        })().catch((error: Error) => void (this.closed || this.wrong.push(`watch ended: ${error.message}`))),
      );
    }
  }

  /** Ends the load, waits until watchers have all of it, and looks at what is there. */
  async settle(): Promise<void> {
    this.writing = false;
    await Promise.all(this.running);
    const client = this.clients[0]!;
    const { kvs } = await this.again(() => client.kv.get(prefix, { prefix: true }));
    const total = kvs.reduce((sum, { version }) => sum + version, 0n);
    const there = new Map(kvs.map((kv) => [Buffer.from(kv.key).toString(), kv]));
    for (const [key, { value, revision }] of this.written) {
      const kv = there.get(key);
      const found = kv === undefined ? 'nothing' : Buffer.from(kv.value).toString();
      if (found !== value) this.wrong.push(`${key}: acknowledged ${value} at ${revision}, found ${found}`);
    }
    for (let tries = 0; tries < 200 && this.seen.some((events) => BigInt(events.length) < total); tries++)
      await pause(50);
    for (const [i, events] of this.seen.entries()) {
      if (BigInt(events.length) !== total)
        this.wrong.push(`watcher ${i}: ${events.length} events, ${total} writes`);
      const at = events.findIndex((revision, n) => n > 0 && revision <= events[n - 1]!);
      if (at > 0) this.wrong.push(`watcher ${i}: revision ${events[at]} after ${events[at - 1]}`);
    }
  }

  report(): Omit<FleetReport, 'kills' | 'stops' | 'starts'> {
    const { puts, gets, retries, wrong } = this;
    return { puts, gets, retries, wrong, events: this.seen[0]!.length };
  }

  close(): void {
    this.writing = false;
    this.closed = true;
    for (const client of this.clients) client.close();
  }

  private turned(by: number): string[] {
    const at = by % this.endpoints.length;
    return [...this.endpoints.slice(at), ...this.endpoints.slice(0, at)];
  }

  private async use(writer: number, client: Client): Promise<void> {
    for (let n = 1; this.writing; n++) {
      const key = `${prefix}${writer}/${n % 10}`;
      const value = String(n);
      try {
        const { header } = await this.again(() => client.kv.put(key, value));
        this.written.set(key, { value, revision: header!.revision });
        this.puts++;
        const { kvs } = await this.again(() => client.kv.get(key));
        this.gets++;
        const found = Buffer.from(kvs[0]?.value ?? []).toString();
        if (found !== value) this.wrong.push(`${key}: read ${found} after ${value} was acknowledged`);
      } catch (error) {
        this.wrong.push(`${key}: ${(error as Error).message}`);
      }
      await pause(5);
    }
  }

  /** Unavailable, as a gateway that goes says: the same again, which for these puts does no harm. */
  private async again<T>(ask: () => Promise<T>): Promise<T> {
    for (let attempt = 1; ; attempt++) {
      try {
        return await ask();
      } catch (error) {
        const isUnavailable = error instanceof EtcdError && error.code === Code.unavailable;
        if (!isUnavailable || attempt === attempts) throw error;
        this.retries[error.message] = (this.retries[error.message] ?? 0) + 1;
        await pause(attemptPauseMs);
      }
    }
  }
}
