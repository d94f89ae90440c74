/** Programs of other languages that tests build into .cache, where their toolchain is present. */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { repositoryRoot } from './child.ts';

export interface BuildStep {
  readonly command: string;
  readonly args: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
}

export interface Program {
  /** Its directory in .cache, and its name in lines about it. */
  readonly name: string;
  /** Where its sources are; a build counts until one of them changes. */
  readonly source: string;
  /** Asked for its version, to learn whether the toolchain is there. */
  readonly probe: BuildStep;
  /** Run one after the other in `source`; `out` is the directory in .cache. */
  steps(out: string): readonly BuildStep[];
  /** For all steps together. */
  readonly limitMs: number;
}

export const buildDir = (program: Program): string =>
  join(repositoryRoot, '.cache', 'programs', program.name);

const skipped = (program: Program, why: string): undefined => {
  process.stderr.write(`skipped: ${program.name}: ${why}\n`);
  return undefined;
};

/** Whether a build of these very sources is there. */
export function isBuilt(program: Program): boolean {
  const stamp = join(buildDir(program), 'built');
  return existsSync(stamp) && readFileSync(stamp, 'utf8') === digest(program.source);
}

/**
 * The directory with the program, built now if it is not there yet. Undefined, with a line that says why, where the
 * toolchain is absent or packages cannot be had; the caller skips.
 */
export function build(program: Program): string | undefined {
  const out = buildDir(program);
  const { command, args } = program.probe;
  if (spawnSync(command, [...args], { stdio: 'ignore' }).status !== 0)
    return skipped(program, `there is no ${command} here`);
  if (isBuilt(program)) return out;
  mkdirSync(out, { recursive: true });
  const until = Date.now() + program.limitMs;
  for (const step of program.steps(out)) {
    const result = spawnSync(step.command, [...step.args], {
      cwd: program.source,
      env: { ...process.env, ...step.env },
      encoding: 'utf8',
      timeout: Math.max(1, until - Date.now()),
      maxBuffer: 64 << 20,
    });
    if (result.error !== undefined) return skipped(program, `${step.command}: ${result.error.message}`);
    if (result.status === 0) continue;
    const output = `${result.stdout}\n${result.stderr}`;
    // Sources that do not compile are a fault of ours, not of the machine.
    if (/\.(go|rs|java):\d+|error\[E\d+\]|COMPILATION ERROR/.test(output) && !isFetchFailure(output))
      throw new Error(`${program.name} does not build:\n${output.slice(-4000)}`);
    return skipped(program, `it could not be built: ${output.trim().split('\n').slice(-3).join(' · ')}`);
  }
  writeFileSync(join(out, 'built'), digest(program.source));
  return out;
}

const isFetchFailure = (output: string): boolean =>
  /could not (download|resolve|transfer)|failed to (download|fetch)|dial tcp|403 Forbidden|no such host|network is unreachable|timed out/i.test(
    output,
  );

function digest(dir: string): string {
  const hash = createHash('sha256');
  const add = (path: string): void => {
    for (const name of readdirSync(path).sort()) {
      const file = join(path, name);
      if (statSync(file).isDirectory()) add(file);
      else hash.update(relative(dir, file)).update('\0').update(readFileSync(file));
    }
  };
  add(dir);
  return hash.digest('hex');
}
