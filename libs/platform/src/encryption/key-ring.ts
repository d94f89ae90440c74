import { spawnSync } from 'node:child_process';
import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { ConfigError } from '../config/values.ts';

/** Bytes of every key: AES-256. */
export const keyBytes = 32;
const nonceBytes = 12;
const tagBytes = 16;
const commandTimeoutMs = 30_000;

/** Where an operator's keys come from. Both empty: data at rest is not encrypted. */
export interface KeySource {
  readonly file: string;
  /** Run by the shell; what it prints is read like the file. */
  readonly command: string;
}

/** A data key as it lies on a disk: encrypted with one of the operator's keys. */
export interface WrappedKey {
  readonly keyId: string;
  /** Nonce, ciphertext and tag, base64. */
  readonly wrapped: string;
}

/**
 * The operator's keys. They encrypt nothing but data keys, so changing them rewrites no data. The first one is used
 * from now on, the others are there to read what they once wrapped.
 *
 *     # one key a line: a name, and 32 bytes in base64
 *     2026-11 q83vEjRWeJCrze8SNFZ4kKvN7xI0VniQq83vEjRWeJA=
 */
export class KeyRing {
  private readonly keys: ReadonlyMap<string, Buffer>;
  /** Name of the key that wraps from now on. */
  readonly primary: string;

  private constructor(keys: ReadonlyMap<string, Buffer>, primary: string) {
    this.keys = keys;
    this.primary = primary;
  }

  /** Undefined without a source. @throws ConfigError that never shows a key */
  static read(source: KeySource): KeyRing | undefined {
    if (source.file !== '' && source.command !== '')
      throw new ConfigError('give one of --encryption-key-file and --encryption-key-command, not both');
    if (source.file !== '') return KeyRing.parse(readKeyFile(source.file), `key file ${source.file}`);
    if (source.command !== '') return KeyRing.parse(runCommand(source.command), 'output of the key command');
    return undefined;
  }

  /** @param where for messages @throws ConfigError */
  static parse(text: string, where: string): KeyRing {
    const keys = new Map<string, Buffer>();
    for (const [i, line] of text.split('\n').entries()) {
      const trimmed = line.trim();
      if (trimmed === '' || trimmed.startsWith('#')) continue;
      const [id, encoded, ...rest] = trimmed.split(/\s+/);
      const key = Buffer.from(encoded ?? '', 'base64');
      if (
        id === undefined ||
        rest.length > 0 ||
        key.length !== keyBytes ||
        key.toString('base64') !== encoded
      )
        throw new ConfigError(`${where}, line ${i + 1}: must be a name and ${keyBytes} bytes in base64`);
      if (keys.has(id)) throw new ConfigError(`${where}, line ${i + 1}: the key ${id} is there twice`);
      keys.set(id, key);
    }
    const primary = keys.keys().next().value;
    if (primary === undefined) throw new ConfigError(`${where}: there is no key in it`);
    return new KeyRing(keys, primary);
  }

  wrap(dataKey: Uint8Array): WrappedKey {
    const nonce = randomBytes(nonceBytes);
    const cipher = createCipheriv('aes-256-gcm', this.keys.get(this.primary)!, nonce);
    cipher.setAAD(Buffer.from(this.primary));
    const parts = [nonce, cipher.update(dataKey), cipher.final()];
    return {
      keyId: this.primary,
      wrapped: Buffer.concat([...parts, cipher.getAuthTag()]).toString('base64'),
    };
  }

  /** @param what in messages: whose key it is @throws ConfigError when the key is not here or does not fit */
  unwrap({ keyId, wrapped }: WrappedKey, what: string): Buffer {
    const key = this.keys.get(keyId);
    if (key === undefined) {
      throw new ConfigError(
        `${what} needs the key ${keyId}, which is not among those given (${[...this.keys.keys()].join(', ')})`,
      );
    }
    const bytes = Buffer.from(wrapped, 'base64');
    if (bytes.length !== nonceBytes + keyBytes + tagBytes)
      throw new ConfigError(`the data key of ${what} is damaged`);
    try {
      const decipher = createDecipheriv('aes-256-gcm', key, bytes.subarray(0, nonceBytes));
      decipher.setAAD(Buffer.from(keyId));
      decipher.setAuthTag(bytes.subarray(-tagBytes));
      return Buffer.concat([decipher.update(bytes.subarray(nonceBytes, -tagBytes)), decipher.final()]);
    } catch {
      throw new ConfigError(`the key ${keyId} is not the one that ${what} was encrypted with`);
    }
  }
}

function readKeyFile(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    throw new ConfigError(`cannot read the key file: ${(error as Error).message}`);
  }
}

function runCommand(command: string): string {
  const { status, signal, stdout, stderr, error } = spawnSync(command, {
    shell: true,
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'pipe'],
    timeout: commandTimeoutMs,
  });
  if (error === undefined && status === 0) return stdout;
  const how = error?.message ?? (signal === null ? `ended with ${status}` : `was ended by ${signal}`);
  const said = stderr.trim().split('\n')[0] ?? '';
  throw new ConfigError(`the key command ${how}${said === '' ? '' : `: ${said}`}`);
}
