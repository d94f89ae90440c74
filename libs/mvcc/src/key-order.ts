const blockMax = 256;

/**
 * Small numbers in the order of the keys that they stand for, in sorted blocks: an insertion moves at most one block.
 * `compare` says how the key of a number lies to another one's.
 */
export class KeyOrder {
  private readonly blocks: Int32Array[] = [];
  private readonly counts: number[] = [];
  private readonly compare: (a: number, b: number) => number;

  constructor(compare: (a: number, b: number) => number) {
    this.compare = compare;
  }

  /** Adds a number whose key is not there. */
  insert(item: number): void {
    const { blocks, counts } = this;
    if (blocks.length === 0) {
      blocks.push(new Int32Array(blockMax).fill(item, 0, 1));
      counts.push(1);
      return;
    }
    // Keys in ascending order go to the end without a search.
    const lastBlock = blocks.length - 1;
    const isLast = this.compare(blocks[lastBlock]![counts[lastBlock]! - 1]!, item) < 0;
    const b = isLast ? lastBlock : this.blockOf((other) => this.compare(other, item));
    const block = blocks[b]!;
    const count = counts[b]!;
    const at = isLast ? count : lowerBound(block, count, (other) => this.compare(other, item));
    block.copyWithin(at + 1, at, count);
    block[at] = item;
    counts[b] = count + 1;
    if (count + 1 === blockMax) this.split(b, isLast ? blockMax - 1 : blockMax >> 1);
  }

  remove(item: number): void {
    const { blocks, counts } = this;
    const b = this.blockOf((other) => this.compare(other, item));
    const block = blocks[b]!;
    const count = counts[b]!;
    const at = lowerBound(block, count, (other) => this.compare(other, item));
    block.copyWithin(at, at + 1, count);
    counts[b] = count - 1;
    if (count > 1) return;
    blocks.splice(b, 1);
    counts.splice(b, 1);
  }

  /**
   * Visits in order from the first number for which `below` does not answer less than zero, until `visit` returns
   * false.
   */
  from(below: (item: number) => number, visit: (item: number) => boolean): void {
    const { blocks, counts } = this;
    let b = this.blockOf(below);
    if (b === blocks.length) return;
    let at = lowerBound(blocks[b]!, counts[b]!, below);
    for (; b < blocks.length; b++, at = 0) {
      const block = blocks[b]!;
      for (const end = counts[b]!; at < end; at++) if (!visit(block[at]!)) return;
    }
  }

  /** The first block whose last number is not below. */
  private blockOf(below: (item: number) => number): number {
    const { blocks, counts } = this;
    let low = 0;
    let high = blocks.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (below(blocks[middle]![counts[middle]! - 1]!) < 0) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  private split(b: number, at: number): void {
    const block = this.blocks[b]!;
    const rest = new Int32Array(blockMax);
    rest.set(block.subarray(at, blockMax), 0);
    this.blocks.splice(b + 1, 0, rest);
    this.counts.splice(b, 1, at, blockMax - at);
  }
}

function lowerBound(block: Int32Array, count: number, below: (item: number) => number): number {
  let low = 0;
  let high = count;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (below(block[middle]!) < 0) low = middle + 1;
    else high = middle;
  }
  return low;
}
