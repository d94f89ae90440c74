import { assert, compareBytes } from '@quoin/base';
import { RecordReader, shadowRecord } from './event-log.ts';
import { keyValueSize, putEvent, putKeyValue } from './key-value.ts';
import { keyBounds, largeBytes, leaseKey, prefix, putBytes, revisionKey, tombstoneBytes } from './layout.ts';
import { readRange } from './range-reader.ts';
import type { KeyMeta, RangeOptions, RangeResult, RevisionError } from './read-types.ts';
import type { StoreState } from './state.ts';
import { RingRevision, type WatchHub } from './watch-hub.ts';
import { hashBytes } from './write-buffer.ts';

/**
 * The changes of one request: one main revision if anything changed, sub counts the changes. Checks run before the
 * first change, so there is no abort. One object serves all requests, one after the other.
 *
 * All of it goes into R and, as the place of its record, into the overlay; L and H follow when the record leaves that.
 * A version that lived and died within the transaction was never visible: its record is shadowed.
 */
export class WriteTxn {
  private readonly state: StoreState;
  private readonly hub: WatchHub;
  private main = 0;
  private sub = 0;
  private events: Uint8Array[] = [];
  private prevKvs: (Uint8Array | undefined)[] | undefined = undefined;
  private keepsEvents = false;
  private keepsPrev = false;
  private isOpen = false;
  /** What each event's key held before the transaction, when that is kept. */
  private readonly beforeKvs: (Uint8Array | undefined)[] = [];
  private deletes = 0;
  /** prev_kv of the event being made: the value before the transaction. */
  private eventPrevKv: Uint8Array | undefined = undefined;
  private readonly records = new RecordReader();

  constructor(state: StoreState, hub: WatchHub) {
    this.state = state;
    this.hub = hub;
  }

  /** The main revision that this transaction makes if it changes anything. */
  get revision(): number {
    return this.main;
  }

  start(): this {
    assert(!this.isOpen, 'a write transaction is open already');
    this.isOpen = true;
    this.main = this.state.revision + 1;
    this.sub = 0;
    this.keepsEvents = this.hub.wantsEvents;
    this.keepsPrev = this.hub.wantsPrevKv;
    if (this.keepsEvents) this.events = [];
    this.prevKvs = this.keepsPrev ? [] : undefined;
    this.beforeKvs.length = 0;
    this.deletes = 0;
    return this;
  }

  /** The previous KeyValue bytes when `wantPrev` and the key existed. `lease` 0n: none. Key and value are copied. */
  put(key: Uint8Array, value: Uint8Array, lease: bigint, wantPrev = false): Uint8Array | undefined {
    assert(this.isOpen, 'no write transaction is open');
    const { state, main } = this;
    if (lease !== 0n) lease = BigInt.asIntN(64, lease);
    const hash = hashBytes(key);
    const existed = state.lookup(key, hash);
    const { address, modRevision } = state;
    const prevLease = existed ? state.lease : 0n;
    const createRevision = existed ? state.createRevision : main;
    const version = existed ? state.version + 1 : 1;
    const prevKv = existed && (wantPrev || this.keepsPrev) ? this.previous(key, modRevision) : undefined;
    const prevMod = existed ? this.replaced(key, hash, modRevision, prevKv) : this.deletedHere(key, hash);
    if (prevLease !== lease) this.attach(key, prevLease, lease);

    const sub = this.sub++;
    const size = keyValueSize(key, createRevision, main, version, value, lease);
    const large = size >= largeBytes;
    const { log } = state;
    log.appendPut(main, sub, prevMod, key, createRevision, version, value, lease, large);
    // A full cache gives addresses to other keys.
    const known = state.cache.overflowed ? 0 : address;
    state.overlay.append(log.chunk, log.recordStart, log.recordBytes, key, hash, known);
    if (large) this.putLarge(sub, size, key, createRevision, version, value, lease);
    else this.record(this.keepsEvents ? log.event() : noBytes, createRevision === main);
    // Nothing was added to the cache or removed from it since the lookup.
    if (address !== 0) state.cache.update(address, createRevision, main, version, lease);
    else state.cache.add(key, hash, createRevision, main, version, lease);
    if (!existed) state.keysTotal++;
    state.stats.puts++;
    state.stats.putBytes += size;
    state.storedBytes += putBytes(size);
    return wantPrev ? prevKv : undefined;
  }

  /** Own changes included, in key order. `prevKvs` is empty unless `wantPrev`. */
  deleteRange(
    key: Uint8Array,
    rangeEnd: Uint8Array,
    wantPrev = false,
  ): { deleted: number; prevKvs: Uint8Array[] } {
    assert(this.isOpen, 'no write transaction is open');
    const prevKvs: Uint8Array[] = [];
    let deleted = 0;
    for (const found of rangeEnd.length === 0 ? [key] : this.keysIn(key, rangeEnd)) {
      const hash = hashBytes(found);
      if (!this.state.lookup(found, hash)) continue;
      const prevKv = this.deleteOne(found, hash, wantPrev);
      deleted++;
      if (wantPrev && prevKv !== undefined) prevKvs.push(prevKv);
    }
    return { deleted, prevKvs };
  }

  /** The latest KeyValue bytes, own changes included. */
  get(key: Uint8Array): Uint8Array | undefined {
    return this.state.latest(key);
  }

  /** The same without the value, mostly without a read. */
  meta(key: Uint8Array): KeyMeta | undefined {
    return this.state.meta(key);
  }

  /** Own changes included when the revision asked is ≤ 0. */
  range(options: RangeOptions): RangeResult | RevisionError {
    return readRange(this.state, options);
  }

  /** Ends the request: the revision moved if anything changed. */
  end(): { revision: number; changed: boolean } {
    assert(this.isOpen, 'no write transaction is open');
    this.isOpen = false;
    this.state.changing = false;
    const changed = this.sub > 0;
    if (changed) {
      this.state.revision = this.main;
      this.state.stats.events += this.sub;
      if (this.sub > 1) this.state.stats.txns++;
      if (this.keepsEvents) this.hub.append(new RingRevision(this.main, this.events, this.prevKvs));
      else this.hub.skip(this.main);
    }
    return { revision: this.state.revision, changed };
  }

  /** The value at once: without the commit's entry nobody finds it, and a restart removes it. */
  private putLarge(
    sub: number,
    size: number,
    key: Uint8Array,
    createRevision: number,
    version: number,
    value: Uint8Array,
    lease: bigint,
  ): void {
    const kv = new Uint8Array(size);
    putKeyValue(kv, 0, key, createRevision, this.main, version, value, lease);
    this.state.backend.put(revisionKey(prefix.values, this.main, sub), kv);
    this.record(this.keepsEvents ? putEvent(kv) : noBytes, createRevision === this.main);
  }

  private keysIn(key: Uint8Array, rangeEnd: Uint8Array): Uint8Array[] {
    const { low, high } = keyBounds(key, rangeEnd);
    const keys: Uint8Array[] = [];
    if (high.length === 0 || compareBytes(low, high) < 0)
      this.state.scanLatest(low, high, (found) => keys.push(found.slice()));
    return keys;
  }

  /** After a lookup that found it. */
  private deleteOne(key: Uint8Array, hash: number, wantPrev: boolean): Uint8Array | undefined {
    const { state, main } = this;
    const { modRevision, lease } = state;
    const prevKv = wantPrev || this.keepsPrev ? this.previous(key, modRevision) : undefined;
    const prevMod = this.replaced(key, hash, modRevision, prevKv);
    if (lease !== 0n) state.buffer.put(leaseKey(lease, key), null);
    const { log } = state;
    log.appendDelete(main, this.sub++, prevMod, key);
    state.overlay.append(log.chunk, log.recordStart, log.recordBytes, key, hash, 0);
    state.cache.remove(key, hash);
    state.keysTotal--;
    state.stats.deletes++;
    state.storedBytes += tombstoneBytes(key.length);
    this.deletes++;
    this.record(this.keepsEvents ? log.event() : noBytes, false);
    return prevKv;
  }

  private previous(key: Uint8Array, modRevision: number): Uint8Array | undefined {
    const ring = this.hub.findKeyValue(modRevision, key);
    return ring ?? this.state.latest(key);
  }

  /** The version that was alive before this transaction, for the event's prevMod. */
  private replaced(
    key: Uint8Array,
    hash: number,
    modRevision: number,
    prevKv: Uint8Array | undefined,
  ): number {
    if (modRevision === this.main) return this.shadow(key, hash);
    this.eventPrevKv = prevKv;
    return modRevision;
  }

  /**
   * The key was changed by this very transaction already: nobody will see that version, and what was there before the
   * transaction is what this event replaces. 0 when it was not changed.
   */
  private shadow(key: Uint8Array, hash: number): number {
    const { overlay } = this.state;
    const entry = overlay.find(key, hash);
    if (entry < 0) return 0;
    const record = overlay.newestOf(entry);
    overlay.read(record, this.records);
    if (this.records.revision !== this.main) return 0;
    overlay.shadow(record);
    this.eventPrevKv = this.beforeKvs[this.records.sub];
    return shadowRecord(this.records.block, this.records.recordStart);
  }

  /** A put after a delete of the same key in this transaction: a creation, yet something was there before. */
  private deletedHere(key: Uint8Array, hash: number): number {
    this.eventPrevKv = undefined;
    return this.deletes === 0 ? 0 : this.shadow(key, hash);
  }

  private attach(key: Uint8Array, from: bigint, to: bigint): void {
    if (from !== 0n) this.state.buffer.put(leaseKey(from, key), null);
    if (to !== 0n) this.state.buffer.put(leaseKey(to, key), attached);
  }

  /** etcd shows no prev_kv for a creation, even if the same transaction deleted the key before. */
  private record(event: Uint8Array, isCreate: boolean): void {
    this.state.changing = true;
    if (!this.keepsEvents) return;
    this.events.push(event);
    if (!this.keepsPrev) return;
    this.beforeKvs.push(this.eventPrevKv);
    this.prevKvs!.push(isCreate ? undefined : this.eventPrevKv);
  }
}

const noBytes: Uint8Array = new Uint8Array(0);
/** What an attachment's entry holds. */
const attached: Uint8Array = noBytes;
