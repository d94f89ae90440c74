import { readCounterBE } from '@quoin/base';
import {
  historyHigh,
  historyKey,
  historyLow,
  historyMod,
  historyUserKey,
  type KeyBounds,
  keySuccessor,
} from './layout.ts';
import type { StoreState } from './state.ts';

const noEnd: Uint8Array = new Uint8Array(0);

/** The newest version in H that is not newer than a revision. `value` is its H entry's. */
export interface Past {
  readonly key: Uint8Array;
  readonly mod: number;
  /** At the revision. */
  readonly isAlive: boolean;
  readonly value: Uint8Array;
}

export function makePast(key: Uint8Array, entryKey: Uint8Array, value: Uint8Array, revision: number): Past {
  const isAlive = readCounterBE(value, 0) > revision;
  return { key, mod: historyMod(entryKey), isAlive, value: isAlive ? value.slice() : noEnd };
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
