import { clientPreface, ErrorCode, Flag } from './frames.ts';

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

/** Its length; 0: more of it is to come. @throws ConnectionError */
export function prefaceBytes(data: Uint8Array): number {
  const n = Math.min(data.length, clientPreface.length);
  for (let i = 0; i < n; i++) {
    if (data[i] !== clientPreface.charCodeAt(i))
      throw new ConnectionError(ErrorCode.protocolError, 'bad connection preface');
  }
  return n === clientPreface.length ? n : 0;
}

/** A frame of a fixed size has it. @throws ConnectionError */
export function expectBytes(bytes: number, size: number, what: string): void {
  if (bytes !== size)
    throw new ConnectionError(ErrorCode.frameSizeError, `${what} is not ${size} bytes long`);
}
