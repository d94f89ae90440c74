/** Files in etcd's snapshot format: what is in one, and a data directory from one. */
import { createHash } from 'node:crypto';
import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { crc32c, type Log, latin1, utf8, utf8Text } from '@quoin/base';
import { KeyValueView } from '@quoin/contracts';
import { BoltReader, type MemberOptions, type RestoreSummary, restoreEtcd } from '@quoin/member';
import type { KeyRing } from '../encryption/key-ring.ts';
import { intoNewDirectory, restorePorts } from './restore.ts';

export interface SnapshotStatus {
  /** CRC-32C of all buckets, as etcdutl shows it. */
  readonly hash: number;
  readonly revision: number;
  /** Keys that are alive. */
  readonly totalKey: number;
  readonly totalSize: number;
  readonly version: string;
}

export interface RestoreSnapshotOptions {
  readonly file: string;
  /** Must not exist, or be empty. */
  readonly dataDir: string;
  readonly member: MemberOptions;
  readonly log: Log;
  /** Copied from a data directory, a file has no digest at its end. */
  readonly skipHashCheck: boolean;
  readonly bumpRevision: number;
  readonly keys?: KeyRing | undefined;
}

const digestBytes = 32;
const blockBytes = 512;
const readBytes = 1 << 20;

class OpenFile {
  readonly bytes: number;
  private readonly fd: number;
  private readonly path: string;

  constructor(path: string) {
    this.path = path;
    try {
      this.fd = openSync(path, 'r');
      this.bytes = fstatSync(this.fd).size;
    } catch (error) {
      const { code, message } = error as NodeJS.ErrnoException;
      throw new Error(`cannot read ${path}: ${code === 'ENOENT' ? 'no such file or directory' : message}`);
    }
  }

  readonly read = (offset: number, bytes: number): Uint8Array => {
    const buffer = new Uint8Array(Math.max(0, Math.min(bytes, this.bytes - offset)));
    let done = 0;
    while (done < buffer.length) {
      const count = readSync(this.fd, buffer, done, buffer.length - done, offset + done);
      if (count === 0) break;
      done += count;
    }
    return buffer.subarray(0, done);
  };

  /** @throws Error unless the last 32 bytes are the SHA-256 of all before them. */
  check(): void {
    if (this.bytes % blockBytes !== digestBytes) {
      throw new Error(
        `snapshot missing hash but --skip-hash-check=false: ${this.path} does not end with a SHA-256; a file from a data directory needs --skip-hash-check`,
      );
    }
    const end = this.bytes - digestBytes;
    const hash = createHash('sha256');
    for (let at = 0; at < end; at += readBytes) hash.update(this.read(at, Math.min(readBytes, end - at)));
    const [expected, got] = [Buffer.from(this.read(end, digestBytes)), hash.digest()];
    if (!expected.equals(got))
      throw new Error(
        `expected sha256 ${expected.toString('hex')}, got ${got.toString('hex')}: ${this.path} is damaged`,
      );
  }

  close(): void {
    closeSync(this.fd);
  }
}

/** @throws Error with one line for the operator */
export function snapshotStatus(path: string): SnapshotStatus {
  const file = new OpenFile(path);
  try {
    const reader = new BoltReader(file.read);
    let hash = 0;
    let revision = 0;
    let version = '';
    const view = new KeyValueView();
    const alive = new Set<string>();
    for (const name of reader.bucketNames()) {
      hash = crc32c(utf8(name), hash);
      for (const { key, value } of reader.entries(name)) {
        hash = crc32c(value, crc32c(key, hash));
        if (name === 'meta' && utf8Text(key) === 'storageVersion') version = utf8Text(value);
        if (name !== 'key') continue;
        revision = Number(Buffer.from(key.buffer, key.byteOffset, 8).readBigUInt64BE());
        const user = latin1(view.read(value).key());
        if (key.length > 17) alive.delete(user);
        else alive.add(user);
      }
    }
    return { hash, revision, totalKey: alive.size, totalSize: reader.sizeBytes, version };
  } finally {
    file.close();
  }
}

/**
 * Makes the data directory of one member of a new cluster from a snapshot of etcd or of Quoin.
 *
 * @throws Error with one line for the operator
 */
export async function restoreSnapshot(options: RestoreSnapshotOptions): Promise<RestoreSummary> {
  const { member, log, bumpRevision, keys } = options;
  const file = new OpenFile(options.file);
  try {
    if (!options.skipHashCheck) file.check();
    return await intoNewDirectory(
      options.dataDir,
      (work) =>
        new Promise((done, fail) => {
          restoreEtcd(
            { member, read: file.read, bumpRevision },
            restorePorts(work, log, keys),
            (error, summary) =>
              summary === null ? fail(error ?? new Error('could not restore')) : done(summary),
          );
        }),
    );
  } finally {
    file.close();
  }
}
