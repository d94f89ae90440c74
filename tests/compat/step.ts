/** One step of a sequence, as data: what is asked of both servers. */
import { etcdErrors, type Rpc, services } from '@quoin/contracts';
import type { Fields } from './message.ts';

/** One request (or, for LeaseKeepAlive, several on one stream) and its whole answer. */
export interface CallStep {
  /** `Range`, `LeaseGrant`, …: the RPC's own name. */
  readonly rpc: string;
  readonly request: Fields;
  /** Further requests on the same stream. */
  readonly more?: readonly Fields[];
  /** The lease slot that a generated id goes to. */
  readonly slot?: number;
  /** Keeps a field of the answer, as bytes, for `{ kept }` in a later step. */
  readonly keep?: { readonly as: string; readonly field: string };
  /** Whose token goes with it; `bad` is one that nobody issued. */
  readonly user?: string;
  /** Bytes in place of an encoded request, as latin1 text. */
  readonly raw?: string;
}

export interface WatchStep {
  /** Which of the sequence's watch streams. */
  readonly watch: number;
  readonly create: Fields;
  /** When the stream is opened by this step. */
  readonly user?: string;
}

export interface CancelStep {
  readonly watch: number;
  readonly cancel: number;
}

export interface ProgressStep {
  readonly watch: number;
  readonly progress: true;
}

export type Step = CallStep | WatchStep | CancelStep | ProgressStep;

export const isCall = (step: Step): step is CallStep => 'rpc' in step;

const byName = new Map<string, Rpc>(
  services
    .flatMap((service) => service.rpcs)
    // The health service has a Watch too.
    .filter((rpc) => rpc.path !== '/grpc.health.v1.Health/Watch')
    .map((rpc) => [rpc.name, rpc]),
);

export function rpcNamed(name: string): Rpc {
  const rpc = byName.get(name);
  if (rpc === undefined) throw new Error(`no RPC ${name}`);
  return rpc;
}

/** One line that can be read, and pasted into a test. */
export function printStep(step: Step): string {
  return printValue(step);
}

export function printValue(value: unknown): string {
  if (typeof value === 'bigint') return `${value}n`;
  if (typeof value === 'string') return quoted(value);
  if (Array.isArray(value)) return `[${value.map(printValue).join(', ')}]`;
  if (value !== null && typeof value === 'object') {
    const entries = Object.entries(value).filter(([, inner]) => inner !== undefined);
    return `{ ${entries.map(([name, inner]) => `${name}: ${printValue(inner)}`).join(', ')} }`;
  }
  return String(value);
}

const printedMax = 200;

function quoted(text: string): string {
  const shown = text.length > printedMax ? `${text.slice(0, printedMax)}…(${text.length})` : text;
  const escaped = JSON.stringify(shown).slice(1, -1).replaceAll("'", "\\'").replaceAll('\\"', '"');
  // Bytes beyond ASCII as escapes: they are bytes, not letters.
  return `'${escaped.replace(/[\u007f-\u00ff]/g, (c) => `\\x${c.charCodeAt(0).toString(16)}`)}'`;
}

/** What a request without a token that holds is told. */
export const signInTexts: ReadonlySet<string> = new Set(
  (['userEmpty', 'invalidAuthToken', 'authOldRevision', 'permissionDenied'] as const).map(
    (name) => etcdErrors[name].message,
  ),
);
