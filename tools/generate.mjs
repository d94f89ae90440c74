// Generates libs/contracts/src/gen from proto/ with protobuf-es. Plain JavaScript for Node ≥ 20; works offline:
// both the compiler (buf) and the plugin (protoc-gen-es) are pinned npm packages, no remote plugin or module is used.
//
//   node tools/generate.mjs           writes what has changed
//   node tools/generate.mjs --check   writes nothing; exit code 1 and the list of files when the committed code is stale
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import { createRequire } from 'node:module';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)));
const target = path.join(root, 'libs/contracts/src/gen');
const require = createRequire(path.join(root, 'package.json'));

/** The file behind a command of an npm package. */
function bin(packageName, command) {
  const manifest = require.resolve(`${packageName}/package.json`);
  const entry = JSON.parse(fs.readFileSync(manifest, 'utf8')).bin;
  return path.join(path.dirname(manifest), typeof entry === 'string' ? entry : entry[command]);
}

class Failure extends Error {}

function fail(message) {
  throw new Failure(message);
}

/** Relative paths of all files below a directory, sorted; none when it does not exist. */
function filesBelow(dir, prefix = '') {
  if (!fs.existsSync(dir)) return [];
  return fs
    .readdirSync(dir, { withFileTypes: true })
    .flatMap((entry) => {
      const name = prefix + entry.name;
      return entry.isDirectory() ? filesBelow(path.join(dir, entry.name), `${name}/`) : [name];
    })
    .sort();
}

function generateInto(dir) {
  const template = {
    version: 'v2',
    plugins: [
      {
        local: [process.execPath, bin('@bufbuild/protoc-gen-es', 'protoc-gen-es')],
        out: dir,
        // Node's type stripping runs the result: no enums, and imports name the .ts files.
        opt: ['target=ts', 'import_extension=ts', 'erasable_syntax=true'],
      },
    ],
  };
  const run = spawnSync(
    process.execPath,
    [bin('@bufbuild/buf', 'buf'), 'generate', 'proto', '--template', JSON.stringify(template)],
    { cwd: root, encoding: 'utf8' },
  );
  if (run.error) fail(`buf did not start: ${run.error.message}`);
  if (run.status !== 0) fail(`buf failed:\n${run.stdout}${run.stderr}`.trimEnd());
}

function read(dir, name) {
  const file = path.join(dir, name);
  return fs.existsSync(file) ? fs.readFileSync(file, 'utf8') : undefined;
}

const check = process.argv.includes('--check');
const fresh = fs.mkdtempSync(path.join(os.tmpdir(), 'quoin-generate-'));
try {
  const unknown = process.argv.slice(2).find((arg) => arg !== '--check');
  if (unknown !== undefined) fail(`unknown argument ${unknown}; usage: node tools/generate.mjs [--check]`);
  generateInto(fresh);
  const names = new Set([...filesBelow(fresh), ...filesBelow(target)]);
  const stale = [...names].filter((name) => read(fresh, name) !== read(target, name)).sort();
  if (check && stale.length > 0) {
    fail(
      `libs/contracts/src/gen is stale: ${stale.join(', ')}; run \`npm run generate\` and commit the result`,
    );
  }
  for (const name of stale) {
    const text = read(fresh, name);
    const file = path.join(target, name);
    if (text === undefined) {
      fs.rmSync(file);
    } else {
      fs.mkdirSync(path.dirname(file), { recursive: true });
      fs.writeFileSync(file, text);
    }
  }
  console.log(check ? 'generate: up to date' : `generate: ${stale.length} of ${names.size} files written`);
} catch (error) {
  if (!(error instanceof Failure)) throw error;
  console.error(`generate: ${error.message}`);
  process.exitCode = 1;
} finally {
  fs.rmSync(fresh, { recursive: true, force: true });
}
