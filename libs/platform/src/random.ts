import { randomFillSync } from 'node:crypto';
import type { Random } from '@quoin/base';

const blockWords = 256;

/** The operating system's generator, drawn in blocks. */
export class RealRandom implements Random {
  private readonly words = new Uint32Array(blockWords);
  private next = blockWords;

  u32(): number {
    if (this.next === blockWords) {
      randomFillSync(this.words);
      this.next = 0;
    }
    const word = this.words[this.next]!;
    // A number that was handed out may be part of a token: it does not stay in memory.
    this.words[this.next++] = 0;
    return word;
  }
}
