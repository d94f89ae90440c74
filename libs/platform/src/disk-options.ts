import type { Disk, DiskCallback, DiskFile } from '@quoin/base';

/**
 * `disk` with everything below `prefix` on `other`: the WAL on a device of its own. Renames stay on one side.
 */
export function mountDisk(disk: Disk, prefix: string, other: Disk): Disk {
  const side = (path: string): [Disk, string] => {
    if (path === prefix) return [other, '.'];
    return path.startsWith(`${prefix}/`) ? [other, path.slice(prefix.length + 1)] : [disk, path];
  };
  return {
    list: (dir, cb) => {
      const [at, path] = side(dir);
      at.list(path, cb);
    },
    mkdir: (dir, cb) => {
      const [at, path] = side(dir);
      at.mkdir(path, cb);
    },
    open: (file, mode, cb) => {
      const [at, path] = side(file);
      at.open(path, mode, cb);
    },
    rename: (from, to, cb) => {
      const [at, source] = side(from);
      const [there, target] = side(to);
      if (at !== there) {
        setImmediate(cb, {
          code: 'EXDEV',
          message: `cannot rename ${from} to ${to}: they are on different disks`,
        });
      } else at.rename(source, target, cb);
    },
    remove: (file, cb) => {
      const [at, path] = side(file);
      at.remove(path, cb);
    },
    syncDir: (dir, cb) => {
      const [at, path] = side(dir);
      at.syncDir(path, cb);
    },
  };
}

/** `disk` that says it has synced without doing so: --unsafe-no-fsync. */
export function withoutSync(disk: Disk): Disk {
  const done = (cb: DiskCallback): void => {
    setImmediate(cb, null);
  };
  return {
    list: (dir, cb) => disk.list(dir, cb),
    mkdir: (dir, cb) => disk.mkdir(dir, cb),
    open: (path, mode, cb) =>
      disk.open(path, mode, (error, file) => cb(error, file === null ? null : fileWithoutSync(file, done))),
    rename: (from, to, cb) => disk.rename(from, to, cb),
    remove: (path, cb) => disk.remove(path, cb),
    syncDir: (_dir, cb) => done(cb),
  };
}

function fileWithoutSync(file: DiskFile, done: (cb: DiskCallback) => void): DiskFile {
  return {
    size: (cb) => file.size(cb),
    read: (offset, length, cb) => file.read(offset, length, cb),
    write: (offset, chunks, cb) => file.write(offset, chunks, cb),
    allocate: (length, cb) => file.allocate(length, cb),
    truncate: (length, cb) => file.truncate(length, cb),
    sync: done,
    close: (cb) => file.close(cb),
  };
}
