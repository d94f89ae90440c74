/** The durable log of a member: segments, group commit, recovery. See DESIGN.md. */
export { WalError, type WalErrorKind } from './error.ts';
export { type WalOptions, walDefaults } from './options.ts';
export type { Recovered, WalRepair } from './recovery.ts';
export { Wal } from './wal.ts';
