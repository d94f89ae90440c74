/**
 * The engine's files cannot be read or written: the disk's fault, not the program's. The message is one line for the
 * operator, a stack would tell nothing.
 */
export class StoreError extends Error {
  override readonly name = 'StoreError';
}

/** What to do about a store that lost or changed what was durable. */
export const storeRemedy =
  'remove this member, empty its whole data directory and add it again (member remove, member add), or restore from a backup';
