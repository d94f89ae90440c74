import { EtcdError } from '@quoin/client';
import { Code, etcdErrors, statusText } from '@quoin/contracts';

/** etcdctl's exit codes. */
export const ExitCode = {
  ok: 0,
  error: 1,
  badConnection: 2,
  invalidInput: 3,
  badFeature: 4,
  interrupted: 5,
  io: 6,
  badArgs: 128,
} as const;
export type ExitCode = (typeof ExitCode)[keyof typeof ExitCode];

/** Ends the command with `Error: <message>` on stderr and this code. */
export class CommandError extends Error {
  override readonly name = 'CommandError';
  readonly exitCode: number;

  constructor(exitCode: number, message: string) {
    super(message);
    this.exitCode = exitCode;
  }
}

export function badArgs(message: string): CommandError {
  return new CommandError(ExitCode.badArgs, message);
}

const etcdTexts: ReadonlySet<string> = new Set(Object.values(etcdErrors).map((status) => status.message));

/** What etcd's client makes of a failure: a text of its table stands alone, any other status is shown as gRPC's. */
export function errorText(error: unknown): string {
  if (!(error instanceof EtcdError)) return error instanceof Error ? error.message : String(error);
  const ended = error.code === Code.deadlineExceeded || error.code === Code.canceled;
  return ended || etcdTexts.has(error.message) ? error.message : statusText(error);
}
