/**
 * Why a log does not open. `corrupt`: durable bytes changed or are missing; `foreign`: the directory holds files that
 * are not this log's; `metadata`: the log of another cluster or member; `disk`: a disk call failed.
 */
export type WalErrorKind = 'corrupt' | 'foreign' | 'metadata' | 'disk';

/** The message is one line for an operator: file, offset and remedy where there is one. */
export class WalError extends Error {
  override readonly name = 'WalError';
  readonly kind: WalErrorKind;

  constructor(kind: WalErrorKind, message: string) {
    super(message);
    this.kind = kind;
  }
}

const remedy =
  'Restore this member from a snapshot: remove its data directory and add it again, or restore from a backup';

/** Durable bytes that no crash of ours can have left behind. */
export function corrupt(path: string, offset: number, what: string): WalError {
  return new WalError('corrupt', `WAL ${path} is corrupt at offset ${offset}: ${what}. ${remedy}`);
}

/** A broken log where no single offset is to blame. */
export function corruptLog(dir: string, what: string): WalError {
  return new WalError('corrupt', `WAL ${dir} is corrupt: ${what}. ${remedy}`);
}
