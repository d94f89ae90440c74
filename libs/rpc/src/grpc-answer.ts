import { utf8 } from '@quoin/base';
import type { GrpcStatus } from './grpc-ports.ts';
import { encodeHeaders, type HeaderField, HeaderTemplate } from './hpack.ts';

/** What an answer is made of beside its message. */

export const code = {
  cancelled: 1,
  deadlineExceeded: 4,
  resourceExhausted: 8,
  unimplemented: 12,
  internal: 13,
} as const;

// No grpc-accept-encoding: grpc-go does not send it either, and all that clients do is to keep it with the metadata.
export const responseHeaders: HeaderTemplate = new HeaderTemplate([
  { name: ':status', value: '200' },
  { name: 'content-type', value: 'application/grpc' },
]);
export const trailersOk: HeaderTemplate = new HeaderTemplate([{ name: 'grpc-status', value: '0' }]);
/** Of one message: grpc-go's greatest, and the length field's four bytes must hold it. */
export const answerBytesMax = 0x7fff_ffff;

/** Percent-encoding of grpc-message: printable ASCII but % stays. */
export function encodeGrpcMessage(text: string): string {
  let out = '';
  for (const byte of utf8(text)) {
    if (byte >= 0x20 && byte <= 0x7e && byte !== 0x25) out += String.fromCharCode(byte);
    else out += `%${byte < 16 ? '0' : ''}${byte.toString(16).toUpperCase()}`;
  }
  return out;
}

function statusFields(status: GrpcStatus): HeaderField[] {
  const fields = [{ name: 'grpc-status', value: String(status.code) }];
  if (status.message !== '') fields.push({ name: 'grpc-message', value: encodeGrpcMessage(status.message) });
  return fields;
}

export function trailersOf(status: GrpcStatus | null): Uint8Array {
  return status === null ? trailersOk.literal : encodeHeaders(statusFields(status));
}

export function trailersOnly(status: GrpcStatus): Uint8Array {
  return encodeHeaders([
    { name: ':status', value: '200' },
    { name: 'content-type', value: 'application/grpc' },
    ...statusFields(status),
  ]);
}

export function totalBytes(pieces: readonly Uint8Array[]): number {
  let bytes = 0;
  for (let i = 0; i < pieces.length; i++) bytes += pieces[i]!.length;
  return bytes;
}

export function answerTooLarge(bytes: number): GrpcStatus {
  return {
    code: code.resourceExhausted,
    message: `grpc: trying to send message larger than max (${bytes} vs. ${answerBytesMax})`,
  };
}
