import { concatBytes } from '@quoin/base';
import {
  EventType,
  encodeEvent,
  type FeedRevision,
  putBytes,
  putUint,
  readEvent,
  uintSize,
} from '@quoin/contracts';
import { keyOf } from './peek.ts';

/** Tag of WatchResponse.events: field 11, length-delimited. */
const eventsTag = 90;

/** Pieces below this are copied into one run: cheaper to send than many small ones. */
const runBytes = 64 << 10;

/** One change, encoded as it goes into a WatchResponse: tag, length, mvccpb.Event. */
export class WatchEvent {
  readonly put: boolean;
  readonly key: Uint8Array;
  private readonly wire: Uint8Array;
  /** Without `prev_kv`; made when first wanted. */
  private bare: Uint8Array | undefined;

  constructor(put: boolean, key: Uint8Array, wire: Uint8Array, bare: Uint8Array | undefined) {
    this.put = put;
    this.key = key;
    this.wire = wire;
    this.bare = bare;
  }

  wireFor(prevKv: boolean): Uint8Array {
    if (prevKv) return this.wire;
    if (this.bare === undefined) {
      const lengthBytes = lengthSize(this.wire);
      const { type, kv } = readEvent(this.wire.subarray(1 + lengthBytes));
      this.bare = wireEvent(encodeEvent(type, kv, undefined));
    }
    return this.bare;
  }
}

function lengthSize(wire: Uint8Array): number {
  let n = 1;
  while (wire[n]! >= 0x80) n++;
  return n;
}

function wireEvent(event: Uint8Array): Uint8Array {
  const wire = new Uint8Array(1 + uintSize(event.length) + event.length);
  wire[0] = eventsTag;
  putBytes(wire, putUint(wire, 1, event.length), event);
  return wire;
}

/** All changes of one revision. */
export interface WatchRevision {
  readonly revision: number;
  readonly events: readonly WatchEvent[];
  readonly bytes: number;
}

/** Copies the events into a run of their own, so that the message they came in can go. @throws WireError */
export function watchRevision(from: FeedRevision): WatchRevision {
  let bytes = 0;
  for (const event of from.events) bytes += 1 + uintSize(event.length) + event.length;
  const run = new Uint8Array(bytes);
  const events: WatchEvent[] = [];
  let at = 0;
  for (const event of from.events) {
    const start = at;
    run[at++] = eventsTag;
    at = putUint(run, at, event.length);
    const body = at;
    at = putBytes(run, at, event);
    const { type, kv, prevKv } = readEvent(run.subarray(body, at));
    const wire = run.subarray(start, at);
    events.push(
      new WatchEvent(type === EventType.put, keyOf(kv), wire, prevKv === undefined ? wire : undefined),
    );
  }
  return { revision: from.revision, events, bytes };
}

/** Events of whole revisions, one or many, for watchers that want the same. */
export class EventChunk {
  /** First and last revision of which it has events. */
  from = 0;
  to = 0;
  bytes = 0;
  readonly wires: Uint8Array[] = [];
  private run: readonly Uint8Array[] | undefined;

  add(revision: number, wire: Uint8Array): void {
    if (this.wires.length === 0) this.from = revision;
    this.to = revision;
    this.bytes += wire.length;
    this.wires.push(wire);
  }

  /** All events, as pieces that follow each other; the same array for every watcher. */
  pieces(): readonly Uint8Array[] {
    this.run ??= joinWires(this.wires, this.bytes);
    return this.run;
  }
}

/** Neighbours in the same buffer become one piece, a short rest is copied together. */
function joinWires(wires: readonly Uint8Array[], bytes: number): readonly Uint8Array[] {
  if (wires.length === 1) return wires;
  const out: Uint8Array[] = [];
  for (const wire of wires) {
    const last = out[out.length - 1];
    if (
      last !== undefined &&
      last.buffer === wire.buffer &&
      last.byteOffset + last.length === wire.byteOffset
    ) {
      out[out.length - 1] = new Uint8Array(wire.buffer, last.byteOffset, last.length + wire.length);
    } else out.push(wire);
  }
  return out.length > 1 && bytes <= runBytes ? [concatBytes(out)] : out;
}
