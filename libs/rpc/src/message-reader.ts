import { concatBytes } from '@quoin/base';
import type { GrpcStatus } from './grpc-ports.ts';

/** Inflates a gzip message; undefined when it is broken or longer than `maxBytes`. */
export type Gunzip = (bytes: Uint8Array, maxBytes: number) => Uint8Array | undefined;

const resourceExhausted = 8;
const internal = 13;

/** Cuts a body into messages: a flag byte, four bytes of length, the message. */
export class MessageReader {
  private readonly maxBytes: number;
  private readonly gunzip: Gunzip;
  private parts: Uint8Array[] = [];
  private bytes = 0;

  constructor(maxBytes: number, gunzip: Gunzip) {
    this.maxBytes = maxBytes;
    this.gunzip = gunzip;
  }

  /** True when the last message is complete. */
  get empty(): boolean {
    return this.bytes === 0;
  }

  /** Calls `take` for each whole message; gives the status that ends the call, if any. */
  push(data: Uint8Array, take: (message: Uint8Array) => void): GrpcStatus | undefined {
    let rest = data;
    if (this.bytes > 0) {
      this.parts.push(data);
      this.bytes += data.length;
      const wanted = this.wantedBytes();
      if (wanted instanceof Object) return wanted;
      if (this.bytes < wanted) return undefined;
      rest = concatBytes(this.parts);
    }
    this.parts = [];
    this.bytes = 0;
    while (rest.length > 0) {
      const length = rest.length < 5 ? 0 : readLength(rest);
      if (length > this.maxBytes) return this.tooLarge(length);
      if (rest.length < 5 + length || rest.length < 5) {
        this.parts.push(rest);
        this.bytes = rest.length;
        return undefined;
      }
      let message: Uint8Array | undefined = rest.subarray(5, 5 + length);
      if (rest[0] === 1) message = this.gunzip(message, this.maxBytes);
      else if (rest[0] !== 0) return { code: internal, message: `grpc: bad compression flag ${rest[0]}` };
      if (message === undefined)
        return { code: internal, message: 'grpc: failed to decompress the received message' };
      rest = rest.subarray(5 + length);
      take(message);
    }
    return undefined;
  }

  private wantedBytes(): number | GrpcStatus {
    if (this.bytes < 5) return 5;
    const head = this.parts[0]!.length >= 5 ? this.parts[0]! : concatBytes(this.parts);
    if (head !== this.parts[0]) this.parts = [head];
    const length = readLength(head);
    return length > this.maxBytes ? this.tooLarge(length) : 5 + length;
  }

  private tooLarge(length: number): GrpcStatus {
    return {
      code: resourceExhausted,
      message: `grpc: received message larger than max (${length} vs. ${this.maxBytes})`,
    };
  }
}

/** Of the message whose prefix begins there. */
export function readLength(bytes: Uint8Array, at = 0): number {
  return ((bytes[at + 1]! << 24) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 8) | bytes[at + 4]!) >>> 0;
}
