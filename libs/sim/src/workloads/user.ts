/** What workloads need of the world they run in: the simulated one, or one of real processes (tests/robustness). */
import type { Prng } from '@quoin/base';
import type { Ending, Operation } from '../checkers/history.ts';

export interface Workplace {
  readonly plan: {
    readonly thinkMs: number;
    /** How many keys the random operations are about. */
    readonly keys: number;
    /** Every put brings a value of its own: where the log cannot be read, it is by values that writes are found again. */
    readonly uniqueValues?: boolean;
  };
  /** New things are begun while it holds. */
  readonly working: boolean;
}

/** A client that does one thing after the other. */
export interface User {
  readonly prng: Prng;
  /** Runs `fn` after about so many ms. */
  later(meanMs: number, fn: () => void): void;
  /** `build` makes the request from the operation's number. */
  mutate(
    name: 'put' | 'delete' | 'txn' | 'compact' | 'grant' | 'revoke',
    build: (number: number) => Uint8Array,
    done: (ending: Ending, operation: Operation) => void,
  ): void;
  read(request: Uint8Array, serializable: boolean, done: (ending: Ending) => void): void;
}
