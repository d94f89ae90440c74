import { assert, type Disk, type DiskCallback, type DiskError, type DiskFile } from '@quoin/base';
import type { SimHost } from './clock.ts';
import type { SimDisk } from './disk.ts';
import type { Inode } from './inode.ts';

export type DiskOp =
  | 'list'
  | 'mkdir'
  | 'open'
  | 'rename'
  | 'remove'
  | 'syncDir'
  | 'size'
  | 'read'
  | 'write'
  | 'allocate'
  | 'truncate'
  | 'sync'
  | 'close';

/** The Disk port of one life of a node. */
export class SimDiskPort implements Disk {
  private readonly disk: SimDisk;
  private readonly host: SimHost;

  constructor(disk: SimDisk, host: SimHost) {
    this.disk = disk;
    this.host = host;
  }

  list(dir: string, cb: (error: DiskError | null, names: string[]) => void): void {
    const error = this.disk.begin('list', dir);
    const result = error ?? this.disk.list(clean(dir));
    this.later('list', () => (Array.isArray(result) ? cb(null, result) : cb(result, [])));
  }

  mkdir(dir: string, cb: DiskCallback): void {
    const error = this.disk.begin('mkdir', dir) ?? this.disk.mkdir(clean(dir));
    this.later('mkdir', () => cb(error));
  }

  open(
    path: string,
    mode: 'create' | 'write' | 'read',
    cb: (error: DiskError | null, file: DiskFile | null) => void,
  ): void {
    const result = this.disk.begin('open', path) ?? this.disk.open(clean(path), mode);
    this.later('open', () => {
      if ('code' in result) cb(result, null);
      else cb(null, new SimDiskFile(this.disk, this.host, clean(path), result, mode !== 'read'));
    });
  }

  rename(from: string, to: string, cb: DiskCallback): void {
    const error = this.disk.begin('rename', from) ?? this.disk.rename(clean(from), clean(to));
    this.later('rename', () => cb(error));
  }

  remove(path: string, cb: DiskCallback): void {
    const error = this.disk.begin('remove', path) ?? this.disk.remove(clean(path));
    this.later('remove', () => cb(error));
  }

  syncDir(dir: string, cb: DiskCallback): void {
    const name = clean(dir);
    const fault = this.disk.begin('syncDir', dir);
    const error = fault ?? (this.disk.isDir(name) ? null : diskError('ENOENT', 'syncDir', dir));
    const finish = error === null ? this.disk.beginSyncDir(name) : undefined;
    this.later('syncDir', () => {
      finish?.();
      cb(error);
    });
  }

  private later(op: DiskOp, fn: () => void): void {
    this.host.enqueue(this.disk.latencyMs(op), fn);
  }
}

class SimDiskFile implements DiskFile {
  private readonly disk: SimDisk;
  private readonly host: SimHost;
  private readonly path: string;
  private readonly inode: Inode;
  private readonly writable: boolean;
  private open = true;

  constructor(disk: SimDisk, host: SimHost, path: string, inode: Inode, writable: boolean) {
    this.disk = disk;
    this.host = host;
    this.path = path;
    this.inode = inode;
    this.writable = writable;
  }

  size(cb: (error: DiskError | null, bytes: number) => void): void {
    const error = this.begin('size');
    this.later('size', () => cb(error, error === null ? this.inode.length : 0));
  }

  read(offset: number, length: number, cb: (error: DiskError | null, data: Uint8Array) => void): void {
    const error = this.begin('read');
    this.later('read', () => cb(error, error === null ? this.inode.read(offset, length) : new Uint8Array(0)));
  }

  write(offset: number, chunks: readonly Uint8Array[], cb: DiskCallback): void {
    let error = this.begin('write');
    let bytes = 0;
    for (const chunk of chunks) bytes += chunk.length;
    if (error === null && !this.fits(offset + bytes)) error = diskError('ENOSPC', 'write', this.path);
    if (error === null) this.inode.write(offset, chunks);
    else if (this.writable) this.writePart(offset, chunks);
    this.later('write', () => cb(error));
  }

  allocate(length: number, cb: DiskCallback): void {
    this.resize('allocate', Math.max(length, this.inode.length), cb);
  }

  truncate(length: number, cb: DiskCallback): void {
    this.resize('truncate', length, cb);
  }

  sync(cb: DiskCallback): void {
    const error = this.begin('sync');
    const covered = this.inode.position;
    // A power failure between call and completion finds the changes still unsynced, and deals with them as it likes.
    this.later('sync', () => {
      if (error === null) this.inode.sync(covered);
      else this.inode.syncFailed(covered, this.disk.prng);
      cb(error);
    });
  }

  close(cb: DiskCallback): void {
    const error = this.begin('close');
    this.open = false;
    this.later('close', () => cb(error));
  }

  private resize(op: 'allocate' | 'truncate', length: number, cb: DiskCallback): void {
    let error = this.begin(op);
    if (error === null && !this.fits(length)) error = diskError('ENOSPC', op, this.path);
    if (error === null && length !== this.inode.length) this.inode.setLength(length);
    this.later(op, () => cb(error));
  }

  // What a failed write leaves behind: nothing, or the beginning of it, within the space there is.
  private writePart(offset: number, chunks: readonly Uint8Array[]): void {
    const whole = chunks.slice(0, this.disk.prng.below(chunks.length + 1));
    const first = chunks[whole.length];
    if (first !== undefined) whole.push(first.subarray(0, this.disk.prng.below(first.length + 1)));
    let bytes = 0;
    for (const chunk of whole) bytes += chunk.length;
    if (this.fits(offset + bytes)) this.inode.write(offset, whole);
  }

  private fits(length: number): boolean {
    return (
      length <= this.inode.length ||
      this.disk.usedBytes() - this.inode.length + length <= this.disk.capacityBytes
    );
  }

  private begin(op: DiskOp): DiskError | null {
    assert(this.open, () => `${op} on the closed file ${this.path}`);
    const error = this.disk.begin(op, this.path);
    const writes = op === 'write' || op === 'allocate' || op === 'truncate';
    return error ?? (writes && !this.writable ? diskError('EBADF', op, this.path) : null);
  }

  private later(op: DiskOp, fn: () => void): void {
    this.host.enqueue(this.disk.latencyMs(op), fn);
  }
}

/** 'a//b/./c/' is 'a/b/c'; '.' and '' are the root. */
function clean(path: string): string {
  const parts = path.split('/').filter((part) => part !== '' && part !== '.');
  assert(!parts.includes('..') && !path.startsWith('/'), () => `path ${path} leaves the disk's root`);
  return parts.join('/');
}

export function diskError(code: string, op: DiskOp, path: string): DiskError {
  return { code, message: `${code}: simulated, ${op} '${path}'` };
}
