#!/usr/bin/env node
/**
 * `nx build APP`: bundles one app to `apps/APP/dist/bundle/`: one ES module for each entry point with everything
 * inside, the native module beside it where the app opens a store, and the licences of what is inside. The same
 * sources and lock file give the same bytes, wherever the tree lies. Runs on the pinned Node.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { bundle } from './package/bundle.mjs';

const project = process.argv[2];
if (project === undefined || !existsSync(join(project, 'package.json'))) {
  process.stderr.write('usage: node tools/build.mjs apps/NAME\n');
  process.exit(1);
}
for (const { path, bytes } of await bundle(project, join(project, 'dist', 'bundle')))
  process.stdout.write(`${path} ${(bytes / 1024).toFixed(0)} KiB\n`);
