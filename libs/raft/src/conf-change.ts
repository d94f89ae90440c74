import type { ConfChange } from './types.ts';

/** The data of a `confChange` entry. */
export function encodeConfChange(_cc: ConfChange): Uint8Array {
  throw new Error('not built yet');
}

/** @throws Error on bytes that `encodeConfChange` did not make. */
export function decodeConfChange(_data: Uint8Array): ConfChange {
  throw new Error('not built yet');
}
