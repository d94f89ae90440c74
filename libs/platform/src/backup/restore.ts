import { mkdir, readdir, rename, rm } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import type { Log } from '@quoin/base';
import { type MemberOptions, Restore, type RestorePorts, type RestoreSummary } from '@quoin/member';
import { RealClock } from '../clock.ts';
import { RealDigest } from '../digest.ts';
import { RealDisk } from '../disk.ts';
import { openDataKey } from '../encryption/data-key.ts';
import type { KeyRing } from '../encryption/key-ring.ts';
import { SealedBackends } from '../encryption/sealed-backends.ts';
import { RocksBackends } from '../rocks-backend.ts';
import { RealTimers } from '../timers.ts';
import { ArchiveError, readArchive } from './archive.ts';
import { syncDirectory } from './sync.ts';

export interface RestoreBackupOptions {
  /** The archive. */
  readonly file: string;
  /** Must not exist, or be empty. */
  readonly dataDir: string;
  /** Name and initial cluster of the new member; the cluster's ids are derived from them. */
  readonly member: MemberOptions;
  readonly log: Log;
  /** For an archive that is encrypted. Given, the new data directory is encrypted, too. */
  readonly keys?: KeyRing | undefined;
}

/**
 * Makes the data directory of one member of a new cluster. It appears under its name only when it is whole.
 *
 * @throws Error with one line for the operator
 */
export function restoreBackup(options: RestoreBackupOptions): Promise<RestoreSummary> {
  return intoNewDirectory(options.dataDir, (work) => fill(work, options));
}

/** The directory that `fill` has filled, under its name only when it is whole and durable. */
export async function intoNewDirectory(
  path: string,
  fill: (work: string) => Promise<RestoreSummary>,
): Promise<RestoreSummary> {
  const dataDir = resolve(path);
  await refuseUsed(dataDir);
  const parent = dirname(dataDir);
  await mkdir(parent, { recursive: true, mode: 0o700 });
  const work = join(parent, `.${basename(dataDir)}.restoring-${process.pid}`);
  await rm(work, { recursive: true, force: true });
  try {
    await mkdir(work, { mode: 0o700 });
    const summary = await fill(work);
    await syncDirectory(work);
    // Replaces an empty directory, never one with something in it.
    await rename(work, dataDir);
    await syncDirectory(parent);
    return summary;
  } catch (error) {
    await rm(work, { recursive: true, force: true });
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOSPC') throw new Error(`cannot write ${dataDir}: the disk is full`);
    throw error;
  }
}

async function refuseUsed(dataDir: string): Promise<void> {
  let names: string[];
  try {
    names = await readdir(dataDir);
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT') return;
    throw new Error(
      code === 'ENOTDIR'
        ? `data-dir ${dataDir} is not a directory`
        : `data-dir ${dataDir} could not be read: ${message}`,
    );
  }
  if (names.length > 0) throw new Error(`data-dir ${dataDir} is not empty`);
}

async function fill(dir: string, options: RestoreBackupOptions): Promise<RestoreSummary> {
  const ports = restorePorts(dir, options.log, options.keys);
  const restore = await new Promise<Restore>((done, fail) => {
    Restore.open(options.member, ports, (error, opened) =>
      opened === null ? fail(error ?? new Error('could not open the store')) : done(opened),
    );
  });
  try {
    for await (const chunk of readArchive(options.file, undefined, options.keys)) {
      const problem = restore.chunk(chunk);
      if (problem !== undefined) throw new ArchiveError(`${options.file} cannot be restored: ${problem}`);
    }
  } catch (error) {
    await new Promise<void>((done) => restore.abandon(done));
    throw error;
  }
  return new Promise((done, fail) => {
    restore.finish((error, summary) =>
      summary === null ? fail(error ?? new Error('could not restore')) : done(summary),
    );
  });
}

export function restorePorts(dir: string, log: Log, keys: KeyRing | undefined): RestorePorts {
  const backends = new RocksBackends(dir);
  const sealer = openDataKey(dir, keys, false, log);
  return {
    clock: new RealClock(),
    timers: new RealTimers(),
    log,
    digest: new RealDigest(),
    disk: new RealDisk(dir),
    backends: sealer === undefined ? backends : new SealedBackends(backends, sealer),
  };
}
