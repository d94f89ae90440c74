import type { ParsedFlags } from './parse.ts';
import { ConfigError } from './values.ts';

/** Typed access to parsed values. The kinds are those of the table. */
export class FlagValues {
  private readonly flags: ParsedFlags;

  constructor(flags: ParsedFlags) {
    this.flags = flags;
  }

  isSet(name: string): boolean {
    return this.flags.set.has(name);
  }

  text(name: string): string {
    return (this.flags.values.get(name) as string | undefined) ?? '';
  }

  number(name: string): number {
    return (this.flags.values.get(name) as number | undefined) ?? 0;
  }

  bool(name: string): boolean {
    return (this.flags.values.get(name) as boolean | undefined) ?? false;
  }

  list(name: string): readonly string[] {
    return (this.flags.values.get(name) as readonly string[] | undefined) ?? [];
  }

  oneOf<T extends string>(name: string, allowed: readonly T[]): T {
    const value = this.text(name);
    const found = allowed.find((option) => option === value);
    if (found === undefined) {
      throw new ConfigError(
        `invalid value "${value}" for flag --${name}: must be one of ${allowed.join(', ')}`,
      );
    }
    return found;
  }
}
