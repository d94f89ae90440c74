#!/usr/bin/env node
/**
 * `npm run package`: one tarball for each role in `dist/packages`, to be unpacked below /usr/local or /opt. The same
 * sources give the same bytes.
 *
 *     quoin-member-0.1.0-linux-x64/
 *       bin/quoin-member                     launcher
 *       lib/quoin/member/main.mjs, …         the bundle
 *       lib/quoin/node                       with --with-runtime alone
 *       lib/systemd/system/*.service         unit files
 *       LICENSE
 */
import { createHash } from 'node:crypto';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { bundle, root } from './package/bundle.mjs';
import { launcher } from './package/launcher.mjs';
import { roles } from './package/roles.mjs';
import { tarGz } from './package/tar.mjs';

const usage = `npm run package -- [options] [ROLE…]

  ROLE             ${Object.keys(roles).join(', ')} (default: all)
  --out D          directory of the tarballs (default dist/packages)
  --with-runtime   puts the pinned Node into each
`;

const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
// The native module is the one thing that is not for every platform.
const platform = 'linux-x64';

export async function packageRole(role, withRuntime) {
  const { app, programs } = roles[role];
  const out = mkdtempSync(join(tmpdir(), 'quoin-package-'));
  try {
    await bundle(join(root, app), out);
    const entries = [];
    const add = (name, mode, body) => entries.push({ name, mode, body });
    for (const [program, entry] of Object.entries(programs))
      add(`bin/${program}`, 0o755, Buffer.from(launcher(`../lib/quoin/${role}`, entry)));
    for (const name of readdirSync(out))
      add(`lib/quoin/${role}/${name}`, 0o644, readFileSync(join(out, name)));
    if (withRuntime) add('lib/quoin/node', 0o755, readFileSync(process.execPath));
    for (const unit of roles[role].units ?? [])
      add(`lib/systemd/system/${unit}`, 0o644, readFileSync(join(root, 'deploy', 'systemd', unit)));
    add('LICENSE', 0o644, readFileSync(join(root, 'LICENSE')));
    return tarGz(withParents(entries, `quoin-${role}-${version}-${platform}`));
  } finally {
    rmSync(out, { recursive: true, force: true });
  }
}

function withParents(files, top) {
  const directories = new Set([top]);
  const entries = files.map((file) => ({ ...file, name: `${top}/${file.name}` }));
  for (const { name } of entries) {
    const parts = name.split('/').slice(0, -1);
    for (let n = 1; n <= parts.length; n++) directories.add(parts.slice(0, n).join('/'));
  }
  return [...[...directories].map((name) => ({ name, mode: 0o755 })), ...entries];
}

async function main() {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      out: { type: 'string', default: join(root, 'dist', 'packages') },
      'with-runtime': { type: 'boolean', default: false },
      help: { type: 'boolean', short: 'h', default: false },
    },
  });
  if (values.help) return process.stdout.write(usage);
  for (const role of positionals) {
    if (!Object.hasOwn(roles, role))
      throw new Error(`there is no role ${role}: ${Object.keys(roles).join(', ')}`);
  }
  if (!existsSync(values.out)) mkdirSync(values.out, { recursive: true });
  for (const role of positionals.length > 0 ? positionals : Object.keys(roles)) {
    const bytes = await packageRole(role, values['with-runtime']);
    const path = join(resolve(values.out), `quoin-${role}-${version}-${platform}.tar.gz`);
    writeFileSync(path, bytes);
    const digest = createHash('sha256').update(bytes).digest('hex');
    process.stdout.write(`${digest}  ${path}  ${(bytes.length / 1e6).toFixed(1)} MB\n`);
  }
}

if (import.meta.main) {
  main().catch((error) => {
    process.stderr.write(`package: ${error.message}\n`);
    process.exit(1);
  });
}
