import { assert, crc32c, equalBytes, writeCounterBE } from '@quoin/base';
import type { Backend, BackendCursor } from './backend.ts';
import { RecordReader } from './event-log.ts';
import { KeyValueReader } from './key-value.ts';
import {
  cellKeyValue,
  cellSub,
  decodeState,
  encodeState,
  isLargeCell,
  noRedo,
  prefix,
  type StoredState,
  stateKey,
} from './layout.ts';
import type { OverlayView } from './overlay.ts';
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
export const storeVersion = 3;

const first: Uint8Array = Uint8Array.of(0);
const end: Uint8Array = Uint8Array.of(0xff, 0xff);
const noKey: Uint8Array = new Uint8Array(0);
/** Large values that are read between two slices of the scan, from about so many on. */
const largeMax = 16;

/**
 * The whole committed state of one moment as backend entries, in key order. Must be closed. The overlay is not among
 * them: whoever opens the entries has it from R, as after a restart.
 */
export class SnapshotCursor {
  readonly meta: StoreMeta;
  private readonly cursor: BackendCursor;

  constructor(state: StoreState) {
    // Nothing is uncommitted, so what is in memory is what the cursor's view holds.
    assert(!state.uncommitted, 'a snapshot was asked for between apply and commit');
    // The newest state may be in R, where the receiver does not look for it.
    state.store(noRedo);
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

function metaOf(state: StoreMeta): StoreMeta {
  const { revision, compactRevision, appliedIndex, appliedTerm, keysTotal } = state;
  return { revision, compactRevision, appliedIndex, appliedTerm, keysTotal };
}

/** Fills an empty backend from the entries of a snapshot. The state entry is written last: half a store is none. */
export class SnapshotWriter {
  private readonly backend: Backend;
  private state: StoredState | undefined = undefined;

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
    const { state } = this;
    if (state !== undefined && applied !== undefined) {
      state.appliedIndex = applied.index;
      state.appliedTerm = applied.term;
    }
    if (state !== undefined) this.backend.put(stateKey, encodeState(state, noRedo));
    this.backend.flush((error) => {
      if (error !== null) cb(error, null);
      else if (state === undefined) cb(new Error('the snapshot has no store state: it is incomplete'), null);
      else cb(null, metaOf(state));
    });
  }

  private add(key: Uint8Array, value: Uint8Array): void {
    if (!isKnown(key[0]))
      throw new Error(`the snapshot holds an entry of an unknown kind: ${key[0] ?? 'no key'}`);
    this.backend.put(key, value);
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
 *   A, T whole · the latest versions in key order, from L and the overlay
 *   R events from the compact revision on, one by one, above it with the version that each replaced: what H says
 *   H, V, M left out (they follow, or are physical); values of large versions in a sum of their own, in key order
 */
export class StateHasher {
  readonly revision: number;
  readonly compactRevision: number;
  private readonly state: StoreState;
  private readonly cursor: BackendCursor;
  private readonly overlay: OverlayView;
  private readonly records = new RecordReader();
  private readonly reader = new KeyValueReader();
  private readonly scratch: Uint8Array = new Uint8Array(8);
  /** Large values that wait to be read: not within a scan. */
  private large: { mod: number; sub: number }[] = [];
  private crc = 0;
  private largeCrc = 0;
  private done = false;
  private open = true;

  constructor(state: StoreState) {
    assert(!state.uncommitted, 'a hash was asked for between apply and commit');
    this.state = state;
    this.revision = state.revision;
    this.compactRevision = state.compactRevision;
    this.cursor = state.backend.cursor(first, end);
    this.overlay = state.overlay.view(noKey, noKey, state.revision);
    // Values of large versions are read beside the cursor: they may not be removed meanwhile.
    state.pins++;
    this.number(this.revision);
    this.number(this.compactRevision + 1);
  }

  /** True when the hash is there. */
  step(maxBytes: number): boolean {
    assert(this.open, 'the hasher is closed');
    let left = maxBytes;
    while (!this.done && left > 0) {
      const more = this.cursor.next(left, (key, value) => {
        left -= key.length + value.length;
        left -= this.entry(key, value);
        return left > 0 && this.large.length < largeMax;
      });
      if (!more) this.done = true;
      for (const { mod, sub } of this.large) {
        const kv = this.state.peekLarge(mod, sub);
        this.largeCrc = crc32c(kv, this.largeCrc);
        left -= kv.length;
      }
      this.large.length = 0;
    }
    return this.done;
  }

  /** After `step` returned true. */
  hash(): number {
    assert(this.done, 'the state has not been hashed to its end');
    writeCounterBE(this.scratch, 0, this.largeCrc);
    return crc32c(this.scratch, this.crc);
  }

  close(): void {
    if (!this.open) return;
    this.open = false;
    this.cursor.close();
    this.overlay.close();
    this.state.pins--;
  }

  /** Returns how many bytes of the overlay it hashed with the entry. */
  private entry(key: Uint8Array, value: Uint8Array): number {
    // M follows L and is always there.
    if (key[0] === prefix.meta) return this.overlayUpTo(undefined);
    switch (key[0]) {
      case prefix.lease:
      case prefix.records:
        this.add(key);
        this.add(value);
        return 0;
      case prefix.latest: {
        const before = this.overlayUpTo(key);
        if (before >= 0) this.cell(value);
        return Math.abs(before);
      }
      case prefix.events:
        this.events(value);
        return 0;
      default:
        return 0;
    }
  }

  /**
   * Hashes the living keys of the overlay that come before the entry's key. The bytes of that, negative when it has the
   * entry's own key, too: what L says of it does not count.
   */
  private overlayUpTo(entryKey: Uint8Array | undefined): number {
    const { overlay } = this;
    let bytes = 1;
    while (!overlay.ended) {
      const order = entryKey === undefined ? -1 : overlay.compare(entryKey, 1);
      if (order > 0) return bytes;
      if (!overlay.records.isDelete()) this.cell(overlay.records.cell());
      bytes += overlay.records.bytes;
      overlay.advance();
      if (order === 0) return -bytes;
    }
    return bytes;
  }

  private cell(cell: Uint8Array): void {
    const kv = cellKeyValue(cell);
    this.add(kv);
    if (!isLargeCell(cell)) return;
    this.reader.readHead(cell);
    this.large.push({ mod: this.reader.modRevision, sub: cellSub(cell) });
  }

  private events(block: Uint8Array): void {
    const { records } = this;
    records.start(block);
    while (records.next()) {
      if (records.revision < this.compactRevision) continue;
      this.number(records.revision);
      if (records.revision > this.compactRevision) this.number(records.prevMod);
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
