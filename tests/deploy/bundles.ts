/** Bundles of the roles, made once for each test process and removed at its end. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { bundle } from '../../tools/package/bundle.mjs';
import { repositoryRoot } from '../support/child.ts';

export type BundledApp = 'member' | 'gateway' | 'backup' | 'quoin' | 'cli';

export interface BundledFile {
  readonly path: string;
  readonly bytes: number;
}

let base: string | undefined;
const made = new Map<BundledApp, { readonly dir: string; readonly files: readonly BundledFile[] }>();

/** The bundle of an app: its directory and the files in it. */
export async function bundled(
  app: BundledApp,
): Promise<{ readonly dir: string; readonly files: readonly BundledFile[] }> {
  let found = made.get(app);
  if (found === undefined) {
    base ??= mkdtempSync(join(tmpdir(), 'quoin-bundles-'));
    const dir = join(base, app);
    found = { dir, files: await bundle(join(repositoryRoot, 'apps', app), dir) };
    made.set(app, found);
  }
  return found;
}

export function removeBundles(): void {
  if (base !== undefined) rmSync(base, { recursive: true, force: true });
  base = undefined;
  made.clear();
}
