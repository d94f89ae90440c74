import { assert, crc32c, equalBytes, readCounterBE, writeCounterBE } from '@quoin/base';
import type { Backend, BackendCursor } from './backend.ts';
import { RecordReader } from './event-log.ts';
import { KeyValueReader } from './key-value.ts';
import {
  cellKeyValue,
  cellSub,
  decodeState,
  encodeState,
  isLargeCell,
  prefix,
  type StoredState,
  stateKey,
} from './layout.ts';
import type { StoreState } from './state.ts';

/** What one snapshot or restart begins from. */
export interface StoreMeta {
  readonly revision: number;
  /** −1: never compacted. */
  readonly compactRevision: number;
  readonly appliedIndex: number;
  readonly appliedTerm: number;
  readonly keysTotal: number;
}

/** Format of the backend's keys and values; SnapshotHeader.store_version. */
export const storeVersion = 1;

const first: Uint8Array = Uint8Array.of(0);
const end: Uint8Array = Uint8Array.of(0xff, 0xff);

/** The whole committed state of one moment as backend entries, in key order. Must be closed. */
export class SnapshotCursor {
  readonly meta: StoreMeta;
  private readonly cursor: BackendCursor;

  constructor(state: StoreState) {
    // Nothing is uncommitted, so what is in memory is what the cursor's view holds.
    assert(state.buffer.size === 0, 'a snapshot was asked for between apply and commit');
    this.meta = metaOf(state);
    this.cursor = state.backend.cursor(first, end);
  }

  /** About `maxBytes` of entries; false when that was the last slice. The views are valid only during the call. */
  next(maxBytes: number, visit: (key: Uint8Array, value: Uint8Array) => void): boolean {
    return this.cursor.next(maxBytes, (key, value) => {
      visit(key, value);
      return true;
    });
  }

  close(): void {
    this.cursor.close();
  }
}

function metaOf(state: StoredState): StoreMeta {
  const { revision, compactRevision, appliedIndex, appliedTerm, keysTotal } = state;
  return { revision, compactRevision, appliedIndex, appliedTerm, keysTotal };
}

const writerBatchEntries = 500;
const writerBatchBytes = 512 * 1024;

/** Fills an empty backend from the entries of a snapshot. The state entry is written last: half a store is none. */
export class SnapshotWriter {
  private readonly backend: Backend;
  private state: StoredState | undefined = undefined;
  private keys: Uint8Array[] = [];
  private values: Uint8Array[] = [];
  private bytes = 0;

  constructor(backend: Backend) {
    this.backend = backend;
  }

  /** Alternating keys and values, as the cursor gave them. @throws Error on an entry that no store writes. */
  write(pairs: readonly Uint8Array[]): void {
    if (pairs.length % 2 !== 0) throw new Error('the snapshot has a key without a value');
    for (let i = 0; i < pairs.length; i += 2) {
      const key = pairs[i]!;
      const value = pairs[i + 1]!;
      if (equalBytes(key, stateKey)) this.state = decodeState(value);
      else this.add(key, value);
    }
  }

  /**
   * Writes what is left and makes it durable. `applied` replaces the applied index and term: for a new cluster, whose
   * log begins anew. The backend stays open; open a Store on it. @throws Error through the callback.
   */
  finish(
    applied: { index: number; term: number } | undefined,
    cb: (error: Error | null, meta: StoreMeta | null) => void,
  ): void {
    this.flushBatch();
    const { state } = this;
    if (state !== undefined && applied !== undefined) {
      state.appliedIndex = applied.index;
      state.appliedTerm = applied.term;
    }
    if (state !== undefined) {
      const value = encodeState(state);
      this.backend.write({ keys: [stateKey], values: [value], bytes: stateKey.length + value.length });
    }
    this.backend.flush((error) => {
      if (error !== null) cb(error, null);
      else if (state === undefined) cb(new Error('the snapshot has no store state: it is incomplete'), null);
      else cb(null, metaOf(state));
    });
  }

  private add(key: Uint8Array, value: Uint8Array): void {
    if (!isKnown(key[0]))
      throw new Error(`the snapshot holds an entry of an unknown kind: ${key[0] ?? 'no key'}`);
    this.keys.push(key);
    this.values.push(value);
    this.bytes += key.length + value.length;
    if (this.keys.length >= writerBatchEntries || this.bytes >= writerBatchBytes) this.flushBatch();
  }

  private flushBatch(): void {
    if (this.keys.length === 0) return;
    this.backend.write({ keys: this.keys, values: this.values, bytes: this.bytes });
    this.keys = [];
    this.values = [];
    this.bytes = 0;
  }
}

const knownPrefixes = new Set<number>(Object.values(prefix));

function isKnown(byte: number | undefined): boolean {
  return byte !== undefined && knownPrefixes.has(byte);
}

/**
 * A CRC-32C over the logical state of one moment, in slices: equal on members that have applied the same entries,
 * whatever has been removed, moved or grouped differently underneath. Must be stepped to its end or closed.
 *
 *   A, T whole · L as complete KeyValues · H key and end of life, of versions that end above the compact revision
 *   R events from the compact revision on, one by one · V, M left out (reached through L; physical)
 */
export class StateHasher {
  readonly revision: number;
  readonly compactRevision: number;
  private readonly state: StoreState;
  private readonly cursor: BackendCursor;
  private readonly records = new RecordReader();
  private readonly reader = new KeyValueReader();
  private readonly scratch: Uint8Array = new Uint8Array(8);
  private large: { mod: number; sub: number } | undefined = undefined;
  private crc = 0;
  private done = false;
  private open = true;

  constructor(state: StoreState) {
    assert(state.buffer.size === 0, 'a hash was asked for between apply and commit');
    this.state = state;
    this.revision = state.revision;
    this.compactRevision = state.compactRevision;
    this.cursor = state.backend.cursor(first, end);
    // Values of large versions are read beside the cursor: they may not be removed meanwhile.
    state.pins++;
    this.number(this.revision);
    this.number(this.compactRevision + 1);
  }

  /** True when the hash is there. */
  step(maxBytes: number): boolean {
    assert(this.open, 'the hasher is closed');
    if (this.done) return true;
    let left = maxBytes;
    for (let more = true; left > 0; ) {
      // A large value is read where its key stands in the order, so the slice ends there.
      more = this.cursor.next(left, (key, value) => {
        left -= key.length + value.length;
        this.entry(key, value);
        return this.large === undefined;
      });
      if (this.large !== undefined) {
        const kv = this.state.largeValue(this.large.mod, this.large.sub);
        this.add(kv);
        left -= kv.length;
        this.large = undefined;
      }
      if (!more) {
        this.done = true;
        break;
      }
    }
    return this.done;
  }

  /** After `step` returned true. */
  hash(): number {
    assert(this.done, 'the state has not been hashed to its end');
    return this.crc;
  }

  close(): void {
    if (!this.open) return;
    this.open = false;
    this.cursor.close();
    this.state.pins--;
  }

  private entry(key: Uint8Array, value: Uint8Array): void {
    switch (key[0]) {
      case prefix.lease:
      case prefix.records:
        this.add(key);
        this.add(value);
        break;
      case prefix.latest:
        if (isLargeCell(value)) {
          this.reader.readHead(value);
          this.large = { mod: this.reader.modRevision, sub: cellSub(value) };
        } else {
          this.add(cellKeyValue(value));
        }
        break;
      case prefix.history:
        if (readCounterBE(value, 0) <= this.compactRevision) break;
        this.add(key);
        this.add(value.subarray(0, 8));
        break;
      case prefix.events:
        this.events(value);
        break;
    }
  }

  private events(block: Uint8Array): void {
    const { records } = this;
    records.start(block);
    while (records.next()) {
      if (records.revision < this.compactRevision) continue;
      this.number(records.revision);
      this.add(block.subarray(records.eventStart, records.eventEnd));
    }
  }

  private number(value: number): void {
    writeCounterBE(this.scratch, 0, value);
    this.crc = crc32c(this.scratch, this.crc);
  }

  private add(bytes: Uint8Array): void {
    this.crc = crc32c(bytes, this.crc);
  }
}

export function snapshotWriter(backend: Backend): SnapshotWriter {
  return new SnapshotWriter(backend);
}
