import { X509Certificate } from 'node:crypto';
import { readFileSync, statSync } from 'node:fs';
import { createSecureContext } from 'node:tls';
import { ConfigError } from '../config/values.ts';
import { pemBlocks } from './der.ts';
import { revokedSerials } from './revocation.ts';

/**
 * What was made from some files, made anew when one of them has changed. Asked at every handshake, so that
 * certificates can be replaced without a restart: it costs one stat for each file.
 */
export class FromFiles<T> {
  private readonly paths: readonly string[];
  private readonly make: () => T;
  private stamp: string;
  private value: T;

  /** @throws whatever `make` does */
  constructor(paths: readonly string[], make: () => T) {
    this.paths = paths;
    this.make = make;
    this.stamp = this.look();
    this.value = make();
  }

  /**
   * The value, and whether it is new. After a failure the next call tries again.
   *
   * @throws whatever `make` does; the old value stays with `last`
   */
  current(): { value: T; changed: boolean } {
    const stamp = this.look();
    if (stamp === this.stamp) return { value: this.value, changed: false };
    this.value = this.make();
    this.stamp = stamp;
    return { value: this.value, changed: true };
  }

  get last(): T {
    return this.value;
  }

  private look(): string {
    return this.paths
      .map((path) => {
        const stat = statSync(path, { bigint: true, throwIfNoEntry: false });
        return stat === undefined ? 'none' : `${stat.ino}:${stat.size}:${stat.mtimeNs}`;
      })
      .join(' ');
  }
}

export interface KeyPair {
  readonly cert: Buffer;
  readonly key: Buffer;
}

/** @throws ConfigError that names the file */
export function readKeyPair(certFile: string, keyFile: string): KeyPair {
  const cert = readPem(certFile, 'certificate', 'CERTIFICATE');
  const key = readFile(keyFile, 'key');
  try {
    createSecureContext({ cert, key });
  } catch (error) {
    throw new ConfigError(
      `certificate ${certFile} and key ${keyFile} cannot be used: ${(error as Error).message}`,
    );
  }
  return { cert, key };
}

/** @throws ConfigError that names the file */
export function readAuthorities(file: string): Buffer {
  const pem = readPem(file, 'CA', 'CERTIFICATE');
  for (const der of pemBlocks(pem.toString('latin1'), 'CERTIFICATE')) {
    try {
      new X509Certificate(der);
    } catch (error) {
      throw new ConfigError(`CA file ${file}: not a certificate: ${(error as Error).message}`);
    }
  }
  return pem;
}

/** @throws ConfigError that names the file */
export function readRevoked(file: string): Set<string> {
  const bytes = readFile(file, 'revocation list');
  try {
    return revokedSerials(bytes);
  } catch (error) {
    throw new ConfigError(`revocation list ${file}: ${(error as Error).message}`);
  }
}

function readPem(file: string, what: string, label: string): Buffer {
  const bytes = readFile(file, what);
  if (pemBlocks(bytes.toString('latin1'), label).length === 0)
    throw new ConfigError(`${what} file ${file} holds no PEM block "${label}"`);
  return bytes;
}

function readFile(file: string, what: string): Buffer {
  try {
    return readFileSync(file);
  } catch (error) {
    throw new ConfigError(`cannot read ${what} file: ${(error as Error).message}`);
  }
}
