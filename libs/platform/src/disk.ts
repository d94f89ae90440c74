import * as fs from 'node:fs';
import { isAbsolute, join, normalize, sep } from 'node:path';
import type { Disk, DiskCallback, DiskError, DiskFile } from '@quoin/base';
import { DiskPace } from './disk-pace.ts';

/** A copy into the page cache: made on the loop up to this, from the first one on. */
const loopWriteBytesMax = 128 * 1024;
/**
 * What was written since the last sync of a file, for the next one to be made on the loop: a few puts. More is a busy log's
 * group, and behind it there is work that the loop can do meanwhile.
 */
const loopSyncBytesMax = 2 * 1024;

interface Paces {
  readonly write: DiskPace;
  readonly sync: DiskPace;
}

/**
 * Files below one directory of the machine, by Node's callback API: each call is one trip to the thread pool, but short
 * writes and their syncs, which `DiskPace` lets be made on the loop as long as the disk is fast.
 */
export class RealDisk implements Disk {
  private readonly root: string;
  private readonly paces: Paces = {
    write: new DiskPace({ bytesMax: loopWriteBytesMax, firstMedianMs: 0 }),
    sync: new DiskPace({ bytesMax: loopSyncBytesMax, firstMedianMs: 2 }),
  };

  /** `root` is where relative paths begin; it is made by `mkdir('.')` when it is missing. */
  constructor(root: string) {
    this.root = root;
  }

  list(dir: string, cb: (error: DiskError | null, names: string[]) => void): void {
    fs.readdir(this.path(dir), (error, names) => {
      if (error !== null) cb(diskError(error), []);
      else cb(null, names.sort());
    });
  }

  mkdir(dir: string, cb: DiskCallback): void {
    fs.mkdir(this.path(dir), { recursive: true, mode: 0o700 }, (error) => cb(diskErrorOrNull(error)));
  }

  open(
    path: string,
    mode: 'create' | 'write' | 'read',
    cb: (error: DiskError | null, file: DiskFile | null) => void,
  ): void {
    const flags = mode === 'create' ? 'wx+' : mode === 'write' ? 'r+' : 'r';
    fs.open(this.path(path), flags, 0o600, (error, fd) => {
      if (error !== null) cb(diskError(error), null);
      else cb(null, new RealDiskFile(fd, path, this.paces));
    });
  }

  rename(from: string, to: string, cb: DiskCallback): void {
    fs.rename(this.path(from), this.path(to), (error) => cb(diskErrorOrNull(error)));
  }

  remove(path: string, cb: DiskCallback): void {
    fs.unlink(this.path(path), (error) => cb(diskErrorOrNull(error)));
  }

  syncDir(dir: string, cb: DiskCallback): void {
    fs.open(this.path(dir), 'r', (openError, fd) => {
      if (openError !== null) return cb(diskError(openError));
      return fs.fsync(fd, (syncError) => {
        fs.close(fd, (closeError) => cb(diskErrorOrNull(syncError ?? closeError)));
      });
    });
  }

  private path(path: string): string {
    const clean = normalize(path);
    if (isAbsolute(clean) || clean === '..' || clean.startsWith(`..${sep}`)) {
      throw new Error(`path ${path} leaves the disk's root`);
    }
    return join(this.root, clean);
  }
}

// Blocks are reserved by writing zeros: Node has no fallocate, and a length set by truncate reserves nothing, so that
// a full disk would show in the middle of an append. It is also what makes later syncs cheapest, because an overwrite
// of written blocks changes no metadata. Measured here (ext4, 300–3300 bytes written, then fdatasync, p50 / p99):
// growing the file 140–193 / 280–355 µs, truncate first 110 / 210 µs, zeros first 88–101 / 155–165 µs; the zeros
// themselves cost 45–130 ms per 64 MiB.
const zeros = new Uint8Array(1024 * 1024);

class RealDiskFile implements DiskFile {
  private readonly fd: number;
  private readonly name: string;
  private readonly paces: Paces;
  private unsyncedBytes = 0;

  constructor(fd: number, name: string, paces: Paces) {
    this.fd = fd;
    this.name = name;
    this.paces = paces;
  }

  size(cb: (error: DiskError | null, bytes: number) => void): void {
    fs.fstat(this.fd, (error, stats) => {
      if (error !== null) cb(this.error(error), 0);
      else cb(null, stats.size);
    });
  }

  read(offset: number, length: number, cb: (error: DiskError | null, data: Uint8Array) => void): void {
    // Not from Node's shared pool: the receiver may keep views of it for as long as it likes.
    const data = new Uint8Array(length);
    const more = (got: number): void => {
      fs.read(this.fd, data, got, length - got, offset + got, (error, count) => {
        if (error !== null) return cb(this.error(error), data.subarray(0, 0));
        if (count === 0 || got + count === length) return cb(null, data.subarray(0, got + count));
        return more(got + count);
      });
    };
    more(0);
  }

  write(offset: number, chunks: readonly Uint8Array[], cb: DiskCallback): void {
    let bytes = 0;
    for (const chunk of chunks) bytes += chunk.length;
    this.unsyncedBytes += bytes;
    const pace = this.paces.write;
    const beganMs = performance.now();
    if (chunks.length === 0) {
      setImmediate(() => cb(null));
    } else if (pace.allows(bytes, beganMs)) {
      this.writeOnLoop(offset, chunks, bytes, cb);
      pace.took(bytes, performance.now() - beganMs, true);
    } else {
      this.writeMany(offset, chunks, (error) => {
        pace.took(bytes, performance.now() - beganMs, false);
        cb(error);
      });
    }
  }

  allocate(length: number, cb: DiskCallback): void {
    this.size((error, bytes) => {
      if (error !== null || bytes >= length) return cb(error);
      return this.writeZeros(bytes, bytes, length, cb);
    });
  }

  truncate(length: number, cb: DiskCallback): void {
    // The next sync has a new length to write, which takes the file system a commit.
    this.unsyncedBytes += loopSyncBytesMax + 1;
    fs.ftruncate(this.fd, length, (error) => cb(this.errorOrNull(error)));
  }

  sync(cb: DiskCallback): void {
    const pace = this.paces.sync;
    const bytes = this.unsyncedBytes;
    const beganMs = performance.now();
    this.unsyncedBytes = 0;
    if (!pace.allows(bytes, beganMs)) {
      fs.fdatasync(this.fd, (error) => {
        pace.took(bytes, performance.now() - beganMs, false);
        cb(this.errorOrNull(error));
      });
      return;
    }
    let failure: DiskError | null = null;
    try {
      fs.fdatasyncSync(this.fd);
    } catch (error) {
      failure = this.error(error as NodeJS.ErrnoException);
    }
    pace.took(bytes, performance.now() - beganMs, true);
    process.nextTick(cb, failure);
  }

  close(cb: DiskCallback): void {
    fs.close(this.fd, (error) => cb(this.errorOrNull(error)));
  }

  private writeOnLoop(offset: number, chunks: readonly Uint8Array[], bytes: number, cb: DiskCallback): void {
    let count = 0;
    let failure: DiskError | null = null;
    try {
      count =
        chunks.length === 1
          ? fs.writeSync(this.fd, chunks[0]!, 0, bytes, offset)
          : fs.writevSync(this.fd, chunks, offset);
    } catch (error) {
      failure = this.error(error as NodeJS.ErrnoException);
    }
    if (failure !== null || count === bytes) process.nextTick(cb, failure);
    else this.writeMany(offset + count, dropBytes(chunks, count), cb);
  }

  private writeOne(offset: number, chunk: Uint8Array, cb: DiskCallback): void {
    fs.write(this.fd, chunk, 0, chunk.length, offset, (error, count) => {
      if (error !== null) return cb(this.error(error));
      if (count === chunk.length) return cb(null);
      if (count === 0) return cb(this.error(new Error('write made no progress')));
      return this.writeOne(offset + count, chunk.subarray(count), cb);
    });
  }

  private writeMany(offset: number, chunks: readonly Uint8Array[], cb: DiskCallback): void {
    if (chunks.length === 1) return this.writeOne(offset, chunks[0]!, cb);
    return fs.writev(this.fd, chunks, offset, (error, count) => {
      if (error !== null) return cb(this.error(error));
      const rest = dropBytes(chunks, count);
      if (rest.length === 0) return cb(null);
      if (count === 0) return cb(this.error(new Error('write made no progress')));
      return this.writeMany(offset + count, rest, cb);
    });
  }

  // A disk that fills up half way gets the reserved part back, so that somebody else can still write a log line.
  private writeZeros(from: number, at: number, to: number, cb: DiskCallback): void {
    const chunk = to - at < zeros.length ? zeros.subarray(0, to - at) : zeros;
    this.unsyncedBytes += chunk.length;
    this.writeOne(at, chunk, (error) => {
      if (error !== null) return this.truncate(from, () => cb(error));
      if (at + chunk.length === to) return cb(null);
      return this.writeZeros(from, at + chunk.length, to, cb);
    });
  }

  private errorOrNull(error: NodeJS.ErrnoException | null | undefined): DiskError | null {
    return error === null || error === undefined ? null : this.error(error);
  }

  // A file descriptor has no path in Node's message.
  private error(error: NodeJS.ErrnoException): DiskError {
    return { code: error.code ?? 'EIO', message: `${error.message}: ${this.name}` };
  }
}

function dropBytes(chunks: readonly Uint8Array[], count: number): Uint8Array[] {
  let i = 0;
  let left = count;
  while (i < chunks.length && left >= chunks[i]!.length) left -= chunks[i++]!.length;
  const rest = chunks.slice(i);
  if (rest.length > 0 && left > 0) rest[0] = rest[0]!.subarray(left);
  return rest;
}

function diskErrorOrNull(error: NodeJS.ErrnoException | null | undefined): DiskError | null {
  return error === null || error === undefined ? null : diskError(error);
}

function diskError(error: NodeJS.ErrnoException): DiskError {
  return { code: error.code ?? 'EIO', message: error.message };
}
