import { X509Certificate } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import type { Log } from '@quoin/base';
import { ConfigError } from '../config/values.ts';
import { issueCertificate } from './issue.ts';

/**
 * Makes certificate and key for `hosts` unless they are there already and still valid.
 *
 * @throws ConfigError when they cannot be written
 */
export function ensureSelfSigned(
  files: { readonly certFile: string; readonly keyFile: string },
  hosts: readonly string[],
  years: number,
  log: Log,
): void {
  if (existsSync(files.keyFile) && isValid(files.certFile)) return;
  const notBefore = new Date();
  const notAfter = new Date(notBefore);
  notAfter.setUTCFullYear(notBefore.getUTCFullYear() + years);
  const { certificatePem, keyPem } = issueCertificate({
    organization: 'quoin',
    hosts: [...new Set(hosts)],
    notBefore,
    notAfter,
  });
  try {
    mkdirSync(dirname(files.certFile), { recursive: true, mode: 0o700 });
    writeFileSync(files.keyFile, keyPem, { mode: 0o600 });
    writeFileSync(files.certFile, certificatePem);
  } catch (error) {
    throw new ConfigError(`cannot write a self-signed certificate: ${(error as Error).message}`);
  }
  log.warn('made a self-signed certificate: whoever connects cannot verify it', {
    'cert-file': files.certFile,
    'not-after': notAfter.toISOString(),
  });
}

function isValid(certFile: string): boolean {
  try {
    return new X509Certificate(readFileSync(certFile)).validToDate > new Date();
  } catch {
    return false;
  }
}
