#!/usr/bin/env node
/**
 * `npm run sim:mutants`: breaks the sources in one small place at a time, each time in a fresh copy, and lets the simulator
 * find it. A mutant that survives its seeds is a hole in the simulator; the command then fails.
 *
 *     npm run sim:mutants -- [--only name,name] [--seeds 1000] [--from 1] [--workers 2]
 */
import { spawn } from 'node:child_process';
import {
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { type Mutant, mutants } from './mutants/list.ts';

const { values } = parseArgs({
  options: {
    only: { type: 'string' },
    seeds: { type: 'string', default: '1000' },
    from: { type: 'string', default: '1' },
    workers: { type: 'string', default: String(availableParallelism()) },
  },
});

const root = dirname(dirname(fileURLToPath(import.meta.url)));

interface Verdict {
  readonly mutant: Mutant;
  readonly seeds: number;
  readonly failure: { readonly seed: number; readonly text: string } | undefined;
}

/** The libs and the tool, with the workspace's names pointing into the copy, and every other package into the original. */
function copySources(): string {
  const copy = mkdtempSync(join(tmpdir(), 'quoin-mutant-'));
  mkdirSync(join(copy, 'node_modules', '@quoin'), { recursive: true });
  for (const lib of readdirSync(join(root, 'libs'))) {
    if (lib === 'platform' || lib === 'client') continue;
    for (const part of ['src', 'package.json']) {
      cpSync(join(root, 'libs', lib, part), join(copy, 'libs', lib, part), { recursive: true });
    }
    symlinkSync(join(copy, 'libs', lib), join(copy, 'node_modules', '@quoin', lib));
  }
  symlinkSync(join(root, 'node_modules', '@bufbuild'), join(copy, 'node_modules', '@bufbuild'));
  cpSync(join(root, 'tools', 'sim.ts'), join(copy, 'tools', 'sim.ts'));
  writeFileSync(join(copy, 'package.json'), '{ "type": "module", "private": true }\n');
  return copy;
}

/** @throws Error when the text is not there exactly once: then the sources have moved on, and the mutant must follow. */
function mutate(copy: string, mutant: Mutant): void {
  const path = join(copy, mutant.file);
  const text = readFileSync(path, 'utf8');
  const parts = text.split(mutant.find);
  if (parts.length !== 2) {
    throw new Error(
      `mutant ${mutant.name}: its text is ${parts.length - 1} times in ${mutant.file}, not once`,
    );
  }
  writeFileSync(path, parts.join(mutant.replace));
}

function hunt(copy: string, mutant: Mutant): Promise<Verdict> {
  const { seeds, from, workers } = values;
  const args = ['tools/sim.ts', '--json', '--seeds', seeds, '--from', from, '--workers', workers];
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, args, { cwd: copy, stdio: ['ignore', 'pipe', 'inherit'] });
    let output = '';
    child.stdout.on('data', (data: Buffer) => {
      output += data.toString();
    });
    child.on('error', reject);
    child.on('exit', () => {
      try {
        const totals = JSON.parse(output) as Pick<Verdict, 'seeds' | 'failure'>;
        resolve({ mutant, seeds: totals.seeds, failure: totals.failure });
      } catch {
        reject(new Error(`mutant ${mutant.name}: the simulator said ${JSON.stringify(output)}`));
      }
    });
  });
}

function firstLine(text: string): string {
  const line = text.split('\n')[0]!;
  return line.length > 150 ? `${line.slice(0, 150)}…` : line;
}

async function main(): Promise<void> {
  const names = values.only?.split(',');
  const chosen = mutants.filter((mutant) => names === undefined || names.includes(mutant.name));
  if (chosen.length === 0)
    throw new Error(`no such mutant; there are ${mutants.map((m) => m.name).join(', ')}`);
  // First that all of them can be made: a run takes minutes.
  for (const mutant of chosen) {
    const found = readFileSync(join(root, mutant.file), 'utf8').split(mutant.find).length - 1;
    if (found !== 1)
      throw new Error(`mutant ${mutant.name}: its text is ${found} times in ${mutant.file}, not once`);
  }
  const survivors: string[] = [];
  for (const mutant of chosen) {
    const copy = copySources();
    try {
      mutate(copy, mutant);
      const { seeds, failure } = await hunt(copy, mutant);
      if (failure === undefined) survivors.push(mutant.name);
      const verdict =
        failure === undefined
          ? `SURVIVED ${seeds} seeds`
          : `found after ${seeds} seed${seeds === 1 ? '' : 's'} (seed ${failure.seed}): ${firstLine(failure.text)}`;
      process.stdout.write(`${mutant.name.padEnd(30)} ${verdict}\n`);
    } finally {
      rmSync(copy, { recursive: true, force: true });
    }
  }
  process.stdout.write(`${chosen.length - survivors.length} of ${chosen.length} mutants found\n`);
  if (survivors.length > 0) process.exitCode = 1;
}

await main().catch((error: Error) => {
  process.stderr.write(`sim:mutants: ${error.message}\n`);
  process.exitCode = 1;
});
