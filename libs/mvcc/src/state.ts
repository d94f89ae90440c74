import { assert, readCounterBE } from '@quoin/base';
import type { Backend } from './backend.ts';
import { EventLogWriter, findVersion } from './event-log.ts';
import { KeyValueReader } from './key-value.ts';
import {
  cellKeyValue,
  cellSub,
  cellTrailerBytes,
  decodeState,
  encodeState,
  finishedKey,
  historyKey,
  isLargeCell,
  prefix,
  prefixedKey,
  revisionKey,
  stateKey,
} from './layout.ts';
import { MetaCache } from './meta-cache.ts';
import type { KeyMeta } from './read-types.ts';
import { hashBytes, WriteBuffer } from './write-buffer.ts';

/** Plain counters since open; metrics read them. */
export interface StoreStats {
  puts: number;
  deletes: number;
  ranges: number;
  txns: number;
  events: number;
  putBytes: number;
  commits: number;
  /** Puts and deletes whose previous version was known (or known not to be) without a read, and the others. */
  metaHits: number;
  metaMisses: number;
}

/** What the parts of the store share: where it stands, and how single versions are found. */
export class StoreState {
  readonly backend: Backend;
  readonly buffer: WriteBuffer;
  readonly log: EventLogWriter;
  readonly cache: MetaCache;
  readonly reader = new KeyValueReader();
  readonly stats: StoreStats;
  /** Uncommitted transactions included. */
  revision: number;
  compactRevision: number;
  /** Removal has been done up to here. */
  finishedRevision: number;
  /** … except for what the events of that very revision replaced. */
  finishedButLast: boolean;
  appliedIndex: number;
  appliedTerm: number;
  keysTotal: number;
  storedBytes: number;
  /** The running transaction has changed something; it is not in `revision` yet. */
  changing = false;
  /** Open readers that go on in later turns: removal of old versions waits for them. */
  pins = 0;
  /** The cache has been filled up to this key; undefined: nothing to fill. */
  warmFrom: Uint8Array | undefined;

  /** What `lookup` found of the latest version. */
  createRevision = 0;
  modRevision = 0;
  version = 0;
  lease = 0n;
  /** Its address in the cache; 0: not there. */
  address = 0;

  constructor(backend: Backend, metaCacheBytes: number) {
    const stored = backend.get(stateKey);
    if (stored === undefined) assertEmpty(backend);
    const state =
      stored === undefined
        ? { revision: 1, compactRevision: -1, appliedIndex: 0, appliedTerm: 0, keysTotal: 0, storedBytes: 0 }
        : decodeState(stored);
    const finished = backend.get(finishedKey);
    this.backend = backend;
    this.buffer = new WriteBuffer(backend);
    this.log = new EventLogWriter(this.buffer);
    this.cache = new MetaCache(metaCacheBytes, state.keysTotal === 0);
    this.stats = {
      puts: 0,
      deletes: 0,
      ranges: 0,
      txns: 0,
      events: 0,
      putBytes: 0,
      commits: 0,
      metaHits: 0,
      metaMisses: 0,
    };
    this.revision = state.revision;
    this.compactRevision = state.compactRevision;
    this.finishedRevision = finished === undefined ? -1 : readCounterBE(finished, 0);
    this.finishedButLast = finished?.[8] === 1;
    this.appliedIndex = state.appliedIndex;
    this.appliedTerm = state.appliedTerm;
    this.keysTotal = state.keysTotal;
    this.storedBytes = state.storedBytes;
    this.warmFrom = state.keysTotal === 0 ? undefined : new Uint8Array(0);
  }

  encode(): Uint8Array {
    return encodeState(this);
  }

  /** Fills the fields above from the cache or the L entry; false when the key is not alive. */
  lookup(key: Uint8Array, hash: number): boolean {
    const { cache } = this;
    const address = cache.find(key, hash);
    this.address = address;
    if (address !== 0) {
      this.stats.metaHits++;
      this.createRevision = cache.createRevision(address);
      this.modRevision = cache.modRevision(address);
      this.version = cache.version(address);
      this.lease = cache.lease(address);
      return true;
    }
    if (cache.complete && cache.holds(key.length)) {
      this.stats.metaHits++;
      return false;
    }
    this.stats.metaMisses++;
    const cell = this.latestCell(key);
    if (cell === undefined) return false;
    const kv = this.complete(cell);
    this.reader.read(kv);
    this.createRevision = this.reader.createRevision;
    this.modRevision = this.reader.modRevision;
    this.version = this.reader.version;
    this.lease = this.reader.lease();
    cache.add(key, hash, this.createRevision, this.modRevision, this.version, this.lease);
    this.address = cache.find(key, hash);
    return true;
  }

  /** Puts what an L entry says into the cache; false when V has to be read for that. */
  remember(key: Uint8Array, cell: Uint8Array): boolean {
    const hash = hashBytes(key);
    if (this.cache.find(key, hash) !== 0) return true;
    if (isLargeCell(cell)) return false;
    const { reader } = this;
    reader.read(cell, cell.length - cellTrailerBytes);
    this.cache.add(key, hash, reader.createRevision, reader.modRevision, reader.version, reader.lease());
    return true;
  }

  meta(key: Uint8Array): KeyMeta | undefined {
    if (!this.lookup(key, hashBytes(key))) return undefined;
    const { createRevision, modRevision, version, lease } = this;
    return { createRevision, modRevision, version, lease };
  }

  latestCell(key: Uint8Array): Uint8Array | undefined {
    return this.buffer.get(prefixedKey(prefix.latest, key));
  }

  /** The latest KeyValue bytes. */
  latest(key: Uint8Array): Uint8Array | undefined {
    const cell = this.latestCell(key);
    return cell === undefined ? undefined : this.complete(cell);
  }

  /** The whole KeyValue bytes of a version. */
  complete(cell: Uint8Array): Uint8Array {
    if (!isLargeCell(cell)) return cellKeyValue(cell);
    this.reader.readHead(cell);
    return this.largeValue(this.reader.modRevision, cellSub(cell));
  }

  largeValue(mod: number, sub: number): Uint8Array {
    const kv = this.buffer.get(revisionKey(prefix.values, mod, sub));
    assert(kv !== undefined, () => `the value of revision ${mod}/${sub} is missing`);
    return kv;
  }

  /** The cell of a superseded version, from its H entry's value. */
  historyCell(key: Uint8Array, mod: number, historyValue: Uint8Array): Uint8Array {
    if (historyValue.length > 8) return historyValue.subarray(8);
    this.log.seal();
    const cell = findVersion(this.buffer, key, mod, this.reader);
    assert(cell !== undefined, () => `the event of revision ${mod} is missing`);
    return cell;
  }

  /** The KeyValue bytes of a version that has been superseded; undefined when it has been removed. */
  superseded(key: Uint8Array, mod: number): Uint8Array | undefined {
    const value = this.buffer.get(historyKey(key, mod));
    return value === undefined ? undefined : this.complete(this.historyCell(key, mod, value));
  }
}

/** An engine without our state must hold nothing at all. */
function assertEmpty(backend: Backend): void {
  let found = false;
  backend.scan(Uint8Array.of(0), Uint8Array.of(0xff, 0xff), false, () => {
    found = true;
    return false;
  });
  if (found)
    throw new Error(
      'the engine holds entries but no store state: it is not a store, or its restore was cut off',
    );
}
