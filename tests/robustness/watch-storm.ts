/**
 * Very many watchers under writers at full rate, on streams that stay open all the time. Keys are never deleted, so the
 * version of each event says whether one is missing or comes twice; some txns change two keys in one revision, so that a
 * split revision shows.
 *
 *   writers ──put, txn of two──► keys w/0000 … ──► watchers of one key each, several on each key
 *                                              └─► a few watchers of all keys: with prev_kv, fragments, progress, a slow one
 */
import { create, toBinary } from '@bufbuild/protobuf';
import type * as grpc from '@grpc/grpc-js';
import { KeyValueView, readEvent, WireReader } from '@quoin/contracts';
import { WatchRequestSchema } from '@quoin/contracts/etcd';
import { etcd } from '@quoin/sim';
import { dial, plain, view } from './clients.ts';

export interface StormOptions {
  readonly endpoints: readonly string[];
  /** Of one key each. */
  readonly watchers: number;
  readonly keys: number;
  readonly writers: number;
}

export interface StormTotals {
  readonly writes: number;
  readonly failedWrites: number;
  readonly events: number;
  /** Monotonic ms of each acknowledged write. */
  readonly writesAtMs: readonly number[];
}

const watchPath = '/etcdserverpb.Watch/Watch';
/** Watchers on one stream. */
const perStream = 50;
/** Payload of each value. */
const valueBytes = 64;
const wholeRangeKinds = 5;
const pairShare = 4;
const writeTimeoutMs = 15_000;
const retryPauseMs = 20;
const slowReadMs = 200;

const keyOf = (n: number): string => `w/${String(n).padStart(4, '0')}`;
const zero = new Uint8Array(0);

/** What one watcher has been told. */
class Watcher {
  readonly name: string;
  /** By key: the version that was told last. */
  readonly versions = new Map<string, number>();
  revision = 0;
  /** The last response ended within a revision that goes on. */
  private inFragment = false;

  constructor(name: string) {
    this.name = name;
  }

  /** What is wrong with a response; undefined: nothing. */
  take(events: readonly Uint8Array[], fragment: boolean): string | undefined {
    const before = this.revision;
    for (const [i, bytes] of events.entries()) {
      const { type, kv } = readEvent(bytes);
      const pair = eventView.read(kv);
      const key = Buffer.from(pair.key()).toString('latin1');
      const { modRevision, version } = pair;
      const last = this.versions.get(key) ?? 1;
      if (type !== 0) return `${this.name}: ${key} was deleted`;
      if (version !== last + 1)
        return `${this.name}: ${key} goes from version ${last} to ${version} at ${modRevision}`;
      if (modRevision < this.revision) return `${this.name}: revision ${modRevision} after ${this.revision}`;
      if (i === 0 && modRevision === before && !this.inFragment)
        return `${this.name}: revision ${modRevision} is split over two responses`;
      this.versions.set(key, version);
      this.revision = modRevision;
    }
    this.inFragment = fragment;
    return undefined;
  }
}

const eventView = new KeyValueView();

interface OpenStream {
  readonly call: grpc.ClientDuplexStream<Uint8Array, Uint8Array>;
  readonly watchers: Map<bigint, Watcher>;
}

export class WatchStorm {
  /** Whatever a watcher must not be told; empty: nothing was. */
  readonly problems: string[] = [];
  private readonly options: StormOptions;
  private readonly clients: grpc.Client[] = [];
  private readonly streams: OpenStream[] = [];
  private readonly watchers: { readonly watcher: Watcher; readonly keys: readonly string[] }[] = [];
  private readonly writing: Promise<void>[] = [];
  private readonly writesAtMs: number[] = [];
  private failedWrites = 0;
  private events = 0;
  private created = 0;
  private stopped = false;
  private closed = false;

  constructor(options: StormOptions) {
    this.options = options;
  }

  /** Every key is there, every watcher has been created, and writers are at work. */
  async start(): Promise<void> {
    const { keys, writers, endpoints } = this.options;
    const first = this.connect(0);
    for (let n = 0; n < keys; n++) await put(first, etcd.putRequest(keyOf(n), 'v'));
    this.openAll();
    for (let tries = 0; this.created < this.watchers.length; tries++) {
      if (tries > 1_000 || this.problems.length > 0)
        throw new Error(`${this.created} watchers created: ${this.problems[0]}`);
      await sleep(20);
    }
    const through = endpoints.map((_, i) => this.connect(i));
    for (let w = 0; w < writers; w++) this.writing.push(this.write(w, through));
  }

  get totals(): StormTotals {
    const { writesAtMs, failedWrites, events } = this;
    return { writes: writesAtMs.length, failedWrites, events, writesAtMs };
  }

  /** No more writes; waits until every watcher has been told of all there were. Who has not, in time, is a problem. */
  async settle(withinMs: number): Promise<void> {
    this.stopped = true;
    await Promise.all(this.writing);
    const versions = await this.versions();
    const limitMs = performance.now() + withinMs;
    const behind = (): string[] =>
      this.watchers.flatMap(({ watcher, keys }) =>
        keys
          .filter((key) => (watcher.versions.get(key) ?? 1) !== versions.get(key))
          .map((key) => `${watcher.name}: ${key} at ${watcher.versions.get(key)} of ${versions.get(key)}`),
      );
    let left = behind();
    while (left.length > 0 && this.problems.length === 0 && performance.now() < limitMs) {
      await sleep(100);
      left = behind();
    }
    this.problems.push(...left);
  }

  close(): void {
    this.stopped = true;
    this.closed = true;
    for (const { call } of this.streams) call.cancel();
    for (const client of this.clients) client.close();
  }

  private openAll(): void {
    const { watchers, keys } = this.options;
    let stream: OpenStream | undefined;
    for (let n = 0; n < watchers; n++) {
      if (n % perStream === 0) stream = this.openStream(n / perStream);
      const key = keyOf(n % keys);
      this.create(stream!, `watcher ${n}`, [key], { key });
    }
    const all = Array.from({ length: keys }, (_, n) => keyOf(n));
    for (let kind = 0; kind < wholeRangeKinds; kind++) {
      const own = this.openStream(kind);
      const more = { prevKv: kind === 1, fragment: kind === 2, progressNotify: kind === 3 };
      this.create(own, `watcher of all keys, ${kind}`, all, { key: 'w/', rangeEnd: 'w0', ...more });
      if (kind === 4) this.readSlowly(own.call);
    }
  }

  private create(stream: OpenStream, name: string, keys: readonly string[], wanted: Wanted): void {
    const watcher = new Watcher(name);
    const watchId = BigInt(stream.watchers.size + 1);
    stream.watchers.set(watchId, watcher);
    this.watchers.push({ watcher, keys });
    const { key, rangeEnd = '', ...more } = wanted;
    const value = { ...more, key: Buffer.from(key), rangeEnd: Buffer.from(rangeEnd), watchId };
    const request = create(WatchRequestSchema, { requestUnion: { case: 'createRequest', value } });
    stream.call.write(toBinary(WatchRequestSchema, request));
  }

  private openStream(n: number): OpenStream {
    const call = this.connect(n).makeBidiStreamRequest(watchPath, plain, view);
    const stream: OpenStream = { call, watchers: new Map() };
    call.on('data', (response: Uint8Array) => this.take(stream, response));
    const over = (how: string) => (): void => {
      if (!this.closed) this.problems.push(`a stream ${how}`);
    };
    call.on('error', (error) => over(`ended: ${error.message}`)());
    call.on('end', over('was ended'));
    this.streams.push(stream);
    return stream;
  }

  private take({ watchers }: OpenStream, response: Uint8Array): void {
    const { id, created, canceled, fragment, events } = readResponse(response);
    const watcher = watchers.get(id);
    if (watcher === undefined || canceled) {
      this.problems.push(`watch ${id}: ${canceled ? 'canceled' : 'nobody has it'}`);
      return;
    }
    if (created) this.created++;
    if (events.length === 0) return;
    this.events += events.length;
    const problem = watcher.take(events, fragment);
    if (problem !== undefined) this.problems.push(problem);
  }

  /** A client that stops reading again and again: its watch falls behind and catches up. */
  private readSlowly(call: OpenStream['call']): void {
    call.pause();
    setTimeout(() => {
      call.resume();
      if (!this.stopped) setTimeout(() => this.readSlowly(call), slowReadMs / 4);
    }, slowReadMs);
  }

  private async write(writer: number, through: readonly grpc.Client[]): Promise<void> {
    const { keys, writers } = this.options;
    const filler = 'x'.repeat(valueBytes);
    for (let n = writer; !this.stopped; n += writers) {
      const client = through[n % through.length]!;
      const [a, b] = [keyOf((n * 7919) % keys), keyOf((n * 7919 + 1) % keys)];
      try {
        if (n % pairShare === 0) await txn(client, etcd.txnRequest([], [putOp(a, filler), putOp(b, filler)]));
        else await put(client, etcd.putRequest(a, filler));
        this.writesAtMs.push(performance.now());
      } catch {
        // Whether it happened the watchers will be told; all that counts is that they are told the same.
        this.failedWrites++;
        await sleep(retryPauseMs);
      }
    }
  }

  private async versions(): Promise<Map<string, number>> {
    const answer = await unary(
      this.connect(0),
      '/etcdserverpb.KV/Range',
      etcd.rangeRequest('w/', { end: 'w0' }),
    );
    return new Map(etcd.readKvs(answer).map(({ key, version }) => [key, version]));
  }

  private connect(n: number): grpc.Client {
    const { endpoints } = this.options;
    const client = dial(endpoints[n % endpoints.length]!);
    this.clients.push(client);
    return client;
  }
}

interface Wanted {
  readonly key: string;
  readonly rangeEnd?: string;
  readonly prevKv?: boolean;
  readonly fragment?: boolean;
  readonly progressNotify?: boolean;
}

const putOp = (key: string, value: string): Uint8Array => etcd.putOp(etcd.putRequest(key, value));

interface Response {
  readonly id: bigint;
  readonly created: boolean;
  readonly canceled: boolean;
  readonly fragment: boolean;
  readonly events: readonly Uint8Array[];
}

function readResponse(bytes: Uint8Array): Response {
  const reader = new WireReader(bytes);
  const events: Uint8Array[] = [];
  const out = { id: 0n, created: false, canceled: false, fragment: false, events };
  while (reader.more()) {
    const tag = reader.tag();
    if (tag === 16) out.id = BigInt(reader.int53());
    else if (tag === 24) out.created = reader.bool();
    else if (tag === 32) out.canceled = reader.bool();
    else if (tag === 56) out.fragment = reader.bool();
    else if (tag === 90) events.push(reader.bytes());
    else reader.skip(tag);
  }
  return out;
}

function unary(client: grpc.Client, path: string, request: Uint8Array): Promise<Uint8Array> {
  return new Promise((resolve, reject) => {
    const options = { deadline: Date.now() + writeTimeoutMs };
    client.makeUnaryRequest(path, plain, view, request, options, (error, body) => {
      if (error === null) resolve(body ?? zero);
      else reject(error);
    });
  });
}

const put = (client: grpc.Client, request: Uint8Array): Promise<Uint8Array> =>
  unary(client, '/etcdserverpb.KV/Put', request);
const txn = (client: grpc.Client, request: Uint8Array): Promise<Uint8Array> =>
  unary(client, '/etcdserverpb.KV/Txn', request);

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
