#!/usr/bin/env node
/**
 * Runs a command with a server of its own, which is gone with everything it held when the command ends:
 *
 *     node deploy/ci/with-quoin.mjs -- npm test
 *
 * Ports are free ones, data lies in memory (/dev/shm where there is one) and is never synced. The command finds it by
 * ETCDCTL_ENDPOINTS=127.0.0.1:PORT (which etcdctl and quoinctl read) and QUOIN_URL=http://127.0.0.1:PORT, and the exit
 * code is the command's. Plain JavaScript for Node 20 or later, without packages. $QUOIN names the server's program;
 * default: `quoin` of the path, else this repository.
 */
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const readyText = 'ready to serve client requests';
const readyMs = 60_000;
const stopMs = 10_000;

function fail(message) {
  process.stderr.write(`with-quoin: ${message}\n`);
  process.exit(2);
}

const at = process.argv.indexOf('--');
const command = at < 0 ? [] : process.argv.slice(at + 1);
const flags = process.argv.slice(2, at < 0 ? undefined : at);
if (command.length === 0) fail('usage: with-quoin.mjs [FLAGS OF quoin] -- COMMAND [ARGUMENTS]');

/** A port that is free now; the server is told its ports, because it has to advertise them. */
function freePort() {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });
}

function program() {
  if (process.env.QUOIN) return [process.env.QUOIN];
  if (spawnSync('quoin', ['--version']).status === 0) return ['quoin'];
  const bootstrap = fileURLToPath(new URL('../../tools/bootstrap.mjs', import.meta.url));
  const main = fileURLToPath(new URL('../../apps/quoin/src/main.ts', import.meta.url));
  return existsSync(bootstrap)
    ? [process.execPath, bootstrap, 'run', main]
    : fail('there is no quoin: name it in $QUOIN');
}

const memory = existsSync('/dev/shm') ? '/dev/shm' : tmpdir();
const dir = mkdtempSync(join(memory, 'with-quoin-'));
process.on('exit', () => rmSync(dir, { recursive: true, force: true }));

const [client, peer] = [await freePort(), await freePort()].map((port) => `http://127.0.0.1:${port}`);
const [file, ...before] = program();
const server = spawn(
  file,
  [
    ...before,
    `--data-dir=${join(dir, 'data')}`,
    `--listen-client-urls=${client}`,
    `--advertise-client-urls=${client}`,
    `--listen-peer-urls=${peer}`,
    `--initial-advertise-peer-urls=${peer}`,
    `--initial-cluster=default=${peer}`,
    '--unsafe-no-fsync',
    ...flags,
  ],
  { stdio: ['ignore', 'ignore', 'pipe'] },
);
let log = '';
const ready = new Promise((resolve) => {
  server.stderr.on('data', (data) => {
    // Its last words are shown if it does not start; the rest is of no interest.
    log = (log + data).slice(-20_000);
    if (log.includes(readyText)) resolve('');
  });
  server.once('error', (error) => resolve(error.message));
  server.once('exit', (code, signal) => resolve(`the server ended (${signal ?? code})`));
  setTimeout(() => resolve(`the server was not ready after ${readyMs / 1000} s`), readyMs).unref();
});
const problem = await ready;
if (problem !== '') {
  server.kill('SIGKILL');
  process.stderr.write(log);
  fail(problem);
}

const env = { ...process.env, ETCDCTL_API: '3', ETCDCTL_ENDPOINTS: new URL(client).host, QUOIN_URL: client };
// `quoin` itself would take it for one of its flags.
delete env.QUOIN;
const child = spawn(command[0], command.slice(1), { stdio: 'inherit', env });
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => child.kill(signal));
const code = await new Promise((resolve) => {
  child.once('error', (error) => {
    process.stderr.write(`with-quoin: ${command[0]}: ${error.message}\n`);
    resolve(127);
  });
  child.once('exit', (status, signal) => resolve(signal === null ? status : 1));
});
const gone = new Promise((resolve) => server.once('exit', resolve));
server.kill('SIGTERM');
setTimeout(() => server.kill('SIGKILL'), stopMs).unref();
if (server.exitCode === null && server.signalCode === null) await gone;
process.exit(code);
