import { concatBytes } from '@quoin/base';

// A header block cut into more frames than this is an attack (CVE-2024-27316 and its kin).
const framesMax = 32;

/** A header block while its HEADERS and CONTINUATION frames come in; bounded, since it is compressed. */
export class HeaderBlock {
  /** 0: none is under way. */
  streamId = 0;
  endStream = false;
  /** To be refused once it was decoded. */
  malformed = false;
  private readonly bytesMax: number;
  private parts: Uint8Array[] = [];
  private bytes = 0;

  constructor(bytesMax: number) {
    this.bytesMax = bytesMax;
  }

  begin(streamId: number, endStream: boolean, malformed: boolean): void {
    this.streamId = streamId;
    this.endStream = endStream;
    this.malformed = malformed;
  }

  /** False when the block has become too long. */
  add(part: Uint8Array): boolean {
    this.parts.push(part);
    this.bytes += part.length;
    return this.bytes <= this.bytesMax && this.parts.length <= framesMax;
  }

  finish(): Uint8Array {
    const block = this.parts.length === 1 ? this.parts[0]! : concatBytes(this.parts);
    this.parts = [];
    this.bytes = 0;
    this.streamId = 0;
    return block;
  }
}
