/**
 * Makes a failing sequence small: fewer steps, then simpler requests. fast-check's own shrinking works on each value in
 * the order in which it was generated, which takes thousands of runs of servers; this takes dozens.
 */
import type { Step } from './step.ts';

/** Runs a candidate; the candidate (or what of it is enough) when it still fails, undefined when it does not. */
export type StillFails = (steps: readonly Step[]) => Promise<readonly Step[] | undefined>;

export async function shrink(steps: readonly Step[], stillFails: StillFails): Promise<readonly Step[]> {
  const fewer = await withoutSteps(steps, stillFails);
  return withSimplerSteps(fewer, stillFails);
}

/** Leaves out ever smaller runs of steps, last ones first: what is asked late depends on what came before. */
async function withoutSteps(steps: readonly Step[], stillFails: StillFails): Promise<readonly Step[]> {
  let current = steps;
  for (let size = Math.ceil(current.length / 2); size >= 1; size = size === 1 ? 0 : Math.ceil(size / 2)) {
    for (let end = current.length; end > 0; ) {
      const begin = Math.max(0, end - size);
      const smaller = await stillFails([...current.slice(0, begin), ...current.slice(end)]);
      if (smaller !== undefined) current = smaller;
      end = Math.min(begin, current.length);
    }
  }
  return current;
}

async function withSimplerSteps(steps: readonly Step[], stillFails: StillFails): Promise<readonly Step[]> {
  let current = steps;
  for (let i = current.length - 1; i >= 0; i--) {
    for (let again = true; again && i < current.length; ) {
      again = false;
      for (const simpler of simplerValues(current[i] as unknown)) {
        const smaller = await stillFails(current.with(i, simpler as Step));
        if (smaller === undefined) continue;
        current = smaller;
        again = true;
        break;
      }
    }
  }
  return current;
}

const neededFields = new Set([
  'rpc',
  'request',
  'watch',
  'create',
  'cancel',
  'progress',
  'at',
  'lease',
  'kept',
]);

/** The same value with one field or one element left out, at any depth, outermost first. */
function* simplerValues(value: unknown): Generator<unknown> {
  if (Array.isArray(value)) {
    for (let i = 0; i < value.length; i++) yield value.toSpliced(i, 1);
    for (let i = 0; i < value.length; i++)
      for (const simpler of simplerValues(value[i])) yield value.with(i, simpler);
    return;
  }
  if (value === null || typeof value !== 'object') return;
  const entries = Object.entries(value);
  for (const [name, inner] of entries) {
    if (inner === undefined || neededFields.has(name)) continue;
    yield Object.fromEntries(entries.filter(([other]) => other !== name));
  }
  for (const [name, inner] of entries)
    for (const simpler of simplerValues(inner)) yield { ...value, [name]: simpler };
}
