/**
 * Reads the CPU profiles that `npm run bench -- --profile` leaves and says where each process spent its time:
 * `node tools/bench/profile.ts FILE.cpuprofile…`
 */
import { readdirSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';

interface ProfileNode {
  readonly id: number;
  readonly callFrame: { readonly functionName: string; readonly url: string; readonly lineNumber: number };
  readonly children?: readonly number[];
}

interface Profile {
  readonly nodes: readonly ProfileNode[];
  readonly samples: readonly number[];
  readonly timeDeltas: readonly number[];
}

interface Summary {
  readonly functions: Map<string, number>;
  readonly projects: Map<string, number>;
  readonly busyMs: number;
}

const rowsShown = 30;
// Loading and first compiling say nothing about the load; a profile shorter than twice this is taken whole.
const startUpMs = 6_000;

/** Self time in ms by function and by project (a lib, a package, Node itself), idle time and start-up left out. */
export function summarise(profile: Profile): Summary {
  const nodes = new Map(profile.nodes.map((node) => [node.id, node]));
  const functions = new Map<string, number>();
  const projects = new Map<string, number>();
  const totalMs = profile.timeDeltas.reduce((sum, delta) => sum + delta, 0) / 1000;
  const fromMs = totalMs > 2 * startUpMs ? startUpMs : 0;
  let atMs = 0;
  let busyMs = 0;
  profile.samples.forEach((id, i) => {
    const ms = (profile.timeDeltas[i] ?? 0) / 1000;
    atMs += ms;
    if (atMs < fromMs) return;
    const { functionName, url, lineNumber } = nodes.get(id)!.callFrame;
    if (functionName === '(idle)') return;
    busyMs += ms;
    const place =
      url === '' ? '' : ` ${url.replace(/^.*\/(?=(libs|apps|node_modules)\/)/, '')}:${lineNumber + 1}`;
    const name = `${functionName || '(anonymous)'}${place}`;
    functions.set(name, (functions.get(name) ?? 0) + ms);
    const project = projectOf(functionName, url);
    projects.set(project, (projects.get(project) ?? 0) + ms);
  });
  return { functions, projects, busyMs };
}

function projectOf(functionName: string, url: string): string {
  const own = /\/(libs\/[^/]+|apps\/[^/]+)\//.exec(url);
  if (own !== null) return own[1]!;
  const dependency = /node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(url);
  if (dependency !== null) return dependency[1]!;
  if (url.startsWith('node:'))
    return url.split('/')[0]!.split('?')[0]! === 'node:internal' ? 'node:internal' : url;
  return functionName.startsWith('(') ? functionName : 'native';
}

function print(title: string, rows: Map<string, number>, totalMs: number): void {
  process.stdout.write(`  ${title}\n`);
  for (const [name, ms] of [...rows].sort((a, b) => b[1] - a[1]).slice(0, rowsShown)) {
    process.stdout.write(
      `  ${((ms / totalMs) * 100).toFixed(1).padStart(6)} %  ${ms.toFixed(0).padStart(7)} ms  ${name}\n`,
    );
  }
}

export function report(file: string): void {
  show(basename(file), summarise(JSON.parse(readFileSync(file, 'utf8'))));
}

function show(title: string, { functions, projects, busyMs }: Summary): void {
  process.stdout.write(`${title}: ${busyMs.toFixed(0)} ms busy\n`);
  print('by project', projects, busyMs);
  print('by function (self)', functions, busyMs);
}

/**
 * The profiles of a directory, one role after the other. Of the members (or nodes) of a run the busiest is the leader.
 */
export function reportAll(dir: string): void {
  const files = readdirSync(dir).filter((file) => file.endsWith('.cpuprofile'));
  const groups = new Map<string, { file: string; summary: Summary }[]>();
  for (const file of files.sort()) {
    // put-1000-member0.cpuprofile
    const [, group] = /^(.*-[a-z]+)\d*\.cpuprofile$/.exec(file) ?? [];
    if (group === undefined) continue;
    const summary = summarise(JSON.parse(readFileSync(join(dir, file), 'utf8')));
    groups.set(group, [...(groups.get(group) ?? []), { file, summary }]);
  }
  for (const [group, of] of groups) {
    of.sort((a, b) => b.summary.busyMs - a.summary.busyMs);
    of.forEach(({ file, summary }, i) => {
      const role = group.endsWith('-gateway') ? 'gateway' : i === 0 ? 'leader' : 'follower';
      // Followers and gateways are alike: the first of each kind speaks for the others.
      if (i < 2 && !(role === 'gateway' && i > 0)) show(`${role} (${file})`, summary);
      else process.stdout.write(`${role} (${file}): ${summary.busyMs.toFixed(0)} ms busy\n`);
    });
  }
}

if (process.argv[1] === import.meta.filename) for (const file of process.argv.slice(2)) report(file);
