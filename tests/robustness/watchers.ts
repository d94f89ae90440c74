/** Watchers that follow a range over every break, for the whole run, and record each response. */
import { create, toBinary } from '@bufbuild/protobuf';
import type * as grpc from '@grpc/grpc-js';
import type { Prng } from '@quoin/base';
import { type Client, CompactedError, EtcdError } from '@quoin/client';
import {
  WatchCreateRequest_FilterType,
  WatchRequestSchema,
  WatchResponseSchema,
} from '@quoin/contracts/etcd';
import { etcd, type WatchSpec, watchFlags } from '@quoin/sim';
import { dial, plain, view } from './clients.ts';
import type { Recorder } from './recorder.ts';

export interface Follower {
  readonly name: string;
  /** Everything below it has been told; 0: not begun. */
  readonly next: number;
  /** Something that a server must not say. */
  readonly problem: string | undefined;
  /** No more fidgeting: only to be up to date. */
  settle(): void;
  askProgress(): void;
  close(): void;
}

const path = '/etcdserverpb.Watch/Watch';
const reopenMeanMs = 30;
const fidgetMeanMs = 400;
const eventTag = 90;
const fragmentTag = 56;

type Call = grpc.ClientDuplexStream<Uint8Array, Uint8Array>;

/** Speaks the stream itself, with fragments. Now and then asks for progress, stops reading, or goes elsewhere. */
export class StreamFollower implements Follower {
  readonly name: string;
  next: number;
  problem: string | undefined = undefined;
  private readonly spec: WatchSpec;
  private readonly recorder: Recorder;
  private readonly prng: Prng;
  private readonly clients: readonly grpc.Client[];
  private call: Call | undefined;
  private settled = false;
  private closed = false;

  constructor(
    name: string,
    spec: WatchSpec,
    recorder: Recorder,
    prng: Prng,
    endpoints: readonly string[],
    start = 0,
  ) {
    this.name = name;
    this.spec = spec;
    this.recorder = recorder;
    this.prng = prng;
    this.next = start;
    this.clients = endpoints.map(dial);
    recorder.watchers.set(name, spec);
    this.open();
  }

  settle(): void {
    this.settled = true;
    this.call?.resume();
  }

  askProgress(): void {
    this.call?.write(progressRequest);
  }

  close(): void {
    this.closed = true;
    this.call?.cancel();
    for (const client of this.clients) client.close();
  }

  private open(): void {
    if (this.closed) return;
    const { spec, recorder, prng, next: start } = this;
    const call = prng.pick(this.clients).makeBidiStreamRequest(path, plain, view);
    this.call = call;
    recorder.watch('watchOpen', this.name, undefined, start);
    call.on('data', (response: Uint8Array) => this.take(call, response, start));
    const over = (): void => {
      if (call !== this.call) return;
      this.call = undefined;
      call.cancel();
      setTimeout(() => this.open(), reopenMeanMs * 2 * prng.float());
    };
    call.on('error', over);
    call.on('end', over);
    call.write(createRequest(spec, start, prng.chance(0.5)));
    this.fidget(call);
  }

  private take(call: Call, response: Uint8Array, start: number): void {
    if (call !== this.call) return;
    const { recorder, name } = this;
    const { created, canceled, reason } = watchFlags(response);
    if (canceled) {
      recorder.watch('watchCanceled', name, response);
      const compactRevision = Number(etcd.varint(response, 40));
      if (compactRevision > 0) this.next = compactRevision;
      // What a gateway says that stops, or whose members are gone.
      else if (reason !== '' && !/no leader|canceled/.test(reason)) this.problem = `was cancelled: ${reason}`;
      call.emit('end');
      return;
    }
    const { revision } = etcd.readHeader(response);
    if (created) {
      recorder.watch('watchCreated', name, response, start);
      if (this.next === 0) this.next = revision + 1;
      return;
    }
    recorder.watch('watch', name, response);
    const events = etcd.fields(response, eventTag);
    if (events.length === 0) {
      this.next = Math.max(this.next, revision + 1);
      return;
    }
    const last = lastRevision(events);
    // More of this revision may come: after a break it is asked for whole.
    this.next = etcd.varint(response, fragmentTag) === 1n ? last : last + 1;
  }

  private fidget(call: Call): void {
    const { prng } = this;
    setTimeout(
      () => {
        if (call !== this.call || this.settled) return;
        const kind = prng.below(10);
        if (kind < 5) {
          this.askProgress();
        } else if (kind < 7) {
          call.pause();
          setTimeout(() => call.resume(), fidgetMeanMs * 2 * prng.float());
        } else if (kind < 8) {
          call.emit('end');
          return;
        }
        this.fidget(call);
      },
      fidgetMeanMs * 2 * prng.float(),
    );
  }
}

function lastRevision(events: readonly Uint8Array[]): number {
  const kv = etcd.field(events.at(-1)!, 18);
  return etcd.readKv(kv!).modRevision;
}

const progressRequest = toBinary(
  WatchRequestSchema,
  create(WatchRequestSchema, { requestUnion: { case: 'progressRequest', value: {} } }),
);

function createRequest(spec: WatchSpec, startRevision: number, progressNotify: boolean): Uint8Array {
  const filters = [
    ...(spec.noPut ? [WatchCreateRequest_FilterType.NOPUT] : []),
    ...(spec.noDelete ? [WatchCreateRequest_FilterType.NODELETE] : []),
  ];
  const value = {
    key: Buffer.from(spec.key),
    rangeEnd: Buffer.from(spec.end),
    startRevision: BigInt(startRevision),
    progressNotify,
    filters,
    prevKv: spec.prevKv,
    fragment: spec.fragment,
  };
  return toBinary(
    WatchRequestSchema,
    create(WatchRequestSchema, { requestUnion: { case: 'createRequest', value } }),
  );
}

/** The TypeScript client's watch: breaks are its own business, fragments arrive joined. */
export class LibraryFollower implements Follower {
  readonly name: string;
  next = 0;
  problem: string | undefined = undefined;
  private readonly spec: WatchSpec;
  private readonly recorder: Recorder;
  private readonly client: Client;
  private closed = false;

  constructor(name: string, spec: WatchSpec, recorder: Recorder, client: Client) {
    this.name = name;
    this.spec = { ...spec, fragment: false };
    this.recorder = recorder;
    this.client = client;
    recorder.watchers.set(name, this.spec);
    void this.follow();
  }

  settle(): void {}

  askProgress(): void {
    this.client.watch.requestProgress();
  }

  close(): void {
    this.closed = true;
    this.client.close();
  }

  private async follow(): Promise<void> {
    while (!this.closed) {
      try {
        await this.once();
      } catch (error) {
        if (error instanceof CompactedError) this.compacted(error);
        else if (!(error instanceof EtcdError)) throw error;
        else if (!this.closed) this.problem = `ended: ${error.message}`;
      }
    }
  }

  private compacted({ compactRevision }: CompactedError): void {
    const response = create(WatchResponseSchema, { canceled: true, compactRevision });
    this.recorder.watch('watchCanceled', this.name, toBinary(WatchResponseSchema, response));
    this.next = Number(compactRevision);
  }

  private async once(): Promise<void> {
    const { spec, recorder, name, next: start } = this;
    recorder.watch('watchOpen', name, undefined, start);
    const watcher = this.client.watch.watch(Buffer.from(spec.key), {
      ...(spec.end === '' ? {} : { rangeEnd: Buffer.from(spec.end) }),
      startRevision: start,
      prevKv: spec.prevKv,
      noPut: spec.noPut,
      noDelete: spec.noDelete,
      progressNotify: true,
    });
    const created = await watcher.created;
    recorder.watch('watchCreated', name, toBinary(WatchResponseSchema, created), start);
    if (this.next === 0) this.next = Number(created.header!.revision) + 1;
    for await (const response of watcher) {
      recorder.watch('watch', name, toBinary(WatchResponseSchema, response));
      const last = response.events.at(-1)?.kv?.modRevision ?? response.header!.revision;
      this.next = Math.max(this.next, Number(last) + 1);
    }
  }
}
