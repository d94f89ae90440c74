/**
 * The house rules that no other tool checks: layers, purity, file sizes, configuration files, leftovers. A rule that
 * fails names the file, the line and what to do instead.
 */
import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { appsMay, layers, packagesMay } from '../layers.mjs';

const root = join(import.meta.dirname, '..', '..');

interface Project {
  readonly name: string;
  readonly dir: string;
  readonly world: string;
  readonly may: readonly string[];
}

interface Manifest {
  readonly dependencies?: Record<string, string>;
  readonly optionalDependencies?: Record<string, string>;
}

const table: Record<string, { world: string; may: string[] }> = layers;
const packagesAllowed: Record<string, string[]> = packagesMay;

const projects: Project[] = [
  ...readdirSync(join(root, 'libs')).map((name) => ({
    name,
    dir: `libs/${name}`,
    world: table[name]?.world ?? '',
    may: table[name]?.may ?? [],
  })),
  ...readdirSync(join(root, 'apps')).map((name) => ({
    name,
    dir: `apps/${name}`,
    world: 'node',
    may: appsMay,
  })),
];

const tracked = execFileSync('git', ['ls-files', '--cached', '--others', '--exclude-standard'], {
  cwd: root,
  encoding: 'utf8',
  maxBuffer: 64 << 20,
})
  .split('\n')
  .filter((file) => file !== '' && existsSync(join(root, file)));

const sourcesOf = (dir: string): string[] =>
  tracked.filter((file) => file.startsWith(`${dir}/src/`) && file.endsWith('.ts') && !file.includes('/gen/'));

const read = (file: string): string => readFileSync(join(root, file), 'utf8');

/** Source text with comments and the insides of strings blanked, line by line, so that words in prose do not count. */
function code(file: string): string[] {
  let text = read(file);
  text = text.replace(/\/\*[\s\S]*?\*\//g, (c) => c.replace(/[^\n]/g, ' '));
  text = text.replace(/(^|[^:'"`])\/\/[^\n]*/g, '$1');
  text = text.replace(/'(?:[^'\\\n]|\\.)*'|"(?:[^"\\\n]|\\.)*"/g, "''");
  return text.split('\n');
}

function importsOf(file: string): string[] {
  const text = read(file);
  const imports = [...text.matchAll(/(?:from|import)\s+'([^']+)'|import\(\s*'([^']+)'\s*\)/g)].map(
    (m) => (m[1] ?? m[2])!,
  );
  // A native module may be loaded by a name that is a constant.
  const named = [...text.matchAll(/^const packageName = '([^']+)';$/gm)].map((m) => m[1]!);
  return [...imports, ...named];
}

const packageName = (specifier: string): string =>
  specifier.startsWith('@') ? specifier.split('/').slice(0, 2).join('/') : specifier.split('/')[0]!;

describe.each(projects)('$dir', ({ name, dir, world, may }) => {
  const manifest: Manifest = JSON.parse(read(`${dir}/package.json`));
  const declared = Object.keys({ ...manifest.dependencies, ...manifest.optionalDependencies });
  const declaredLibs = declared.filter((d) => d.startsWith('@quoin/')).map((d) => d.slice('@quoin/'.length));

  test('is in the layer table', () => {
    expect(world, `add ${name} to tools/layers.mjs`).not.toBe('');
  });

  test('declares only what its layer may import', () => {
    expect(declaredLibs.filter((lib) => !may.includes(lib))).toEqual([]);
    const packages = declared.filter((d) => !d.startsWith('@quoin/'));
    if (world === 'pure')
      expect(packages.filter((p) => !(packagesAllowed[name] ?? []).includes(p))).toEqual([]);
    for (const [dependency, version] of Object.entries(manifest.dependencies ?? {})) {
      expect(version, `${dependency} must be pinned exactly`).toMatch(/^\d+\.\d+\.\d+(-[\w.]+)?$/);
    }
  });

  test('imports exactly what it declares, and references it for the compiler', () => {
    const imported = new Set<string>();
    for (const file of sourcesOf(dir)) {
      for (const specifier of importsOf(file)) {
        if (specifier.startsWith('.') || specifier.startsWith('node:')) continue;
        imported.add(packageName(specifier));
      }
    }
    expect([...imported].filter((p) => !declared.includes(p)).sort(), 'imported but not declared').toEqual(
      [],
    );
    expect(declared.filter((p) => !imported.has(p)).sort(), 'declared but not imported').toEqual([]);
    const config: { references?: { path: string }[] } = JSON.parse(read(`${dir}/tsconfig.json`));
    const referenced = (config.references ?? []).map((r) => r.path.split('/').at(-1)!);
    expect(referenced.sort()).toEqual(declaredLibs.sort());
  });

  test('keeps to its own folder, and nobody imports its index from inside', () => {
    for (const file of sourcesOf(dir)) {
      for (const specifier of importsOf(file)) {
        if (!specifier.startsWith('.')) continue;
        expect(
          specifier.endsWith('.ts') || specifier.endsWith('.json'),
          `${file}: ${specifier} needs .ts`,
        ).toBe(true);
        const target = join(file, '..', specifier);
        expect(target.startsWith(`${dir}/src/`), `${file} reaches out to ${specifier}`).toBe(true);
        if (dir.startsWith('libs/') && !file.endsWith('index.ts')) {
          expect(target, `${file} imports the lib's own index`).not.toBe(`${dir}/src/index.ts`);
        }
      }
    }
  });

  test.runIf(world === 'pure')('is pure: no Node, no time, no chance, no promises', () => {
    const banned: [RegExp, string][] = [
      [/\bDate\b/, 'take the Clock port'],
      [/\bMath\.random\b/, 'take the Random port'],
      [/\basync\b|\bawait\b|\bPromise\b/, 'take a callback'],
      [
        /\bprocess\.|\bBuffer\b|\bsetTimeout\b|\bsetImmediate\b|\bqueueMicrotask\b|\bconsole\./,
        'take a port',
      ],
    ];
    const found: string[] = [];
    for (const file of sourcesOf(dir)) {
      for (const specifier of importsOf(file))
        if (specifier.startsWith('node:')) found.push(`${file}: ${specifier}`);
      code(file).forEach((line, i) => {
        for (const [pattern, instead] of banned) {
          if (pattern.test(line)) found.push(`${file}:${i + 1}: ${line.trim()} (${instead})`);
        }
      });
    }
    expect(found).toEqual([]);
  });

  test('has no configuration of its own beyond package.json and tsconfig.json', () => {
    const allowed = new Set(['package.json', 'tsconfig.json', 'DESIGN.md']);
    const files = tracked.filter((f) => f.startsWith(`${dir}/`) && !f.slice(dir.length + 1).includes('/'));
    expect(files.map((f) => f.slice(dir.length + 1)).filter((f) => !allowed.has(f))).toEqual([]);
  });
});

test('platform and sim, member and gateway do not know each other', () => {
  const apart: [string, string][] = [
    ['platform', 'sim'],
    ['member', 'gateway'],
  ];
  for (const [a, b] of apart) {
    expect(table[a]!.may).not.toContain(b);
    expect(table[b]!.may).not.toContain(a);
  }
});

test('the layer table points down only', () => {
  const order = Object.keys(table);
  for (const [name, { may }] of Object.entries(table)) {
    for (const lib of may) expect(order.indexOf(lib), `${name} → ${lib}`).toBeLessThan(order.indexOf(name));
  }
});

test('source files are short enough to read', () => {
  const limit = 600;
  // The consensus algorithm reads top-down in one file.
  const longer: Record<string, number> = { 'libs/raft/src/raft.ts': 1500 };
  const long = tracked
    .filter((f) => /^(libs|apps)\/[^/]+\/src\/.*\.ts$/.test(f) && !f.includes('/gen/'))
    .map((f) => ({ file: f, lines: read(f).split('\n').length }))
    .filter(({ file, lines }) => lines > (longer[file] ?? limit));
  expect(long).toEqual([]);
});

test('no leftovers, no big blobs, no registry addresses in the lock file', () => {
  const found: string[] = [];
  const marker = new RegExp(
    `\\b(${['FIX', 'ME'].join('')}|${['X', 'XX'].join('')}|${['HA', 'CK'].join('')})\\b`,
  );
  for (const file of tracked) {
    const bytes = readFileSync(join(root, file));
    if (bytes.length > 1 << 20 && file !== 'package-lock.json') found.push(`${file}: ${bytes.length} bytes`);
    if (/\.(ts|mjs|sh|proto)$/.test(file) && !file.includes('/gen/')) {
      const text = bytes.toString('utf8');
      if (marker.test(text)) found.push(`${file}: a marker that should have become code or an issue`);
      if (/\b(it|test|describe)\.only\(/.test(text)) found.push(`${file}: a focused test`);
    }
  }
  if (/"resolved": "https?:/.test(read('package-lock.json')))
    found.push('package-lock.json: registry addresses');
  expect(found).toEqual([]);
});

test('every link of the documents leads somewhere', () => {
  const broken: string[] = [];
  for (const file of tracked.filter((f) => f.endsWith('.md'))) {
    for (const [, target] of read(file).matchAll(/\]\(([^)#\s]+)(?:#[^)]*)?\)/g)) {
      if (/^[a-z]+:/.test(target!)) continue;
      if (!existsSync(join(root, file, '..', target!))) broken.push(`${file}: ${target}`);
    }
  }
  expect(broken).toEqual([]);
});
