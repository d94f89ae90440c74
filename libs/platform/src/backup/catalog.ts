/**
 * The target directory of backups:
 *
 *     <dir>/<cluster id, 16 hex digits>/
 *         20261123T180102.123Z-4711.backup         one archive, named by time and revision
 *         20261123T180102.123Z-4711.backup.json    its manifest: makes it a backup
 *         20261123T190102.004Z-4788.backup.tmp     being written, or left by a crash
 *
 * Only names of this form are ever touched.
 */
import { readdir, readFile, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { type Manifest, parseManifest } from './manifest.ts';
import { syncDirectory } from './sync.ts';

export interface StoredBackup {
  /** Of the archive. */
  readonly path: string;
  readonly manifest: Manifest;
}

const archiveName = /^(\d{8}T\d{6}\.\d{3}Z)-(\d+)\.backup$/;
const temporaryName = /^\d{8}T\d{6}\.\d{3}Z-\d+\.backup(\.json)?\.tmp$/;
const clusterName = /^[0-9a-f]{16}$/;
/** A temporary file that nobody has written to for so long is left over. */
const staleMs = 60 * 60 * 1000;

export function backupName(createdAt: Date, revision: number): string {
  return `${createdAt.toISOString().replaceAll('-', '').replaceAll(':', '')}-${revision}.backup`;
}

export function clusterDirectory(dir: string, clusterId: bigint): string {
  return join(dir, clusterId.toString(16).padStart(16, '0'));
}

export function manifestPath(path: string): string {
  return `${path}.json`;
}

async function names(dir: string): Promise<string[]> {
  try {
    return (await readdir(dir)).sort();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
}

/** All finished backups below the directory, of all clusters or of one, oldest first. */
export async function listBackups(dir: string, clusterId?: bigint): Promise<StoredBackup[]> {
  const clusters = (await names(dir)).filter((name) => clusterName.test(name)).map((name) => join(dir, name));
  const found: StoredBackup[] = [];
  for (const cluster of clusterId === undefined ? clusters : [clusterDirectory(dir, clusterId)]) {
    for (const name of await names(cluster)) {
      if (!archiveName.test(name)) continue;
      const backup = await stored(join(cluster, name), name);
      if (backup !== undefined) found.push(backup);
    }
  }
  return found.sort((a, b) => (a.manifest.createdAt < b.manifest.createdAt ? -1 : 1));
}

/** Undefined unless archive and manifest are both there and belong together by name and length. */
async function stored(path: string, name: string): Promise<StoredBackup | undefined> {
  try {
    const manifest = parseManifest(manifestPath(path), await readFile(manifestPath(path), 'utf8'));
    const { size } = await stat(path);
    return manifest.file === name && manifest.fileBytes === size ? { path, manifest } : undefined;
  } catch {
    return undefined;
  }
}

/**
 * Keeps the newest `keep` (at least one) backups of a cluster, and removes older ones and what crashes have left.
 *
 * @returns paths of removed archives
 */
export async function pruneBackups(
  dir: string,
  clusterId: bigint,
  keep: number,
  nowMs: number,
): Promise<string[]> {
  const cluster = clusterDirectory(dir, clusterId);
  const backups = await listBackups(dir, clusterId);
  const old = backups.slice(0, Math.max(0, backups.length - Math.max(1, keep)));
  for (const { path } of old) {
    // The manifest first: an archive without one is no backup any more, the other way round it would look like a damaged one.
    await rm(manifestPath(path), { force: true });
    await rm(path, { force: true });
  }
  for (const name of await names(cluster)) {
    const path = join(cluster, name);
    const unfinished =
      temporaryName.test(name) || (archiveName.test(name) && !(await exists(manifestPath(path))));
    if (!unfinished) continue;
    const { mtimeMs } = await stat(path).catch(() => ({ mtimeMs: nowMs }));
    if (nowMs - mtimeMs > staleMs) await rm(path, { force: true });
  }
  if (old.length > 0) await syncDirectory(cluster);
  return old.map((backup) => backup.path);
}

function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}
