/**
 * The memory that frames are written into: a few blocks for all connections of the process, since one needs them from its
 * first frame of a turn to the write of its socket only. A connection that has nothing to say owns none, and those that are
 * used stay in the processor's caches: what was given back last is lent first.
 */

/** What most turns write on one connection fits: a dozen small answers. Whoever has more to say goes on in large ones. */
const smallBytes = 8_192;
const largeBytes = 65_536;
// What is kept for the next turn, 6 MiB in all. More than that may be lent; it is collected when it comes back.
const smallKept = 512;
const largeKept = 32;

const small: Uint8Array[] = [];
const large: Uint8Array[] = [];

/** What a writer has that has no block. */
export const noBlock: Uint8Array = new Uint8Array(0);

/** A block for whoever has written `before`. What is in it has no meaning. */
export function lendBlock(before: Uint8Array): Uint8Array {
  if (before.length === 0) return small.pop() ?? new Uint8Array(smallBytes);
  return large.pop() ?? new Uint8Array(largeBytes);
}

/** Nobody reads or writes it any more. */
export function giveBack(block: Uint8Array): void {
  if (block.length === smallBytes) {
    if (small.length < smallKept) small.push(block);
  } else if (block.length === largeBytes && large.length < largeKept) large.push(block);
}
