/** Certificate revocation lists (RFC 5280 §5), as far as telling which serial numbers are revoked. */
import type { X509Certificate } from 'node:crypto';
import { pemBlocks, readNode, readNodes, Tag } from './der.ts';

/**
 * Serial numbers in the lists of a file, in DER or PEM, as `serialOf` writes them.
 *
 * @throws Error that says what is wrong with the bytes
 */
export function revokedSerials(file: Uint8Array): Set<string> {
  const text = Buffer.from(file).toString('latin1');
  const lists = text.includes('-----BEGIN') ? pemBlocks(text, 'X509 CRL') : [file];
  if (lists.length === 0) throw new Error('there is no X509 CRL in it');
  const serials = new Set<string>();
  for (const list of lists) {
    try {
      addSerials(list, serials);
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
      throw new Error(`not a certificate revocation list: ${error.message}`);
    }
  }
  return serials;
}

/*
 * CertificateList ::= SEQUENCE { tbsCertList, signatureAlgorithm, signature }
 * TBSCertList ::= SEQUENCE { version INTEGER?, signature, issuer, thisUpdate Time, nextUpdate Time?,
 *                            revokedCertificates SEQUENCE OF SEQUENCE { serial INTEGER, … }?, [0] extensions? }
 */
function addSerials(list: Uint8Array, serials: Set<string>): void {
  const outer = readNode(list);
  const [tbs, algorithm] = readNodes(outer.content);
  if (outer.tag !== Tag.sequence || tbs?.tag !== Tag.sequence || algorithm?.tag !== Tag.sequence)
    throw new RangeError('the outer sequence is missing');
  const fields = readNodes(tbs.content);
  let at = fields[0]?.tag === Tag.integer ? 1 : 0;
  if (fields[at]?.tag !== Tag.sequence || fields[at + 1]?.tag !== Tag.sequence)
    throw new RangeError('no issuer');
  at += 2;
  if (!isTime(fields[at]?.tag)) throw new RangeError('no time of this update');
  while (isTime(fields[at]?.tag)) at++;
  const revoked = fields[at];
  if (revoked?.tag !== Tag.sequence) return;
  for (const entry of readNodes(revoked.content)) {
    const serial = readNode(entry.content);
    if (serial.tag !== Tag.integer) throw new RangeError('an entry without a serial number');
    serials.add(normal(Buffer.from(serial.content).toString('hex')));
  }
}

function isTime(tag: number | undefined): boolean {
  return tag === Tag.utcTime || tag === Tag.generalizedTime;
}

/** Lower-case hex without leading zeros. */
export function serialOf(certificate: X509Certificate): string {
  return normal(certificate.serialNumber);
}

function normal(hex: string): string {
  return hex.toLowerCase().replace(/^0+(?=.)/, '');
}
