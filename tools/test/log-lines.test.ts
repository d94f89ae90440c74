/** Whoever reads a warning finds in docs/operating/log-lines.md what to do. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';

const root = join(import.meta.dirname, '..', '..');

function sources(dir: string): string[] {
  return readdirSync(join(root, dir), { withFileTypes: true }).flatMap((entry) => {
    const path = join(dir, entry.name);
    if (entry.isDirectory()) return sources(path);
    return entry.name.endsWith('.ts') ? [path] : [];
  });
}

/** Texts that a call of the log begins with, both of a choice. */
function messagesOf(text: string): string[] {
  const found: string[] = [];
  for (const call of text.matchAll(
    /\b(?:log|sink)\??(?:\.(?:warn|error|fatal)|\[level\])\(\s*([^{]*?)[,)]\s*(?:\{|;|$|,|\n)/gm,
  ))
    for (const quoted of call[1]!.matchAll(/'([^']+)'/g)) found.push(quoted[1]!);
  return found;
}

test('every warning is in the list', () => {
  const dirs = [
    ...readdirSync(join(root, 'libs'))
      .filter((lib) => lib !== 'sim')
      .map((lib) => join('libs', lib, 'src')),
    ...['backup', 'gateway', 'member', 'quoin'].map((app) => join('apps', app, 'src')),
  ];
  const messages = dirs
    .flatMap(sources)
    .flatMap((file) => messagesOf(readFileSync(join(root, file), 'utf8')));
  // That the search finds them at all.
  expect(messages.length).toBeGreaterThan(30);
  expect(messages).toContain('could not reach a peer');
  expect(messages).toContain('member link lost');
  const list = readFileSync(join(root, 'docs', 'operating', 'log-lines.md'), 'utf8');
  expect(messages.filter((message) => !list.includes(`\`${message}\``))).toEqual([]);
});
