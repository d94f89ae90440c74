/** The data key of a data directory: made once, kept there in wrapped form, wrapped anew when the operator's key changes. */
import { randomBytes } from 'node:crypto';
import {
  closeSync,
  existsSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  writeSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import type { Log, Sealer } from '@quoin/base';
import { ConfigError } from '../config/values.ts';
import { AesSealer } from './aes-sealer.ts';
import { type KeyRing, keyBytes, type WrappedKey } from './key-ring.ts';

const fileName = 'encryption.json';
const format = 1;

/**
 * The sealer for a data directory, or undefined when it is not encrypted. Whether it is was decided when it was begun.
 *
 * @param isBegun there is a log already
 * @throws ConfigError when the keys and the directory do not fit together
 */
export function openDataKey(
  dataDir: string,
  ring: KeyRing | undefined,
  isBegun: boolean,
  log: Log,
): Sealer | undefined {
  const path = join(dataDir, 'member', fileName);
  const found = existsSync(path) ? readWrapped(path) : undefined;
  if (found === undefined) {
    if (ring === undefined) return undefined;
    if (isBegun) {
      throw new ConfigError(
        `data directory ${dataDir} was begun without encryption and stays so: start without a key, or replace the member by an empty one with a key`,
      );
    }
    const dataKey = randomBytes(keyBytes);
    writeWrapped(path, ring.wrap(dataKey));
    log.info('data at rest is encrypted', { key: ring.primary });
    return new AesSealer(dataKey);
  }
  if (ring === undefined) {
    throw new ConfigError(
      `data directory ${dataDir} is encrypted with the key ${found.keyId}: give --encryption-key-file or --encryption-key-command`,
    );
  }
  const dataKey = ring.unwrap(found, `data directory ${dataDir}`);
  if (found.keyId !== ring.primary) {
    writeWrapped(path, ring.wrap(dataKey));
    log.info('the data key is wrapped with a new key', { 'old-key': found.keyId, key: ring.primary });
  }
  return new AesSealer(dataKey);
}

function readWrapped(path: string): WrappedKey {
  try {
    const value = JSON.parse(readFileSync(path, 'utf8')) as Partial<WrappedKey> & { format?: number };
    if (value.format === format && typeof value.keyId === 'string' && typeof value.wrapped === 'string')
      return { keyId: value.keyId, wrapped: value.wrapped };
  } catch (error) {
    throw new ConfigError(`cannot read ${path}: ${(error as Error).message}`);
  }
  throw new ConfigError(`${path} does not hold a data key that this version knows`);
}

/** Atomic and durable: without this file the data are lost. */
function writeWrapped(path: string, wrapped: WrappedKey): void {
  const dir = dirname(path);
  const temporary = `${path}.tmp`;
  mkdirSync(dir, { recursive: true, mode: 0o700 });
  const file = openSync(temporary, 'w', 0o600);
  try {
    writeSync(file, `${JSON.stringify({ format, ...wrapped })}\n`);
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
  renameSync(temporary, path);
  for (const each of [dir, dirname(dir)]) {
    const directory = openSync(each, 'r');
    fsyncSync(directory);
    closeSync(directory);
  }
}
