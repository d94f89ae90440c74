/** A broken invariant: the process must stop, because nothing it does next can be trusted. */
export class AssertionError extends Error {
  override readonly name = 'AssertionError';
}

/**
 * Stays on in production. `detail` is a function where building the text costs anything.
 *
 * @throws AssertionError
 */
export function assert(condition: unknown, detail: string | (() => string)): asserts condition {
  if (!condition) throw new AssertionError(typeof detail === 'string' ? detail : detail());
}

/** For the default branch of an exhaustive switch. */
export function unreachable(value: never): never {
  throw new AssertionError(`unreachable: ${String(value)}`);
}
