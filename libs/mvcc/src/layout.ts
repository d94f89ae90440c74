/**
 * What the backend's entries look like: one keyspace, told apart by the first byte.
 *
 *   'A' lease(8) key                 → (empty)                    key is attached to lease
 *   'H' escaped(key) ~mod(8)         → end(8), … [cell]           superseded versions, one after the other (see below)
 *   'L' key                          → cell                       latest materialised version of a live key
 *   'M' 's' / 'M' 'c'                → state / finished compaction
 *   'R' revision(8) sub(4)           → records [state]            events from there on (event-log.ts)
 *   'T' table(1) key                 → record of another lib
 *   'V' mod(8) sub(4)                → KeyValue bytes             a version whose value is large
 *
 *   cell = KeyValue bytes, sub(4), kind(1)
 *          kind 0: complete; kind 1: without value and lease, the whole is in V
 *
 * `escaped` replaces 00 by 00 FF and ends with 00 00, so that byte order is key order and no key is a prefix of
 * another. `~mod` counts down, so that the newest version of a key comes first.
 */
import { readCounterBE, readU32BE, writeCounterBE, writeU32BE } from '@quoin/base';
import { uintSize } from '@quoin/contracts';

export const prefix = {
  lease: 0x41,
  history: 0x48,
  latest: 0x4c,
  meta: 0x4d,
  events: 0x52,
  records: 0x54,
  values: 0x56,
} as const;

/**
 * Versions of at least this many bytes are kept once, in V, so that counting and listing keys stays cheap. A range reads
 * each of them by itself, which costs five times what it costs to pass by one in L: so not more than needed. RocksDB keeps
 * values from 2,048 bytes on in files of their own, where passing by is as dear.
 */
export const largeBytes = 1920;

export const cellTrailerBytes = 5;
export const cellKind = { complete: 0, large: 1 } as const;

export function isLargeCell(cell: Uint8Array): boolean {
  return cell[cell.length - 1] === cellKind.large;
}

export function cellSub(cell: Uint8Array): number {
  return readU32BE(cell, cell.length - cellTrailerBytes);
}

/** The KeyValue bytes of a cell; of a large one those without value and lease. */
export function cellKeyValue(cell: Uint8Array): Uint8Array {
  return cell.subarray(0, cell.length - cellTrailerBytes);
}

export function prefixedKey(first: number, key: Uint8Array): Uint8Array {
  const out = new Uint8Array(1 + key.length);
  out[0] = first;
  out.set(key, 1);
  return out;
}

/** The bound above every key with this first byte. */
export function prefixEnd(first: number): Uint8Array {
  return Uint8Array.of(first + 1);
}

export function revisionKey(first: number, revision: number, sub: number): Uint8Array {
  const out = new Uint8Array(13);
  out[0] = first;
  writeCounterBE(out, 1, revision);
  writeU32BE(out, 9, sub);
  return out;
}

export const stateKey: Uint8Array = Uint8Array.of(prefix.meta, 0x73);
export const finishedKey: Uint8Array = Uint8Array.of(prefix.meta, 0x63);

export function leaseKey(lease: bigint, key: Uint8Array): Uint8Array {
  const out = new Uint8Array(9 + key.length);
  out[0] = prefix.lease;
  writeLease(out, 1, lease);
  out.set(key, 9);
  return out;
}

function writeLease(out: Uint8Array, at: number, lease: bigint): void {
  writeU32BE(out, at, Number((lease >> 32n) & 0xffff_ffffn));
  writeU32BE(out, at + 4, Number(lease & 0xffff_ffffn));
}

export function recordKey(table: number, key: Uint8Array): Uint8Array {
  const out = new Uint8Array(2 + key.length);
  out[0] = prefix.records;
  out[1] = table;
  out.set(key, 2);
  return out;
}

const revisionMax = Number.MAX_SAFE_INTEGER;

export function escapedLength(key: Uint8Array): number {
  let n = key.length + 2;
  for (let i = 0; i < key.length; i++) if (key[i] === 0) n++;
  return n;
}

/** Writes the escaped key and returns the position after it. */
export function writeEscaped(out: Uint8Array, at: number, key: Uint8Array): number {
  for (let i = 0; i < key.length; i++) {
    const byte = key[i]!;
    out[at++] = byte;
    if (byte === 0) out[at++] = 0xff;
  }
  out[at++] = 0;
  out[at++] = 0;
  return at;
}

/** The first history entry of `key` whose version is not newer than `mod`; with revisionMax the very first. */
export function historyKey(key: Uint8Array, mod: number): Uint8Array {
  const out = new Uint8Array(1 + escapedLength(key) + 8);
  out[0] = prefix.history;
  writeCounterBE(out, writeEscaped(out, 1, key), revisionMax - mod);
  return out;
}

/** Below every history entry of `key` and of greater keys, above those of smaller ones. */
export function historyLow(key: Uint8Array): Uint8Array {
  const out = new Uint8Array(1 + escapedLength(key));
  out[0] = prefix.history;
  writeEscaped(out, 1, key);
  return out;
}

export function historyMod(historyEntryKey: Uint8Array): number {
  return revisionMax - readCounterBE(historyEntryKey, historyEntryKey.length - 8);
}

/** The user's key of a history entry's key, as a copy. */
export function historyUserKey(entryKey: Uint8Array): Uint8Array {
  const end = entryKey.length - 10;
  let zeros = 0;
  for (let i = 1; i < end; i++) if (entryKey[i] === 0) zeros++;
  const out = new Uint8Array(end - 1 - zeros);
  let at = 0;
  for (let i = 1; i < end; i++) {
    out[at++] = entryKey[i]!;
    if (entryKey[i] === 0) i++;
  }
  return out;
}

/** Versions in one H entry at most. */
export const historyChainMax = 64;

/*
 * The value of an H entry: until when each of up to 64 versions of a key was alive, the first of them from the mod in the
 * entry's key on, each other one from the end of the one before it on.
 *
 *   n − 1 (1) · end of the 1st (7) · end of the 2nd (8) … end of the nth (8) · [cell of the 1st, when R has lost it]
 *
 * A revision leaves the first of its eight bytes free, so a single version is its end as it is. A version is in one entry only.
 */
export function encodeHistory(ends: readonly number[], cell: Uint8Array = noKey): Uint8Array {
  const out = new Uint8Array(8 * ends.length + cell.length);
  for (let i = 0; i < ends.length; i++) writeCounterBE(out, 8 * i, ends[i]!);
  out[0] = ends.length - 1;
  out.set(cell, 8 * ends.length);
  return out;
}

/** Versions in the entry. */
export function historyCount(value: Uint8Array): number {
  return value[0]! + 1;
}

/** Until when version `i` was alive. */
export function historyEnd(value: Uint8Array, i: number): number {
  if (i > 0) return readCounterBE(value, 8 * i);
  return (readU32BE(value, 0) & 0xff_ffff) * 0x1_0000_0000 + readU32BE(value, 4);
}

/** The revision that put version `i`; `mod` is the entry's. */
export function historyModAt(mod: number, value: Uint8Array, i: number): number {
  return i === 0 ? mod : historyEnd(value, i - 1);
}

/** Which version is the newest one that is not newer than `revision`, itself not below the entry's mod. */
export function historyPosition(value: Uint8Array, revision: number): number {
  let i = historyCount(value) - 1;
  while (i > 0 && historyEnd(value, i - 1) > revision) i--;
  return i;
}

/** The first version's cell, as a view; undefined when R has it. */
export function historyCell(value: Uint8Array): Uint8Array | undefined {
  const end = 8 * historyCount(value);
  return value.length === end ? undefined : value.subarray(end);
}

/** The entry's value for its versions from ≤ i < to alone; with the cell that it has, or the given one, of the first. */
export function historyPart(value: Uint8Array, from: number, to: number, cell?: Uint8Array): Uint8Array {
  const ends: number[] = [];
  for (let i = from; i < to; i++) ends.push(historyEnd(value, i));
  return encodeHistory(ends, from === 0 ? (historyCell(value) ?? cell) : cell);
}

/** A range of user keys as half-open bounds of L entries. Empty when low ≥ high. */
export interface KeyBounds {
  readonly low: Uint8Array;
  /** Empty: unbounded. */
  readonly high: Uint8Array;
}

/** rangeEnd empty: the single key; `\0`: from key on. */
export function keyBounds(key: Uint8Array, rangeEnd: Uint8Array): KeyBounds {
  if (rangeEnd.length === 0) return { low: key, high: keySuccessor(key) };
  if (rangeEnd.length === 1 && rangeEnd[0] === 0) return { low: key, high: noKey };
  return { low: key, high: rangeEnd };
}

const noKey: Uint8Array = new Uint8Array(0);

/** The least key above `key`. */
export function keySuccessor(key: Uint8Array): Uint8Array {
  const out = new Uint8Array(key.length + 1);
  out.set(key, 0);
  return out;
}

export function latestHigh(bounds: KeyBounds): Uint8Array {
  return bounds.high.length === 0 ? prefixEnd(prefix.latest) : prefixedKey(prefix.latest, bounds.high);
}

export function historyHigh(bounds: KeyBounds): Uint8Array {
  return bounds.high.length === 0 ? prefixEnd(prefix.history) : historyLow(bounds.high);
}

/** Everything that must be known before the first entry is read. */
export interface StoredState {
  revision: number;
  compactRevision: number;
  appliedIndex: number;
  appliedTerm: number;
  keysTotal: number;
  /** What `putBytes` and `tombstoneBytes` say of every version that removal has not taken yet. */
  storedBytes: number;
  /** Counts commits: the state with the higher number is the newer one, wherever it is. */
  commits: number;
  /** L and H have all events up to this revision. */
  materialised: number;
}

/** What a version counts for the quota: about what it takes in etcd's file, whose leaf has 16 bytes beside key and value. */
export function putBytes(kvBytes: number): number {
  return kvBytes + 17 + 16;
}

export function tombstoneBytes(keyBytes: number): number {
  return 1 + uintSize(keyBytes) + keyBytes + 18 + 16;
}

/** 3: one version to each H entry, which 4 reads as it is. */
const stateFormat = 4;
const oldestStateFormat = 3;
const stateBytes = 65;
const deleted = 0xffff_ffff;

/**
 * The state of a commit, in M or in the last R entry of the turn:
 *
 *   format(1) revision(8) compactRevision + 1(8) appliedIndex(8) appliedTerm(8) keysTotal(8) storedBytes(8) commits(8)
 *   materialised(8)
 *   · redo: keyLength(4) valueLength(4, ffffffff: deleted) key value, …
 *
 * The redo holds the entries of A and T that the commit writes after it, one by one: a crash between them is mended by
 * writing those of the last commit again.
 */
export function encodeState(state: StoredState, redo: Redo): Uint8Array {
  let length = stateBytes + 8 * redo.keys.length;
  for (let i = 0; i < redo.keys.length; i++) length += redo.keys[i]!.length + (redo.values[i]?.length ?? 0);
  const out = new Uint8Array(length);
  out[0] = stateFormat;
  writeCounterBE(out, 1, state.revision);
  writeCounterBE(out, 9, state.compactRevision + 1);
  writeCounterBE(out, 17, state.appliedIndex);
  writeCounterBE(out, 25, state.appliedTerm);
  writeCounterBE(out, 33, state.keysTotal);
  writeCounterBE(out, 41, state.storedBytes);
  writeCounterBE(out, 49, state.commits);
  writeCounterBE(out, 57, state.materialised);
  let at = stateBytes;
  for (let i = 0; i < redo.keys.length; i++) {
    const key = redo.keys[i]!;
    const value = redo.values[i]!;
    writeU32BE(out, at, key.length);
    writeU32BE(out, at + 4, value === null ? deleted : value.length);
    out.set(key, at + 8);
    at += 8 + key.length;
    if (value === null) continue;
    out.set(value, at);
    at += value.length;
  }
  return out;
}

/** Entries to be written in order; null deletes. */
export interface Redo {
  readonly keys: Uint8Array[];
  readonly values: (Uint8Array | null)[];
}

export const noRedo: Redo = { keys: [], values: [] };

/** @throws Error when it is of another format or damaged. */
export function decodeState(bytes: Uint8Array): StoredState {
  const format = bytes[0] ?? 0;
  if (format < oldestStateFormat || format > stateFormat || bytes.length < stateBytes) {
    throw new Error(
      `store state has format ${format} and ${bytes.length} bytes; this version reads ${oldestStateFormat} to ${stateFormat}`,
    );
  }
  return {
    revision: readCounterBE(bytes, 1),
    compactRevision: readCounterBE(bytes, 9) - 1,
    appliedIndex: readCounterBE(bytes, 17),
    appliedTerm: readCounterBE(bytes, 25),
    keysTotal: readCounterBE(bytes, 33),
    storedBytes: readCounterBE(bytes, 41),
    commits: readCounterBE(bytes, 49),
    materialised: readCounterBE(bytes, 57),
  };
}

export function decodeRedo(bytes: Uint8Array): Redo {
  const redo: Redo = { keys: [], values: [] };
  for (let at = stateBytes; at < bytes.length; ) {
    const keyLength = readU32BE(bytes, at);
    const valueLength = readU32BE(bytes, at + 4);
    at += 8;
    redo.keys.push(bytes.slice(at, at + keyLength));
    at += keyLength;
    redo.values.push(valueLength === deleted ? null : bytes.slice(at, at + valueLength));
    if (valueLength !== deleted) at += valueLength;
  }
  return redo;
}

export function encodeCounter(value: number): Uint8Array {
  const out = new Uint8Array(8);
  writeCounterBE(out, 0, value);
  return out;
}

/** Finished but for what the events of the revision itself replaced, when `butLast`. */
export function encodeFinished(revision: number, butLast: boolean): Uint8Array {
  const out = new Uint8Array(9);
  writeCounterBE(out, 0, revision);
  out[8] = butLast ? 1 : 0;
  return out;
}
