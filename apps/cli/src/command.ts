import type { Context } from './context.ts';
import type { FlagSpec } from './flags.ts';

export interface Command {
  /** Words, such as `lease grant`. */
  readonly name: string;
  /** What follows the name. */
  readonly usage: string;
  readonly help: string;
  readonly flags?: readonly FlagSpec[];
  /** `dash`: index of the first argument after `--`, or −1. Answers an exit code; undefined = 0. */
  run(context: Context, args: readonly string[], dash: number): Promise<number | undefined>;
}
