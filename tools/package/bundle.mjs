/** Bundling of one app; see tools/build.mjs. */
import { copyFileSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { basename, dirname, join, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

export const root = dirname(dirname(dirname(fileURLToPath(import.meta.url))));

const nativePackage = '@harperfast/rocksdb-js-linux-x64-glibc';
/** What a bundle calls it; see libs/platform/src/rocks-backend.ts. */
const nativeFile = 'rocksdb-js.node';

const common = {
  bundle: true,
  platform: 'node',
  target: 'node24',
  format: 'esm',
  // Readable stack traces are worth more than a smaller file: neither start nor memory differ measurably.
  minify: false,
  // Text of one byte a character; anything else doubles what V8 keeps of the source.
  charset: 'ascii',
  legalComments: 'none',
  logLevel: 'warning',
  absWorkingDir: root,
};

/**
 * @param {string} project such as apps/member
 * @param {string} out directory; emptied first
 * @returns {Promise<{ path: string; bytes: number }[]>} the files that run
 */
export async function bundle(project, out) {
  const manifest = JSON.parse(readFileSync(join(project, 'package.json'), 'utf8'));
  const bins = Object.values(manifest.bin ?? {});
  const entries = bins.length > 0 ? bins : ['src/main.ts'];
  rmSync(out, { recursive: true, force: true });
  mkdirSync(out, { recursive: true });
  const worker = await build({
    ...common,
    entryPoints: [join(root, 'libs/platform/src/password-worker.ts')],
    write: false,
  });
  const result = await build({
    ...common,
    entryPoints: Object.fromEntries(
      entries.map((entry) => [basename(entry, '.ts'), resolve(project, entry)]),
    ),
    outdir: out,
    outExtension: { '.js': '.mjs' },
    metafile: true,
    // A thread needs a file or a text to begin with.
    define: { bundledPasswordWorker: JSON.stringify(worker.outputFiles[0].text) },
    // CommonJS packages inside an ES module bundle still call require for Node's own modules.
    banner: {
      js: "import { createRequire as quoinCreateRequire } from 'node:module'; const require = quoinCreateRequire(import.meta.url);",
    },
  });
  const packages = new Set(Object.keys(result.metafile.inputs).flatMap(packageOf));
  const opensStores = Object.values(result.metafile.outputs).some(
    ({ inputs }) => (inputs['libs/platform/src/rocks-backend.ts']?.bytesInOutput ?? 0) > minBackendBytes,
  );
  if (opensStores) {
    const { resolve: find } = createRequire(join(root, 'libs', 'platform', 'package.json'));
    copyFileSync(find(nativePackage), join(out, nativeFile));
    packages.add(join('node_modules', nativePackage));
  }
  writeFileSync(join(out, 'LICENSES.txt'), licences([...packages].sort()));
  return readdirSync(out)
    .sort()
    .map((name) => ({
      path: relative(process.cwd(), join(out, name)),
      bytes: statSync(join(out, name)).size,
    }));
}

/** Constants of the module may stay in a bundle that never opens a store; its class does not. */
const minBackendBytes = 4_000;

/** `node_modules/x` of a bundled file; none for our own. */
function packageOf(path) {
  const found = /^(.*node_modules\/(?:@[^/]+\/)?[^/]+)\//.exec(path);
  return found === null ? [] : [found[1]];
}

/** Name, version and licence text of every package inside, as their licences ask for. */
function licences(directories) {
  const parts = directories.map((directory) => {
    const at = join(root, directory);
    const { name, version, license } = JSON.parse(readFileSync(join(at, 'package.json'), 'utf8'));
    const file = readdirSync(at)
      .sort()
      .find((each) => /^licen[cs]e/i.test(each));
    const text = file === undefined ? '' : `\n\n${readFileSync(join(at, file), 'utf8').trim()}`;
    return `${name} ${version} (${license ?? 'see below'})${text}\n`;
  });
  return `Quoin is under the Apache License 2.0. This bundle has inside:\n\n${parts.join(`\n${'-'.repeat(80)}\n\n`)}`;
}
