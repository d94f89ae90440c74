import { utf8 } from '@quoin/base';
import type { FairUse, UseLimits } from '@quoin/contracts';
import { parse } from 'yaml';
import { ConfigError } from './values.ts';

const userLimits = ['requestsPerSecond', 'bytesPerSecond', 'watches', 'leases'] as const;
const prefixLimits = ['requestsPerSecond', 'bytesPerSecond', 'watches', 'keys'] as const;

/**
 * Reads the limits of `--fair-use`, YAML or JSON:
 *
 *     users:    { '*': { requestsPerSecond: 1000, leases: 100 }, app: { watches: 50 } }
 *     prefixes: { app/: { keys: 100000, bytesPerSecond: 10000000 } }
 *
 * @throws ConfigError with one line for the operator
 */
export function parseFairUse(path: string, text: string): FairUse {
  let value: unknown;
  try {
    value = parse(text);
  } catch (error) {
    throw new ConfigError(`fair use file ${path}: ${(error as Error).message.split('\n')[0]}`);
  }
  const top = objectOf(path, 'it', value);
  for (const name of Object.keys(top)) {
    if (name !== 'users' && name !== 'prefixes')
      throw new ConfigError(`fair use file ${path}: unknown key "${name}", must be users or prefixes`);
  }
  const rows = (name: 'users' | 'prefixes', allowed: readonly string[]): [string, UseLimits][] =>
    Object.entries(objectOf(path, name, top[name] ?? {})).map(([row, limits]) => [
      row,
      limitsOf(path, `${name} "${row}"`, limits, allowed),
    ]);
  return {
    users: new Map(rows('users', userLimits)),
    prefixes: rows('prefixes', prefixLimits).map(([prefix, limits]) => {
      if (prefix === '') throw new ConfigError(`fair use file ${path}: a prefix must not be empty`);
      return { prefix: utf8(prefix), limits };
    }),
  };
}

function objectOf(path: string, what: string, value: unknown): Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw new ConfigError(`fair use file ${path}: ${what} must be a mapping`);
  return value as Record<string, unknown>;
}

function limitsOf(path: string, row: string, value: unknown, allowed: readonly string[]): UseLimits {
  const limits = objectOf(path, row, value);
  for (const [name, limit] of Object.entries(limits)) {
    if (!allowed.includes(name))
      throw new ConfigError(
        `fair use file ${path}: ${row} has no limit "${name}", only ${allowed.join(', ')}`,
      );
    const whole = Number.isSafeInteger(limit) || (name.endsWith('PerSecond') && Number.isFinite(limit));
    if (!whole || (limit as number) < 0)
      throw new ConfigError(`fair use file ${path}: ${name} of ${row} must be a number from 0`);
  }
  return limits as UseLimits;
}
