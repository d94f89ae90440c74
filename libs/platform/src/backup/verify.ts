import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { basename } from 'node:path';
import type { SnapshotHeader, SnapshotTrailer } from '@quoin/contracts';
import { ChunkChecker } from '@quoin/member';
import { RealDigest } from '../digest.ts';
import type { KeyRing } from '../encryption/key-ring.ts';
import { ArchiveError, readArchive } from './archive.ts';
import { manifestPath } from './catalog.ts';
import { type Manifest, parseManifest } from './manifest.ts';

/** What an archive turned out to hold. */
export interface ArchiveFacts {
  readonly header: SnapshotHeader;
  readonly trailer: SnapshotTrailer;
  readonly fileBytes: number;
  /** Of the file. */
  readonly sha256: string;
}

/** Reads all of it back from the disk and checks it by itself. @throws ArchiveError */
export async function verifyArchive(path: string, keys?: KeyRing): Promise<ArchiveFacts> {
  const hash = createHash('sha256');
  let fileBytes = 0;
  const checker = new ChunkChecker(new RealDigest());
  let header: SnapshotHeader | undefined;
  let trailer: SnapshotTrailer | undefined;
  const onBytes = (bytes: Uint8Array): void => {
    hash.update(bytes);
    fileBytes += bytes.length;
  };
  for await (const chunk of readArchive(path, onBytes, keys)) {
    header ??= chunk.header;
    const problem = header === undefined ? 'its first chunk has no header' : checker.check(chunk);
    if (problem !== undefined) throw new ArchiveError(`${path} is damaged: ${problem}`);
    trailer = chunk.trailer;
  }
  if (header === undefined || trailer === undefined) throw new ArchiveError(`${path} is empty`);
  return { header, trailer, fileBytes, sha256: hash.digest('hex') };
}

/** The manifest beside an archive; undefined when there is none. @throws ArchiveError when it is none of ours. */
export async function readManifest(path: string): Promise<Manifest | undefined> {
  const file = manifestPath(path);
  let text: string;
  try {
    text = await readFile(file, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw new ArchiveError(`${file}: ${(error as Error).message}`);
  }
  return parseManifest(file, text);
}

/** The archive by itself, and against its manifest. @throws ArchiveError */
export async function verifyBackup(
  path: string,
  keys?: KeyRing,
): Promise<{ facts: ArchiveFacts; manifest: Manifest | undefined }> {
  const manifest = await readManifest(path);
  const facts = await verifyArchive(path, keys);
  if (manifest === undefined) return { facts, manifest };
  const { header, trailer } = facts;
  const compare: [string, unknown, unknown][] = [
    ['bytes of file', facts.fileBytes, manifest.fileBytes],
    ['SHA-256', facts.sha256, manifest.sha256],
    ['revision', header.revision, manifest.revision],
    ['raft index', header.meta.index, manifest.raftIndex],
    ['entries', trailer.entries, manifest.entries],
    ['SHA-256 of the content', Buffer.from(trailer.sha256).toString('hex'), manifest.contentSha256],
    ['cluster id', header.clusterId.toString(16).padStart(16, '0'), manifest.clusterId],
  ];
  for (const [what, found, expected] of compare) {
    if (found !== expected)
      throw new ArchiveError(
        `${path} is not what ${basename(manifestPath(path))} describes: ${what} is ${String(found)}, not ${String(expected)}`,
      );
  }
  return { facts, manifest };
}
