import { readCounterBE } from '@quoin/base';
import { KeyValueView } from '@quoin/contracts';
import type { Backend } from './backend.ts';
import { keyValueSize, putKeyValue } from './key-value.ts';
import {
  cellKind,
  cellSub,
  encodeFinished,
  finishedKey,
  isLargeCell,
  largeBytes,
  leaseKey,
  prefix,
  prefixedKey,
  putBytes,
  revisionKey,
  tombstoneBytes,
} from './layout.ts';
import type { StoreState } from './state.ts';
import type { Store } from './store.ts';
import { hashBytes } from './write-buffer.ts';
import type { WriteTxn } from './write-txn.ts';

const none: Uint8Array = new Uint8Array(0);
const changesPerCommit = 500;

/** A store and its inside. */
export interface Opened {
  readonly store: Store;
  readonly state: StoreState;
}

/**
 * Fills an empty engine from the entries of etcd's bucket `key`, in their order. Up to the compact revision C there is at most
 * one version of a key left, so they are written as they are; what came after is done once more, and has to come out as
 * it stands there.
 */
export class VersionImport {
  private readonly open: (backend: Backend) => Opened;
  private readonly backend: Backend;
  private opened: Opened;
  private readonly compactRevision: number;
  private txn: WriteTxn | undefined = undefined;
  private main = 0;
  private nextSub = 0;
  private changes = 0;
  private readonly view = new KeyValueView();

  constructor(open: (backend: Backend) => Opened, backend: Backend, compactRevision: number) {
    this.open = open;
    this.backend = backend;
    this.opened = open(backend);
    this.compactRevision = compactRevision;
    if (compactRevision <= 0) return;
    const { state } = this.opened;
    state.compactRevision = compactRevision;
    state.finishedRevision = compactRevision;
    state.buffer.put(finishedKey, encodeFinished(compactRevision, false));
  }

  /** @throws Error when the history contradicts itself. */
  add(entryKey: Uint8Array, value: Uint8Array): void {
    if (entryKey.length < 17) throw new Error('a revision of the snapshot is too short');
    const main = readCounterBE(entryKey, 0);
    const sub = readCounterBE(entryKey, 9);
    const isTombstone = entryKey.length > 17;
    // Written by etcdutl's --bump-revision: the revision goes on from there.
    if (value.length === 0) return this.jump(main);
    this.view.read(value);
    if (main <= this.compactRevision) this.addOld(main, sub, isTombstone);
    else this.addEvent(main, sub, isTombstone);
    if (++this.changes % changesPerCommit === 0 && this.txn === undefined) this.opened.store.commit(0, 0);
  }

  /** Everything is in; the store is open and not yet durable. `bump` is added to the revision, all before it compacted. */
  finish(bump: number): Store {
    this.endTxn();
    const { state } = this.opened;
    const revision = Math.max(state.revision, this.main, this.compactRevision, 1);
    if (revision !== state.revision || bump > 0) this.jump(revision + bump);
    const { store } = this.opened;
    store.commit(0, 0);
    if (bump > 0) {
      store.compact(store.revision);
      store.commit(0, 0);
      while (store.compactionStep(1_000) === 'more');
    }
    return store;
  }

  private addEvent(main: number, sub: number, isTombstone: boolean): void {
    if (main !== this.main) {
      this.endTxn();
      if (this.opened.state.revision !== main - 1) this.jump(main - 1);
      this.main = main;
      this.nextSub = 0;
      this.txn = this.opened.store.begin();
    }
    const { view } = this;
    const txn = this.txn!;
    if (sub !== this.nextSub++)
      throw new Error(`revision ${main} of the snapshot lacks a change before ${sub}`);
    const key = view.key();
    if (isTombstone) {
      if (txn.deleteRange(key, none).deleted === 1) return;
      throw new Error(`revision ${main}/${sub} of the snapshot deletes a key that is not there`);
    }
    txn.put(key, view.value(), view.lease);
    const meta = txn.meta(key);
    if (meta?.createRevision !== view.createRevision || meta.version !== view.version) {
      throw new Error(`revision ${main}/${sub} of the snapshot does not follow from those before it`);
    }
  }

  private addOld(main: number, sub: number, isTombstone: boolean): void {
    const { view } = this;
    const { state } = this.opened;
    const key = view.key().slice();
    const hash = hashBytes(key);
    this.main = main;
    this.forget(key, hash);
    // Events of the compact revision itself can be watched.
    const isLast = main === this.compactRevision;
    if (isTombstone) {
      if (!isLast) return;
      state.log.appendDelete(main, sub, 0, key);
      state.storedBytes += tombstoneBytes(key.length);
      return;
    }
    const { createRevision, version, lease } = view;
    const value = view.value();
    const size = keyValueSize(key, createRevision, main, version, value, lease);
    const kv = new Uint8Array(size);
    putKeyValue(kv, 0, key, createRevision, main, version, value, lease);
    const large = size >= largeBytes;
    if (isLast) state.log.appendPut(main, sub, 0, key, createRevision, version, value, lease, large);
    if (large) this.backend.put(revisionKey(prefix.values, main, sub), kv);
    const head = large ? keyValueSize(key, createRevision, main, version, none, 0n) : size;
    const cell = new Uint8Array(head + 5);
    cell.set(kv.subarray(0, head), 0);
    new DataView(cell.buffer).setUint32(head, sub);
    cell[head + 4] = large ? cellKind.large : cellKind.complete;
    this.backend.put(prefixedKey(prefix.latest, key), cell);
    if (lease !== 0n) state.buffer.put(leaseKey(lease, key), none);
    state.cache.add(key, hash, createRevision, main, version, lease);
    state.keysTotal++;
    state.storedBytes += putBytes(size);
  }

  /** An earlier version that a compaction, scheduled and not finished, has left in the file. */
  private forget(key: Uint8Array, hash: number): void {
    const { state } = this.opened;
    if (!state.lookup(key, hash)) return;
    const cell = state.latestCell(key)!;
    const bytes = state.complete(cell).length;
    if (state.lease !== 0n) state.buffer.put(leaseKey(state.lease, key), null);
    if (isLargeCell(cell))
      this.backend.put(revisionKey(prefix.values, state.modRevision, cellSub(cell)), null);
    this.backend.put(prefixedKey(prefix.latest, key), null);
    state.cache.remove(key, hash);
    state.keysTotal--;
    state.storedBytes -= putBytes(bytes);
  }

  private endTxn(): void {
    if (this.txn === undefined) return;
    this.txn.end();
    this.txn = undefined;
    if (this.changes >= changesPerCommit) {
      this.opened.store.commit(0, 0);
      this.changes = 0;
    }
  }

  /** The revision is `to` from here on. Feeds count every revision, so the store is opened anew. */
  private jump(to: number): void {
    this.endTxn();
    const { state, store } = this.opened;
    state.revision = to;
    this.main = to;
    store.commit(0, 0);
    this.opened = this.open(this.backend);
  }
}
