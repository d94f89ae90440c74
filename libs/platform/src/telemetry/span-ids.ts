import { randomFillSync } from 'node:crypto';

const drawn = 1024;

/**
 * Ids of spans and traces: random to everybody who has not seen this process' memory, drawn from the system in
 * bulk, because one draw costs more than all else about a span.
 */
export class IdSource {
  private readonly words = new Uint32Array(drawn);
  private at = drawn;

  u32(): number {
    if (this.at === drawn) {
      randomFillSync(this.words);
      this.at = 0;
    }
    return this.words[this.at++]!;
  }

  /** Eight bytes at `at`, never all zero. */
  spanId(into: Uint8Array, at: number): void {
    this.word(into, at, this.u32() | 1);
    this.word(into, at + 4, this.u32());
  }

  /** Sixteen bytes at `at`, never all zero. The last eight are as random as the W3C wants them for sampling. */
  traceId(into: Uint8Array, at: number): void {
    this.word(into, at, this.u32() | 1);
    for (let i = 4; i < 16; i += 4) this.word(into, at + i, this.u32());
  }

  private word(into: Uint8Array, at: number, word: number): void {
    into[at] = word;
    into[at + 1] = word >>> 8;
    into[at + 2] = word >>> 16;
    into[at + 3] = word >>> 24;
  }
}
