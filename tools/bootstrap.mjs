#!/usr/bin/env node
/**
 * What `npm start`, `npm test` and their like run first, on any Node from 20 on: installs what is missing from the
 * lock file, then hands over to the pinned Node. Plain JavaScript, no dependency.
 */
import { spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { delimiter, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const stampFile = join(root, 'node_modules', '.quoin-install');

/** What each command runs, and whether it needs the development packages. */
const commands = {
  start: { script: 'apps/quoin/src/main.ts', dev: false, before: ['--data-dir=quoin.data'] },
  quoinctl: { script: 'apps/cli/src/quoinctl.ts', dev: false, before: [] },
  quoinutl: { script: 'apps/cli/src/quoinutl.ts', dev: false, before: [] },
  cluster: { script: 'tools/cluster.ts', dev: false, before: [] },
  test: { script: 'tools/test.mjs', dev: true, before: [] },
  interop: { script: 'tools/interop.mjs', dev: true, before: [] },
  bench: { script: 'tools/bench/main.ts', dev: true, before: [] },
  compat: { script: 'tests/compat/main.ts', dev: true, before: [] },
  scale: { script: 'tools/scale.ts', dev: true, before: [] },
  sim: { script: 'tools/sim.ts', dev: true, before: [] },
  robustness: { script: 'tools/robustness.ts', dev: true, before: [] },
  'sim:mutants': { script: 'tools/mutants.ts', dev: true, before: [] },
  scaling: { script: 'tools/scaling.ts', dev: true, before: [] },
  fleet: { script: 'tools/fleet.ts', dev: true, before: [] },
  package: { script: 'tools/package.mjs', dev: true, before: [] },
  run: { script: undefined, dev: true, before: [] },
};

function fail(message) {
  process.stderr.write(`quoin: ${message}\n`);
  process.exit(1);
}

/** The lock file's digest: an install is fresh while it was made from this very lock file. */
function lockDigest() {
  return createHash('sha256')
    .update(readFileSync(join(root, 'package-lock.json')))
    .digest('hex');
}

function installed(dev) {
  if (!existsSync(stampFile)) return false;
  const [digest, kind] = readFileSync(stampFile, 'utf8').trim().split(' ');
  return digest === lockDigest() && (kind === 'all' || !dev);
}

function install(dev) {
  const major = Number(process.versions.node.split('.')[0]);
  if (major < 20) fail(`Node ${process.versions.node} is too old to set up; any Node from 20 on will do`);
  process.stderr.write(`quoin: installing packages (${dev ? 'all' : 'run time only'}), this is done once…\n`);
  // Not `npm ci`: it refuses a lock file without the packages of other platforms, which not every registry has.
  // `--no-save` keeps the lock file as it is; versions and checksums are the locked ones all the same.
  const args = [
    'install',
    '--no-save',
    '--no-audit',
    '--no-fund',
    '--loglevel=error',
    ...(dev ? [] : ['--omit=dev']),
  ];
  const result = spawnSync('npm', args, { cwd: root, stdio: ['ignore', 2, 2] });
  if (result.error) fail(`npm could not be started: ${result.error.message}`);
  if (result.status !== 0) fail('npm install failed; its message is above');
  mkdirSync(dirname(stampFile), { recursive: true });
  writeFileSync(stampFile, `${lockDigest()} ${dev ? 'all' : 'runtime'}\n`);
}

/** The pinned Node from the registry, else the running one when it is new enough to run the sources. */
function pinnedNode() {
  const name = `node-${process.platform}-${process.arch}`;
  try {
    const manifest = createRequire(join(root, 'package.json')).resolve(`${name}/package.json`);
    const binary = join(dirname(manifest), 'bin', 'node');
    if (existsSync(binary)) return binary;
  } catch {
    // No package for this platform: see below.
  }
  const [major, minor] = process.versions.node.split('.').map(Number);
  if (major > 24 || (major === 24 && minor >= 0)) return process.execPath;
  return fail(
    `there is no pinned Node for ${process.platform}-${process.arch}; run this with Node 24 or later`,
  );
}

const [name, ...rest] = process.argv.slice(2);
const command = commands[name];
if (command === undefined)
  fail(`unknown command ${name ?? '(none)'}; known: ${Object.keys(commands).join(', ')}`);
if (!installed(command.dev)) install(command.dev);
const node = pinnedNode();
const given = (flag) => rest.some((arg) => arg === flag || arg.startsWith(`${flag}=`));
const extra = command.before.filter(
  (arg) => !given(arg.split('=')[0]) && !given('--config-file') && !given('--version'),
);
const args = command.script === undefined ? rest : [join(root, command.script), ...extra, ...rest];
const path = [dirname(node), join(root, 'node_modules', '.bin'), process.env.PATH ?? ''].join(delimiter);
// Compiled code is kept between starts, which halves them.
const compileCache = process.env.NODE_COMPILE_CACHE ?? join(root, '.cache', 'compile');
const env = { ...process.env, PATH: path, NODE_COMPILE_CACHE: compileCache, QUOIN_BOOTSTRAP: name };
// Where this Node can, it becomes the other one: no process in between to pass signals on.
if (process.execve !== undefined && process.platform !== 'win32') process.execve(node, [node, ...args], env);
const child = spawn(node, args, { stdio: 'inherit', env });
// A terminal's Ctrl-C reaches the child by itself; signals sent to this process alone are passed on.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) {
  process.on(signal, () => {
    if (!(signal === 'SIGINT' && process.stdin.isTTY)) child.kill(signal);
  });
}
child.on('error', (error) => fail(`${node} could not be started: ${error.message}`));
child.on('exit', (code, signal) => {
  if (signal !== null) process.exit(128 + ({ SIGHUP: 1, SIGINT: 2, SIGKILL: 9, SIGTERM: 15 }[signal] ?? 0));
  process.exit(code ?? 1);
});
