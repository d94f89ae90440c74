/**
 * Is a history of reads and writes strictly serializable? The store numbers its states, so the order to check is known:
 * every operation names the revision it took effect at, and that order must agree with real time and with the values.
 */

export interface Operation {
  readonly kind: 'write' | 'read';
  readonly key: string;
  /** Written, or found; undefined: the key was not there. Written values are never written twice. */
  readonly value: string | undefined;
  readonly startMs: number;
  /** Undefined: nobody knows whether it happened. */
  readonly endMs: number | undefined;
  /** Header revision of the answer; for a write the revision it made. */
  readonly revision: number;
  /** Of what a read found; 0 when there was nothing. */
  readonly modRevision: number;
}

/** What contradicts the history, one line each; empty when nothing does. */
export function historyErrors(operations: readonly Operation[]): string[] {
  const errors: string[] = [];
  const known = operations.filter((op) => op.endMs !== undefined);
  checkRealTime(known, errors);
  const started = new Map<string, Operation>();
  for (const op of operations) if (op.kind === 'write') started.set(`${op.key}=${op.value}`, op);
  const written = new Map<number, Operation>();
  for (const op of known) {
    if (op.kind !== 'write') continue;
    const twin = written.get(op.revision);
    if (twin !== undefined) errors.push(`${show(op)} and ${show(twin)} made the same revision`);
    written.set(op.revision, op);
  }
  for (const op of known) if (op.kind === 'read') checkRead(op, started, written, errors);
  checkFreshness(known, errors);
  return errors;
}

function checkRead(
  read: Operation,
  started: Map<string, Operation>,
  written: Map<number, Operation>,
  errors: string[],
): void {
  if (read.modRevision > read.revision) errors.push(`${show(read)} found what was not there yet`);
  if (read.value === undefined) return;
  const source = started.get(`${read.key}=${read.value}`);
  if (source === undefined) errors.push(`${show(read)} found what nobody wrote`);
  else if (source.startMs > read.endMs!)
    errors.push(`${show(read)} found what was written later: ${show(source)}`);
  const maker = written.get(read.modRevision);
  if (maker !== undefined && (maker.key !== read.key || maker.value !== read.value)) {
    errors.push(`${show(read)} found another value than ${show(maker)} wrote`);
  }
}

/** Who starts after another has ended does not see, or make, an older state. */
function checkRealTime(known: readonly Operation[], errors: string[]): void {
  const starts = [...known].sort((a, b) => a.startMs - b.startMs);
  const ends = [...known].sort((a, b) => a.endMs! - b.endMs!);
  let newest: Operation | undefined;
  let at = 0;
  for (const op of starts) {
    while (at < ends.length && ends[at]!.endMs! < op.startMs) {
      const ended = ends[at++]!;
      if (newest === undefined || ended.revision > newest.revision) newest = ended;
    }
    if (newest === undefined) continue;
    const stale = op.kind === 'write' ? op.revision <= newest.revision : op.revision < newest.revision;
    if (stale) errors.push(`${show(op)} is older than ${show(newest)}, which had ended before`);
  }
}

/** A read at revision r of a key finds the newest write of that key up to r. */
function checkFreshness(known: readonly Operation[], errors: string[]): void {
  const writes = new Map<string, Operation[]>();
  for (const op of known) {
    if (op.kind !== 'write') continue;
    const list = writes.get(op.key) ?? [];
    list.push(op);
    writes.set(op.key, list);
  }
  for (const op of known) {
    if (op.kind !== 'read') continue;
    for (const write of writes.get(op.key) ?? []) {
      if (write.revision <= op.revision && write.revision > op.modRevision) {
        errors.push(`${show(op)} missed ${show(write)}`);
      }
    }
  }
}

function show(op: Operation): string {
  const time = `${op.startMs.toFixed(1)}…${op.endMs?.toFixed(1) ?? '?'}`;
  return `${op.kind} ${op.key}=${op.value ?? '(none)'} at revision ${op.revision} mod ${op.modRevision} [${time} ms]`;
}
