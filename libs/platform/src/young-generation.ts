import { getHeapSpaceStatistics, setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

/** Of both halves. Less is too little for thousands of calls under way, more makes nothing faster (docs/perf.md, Large ranges). */
const youngBytes = 16 << 20;
/** Objects made between two looks at the size, and how often at most. */
const stepObjects = 1_000;
const stepsMax = 500;

/**
 * Gives V8's young generation a size that it keeps. By itself it is at 32 MiB when a program has been loaded, grows to 110 MiB
 * as soon as a load has much that lives longer than the time between two of its collections, and stays there.
 *
 * `--max-semi-space-size` says the same, but only on the command line, so in every launcher. At run time V8 obeys two things:
 * when it is told that memory is short it gives back what is not in use, and it grows by a factor of ours.
 */
export function settleYoungGeneration(): void {
  setFlagsFromString('--expose-gc');
  const collect: unknown = runInNewContext('globalThis.gc');
  setFlagsFromString('--no-expose-gc');
  if (typeof collect === 'function') collect({ type: 'major', execution: 'sync', flavor: 'last-resort' });
  growYoungGeneration(youngBytes);
  setFlagsFromString('--semi-space-growth-factor=1');
}

/** It grows when as much has lived on as it has room for. */
function growYoungGeneration(bytes: number): void {
  const alive: object[] = [];
  for (let step = 0; step < stepsMax && youngGenerationBytes() < bytes; step++)
    for (let i = 0; i < stepObjects; i++) alive.push({ step, i });
}

function youngGenerationBytes(): number {
  const space = getHeapSpaceStatistics().find(({ space_name: name }) => name === 'new_space');
  return space?.space_size ?? Number.POSITIVE_INFINITY;
}
