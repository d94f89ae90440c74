/**
 * Rotation as etcd's --log-rotation-config-json has it: a file that would grow over `maxsize` is renamed, with the time in its
 * name, and a new one is begun; old ones go by number and by age, and may be compressed.
 *
 *     quoin.log ──► quoin-2026-11-24T12-30-00.000.log ──compress──► ….log.gz ──too many, too old──► removed
 */
import { closeSync, createReadStream, createWriteStream, fstatSync, openSync } from 'node:fs';
import { readdir, rename, rm, stat } from 'node:fs/promises';
import { basename, dirname, extname, join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { createGzip } from 'node:zlib';
import { ConfigError } from './config/values.ts';

export interface LogRotation {
  readonly maxSizeBytes: number;
  /** 0: age does not matter. */
  readonly maxAgeDays: number;
  /** 0: all are kept. */
  readonly maxBackups: number;
  /** Times in names are local, not UTC. */
  readonly localTime: boolean;
  readonly compress: boolean;
}

const mebibyte = 1 << 20;
const defaultSizeMebibytes = 100;
const dayMs = 86_400_000;

const kinds = {
  maxsize: 'number',
  maxage: 'number',
  maxbackups: 'number',
  localtime: 'boolean',
  compress: 'boolean',
} as const;

/** Reads `{"maxsize": 100, "maxage": 0, "maxbackups": 0, "localtime": false, "compress": false}`. @throws ConfigError */
export function parseLogRotation(text: string): LogRotation {
  const wrong = (why: string): ConfigError => new ConfigError(`--log-rotation-config-json: ${why}`);
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw wrong(`improperly formatted log rotation config: ${(error as Error).message}`);
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw wrong('it must be an object');
  const given = value as Record<string, unknown>;
  for (const [name, item] of Object.entries(given)) {
    const kind = Object.hasOwn(kinds, name) ? kinds[name as keyof typeof kinds] : undefined;
    if (kind === undefined)
      throw wrong(`there is no ${JSON.stringify(name)}; there are ${Object.keys(kinds).join(', ')}`);
    const fits = kind === 'number' ? Number.isInteger(item) && (item as number) >= 0 : typeof item === kind;
    if (!fits)
      throw wrong(`${name} must be ${kind === 'number' ? 'a whole number from 0 on' : 'true or false'}`);
  }
  const number = (name: string): number => (given[name] as number | undefined) ?? 0;
  return {
    maxSizeBytes: (number('maxsize') || defaultSizeMebibytes) * mebibyte,
    maxAgeDays: number('maxage'),
    maxBackups: number('maxbackups'),
    localTime: given['localtime'] === true,
    compress: given['compress'] === true,
  };
}

export class RotatedFile {
  descriptor: number;
  /** Written so far. */
  bytes: number;
  closed = false;
  private readonly path: string;
  private readonly rotation: LogRotation | undefined;
  private readonly onTrouble: (reason: string) => void;
  private tidying: Promise<void> | undefined;

  /** @throws Error when it cannot be opened */
  constructor(path: string, rotation: LogRotation | undefined, onTrouble: (reason: string) => void) {
    this.path = path;
    this.rotation = rotation;
    this.onTrouble = onTrouble;
    this.descriptor = openSync(path, 'a', 0o600);
    this.bytes = fstatSync(this.descriptor).size;
  }

  /** Begins a new file if so many bytes would make this one too large. A rotation that fails changes nothing. */
  makeRoom(bytes: number, cb: () => void): void {
    const { rotation } = this;
    if (rotation === undefined || this.bytes === 0 || this.bytes + bytes <= rotation.maxSizeBytes)
      return cb();
    this.rotate(rotation).then(cb, (error: Error) => {
      this.onTrouble(`it cannot be rotated: ${error.message}`);
      cb();
    });
  }

  close(): void {
    if (this.closed) return;
    this.closed = true;
    closeSync(this.descriptor);
  }

  private async rotate(rotation: LogRotation): Promise<void> {
    await rename(this.path, rotatedName(this.path, new Date(), rotation.localTime));
    // Until here the old name was good; from here on lines would be lost to view if there were no new file.
    const next = openSync(this.path, 'a', 0o600);
    if (this.closed) {
      closeSync(next);
      return;
    }
    closeSync(this.descriptor);
    this.descriptor = next;
    this.bytes = 0;
    this.tidying ??= tidy(this.path, rotation)
      .catch((error: Error) => this.onTrouble(`old files cannot be tidied up: ${error.message}`))
      .finally(() => {
        this.tidying = undefined;
      });
  }
}

/** `dir/name-2026-11-24T12-30-00.000.log`, as lumberjack names it. */
function rotatedName(path: string, at: Date, localTime: boolean): string {
  const shifted = localTime ? new Date(at.getTime() - at.getTimezoneOffset() * 60_000) : at;
  const time = shifted.toISOString().slice(0, -1).replaceAll(':', '-');
  const extension = extname(path);
  return join(dirname(path), `${basename(path, extension)}-${time}${extension}`);
}

/** Newest first. */
async function backupsOf(path: string): Promise<string[]> {
  const extension = extname(path);
  const start = `${basename(path, extension)}-`;
  const isBackup = (name: string): boolean => {
    if (!name.startsWith(start)) return false;
    const rest = name.slice(start.length).replace(/\.gz$/, '');
    return rest.endsWith(extension) && /^\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d\.\d{3}/.test(rest);
  };
  const names = (await readdir(dirname(path))).filter(isBackup).sort().reverse();
  return names.map((name) => join(dirname(path), name));
}

async function tidy(path: string, rotation: LogRotation): Promise<void> {
  const { maxBackups, maxAgeDays, compress } = rotation;
  const oldestMs = maxAgeDays === 0 ? Number.NEGATIVE_INFINITY : Date.now() - maxAgeDays * dayMs;
  const files = await backupsOf(path);
  for (const [i, file] of files.entries()) {
    const isOver = maxBackups > 0 && i >= maxBackups;
    if (isOver || (await stat(file)).mtimeMs < oldestMs) await rm(file, { force: true });
    else if (compress && !file.endsWith('.gz')) {
      await pipeline(createReadStream(file), createGzip(), createWriteStream(`${file}.gz`, { mode: 0o600 }));
      await rm(file);
    }
  }
}
