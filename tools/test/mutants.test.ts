import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { mutants } from '../mutants/list.ts';

const root = dirname(dirname(dirname(fileURLToPath(import.meta.url))));

// A change of the sources that leaves a mutant without its place would be noticed by nobody until the next `npm run sim:mutants`.
test.each(mutants.map((mutant) => [mutant.name, mutant] as const))('mutant %s can be made', (_, mutant) => {
  const parts = readFileSync(join(root, mutant.file), 'utf8').split(mutant.find);
  expect(parts.length - 1, `times that the text of ${mutant.name} is in ${mutant.file}`).toBe(1);
  expect(mutant.replace).not.toBe(mutant.find);
});

test('no two mutants have one name', () => {
  expect(new Set(mutants.map(({ name }) => name)).size).toBe(mutants.length);
});
