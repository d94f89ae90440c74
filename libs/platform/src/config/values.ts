import type { FlagKind } from './flags.ts';

/** What a person must change in flags, environment or config file; `message` is one line. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError';
}

/** text for `string`, ms for `duration`, elements for `list`. */
export type FlagValue = string | boolean | number | readonly string[];

const unitMs: Readonly<Record<string, number>> = {
  ns: 1e-6,
  us: 1e-3,
  µs: 1e-3,
  μs: 1e-3,
  ms: 1,
  s: 1000,
  m: 60_000,
  h: 3_600_000,
};

/** Go's duration syntax to milliseconds; undefined when it is none. */
export function parseDurationMs(text: string): number | undefined {
  const match = /^([+-]?)((?:(?:\d+\.?\d*|\.\d+)(?:ns|us|µs|μs|ms|s|m|h))+)$/.exec(text);
  if (match === null) return /^[+-]?0$/.test(text) ? 0 : undefined;
  let total = 0;
  for (const part of match[2]!.matchAll(/(\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h)/g)) {
    total += Number(part[1]) * unitMs[part[2]!]!;
  }
  return match[1] === '-' ? -total : total;
}

/** Go's strconv.ParseBool. */
export function parseBool(text: string): boolean | undefined {
  if (/^(1|t|T|TRUE|true|True)$/.test(text)) return true;
  if (/^(0|f|F|FALSE|false|False)$/.test(text)) return false;
  return undefined;
}

/** The value of a flag from its text; undefined when the text does not fit the kind. */
export function parseValue(kind: FlagKind, text: string): FlagValue | undefined {
  switch (kind) {
    case 'string':
      return text;
    case 'bool':
      return parseBool(text);
    case 'duration':
      return parseDurationMs(text);
    case 'list':
      return text === '' ? [] : text.split(',').map((part) => part.trim());
    case 'float':
      return text !== '' && Number.isFinite(Number(text)) ? Number(text) : undefined;
    default:
      return parseInteger(kind, text);
  }
}

function parseInteger(kind: 'int' | 'uint', text: string): number | undefined {
  if (!/^[+-]?(0[xX][0-9a-fA-F]+|\d+)$/.test(text)) return undefined;
  const negative = text.startsWith('-');
  if (negative && kind === 'uint') return undefined;
  const value = Number(text.replace(/^[+-]/, ''));
  if (!Number.isSafeInteger(value)) return undefined;
  return negative ? -value : value;
}

export const kindNames: Readonly<Record<FlagKind, string>> = {
  string: 'text',
  bool: 'true or false',
  int: 'a whole number',
  uint: 'a whole number from 0',
  float: 'a number',
  duration: 'a duration such as 300ms, 5s or 1h30m',
  list: 'a list separated by commas',
};

/** The known name nearest to a misspelt one, when it is near at all. */
export function nearest(name: string, known: Iterable<string>): string | undefined {
  let best: string | undefined;
  let bestDistance = Math.max(2, Math.floor(name.length / 3)) + 1;
  for (const candidate of known) {
    const distance = editDistance(name, candidate);
    if (distance < bestDistance) {
      best = candidate;
      bestDistance = distance;
    }
  }
  return best;
}

/** Levenshtein's distance, one row at a time. */
function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const change = row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(row[j]! + 1, next[j - 1]! + 1, change));
    }
    row = next;
  }
  return row[b.length]!;
}
