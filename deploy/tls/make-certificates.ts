/**
 * A test CA and the certificates of a cluster, as PEM files. For trying things out and for tests: the CA's key lies
 * beside the rest, so none of this is for production.
 *
 *     node deploy/tls/make-certificates.ts --out certs --host 10.0.0.1 --host 10.0.0.2 [--client alice] [--days 365]
 */

import { createPrivateKey, X509Certificate } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { type Issued, issueCertificate, issueRevocationList, toPem } from '@quoin/platform';

export interface CertificateSet {
  /** Of clients, and of what clients connect to. */
  readonly ca: Issued;
  /** Of members and gateways towards each other: a certificate of a client opens nothing there. */
  readonly peerCa: Issued;
  /** Path of a file of this set: `ca`, `peer-ca`, `server`, `peer`, `gateway` or a client's name. */
  file(name: string, part?: 'key'): string;
  issue(name: string, by: Issued, request: IssueRequest): Issued;
  /** Writes a revocation list of the client CA and returns its path. */
  revoke(names: readonly Issued[]): string;
}

export interface IssueRequest {
  readonly hosts?: readonly string[];
  readonly usages?: readonly ('server' | 'client')[];
  readonly notAfter?: Date;
}

export interface MakeOptions {
  /** Addresses and names under which members and gateways are reached. */
  readonly hosts: readonly string[];
  /** Common names of clients. */
  readonly clients?: readonly string[];
  readonly days?: number;
}

const dayMs = 24 * 60 * 60 * 1000;

/** Makes the directory if need be. CAs that are there already are used again, so that certificates can be added. */
export function makeCertificates(dir: string, options: MakeOptions): CertificateSet {
  const notBefore = new Date(Date.now() - dayMs);
  const until = new Date(Date.now() + (options.days ?? 365) * dayMs);
  mkdirSync(dir, { recursive: true, mode: 0o700 });
  const file = (name: string, part?: 'key'): string =>
    join(dir, part === 'key' ? `${name}-key.pem` : `${name}.pem`);
  const write = (name: string, issued: Issued): Issued => {
    writeFileSync(file(name), issued.certificatePem);
    writeFileSync(file(name, 'key'), issued.keyPem, { mode: 0o600 });
    return issued;
  };
  const authority = (name: string, commonName: string): Issued =>
    existsSync(file(name, 'key'))
      ? readIssued(file(name), file(name, 'key'))
      : write(name, issueCertificate({ commonName, isCa: true, notBefore, notAfter: until }));
  const ca = authority('ca', 'quoin test CA');
  const peerCa = authority('peer-ca', 'quoin test peer CA');
  const issue = (name: string, by: Issued, { notAfter = until, ...request }: IssueRequest): Issued =>
    write(name, issueCertificate({ commonName: name, notBefore, notAfter, ...request }, by));
  issue('server', ca, { hosts: options.hosts });
  issue('peer', peerCa, { hosts: options.hosts });
  issue('gateway', peerCa, { hosts: options.hosts });
  for (const client of options.clients ?? []) issue(client, ca, { usages: ['client'] });
  return {
    ca,
    peerCa,
    file,
    issue,
    revoke: (names) => {
      const path = join(dir, 'crl.pem');
      const certificates = names.map((one) => one.certificate);
      writeFileSync(path, toPem('X509 CRL', issueRevocationList(ca, certificates, notBefore, until)));
      return path;
    },
  };
}

function readIssued(certFile: string, keyFile: string): Issued {
  const certificatePem = readFileSync(certFile, 'utf8');
  const keyPem = readFileSync(keyFile, 'utf8');
  return {
    certificatePem,
    keyPem,
    certificate: new X509Certificate(certificatePem),
    key: createPrivateKey(keyPem),
  };
}

if (import.meta.main) {
  const { values } = parseArgs({
    options: {
      out: { type: 'string', default: 'certs' },
      host: { type: 'string', multiple: true, default: ['127.0.0.1', 'localhost'] },
      client: { type: 'string', multiple: true, default: ['root'] },
      days: { type: 'string', default: '365' },
    },
  });
  const days = Number(values.days);
  if (!Number.isInteger(days) || days < 1) {
    process.stderr.write(`make-certificates: --days must be a whole number from 1 on, not ${values.days}\n`);
    process.exit(2);
  }
  makeCertificates(values.out, { hosts: values.host, clients: values.client, days });
  process.stdout.write(
    `${values.out}: ca, peer-ca, server, peer, gateway, ${values.client.join(', ')} (.pem, -key.pem)\n`,
  );
}
