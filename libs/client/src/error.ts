import { Code, etcdErrors } from '@quoin/contracts';

/** A call that did not end well. `code` is a gRPC status code, `message` the server's exact text. */
export class EtcdError extends Error {
  override readonly name: string = 'EtcdError';
  readonly code: number;

  constructor(code: number, message: string) {
    super(message);
    this.code = code;
  }
}

/** The watch's next revision has been compacted: read again and watch from there. */
export class CompactedError extends EtcdError {
  override readonly name = 'CompactedError';
  /** Oldest revision that a new watch may start from. */
  readonly compactRevision: bigint;

  constructor(compactRevision: bigint) {
    super(etcdErrors.compacted.code, etcdErrors.compacted.message);
    this.compactRevision = compactRevision;
  }
}

/** A gRPC failure as grpc-js reports it. */
interface ServiceError {
  readonly code: number;
  readonly details: string;
}

function isServiceError(error: unknown): error is ServiceError {
  const e = error as Partial<ServiceError> | null;
  return typeof e === 'object' && e !== null && typeof e.code === 'number' && typeof e.details === 'string';
}

/** Local texts of grpc-js are turned into those that Go's client gives for the same end of a call. */
export function toEtcdError(error: unknown): EtcdError {
  if (error instanceof EtcdError) return error;
  if (!isServiceError(error)) {
    return new EtcdError(Code.unknown, error instanceof Error ? error.message : String(error));
  }
  if (error.code === Code.deadlineExceeded && !error.details.startsWith('etcdserver:'))
    return deadlineExceeded();
  if (error.code === Code.canceled && !error.details.startsWith('etcdserver:')) return canceled();
  return new EtcdError(error.code, error.details);
}

export function deadlineExceeded(): EtcdError {
  return new EtcdError(Code.deadlineExceeded, 'context deadline exceeded');
}

export function canceled(): EtcdError {
  return new EtcdError(Code.canceled, 'context canceled');
}

// What grpc-js says of a call that found no connection, or whose stream was refused by the server or on a connection that
// is being let go of (RFC 9113 §8.7), and what a gateway says of one that it has not passed on.
const notSentTexts = [
  'No connection established',
  'Stream refused by server',
  'Name resolution failed',
  'there is no address available',
  'there is no connection available',
];

/** True when the request cannot have reached the state machine: a mutation may be tried again. */
export function wasNotSent(error: EtcdError): boolean {
  return error.code === Code.unavailable && notSentTexts.some((text) => error.message.includes(text));
}
