/**
 * What happened, in the order in which this process saw it: calls begun and answered, watch responses, leases renewed,
 * faults. One process sees all of it, so its own clock is enough; no member's clock is ever asked.
 */
import { closeSync, openSync, readFileSync, writeSync } from 'node:fs';
import type { ClientOperation, Ending, WatchSpec } from '@quoin/sim';

export type Entry =
  | {
      readonly what: 'begin';
      readonly atMs: number;
      readonly operation: number;
      readonly kind: ClientOperation['kind'];
      readonly name: string;
      readonly user: string;
      readonly request: Uint8Array;
    }
  | { readonly what: 'end'; readonly atMs: number; readonly operation: number; readonly ending: Ending }
  | {
      readonly what: 'watchOpen' | 'watchCreated' | 'watchCanceled' | 'watch';
      readonly atMs: number;
      readonly watcher: string;
      /** Of an opening: asked for from here on; 0: from now on. */
      readonly start: number;
      readonly response: Uint8Array;
    }
  | {
      readonly what: 'leaseLives';
      readonly atMs: number;
      readonly lease: bigint;
      readonly ttlSeconds: number;
      readonly sentMs: number;
    }
  /** A member said that there is no such lease. */
  | { readonly what: 'leaseGone'; readonly atMs: number; readonly lease: bigint }
  /** Its holder asks for its end. */
  | { readonly what: 'leaseGivenUp'; readonly atMs: number; readonly lease: bigint }
  /** Asked for; from now on nobody may count on what is older. */
  | { readonly what: 'compact'; readonly atMs: number; readonly revision: number }
  | { readonly what: 'fault'; readonly atMs: number; readonly text: string };

export interface Recording {
  readonly watchers: ReadonlyMap<string, WatchSpec>;
  readonly entries: readonly Entry[];
}

export interface Pause {
  readonly ms: number;
  /** What began or ended shortly before and during it, with its time from the pause's beginning. */
  readonly faults: readonly string[];
}

const leadMs = 4_000;
const nothing = new Uint8Array(0);

export class Recorder implements Recording {
  readonly watchers = new Map<string, WatchSpec>();
  readonly entries: Entry[] = [];
  operations = 0;
  inFlight = 0;
  /** Of mutations that were acknowledged. */
  readonly writesAtMs: number[] = [];
  private readonly startMs = performance.now();
  private readonly mutations = new Set<number>();

  get nowMs(): number {
    return performance.now() - this.startMs;
  }

  begin(kind: ClientOperation['kind'], name: string, user: string, request: Uint8Array): number {
    const operation = ++this.operations;
    this.inFlight++;
    this.entries.push({ what: 'begin', atMs: this.nowMs, operation, kind, name, user, request });
    if (kind === 'mutation') this.mutations.add(operation);
    return operation;
  }

  end(operation: number, ending: Ending): void {
    this.inFlight--;
    const atMs = this.nowMs;
    this.entries.push({ what: 'end', atMs, operation, ending });
    if (this.mutations.delete(operation) && ending.kind === 'ok') this.writesAtMs.push(atMs);
  }

  watch(
    what: 'watchOpen' | 'watchCreated' | 'watchCanceled' | 'watch',
    watcher: string,
    response: Uint8Array = nothing,
    start = 0,
  ): void {
    this.entries.push({ what, atMs: this.nowMs, watcher, start, response });
  }

  leaseLives(lease: bigint, ttlSeconds: number, sentMs: number): void {
    this.entries.push({ what: 'leaseLives', atMs: this.nowMs, lease, ttlSeconds, sentMs });
  }

  lease(what: 'leaseGone' | 'leaseGivenUp', lease: bigint): void {
    this.entries.push({ what, atMs: this.nowMs, lease });
  }

  compact(revision: number): void {
    this.entries.push({ what: 'compact', atMs: this.nowMs, revision });
  }

  fault(text: string): void {
    this.entries.push({ what: 'fault', atMs: this.nowMs, text });
  }

  /** The longest time without an acknowledged write, between two moments. */
  longestPause(fromMs: number, toMs: number): Pause {
    let last = fromMs;
    let longest = [fromMs, fromMs] as const;
    for (const atMs of [...this.writesAtMs, toMs]) {
      if (atMs < fromMs || atMs > toMs) continue;
      if (atMs - last > longest[1] - longest[0]) longest = [last, atMs];
      last = atMs;
    }
    const [begin, end] = longest;
    const faults = this.entries.flatMap((entry) =>
      entry.what === 'fault' && entry.atMs > begin - leadMs && entry.atMs < end
        ? [`${((entry.atMs - begin) / 1_000).toFixed(1)} s ${entry.text}`]
        : [],
    );
    return { ms: Math.round(end - begin), faults };
  }
}

/** One JSON object a line: watchers first, then entries. Bytes are base64, leases decimal. */
export function writeRecording(path: string, recording: Recording): void {
  const fd = openSync(path, 'w');
  const line = (value: unknown): void => {
    writeSync(fd, `${JSON.stringify(value, replacer)}\n`);
  };
  for (const [name, spec] of recording.watchers) line({ what: 'watcher', name, spec });
  for (const entry of recording.entries) line(entry);
  closeSync(fd);
}

export function readRecording(path: string): Recording {
  const watchers = new Map<string, WatchSpec>();
  const entries: Entry[] = [];
  for (const text of readFileSync(path, 'utf8').split('\n')) {
    if (text === '') continue;
    const value = JSON.parse(text, reviver);
    if (value.what === 'watcher') watchers.set(value.name, value.spec);
    else entries.push(value);
  }
  return { watchers, entries };
}

function replacer(_key: string, value: unknown): unknown {
  if (typeof value === 'bigint') return { bigint: String(value) };
  if (ArrayBuffer.isView(value)) return { base64: Buffer.from(value as Uint8Array).toString('base64') };
  // Buffer's own toJSON has run before this.
  if (typeof value === 'object' && value !== null && (value as { type?: unknown }).type === 'Buffer') {
    return { base64: Buffer.from((value as unknown as { data: number[] }).data).toString('base64') };
  }
  return value;
}

function reviver(_key: string, value: unknown): unknown {
  if (typeof value !== 'object' || value === null) return value;
  const { bigint, base64 } = value as { bigint?: string; base64?: string };
  if (bigint !== undefined) return BigInt(bigint);
  if (base64 !== undefined) return new Uint8Array(Buffer.from(base64, 'base64'));
  return value;
}
