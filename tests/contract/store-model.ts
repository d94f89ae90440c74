/** A multi-version store as dumb as can be: every version of every key in one list. What the real one is held to. */
import { create, toBinary } from '@bufbuild/protobuf';
import { compareBytes, concatBytes, crc32c, latin1, utf8 } from '@quoin/base';
import { Event_EventType, EventSchema, type KeyValue, KeyValueSchema } from '@quoin/contracts/etcd';
import type { RangeOptions } from '@quoin/mvcc';

export interface ModelEvent {
  readonly type: 'put' | 'delete';
  readonly kv: KeyValue;
  /** Alive right before the revision, if this is not a creation. */
  readonly prev: KeyValue | undefined;
}

export interface ModelRange {
  readonly kvs: Uint8Array[];
  readonly count: number;
  readonly more: boolean;
}

export function kvBytes(kv: KeyValue): Uint8Array {
  return toBinary(KeyValueSchema, kv);
}

export function eventBytes(event: ModelEvent, withPrev: boolean): Uint8Array {
  const message = create(EventSchema, {
    type: event.type === 'put' ? Event_EventType.PUT : Event_EventType.DELETE,
    kv: event.kv,
  });
  if (withPrev && event.prev !== undefined) message.prevKv = event.prev;
  return toBinary(EventSchema, message);
}

function bucketKey(kv: KeyValue, sub: number, isDelete: boolean): Uint8Array {
  const key = Buffer.alloc(isDelete ? 18 : 17, 't');
  key.writeBigUInt64BE(kv.modRevision, 0);
  key.write('_', 8);
  key.writeBigUInt64BE(BigInt(sub), 9);
  return key;
}

export class Model {
  revision = 1;
  compactRevision = -1;
  /** By revision; each list is in order of sub. */
  readonly events = new Map<number, ModelEvent[]>();
  readonly records = new Map<string, Uint8Array>();
  /** Alive keys at each revision: new maps, so that the past stays as it was. */
  private readonly states = new Map<number, Map<string, KeyValue>>([[1, new Map()]]);
  private current = new Map<string, KeyValue>();
  private running: ModelEvent[] = [];

  begin(): void {
    this.running = [];
    this.current = new Map(this.current);
  }

  put(key: Uint8Array, value: Uint8Array, lease: bigint): KeyValue | undefined {
    const main = this.revision + 1;
    const old = this.current.get(latin1(key));
    const kv = create(KeyValueSchema, {
      key,
      value,
      lease,
      createRevision: old?.createRevision ?? BigInt(main),
      modRevision: BigInt(main),
      version: (old?.version ?? 0n) + 1n,
    });
    const isCreate = kv.createRevision === kv.modRevision;
    this.running.push({ type: 'put', kv, prev: isCreate ? undefined : this.before(key) });
    this.current.set(latin1(key), kv);
    return old;
  }

  deleteRange(key: Uint8Array, rangeEnd: Uint8Array): KeyValue[] {
    const main = this.revision + 1;
    const gone = this.within(this.current, key, rangeEnd);
    for (const kv of gone) {
      const tombstone = create(KeyValueSchema, { key: kv.key, modRevision: BigInt(main) });
      this.running.push({ type: 'delete', kv: tombstone, prev: this.before(kv.key) });
      this.current.delete(latin1(kv.key));
    }
    return gone;
  }

  end(): boolean {
    if (this.running.length === 0) return false;
    this.revision++;
    this.events.set(this.revision, this.running);
    this.states.set(this.revision, this.current);
    return true;
  }

  get(key: Uint8Array): KeyValue | undefined {
    return this.current.get(latin1(key));
  }

  get keysTotal(): number {
    return this.current.size;
  }

  /** What every version takes that a finished compaction leaves: later ones, and those alive at the compact revision. */
  get storedBytes(): number {
    let bytes = 0;
    const count = (kv: KeyValue, isPut: boolean): void => {
      bytes += isPut ? kvBytes(kv).length + 33 : kvBytes(create(KeyValueSchema, { key: kv.key })).length + 34;
    };
    for (const [revision, events] of this.events) {
      if (revision < this.compactRevision) continue;
      for (const { type, kv } of events) count(kv, type === 'put');
    }
    for (const kv of this.states.get(this.compactRevision)?.values() ?? []) {
      if (kv.modRevision < this.compactRevision) count(kv, true);
    }
    return bytes;
  }

  /** etcd's HashKV: one checksum over all entries of its bucket in order. */
  hashKv(revision: number): number {
    const { compactRevision } = this;
    const alive = this.states.get(revision)!;
    const old = [...(alive.size > 0 ? alive : (this.states.get(compactRevision) ?? alive)).values()]
      .filter((kv) => Number(kv.modRevision) <= compactRevision)
      .map((kv) => ({ kv, sub: this.events.get(Number(kv.modRevision))!.findLastIndex((e) => e.kv === kv) }))
      .sort((a, b) => Number(a.kv.modRevision - b.kv.modRevision) || a.sub - b.sub);
    const parts: Uint8Array[] = [utf8('key')];
    for (const { kv, sub } of old) parts.push(bucketKey(kv, sub, false), kvBytes(kv));
    for (let r = Math.max(compactRevision, 0) + 1; r <= revision; r++) {
      for (const [sub, { type, kv }] of (this.events.get(r) ?? []).entries()) {
        const isDelete = type === 'delete';
        parts.push(
          bucketKey(kv, sub, isDelete),
          kvBytes(isDelete ? create(KeyValueSchema, { key: kv.key }) : kv),
        );
      }
    }
    return crc32c(concatBytes(parts));
  }

  compact(revision: number): 'compacted' | 'future' | undefined {
    if (revision <= this.compactRevision) return 'compacted';
    if (revision > this.revision) return 'future';
    this.compactRevision = revision;
    return undefined;
  }

  leaseKeys(lease: bigint): Uint8Array[] {
    return [...this.current.values()]
      .filter((kv) => kv.lease === lease)
      .map((kv) => kv.key)
      .sort(compareBytes);
  }

  range(options: RangeOptions): ModelRange | 'compacted' | 'future' {
    const revision = options.revision ?? 0;
    if (revision > this.revision) return 'future';
    if (revision > 0 && revision < this.compactRevision) return 'compacted';
    const state = revision > 0 ? this.states.get(revision)! : this.current;
    let kvs = this.within(state, options.key, options.rangeEnd ?? new Uint8Array(0));
    const count = kvs.length;
    if (options.countOnly) return { kvs: [], count, more: false };
    const bound = (value: bigint, min: number | undefined, max: number | undefined): boolean =>
      value >= BigInt(min ?? 0) && ((max ?? 0) === 0 || value <= BigInt(max!));
    kvs = kvs.filter(
      (kv) =>
        bound(kv.modRevision, options.minModRevision, options.maxModRevision) &&
        bound(kv.createRevision, options.minCreateRevision, options.maxCreateRevision),
    );
    const target = options.sortTarget ?? 0;
    const order = options.sortOrder === 0 && target !== 0 ? 1 : (options.sortOrder ?? (target === 0 ? 0 : 1));
    if (order === 2 || (order === 1 && target !== 0)) {
      const sign = order === 2 ? -1 : 1;
      const by = (a: KeyValue, b: KeyValue): number => {
        if (target === 0) return compareBytes(a.key, b.key);
        if (target === 1) return Number(a.version - b.version);
        if (target === 2) return Number(a.createRevision - b.createRevision);
        return target === 3 ? Number(a.modRevision - b.modRevision) : compareBytes(a.value, b.value);
      };
      kvs = kvs
        .map((kv, i) => ({ kv, i }))
        .sort((a, b) => sign * by(a.kv, b.kv) || a.i - b.i)
        .map((x) => x.kv);
    }
    const limit = options.limit ?? 0;
    const more = limit > 0 && kvs.length > limit;
    if (more) kvs = kvs.slice(0, limit);
    if (options.keysOnly) {
      kvs = kvs.map((kv) => {
        const lease = target === 4 ? kv.lease : 0n;
        return create(KeyValueSchema, { ...kv, value: new Uint8Array(0), lease });
      });
    }
    return { kvs: kvs.map(kvBytes), count, more };
  }

  private before(key: Uint8Array): KeyValue | undefined {
    return this.states.get(this.revision)!.get(latin1(key));
  }

  private within(state: Map<string, KeyValue>, key: Uint8Array, rangeEnd: Uint8Array): KeyValue[] {
    const isFrom = rangeEnd.length === 1 && rangeEnd[0] === 0;
    return [...state.values()]
      .filter((kv) => {
        if (rangeEnd.length === 0) return compareBytes(kv.key, key) === 0;
        return compareBytes(kv.key, key) >= 0 && (isFrom || compareBytes(kv.key, rangeEnd) < 0);
      })
      .sort((a, b) => compareBytes(a.key, b.key));
  }
}
