import { accessSync, constants, existsSync, mkdirSync, statSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { ConfigError } from './config/values.ts';

const lockName = 'lock';

/** A data directory that this process alone uses. */
export class DataDir {
  /** Absolute. */
  readonly path: string;
  private readonly lock: DatabaseSync;

  /**
   * Makes the directory when it is missing, checks that it can be written, and locks it until `release` or the end
   * of the process, however that comes.
   *
   * @throws ConfigError with one line
   */
  static open(dir: string): DataDir {
    const path = resolve(dir);
    prepare(path);
    if (existsSync(join(path, 'member', 'snap'))) {
      throw new ConfigError(
        `data directory ${path} holds data of etcd (member/snap), which Quoin does not read; use another --data-dir and copy the keys, for instance with etcdctl make-mirror`,
      );
    }
    return new DataDir(path, lockFile(path));
  }

  private constructor(path: string, lock: DatabaseSync) {
    this.path = path;
    this.lock = lock;
  }

  release(): void {
    this.lock.close();
  }
}

/** Makes a directory that only its owner may look into, as etcd does. @throws ConfigError */
export function prepare(path: string, what = 'data directory'): void {
  try {
    makeDirs(path);
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (code === 'EEXIST' || code === 'ENOTDIR') throw new ConfigError(`${what} ${path} is not a directory`);
    throw new ConfigError(`cannot create ${what} ${path}: ${message}`);
  }
  if (!statSync(path).isDirectory()) throw new ConfigError(`${what} ${path} is not a directory`);
  try {
    accessSync(path, constants.R_OK | constants.W_OK | constants.X_OK);
  } catch {
    throw new ConfigError(`${what} ${path} is not writable`);
  }
}

/** Where the member keeps its log below the data directory. */
export const walPath = 'member/wal';

/**
 * The pure parts know files by names below the data directory. In a message to the operator they are where they are
 * on this machine; `walDir` is empty when the log has no directory of its own.
 */
export function withFullPaths(message: string, dataDir: string, walDir: string): string {
  const wal = walDir === '' ? join(dataDir, walPath) : resolve(walDir);
  return message
    .replace(/(?<![\w./-])member\/wal(?![\w-])/g, wal)
    .replace(/(?<![\w./-])member\/(?=store)/g, `${join(dataDir, 'member')}/`);
}

// One at a time: Node's recursive mkdir never returns where a parent exists but takes no directories, such as /proc.
function makeDirs(path: string): void {
  if (existsSync(path)) return;
  makeDirs(dirname(path));
  mkdirSync(path, { mode: 0o700 });
}

/**
 * Node has no flock. SQLite, which is part of it, holds a POSIX lock on its file from BEGIN EXCLUSIVE to the end of
 * the process; nothing is ever written to it.
 */
function lockFile(path: string): DatabaseSync {
  const file = join(path, lockName);
  let lock: DatabaseSync | undefined;
  try {
    lock = new DatabaseSync(file, { timeout: 0 });
    lock.exec('PRAGMA journal_mode=MEMORY; PRAGMA locking_mode=EXCLUSIVE; BEGIN EXCLUSIVE');
    return lock;
  } catch (error) {
    lock?.close();
    const { message } = error as Error;
    if (message.includes('locked')) {
      throw new ConfigError(`data directory ${path} is in use by another process`);
    }
    throw new ConfigError(`cannot lock data directory ${path}: ${message} (${file})`);
  }
}
