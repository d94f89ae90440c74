#!/usr/bin/env node
/**
 * `node tools/rootfs.mjs ROLE OUT`: the whole root file system of a role's image. deploy/docker/Dockerfile runs it in
 * its build stage and copies the result; the test starts the role in it without any container engine. There is no base
 * image: no shell, no package manager, nothing but what is listed here.
 *
 *     /usr/bin/node                    the pinned Node
 *     /lib…                            the shared libraries that Node and the native module name, and name resolution
 *     /opt/quoin/…                     the bundle, and health.mjs for HEALTHCHECK
 *     /etc/{passwd,group,nsswitch.conf,quoin/}
 *     /tmp, /var/lib/quoin             empty; the one to write to is a volume
 */
import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  realpathSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { bundle, root } from './package/bundle.mjs';
import { roles } from './package/roles.mjs';

/** Nobody else's on any system; the chart and the test know it too. */
const userId = 65_532;

/** Loaded by glibc when it resolves names, named by nobody. */
const resolverLibraries = ['libnss_files.so.2', 'libnss_dns.so.2', 'libresolv.so.2'];

async function rootfs(role, out) {
  const { app } = roles[role];
  for (const directory of ['usr/bin', 'opt', 'etc/quoin', 'proc', 'dev', 'sys']) {
    mkdirSync(join(out, directory), { recursive: true });
  }
  mkdirSync(join(out, 'tmp'), { recursive: true });
  chmodSync(join(out, 'tmp'), 0o1777);
  const data = join(out, 'var/lib/quoin');
  mkdirSync(data, { recursive: true });
  chmodSync(data, 0o700);
  // Only root may give it away; whoever builds without being root runs the result as himself.
  if (process.getuid() === 0) chownSync(data, userId, userId);
  copyFileSync(process.execPath, join(out, 'usr/bin/node'));
  chmodSync(join(out, 'usr/bin/node'), 0o755);
  await bundle(join(root, app), join(out, 'opt/quoin'));
  copyFileSync(join(root, 'deploy/docker/health.mjs'), join(out, 'opt/quoin/health.mjs'));
  copyFileSync(join(root, 'LICENSE'), join(out, 'opt/quoin/LICENSE'));
  writeFileSync(
    join(out, 'etc/passwd'),
    `root:x:0:0:root:/:/none\nquoin:x:${userId}:${userId}:quoin:/:/none\n`,
  );
  writeFileSync(join(out, 'etc/group'), `root:x:0:\nquoin:x:${userId}:\n`);
  writeFileSync(join(out, 'etc/nsswitch.conf'), 'passwd: files\ngroup: files\nhosts: files dns\n');
  const native = join(out, 'opt/quoin/rocksdb-js.node');
  for (const library of librariesOf([process.execPath, ...(existsSync(native) ? [native] : [])])) {
    mkdirSync(join(out, dirname(library)), { recursive: true });
    copyFileSync(realpathSync(library), join(out, library));
    chmodSync(join(out, library), 0o755);
  }
}

/** Paths as the loader looks for them. */
function librariesOf(files) {
  const found = new Set();
  for (const file of files) {
    const lines = execFileSync('ldd', [file], { encoding: 'utf8' }).split('\n');
    for (const line of lines) {
      const path = /(?:=>\s*)?(\/\S+)\s+\(0x/.exec(line)?.[1];
      if (path !== undefined) found.add(path);
      else if (line.includes('not found')) throw new Error(`${file}: ${line.trim()}`);
    }
  }
  const directory = dirname([...found].find((path) => path.includes('libc.so')) ?? '/lib');
  const here = existsSync(directory) ? readdirSync(directory) : [];
  for (const name of resolverLibraries) if (here.includes(name)) found.add(join(directory, name));
  return [...found].sort();
}

if (import.meta.main) {
  const [role, out] = process.argv.slice(2);
  if (!Object.hasOwn(roles, role ?? '') || out === undefined) {
    process.stderr.write(`usage: node tools/rootfs.mjs ${Object.keys(roles).join('|')} OUT\n`);
    process.exit(1);
  }
  await rootfs(role, out);
}
