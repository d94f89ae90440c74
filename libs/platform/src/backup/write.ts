import { mkdir, open, rename, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { MemberInfo, SnapshotHeader } from '@quoin/contracts';
import { decodeSnapshotChunk } from '@quoin/contracts';
import { ChunkChecker } from '@quoin/member';
import { RealDigest } from '../digest.ts';
import type { KeyRing } from '../encryption/key-ring.ts';
import { releaseVersion } from '../version.ts';
import { ArchiveError, ArchiveWriter, archiveFormat, sealedArchiveFormat } from './archive.ts';
import { backupName, clusterDirectory, manifestPath, type StoredBackup } from './catalog.ts';
import { makeManifest } from './manifest.ts';
import { syncDirectory } from './sync.ts';
import { verifyArchive } from './verify.ts';

export interface WriteBackupOptions {
  /** The target directory; made when it is missing. */
  readonly dir: string;
  /** The cluster that the source said it is of: chunks of another one are refused. */
  readonly clusterId: bigint;
  readonly members: readonly MemberInfo[];
  /** Given: the archive is encrypted. */
  readonly keys?: KeyRing | undefined;
  /** Bytes of the archive so far; now and then. */
  readonly onProgress?: ((bytes: number) => void) | undefined;
  /** All of it is on the disk; what follows is reading it back. */
  readonly onReceived?: (() => void) | undefined;
}

/** The local disk refused: another member as the source would not help. */
export class BackupDiskError extends Error {
  override readonly name = 'BackupDiskError';
}

const progressBytes = 64 * 1024 * 1024;

/**
 * One backup from a stream of encoded SnapshotChunks. It appears under its name only when all of it is on the disk, has
 * been read back from there and is good; its manifest last. On failure nothing stays.
 *
 *     chunks ─► .tmp ─► fsync ─► read back, checked ─► rename ─► manifest: .tmp, fsync, rename ─► fsync of the directory
 *
 * @throws BackupDiskError when the target cannot be written, ArchiveError when the stream is no good state, and
 *   whatever the source throws
 */
export async function writeBackup(
  source: AsyncIterable<Uint8Array>,
  options: WriteBackupOptions,
): Promise<StoredBackup> {
  const createdAt = new Date();
  const startedMs = performance.now();
  const chunks = source[Symbol.asyncIterator]();
  let temporary: string | undefined;
  let finished: string | undefined;
  try {
    const first = await chunks.next();
    if (first.done === true) throw new ArchiveError('the member sent nothing');
    const header = headerOf(first.value, options.clusterId);
    const cluster = clusterDirectory(options.dir, header.clusterId);
    const path = join(cluster, backupName(createdAt, header.revision));
    await onDisk(path, async () => {
      if ((await mkdir(cluster, { recursive: true, mode: 0o700 })) !== undefined)
        await syncDirectory(options.dir);
    });
    temporary = `${path}.tmp`;
    await writeArchive(temporary, first.value, chunks, options);
    options.onReceived?.();
    const facts = await verifyArchive(temporary, options.keys);
    await onDisk(path, () => rename(temporary!, path));
    finished = path;
    const durationMs = Math.round(performance.now() - startedMs);
    const file = path.slice(dirname(path).length + 1);
    const manifest = makeManifest({
      ...facts,
      file,
      members: options.members,
      createdAt,
      verifiedAt: new Date(),
      durationMs,
      quoinVersion: releaseVersion,
      format: options.keys === undefined ? archiveFormat : sealedArchiveFormat,
    });
    await onDisk(path, () => writeDurably(manifestPath(path), `${JSON.stringify(manifest, undefined, 2)}\n`));
    return { path, manifest };
  } catch (error) {
    // The source may still be sending.
    await chunks.return?.().catch(() => undefined);
    for (const leftover of [
      temporary,
      finished,
      finished === undefined ? undefined : `${manifestPath(finished)}.tmp`,
    ]) {
      if (leftover !== undefined) await rm(leftover, { force: true }).catch(() => undefined);
    }
    throw error;
  }
}

function headerOf(bytes: Uint8Array, clusterId: bigint): SnapshotHeader {
  const { header } = decodeSnapshotChunk(bytes);
  if (header === undefined) throw new ArchiveError('the first part of the state has no header');
  if (header.clusterId !== clusterId)
    throw new ArchiveError(
      `the state is of cluster ${header.clusterId.toString(16)}, not ${clusterId.toString(16)}`,
    );
  return header;
}

async function writeArchive(
  path: string,
  first: Uint8Array,
  rest: AsyncIterator<Uint8Array>,
  { keys, onProgress }: WriteBackupOptions,
): Promise<void> {
  const writer = await onDisk(path, () => ArchiveWriter.create(path, () => {}, keys));
  // Checked while it comes, too: a bad stream is worth breaking off early.
  const checker = new ChunkChecker(new RealDigest());
  let told = 0;
  try {
    let bytes = first;
    for (;;) {
      const chunk = decodeSnapshotChunk(bytes);
      const problem = checker.check(chunk);
      if (problem !== undefined) throw new ArchiveError(`the state is not good: ${problem}`);
      const frame = bytes;
      await onDisk(path, () => writer.frame(frame));
      if (writer.bytes - told >= progressBytes) {
        told = writer.bytes;
        onProgress?.(writer.bytes);
      }
      const next = await rest.next();
      if (chunk.trailer !== undefined) {
        if (next.done !== true) throw new ArchiveError('the state goes on after its end');
        break;
      }
      if (next.done === true) throw new ArchiveError('the state is not whole: its last part is missing');
      bytes = next.value;
    }
    await onDisk(path, () => writer.sync());
  } finally {
    await writer.close();
  }
}

async function writeDurably(path: string, text: string): Promise<void> {
  const temporary = `${path}.tmp`;
  const file = await open(temporary, 'w', 0o600);
  try {
    await file.writeFile(text);
    await file.sync();
  } finally {
    await file.close();
  }
  await rename(temporary, path);
  await syncDirectory(dirname(path));
}

const causes: Readonly<Record<string, string>> = {
  ENOSPC: 'the disk is full',
  EFBIG: 'the file would be larger than allowed',
  EDQUOT: 'the quota is used up',
  EACCES: 'permission denied',
  EROFS: 'the file system is read-only',
  ENOTDIR: 'a part of the path is not a directory',
  EEXIST: 'another backup is being written',
};

async function onDisk<T>(path: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    throw new BackupDiskError(
      `cannot write ${path}: ${(code === undefined ? undefined : causes[code]) ?? message}`,
    );
  }
}
