/**
 * The memory that frames are written into: a few blocks for all connections of the process, since one needs them from its
 * first frame of a turn to the write of its socket only. A connection that has nothing to say owns none, and those that are
 * used stay in the processor's caches: what was given back last is lent first.
 */

import { BufferPool } from '@quoin/base';

/** What most turns write on one connection fits: a dozen small answers. Whoever has more to say goes on in large ones. */
const smallBytes = 8_192;
const largeBytes = 65_536;
// What is kept for the next turn, 6 MiB in all. More than that may be lent; it is collected when it comes back.
const smallKept = 512;
const largeKept = 32;

const small = new BufferPool(smallBytes, smallKept);
const large = new BufferPool(largeBytes, largeKept);

/** What a writer has that has no block. */
export const noBlock: Uint8Array<ArrayBuffer> = new Uint8Array(0);

/** A block for whoever has written `before`. What is in it has no meaning. */
export function lendBlock(before: Uint8Array): Uint8Array<ArrayBuffer> {
  return (before.length === 0 ? small : large).take();
}

/** Nobody reads or writes it any more. */
export function giveBack(block: Uint8Array<ArrayBuffer>): void {
  if (block.length === smallBytes) small.give(block);
  else if (block.length === largeBytes) large.give(block);
}
