/**
 * The file of one backup: the member's SnapshotChunks (proto/internal/v1/peer.proto), each in a frame. In format 2 a key
 * frame comes first, JSON of the backup's own data key wrapped with one of the operator's, and each chunk is sealed.
 *
 *     ┌──────────────────┬───────────────┬───────────────┬─ … ─┬───────────────┐
 *     │ "QUOINBKP" │ u32 │ frame         │ frame         │     │ last frame    │
 *     │   magic    format│ first chunk:  │ chunk         │     │ chunk with    │
 *     │                  │ with header   │               │     │ the trailer   │
 *     └──────────────────┴───────────────┴───────────────┴─ … ─┴───────────────┘
 *     frame = u32 length of the chunk │ u32 CRC-32C of the chunk's bytes │ the chunk, encoded
 *
 * Integers are big-endian. A file that ends before the trailer is half a backup. Three checks lie above each other: the
 * frame's CRC finds damage of the file, the chunk's own CRC damage on the way from the member's store, and the
 * trailer's SHA-256 and counts find chunks that are missing or of another transfer.
 */

import { randomBytes } from 'node:crypto';
import { type FileHandle, open } from 'node:fs/promises';
import { crc32c, readU32BE, type Sealer, utf8, utf8Text, writeU32BE } from '@quoin/base';
import { decodeSnapshotChunk, type SnapshotChunk } from '@quoin/contracts';
import { AesSealer } from '../encryption/aes-sealer.ts';
import { type KeyRing, keyBytes, type WrappedKey } from '../encryption/key-ring.ts';

export const archiveFormat = 1;
/** Of one that is encrypted. */
export const sealedArchiveFormat = 2;
const magic = utf8('QUOINBKP');
const headBytes = magic.length + 4;
const frameHeadBytes = 8;
/** A chunk is a slice of the store and at most one value larger; what claims more is no frame. */
const chunkBytesMax = 256 * 1024 * 1024;

/** What is wrong with a backup; `message` names the file. */
export class ArchiveError extends Error {
  override readonly name = 'ArchiveError';
}

/** Appends frames to a new file. */
export class ArchiveWriter {
  private readonly file: FileHandle;
  private readonly onBytes: (bytes: Uint8Array) => void;
  private readonly frameHead = new Uint8Array(frameHeadBytes);
  private sealer: Sealer | undefined;
  bytes = 0;

  private constructor(file: FileHandle, onBytes: (bytes: Uint8Array) => void) {
    this.file = file;
    this.onBytes = onBytes;
    this.sealer = undefined;
  }

  /**
   * `onBytes` sees all that is written, for a digest of the file. With `keys` the archive is encrypted.
   *
   * @throws Error EEXIST when the file is there.
   */
  static async create(
    path: string,
    onBytes: (bytes: Uint8Array) => void,
    keys?: KeyRing,
  ): Promise<ArchiveWriter> {
    const writer = new ArchiveWriter(await open(path, 'wx', 0o600), onBytes);
    const head = new Uint8Array(headBytes);
    head.set(magic);
    writeU32BE(head, magic.length, keys === undefined ? archiveFormat : sealedArchiveFormat);
    await writer.write([head]);
    if (keys === undefined) return writer;
    const dataKey = randomBytes(keyBytes);
    await writer.frame(utf8(JSON.stringify(keys.wrap(dataKey))));
    writer.sealer = new AesSealer(dataKey);
    return writer;
  }

  async frame(chunk: Uint8Array): Promise<void> {
    const bytes = this.sealer === undefined ? chunk : this.sealer.seal([chunk]);
    writeU32BE(this.frameHead, 0, bytes.length);
    writeU32BE(this.frameHead, 4, crc32c(bytes));
    await this.write([this.frameHead, bytes]);
  }

  /** Durable contents; the name is the caller's. */
  async sync(): Promise<void> {
    await this.file.sync();
  }

  close(): Promise<void> {
    return this.file.close();
  }

  private async write(parts: Uint8Array[]): Promise<void> {
    for (const part of parts) {
      this.onBytes(part);
      this.bytes += part.length;
    }
    let { bytesWritten } = await this.file.writev(parts);
    // Short writes are legal, and what a disk does that is about to be full.
    for (const part of parts) {
      if (bytesWritten >= part.length) {
        bytesWritten -= part.length;
        continue;
      }
      for (let at = bytesWritten; at < part.length; ) at += (await this.file.write(part, at)).bytesWritten;
      bytesWritten = 0;
    }
  }
}

/**
 * The chunks of an archive in order, from the disk. Ends after the one with the trailer.
 *
 * @throws ArchiveError when the file is damaged, cut short, goes on after its end, or is something else
 * @throws ConfigError when it is encrypted and its key is not among `keys`
 */
export async function* readArchive(
  path: string,
  onBytes: (bytes: Uint8Array) => void = () => {},
  keys?: KeyRing,
): AsyncGenerator<SnapshotChunk, void, undefined> {
  const file = await open(path, 'r').catch((error: NodeJS.ErrnoException) => {
    throw new ArchiveError(error.code === 'ENOENT' ? `${path}: no such file` : `${path}: ${error.message}`);
  });
  try {
    let at = 0;
    const read = async (length: number, what: string): Promise<Uint8Array> => {
      const bytes = await readFully(file, at, length);
      if (bytes.length < length)
        throw new ArchiveError(`${path} is cut short: ${what} at ${at} is not whole`);
      onBytes(bytes);
      at += length;
      return bytes;
    };
    const frame = async (): Promise<{ frameAt: number; bytes: Uint8Array }> => {
      const head = await read(frameHeadBytes, 'the frame');
      const frameAt = at - frameHeadBytes;
      const length = readU32BE(head, 0);
      if (length > chunkBytesMax)
        throw new ArchiveError(`${path} is damaged: the frame at ${frameAt} has a length of ${length}`);
      const bytes = await read(length, 'the frame');
      if (crc32c(bytes) !== readU32BE(head, 4))
        throw new ArchiveError(`${path} is damaged: the frame at ${frameAt} has a wrong checksum`);
      return { frameAt, bytes };
    };
    const sealed = formatOf(path, await read(headBytes, 'its head')) === sealedArchiveFormat;
    const sealer = sealed ? sealerOf(path, (await frame()).bytes, keys) : undefined;
    for (;;) {
      const { frameAt, bytes } = await frame();
      const plain = sealer === undefined ? bytes : sealer.open(bytes);
      if (plain === undefined)
        throw new ArchiveError(`${path} is damaged: the frame at ${frameAt} cannot be decrypted`);
      const chunk = decode(path, frameAt, plain);
      yield chunk;
      if (chunk.trailer !== undefined) break;
    }
    if ((await readFully(file, at, 1)).length > 0)
      throw new ArchiveError(`${path} goes on after its end at ${at}`);
  } finally {
    await file.close();
  }
}

function formatOf(path: string, head: Uint8Array): number {
  if (magic.some((byte, i) => head[i] !== byte)) throw new ArchiveError(`${path} is not a Quoin backup`);
  const format = readU32BE(head, magic.length);
  if (format !== archiveFormat && format !== sealedArchiveFormat)
    throw new ArchiveError(
      `${path} has format ${format}; this version reads ${archiveFormat} and ${sealedArchiveFormat}`,
    );
  return format;
}

function sealerOf(path: string, frame: Uint8Array, keys: KeyRing | undefined): Sealer {
  let wrapped: WrappedKey;
  try {
    wrapped = JSON.parse(utf8Text(frame)) as WrappedKey;
    if (typeof wrapped.keyId !== 'string' || typeof wrapped.wrapped !== 'string') throw new Error('no key');
  } catch {
    throw new ArchiveError(`${path} is damaged: its first frame holds no data key`);
  }
  if (keys === undefined)
    throw new ArchiveError(`${path} is encrypted with the key ${wrapped.keyId}: give --encryption-key-file`);
  return new AesSealer(keys.unwrap(wrapped, `backup ${path}`));
}

function decode(path: string, at: number, bytes: Uint8Array): SnapshotChunk {
  try {
    return decodeSnapshotChunk(bytes);
  } catch (error) {
    throw new ArchiveError(
      `${path} is damaged: the frame at ${at} is no chunk (${(error as Error).message})`,
    );
  }
}

/** Fewer bytes only at the end of the file. A plain Uint8Array, of which `slice` is a copy. */
async function readFully(file: FileHandle, at: number, length: number): Promise<Uint8Array> {
  const bytes = new Uint8Array(length);
  let filled = 0;
  while (filled < length) {
    const { bytesRead } = await file.read(bytes, filled, length - filled, at + filled);
    if (bytesRead === 0) break;
    filled += bytesRead;
  }
  return filled === length ? bytes : bytes.slice(0, filled);
}
