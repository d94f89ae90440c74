import type { Backend } from './backend.ts';
import {
  historyCell,
  historyEnd,
  historyHigh,
  historyKey,
  historyLow,
  historyMod,
  historyModAt,
  historyPosition,
  historyUserKey,
  type KeyBounds,
  keySuccessor,
} from './layout.ts';
import type { StoreState } from './state.ts';

const noEnd: Uint8Array = new Uint8Array(0);

/** The newest version in H that is not newer than a revision. */
export interface Past {
  readonly key: Uint8Array;
  readonly mod: number;
  /** At the revision. */
  readonly isAlive: boolean;
  /** If it is alive and R may have lost it; else empty. */
  readonly cell: Uint8Array;
}

/** Out of the first H entry of the key that begins at or below the revision. */
export function makePast(key: Uint8Array, entryKey: Uint8Array, value: Uint8Array, revision: number): Past {
  const i = historyPosition(value, revision);
  const mod = historyModAt(historyMod(entryKey), value, i);
  const isAlive = historyEnd(value, i) > revision;
  const cell = isAlive && i === 0 ? historyCell(value)?.slice() : undefined;
  return { key, mod, isAlive, cell: cell ?? noEnd };
}

/** An entry of H. */
export interface Chain {
  readonly mod: number;
  readonly value: Uint8Array;
}

/** Which version of it has this mod; -1: none. */
export function chainIndex({ mod, value }: Chain, version: number): number {
  if (version < mod) return -1;
  const i = historyPosition(value, version);
  return historyModAt(mod, value, i) === version ? i : -1;
}

/** The entry that knows until when the key's version `mod` was alive. */
export function findChain(backend: Backend, key: Uint8Array, mod: number): Chain | undefined {
  let chain: Chain | undefined;
  backend.scan(historyKey(key, mod), historyKey(key, 0), false, (entryKey, value) => {
    chain = { mod: historyMod(entryKey), value: value.slice() };
    return false;
  });
  return chain === undefined || chainIndex(chain, mod) < 0 ? undefined : chain;
}

/** Beyond this many entries of one key the scan seeks instead of walking. */
const walkMax = 16;

/** Finds in H the newest version of each key that is not newer than a revision. */
export class PastScan {
  readonly found: Past[] = [];
  private readonly state: StoreState;
  private readonly revision: number;
  private readonly visitsMax: number;
  private visits = 0;
  /** The walk ended within a key that is not decided yet. */
  private inKey = false;

  constructor(state: StoreState, revision: number, entriesMax: number) {
    this.state = state;
    this.revision = revision;
    this.visitsMax = 8 * entriesMax;
  }

  /** Undefined when all was read, else the key at which to go on: everything before it has been read. */
  read(bounds: KeyBounds): Uint8Array | undefined {
    const high = historyHigh(bounds);
    let low: Uint8Array | undefined = historyLow(bounds.low);
    while (low !== undefined) {
      if (this.visits >= this.visitsMax && !this.inKey) return this.keyAt(low, high);
      low = this.walk(low, high);
    }
    return undefined;
  }

  /**
   * Walks on from `low`; returns where to seek to, or undefined at the end. Newest versions come first, so the first
   * one not newer than the revision decides for its key, and the rest of the key may be skipped.
   */
  private walk(low: Uint8Array, high: Uint8Array): Uint8Array | undefined {
    const { revision } = this;
    let keyLength = 0;
    let current: Uint8Array = noEnd;
    let decided = false;
    let walked = 0;
    let seekTo: Uint8Array | undefined;
    this.inKey = false;
    this.state.backend.scan(low, high, false, (entryKey, value) => {
      this.visits++;
      if (keyLength === 0 || !hasPrefix(entryKey, current, keyLength)) {
        if (keyLength !== 0 && this.visits > this.visitsMax) {
          seekTo = entryKey.slice();
          return false;
        }
        keyLength = entryKey.length - 8;
        current = entryKey.slice(0, keyLength);
        decided = false;
        walked = 0;
      }
      const mod = historyMod(entryKey);
      if (!decided && mod <= revision) {
        decided = true;
        this.found.push(makePast(historyUserKey(entryKey), entryKey, value, revision));
      }
      if (++walked <= walkMax) return true;
      const userKey = historyUserKey(entryKey);
      this.inKey = !decided;
      seekTo = decided ? historyLow(keySuccessor(userKey)) : historyKey(userKey, revision);
      return false;
    });
    return seekTo;
  }

  /** The user's key that H continues with at `low`, if there is more. */
  private keyAt(low: Uint8Array, high: Uint8Array): Uint8Array | undefined {
    let key: Uint8Array | undefined;
    this.state.backend.scan(low, high, false, (entryKey) => {
      key = historyUserKey(entryKey);
      return false;
    });
    return key;
  }
}

function hasPrefix(key: Uint8Array, start: Uint8Array, length: number): boolean {
  if (key.length - 8 !== length) return false;
  for (let i = length - 1; i >= 0; i--) if (key[i] !== start[i]) return false;
  return true;
}
