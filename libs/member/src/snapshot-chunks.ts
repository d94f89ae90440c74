/**
 * The state of one moment as a sequence of chunks: what a lagging member is sent and what a backup is made of.
 *
 *   chunk 0: header | pairs | crc      chunk 1: pairs | crc   …   chunk n: pairs | crc | trailer
 *
 * `pairs` alternates keys and values of the backend. The CRC-32C covers one chunk, the trailer's SHA-256 the whole;
 * both run over each key and value preceded by its length (u32, big-endian).
 */
import { crc32c, type Digest, equalBytes, type IncrementalDigest, writeU32BE } from '@quoin/base';
import type { SnapshotChunk, SnapshotHeader } from '@quoin/contracts';
import type { SnapshotCursor } from '@quoin/mvcc';

const lengthBytes = new Uint8Array(4);

function pairsChecksum(pairs: readonly Uint8Array[], sha: IncrementalDigest): number {
  let crc = 0;
  for (const bytes of pairs) {
    writeU32BE(lengthBytes, 0, bytes.length);
    crc = crc32c(bytes, crc32c(lengthBytes, crc));
    sha.update(lengthBytes);
    sha.update(bytes);
  }
  return crc;
}

/** Cuts a cursor into chunks. Must be closed. */
export class ChunkSource {
  private readonly cursor: SnapshotCursor;
  private readonly header: SnapshotHeader;
  private readonly transfer: number;
  private readonly chunkBytes: number;
  private readonly sha: IncrementalDigest;
  private sequence: number;
  private entries: number;
  private totalBytes: number;
  private finished: boolean;

  constructor(
    cursor: SnapshotCursor,
    header: SnapshotHeader,
    transfer: number,
    chunkBytes: number,
    digest: Digest,
  ) {
    this.cursor = cursor;
    this.header = header;
    this.transfer = transfer;
    this.chunkBytes = chunkBytes;
    this.sha = digest.sha256();
    this.sequence = 0;
    this.entries = 0;
    this.totalBytes = 0;
    this.finished = false;
  }

  get done(): boolean {
    return this.finished;
  }

  get bytes(): number {
    return this.totalBytes;
  }

  /** The next chunk; the last one has the trailer. Not to be called when done. */
  next(): SnapshotChunk {
    const pairs: Uint8Array[] = [];
    const more = this.cursor.next(this.chunkBytes, (key, value) => {
      pairs.push(key.slice(), value.slice());
      this.totalBytes += key.length + value.length;
    });
    this.entries += pairs.length / 2;
    const crc = pairsChecksum(pairs, this.sha);
    const sequence = this.sequence++;
    this.finished = !more;
    return {
      transfer: this.transfer,
      sequence,
      header: sequence === 0 ? this.header : undefined,
      pairs,
      crc32c: crc,
      trailer: more
        ? undefined
        : { entries: this.entries, bytes: this.totalBytes, sha256: this.sha.digest() },
    };
  }

  close(): void {
    this.finished = true;
    this.cursor.close();
  }
}

/** Checks chunks as they come: order, checksums, counts. */
export class ChunkChecker {
  private readonly sha: IncrementalDigest;
  private sequence: number;
  private entries: number;
  private totalBytes: number;

  constructor(digest: Digest) {
    this.sha = digest.sha256();
    this.sequence = 0;
    this.entries = 0;
    this.totalBytes = 0;
  }

  get nextSequence(): number {
    return this.sequence;
  }

  get bytes(): number {
    return this.totalBytes;
  }

  /** One line when the chunk is not the next one of a good transfer. */
  check(chunk: SnapshotChunk): string | undefined {
    if (chunk.sequence !== this.sequence) return `chunk ${chunk.sequence} instead of ${this.sequence}`;
    if (chunk.pairs.length % 2 !== 0) return `chunk ${chunk.sequence} ends with a key that has no value`;
    if (pairsChecksum(chunk.pairs, this.sha) !== chunk.crc32c)
      return `chunk ${chunk.sequence} has a wrong checksum`;
    this.sequence++;
    this.entries += chunk.pairs.length / 2;
    for (const bytes of chunk.pairs) this.totalBytes += bytes.length;
    const { trailer } = chunk;
    if (trailer === undefined) return undefined;
    if (trailer.entries !== this.entries || trailer.bytes !== this.totalBytes) {
      return `${this.entries} entries of ${this.totalBytes} bytes instead of ${trailer.entries} of ${trailer.bytes}`;
    }
    return equalBytes(trailer.sha256, this.sha.digest())
      ? undefined
      : 'the SHA-256 of the whole does not match';
  }
}
