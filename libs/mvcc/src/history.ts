import { compareBytes } from '@quoin/base';
import { type RecordReader, recordUserKey, walkRecords } from './event-log.ts';
import { putEvent, withPrevKv } from './key-value.ts';
import type { KeyBounds } from './layout.ts';
import type { EventRevision, HistoryResult } from './read-types.ts';
import type { StoreState } from './state.ts';
import { findPut, type WatchHub } from './watch-hub.ts';

export const historyBytesDefault = 1024 * 1024;
/** What one call reads at most, matching or not, before it answers with where to go on. */
const scanBytesMax = 4 * 1024 * 1024;

/** An event that has to be completed once the scan has ended. */
interface Unfinished {
  readonly revision: EventRevision;
  readonly at: number;
  readonly sub: number;
  readonly large: boolean;
  /** 0: no prev_kv. */
  readonly prevMod: number;
  readonly key: Uint8Array;
}

export interface HistoryQuery {
  /** Undefined: all keys. */
  readonly bounds: KeyBounds | undefined;
  readonly from: number;
  readonly to: number;
  readonly prevKv: boolean;
  readonly maxBytes: number;
  /** Of who holds a pin: what was readable when it began. Undefined: the current one. */
  readonly compactRevision?: number;
}

/** Reads whole revisions of committed events, in order. Revisions without a match are left out. */
export function readHistory(state: StoreState, hub: WatchHub, query: HistoryQuery): HistoryResult {
  const { from, bounds, prevKv } = query;
  const { compactRevision = state.compactRevision } = query;
  if (from < compactRevision) return { revisions: [], nextRevision: from, compactRevision };
  const to = Math.min(query.to, hub.publishedRevision);
  const bytesMax = query.maxBytes > 0 ? query.maxBytes : historyBytesDefault;
  const revisions: EventRevision[] = [];
  const unfinished: Unfinished[] = [];
  let current: { revision: number; events: Uint8Array[] } | undefined;
  let seen = from - 1;
  let bytes = 0;
  let scanned = 0;
  let nextRevision = query.to + 1;
  if (from <= to) {
    walkRecords(state.backend, from, to + 1, (records) => {
      if (records.revision !== seen) {
        if (seen >= from && (bytes >= bytesMax || scanned >= scanBytesMax)) {
          nextRevision = records.revision;
          return false;
        }
        seen = records.revision;
      }
      scanned += records.eventEnd - records.eventStart;
      const key = recordUserKey(records);
      if (bounds !== undefined && !isWithin(key, bounds)) return true;
      if (current === undefined || current.revision !== records.revision) {
        current = { revision: records.revision, events: [] };
        revisions.push(current);
      }
      const event = records.block.slice(records.eventStart, records.eventEnd);
      const prevMod = prevKv && isPrevShown(state, records) ? records.prevMod : 0;
      if (records.large || prevMod !== 0) {
        const { sub, large } = records;
        unfinished.push({
          revision: current,
          at: current.events.length,
          sub,
          large,
          prevMod,
          key: key.slice(),
        });
      }
      current.events.push(event);
      bytes += event.length;
      return true;
    });
  }
  for (const event of unfinished) complete(state, hub, revisions, event);
  return { revisions, nextRevision, compactRevision: 0 };
}

/** etcd reads prev_kv at the revision before the event's: gone if that one is compacted. None for a creation. */
function isPrevShown(state: StoreState, records: RecordReader): boolean {
  if (records.prevMod === 0 || state.compactRevision > records.revision - 1) return false;
  if (records.isDelete()) return true;
  state.reader.readHead(records.block, records.kvStart());
  return state.reader.createRevision !== records.revision;
}

function isWithin(key: Uint8Array, { low, high }: KeyBounds): boolean {
  return compareBytes(key, low) >= 0 && (high.length === 0 || compareBytes(key, high) < 0);
}

function complete(state: StoreState, hub: WatchHub, revisions: EventRevision[], item: Unfinished): void {
  const { revision, at, sub, large, prevMod, key } = item;
  if (large) revision.events[at] = putEvent(state.largeValue(revision.revision, sub));
  if (prevMod === 0) return;
  const prev =
    hub.findKeyValue(prevMod, key) ??
    findEarlier(state, revisions, prevMod, key) ??
    state.superseded(key, prevMod);
  if (prev !== undefined) revision.events[at] = withPrevKv(revision.events[at]!, prev);
}

/** The previous version is often an event of the same answer, completed before this one. */
function findEarlier(
  state: StoreState,
  revisions: EventRevision[],
  mod: number,
  key: Uint8Array,
): Uint8Array | undefined {
  let low = 0;
  let high = revisions.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (revisions[middle]!.revision < mod) low = middle + 1;
    else high = middle;
  }
  const found = revisions[low];
  return found?.revision === mod ? findPut(found.events, key, state.reader) : undefined;
}
