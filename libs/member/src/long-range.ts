import { assert, BufferPool } from '@quoin/base';
import {
  etcdErrors,
  itemsSize,
  ownPieceBytes,
  type RangeRequestView,
  RangeResponseParts,
  RangeResponsePieces,
  type ResponseHeader,
  replyHeadBytes,
} from '@quoin/contracts';
import type { RangeReader, RangeResult, RevisionError } from '@quoin/mvcc';
import type { StateMachine } from './apply.ts';
import type { MemberConfig } from './config.ts';
import type { LinkCall } from './link-session.ts';

/** Entries that one slice of a long range visits. */
const rangeSliceEntries = 2_000;
/** Buffers for parts that are kept for the next ones: what a dozen ranges have under way. One that finds no place is garbage. */
const buffersKept = 128;
/** What pairs below `ownPieceBytes` are copied to until they are in the answer, and how many of them are kept for the next ones. */
const slabBytes = 64 << 10;
const slabsKept = 64;

const noPairs: readonly Uint8Array[] = Object.freeze([]);

/** What the long ranges of a member have in common. */
export class LongRanges {
  readonly machine: StateMachine;
  readonly heldBytes: number;
  readonly partBytes: number;
  readonly windowBytes: number;
  readonly buffers: BufferPool;
  private readonly slabs = new BufferPool(slabBytes, slabsKept);

  constructor(config: MemberConfig, machine: StateMachine) {
    // A pair out of a slab that is used again must have been copied into its answer.
    assert(slabBytes < ownPieceBytes, 'a pair that is sent as it is fits a slab');
    this.machine = machine;
    this.heldBytes = config.rangeHeldBytes;
    this.partBytes = config.rangePartBytes;
    this.windowBytes = config.rangeWindowBytes;
    this.buffers = new BufferPool(replyHeadBytes + config.rangePartBytes, buffersKept);
  }

  open(call: LinkCall, request: RangeRequestView, header: ResponseHeader): LongRange | RevisionError {
    const { heldBytes: holdBytes, slabs } = this;
    const reader = this.machine.store.rangeReader({ ...request, holdBytes, slabs });
    return typeof reader === 'string' ? reader : new LongRange(this, call, request, header, reader);
  }
}

export const RangeOutcome = { more: 0, waits: 1, done: 2 } as const;
export type RangeOutcome = (typeof RangeOutcome)[keyof typeof RangeOutcome];

/**
 * A range that is read in slices.
 *
 *     reading ── no more than a part ─────────────────────────────────► answered at once ─────► done
 *        ├─ all its pairs are here ─► sending them, as far as there is credit ────────────────────► done
 *        └─ more than `rangeHeldBytes`: its pairs are only measured ─► sending ────────────────────► done
 *                                                                     reads again at the same revision, as far as
 *                                                                     there is credit: nothing but a part is here
 *
 * What has to be sorted is here as a whole, however much it is.
 */
export class LongRange {
  readonly call: LinkCall;
  private readonly request: RangeRequestView;
  /** Of the moment in which it began: whoever watches from the next revision on must miss nothing. */
  private readonly header: ResponseHeader;
  private readonly all: LongRanges;
  private reader: RangeReader;
  private parts: RangeResponseParts | undefined;
  /** Pairs that are here and have not been sent. */
  private held: readonly Uint8Array[] = noPairs;
  private heldNext = 0;
  private sentAny = false;
  private sliceEntries = rangeSliceEntries;

  constructor(
    all: LongRanges,
    call: LinkCall,
    request: RangeRequestView,
    header: ResponseHeader,
    reader: RangeReader,
  ) {
    this.all = all;
    this.call = call;
    this.request = request;
    this.header = header;
    this.reader = reader;
    this.parts = undefined;
  }

  /** One slice. `waits`: until there is credit. */
  step(): RangeOutcome {
    if (this.call.done) return this.end();
    if (this.parts !== undefined) return this.send(this.parts);
    if (!this.reader.step(rangeSliceEntries)) return RangeOutcome.more;
    const result = this.reader.result();
    if (this.reader.overflown) return this.readAgain(result);
    const itemBytes = itemsSize(result.kvs);
    if (itemBytes > this.all.partBytes) return this.sendHeld(result, itemBytes);
    const { reader } = this;
    answerRange(this.call, this.header, result, () => reader.release());
    return this.end();
  }

  /** Its state is about to be replaced. */
  drop(): void {
    this.call.fail(etcdErrors.leaderChanged);
    this.end();
  }

  private end(): typeof RangeOutcome.done {
    // An open reader holds a cursor, and keeps removal of old versions waiting.
    this.reader.close();
    return RangeOutcome.done;
  }

  private sendHeld({ kvs, more, count }: RangeResult, itemBytes: number): RangeOutcome {
    // Nothing is read any more.
    this.reader.close();
    this.held = kvs;
    this.begin(more, count, itemBytes);
    return this.send(this.parts!);
  }

  private readAgain({ more, count }: RangeResult): RangeOutcome {
    const { call, header, request } = this;
    const { machine, partBytes } = this.all;
    const { itemBytes } = this.reader;
    const revision = request.revision > 0 ? request.revision : header.revision;
    const add = (kv: Uint8Array): void => this.parts!.add(kv);
    // Before the first is closed: what that one sees is not removed meanwhile.
    const second = machine.store.rangeReader({ ...request, revision, sink: add });
    if (typeof second === 'string') {
      answerRange(call, header, second);
      return this.end();
    }
    this.reader.close();
    this.reader = second;
    const returned = request.limit > 0 ? Math.min(request.limit, count) : count;
    this.sliceEntries = Math.max(
      1,
      Math.min(rangeSliceEntries, Math.floor((partBytes * returned) / itemBytes)),
    );
    this.begin(more, count, itemBytes);
    return RangeOutcome.more;
  }

  private begin(more: boolean, count: number, itemBytes: number): void {
    const { buffers, windowBytes } = this.all;
    this.parts = new RangeResponseParts(
      this.header,
      more,
      count,
      itemBytes,
      () => buffers.take(),
      (part) => this.sendPart(part, true),
    );
    this.call.creditBytes = Math.min(this.call.creditBytes, windowBytes);
  }

  private send(parts: RangeResponseParts): RangeOutcome {
    if (this.call.creditBytes <= 0) return RangeOutcome.waits;
    if (this.held.length > 0) {
      if (!this.addHeld(parts)) return RangeOutcome.waits;
    } else if (!this.reader.step(this.sliceEntries) && !parts.complete) return RangeOutcome.more;
    const last = parts.end();
    assert(
      parts.writtenBytes === parts.totalBytes,
      () => `a range of ${parts.totalBytes} bytes had ${parts.writtenBytes} when it was sent`,
    );
    this.sendPart(last, false);
    return this.end();
  }

  /** False: there is no credit for the rest. */
  private addHeld(parts: RangeResponseParts): boolean {
    const { held, call } = this;
    while (this.heldNext < held.length && call.creditBytes > 0) parts.add(held[this.heldNext++]!);
    if (this.heldNext < held.length) return false;
    this.reader.release();
    return true;
  }

  private sendPart(part: Uint8Array<ArrayBuffer>, more: boolean): void {
    const { buffer } = part;
    const { buffers } = this.all;
    this.call.framedPart(part, more, this.sentAny ? 0 : this.parts!.totalBytes, () =>
      buffers.give(new Uint8Array(buffer)),
    );
    this.sentAny = true;
  }
}

/** An answer that is in memory. `onWritten`: the pairs have been copied into it; not called when nobody waits any more. */
export function answerRange(
  call: LinkCall,
  header: ResponseHeader,
  result: RangeResult | RevisionError,
  onWritten?: () => void,
): void {
  if (result === 'compacted') return call.fail(etcdErrors.compacted);
  if (result === 'future') return call.fail(etcdErrors.futureRev);
  const { kvs, more, count } = result;
  const pieces = new RangeResponsePieces(header, kvs, more, count);
  call.replyPieces(() => {
    const piece = pieces.next();
    if (piece === undefined) onWritten?.();
    return piece;
  });
}
