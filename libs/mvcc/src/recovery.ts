import type { Backend } from './backend.ts';
import { blockState, eventChunkBytes } from './event-log.ts';
import {
  decodeRedo,
  decodeState,
  encodeState,
  noRedo,
  prefix,
  prefixEnd,
  revisionKey,
  type StoredState,
  stateKey,
} from './layout.ts';

/**
 * Where the engine stands, made whole: the newest commit is the one that counts, what a crash has left of a later one
 * goes, and what may be missing of its own single entries is written again.
 *
 * @throws Error when the engine holds something else, half a snapshot, or another format.
 */
export function readState(backend: Backend): StoredState {
  const inMeta = backend.get(stateKey);
  if (inMeta === undefined) {
    assertEmpty(backend);
    const state: StoredState = {
      revision: 1,
      compactRevision: -1,
      appliedIndex: 0,
      appliedTerm: 0,
      keysTotal: 0,
      storedBytes: 0,
      commits: 0,
      materialised: 1,
    };
    // From now on an engine without it is not ours.
    backend.put(stateKey, encodeState(state, noRedo));
    return state;
  }
  let bytes = inMeta;
  let state = decodeState(bytes);
  const inEvents = newestInEvents(backend, state.revision);
  if (inEvents !== undefined) {
    const other = decodeState(inEvents);
    if (other.commits > state.commits) {
      state = other;
      bytes = inEvents;
    }
  }
  dropAbove(backend, prefix.events, state.revision);
  dropAbove(backend, prefix.values, state.revision);
  const redo = decodeRedo(bytes);
  for (let i = 0; i < redo.keys.length; i++) backend.put(redo.keys[i]!, redo.values[i]!);
  return state;
}

/** A commit with events is newer than `revision`, or the state in M is newer. */
function newestInEvents(backend: Backend, revision: number): Uint8Array | undefined {
  let found: Uint8Array | undefined;
  const low = revisionKey(prefix.events, revision + 1, 0);
  backend.scan(low, prefixEnd(prefix.events), true, (_key, block) => {
    found = blockState(block)?.slice();
    return found === undefined;
  });
  return found;
}

function dropAbove(backend: Backend, first: number, revision: number): void {
  const keys: Uint8Array[] = [];
  backend.scan(revisionKey(first, revision + 1, 0), prefixEnd(first), false, (key) => {
    keys.push(key.slice());
    return true;
  });
  for (const key of keys) backend.put(key, null);
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

/** Copies of records, many to a chunk. */
export class ChunkWriter {
  chunk: Uint8Array = new Uint8Array(0);
  private at = 0;

  /** Returns where in `chunk` the copy is. */
  add(record: Uint8Array): number {
    if (this.at + record.length > this.chunk.length) {
      this.chunk = new Uint8Array(Math.max(record.length, eventChunkBytes));
      this.at = 0;
    }
    const at = this.at;
    this.chunk.set(record, at);
    this.at = at + record.length;
    return at;
  }
}
