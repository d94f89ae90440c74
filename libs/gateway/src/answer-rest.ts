import { assert } from '@quoin/base';
import { type RpcStatus, readRangeRequest, WireReader, WireWriter } from '@quoin/contracts';
import { headerRevision } from './peek.ts';
import type { AnswerRest, PartTaker } from './ports.ts';

/** How often an answer may go on at another member. */
const resumesMax = 8;

const writer = new WireWriter();

/**
 * The parts of one large Range answer on their way to the client. What has been sent cannot be taken back, so when the
 * member is lost the same range at the same revision is asked of another one, and of that answer the part that the client
 * has is passed over. Only the header, which names the member, may differ in length.
 *
 *     first answer    | header 1 | pairs … received |
 *     second answer   | header 2 | pairs … passed over | goes on here
 */
export class PartedAnswer implements AnswerRest {
  readonly bytes: number;
  /** Set while it waits for the first part from another member. */
  resuming = false;
  /** Where the beginning is lent: as of a part. */
  readonly releaseFirst: (() => void) | undefined;
  private readonly totalBytes: number;
  private readonly headerBytes: number;
  private readonly revision: number;
  private readonly giveCredit: (bytes: number) => void;
  private received: number;
  private skip = 0;
  private resumes = 0;
  private onPart: PartTaker | undefined;
  private readonly onEnds: ((status: RpcStatus | null) => void)[] = [];

  constructor(
    first: Uint8Array,
    totalBytes: number,
    release: (() => void) | undefined,
    giveCredit: (bytes: number) => void,
  ) {
    this.totalBytes = totalBytes;
    this.bytes = totalBytes - first.length;
    this.headerBytes = headerFieldBytes(first);
    this.revision = headerRevision(first);
    this.releaseFirst = release;
    this.giveCredit = giveCredit;
    this.received = first.length;
    this.onPart = undefined;
  }

  start(onPart: PartTaker, onEnd: (status: RpcStatus | null) => void): void {
    this.onPart = onPart;
    this.onEnds.push(onEnd);
  }

  observe(onEnd: (status: RpcStatus | null) => void): void {
    this.onEnds.push(onEnd);
  }

  credit(bytes: number): void {
    this.giveCredit(bytes);
  }

  /** False: it is not the answer that was begun. `totalBytes`: with the first part of an answer. */
  take(body: Uint8Array, totalBytes: number, release: (() => void) | undefined): boolean {
    let part = body;
    if (this.resuming) {
      if (totalBytes === 0 || body.length === 0) return false;
      const headerBytes = headerFieldBytes(body);
      if (totalBytes - headerBytes !== this.totalBytes - this.headerBytes) return false;
      this.resuming = false;
      this.skip = this.received - this.headerBytes + headerBytes;
    }
    if (this.skip > 0) {
      const n = Math.min(this.skip, part.length);
      this.skip -= n;
      this.giveCredit(n);
      part = part.subarray(n);
    }
    if (part.length === 0) {
      release?.();
      return true;
    }
    this.received += part.length;
    if (this.received > this.totalBytes) return false;
    assert(this.onPart !== undefined, 'nobody takes the parts of an answer');
    this.onPart(part, release);
    return true;
  }

  get complete(): boolean {
    return this.received === this.totalBytes;
  }

  /** The request by which another member gives the same pairs; undefined: it has been tried often enough. */
  resume(body: Uint8Array): Uint8Array | undefined {
    if (this.resumes++ === resumesMax) return undefined;
    this.resuming = true;
    this.skip = 0;
    const { revision } = readRangeRequest(body);
    writer.begin(body.length + 16);
    writer.raw(body);
    // Of a field given twice the last counts.
    writer.int(32, revision > 0 ? revision : this.revision);
    // Not serializable: the other member may not have reached that revision yet.
    writer.uintItem(56, 0);
    return writer.finish();
  }

  end(status: RpcStatus | null): void {
    for (const onEnd of this.onEnds) onEnd(status);
  }
}

/** Of the header with its tag and length, which a response begins with; 0: it does not. */
function headerFieldBytes(response: Uint8Array): number {
  if (response[0] !== 10) return 0;
  const reader = new WireReader(response, 1);
  reader.bytes();
  return reader.pos;
}
