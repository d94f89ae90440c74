/** Programs of other languages that tests build into .cache, where their toolchain is present. */
import { spawn } from 'node:child_process';
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
  /** Asked for their versions, to learn whether the toolchain is there. */
  readonly probes: readonly BuildStep[];
  /** Run one after the other in `source`; `out` is the directory in .cache. */
  steps(out: string): readonly BuildStep[];
  /** For all steps together. */
  readonly limitMs: number;
}

const probeLimitMs = 20_000;

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
 *
 * @throws Error when the sources do not compile: that is a fault of ours, not of the machine.
 */
export async function build(program: Program): Promise<string | undefined> {
  const out = buildDir(program);
  for (const probe of program.probes) {
    if ((await run(probe, program.source, probeLimitMs)).problem !== undefined)
      return skipped(program, `there is no ${probe.command} here`);
  }
  if (isBuilt(program)) return out;
  mkdirSync(out, { recursive: true });
  const until = Date.now() + program.limitMs;
  for (const step of program.steps(out)) {
    const { output, problem } = await run(step, program.source, Math.max(1, until - Date.now()));
    if (problem === undefined) continue;
    if (/^\S+\.(go|rs|java):|error\[E\d+\]|COMPILATION ERROR/m.test(output) && !isFetchFailure(output))
      throw new Error(`${program.name} does not build:\n${output.slice(-4000)}`);
    const last = output.trim().split('\n').slice(-3).join(' · ');
    return skipped(program, `it could not be built: ${step.command}: ${problem}: ${last}`);
  }
  writeFileSync(join(out, 'built'), digest(program.source));
  return out;
}

/** Runs to the end; not in this thread, which has a test runner to talk to. */
export function run(
  step: BuildStep,
  cwd: string,
  limitMs: number,
): Promise<{ readonly output: string; readonly problem: string | undefined }> {
  return new Promise((resolve) => {
    const child = spawn(step.command, [...step.args], {
      cwd,
      env: { ...process.env, ...step.env },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let output = '';
    for (const stream of [child.stdout, child.stderr]) {
      stream.on('data', (data: Buffer) => {
        output += data.toString();
      });
    }
    let overdue = false;
    const limit = setTimeout(() => {
      overdue = true;
      child.kill('SIGKILL');
    }, limitMs);
    const done = (problem: string | undefined): void => {
      clearTimeout(limit);
      resolve({ output, problem });
    };
    child.once('error', (error) => done(error.message));
    child.once('close', (code, signal) => {
      if (code === 0) done(undefined);
      else done(overdue ? `was not done after ${limitMs} ms` : `ended with ${signal ?? code}`);
    });
  });
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
