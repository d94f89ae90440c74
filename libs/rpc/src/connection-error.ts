import { ErrorCode, Flag } from './frames.ts';

/** What the client did ends the whole connection with GOAWAY (RFC 9113 §5.4.1). */
export class ConnectionError extends Error {
  override readonly name = 'ConnectionError';
  readonly code: ErrorCode;

  constructor(code: ErrorCode, message: string) {
    super(message);
    this.code = code;
  }
}

/** Where the body begins and ends without its padding (§6.1). */
export function unpad(
  flags: number,
  data: Uint8Array,
  from: number,
  to: number,
): [start: number, end: number] {
  if ((flags & Flag.padded) === 0) return [from, to];
  if (to === from)
    throw new ConnectionError(ErrorCode.frameSizeError, 'a padded frame without a length of padding');
  const padding = data[from]!;
  if (padding >= to - from) throw new ConnectionError(ErrorCode.protocolError, 'more padding than frame');
  return [from + 1, to - padding];
}
