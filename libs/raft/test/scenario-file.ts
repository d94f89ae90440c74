/**
 * Scenario files: commands, a line of dashes, what they say; blank line; next. Lines that begin with # are text.
 * REWRITE=1 writes what is said into the file: look at the difference before it is committed.
 */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';

export function runScenarios(folder: string, start: () => (command: string) => string): void {
  const root = fileURLToPath(new URL(`./scenarios/${folder}/`, import.meta.url));
  const names = readdirSync(root).filter((name) => name.endsWith('.txt'));
  expect(names.length).toBeGreaterThan(0);
  for (const name of names.sort()) {
    test(`${folder}: ${name.slice(0, -4).replaceAll('-', ' ')}`, () => {
      const text = readFileSync(root + name, 'utf8');
      const said = replay(text, start());
      if (process.env['REWRITE'] === '1') writeFileSync(root + name, said);
      else expect(said).toBe(text);
    });
  }
}

function replay(text: string, run: (command: string) => string): string {
  const blocks = text
    .trimEnd()
    .split(/\n{2,}/)
    .map((block) => {
      const lines = block.split('\n');
      const dashes = lines.indexOf('----');
      const head = dashes < 0 ? lines : lines.slice(0, dashes);
      const commands = head.filter((line) => !line.startsWith('#'));
      if (commands.length === 0) return block;
      return [...head, '----', ...commands.map(run)].join('\n');
    });
  return `${blocks.join('\n\n')}\n`;
}
