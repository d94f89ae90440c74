/** Random requests against a Store and the model, with turns, crashes, compactions, readers and feeds in between. */
import { BufferPool, compareBytes, latin1, Prng } from '@quoin/base';
import { uintSize } from '@quoin/contracts';
import {
  type Backend,
  type EventFeed,
  type EventRevision,
  type RangeOptions,
  type RangeReader,
  Store,
  type StoreOptions,
  type WriteTxn,
} from '@quoin/mvcc';
import { expect } from 'vitest';
import { eventBytes, kvBytes, Model, type ModelRange } from './store-model.ts';

type Op =
  | { type: 'put'; key: Uint8Array; value: Uint8Array; lease: bigint }
  | { type: 'delete'; key: Uint8Array; rangeEnd: Uint8Array };
export type Request =
  | { type: 'txn'; ops: Op[] }
  | { type: 'compact'; revision: number }
  | { type: 'record'; table: number; key: Uint8Array; value: Uint8Array | null };

interface OpenReader {
  readonly reader: RangeReader;
  readonly expected: ModelRange;
  readonly note: string;
  readonly options: RangeOptions;
  /** Which revision it is of. */
  readonly revision: number;
  /** Of a second reader: the pairs, and how many bytes the first one has counted for them. */
  readonly passed?: Uint8Array[];
  readonly first?: number;
}

export interface RunOptions extends StoreOptions {
  readonly seed: number;
  readonly turns: number;
  /** Ends the process: what was not flushed may go, as a suffix. Undefined: no crashes. */
  readonly crash: ((backend: Backend, prng: Prng) => Backend) | undefined;
  readonly largeValues: boolean;
  /** 1: five keys with many versions each. */
  readonly keyBytesMax: number;
}

const hex = (bytes: Uint8Array): string =>
  Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('hex');

const alphabet = [0x00, 0x01, 0x61, 0x62, 0xff];
const leases = [0n, 0n, 0n, 7n, -5n, 0x7fff_ffff_ffff_ffffn];

export class Run {
  readonly prng: Prng;
  readonly model = new Model();
  /** Entry i of the log is index i + 1. */
  readonly log: Request[] = [];
  store: Store;
  backend: Backend;
  private readonly options: RunOptions;
  private feeds: FeedCheck[] = [];
  private readers: OpenReader[] = [];
  /** Small: a pair may be too large for one, and a range needs several. */
  private readonly slabs = new BufferPool(128, 2);

  constructor(backend: Backend, options: RunOptions) {
    this.prng = new Prng(options.seed);
    this.options = options;
    this.backend = backend;
    this.store = Store.open(backend, options);
  }

  go(): void {
    for (let turn = 0; turn < this.options.turns; turn++) this.turn();
    this.finishReaders();
    for (const feed of this.feeds) feed.drain();
    while (this.store.compactionStep(50) === 'more');
    expect(this.store.compactionFinished).toBe(true);
    expect(this.store.storedBytes).toBe(this.model.storedBytes);
    for (let i = 0; i < 30; i++) this.checkRange(this.store);
    this.checkWhole();
  }

  private turn(): void {
    const { prng } = this;
    for (let n = prng.below(4); n >= 0; n--) {
      const request = this.request();
      this.log.push(request);
      this.apply(request, true);
      if (prng.chance(0.3)) this.checkRange(this.store);
    }
    this.store.commit(this.log.length, 1);
    this.checkWhole();
    for (let n = prng.below(4); n > 0; n--) this.checkRange(this.store);
    if (prng.chance(0.3)) this.checkHistory();
    this.moveReaders();
    this.moveFeeds();
    if (prng.chance(0.15)) this.checkHash();
    if (prng.chance(0.5)) this.store.compactionStep(1 + prng.below(40));
    if (prng.chance(0.3)) this.store.warm(1 + prng.below(5));
    if (prng.chance(0.1)) this.store.materialise(prng.below(20));
    if (this.options.crash !== undefined && prng.chance(0.04)) this.crash();
  }

  /** Sliced; between slices removal is tried, which has to wait. */
  private checkHash(): void {
    const { prng, model, store } = this;
    const low = Math.max(1, model.compactRevision);
    const revision = prng.chance(0.3) ? 0 : low + prng.below(model.revision + 1 - low);
    const hasher = store.kvHasher(revision);
    if (typeof hasher === 'string') throw new Error(hasher);
    while (!hasher.step()) if (prng.chance(0.1)) store.compactionStep(20);
    expect([revision, hasher.hash()]).toEqual([
      revision,
      model.hashKv(revision === 0 ? model.revision : revision),
    ]);
    hasher.close();
  }

  private crash(): void {
    this.finishReaders();
    for (const feed of this.feeds) feed.drain();
    this.feeds = [];
    this.backend = this.options.crash!(this.backend, this.prng);
    this.store = Store.open(this.backend, this.options);
    for (let i = this.store.appliedIndex; i < this.log.length; i++) {
      this.apply(this.log[i]!, false);
      if (this.prng.chance(0.5)) this.store.commit(i + 1, 1);
    }
    this.store.commit(this.log.length, 1);
    this.checkWhole();
  }

  /** A replayed request is not applied to the model again. */
  private apply(request: Request, isNew: boolean): void {
    applyTo(this.store, request, isNew ? this.model : undefined);
  }

  private request(): Request {
    const { prng, model } = this;
    if (prng.chance(0.08)) {
      const low = Math.max(0, model.compactRevision - 1);
      return { type: 'compact', revision: low + prng.below(model.revision + 2 - low) };
    }
    if (prng.chance(0.08)) {
      const value = prng.chance(0.3) ? null : this.bytes(5);
      return { type: 'record', table: prng.below(3), key: this.bytes(3), value };
    }
    const ops: Op[] = [];
    for (let n = prng.chance(0.3) ? 1 + prng.below(6) : 1; n > 0; n--) ops.push(this.op());
    return { type: 'txn', ops };
  }

  private op(): Op {
    const { prng } = this;
    if (prng.chance(0.75)) {
      return { type: 'put', key: this.key(), value: this.value(), lease: prng.pick(leases) };
    }
    const key = this.key();
    if (prng.chance(0.7)) return { type: 'delete', key, rangeEnd: new Uint8Array(0) };
    return { type: 'delete', key, rangeEnd: prng.chance(0.1) ? Uint8Array.of(0) : this.key() };
  }

  private key(): Uint8Array {
    const out = new Uint8Array(1 + this.prng.below(this.options.keyBytesMax));
    for (let i = 0; i < out.length; i++) out[i] = this.prng.pick(alphabet);
    return out;
  }

  private value(): Uint8Array {
    if (this.options.largeValues && this.prng.chance(0.15))
      return this.bytes(this.prng.chance(0.1) ? 70_000 : 2500);
    return this.bytes(40);
  }

  private bytes(max: number): Uint8Array {
    const out = new Uint8Array(this.prng.below(max + 1));
    for (let i = 0; i < out.length; i++) out[i] = this.prng.u32();
    return out;
  }

  private rangeOptions(): RangeOptions {
    const { prng, model } = this;
    const bound = (): number | undefined =>
      prng.chance(0.8) ? undefined : prng.below(model.revision + 3) - 1;
    const low = Math.max(0, model.compactRevision - 1);
    return {
      key: prng.chance(0.3) ? Uint8Array.of(0) : this.key(),
      rangeEnd: prng.chance(0.25) ? undefined : prng.chance(0.5) ? Uint8Array.of(0) : this.key(),
      revision: prng.chance(0.4) ? 0 : low + prng.below(model.revision + 2 - low),
      limit: prng.chance(0.5) ? 0 : prng.below(6),
      countOnly: prng.chance(0.1),
      keysOnly: prng.chance(0.2),
      sortOrder: prng.chance(0.6) ? 0 : prng.below(3),
      sortTarget: prng.chance(0.6) ? 0 : prng.below(5),
      minModRevision: bound(),
      maxModRevision: bound(),
      minCreateRevision: bound(),
      maxCreateRevision: bound(),
    };
  }

  private checkRange(on: Store | WriteTxn): void {
    const options = this.rangeOptions();
    expectRange(on.range(options), this.model.range(options), `seed ${this.options.seed} ${show(options)}`);
  }

  private checkWhole(): void {
    const { store, model } = this;
    const note = `seed ${this.options.seed}`;
    expect(store.revision, note).toBe(model.revision);
    expect(store.compactRevision, note).toBe(model.compactRevision);
    expect(store.keysTotal, note).toBe(model.keysTotal);
    const key = this.key();
    const kv = model.get(key);
    expectBytes(store.get(key), kv === undefined ? undefined : kvBytes(kv), note);
    expect(store.meta(key), note).toEqual(
      kv === undefined
        ? undefined
        : {
            createRevision: Number(kv.createRevision),
            modRevision: Number(kv.modRevision),
            version: Number(kv.version),
            lease: kv.lease,
          },
    );
    const lease = this.prng.pick(leases);
    if (lease !== 0n) expect(store.leaseKeys(lease).map(hex), note).toEqual(model.leaseKeys(lease).map(hex));
    const table = this.prng.below(3);
    const records: string[] = [];
    store.scanRecords(table, (k, v) => records.push(`${latin1(k)}=${hex(v)}`));
    const expected = [...model.records].filter(([k]) => k.startsWith(`${table}/`));
    expect(records, note).toEqual(expected.map(([k, v]) => `${k.slice(2)}=${hex(v)}`).sort(byLatin1));
  }

  private checkHistory(): void {
    const { prng, model, store } = this;
    const from = Math.max(1, model.compactRevision) + prng.below(20);
    const to = from + prng.below(40);
    const all = prng.chance(0.5);
    const key = all ? Uint8Array.of(0) : this.key();
    const rangeEnd = all ? Uint8Array.of(0) : prng.chance(0.5) ? new Uint8Array(0) : this.key();
    const prevKv = prng.chance(0.5);
    for (let next = from; next <= to; ) {
      const read = store.history({ key, rangeEnd, from: next, to, prevKv, maxBytes: 1 + prng.below(500) });
      expect(read.compactRevision).toBe(0);
      expect(read.nextRevision).toBeGreaterThan(next);
      const expected: [number, string[]][] = [];
      for (let r = next; r < read.nextRevision && r <= model.revision; r++) {
        const events = (model.events.get(r) ?? []).filter((event) => inRange(event.kv.key, key, rangeEnd));
        const withPrev = prevKv && model.compactRevision <= r - 1;
        if (events.length > 0) expected.push([r, events.map((event) => hex(eventBytes(event, withPrev)))]);
      }
      expect(read.revisions.map((r) => [r.revision, r.events.map(hex)])).toEqual(expected);
      next = read.nextRevision;
    }
    if (model.compactRevision > 1) {
      const options = { key, rangeEnd, from: model.compactRevision - 1, to, prevKv, maxBytes: 0 };
      expect(store.history(options).compactRevision).toBe(model.compactRevision);
    }
  }

  private moveReaders(): void {
    const { prng } = this;
    if (this.readers.length < 3 && prng.chance(0.3)) {
      const options = this.rangeOptions();
      const holdBytes = prng.chance(0.4) ? prng.below(200) : undefined;
      const slabs = prng.chance(0.5) ? this.slabs : undefined;
      const reader = this.store.rangeReader({ ...options, holdBytes, slabs });
      const expected = this.model.range(options);
      if (typeof reader === 'string') expect(reader).toBe(expected);
      else {
        const revision = (options.revision ?? 0) > 0 ? options.revision! : this.store.revision;
        this.readers.push({
          reader,
          expected: expected as ModelRange,
          note: show(options),
          options,
          revision,
        });
      }
    }
    const open = this.readers;
    this.readers = [];
    for (const next of open) {
      if (next.reader.step(1 + prng.below(4))) this.endReader(next);
      else this.readers.push(next);
    }
  }

  /** What was too much to be held is read again, as a member does: opened while the first reader keeps the versions. */
  private endReader(next: OpenReader): void {
    const { reader, expected, note, options, revision, passed, first } = next;
    const where = `seed ${this.options.seed} reader ${note}`;
    if (reader.overflown) {
      expect(reader.result(), where).toMatchObject({ kvs: [], count: expected.count, more: expected.more });
      const kvs: Uint8Array[] = [];
      const sink = (kv: Uint8Array): void => void kvs.push(kv.slice());
      const second = this.store.rangeReader({ ...options, revision, sink });
      if (typeof second === 'string') expect(revision, where).toBeLessThan(this.model.compactRevision);
      else this.readers.push({ ...next, reader: second, passed: kvs, first: reader.itemBytes });
    } else if (passed === undefined) expectRange(reader.result(), expected, where);
    else {
      expectRange({ ...reader.result(), kvs: passed }, expected, where);
      expect(
        passed.reduce((sum, kv) => sum + 1 + uintSize(kv.length) + kv.length, 0),
        where,
      ).toBe(first);
    }
    reader.close();
    reader.release();
  }

  private finishReaders(): void {
    while (this.readers.length > 0) {
      const next = this.readers.pop()!;
      while (!next.reader.step(3));
      this.endReader(next);
    }
  }

  private moveFeeds(): void {
    const { prng, model } = this;
    if (this.feeds.length < 4 && prng.chance(0.15)) {
      const low = Math.max(0, model.compactRevision - 2);
      const from = prng.chance(0.3) ? 0 : low + prng.below(model.revision + 5 - low);
      this.feeds.push(new FeedCheck(this.store, model, from, prng.chance(0.5), prng.below(3000)));
    }
    if (prng.chance(0.5)) this.store.hub.pump(prng.below(2000));
    this.feeds = this.feeds.filter((feed) => {
      if (prng.chance(0.4)) feed.feed.credit(prng.below(4000));
      if (prng.chance(0.5)) feed.feed.pump(1 + prng.below(1500));
      if (!feed.ended && prng.chance(0.03)) {
        feed.drain();
        feed.feed.close();
        return false;
      }
      return !feed.ended;
    });
  }
}

export function applyTo(store: Store, request: Request, model: Model | undefined): void {
  if (request.type === 'compact') {
    const outcome = store.compact(request.revision);
    if (model !== undefined) expect(outcome).toBe(model.compact(request.revision));
    return;
  }
  if (request.type === 'record') {
    const { table, key, value } = request;
    store.putRecord(table, key, value);
    const found = store.getRecord(table, key);
    expectBytes(found, value ?? undefined, 'record');
    if (value === null) model?.records.delete(`${table}/${latin1(key)}`);
    else model?.records.set(`${table}/${latin1(key)}`, value);
    return;
  }
  model?.begin();
  const txn = store.begin();
  for (const op of request.ops) {
    if (op.type === 'put') {
      const prev = txn.put(op.key, op.value, op.lease, true);
      if (model === undefined) continue;
      const old = model.put(op.key, op.value, op.lease);
      expectBytes(prev, old === undefined ? undefined : kvBytes(old), 'prev of put');
    } else {
      const { deleted, prevKvs } = txn.deleteRange(op.key, op.rangeEnd, true);
      if (model === undefined) continue;
      const gone = model.deleteRange(op.key, op.rangeEnd);
      expect(deleted).toBe(gone.length);
      expect(prevKvs.map(hex)).toEqual(gone.map((kv) => hex(kvBytes(kv))));
    }
    if (model !== undefined) {
      const all = { key: Uint8Array.of(0), rangeEnd: Uint8Array.of(0) };
      expectRange(txn.range(all), model.range(all), 'in txn');
      const past = { ...all, revision: model.revision };
      expectRange(txn.range(past), model.range(past), 'past in txn');
    }
  }
  const { changed } = txn.end();
  if (model !== undefined) expect(changed).toBe(model.end());
}

/** A feed that compares all it is given with the model, and never misses or repeats a revision. */
class FeedCheck {
  readonly feed: EventFeed;
  ended = false;
  private next: number;
  private readonly model: Model;
  private readonly prevKv: boolean;

  constructor(store: Store, model: Model, from: number, prevKv: boolean, creditBytes: number) {
    this.model = model;
    this.prevKv = prevKv;
    // Revision 1 is the empty store: it has no events.
    this.next = from > 0 ? Math.max(2, from) : model.revision + 1;
    this.feed = store.hub.subscribe(
      { fromRevision: from, prevKv, creditBytes },
      {
        events: (revisions, upTo) => this.take(revisions, upTo),
        compacted: (compactRevision) => {
          expect(compactRevision).toBe(model.compactRevision);
          expect(this.feed.nextRevision).toBeLessThan(compactRevision);
          this.ended = true;
        },
      },
    );
  }

  /** Everything that is left, at once. */
  drain(): void {
    if (this.ended) return;
    this.feed.credit(1 << 28);
    while (this.feed.pump(1000));
    if (!this.ended) expect(this.next).toBeGreaterThan(this.model.revision);
    expect(this.feed.synced || this.ended).toBe(true);
  }

  private take(revisions: EventRevision[], upTo: number): void {
    expect(this.ended).toBe(false);
    for (const { revision, events } of revisions) {
      expect(revision).toBe(this.next++);
      const expected = this.model.events.get(revision)!;
      expect(events.length).toBe(expected.length);
      events.forEach((event, i) => {
        const full = hex(eventBytes(expected[i]!, this.prevKv));
        if (hex(event) === full) return;
        // prev_kv may be gone once its revision is compacted, and only then.
        expect(this.prevKv && this.model.compactRevision > revision - 1).toBe(true);
        expect(hex(event)).toBe(hex(eventBytes(expected[i]!, false)));
      });
    }
    expect(upTo).toBe(this.next - 1);
  }
}

function expectRange(actual: ModelRange | string, expected: ModelRange | string, note: string): void {
  if (typeof actual === 'string' || typeof expected === 'string') {
    expect(actual, note).toBe(expected);
    return;
  }
  expect(actual.kvs.map(hex), note).toEqual(expected.kvs.map(hex));
  expect([actual.count, actual.more], note).toEqual([expected.count, expected.more]);
}

function expectBytes(actual: Uint8Array | undefined, expected: Uint8Array | undefined, note: string): void {
  expect(actual === undefined ? undefined : hex(actual), note).toBe(
    expected === undefined ? undefined : hex(expected),
  );
}

function inRange(key: Uint8Array, low: Uint8Array, rangeEnd: Uint8Array): boolean {
  if (rangeEnd.length === 0) return compareBytes(key, low) === 0;
  if (compareBytes(key, low) < 0) return false;
  return (rangeEnd.length === 1 && rangeEnd[0] === 0) || compareBytes(key, rangeEnd) < 0;
}

function byLatin1(a: string, b: string): number {
  const [ka, kb] = [a.slice(0, a.lastIndexOf('=')), b.slice(0, b.lastIndexOf('='))];
  return ka < kb ? -1 : ka > kb ? 1 : 0;
}

function show(options: RangeOptions): string {
  return JSON.stringify(options, (_, v) => (v instanceof Uint8Array ? hex(v) : v));
}
