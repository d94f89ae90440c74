/** docs/compat.md shows the very tables that the comparer works with. UPDATE_DOCS=1 writes them there. */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type EtcdErrorName, etcdErrors } from '@quoin/contracts';
import { expect, test } from 'vitest';
import { repositoryRoot } from '../support/child.ts';
import { differences } from './differences.ts';
import { notProduced } from './errors.ts';
import { notCompared } from './normalise.ts';

const path = join(repositoryRoot, 'docs', 'compat.md');

const tables: Record<string, string[][]> = {
  'not-compared': [
    ['field', 'what is compared instead'],
    ...notCompared.map(({ field, instead }) => [field, instead]),
  ],
  errors: [
    ['error', 'why a client of Quoin does not see it, or no test makes it'],
    ...Object.entries(notProduced).map(([name, why]) => [
      `\`${etcdErrors[name as EtcdErrorName].message}\``,
      why,
    ]),
  ],
  differences: [
    ['row', 'etcd', 'request', 'etcd’s answer', 'Quoin’s answer', 'why'],
    ...differences.map((row) => [
      `${row.id}${row.adapt === undefined ? '*' : ''}`,
      row.oracles.join(', '),
      row.request,
      row.etcd,
      row.quoin,
      row.why,
    ]),
  ],
};

function markdown([head, ...rows]: string[][]): string {
  const line = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`;
  return [line(head!), `|${'---|'.repeat(head!.length)}`, ...rows.map(line)].join('\n');
}

test.each(Object.keys(tables))('docs/compat.md, table %s', (name) => {
  const text = readFileSync(path, 'utf8');
  const [begin, end] = [`<!-- ${name} -->\n`, `<!-- /${name} -->`];
  const [from, to] = [text.indexOf(begin) + begin.length, text.indexOf(end)];
  const expected = `${text.slice(0, from)}${markdown(tables[name]!)}\n${text.slice(to)}`;
  if (process.env['UPDATE_DOCS'] === '1') writeFileSync(path, expected);
  else expect(text, 'run UPDATE_DOCS=1 vitest run tests/compat/tables.test.ts').toBe(expected);
});
