/** A watching client, and what it ought to have seen. */
import { create, fromBinary, type MessageInitShape, toBinary } from '@bufbuild/protobuf';
import { latin1, utf8 } from '@quoin/base';
import {
  EventSchema,
  type WatchCreateRequestSchema,
  WatchRequestSchema,
  type WatchResponse,
  WatchResponseSchema,
} from '@quoin/contracts/etcd';
import type { Gateway } from '@quoin/gateway';
import { inRange, type Model, type ModelEvent } from './fake-cluster.ts';
import { contextOf, TestStream } from './world.ts';

export type CreateInit = MessageInitShape<typeof WatchCreateRequestSchema>;

export class WatchClient {
  readonly stream: TestStream;
  readonly responses: WatchResponse[] = [];
  onResponse: (response: WatchResponse) => void = () => undefined;

  constructor(gateway: Gateway, metadata: Record<string, string> = {}, highWaterBytes?: number) {
    this.stream = new TestStream(highWaterBytes);
    this.stream.onReceive = (bytes) => {
      const response = fromBinary(WatchResponseSchema, bytes);
      this.responses.push(response);
      this.onResponse(response);
    };
    gateway.stream('/etcdserverpb.Watch/Watch', contextOf(metadata), this.stream);
  }

  create(request: CreateInit): void {
    this.send({ requestUnion: { case: 'createRequest', value: request } });
  }

  cancel(watchId: bigint): void {
    this.send({ requestUnion: { case: 'cancelRequest', value: { watchId } } });
  }

  progress(): void {
    this.send({ requestUnion: { case: 'progressRequest', value: {} } });
  }

  send(init: MessageInitShape<typeof WatchRequestSchema>): void {
    this.stream.onMessage(toBinary(WatchRequestSchema, create(WatchRequestSchema, init)));
  }

  /** Responses since the last call. */
  take(): WatchResponse[] {
    return this.responses.splice(0);
  }
}

/** Revision, kind and key of each event, as text. */
export function eventTexts(responses: readonly WatchResponse[]): string[] {
  return responses.flatMap((response) =>
    response.events.map((e) => `${e.kv!.modRevision}${e.type === 0 ? '+' : '-'}${latin1(e.kv!.key)}`),
  );
}

/** What the client keeps of one watcher, checked against the model. */
export class Follower {
  readonly request: CreateInit;
  id: bigint | undefined;
  /** First revision wanted. */
  from = 0;
  readonly events: string[] = [];
  lastRevision = 0;
  compactRevision = 0;
  ended = false;
  cancelAsked = false;

  constructor(request: CreateInit) {
    this.request = request;
  }

  /** Throws when a response is not what etcd promises. */
  take(response: WatchResponse, model: Model): void {
    const revision = Number(response.header!.revision);
    if (response.created) {
      if (this.from !== 0) throw new Error('created twice');
      const start = Number(this.request.startRevision ?? 0n);
      this.from = start > 0 ? start : revision + 1;
      return;
    }
    if (this.from === 0) throw new Error('events before created');
    // The end crossed the client's own wish for it: as with etcd, that is answered, too.
    if (this.ended && this.cancelAsked && response.canceled) {
      this.cancelAsked = false;
      return;
    }
    if (this.ended) throw new Error('response after the end');
    if (response.canceled) {
      this.ended = true;
      this.compactRevision = Number(response.compactRevision);
      return;
    }
    if (response.events.length === 0) {
      this.checkComplete(model, revision);
      return;
    }
    const first = Number(response.events[0]!.kv!.modRevision);
    if (first <= this.lastRevision) throw new Error(`revision ${first} split or repeated`);
    for (const event of response.events) this.events.push(`${this.text(event, model)}`);
    this.lastRevision = Number(response.events.at(-1)!.kv!.modRevision);
    if (revision < this.lastRevision) throw new Error('header behind its events');
  }

  /** Every wanted event up to `revision` is there, and none besides. */
  checkComplete(model: Model, revision: number): void {
    const wanted = this.wanted(model, revision);
    const got = this.events.map((text) => text.split(' ')[0]);
    if (JSON.stringify(wanted) !== JSON.stringify(got)) {
      throw new Error(`at ${revision} wanted ${wanted.join(',')} got ${got.join(',')} from ${this.from}`);
    }
  }

  wanted(model: Model, upTo: number): string[] {
    const { key = utf8(''), rangeEnd = utf8(''), filters = [] } = this.request;
    const out: string[] = [];
    for (let revision = this.from; revision <= Math.min(upTo, model.revision); revision++) {
      for (const event of model.events[revision] ?? []) {
        if (!inRange(event.key, key, rangeEnd) || filters.includes(event.put ? 0 : 1)) continue;
        out.push(`${revision}${event.put ? '+' : '-'}${latin1(event.key)}`);
      }
    }
    return out;
  }

  private text(event: WatchResponse['events'][number], model: Model): string {
    const revision = Number(event.kv!.modRevision);
    const key = latin1(event.kv!.key);
    const original = model.events[revision]!.find((each: ModelEvent) => latin1(each.key) === key)!;
    const kv = fromBinary(EventSchema, toBinary(EventSchema, event));
    if (this.request.prevKv !== true && kv.prevKv !== undefined) throw new Error('prev_kv not asked for');
    if (this.request.prevKv === true && kv.prevKv === undefined) {
      // Only what is compacted may be missing.
      const kept = revision - 1 >= model.compactRevision;
      if (original.prevKv !== undefined && kept) throw new Error(`prev_kv missing at ${revision}`);
    }
    return `${revision}${event.type === 0 ? '+' : '-'}${key}`;
  }
}
