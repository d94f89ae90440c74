#!/usr/bin/env node
/**
 * `nx build APP`: bundles one app to `apps/APP/dist/`, one ES module for each entry point, with everything but the
 * native module inside. Runs on the pinned Node.
 */
import { existsSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { basename, join, resolve } from 'node:path';
import { build } from 'esbuild';

const project = process.argv[2];
if (project === undefined || !existsSync(join(project, 'package.json'))) {
  process.stderr.write('usage: node tools/build.mjs apps/NAME\n');
  process.exit(1);
}
const manifest = JSON.parse(readFileSync(join(project, 'package.json'), 'utf8'));
const bins = Object.values(manifest.bin ?? {});
const entries = bins.length > 0 ? bins : ['src/main.ts'];
const out = join(project, 'dist', 'bundle');
rmSync(out, { recursive: true, force: true });
await build({
  entryPoints: Object.fromEntries([
    ...entries.map((entry) => [basename(entry, '.ts'), resolve(project, entry)]),
    // A thread needs a file to begin with.
    ['password-worker', resolve('libs/platform/src/password-worker.ts')],
  ]),
  outdir: out,
  outExtension: { '.js': '.mjs' },
  bundle: true,
  platform: 'node',
  target: 'node24',
  format: 'esm',
  splitting: true,
  minify: false,
  sourcemap: 'linked',
  legalComments: 'eof',
  external: ['@harperfast/rocksdb-js-linux-x64-glibc'],
  // CommonJS packages inside an ES module bundle still call require for Node's own modules.
  banner: {
    js: "import { createRequire as quoinCreateRequire } from 'node:module'; const require = quoinCreateRequire(import.meta.url);",
  },
  logLevel: 'warning',
});
for (const file of readdirSync(out)) {
  if (file.endsWith('.mjs'))
    process.stdout.write(`${join(out, file)} ${(statSync(join(out, file)).size / 1024).toFixed(0)} KiB\n`);
}
