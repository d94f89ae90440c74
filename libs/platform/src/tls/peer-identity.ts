import type { X509Certificate } from 'node:crypto';
import { lookup, reverse } from 'node:dns/promises';
import { isIP } from 'node:net';
import type { TLSSocket } from 'node:tls';
import { serialOf } from './revocation.ts';

/** Certificates that may use a port or a kind of stream. Both lists empty: all that the CA has signed. */
export interface AllowedNames {
  /** One of them must be the subject's common name. */
  readonly commonNames: readonly string[];
  /** The certificate must be valid for one of them. */
  readonly hostnames: readonly string[];
}

export function restricts(names: AllowedNames): boolean {
  return names.commonNames.length > 0 || names.hostnames.length > 0;
}

/** The certificate of the other side of a connection that is open. */
export function peerCertificate(socket: TLSSocket): X509Certificate | undefined {
  return socket.getPeerX509Certificate();
}

/** The subject's common name; of several the last, as Go takes it. Empty when there is none. */
export function commonName(certificate: X509Certificate): string {
  const subject = (certificate.toLegacyObject() as { subject?: { CN?: string | string[] } }).subject;
  const name = subject?.CN;
  return (Array.isArray(name) ? name.at(-1) : name) ?? '';
}

/** Whether the certificate's alternative names have it. The common name does not count. */
export function isValidFor(certificate: X509Certificate, host: string): boolean {
  if (isIP(host) !== 0) return certificate.checkIP(host) !== undefined;
  return certificate.checkHost(host, { subject: 'never' }) !== undefined;
}

export function isAllowed(certificate: X509Certificate | undefined, names: AllowedNames): boolean {
  if (!restricts(names)) return true;
  if (certificate === undefined) return false;
  const { commonNames, hostnames } = names;
  return (
    (commonNames.length > 0 && commonNames.includes(commonName(certificate))) ||
    hostnames.some((host) => isValidFor(certificate, host))
  );
}

/** The serial number of the first certificate of the chain that is revoked. */
export function revokedInChain(
  certificate: X509Certificate,
  revoked: ReadonlySet<string>,
): string | undefined {
  const seen = new Set<string>();
  for (let at: X509Certificate | undefined = certificate; at !== undefined; at = at.issuerCertificate) {
    if (seen.has(at.fingerprint256)) return undefined;
    seen.add(at.fingerprint256);
    if (revoked.has(serialOf(at))) return serialOf(at);
  }
  return undefined;
}

/** `DNS:a.example, IP Address:10.0.0.1` as lists. */
export function alternativeNames(certificate: X509Certificate): { ips: string[]; names: string[] } {
  const ips: string[] = [];
  const names: string[] = [];
  for (const part of (certificate.subjectAltName ?? '').split(', ')) {
    if (part.startsWith('IP Address:')) ips.push(part.slice('IP Address:'.length));
    else if (part.startsWith('DNS:')) names.push(part.slice('DNS:'.length));
  }
  return { ips, names };
}

/** An IPv4 address on a socket that listens on IPv6 comes as ::ffff:a.b.c.d. */
export function plainAddress(address: string): string {
  return address.replace(/^::ffff:(?=\d+\.)/, '');
}

/**
 * Whether a certificate with alternative names may come from that address: one of its IP addresses is it, or one of
 * its names leads to it or is what the address is called. One without such names may come from anywhere.
 *
 * @returns why not, or undefined
 */
export async function addressProblem(
  certificate: X509Certificate,
  remoteAddress: string,
): Promise<string | undefined> {
  const { ips, names } = alternativeNames(certificate);
  const address = plainAddress(remoteAddress);
  if (ips.length === 0 && names.length === 0) return undefined;
  if (ips.length > 0 && certificate.checkIP(address) !== undefined) return undefined;
  if (names.length === 0) return `the certificate is valid for ${ips.join(', ')}, not for ${address}`;
  if (await leadsTo(names, address)) return undefined;
  return `${JSON.stringify(address)} does not match any of DNSNames ${JSON.stringify(names)}`;
}

async function leadsTo(names: readonly string[], address: string): Promise<boolean> {
  const called = await reverse(address).catch(() => [] as string[]);
  for (const name of called.map((one) => one.replace(/\.$/, '').toLowerCase())) {
    for (const own of names) {
      if (own.startsWith('*.') ? name.endsWith(own.slice(1).toLowerCase()) : name === own.toLowerCase())
        return true;
    }
  }
  for (const name of names.filter((one) => !one.startsWith('*.'))) {
    const found = await lookup(name, { all: true }).catch(() => []);
    if (found.some((one) => one.address === address)) return true;
  }
  return false;
}
